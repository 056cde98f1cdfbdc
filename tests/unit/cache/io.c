/* SPDX-License-Identifier: Apache-2.0 */
/* What reads find, and what writes and attachments do to it: never old content. */
#include "unit/cache/world.h"

static void on_node(void (*fn)(struct env *e, void *arg))
{
	struct simw w;

	simw_begin(&w, 1, 64 * MiB);
	ck_assert(simw_run(&w, fn, NULL));
	simw_end(&w);
}

#define CACHE_TEST(name)                                        \
	static void name##_on_node(struct env *e, void *unused); \
	START_TEST(name)                                        \
	{                                                       \
		on_node(name##_on_node);                        \
	}                                                       \
	END_TEST                                                \
	static void name##_on_node(struct env *e, void *unused __attribute__((unused)))

CACHE_TEST(what_was_read_once_is_found_whole_and_in_part)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	struct cache_info i;

	expect_miss(e, v, 0, BS);
	fill(v, 0, 2 * BS, 7);
	expect(e, v, 0, BS, 7);
	expect(e, v, 4096, 4096, 7);
	expect(e, v, BS - 4096, 8192, 7);
	expect_miss(e, v, BS, 2 * BS);
	expect_miss(e, v, 2 * BS, 4096);
	i = info_of(c);
	ck_assert_uint_eq(i.hits_ram + i.hits_ssd, 3);
	ck_assert_uint_eq(i.misses, 3);
	ck_assert_uint_eq(i.fills, 2);
	ck_assert_uint_gt(i.saved_ns, 0);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(only_whole_blocks_are_taken)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);

	fill(v, 4096, 2 * BS, 7);
	expect_miss(e, v, 4096, 4096);
	expect(e, v, BS, BS, 7);
	expect_miss(e, v, 2 * BS, 4096);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(without_an_ssd_memory_alone_works)
{
	struct cache_opts o = small_opts();
	struct cache *c;
	struct cache_vol *v;

	o.path = NULL;
	c = must_open_cache(e, &o);
	v = must_attach(c, 1, 1);
	for (uint64_t b = 0; b < 100; b++)
		fill(v, b * BS, BS, (int)b);
	expect(e, v, 99 * BS, BS, 99);
	expect_miss(e, v, 0, BS);
	settle(e);
	ck_assert_uint_le(info_of(c).ram_used, o.ram);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(a_write_takes_its_range_out_until_it_is_acknowledged)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	uint8_t *p = mem_alloc_aligned(BS);
	struct cache_write w;

	fill(v, 0, 4 * BS, 7);
	memset(p, 8, BS);
	cache_write_begin(v, &w, BS, BS, 1001);
	expect_miss(e, v, BS, BS);
	expect(e, v, 0, BS, 7);
	cache_write_end(v, &w, BS, BS, p);
	expect(e, v, BS, BS, 8);
	cache_write_begin(v, &w, BS, BS, 1002);
	cache_write_end(v, &w, BS, BS, NULL); /* it failed */
	expect_miss(e, v, BS, BS);
	settle(e);
	cache_write_begin(v, &w, 2 * BS, BS, 1003); /* on the SSD by now */
	expect_miss(e, v, 2 * BS, 4096);
	cache_write_end(v, &w, 2 * BS, BS, p);
	expect(e, v, 2 * BS, BS, 8);
	expect(e, v, 3 * BS, BS, 7);
	mem_free_aligned(p);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(a_written_part_is_put_together_with_what_memory_has)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);

	fill(v, 0, 3 * BS, 7);
	write_ok(v, 4096, 4096, 8, 1001);
	expect(e, v, 0, 4096, 7);
	expect(e, v, 4096, 4096, 8);
	expect(e, v, 8192, BS - 8192, 7);
	write_ok(v, BS - 4096, BS + 8192, 9, 1002); /* end of one, all of the next, begin of the third */
	expect(e, v, 8192, 4096, 7);
	expect(e, v, BS - 4096, BS + 8192, 9);
	expect(e, v, 2 * BS + 4096, BS - 4096, 7);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(two_part_writes_at_a_time_leave_nothing_to_read)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	uint8_t *p = mem_alloc_aligned(BS);
	struct cache_write a, b;

	memset(p, 8, BS);
	for (int order = 0; order < 4; order++) {
		fill(v, 0, BS, 7);
		cache_write_begin(v, &a, 0, 4096, 1001);
		if (order == 3) { /* one after the other is fine */
			cache_write_end(v, &a, 0, 4096, p);
			cache_write_begin(v, &b, 4096, 4096, 1002);
			cache_write_end(v, &b, 4096, 4096, p);
			expect(e, v, 0, 8192, 8);
			expect(e, v, 8192, BS - 8192, 7);
			continue;
		}
		cache_write_begin(v, &b, 4096, 4096, 1002);
		cache_write_end(v, order == 1 ? &b : &a, order == 1 ? 4096 : 0, 4096, order == 2 ? NULL : p);
		expect_miss(e, v, 0, BS);
		cache_write_end(v, order == 1 ? &a : &b, order == 1 ? 0 : 4096, 4096, p);
		expect_miss(e, v, 0, BS);
	}
	mem_free_aligned(p);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(zeroes_leave_nothing)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	struct cache_write w;

	fill(v, 0, 8 * BS, 7);
	cache_write_begin(v, &w, 4096, 6 * BS, 1001);
	cache_write_end(v, &w, 4096, 6 * BS, NULL);
	for (uint64_t b = 0; b < 7; b++)
		expect_miss(e, v, b * BS, 4096);
	expect(e, v, 7 * BS, BS, 7);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(equal_blocks_take_one_place)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v[4];

	for (unsigned i = 0; i < 4; i++) {
		v[i] = must_attach(c, i + 1, 1);
		for (uint64_t b = 0; b < 10; b++)
			fill(v[i], b * BS, BS, (int)b);
		settle(e);
	}
	ck_assert_uint_eq(info_of(c).ssd_used, 10 * BS);
	ck_assert_uint_eq(info_of(c).blocks, 40);
	ck_assert_uint_eq(info_of(c).shared, 30);
	write_ok(v[2], 0, BS, 99, 1001); /* its own from now on */
	expect(e, v[0], 0, BS, 0);
	expect(e, v[2], 0, BS, 99);
	expect(e, v[3], 0, BS, 0);
	for (unsigned i = 0; i < 4; i++)
		cache_detach(v[i]);
	cache_close(c);
}

