/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch: the piece of the stream that one message makes again. Owns the bytes and what the parser saw in them.
 *
 * Its pieces cover raw[0..len) without a gap, in order. Whatever the parser takes for what only decides how small the
 * message becomes: the bytes come out the same.
 */
#ifndef MEMSTREAM_BATCH_H
#define MEMSTREAM_BATCH_H

#include "compute/memstream/credit.h"
#include "compute/memstream/wire.h"

#define NO_PROVIDER 0xffu

/* Flags in the low bits of a RAM record's first word (QEMU's migration/ram.c, RAM_SAVE_FLAG_*). */
#define RAM_ZERO 0x02u
#define RAM_SIZE 0x04u
#define RAM_PAGE 0x08u
#define RAM_EOS 0x10u
#define RAM_CONT 0x20u
#define RAM_XBZRLE 0x40u
#define RAM_HOOK 0x80u
#define RAM_COMPRESSED 0x100u
#define RAM_FLUSH 0x200u
#define RAM_FLAGS 0xfffu

enum piece_kind {
	PIECE_BYTES, /* len bytes, whatever they are */
	PIECE_ZERO,  /* records of nothing but zeroes: word(addr | ZERO | CONT), 0; nine bytes each, addr growing by a page */
	PIECE_PAGE,  /* word(addr | PAGE | CONT), 4096 bytes */
	PIECE_BODY,  /* 4096 bytes of the page at addr; what precedes it was no plain word */
};

#define ZERO_RECORD 9u
#define PAGE_RECORD (8u + MST_PAGE)

struct piece {
	uint8_t kind;
	uint32_t region; /* of ZERO, PAGE, BODY; tells guest memory apart from other guest memory, nothing else */
	uint32_t len;
	uint64_t addr;
};

struct batch {
	struct list link;
	uint32_t seq;
	uint64_t since; /* when its first byte came */

	struct mst_msg *mem; /* raw is in it, behind the room for what makes a plain message of it; NULL: gone */
	uint8_t *raw;
	uint32_t len, cap;
	struct piece *pieces;
	uint32_t n_pieces, cap_pieces;

	/* By the classifier (classify.c): the pages, in order, by where they lie in raw, and their hashes. */
	uint32_t *pages;
	uint64_t *quick;
	uint8_t *provider; /* of a page that went as reference, with REF_COMES; NO_PROVIDER */
	uint8_t *noted; /* went in full: providers hear of it when it is acknowledged */
	uint32_t n_pages;

	struct mst_msg *msg; /* once packed, until sent */
	uint32_t wire;
	uint32_t asked; /* pages of it that the other side asked for */
	bool sent, received;
	uint8_t step; /* of aside.h */
	struct credit_mark mark, link_mark;
	uint32_t number[MST_PROVIDERS_MAX]; /* by provider: what begin() said */
};

/* NULL is fine. */
void batch_free(struct batch *b);
/* Empty again, memory kept. */
void batch_reset(struct batch *b);
/* Declares the next len bytes behind what pieces cover. False: no memory. Joins neighbours of BYTES and of ZERO. */
bool batch_piece(struct batch *b, uint8_t kind, uint32_t region, uint64_t addr, uint32_t len);

#endif
