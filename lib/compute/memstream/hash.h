/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two hashes of a page. The quick one finds candidates, at memory speed; what it finds is compared, or named with the
 * strong one. The strong one is SHA-256, cut: content of guests decides about it, so it must stand an adversary.
 */
#ifndef MEMSTREAM_HASH_H
#define MEMSTREAM_HASH_H

#include "compute/memstream/memstream.h"

uint64_t mst_quick(const void *page);
void mst_strong(const void *page, uint8_t out[MST_STRONG]);
bool mst_is_zero(const void *page);
/* A cheap guess from a sample: would compression gain nothing? */
bool mst_looks_random(const void *page);

extern const struct mst_hash mst_hash_real;
extern const struct mst_hash mst_hash_colliding; /* for tests: 256 quick ones for all pages there are */

#endif
