/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The msgpack reader. The first byte chooses the calls, the rest is read twice: once value by
 * value, once by rd_skip alone. Both must end at the same place, and what skip accepts must come
 * out the same when it is packed again and read again.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/pack.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

/* Reads one value and packs it again; false when it is of a kind that has no writer. */
static bool copy(struct rd *r, struct buf *out, int depth)
{
	const char *s;
	uint32_t n;

	switch (rd_peek(r)) {
	case RD_NIL:
		rd_skip(r);
		pk_nil(out);
		return true;
	case RD_BOOL:
		pk_bool(out, rd_bool(r));
		return true;
	case RD_INT: {
		struct rd try = *r;
		uint64_t u = rd_u64(&try);

		if (try.bad) {
			pk_i64(out, rd_i64(r));
		} else {
			*r = try;
			pk_u64(out, u);
		}
		return true;
	}
	case RD_STR:
		s = rd_str(r, &n);
		pk_strn(out, s, n);
		return true;
	case RD_BIN:
		s = rd_bin(r, &n);
		pk_bin(out, s, n);
		return true;
	case RD_ARRAY:
	case RD_MAP: {
		bool map = rd_peek(r) == RD_MAP;

		if (depth == MSG_DEPTH)
			return false;
		n = map ? rd_map(r) : rd_array(r);
		CHECK(n <= (size_t)(r->end - r->p));
		if (map)
			pk_map(out, n);
		else
			pk_array(out, n);
		for (uint64_t i = 0; i < (map ? 2 * (uint64_t)n : n); i++)
			if (!copy(r, out, depth + 1))
				return false;
		return true;
	}
	default:
		return false;
	}
}

static void round_trip(const uint8_t *data, size_t size)
{
	struct rd r = rd_init(data, size), skipped = r, again;
	struct buf first = BUF_INIT, second = BUF_INIT;

	rd_skip(&skipped);
	if (copy(&r, &first, 0)) {
		/* A record, once read, is skipped over just as far. */
		CHECK(r.bad == skipped.bad && r.p == skipped.p);
		if (!r.bad) {
			again = rd_init(first.data, first.len);
			CHECK(copy(&again, &second, 0) && !again.bad && again.p == again.end);
			CHECK(first.len == second.len &&
			      !memcmp(first.data, second.data, first.len));
		}
	}
	buf_free(&first);
	buf_free(&second);
}

/* Any order of calls, whatever the input holds. */
static void any_calls(uint8_t seed, const uint8_t *data, size_t size)
{
	struct rd r = rd_init(data, size);
	char text[16];
	struct uuid u;
	uint32_t n, sum = 0;

	for (unsigned i = 0; i < 2 * size + 2; i++) {
		const uint8_t *before = r.p;
		const char *s = NULL;

		switch ((seed + i * (seed | 1u)) % 11) {
		case 0:
			rd_map(&r);
			break;
		case 1:
			rd_array(&r);
			break;
		case 2:
			rd_u64(&r);
			break;
		case 3:
			rd_i64(&r);
			break;
		case 4:
			rd_u32(&r);
			break;
		case 5:
			rd_bool(&r);
			break;
		case 6:
			s = rd_str(&r, &n);
			break;
		case 7:
			s = rd_bin(&r, &n);
			break;
		case 8:
			rd_strcpy(&r, text, sizeof(text));
			break;
		case 9:
			rd_uuid(&r, &u);
			break;
		default:
			rd_skip(&r);
			break;
		}
		for (uint32_t k = 0; s && k < n; k++)
			sum += (uint8_t)s[k]; /* all of it is readable */
		CHECK(r.p >= before && r.p <= r.end);
		CHECK(!r.bad || r.p == r.end);
	}
	__asm__ volatile("" ::"r"(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	round_trip(data + 1, size - 1);
	any_calls(data[0], data + 1, size - 1);
	return 0;
}
