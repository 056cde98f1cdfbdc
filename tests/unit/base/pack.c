/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pack.h"

#include "unit/harness.h"

static const uint64_t unsigneds[] = {
	0,         1,          127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT64_C(1) << 32,
	INT64_MAX, UINT64_MAX,
};
static const int64_t signeds[] = {
	0,         -1,        -32,    -33,       -128,
	-129,      -32768,    -32769, INT32_MIN, (int64_t)INT32_MIN - 1,
	INT64_MIN, INT64_MAX, 200,
};

START_TEST(numbers)
{
	struct buf b = BUF_INIT;
	struct rd r;

	for (size_t i = 0; i < ARRAY_SIZE(unsigneds); i++)
		pk_u64(&b, unsigneds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(signeds); i++)
		pk_i64(&b, signeds[i]);
	r = rd_init(b.data, b.len);
	for (size_t i = 0; i < ARRAY_SIZE(unsigneds); i++)
		ck_assert_uint_eq(rd_u64(&r), unsigneds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(signeds); i++)
		ck_assert_int_eq(rd_i64(&r), signeds[i]);
	ck_assert(!r.bad);
	ck_assert_int_eq(rd_peek(&r), RD_END);
	buf_free(&b);
}
END_TEST

static bool refused(void (*pack)(struct buf *, void *), void *arg, int how)
{
	struct buf b = BUF_INIT;
	struct rd r;

	pack(&b, arg);
	r = rd_init(b.data, b.len);
	if (how == 'u')
		ck_assert_uint_eq(rd_u64(&r), 0);
	else if (how == 'i')
		ck_assert_int_eq(rd_i64(&r), 0);
	else
		ck_assert_uint_eq(rd_u32(&r), 0);
	buf_free(&b);
	return r.bad;
}

static void put_u(struct buf *b, void *arg)
{
	pk_u64(b, *(uint64_t *)arg);
}

static void put_i(struct buf *b, void *arg)
{
	pk_i64(b, *(int64_t *)arg);
}

START_TEST(numbers_out_of_range)
{
	uint64_t big = (uint64_t)INT64_MAX + 1, over = (uint64_t)UINT32_MAX + 1;
	int64_t minus[] = { -1, -100, -1000, -100000, INT64_MIN };

	ck_assert(refused(put_u, &big, 'i'));
	ck_assert(refused(put_u, &over, '4'));
	for (size_t i = 0; i < ARRAY_SIZE(minus); i++) {
		ck_assert(refused(put_i, &minus[i], 'u'));
		ck_assert(refused(put_i, &minus[i], '4'));
	}
}
END_TEST

/* Lengths over all the forms of a string and a binary. */
START_TEST(strings_and_binaries)
{
	static const size_t lengths[] = { 0, 1, 31, 32, 255, 256, 65535, 65536, 100000 };
	char *data = calloc(1, 100000);

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct buf b = BUF_INIT;
		const void *s, *p;
		uint32_t n, m;
		struct rd r;

		memset(data, 'a' + (int)i, lengths[i]);
		pk_strn(&b, data, lengths[i]);
		pk_bin(&b, data, lengths[i]);
		ck_assert(!b.failed);
		r = rd_init(b.data, b.len);
		ck_assert_int_eq(rd_peek(&r), RD_STR);
		s = rd_str(&r, &n);
		ck_assert_int_eq(rd_peek(&r), RD_BIN);
		p = rd_bin(&r, &m);
		ck_assert(!r.bad && r.p == r.end);
		ck_assert_uint_eq(n, lengths[i]);
		ck_assert_uint_eq(m, lengths[i]);
		ck_assert(!memcmp(s, data, n) && !memcmp(p, data, m));
		buf_free(&b);
	}
	free(data);
}
END_TEST

START_TEST(strcpy_checks)
{
	struct buf b = BUF_INIT;
	struct rd r;
	char out[4];

	pk_str(&b, "abc");
	pk_str(&b, "abcd");
	r = rd_init(b.data, b.len);
	ck_assert(rd_strcpy(&r, out, sizeof(out)));
	ck_assert_str_eq(out, "abc");
	ck_assert(!rd_strcpy(&r, out, sizeof(out)));
	ck_assert(r.bad);
	ck_assert_str_eq(out, "");
	buf_reset(&b);
	pk_strn(&b, "a\0b", 3);
	r = rd_init(b.data, b.len);
	ck_assert(!rd_strcpy(&r, out, sizeof(out)));
	buf_free(&b);
}
END_TEST

