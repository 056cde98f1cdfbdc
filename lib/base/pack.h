/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msgpack in the two forms that libhci uses: a writer into struct buf, and a checked reader over
 * bytes from a stranger. The reader never allocates and never recurses deeper than MSG_DEPTH;
 * strings and binaries come back as pointers into the input. An error sticks: read everything,
 * then look at rd.bad once.
 *
 * Records are maps with short string keys, so that fields can be added: a reader skips keys it
 * does not know. Hot-path message bodies are arrays of integers (positions are fixed, new ones
 * are appended).
 */
#ifndef BASE_PACK_H
#define BASE_PACK_H

#include "base/base.h"
#include "base/buf.h"

/* ---- writing ---- */
void pk_map(struct buf *b, uint32_t pairs);
void pk_array(struct buf *b, uint32_t n);
void pk_u64(struct buf *b, uint64_t v);
void pk_i64(struct buf *b, int64_t v);
void pk_bool(struct buf *b, bool v);
void pk_str(struct buf *b, const char *s);
void pk_strn(struct buf *b, const char *s, size_t n);
void pk_bin(struct buf *b, const void *p, size_t n);
void pk_uuid(struct buf *b, const struct uuid *u); /* bin 16 */
void pk_nil(struct buf *b);
/* key + value, for maps */
void pk_kv_u64(struct buf *b, const char *k, uint64_t v);
void pk_kv_i64(struct buf *b, const char *k, int64_t v);
void pk_kv_bool(struct buf *b, const char *k, bool v);
void pk_kv_str(struct buf *b, const char *k, const char *s); /* s == NULL: "" */
void pk_kv_uuid(struct buf *b, const char *k, const struct uuid *u);

/* ---- reading ---- */
#define MSG_DEPTH 16

struct rd {
	const uint8_t *p, *end;
	bool bad; /* truncated, of another type, or out of range */
};

static inline struct rd rd_init(const void *p, size_t n)
{
	struct rd r = { (const uint8_t *)p, n ? (const uint8_t *)p + n : (const uint8_t *)p, false };

	return r;
}

enum rd_type { RD_END, RD_NIL, RD_BOOL, RD_INT, RD_STR, RD_BIN, RD_ARRAY, RD_MAP, RD_FLOAT, RD_BAD };

enum rd_type rd_peek(const struct rd *r);
uint32_t rd_map(struct rd *r);   /* number of pairs; never more than bytes left */
uint32_t rd_array(struct rd *r); /* number of elements; never more than bytes left */
uint64_t rd_u64(struct rd *r);   /* bad when negative */
int64_t rd_i64(struct rd *r);
uint32_t rd_u32(struct rd *r);   /* bad when larger */
bool rd_bool(struct rd *r);
const char *rd_str(struct rd *r, uint32_t *len); /* not NUL-terminated */
const void *rd_bin(struct rd *r, uint32_t *len);
bool rd_strcpy(struct rd *r, char *out, size_t cap); /* bad when it does not fit or holds a NUL */
void rd_uuid(struct rd *r, struct uuid *u);
void rd_skip(struct rd *r);      /* one value of any type */

/*
 * Walk a map:
 *	uint32_t n = rd_map(&r);
 *	while (n--) {
 *		struct rd_key k = rd_key(&r);
 *		if (rd_is(k, "size")) size = rd_u64(&r);
 *		else rd_skip(&r);
 *	}
 *	if (r.bad) ...
 */
struct rd_key {
	const char *s;
	uint32_t n;
};
struct rd_key rd_key(struct rd *r);
bool rd_is(struct rd_key k, const char *name);

#endif
