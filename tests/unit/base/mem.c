/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <pthread.h>
#include <signal.h>

#include "unit/harness.h"

START_TEST(zeroed_and_aligned)
{
	uint8_t *p = mem_zalloc(1000);

	ck_assert_uint_eq((uintptr_t)p % 16, 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_uint_eq(p[i], 0);
	mem_free(p);
	p = mem_alloc(0);
	ck_assert_ptr_nonnull(p);
	mem_free(p);
	mem_free(NULL);
}
END_TEST

START_TEST(overflow_is_refused)
{
	ck_assert_ptr_null(mem_calloc(SIZE_MAX / 2, 3));
	ck_assert_ptr_null(mem_alloc(SIZE_MAX - 4));
	ck_assert_ptr_null(mem_alloc_aligned(SIZE_MAX - 4));
	ck_assert_ptr_null(mem_alloc_aligned(SIZE_MAX - 8192));
}
END_TEST

START_TEST(realloc_keeps_content)
{
	char *p = mem_realloc(NULL, 4), *q;

	memcpy(p, "abc", 4);
	p = mem_realloc(p, 100000);
	ck_assert_str_eq(p, "abc");
	ck_assert_ptr_null(mem_realloc(p, SIZE_MAX));
	mem_fail_nth(1);
	q = mem_realloc(p, 200000);
	mem_fail_nth(0);
	ck_assert_ptr_null(q);
	ck_assert_str_eq(p, "abc");
	mem_free(p);
}
END_TEST

START_TEST(strings)
{
	char *s = mem_strdup("hello"), *f = mem_printf("%s %d", s, 7);

	ck_assert_str_eq(s, "hello");
	ck_assert_str_eq(f, "hello 7");
	mem_free(s);
	mem_free(f);
}
END_TEST

START_TEST(aligned_blocks)
{
	for (size_t n = 1; n < 20000; n += 1111) {
		uint8_t *p = mem_alloc_aligned(n);

		ck_assert_uint_eq((uintptr_t)p % HCI_BLOCK, 0);
		/* All of the rounded size is the caller's. */
		memset(p, 0xee, ROUND_UP(n, HCI_BLOCK));
		mem_free_aligned(p);
	}
	mem_free_aligned(NULL);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(write_past_aligned_block_is_caught)
{
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);

	/* Exactly where no sanitizer looks when none is built in; volatile, or gcc sees it too. */
	*(volatile uint8_t *)((uintptr_t)p + HCI_BLOCK + 8) ^= 0xff;
	*(volatile uint8_t *)((uintptr_t)p + HCI_BLOCK) ^= 0xff;
	mem_free_aligned(p);
}
END_TEST
#endif

START_TEST(arena_counts_and_drops)
{
	struct mem_arena *a = mem_arena_new(), *old = mem_arena_set(a);
	void *x, *y, *outside;

	ck_assert_ptr_null(old);
	x = mem_alloc(100);
	y = mem_alloc_aligned(5000);
	ck_assert_uint_eq(mem_arena_bytes(a), 100 + 8192);
	x = mem_realloc(x, 50);
	ck_assert_uint_eq(mem_arena_bytes(a), 50 + 8192);
	ck_assert_ptr_eq(mem_arena_set(NULL), a);
	outside = mem_alloc(10);
	ck_assert_uint_eq(mem_arena_bytes(a), 50 + 8192);
	x = mem_realloc(x, 70); /* stays where it was made */
	ck_assert_uint_eq(mem_arena_bytes(a), 70 + 8192);
	mem_free(x);
	mem_free_aligned(y);
	ck_assert_uint_eq(mem_arena_bytes(a), 0);
	mem_arena_set(a);
	for (int i = 0; i < 10000; i++)
		mem_alloc((size_t)i);
	mem_alloc_aligned(1);
	mem_free(outside);
	mem_arena_destroy(a); /* LeakSanitizer checks that this was all */
	ck_assert_ptr_null(mem_arena_set(NULL));
}
END_TEST

START_TEST(blocks_of_two_arenas_mixed)
{
	struct mem_arena *a = mem_arena_new(), *b = mem_arena_new();
	void *p[100];

	for (int i = 0; i < 100; i++) {
		mem_arena_set(i % 2 ? a : b);
		p[i] = mem_alloc(10);
	}
	mem_arena_set(NULL);
	for (int i = 0; i < 100; i += 3)
		mem_free(p[i]);
	ck_assert_uint_eq(mem_arena_bytes(a) + mem_arena_bytes(b), 66 * 10);
	mem_arena_destroy(a);
	mem_arena_destroy(b);
}
END_TEST

START_TEST(nth_failure)
{
	void *p[5];

	mem_fail_nth(3);
	for (int i = 0; i < 5; i++)
		p[i] = mem_alloc(1);
	ck_assert_uint_eq(mem_fail_nth(0), 5);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(p[i] == NULL, i == 2);
		mem_free(p[i]);
	}
	ck_assert_uint_eq(mem_fail_nth(0), 0);
}
END_TEST

static void *other_thread(void *arg)
{
	void *p = mem_alloc(1);

	(void)arg;
	mem_free(p);
	return p;
}

START_TEST(hooks_are_of_one_thread)
{
	struct mem_arena *a = mem_arena_new();
	pthread_t t;
	void *p;

	mem_arena_set(a);
	mem_fail_nth(1);
	ck_assert_int_eq(pthread_create(&t, NULL, other_thread, NULL), 0);
	pthread_join(t, &p);
	mem_fail_nth(0);
	mem_arena_set(NULL);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(mem_arena_bytes(a), 0);
	mem_arena_destroy(a);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/mem");
	TCase *t = tcase_create("mem"), *a = tcase_create("arena");

	tcase_add_test(t, zeroed_and_aligned);
	tcase_add_test(t, overflow_is_refused);
	tcase_add_test(t, realloc_keeps_content);
	tcase_add_test(t, strings);
	tcase_add_test(t, aligned_blocks);
#ifndef __SANITIZE_ADDRESS__
	if (!getenv("CK_FORK"))
		tcase_add_test_raise_signal(t, write_past_aligned_block_is_caught, SIGABRT);
#endif
	suite_add_tcase(s, t);
	tcase_add_test(a, arena_counts_and_drops);
	tcase_add_test(a, blocks_of_two_arenas_mixed);
	tcase_add_test(a, nth_failure);
	tcase_add_test(a, hooks_are_of_one_thread);
	suite_add_tcase(s, a);
	return s;
}

HARNESS_MAIN(suite)
