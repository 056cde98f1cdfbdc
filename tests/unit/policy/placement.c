/* SPDX-License-Identifier: Apache-2.0 */
/* What the placement policies that come with libhci decide. */
#include <time.h>

#include "unit/policy/pool.h"

#define SPREAD SHIPPED_PLUGINS "/placement-spread.so"
#define PACK SHIPPED_PLUGINS "/placement-pack.so"

static struct pool p;
static struct policy *spread, *pack;

static void setup(void)
{
	spread = load_or_fail(SPREAD, "");
	pack = load_or_fail(PACK, NULL);
}

static void teardown(void)
{
	policy_unref(spread);
	policy_unref(pack);
	pool_free(&p);
}

static void count(uint32_t i)
{
	p.disk[i].free -= MIN(p.disk[i].free, p.r.segment_bytes);
	p.disk[i].segments++;
	p.disk[i].volume_segments++;
}

/* A volume of n segments, counted in the snapshot as lib/cluster does. */
static void place_volume(struct policy *policy, uint32_t n)
{
	for (uint32_t seg = 0; seg < n; seg++) {
		p.r.segment = seg;
		p.r.seed = seg * UINT64_C(0x9e3779b97f4a7c15);
		ck_assert_msg(pool_place(&p, policy) == 0, "segment %u: %s", seg, p.err.message);
		for (uint32_t k = 0; k < p.r.want; k++)
			count(p.chosen[k]);
	}
}

static void most_and_least(uint64_t *most, uint64_t *least)
{
	*most = 0;
	*least = UINT64_MAX;
	for (uint32_t i = 0; i < p.s.ndisks; i++) {
		*most = MAX(*most, p.disk[i].segments);
		*least = MIN(*least, p.disk[i].segments);
	}
}

START_TEST(spread_uses_all_disks_evenly)
{
	uint64_t most, least;

	pool_make(&p, 5, 3, 1024 * GiB);
	place_volume(spread, 150);
	most_and_least(&most, &least);
	ck_assert_uint_ge(least, 19);
	ck_assert_uint_le(most, 21);
}
END_TEST

START_TEST(spread_fills_large_disks_more)
{
	pool_make(&p, 3, 1, 100 * GiB);
	p.disk[0].capacity = p.disk[0].free = 300 * GiB;
	p.r.want = 1;
	place_volume(spread, 800); /* 200 GiB of 500 */
	ck_assert_uint_ge(p.disk[0].segments, 470);
	ck_assert_uint_le(p.disk[0].segments, 490);
}
END_TEST

START_TEST(spread_puts_fill_level_before_segments)
{
	pool_make(&p, 3, 1, 100 * GiB);
	p.disk[0].free = 10 * GiB;
	p.disk[1].free = 50 * GiB;
	p.disk[1].segments = 3;
	p.disk[2].free = 52 * GiB;
	p.disk[2].segments = 100;
	ck_assert_int_eq(pool_place(&p, spread), 0);
	ck_assert_uint_eq(p.chosen[0], 2);
	ck_assert_uint_eq(p.chosen[1], 1);
	/* Less than a percent apart the segments decide, however many there are. */
	p.disk[2].free = 50 * GiB - 1;
	p.disk[1].segments = 120000;
	p.disk[2].segments = 120001;
	ck_assert_int_eq(pool_place(&p, spread), 0);
	ck_assert_uint_eq(p.chosen[0], 1);
}
END_TEST

START_TEST(copies_are_on_distinct_domains)
{
	pool_make(&p, 3, 4, 100 * GiB);
	p.r.want = 3;
	for (uint32_t seed = 0; seed < 200; seed++) {
		int seen[3] = { 0 };

		p.r.seed = seed;
		ck_assert_int_eq(pool_place(&p, seed & 1 ? spread : pack), 0);
		for (int k = 0; k < 3; k++)
			ck_assert_int_eq(seen[p.chosen[k] / 4]++, 0);
	}
	p.r.want = 4;
	ck_assert_int_eq(pool_place(&p, spread), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "usable disks are in 3 failure domains, 1 more are needed");
}
END_TEST

/* All permutations of fill levels: one pass finds what choosing the best again and again finds. */
START_TEST(one_pass_is_as_good_as_many)
{
	pool_make(&p, 4, 3, 100 * GiB);
	for (uint32_t round = 0; round < 3000; round++) {
		uint32_t x = round * 2654435761u + 12345;
		int used[4] = { 0 };

		for (int i = 0; i < 12; i++) {
			x = x * 1664525u + 1013904223u;
			p.disk[i].free = (x >> 8) % 100 * GiB + GiB;
			p.disk[i].usable = (x >> 16) % 8 != 0;
		}
		p.r.want = 1 + round % 4;
		if (pool_place(&p, spread))
			continue;
		for (uint32_t k = 0; k < p.r.want; k++) {
			uint64_t most = 0;

			for (int i = 0; i < 12; i++)
				if (p.disk[i].usable && !used[i / 3])
					most = MAX(most, p.disk[i].free);
			ck_assert_uint_eq(p.disk[p.chosen[k]].free, most);
			used[p.chosen[k] / 3] = 1;
		}
	}
}
END_TEST

