/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "unit/harness.h"

START_TEST(grows_and_keeps_content)
{
	struct buf b = BUF_INIT;

	for (int i = 0; i < 100000; i++) {
		uint8_t c = (uint8_t)i;

		buf_append(&b, &c, 1);
	}
	ck_assert(!b.failed);
	ck_assert_uint_eq(b.len, 100000);
	for (int i = 0; i < 100000; i++)
		ck_assert_uint_eq(b.data[i], (uint8_t)i);
	buf_free(&b);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.cap, 0);
}
END_TEST

START_TEST(append_of_nothing)
{
	struct buf b = BUF_INIT;

	buf_append(&b, NULL, 0);
	ck_assert(!b.failed);
	ck_assert_ptr_null(b.data);
	buf_free(&b);
}
END_TEST

/* Every length around the capacity: printf needs one byte more than it adds. */
START_TEST(printf_at_the_edge)
{
	for (int first = 100; first < 140; first++) {
		struct buf b = BUF_INIT;

		buf_printf(&b, "%*s", first, "x");
		buf_printf(&b, "%d-%s", 42, "end");
		ck_assert(!b.failed);
		ck_assert_uint_eq(b.len, (size_t)first + 6);
		ck_assert_mem_eq(b.data + first - 1, "x42-end", 7);
		buf_free(&b);
	}
}
END_TEST

START_TEST(reset_keeps_memory)
{
	struct buf b = BUF_INIT;
	uint8_t *p;

	buf_append(&b, "abc", 3);
	p = b.data;
	b.failed = true;
	buf_reset(&b);
	ck_assert(!b.failed);
	buf_append(&b, "d", 1);
	ck_assert_ptr_eq(b.data, p);
	ck_assert_uint_eq(b.len, 1);
	buf_free(&b);
}
END_TEST

START_TEST(failure_sticks_and_keeps_what_was_there)
{
	struct buf b = BUF_INIT;
	char big[4096] = { 1 };

	buf_append(&b, "abc", 3);
	mem_fail_nth(1);
	buf_append(&b, big, sizeof(big));
	mem_fail_nth(0);
	ck_assert(b.failed);
	ck_assert_uint_eq(b.len, 3);
	buf_append(&b, "d", 1);
	buf_printf(&b, "e");
	ck_assert_uint_eq(b.len, 3);
	ck_assert_mem_eq(b.data, "abc", 3);
	buf_free(&b);
	ck_assert(!b.failed);
}
END_TEST

START_TEST(absurd_length_fails)
{
	struct buf b = BUF_INIT;

	buf_append(&b, "abc", 3);
	buf_append(&b, "abc", SIZE_MAX - 1);
	ck_assert(b.failed);
	ck_assert_uint_eq(b.len, 3);
	buf_free(&b);
}
END_TEST

START_TEST(every_allocation_failure)
{
	FOR_EACH_ALLOC_FAILURE(n) {
		struct buf b = BUF_INIT;

		for (int i = 0; i < 200; i++)
			buf_printf(&b, "%d,", i);
		ck_assert(b.failed || b.len == 690);
		buf_free(&b);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/buf");
	TCase *t = tcase_create("buf");

	tcase_add_test(t, grows_and_keeps_content);
	tcase_add_test(t, append_of_nothing);
	tcase_add_test(t, printf_at_the_edge);
	tcase_add_test(t, reset_keeps_memory);
	tcase_add_test(t, failure_sticks_and_keeps_what_was_there);
	tcase_add_test(t, absurd_length_fails);
	tcase_add_test(t, every_allocation_failure);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
