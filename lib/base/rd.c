/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The msgpack reader (format bytes as in the msgpack specification's table). Its input is from a
 * stranger: no byte is read before it is known to be there, no count is believed that the bytes
 * left could not hold, nesting is bounded, nothing is allocated. A reader that went bad stands at
 * its end and gives zeros, so that loops over counts end.
 */
#include "base/pack.h"

/* What the first byte of a value says. */
struct tag {
	enum rd_type type;
	uint8_t extra; /* bytes of a number that follows: a value or a length */
	bool sign;     /* that number is signed */
	uint8_t fixed; /* extra == 0: the value or length itself; ext: bytes besides the length */
};

static void fail(struct rd *r)
{
	r->bad = true;
	r->p = r->end;
}

static size_t left(const struct rd *r)
{
	return (size_t)(r->end - r->p);
}

/* 0xc0..0xdf; ext types are RD_BAD with extra or fixed set, 0xc1 has neither. */
static const struct tag tags[32] = {
	[0x00] = { RD_NIL, 0, false, 0 },   [0x01] = { RD_BAD, 0, false, 0 },
	[0x02] = { RD_BOOL, 0, false, 0 },  [0x03] = { RD_BOOL, 0, false, 1 },
	[0x04] = { RD_BIN, 1, false, 0 },   [0x05] = { RD_BIN, 2, false, 0 },
	[0x06] = { RD_BIN, 4, false, 0 },   [0x07] = { RD_BAD, 1, false, 1 },
	[0x08] = { RD_BAD, 2, false, 1 },   [0x09] = { RD_BAD, 4, false, 1 },
	[0x0a] = { RD_FLOAT, 4, false, 0 }, [0x0b] = { RD_FLOAT, 8, false, 0 },
	[0x0c] = { RD_INT, 1, false, 0 },   [0x0d] = { RD_INT, 2, false, 0 },
	[0x0e] = { RD_INT, 4, false, 0 },   [0x0f] = { RD_INT, 8, false, 0 },
	[0x10] = { RD_INT, 1, true, 0 },    [0x11] = { RD_INT, 2, true, 0 },
	[0x12] = { RD_INT, 4, true, 0 },    [0x13] = { RD_INT, 8, true, 0 },
	[0x14] = { RD_BAD, 0, false, 2 },   [0x15] = { RD_BAD, 0, false, 3 },
	[0x16] = { RD_BAD, 0, false, 5 },   [0x17] = { RD_BAD, 0, false, 9 },
	[0x18] = { RD_BAD, 0, false, 17 },  [0x19] = { RD_STR, 1, false, 0 },
	[0x1a] = { RD_STR, 2, false, 0 },   [0x1b] = { RD_STR, 4, false, 0 },
	[0x1c] = { RD_ARRAY, 2, false, 0 }, [0x1d] = { RD_ARRAY, 4, false, 0 },
	[0x1e] = { RD_MAP, 2, false, 0 },   [0x1f] = { RD_MAP, 4, false, 0 },
};

static inline struct tag tag_of(uint8_t c)
{
	if (c < 0x80)
		return (struct tag){ RD_INT, 0, false, c };
	if (c < 0x90)
		return (struct tag){ RD_MAP, 0, false, c & 0x0f };
	if (c < 0xa0)
		return (struct tag){ RD_ARRAY, 0, false, c & 0x0f };
	if (c < 0xc0)
		return (struct tag){ RD_STR, 0, false, c & 0x1f };
	if (c < 0xe0)
		return tags[c & 0x1f];
	return (struct tag){ RD_INT, 0, true, c };
}

/* Big-endian, n of 0..8 bytes that are known to be there. */
static inline uint64_t big_endian(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* Reads the first byte and the number behind it. false: bad already, or truncated. */
static inline bool take(struct rd *r, struct tag *t, uint64_t *v)
{
	if (r->p >= r->end) {
		fail(r);
		return false;
	}
	*t = tag_of(*r->p);
	if (left(r) < 1u + t->extra) {
		fail(r);
		return false;
	}
	*v = t->extra ? big_endian(r->p + 1, t->extra) : t->fixed;
	r->p += 1u + t->extra;
	return true;
}

/* The same, of one type only. */
static inline bool take_type(struct rd *r, enum rd_type type, struct tag *t, uint64_t *v)
{
	if (!take(r, t, v))
		return false;
	if (t->type != type) {
		fail(r);
		return false;
	}
	return true;
}

enum rd_type rd_peek(const struct rd *r)
{
	if (r->bad)
		return RD_BAD;
	if (r->p >= r->end)
		return RD_END;
	return tag_of(*r->p).type;
}

/* Each element is a byte at least, each pair two. */
static uint32_t take_count(struct rd *r, enum rd_type type, size_t least)
{
	struct tag t;
	uint64_t n;

	if (!take_type(r, type, &t, &n))
		return 0;
	if (n > left(r) / least) {
		fail(r);
		return 0;
	}
	return (uint32_t)n;
}

uint32_t rd_map(struct rd *r)
{
	return take_count(r, RD_MAP, 2);
}

uint32_t rd_array(struct rd *r)
{
	return take_count(r, RD_ARRAY, 1);
}

/* Spreads the sign of a number of t->extra bytes (none: the negative fixint, one byte). */
static int64_t extend(const struct tag *t, uint64_t v)
{
	switch (t->extra) {
	case 0:
	case 1:
		return (int8_t)v;
	case 2:
		return (int16_t)v;
	case 4:
		return (int32_t)v;
	default:
		return (int64_t)v;
	}
}

uint64_t rd_u64(struct rd *r)
{
	struct tag t;
	uint64_t v;

	if (!take_type(r, RD_INT, &t, &v))
		return 0;
	if (t.sign && extend(&t, v) < 0) {
		fail(r);
		return 0;
	}
	return v;
}

int64_t rd_i64(struct rd *r)
{
	struct tag t;
	uint64_t v;

	if (!take_type(r, RD_INT, &t, &v))
		return 0;
	if (t.sign)
		return extend(&t, v);
	if (v > INT64_MAX) {
		fail(r);
		return 0;
	}
	return (int64_t)v;
}

uint32_t rd_u32(struct rd *r)
{
	uint64_t v = rd_u64(r);

	if (v > UINT32_MAX) {
		fail(r);
		return 0;
	}
	return (uint32_t)v;
}

bool rd_bool(struct rd *r)
{
	struct tag t;
	uint64_t v;

	return take_type(r, RD_BOOL, &t, &v) && v;
}

static const void *take_bytes(struct rd *r, enum rd_type type, uint32_t *len)
{
	const uint8_t *p;
	struct tag t;
	uint64_t n;

	*len = 0;
	if (!take_type(r, type, &t, &n))
		return "";
	if (n > left(r)) {
		fail(r);
		return "";
	}
	p = r->p;
	r->p += n;
	*len = (uint32_t)n;
	return p;
}

const char *rd_str(struct rd *r, uint32_t *len)
{
	return take_bytes(r, RD_STR, len);
}

const void *rd_bin(struct rd *r, uint32_t *len)
{
	return take_bytes(r, RD_BIN, len);
}

bool rd_strcpy(struct rd *r, char *out, size_t cap)
{
	uint32_t n;
	const char *s = rd_str(r, &n);

	if (cap)
		out[0] = 0;
	if (r->bad)
		return false;
	if (n >= cap || memchr(s, 0, n)) {
		fail(r);
		return false;
	}
	memcpy(out, s, n);
	out[n] = 0;
	return true;
}

void rd_uuid(struct rd *r, struct uuid *u)
{
	uint32_t n;
	const void *p = rd_bin(r, &n);

	memset(u, 0, sizeof(*u));
	if (r->bad)
		return;
	if (n != sizeof(u->b)) {
		fail(r);
		return;
	}
	memcpy(u->b, p, sizeof(u->b));
}

/* How many values, at most, wait inside this one: its elements. Skips the bytes of a flat one. */
static uint64_t enter(struct rd *r)
{
	struct tag t;
	uint64_t n;

	if (!take(r, &t, &n))
		return 0;
	switch (t.type) {
	case RD_ARRAY:
	case RD_MAP:
		n *= t.type == RD_MAP ? 2 : 1;
		if (n > left(r))
			fail(r);
		return r->bad ? 0 : n;
	case RD_BAD: /* ext: a type byte and data, whose length came before or is in the tag */
		if (t.extra)
			n += t.fixed;
		else if (!t.fixed)
			fail(r); /* 0xc1, never used */
		break;
	case RD_STR:
	case RD_BIN:
		break;
	default: /* take() had all of it */
		return 0;
	}
	if (n > left(r))
		fail(r);
	else
		r->p += n;
	return 0;
}

void rd_skip(struct rd *r)
{
	uint64_t waiting[MSG_DEPTH];
	unsigned depth = 0;

	do {
		uint64_t n = enter(r);

		if (r->bad)
			return;
		if (n) {
			if (depth == MSG_DEPTH) {
				fail(r);
				return;
			}
			waiting[depth++] = n;
		}
		while (depth && !waiting[depth - 1])
			depth--;
		if (depth)
			waiting[depth - 1]--;
		else
			return;
	} while (true);
}

struct rd_key rd_key(struct rd *r)
{
	struct rd_key k;

	k.s = rd_str(r, &k.n);
	return k;
}

bool rd_is(struct rd_key k, const char *name)
{
	return strlen(name) == k.n && !memcmp(k.s, name, k.n);
}