START_TEST(kept_copies_keep_their_domain)
{
	uint32_t keep[] = { 0, 3 };

	pool_make(&p, 3, 2, 100 * GiB);
	p.disk[4].free = p.disk[5].free = GiB;
	p.r.purpose = HCI_PLACE_REBUILD;
	p.r.want = 1;
	p.r.keep = keep;
	p.r.nkeep = 2;
	for (int k = 0; k < 2; k++) {
		ck_assert_int_eq(pool_place(&p, k ? spread : pack), 0);
		ck_assert_uint_ge(p.chosen[0], 4);
	}
	unusable(&p.disk[4], "the disk is failed");
	unusable(&p.disk[5], "the disk is failed");
	ck_assert_int_eq(pool_place(&p, spread), HCI_E_NOPLACE);
	ck_assert_has(p.err.message,
		      "(4 x its failure domain has a copy already, 2 x the disk is failed)");
}
END_TEST

START_TEST(rebuilds_prefer_spares)
{
	pool_make(&p, 3, 2, 100 * GiB);
	p.disk[3].role = HCI_DISK_SPARE;
	p.disk[3].free = 5 * GiB; /* fuller than the others */
	p.r.purpose = HCI_PLACE_REBUILD;
	for (int k = 0; k < 2; k++) {
		ck_assert_int_eq(pool_place(&p, k ? spread : pack), 0);
		ck_assert_uint_eq(p.chosen[0], 3);
		ck_assert_uint_ne(p.chosen[1] / 2, 1);
	}
	p.disk[3].free = 0;
	ck_assert_int_eq(pool_place(&p, spread), 0);
	ck_assert_uint_ne(p.chosen[0], 3);
	/* For a new segment a spare is like others: the host marks it as unusable. */
	p.disk[3].free = 90 * GiB;
	p.r.purpose = HCI_PLACE_NEW;
	ck_assert_int_eq(pool_place(&p, spread), 0);
	ck_assert(p.chosen[0] != 3 && p.chosen[1] != 3);
}
END_TEST

START_TEST(pack_fills_the_fullest_that_fit)
{
	pool_make(&p, 4, 1, 100 * GiB);
	p.disk[0].free = 20 * GiB;
	p.disk[1].free = SEGMENT - 1; /* a segment does not fit */
	p.disk[2].free = SEGMENT;
	p.disk[3].free = 90 * GiB;
	ck_assert_int_eq(pool_place(&p, pack), 0);
	ck_assert_uint_eq(p.chosen[0], 2);
	ck_assert_uint_eq(p.chosen[1], 0);
	/* Spread takes what there is: volumes are thin. */
	p.r.want = 4;
	ck_assert_int_eq(pool_place(&p, spread), 0);
	ck_assert_uint_eq(p.chosen[3], 1);
	ck_assert_int_eq(pool_place(&p, pack), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "1 x it has less room than a segment");
}
END_TEST

START_TEST(pack_leaves_disks_empty)
{
	uint32_t empty = 0;

	pool_make(&p, 4, 4, 100 * GiB);
	place_volume(pack,
		     500); /* 2 x 125 GiB: two disks would do, one on each of two nodes, twice */
	for (uint32_t i = 0; i < p.s.ndisks; i++)
		empty += !p.disk[i].segments;
	ck_assert_uint_ge(empty, 12);
}
END_TEST

START_TEST(odd_disks_are_no_trouble)
{
	pool_make(&p, 4, 1, 100 * GiB);
	p.disk[0].capacity = 0;      /* not known yet */
	p.disk[1].free = UINT64_MAX; /* more than there is */
	p.disk[2].capacity = UINT64_MAX;
	p.disk[2].free = UINT64_MAX / 2;
	p.disk[3].segments = p.disk[2].segments = UINT64_MAX;
	for (int k = 0; k < 2; k++) {
		p.r.want = 3;
		ck_assert_int_eq(pool_place(&p, k ? spread : pack), 0);
		p.r.want = 4;
		ck_assert_int_eq(pool_place(&p, k ? spread : pack), HCI_E_NOPLACE);
		ck_assert_has(p.err.message, "1 x its size is not known yet");
	}
}
END_TEST

