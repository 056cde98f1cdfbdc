/* SPDX-License-Identifier: Apache-2.0 */
/* The index and who leaves it, without I/O. */
#include "cache/tab.h"

#include "unit/harness.h"

static struct tab t;

static void setup(void)
{
	ck_assert(tab_init(&t, 64, 128, 16));
	tab_maps_free(&t);
	tab_slots_free(&t);
}

static void teardown(void)
{
	tab_fini(&t);
}

/* In memory, with one address. */
static uint32_t in_ram(uint64_t block)
{
	uint32_t k = tab_chunk_new(&t);

	ck_assert_uint_ne(tab_map_add(&t, 1, block, k), TAB_NONE);
	policy_ram_in(&t, k);
	return k;
}

START_TEST(an_address_is_found_until_it_is_taken_out)
{
	uint32_t k = tab_chunk_new(&t), m[100];

	for (uint64_t b = 0; b < 100; b++)
		m[b] = tab_map_add(&t, (uint16_t)(b % 3), b / 3, k);
	for (uint64_t b = 0; b < 100; b++)
		ck_assert_uint_eq(tab_map_find(&t, (uint16_t)(b % 3), b / 3), m[b]);
	for (uint64_t b = 0; b < 100; b += 2)
		tab_map_del(&t, m[b]);
	for (uint64_t b = 0; b < 100; b++)
		ck_assert_uint_eq(tab_map_find(&t, (uint16_t)(b % 3), b / 3), b % 2 ? m[b] : TAB_NONE);
	ck_assert_uint_eq(t.maps_used, 50);
	for (uint64_t b = 1; b < 100; b += 2)
		tab_map_del(&t, m[b]);
	ck_assert_uint_eq(t.chunks[k].maps, TAB_NONE);
}
END_TEST

START_TEST(memory_goes_first_in_first_out_but_spares_what_was_read_again)
{
	uint32_t a = in_ram(1), b = in_ram(2), c = in_ram(3);

	ck_assert(!policy_hit(&t, a, 1));
	ck_assert(policy_hit(&t, a, 1));
	ck_assert_uint_eq(policy_ram_victim(&t), b);
	policy_ram_out(&t, b);
	ck_assert_uint_eq(policy_ram_victim(&t), c);
	policy_ram_out(&t, c);
	ck_assert_uint_eq(policy_ram_victim(&t), a); /* spared once */
}
END_TEST

START_TEST(reading_a_block_part_by_part_is_reading_it_once)
{
	uint32_t a = in_ram(1);

	for (int i = 0; i < 16; i++)
		ck_assert(!policy_hit(&t, a, (uint16_t)(1 << i)));
	ck_assert_uint_eq(t.chunks[a].freq, 0);
	ck_assert(policy_hit(&t, a, 1 << 3));
	ck_assert_uint_eq(t.chunks[a].freq, 1);
}
END_TEST

START_TEST(what_is_needed_does_not_go)
{
	uint32_t a = in_ram(1), b = in_ram(2);

	t.chunks[a].pins = 1;
	t.chunks[b].flags |= CH_WRITING;
	ck_assert_uint_eq(policy_ram_victim(&t), TAB_NONE);
	policy_main_in(&t, a);
	policy_main_in(&t, b);
	ck_assert_uint_eq(policy_main_victim(&t), TAB_NONE);
	t.chunks[a].pins = 0;
	ck_assert_uint_eq(policy_ram_victim(&t), a);
	ck_assert_uint_eq(policy_main_victim(&t), a);
}
END_TEST

START_TEST(the_ssd_keeps_longer_what_is_read_more_often)
{
	uint32_t a = in_ram(1), b = in_ram(2);

	policy_main_in(&t, a);
	policy_main_in(&t, b);
	t.chunks[a].freq = 2;
	t.chunks[b].freq = 1;
	ck_assert_uint_eq(policy_main_victim(&t), b);
	ck_assert_uint_eq(t.chunks[a].freq, 0); /* looked at twice on the way */
}
END_TEST

START_TEST(the_ghost_remembers_as_many_as_the_ssd_holds)
{
	policy_ghost_add(&t, 1, 5);
	ck_assert(!policy_ghost_take(&t, 2, 5));
	ck_assert(policy_ghost_take(&t, 1, 5));
	ck_assert(!policy_ghost_take(&t, 1, 5));
	policy_ghost_add(&t, 1, 5);
	for (uint64_t b = 100; b < 165; b++)
		policy_ghost_add(&t, 1, b);
	ck_assert(!policy_ghost_take(&t, 1, 5));
}
END_TEST

START_TEST(slots_come_back)
{
	uint32_t k = tab_chunk_new(&t), s = tab_slot_new(&t, k);

	ck_assert_uint_eq(t.slots_free, 63);
	ck_assert_uint_eq(t.chunks[k].slot, s);
	t.chunks[k].fp = 42;
	tab_fp_add(&t, k);
	ck_assert_uint_eq(tab_fp_find(&t, 42), k);
	tab_chunk_del(&t, k);
	ck_assert_uint_eq(tab_fp_find(&t, 42), TAB_NONE);
	ck_assert_uint_eq(t.slots_free, 64);
	for (int i = 0; i < 64; i++)
		ck_assert_uint_ne(tab_slot_new(&t, tab_chunk_new(&t)), TAB_NONE);
	ck_assert_uint_eq(tab_slot_new(&t, tab_chunk_new(&t)), TAB_NONE);
}
END_TEST

START_TEST(no_memory_is_told)
{
	FOR_EACH_ALLOC_FAILURE(n) {
		struct tab x;

		if (tab_init(&x, 64, 128, 16))
			tab_fini(&x);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_policy");
	TCase *c = tcase_create("policy");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, an_address_is_found_until_it_is_taken_out);
	tcase_add_test(c, memory_goes_first_in_first_out_but_spares_what_was_read_again);
	tcase_add_test(c, reading_a_block_part_by_part_is_reading_it_once);
	tcase_add_test(c, what_is_needed_does_not_go);
	tcase_add_test(c, the_ssd_keeps_longer_what_is_read_more_often);
	tcase_add_test(c, the_ghost_remembers_as_many_as_the_ssd_holds);
	tcase_add_test(c, slots_come_back);
	tcase_add_test(c, no_memory_is_told);
	suite_add_tcase(s, c);
	return s;
}

HARNESS_MAIN(suite)