START_TEST(map_with_unknown_keys)
{
	struct uuid u = { { 1, 2, 3 } }, v = { { 0 } };
	struct buf b = BUF_INIT;
	uint64_t size = 0;
	bool flag = false;
	char name[8] = "";
	uint32_t n;
	struct rd r;

	pk_map(&b, 6);
	pk_kv_u64(&b, "size", 77);
	pk_str(&b, "future");
	pk_array(&b, 3);
	pk_nil(&b);
	pk_map(&b, 1);
	pk_kv_str(&b, "k", NULL);
	pk_i64(&b, -5);
	pk_kv_bool(&b, "flag", true);
	pk_kv_uuid(&b, "id", &u);
	pk_kv_str(&b, "name", "vol");
	pk_kv_i64(&b, "minus", -3);
	r = rd_init(b.data, b.len);
	n = rd_map(&r);
	ck_assert_uint_eq(n, 6);
	while (n--) {
		struct rd_key k = rd_key(&r);

		if (rd_is(k, "size"))
			size = rd_u64(&r);
		else if (rd_is(k, "flag"))
			flag = rd_bool(&r);
		else if (rd_is(k, "id"))
			rd_uuid(&r, &v);
		else if (rd_is(k, "name"))
			rd_strcpy(&r, name, sizeof(name));
		else
			rd_skip(&r);
	}
	ck_assert(!r.bad && r.p == r.end);
	ck_assert_uint_eq(size, 77);
	ck_assert(flag);
	ck_assert_mem_eq(&u, &v, sizeof(u));
	ck_assert_str_eq(name, "vol");
	buf_free(&b);
}
END_TEST

/* One of each kind of value, as bytes of the specification. */
static const struct {
	const char *bytes;
	size_t n;
	enum rd_type type;
} values[] = {
	{ "\xc0", 1, RD_NIL },
	{ "\xc2", 1, RD_BOOL },
	{ "\xc3", 1, RD_BOOL },
	{ "\x05", 1, RD_INT },
	{ "\xff", 1, RD_INT },
	{ "\xcc\x01", 2, RD_INT },
	{ "\xcd\x01\x02", 3, RD_INT },
	{ "\xce\x01\x02\x03\x04", 5, RD_INT },
	{ "\xcf\x01\x02\x03\x04\x05\x06\x07\x08", 9, RD_INT },
	{ "\xd0\x01", 2, RD_INT },
	{ "\xd1\x01\x02", 3, RD_INT },
	{ "\xd2\x01\x02\x03\x04", 5, RD_INT },
	{ "\xd3\x01\x02\x03\x04\x05\x06\x07\x08", 9, RD_INT },
	{ "\xca\x01\x02\x03\x04", 5, RD_FLOAT },
	{ "\xcb\x01\x02\x03\x04\x05\x06\x07\x08", 9, RD_FLOAT },
	{ "\xa2xy", 3, RD_STR },
	{ "\xd9\x02xy", 4, RD_STR },
	{ "\xda\x00\x02xy", 5, RD_STR },
	{ "\xdb\x00\x00\x00\x02xy", 7, RD_STR },
	{ "\xc4\x02xy", 4, RD_BIN },
	{ "\xc5\x00\x02xy", 5, RD_BIN },
	{ "\xc6\x00\x00\x00\x02xy", 7, RD_BIN },
	{ "\x92\x01\x02", 3, RD_ARRAY },
	{ "\xdc\x00\x02\x01\x02", 5, RD_ARRAY },
	{ "\xdd\x00\x00\x00\x02\x01\x02", 7, RD_ARRAY },
	{ "\x81\x01\x02", 3, RD_MAP },
	{ "\xde\x00\x01\x01\x02", 5, RD_MAP },
	{ "\xdf\x00\x00\x00\x01\x01\x02", 7, RD_MAP },
	{ "\xd4\x01z", 3, RD_BAD },
	{ "\xd5\x01zz", 4, RD_BAD },
	{ "\xd6\x01zzzz", 6, RD_BAD },
	{ "\xd7\x01zzzzzzzz", 10, RD_BAD },
	{ "\xd8\x01zzzzzzzzzzzzzzzz", 18, RD_BAD },
	{ "\xc7\x02\x01zz", 5, RD_BAD },
	{ "\xc8\x00\x02\x01zz", 6, RD_BAD },
	{ "\xc9\x00\x00\x00\x02\x01zz", 8, RD_BAD },
};

START_TEST(peek_and_skip_each_kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct rd r = rd_init(values[i].bytes, values[i].n);

		ck_assert_int_eq(rd_peek(&r), values[i].type);
		rd_skip(&r);
		ck_assert_msg(!r.bad && r.p == r.end, "value %zu", i);
		ck_assert_int_eq(rd_peek(&r), RD_END);
	}
}
END_TEST

START_TEST(every_truncation_is_bad)
{
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		for (size_t n = 0; n < values[i].n; n++) {
			char *exact = malloc(n + 1);
			struct rd r = rd_init(exact + 1, n);

			memcpy(exact + 1, values[i].bytes, n);
			rd_skip(&r);
			ck_assert_msg(r.bad, "value %zu cut to %zu", i, n);
			free(exact);
		}
}
END_TEST