START_TEST(an_older_host_is_refused_not_misread)
{
	pool_make(&p, 2, 1, 100 * GiB);
	p.s.disk_stride = offsetof(struct hci_placement_disk, segments);
	ck_assert_int_eq(pool_place(&p, spread), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "too old");
}
END_TEST

START_TEST(every_disk_gets_a_reason)
{
	static char reasons[6][256];
	static double scores[6];

	pool_make(&p, 3, 2, 100 * GiB);
	unusable(&p.disk[0], "node node0 is down");
	unusable(&p.disk[1], "");
	p.disk[2].free = 0;
	ck_assert_int_eq(policy_place(spread, &p.s, &p.r, p.chosen, 2, reasons, scores, &p.err), 0);
	ck_assert_str_eq(reasons[0], "node node0 is down");
	ck_assert_str_eq(reasons[1], "not usable");
	ck_assert_str_eq(reasons[2], "it is full");
	for (int i = 3; i < 6; i++)
		ck_assert(!strncmp(reasons[i], "chosen as copy ", 15) ||
			  !strcmp(reasons[i], "a better disk of its failure domain was chosen"));
	ck_assert(!strncmp(reasons[p.chosen[0]], "chosen as copy 1", 16));
	ck_assert(!strncmp(reasons[p.chosen[1]], "chosen as copy 2", 16));
	p.r.want = 1;
	ck_assert_int_eq(policy_place(pack, &p.s, &p.r, p.chosen, 1, reasons, scores, &p.err), 0);
	ck_assert_str_eq(reasons[p.chosen[0] < 4 ? 5 : 3], "others have a better score");
}
END_TEST

/* ---- determinism ---- */

static void chosen_uuids(struct policy *policy, char out[3][HCI_UUID_STR])
{
	ck_assert_int_eq(pool_place(&p, policy), 0);
	for (uint32_t k = 0; k < p.r.want; k++)
		strcpy(out[k], p.disk[p.chosen[k]].uuid);
}

START_TEST(equal_input_gives_equal_output)
{
	char first[3][HCI_UUID_STR], again[3][HCI_UUID_STR];
	struct policy *other = load_or_fail(SPREAD, "");
	uint32_t distinct = 0, last = 99;

	pool_make(&p, 20, 2, 100 * GiB);
	p.r.want = 3;
	for (uint64_t seed = 0; seed < 100; seed++) {
		p.r.seed = seed;
		chosen_uuids(spread, first);
		chosen_uuids(other, again); /* another instance, as on another node */
		ck_assert_mem_eq(first, again, sizeof(first));
		/* Another order of the same disks. */
		for (uint32_t i = 0, k = 39; i < k; i++, k--) {
			struct hci_placement_disk d = p.disk[i];

			p.disk[i] = p.disk[k];
			p.disk[k] = d;
		}
		chosen_uuids(spread, again);
		ck_assert_mem_eq(first, again, sizeof(first));
		distinct += p.chosen[0] != last;
		last = p.chosen[0];
	}
	/* And the seed does decide among equals. */
	ck_assert_uint_ge(distinct, 80);
	policy_unref(other);
}
END_TEST

START_TEST(forty_thousand_segments_on_a_thousand_disks)
{
	struct timespec a, b;
	uint64_t most, least;
	double s;

	pool_make(&p, 100, 10, 4096 * GiB);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	place_volume(spread, 40000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("40,000 segments in 2 copies on 1,000 disks: %.3f s\n", s);
	most_and_least(&most, &least);
	ck_assert_uint_ge(least, 78);
	ck_assert_uint_le(most, 82);
#ifndef SLOW_BUILD
	ck_assert_msg(s < 20.0, "it took %.3f s", s);
#endif
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("policy_placement");
	TCase *t = tcase_create("placement");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, spread_uses_all_disks_evenly);
	tcase_add_test(t, spread_fills_large_disks_more);
	tcase_add_test(t, spread_puts_fill_level_before_segments);
	tcase_add_test(t, copies_are_on_distinct_domains);
	tcase_add_test(t, one_pass_is_as_good_as_many);
	tcase_add_test(t, kept_copies_keep_their_domain);
	tcase_add_test(t, rebuilds_prefer_spares);
	tcase_add_test(t, pack_fills_the_fullest_that_fit);
	tcase_add_test(t, pack_leaves_disks_empty);
	tcase_add_test(t, odd_disks_are_no_trouble);
	tcase_add_test(t, an_older_host_is_refused_not_misread);
	tcase_add_test(t, every_disk_gets_a_reason);
	tcase_add_test(t, equal_input_gives_equal_output);
	suite_add_tcase(s, t);
	t = tcase_create("large");
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, forty_thousand_segments_on_a_thousand_disks);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
