/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf wire format (protobuf.dev/programming-guides/encoding), as much of it as etcd's messages need:
 * varints, byte strings, messages in messages. Reading is strict and bounded and takes no memory.
 */
#ifndef ETCD_PB_H
#define ETCD_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Grows as it is written; after a failed allocation `oom` is set and writing goes nowhere. */
struct buf {
	uint8_t *p;
	size_t n, cap;
	bool oom;
};
void buf_free(struct buf *b);
void buf_add(struct buf *b, const void *data, size_t n);

void pb_uint(struct buf *b, unsigned field, uint64_t v);
void pb_bytes(struct buf *b, unsigned field, const void *data, size_t n);
/* A message in a message: what is written between the two calls. */
size_t pb_begin(struct buf *b, unsigned field);
void pb_end(struct buf *b, size_t mark);

/* A piece of memory that is read; data of a field points into it. */
struct pb_in {
	const uint8_t *p, *end;
	bool bad;
};
struct pb_field {
	unsigned number;
	uint64_t v;       /* of a varint, or of a fixed width */
	struct pb_in sub; /* of a byte string or message; otherwise p is NULL */
};
static inline struct pb_in pb_of(const void *p, size_t n)
{
	return (struct pb_in){ (const uint8_t *)p, (const uint8_t *)p + n, false };
}
static inline size_t pb_len(const struct pb_in *in)
{
	return (size_t)(in->end - in->p);
}
/* The next field; false at the end, and when in->bad got set: not protobuf. */
bool pb_next(struct pb_in *in, struct pb_field *f);

#endif
