/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading the protobuf wire format: see pb.h. */
#include "pb.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

void buf_free(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ 0 };
}

static bool room(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 128;
	uint8_t *p;

	if (b->oom || n > SIZE_MAX / 4 - b->n) {
		b->oom = true;
		return false;
	}
	while (cap < b->n + n)
		cap *= 2;
	if (cap > b->cap) {
		p = realloc(b->p, cap);
		if (!p) {
			b->oom = true;
			return false;
		}
		b->p = p;
		b->cap = cap;
	}
	return true;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
	if (n && room(b, n)) {
		memcpy(b->p + b->n, data, n);
		b->n += n;
	}
}

static size_t varint(uint8_t out[10], uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (uint8_t)(v | 0x80);
	out[n++] = (uint8_t)v;
	return n;
}

static void add_varint(struct buf *b, uint64_t v)
{
	uint8_t t[10];

	buf_add(b, t, varint(t, v));
}

void pb_uint(struct buf *b, unsigned field, uint64_t v)
{
	add_varint(b, (uint64_t)field << 3 | VARINT);
	add_varint(b, v);
}

void pb_bytes(struct buf *b, unsigned field, const void *data, size_t n)
{
	add_varint(b, (uint64_t)field << 3 | BYTES);
	add_varint(b, n);
	buf_add(b, data, n);
}

size_t pb_begin(struct buf *b, unsigned field)
{
	add_varint(b, (uint64_t)field << 3 | BYTES);
	return b->n;
}

/* The length goes before what was written: it is not known earlier, and nearly always one or two bytes. */
void pb_end(struct buf *b, size_t mark)
{
	uint8_t t[10];
	size_t len = b->n - mark, n = varint(t, len);

	if (b->oom || !room(b, n))
		return;
	memmove(b->p + mark + n, b->p + mark, len);
	memcpy(b->p + mark, t, n);
	b->n += n;
}

static bool read_varint(struct pb_in *in, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
		uint8_t c = *in->p++;

		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*out = v;
			return shift < 63 || c <= 1;
		}
	}
	return false;
}

static bool skip(struct pb_in *in, size_t n)
{
	if (pb_len(in) < n)
		return false;
	in->p += n;
	return true;
}

static bool read_field(struct pb_in *in, struct pb_field *f)
{
	uint64_t tag, n;

	if (!read_varint(in, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911)
		return false;
	*f = (struct pb_field){ .number = (unsigned)(tag >> 3) };
	switch (tag & 7) {
	case VARINT:
		return read_varint(in, &f->v);
	case FIXED64:
		return skip(in, 8);
	case FIXED32:
		return skip(in, 4);
	case BYTES:
		if (!read_varint(in, &n) || n > pb_len(in))
			return false;
		f->sub = pb_of(in->p, (size_t)n);
		return skip(in, (size_t)n);
	default:
		return false;
	}
}

bool pb_next(struct pb_in *in, struct pb_field *f)
{
	if (in->bad || in->p == in->end)
		return false;
	if (read_field(in, f))
		return true;
	in->bad = true;
	return false;
}
