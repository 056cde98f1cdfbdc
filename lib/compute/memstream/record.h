/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of a VMM that has none of its own: pages in the very records that the parser knows from QEMU (so that there
 * is one path through the codec), and a strict reader for the other end. Layout: docs/memstream-format.md.
 */
#ifndef MEMSTREAM_RECORD_H
#define MEMSTREAM_RECORD_H

#include "base/buf.h"
#include "compute/memstream/memstream.h"

#define RECORD_BYTES_MAX (64u << 10) /* of one piece of bytes */

enum record_kind { RECORD_NONE, RECORD_PAGE, RECORD_ZERO, RECORD_BYTES, RECORD_END };

struct record_writer {
	bool begun, named;
	uint32_t region; /* the last one */
};

/* Appends to b; check b->failed. */
void record_page(struct record_writer *w, struct buf *b, uint32_t region, uint64_t address, const void *page);
void record_bytes(struct record_writer *w, struct buf *b, const void *data, size_t len); /* at most RECORD_BYTES_MAX */
void record_end(struct record_writer *w, struct buf *b);

struct record_reader {
	uint8_t state;
	uint32_t need, got, region;
	uint64_t word;
	uint8_t buf[RECORD_BYTES_MAX];
};

struct record {
	uint8_t kind;
	uint32_t region, len;
	uint64_t address;
	const void *data; /* in the reader; until it is fed again */
};

void record_reader_init(struct record_reader *r);
/* Takes bytes until a record is whole or they are used up; returns how many, or HCI_E_PROTO. out->kind says what it was. */
int64_t record_read(struct record_reader *r, const uint8_t *p, size_t len, struct record *out);

#endif
