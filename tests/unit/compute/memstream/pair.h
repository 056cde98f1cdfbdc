/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An encoder and a decoder with a carrier between them, all in one thread, and a maker of streams as QEMU writes them.
 * What comes out is compared with what went in, at once.
 */
#ifndef TESTS_MEMSTREAM_PAIR_H
#define TESTS_MEMSTREAM_PAIR_H

#include "base/buf.h"
#include "compute/memstream/memstream.h"

struct pair_opts {
	struct mst_opts src, dst;
	uint64_t seed;      /* of the portions in which bytes go in and out */
	uint32_t portion;   /* largest portion; 0: 64 KiB */
	bool flushes;       /* now and then */
	bool threads;       /* wait when nothing moves, rather than give up */
	/* May change or drop (return false) a message on its way; NULL: none. */
	bool (*meddle)(void *ctx, bool back, struct mst_msg **m);
	void *ctx;
};

struct pair_result {
	int rc;             /* 0, or the first error of either side */
	bool same;          /* what came out is a prefix of what went in, and all of it when rc is 0 */
	uint64_t out;       /* bytes that came out */
	struct mst_stats src, dst;
	struct hci_error err;
};

void pair_run(const void *stream, size_t len, const struct pair_opts *o, struct pair_result *r);

/* xorshift: the same numbers everywhere. */
uint64_t rnd(uint64_t *seed);

/* ---- streams ---- */

struct gen {
	struct buf b;
	uint64_t seed;
	const char *block; /* the last one named */
};

void gen_head(struct gen *g);                   /* magic, version, configuration, start of section "ram" */
void gen_part(struct gen *g);                   /* a part of section "ram" begins */
void gen_end(struct gen *g);                    /* ... ends */
void gen_page(struct gen *g, const char *block, uint64_t addr, const void *page);
void gen_zero(struct gen *g, const char *block, uint64_t addr);
void gen_device(struct gen *g, size_t len);     /* a full section of some device */
void gen_eof(struct gen *g);

/* Kinds of pages. */
void page_text(uint8_t *page, uint64_t seed);   /* shrinks */
void page_random(uint8_t *page, uint64_t seed); /* does not */

#endif
