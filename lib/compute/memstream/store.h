/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Providers that are built in.
 *
 * A page store at a node keeps pages that came there by migrations, by what is in them: the next guest of the same image,
 * or one that moves at the same time, finds them. Its id is random and new with each store, so that nothing of an older
 * one is counted on. At the source `mst_known` says, in a few bytes a page, what one node's store has, and what is on its
 * way to it with which encoder: one for each destination, for as long as one likes.
 *
 * A block index says which block of a disk (a volume, an image) a page equals: built at the source by reading what both
 * sides have, asked there; at the destination the same blocks are read.
 *
 * All of them are bounded, forget the oldest when full, and may be used by any number of encoders and decoders, on any
 * thread.
 */
#ifndef COMPUTE_MEMSTREAM_STORE_H
#define COMPUTE_MEMSTREAM_STORE_H

#include "compute/memstream/memstream.h"

/* ---- pages in memory, at the destination ---- */

#define MST_STORE_PREFIX "pgst" /* begins the ids of all stores, by which sources know them; the rest is to be random */

struct mst_store;

/* bytes: of pages, at most. NULL: no memory. */
struct mst_store *mst_store_new(const uint8_t id[16], uint64_t bytes);
/* When no decoder uses it any more. */
void mst_store_free(struct mst_store *s);
void mst_store_provider(struct mst_store *s, struct mst_provider *out);
/* Pages in it. */
uint64_t mst_store_pages(struct mst_store *s);

/* ---- what a destination's store has, at the source ---- */

struct mst_known;

/* pages: how many to remember; sixteen bytes each. */
struct mst_known *mst_known_new(uint64_t pages);
void mst_known_free(struct mst_known *k);
/* Goes with any store: when it meets another one than before it forgets all. One destination at a time. */
void mst_known_provider(struct mst_known *k, struct mst_provider *out);

/* ---- blocks of a disk that both sides have ---- */

struct mst_index;

/* blocks: how many to know at most (16 bytes each). id: of the content, the same on both sides. */
struct mst_index *mst_index_new(const uint8_t id[16], uint64_t blocks);
void mst_index_free(struct mst_index *x);
/* Before the first note: not the real hashes, but those of an encoder (mst_opts.hash) in a test. */
void mst_index_hash(struct mst_index *x, const struct mst_hash *hash);
/* The block has this content now (4096 bytes). Zeroes are left out. What it had before is found wrong when it is asked for. */
void mst_index_note(struct mst_index *x, uint64_t block, const void *page);
void mst_index_source(struct mst_index *x, struct mst_provider *out);
/* The same by its quick hash (0 is left out), which block has it, and how many are known. */
void mst_index_put(struct mst_index *x, uint64_t quick, uint64_t block);
bool mst_index_find(struct mst_index *x, uint64_t quick, uint64_t *block);
uint64_t mst_index_used(struct mst_index *x);
/*
 * The high halves of the quick hashes of live blocks, at most max (at least 4), from place *at on, as mst_provider.tell() has it, HCI_E_AGAIN
 * too: a table that is large and nearly empty is looked through in steps;
 * forgets all blocks but the live ones; puts the live ones into another index.
 */
typedef bool mst_live(void *ctx, uint64_t block);
int mst_index_tell(struct mst_index *x, uint32_t *at, uint32_t *out, unsigned max, mst_live *live, void *ctx);
void mst_index_keep(struct mst_index *x, mst_live *live, void *ctx);
void mst_index_copy(struct mst_index *x, struct mst_index *to, mst_live *live, void *ctx);
/*
 * Reads n bytes at offset of fd and notes their blocks, holes left out; blocks, so on a thread that may. Returns how many
 * bytes it came through (0: the end), or HCI_E_IO, HCI_E_NOMEM.
 */
int64_t mst_index_scan(struct mst_index *x, int fd, uint64_t offset, uint64_t n);
/* Destination: the blocks of fd, which stays the caller's. ctx_out: freed with mem_free(). NULL: no memory. */
void *mst_file_provider(const uint8_t id[16], int fd, struct mst_provider *out);

/* ---- what a destination has told of itself, at the source (mst_provider.told) ---- */

struct mst_told;

/* prefix: the first four bytes of the id of what tells. most: of what is told so many are kept, at eight bytes or less each. */
struct mst_told *mst_told_new(const char *prefix, uint8_t kind, uint32_t most);
void mst_told_free(struct mst_told *t);
/* For one stream. */
void mst_told_provider(struct mst_told *t, struct mst_provider *out);

/*
 * Of a disk's index (mst_index_source()): only blocks that the destination has are referred to. It tells them as runs, ascending, two
 * numbers each: the first block and how many. most: runs that are kept, eight bytes each. For one stream.
 */
struct mst_runs;

struct mst_runs *mst_runs_new(const struct mst_provider *index, uint32_t most);
void mst_runs_free(struct mst_runs *r);
void mst_runs_provider(struct mst_runs *r, struct mst_provider *out);

#endif
