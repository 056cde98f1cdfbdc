/* SPDX-License-Identifier: Apache-2.0 */
/* Writing instructions (ops.h), neighbours of one kind as one. Owns what the reader expects next. */
#ifndef MEMSTREAM_EMIT_H
#define MEMSTREAM_EMIT_H

#include "base/buf.h"
#include "compute/memstream/memstream.h"

struct emit {
	struct buf *ops;
	uint64_t next;                   /* address of the next record, as the reader will have it */
	uint64_t next_slot, next_store;
	/* The run at hand; n 0: none. */
	uint8_t op, provider;
	uint32_t n, from, store;
	struct buf refs;                 /* tokens and hashes of a run of references */
};

/* A page's instruction. */
struct emit_page {
	uint8_t op;                      /* kind and flags of ops.h */
	uint32_t from;                   /* SLOT, DSLOT: the slot; LOCAL, DLOCAL: how far back */
	uint32_t store;                  /* with OP_STORE */
	uint8_t provider;
	uint64_t token;
	const uint8_t *strong;
};

void emit_begin(struct emit *e, struct buf *ops);
void emit_free(struct emit *e);
void emit_bytes(struct emit *e, uint32_t n);
void emit_zeroes(struct emit *e, uint64_t addr, uint32_t n);
/* The page is at addr; after it the reader expects the one behind it. */
void emit_page(struct emit *e, uint64_t addr, const struct emit_page *p);
/* The last run. False: memory was short. */
bool emit_end(struct emit *e);

#endif
