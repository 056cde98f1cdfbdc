/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following QEMU's migration stream just far enough to see the records of guest memory in it. Owns where in the stream we
 * are; takes the bytes into batches. It cannot fail on any input: what it does not understand are bytes, and it looks for
 * the next section of guest memory. A mistake of its would cost compression, never a byte.
 *
 * Facts from QEMU 7.2 to 9.x, migration/savevm.c (sections) and migration/ram.c (records): see docs/memstream-format.md.
 */
#ifndef MEMSTREAM_PARSE_H
#define MEMSTREAM_PARSE_H

#include "compute/memstream/batch.h"

struct parser {
	uint8_t state;
	bool known;       /* ram_id is the section's id */
	bool whole;       /* the element at hand began in this batch: none of its bytes went before */
	uint32_t ram_id;
	uint32_t region;  /* of the block that records name at present */
	uint32_t need;    /* bytes that the state still wants */
	uint32_t got;
	uint64_t word;    /* of the record at hand */
	uint64_t id_hash;
	uint32_t start;   /* in the batch: where what is not yet a piece begins */
	unsigned __int128 last; /* sixteen bytes back, when looking for a section */
};

void parser_init(struct parser *p);
/*
 * Takes bytes to the batch until either is used up, and declares their pieces. *full is set when the batch is to be
 * closed (there may be room, but not for what comes). Returns how many it took, negative for no memory.
 */
int64_t parser_feed(struct parser *p, const uint8_t *data, size_t len, struct batch *b, bool *full);
/* The batch is taken away in the middle of an element: its part so far are bytes, and the rest will be. */
bool parser_cut(struct parser *p, struct batch *b);
/* How many bytes at the batch's end belong to an element that is not complete. They may be moved to the start of another. */
uint32_t parser_unsettled(const struct parser *p, const struct batch *b);
void parser_moved(struct parser *p);

#endif
