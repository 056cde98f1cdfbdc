/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions in a data message by which the stream's bytes are made again. A byte: the kind in the low four bits,
 * flags above; then numbers as varints (seven bits a byte, the lowest first; signed ones folded: 0, -1, 1, -2 ...).
 *
 * `next` is the address that a record is expected to have: 0 at the start of a message, moved by JUMP, and a page further
 * after each record or page. Pages are counted from 0 in each message (ZERO records are none). Slots that are read have
 * the content they had before the message; what it stores takes effect when its checksum was right.
 */
#ifndef MEMSTREAM_OPS_H
#define MEMSTREAM_OPS_H

#include "base/base.h"

enum {
	OP_BYTES,  /* n: n bytes of the literals */
	OP_JUMP,   /* signed n: next += n pages */
	OP_ZEROES, /* n: n records word(next | ZERO | CONT), 0 */
	/* n pages each; flags may be set */
	OP_FRESH,  /* of the section of fresh pages */
	OP_RAW,    /* of the raw pages */
	OP_NULL,   /* all zeroes */
	OP_SLOT,   /* signed s: of slots, beginning at the expected one + s */
	OP_LOCAL,  /* d: of this message, d (>= 1) pages back each */
	OP_DSLOT,  /* signed s: changes (delta section) of slots, as SLOT */
	OP_DLOCAL, /* d: changes of pages of this message, as LOCAL */
	OP_REF,    /* a byte: the provider, and REF_COMES; then for each page: its token (8 bytes), its strong hash */
	OP_KINDS
};

#define REF_COMES 0x80 /* another stream brings them just now: wait for it */

#define OP_KIND 0x0f
#define OP_HEAD 0x10  /* each page is preceded by word(next | PAGE | CONT) */
#define OP_STORE 0x20 /* signed t, before other numbers but n: kept in slots from the expected store slot + t on */
#define OP_BACK 0x40  /* DSLOT: kept in the slot it changes */

/* At most ten bytes. */
static inline unsigned put_varint(uint8_t *p, uint64_t v)
{
	unsigned n = 0;

	while (v >= 0x80) {
		p[n++] = (uint8_t)v | 0x80;
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	return n;
}

static inline uint64_t fold(int64_t v)
{
	return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
}

static inline int64_t unfold(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* Reads at *p, before end; false when it is cut or too long. */
static inline bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t c = *(*p)++;

		*v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

#endif