CACHE_TEST(what_was_kept_is_used_once_it_is_proven)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	struct cache_doubts d;

	fill(v, 0, 4 * BS, 7);
	settle(e);
	write_ok(v, 3 * BS, BS, 8, 1005);
	cache_detach(v);
	cache_close(c);

	c = must_open_cache(e, &o);
	v = must_attach(c, 1, 2);
	expect_miss(e, v, 0, BS);
	ck_assert_int_eq(cache_doubts(v, &d), 0);
	ck_assert_uint_eq(d.n, 3); /* the written one was in memory only */
	ck_assert_uint_eq(d.since, 1005);
	mem_free(d.blocks);
	cache_prove(v, 0, 1004);
	cache_prove(v, 1, 1005);
	cache_prove(v, 2, 1006); /* written elsewhere meanwhile */
	expect(e, v, 0, 2 * BS, 7);
	expect_miss(e, v, 2 * BS, BS);
	ck_assert_uint_eq(info_of(c).proven, 2);
	ck_assert_uint_eq(info_of(c).outdated, 1);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(a_write_before_the_proof_wins)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);

	fill(v, 0, 2 * BS, 7);
	settle(e);
	cache_detach(v);
	v = must_attach(c, 1, 2);
	write_ok(v, 0, BS, 8, 2001);
	fill(v, BS, BS, 9); /* read anew */
	prove_all(v, 0);
	cache_prove(v, 0, 0);
	cache_prove(v, 1, 0);
	expect(e, v, 0, BS, 8);
	expect(e, v, BS, BS, 9);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(stamps_from_the_future_are_not_believed)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 5);

	fill(v, 0, BS, 7);
	settle(e);
	cache_detach(v);
	v = must_attach(c, 1, 3); /* the store was put back from a copy */
	prove_all(v, 0);
	expect_miss(e, v, 0, BS);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(an_attachment_that_is_over_does_nothing_any_more)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *old = must_attach(c, 1, 1), *v;
	uint8_t *p = mem_alloc_aligned(BS);
	struct cache_write w;

	fill(old, 0, 2 * BS, 7);
	memset(p, 8, BS);
	cache_write_begin(old, &w, 0, BS, 1001);
	v = must_attach(c, 1, 2);
	fill(v, 0, BS, 9);
	cache_write_end(old, &w, 0, BS, p);
	expect(e, v, 0, BS, 9);
	fill(old, BS, BS, 10);
	expect_miss(e, old, 0, BS);
	prove_all(v, 1000);
	expect(e, v, BS, BS, 7);
	cache_detach(old);
	expect(e, v, BS, BS, 7);
	mem_free_aligned(p);
	cache_detach(v);
	cache_close(c);
}

CACHE_TEST(a_scan_does_not_drive_out_what_is_read_often)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = must_attach(c, 1, 1);
	uint64_t n = 60, kept = 0;
	uint8_t *p = mem_alloc_aligned(BS);

	for (int round = 0; round < 3; round++)
		for (uint64_t b = 0; b < n; b++) {
			if (!cached(e, v, b * BS, BS, p))
				fill(v, b * BS, BS, (int)b);
			settle(e);
		}
	for (uint64_t b = 1000; b < 1600; b++) { /* more than fits */
		fill(v, b * BS, BS, (int)(b * 7));
		if (b % 8 == 0)
			settle(e);
	}
	for (uint64_t b = 0; b < n; b++)
		kept += cached(e, v, b * BS, BS, p);
	ck_assert_uint_ge(kept, n * 9 / 10);
	mem_free_aligned(p);
	cache_detach(v);
	cache_close(c);
}

static Suite *suite(void)
{
	Suite *s = suite_create("cache_io");
	TCase *t = tcase_create("io");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_was_read_once_is_found_whole_and_in_part);
	tcase_add_test(t, only_whole_blocks_are_taken);
	tcase_add_test(t, without_an_ssd_memory_alone_works);
	tcase_add_test(t, a_write_takes_its_range_out_until_it_is_acknowledged);
	tcase_add_test(t, a_written_part_is_put_together_with_what_memory_has);
	tcase_add_test(t, two_part_writes_at_a_time_leave_nothing_to_read);
	tcase_add_test(t, zeroes_leave_nothing);
	tcase_add_test(t, equal_blocks_take_one_place);
	tcase_add_test(t, what_was_kept_is_used_once_it_is_proven);
	tcase_add_test(t, a_write_before_the_proof_wins);
	tcase_add_test(t, stamps_from_the_future_are_not_believed);
	tcase_add_test(t, an_attachment_that_is_over_does_nothing_any_more);
	tcase_add_test(t, a_scan_does_not_drive_out_what_is_read_often);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
