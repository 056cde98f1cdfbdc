/* SPDX-License-Identifier: Apache-2.0 */
/* The compressors behind one call. Owns which there are and what a level means; each worker has a packer of its own. */
#ifndef MEMSTREAM_CODEC_H
#define MEMSTREAM_CODEC_H

#include "base/base.h"

/* Numbers on the wire: never reused. */
enum { MST_STORED, MST_ZLIB, MST_ZSTD, MST_LZ4, MST_CODECS };

/* From the fastest to the smallest. What each is depends on the compressors that both sides have. */
#define MST_LEVELS 8

struct mst_packer;

uint32_t mst_codecs_built(void); /* bits 1u << MST_ZLIB ... */

struct mst_packer *mst_packer_new(void);
void mst_packer_free(struct mst_packer *p);

/* The most that packing n bytes may take. */
size_t mst_pack_bound(size_t n);
/*
 * Packs with the best for the level (1..MST_LEVELS) among `codecs`. Returns the bytes put in dst (cap of mst_pack_bound())
 * and the codec; MST_STORED, and a copy, when packing would not shrink them, or `codecs` is 0. Negative: HCI_E_NOMEM, HCI_E_INTERNAL.
 */
int64_t mst_pack(struct mst_packer *p, uint32_t codecs, int level, const void *src, size_t n, void *dst, size_t cap,
		 uint8_t *codec);
/* Unpacks to exactly n bytes. HCI_E_PROTO when that is not what is there, or the codec is none of ours. */
int mst_unpack(struct mst_packer *p, uint8_t codec, const void *src, size_t len, void *dst, size_t n);

#endif