START_TEST(bad_sticks_and_gives_zeros)
{
	static const uint8_t bytes[] = { 0x05, 0xc1, 0x05 };
	struct rd r = rd_init(bytes, sizeof(bytes));
	struct uuid u;
	uint32_t n;

	ck_assert_uint_eq(rd_u64(&r), 5);
	ck_assert_int_eq(rd_peek(&r), RD_BAD);
	rd_skip(&r);
	ck_assert(r.bad);
	ck_assert_uint_eq(rd_u64(&r), 0);
	ck_assert_int_eq(rd_i64(&r), 0);
	ck_assert(!rd_bool(&r));
	ck_assert_uint_eq(rd_map(&r), 0);
	ck_assert_uint_eq(rd_array(&r), 0);
	ck_assert_ptr_nonnull(rd_str(&r, &n));
	ck_assert_uint_eq(n, 0);
	rd_uuid(&r, &u);
	ck_assert_uint_eq(u.b[0], 0);
	ck_assert_int_eq(rd_peek(&r), RD_BAD);
	ck_assert(r.bad);
}
END_TEST

START_TEST(wrong_types_are_bad)
{
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		enum rd_type t = values[i].type;
		uint32_t n;
		struct rd r;

#define TRY(call, want)                                    \
	do {                                               \
		r = rd_init(values[i].bytes, values[i].n); \
		(void)(call);                              \
		ck_assert_int_eq(r.bad, t != (want));      \
	} while (0)
		TRY(rd_bool(&r), RD_BOOL);
		TRY(rd_i64(&r), RD_INT);
		TRY(rd_str(&r, &n), RD_STR);
		TRY(rd_bin(&r, &n), RD_BIN);
		TRY(rd_map(&r), RD_MAP);
		TRY(rd_array(&r), RD_ARRAY);
#undef TRY
	}
}
END_TEST

START_TEST(counts_are_not_believed)
{
	static const uint8_t array[] = { 0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2 };
	static const uint8_t map[] = { 0xdf, 0xff, 0xff, 0xff, 0xff, 1, 2 };
	static const uint8_t pairs[] = { 0x82, 1, 2, 3 };
	struct rd r = rd_init(array, sizeof(array));

	ck_assert_uint_eq(rd_array(&r), 0);
	ck_assert(r.bad);
	r = rd_init(map, sizeof(map));
	ck_assert_uint_eq(rd_map(&r), 0);
	ck_assert(r.bad);
	r = rd_init(map, sizeof(map));
	rd_skip(&r);
	ck_assert(r.bad);
	r = rd_init(pairs, sizeof(pairs));
	ck_assert_uint_eq(rd_map(&r), 0);
	ck_assert(r.bad);
}
END_TEST

START_TEST(nesting_is_bounded)
{
	uint8_t deep[100000];
	struct rd r;

	memset(deep, 0x91, sizeof(deep)); /* arrays of one */
	deep[MSG_DEPTH] = 0xc0;
	r = rd_init(deep, MSG_DEPTH + 1);
	rd_skip(&r);
	ck_assert(!r.bad && r.p == r.end);
	deep[MSG_DEPTH] = 0x91;
	deep[MSG_DEPTH + 1] = 0xc0;
	r = rd_init(deep, MSG_DEPTH + 2);
	rd_skip(&r);
	ck_assert(r.bad);
	r = rd_init(deep, sizeof(deep));
	rd_skip(&r);
	ck_assert(r.bad);
}
END_TEST

START_TEST(failure_of_memory_shows_once)
{
	FOR_EACH_ALLOC_FAILURE(n) {
		struct buf b = BUF_INIT;
		struct rd r;

		pk_array(&b, 100);
		for (int i = 0; i < 100; i++)
			pk_str(&b, "some string");
		if (!b.failed) {
			r = rd_init(b.data, b.len);
			rd_skip(&r);
			ck_assert(!r.bad && r.p == r.end);
		}
		buf_free(&b);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/pack");
	TCase *t = tcase_create("both ways"), *h = tcase_create("hostile");

	tcase_add_test(t, numbers);
	tcase_add_test(t, numbers_out_of_range);
	tcase_add_test(t, strings_and_binaries);
	tcase_add_test(t, strcpy_checks);
	tcase_add_test(t, map_with_unknown_keys);
	tcase_add_test(t, peek_and_skip_each_kind);
	tcase_add_test(t, failure_of_memory_shows_once);
	suite_add_tcase(s, t);
	tcase_add_test(h, every_truncation_is_bad);
	tcase_add_test(h, bad_sticks_and_gives_zeros);
	tcase_add_test(h, wrong_types_are_bad);
	tcase_add_test(h, counts_are_not_believed);
	tcase_add_test(h, nesting_is_bounded);
	suite_add_tcase(s, h);
	return s;
}

HARNESS_MAIN(suite)
