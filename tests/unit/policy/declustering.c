/* SPDX-License-Identifier: Apache-2.0 */
/* What chained and copyset are there for: how the load of a dead node spreads, how seldom several lost disks are all copies. */
#include <time.h>

#include "unit/policy/pool.h"

#define SPREAD SHIPPED_PLUGINS "/placement-spread.so"
#define CHAINED SHIPPED_PLUGINS "/placement-chained.so"
#define COPYSET SHIPPED_PLUGINS "/placement-copyset.so"
#define SEGMENTS_MAX 40000u

static struct pool p;
static struct policy *spread, *chained, *copyset;
static uint32_t (*map)[5];

static void setup(void)
{
	spread = load_or_fail(SPREAD, "");
	chained = load_or_fail(CHAINED, "");
	copyset = load_or_fail(COPYSET, "");
	map = calloc(SEGMENTS_MAX, sizeof(*map));
	ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
	policy_unref(spread);
	policy_unref(chained);
	policy_unref(copyset);
	pool_free(&p);
	free(map);
}

/* A volume of n segments, counted in the snapshot as lib/cluster does. */
static void place_volume(struct policy *policy, uint32_t n, uint32_t replicas)
{
	strcpy(p.r.volume, "12345678-0000-4000-8000-000000000000");
	p.r.want = p.r.replicas = replicas;
	for (uint32_t seg = 0; seg < n; seg++) {
		p.r.segment = seg;
		p.r.seed = (seg + 1) * UINT64_C(0x9e3779b97f4a7c15);
		ck_assert_msg(pool_place(&p, policy) == 0, "segment %u: %s", seg, p.err.message);
		for (uint32_t k = 0; k < replicas; k++) {
			struct hci_placement_disk *d = &p.disk[p.chosen[k]];

			map[seg][k] = p.chosen[k];
			d->free -= MIN(d->free, p.r.segment_bytes);
			d->segments++;
			d->volume_segments++;
		}
	}
}

/*
 * Every segment gets 64 reads, each to the copy whose node has had fewer: what choosing the shorter queue comes to. The
 * load of the busiest node, as a multiple of the load of each when all are well.
 */
static double busiest(uint32_t n, uint32_t nodes, uint32_t disks_each, uint32_t dead)
{
	uint32_t load[64] = { 0 }, most = 0;

	for (uint32_t read = 0; read < 64; read++) {
		for (uint32_t seg = 0; seg < n; seg++) {
			uint32_t a = map[seg][0] / disks_each, b = map[seg][1] / disks_each;

			if (a == dead || b == dead)
				load[a == dead ? b : a]++;
			else
				load[load[a] <= load[b] ? a : b]++;
		}
	}
	for (uint32_t i = 0; i < nodes; i++)
		most = MAX(most, load[i]);
	return (double)most / (64.0 * n / nodes);
}

START_TEST(a_dead_nodes_load_goes_round_the_ring)
{
	double worst = 0;

	pool_make(&p, 8, 2, 100 * GiB);
	place_volume(chained, 160, 2);
	for (uint32_t i = 0; i < p.s.ndisks; i++)
		ck_assert_uint_eq(p.disk[i].segments, 20);
	for (uint32_t seg = 0; seg < 160; seg++)
		ck_assert_uint_eq(map[seg][1] / 2, (map[seg][0] / 2 + 1) % 8);
	for (uint32_t dead = 0; dead < 8; dead++) {
		double b = busiest(160, 8, 2, dead);

		worst = b > worst ? b : worst;
	}
	printf("one of 8 nodes gone: the busiest of 7 has %.3f of its load before (8/7 = %.3f)\n", worst, 8.0 / 7);
	ck_assert(worst < 1.18);
	/* With mirrored pairs it would be two. */
	for (uint32_t seg = 0; seg < 160; seg++) {
		map[seg][0] = seg % 8 * 2;
		map[seg][1] = (seg % 8 ^ 1) * 2;
	}
	ck_assert(busiest(160, 8, 2, 3) > 1.9);
}
END_TEST

START_TEST(a_chain_passes_over_what_cannot_take_a_copy)
{
	pool_make(&p, 5, 1, 100 * GiB);
	unusable(&p.disk[2], "node node2 is down");
	place_volume(chained, 100, 3);
	ck_assert_uint_eq(p.disk[2].segments, 0);
	/* The others keep their places: who is first there is the same with and without the gap. */
	for (uint32_t seg = 0; seg < 100; seg++) {
		uint32_t first = map[seg][0];

		if (map[(seg + 1) % 100][0] != first && seg < 99)
			ck_assert(map[seg + 1][0] == (first + 1) % 5 || (first == 1 && map[seg + 1][0] == 3));
	}
	p.r.want = p.r.replicas = 5;
	ck_assert_int_eq(pool_place(&p, chained), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "usable disks are in 4 failure domains, 1 more are needed");
}
END_TEST

START_TEST(one_more_copy_goes_behind_the_others)
{
	pool_make(&p, 6, 1, 100 * GiB);
	place_volume(chained, 12, 2);
	for (uint32_t seg = 0; seg < 12; seg++) {
		p.r.segment = seg;
		p.r.want = 1;
		p.r.replicas = 3;
		p.r.keep = map[seg];
		p.r.nkeep = 2;
		ck_assert_int_eq(pool_place(&p, chained), 0);
		ck_assert_uint_eq(p.chosen[0], (map[seg][1] + 1) % 6);
	}
	/* What is lost goes to a spare. */
	p.disk[4].role = HCI_DISK_SPARE;
	p.r.purpose = HCI_PLACE_REBUILD;
	p.r.keep = map[0];
	p.r.nkeep = 1;
	ck_assert_int_eq(pool_place(&p, chained), 0);
	if (map[0][0] != 4)
		ck_assert_uint_eq(p.chosen[0], 4);
}
END_TEST

/* ---- copysets ---- */

static bool has(const uint32_t *set, uint32_t n, uint32_t disk)
{
	for (uint32_t k = 0; k < n; k++)
		if (set[k] == disk)
			return true;
	return false;
}

/* Of so many losses of n disks on distinct nodes at once, the part that takes all copies of some segment. */
static double lossy(uint32_t nseg, uint32_t replicas, uint32_t n, uint32_t trials)
{
	uint64_t x = 88172645463325252;
	uint32_t lost = 0;

	for (uint32_t t = 0; t < trials; t++) {
		uint32_t dead[8];
		bool hit = false;

		for (uint32_t k = 0; k < n;) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			dead[k] = (uint32_t)(x % p.s.ndisks);
			k += !has(dead, k, dead[k]);
		}
		for (uint32_t seg = 0; seg < nseg && !hit; seg++) {
			hit = true;
			for (uint32_t k = 0; k < replicas && hit; k++)
				hit = has(dead, n, map[seg][k]);
		}
		lost += hit;
	}
	return (double)lost / trials;
}

static uint32_t partners(uint32_t nseg, uint32_t replicas, uint32_t disk)
{
	bool with[4096] = { 0 };
	uint32_t n = 0;

	for (uint32_t seg = 0; seg < nseg; seg++)
		for (uint32_t k = 0; k < replicas && has(map[seg], replicas, disk); k++)
			with[map[seg][k]] = true;
	for (uint32_t i = 0; i < p.s.ndisks; i++)
		n += with[i] && i != disk;
	return n;
}

START_TEST(several_disks_lost_at_once_seldom_hold_all_copies)
{
	double with_spread, with_copyset;
	uint64_t most = 0, least = UINT64_MAX;

	pool_make(&p, 30, 2, 4096 * GiB);
	place_volume(spread, 8000, 3);
	with_spread = lossy(8000, 3, 3, 4000);
	pool_free(&p);
	pool_make(&p, 30, 2, 4096 * GiB);
	place_volume(copyset, 8000, 3);
	with_copyset = lossy(8000, 3, 3, 4000);
	printf("3 of 60 disks lost at once take all copies of a segment: spread %.4f, copyset %.4f\n", with_spread, with_copyset);
	ck_assert(with_spread > 0.1);
	ck_assert(with_copyset < with_spread / 20);
	for (uint32_t i = 0; i < p.s.ndisks; i++) {
		most = MAX(most, p.disk[i].segments);
		least = MIN(least, p.disk[i].segments);
		/* Twice the other copies, as the page says. */
		ck_assert_uint_eq(partners(8000, 3, i), 4);
	}
	ck_assert_uint_ge(least, 390);
	ck_assert_uint_le(most, 410);
}
END_TEST

START_TEST(the_scatter_width_is_settable)
{
	static const struct {
		const char *config;
		uint32_t least, most;
	} want[] = { { "scatter=2", 2, 2 }, { "scatter=6", 6, 6 }, { "scatter=7", 8, 8 } };
	struct hci_error err;
	struct policy *x;

	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		x = load_or_fail(COPYSET, want[i].config);
		pool_free(&p);
		pool_make(&p, 30, 1, 4096 * GiB);
		place_volume(x, 3000, 3);
		for (uint32_t d = 0; d < p.s.ndisks; d++) {
			ck_assert_uint_ge(partners(3000, 3, d), want[i].least);
			ck_assert_uint_le(partners(3000, 3, d), want[i].most);
		}
		policy_unref(x);
	}
	ck_assert_int_eq(policy_load("p", COPYSET, "scatter=0", NULL, &x, &err), HCI_E_PLUGIN);
	ck_assert_has(err.message, "scatter=N");
	ck_assert_int_eq(policy_load("p", COPYSET, "width=3", NULL, &x, &err), HCI_E_PLUGIN);
}
END_TEST

START_TEST(a_replaced_copy_makes_no_new_partners)
{
	uint32_t keep[2], before;

	pool_make(&p, 12, 1, 4096 * GiB);
	place_volume(copyset, 600, 3);
	p.r.purpose = HCI_PLACE_REBUILD;
	for (uint32_t seg = 0; seg < 600; seg++) {
		keep[0] = map[seg][0];
		keep[1] = map[seg][1];
		before = partners(600, 3, keep[0]);
		unusable(&p.disk[map[seg][2]], "it failed");
		p.r.want = 1;
		p.r.keep = keep;
		p.r.nkeep = 2;
		ck_assert_int_eq(pool_place(&p, copyset), 0);
		p.disk[map[seg][2]].usable = 1;
		map[seg][2] = p.chosen[0];
		ck_assert_uint_le(partners(600, 3, keep[0]), before + 2);
	}
	/* A spare takes the place of what was lost: the same one for the same copies. */
	p.disk[10].role = p.disk[11].role = HCI_DISK_SPARE;
	keep[0] = 0;
	keep[1] = 1;
	p.r.seed = 1;
	ck_assert_int_eq(pool_place(&p, copyset), 0);
	ck_assert_uint_ge(p.chosen[0], 10);
	before = p.chosen[0];
	p.r.seed = 77;
	ck_assert_int_eq(pool_place(&p, copyset), 0);
	ck_assert_uint_eq(p.chosen[0], before);
}
END_TEST

START_TEST(without_a_whole_group_there_is_a_place_still)
{
	pool_make(&p, 6, 1, 100 * GiB);
	/* Whatever the groups of three are: one usable disk in each half is too few for any two of them. */
	unusable(&p.disk[0], "it failed");
	unusable(&p.disk[3], "it failed");
	unusable(&p.disk[1], "it failed");
	place_volume(copyset, 60, 3);
	unusable(&p.disk[2], "it failed");
	ck_assert_int_eq(pool_place(&p, copyset), HCI_E_NOPLACE);
}
END_TEST

/* ---- as all policies ---- */

START_TEST(equal_input_gives_equal_output)
{
	for (int which = 0; which < 2; which++) {
		struct policy *pol = which ? copyset : chained, *other = load_or_fail(which ? COPYSET : CHAINED, "");
		char first[3][HCI_UUID_STR];

		pool_free(&p);
		pool_make(&p, 9, 3, 100 * GiB);
		strcpy(p.r.volume, "abcdef00-0000-4000-8000-000000000000");
		p.r.want = p.r.replicas = 3;
		for (uint32_t seg = 0; seg < 100; seg++) {
			p.r.segment = p.r.seed = seg;
			ck_assert_int_eq(pool_place(&p, pol), 0);
			for (int k = 0; k < 3; k++)
				strcpy(first[k], p.disk[p.chosen[k]].uuid);
			for (uint32_t i = 0, k = p.s.ndisks - 1; i < k; i++, k--) {
				struct hci_placement_disk d = p.disk[i];

				p.disk[i] = p.disk[k];
				p.disk[k] = d;
			}
			ck_assert_int_eq(pool_place(&p, other), 0);
			for (int k = 0; k < 3; k++)
				ck_assert_str_eq(first[k], p.disk[p.chosen[k]].uuid);
		}
		policy_unref(other);
	}
}
END_TEST

START_TEST(every_disk_gets_a_reason)
{
	static char reasons[8][256];
	static double scores[8];

	for (int which = 0; which < 2; which++) {
		pool_free(&p);
		pool_make(&p, 4, 2, 100 * GiB);
		unusable(&p.disk[0], "node node0 is down");
		ck_assert_int_eq(policy_place(which ? copyset : chained, &p.s, &p.r, p.chosen, 2, reasons, scores, &p.err), 0);
		ck_assert_str_eq(reasons[0], "node node0 is down");
		for (int i = 1; i < 8; i++)
			ck_assert_uint_gt(strlen(reasons[i]), 5);
		ck_assert(!strncmp(reasons[p.chosen[0]], "chosen as copy 1", 16));
	}
}
END_TEST

START_TEST(a_thousand_disks_are_no_trouble)
{
	for (int which = 0; which < 2; which++) {
		struct timespec a, b;
		double s;

		pool_free(&p);
		pool_make(&p, 100, 10, 4096 * GiB);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
		place_volume(which ? copyset : chained, 10000, 3);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
		s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
		printf("%s: 10,000 segments in 3 copies on 1,000 disks: %.3f s\n", which ? "copyset" : "chained", s);
		ck_assert(s < 20);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("policy_declustering");
	TCase *t = tcase_create("declustering");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_dead_nodes_load_goes_round_the_ring);
	tcase_add_test(t, a_chain_passes_over_what_cannot_take_a_copy);
	tcase_add_test(t, one_more_copy_goes_behind_the_others);
	tcase_add_test(t, several_disks_lost_at_once_seldom_hold_all_copies);
	tcase_add_test(t, the_scatter_width_is_settable);
	tcase_add_test(t, a_replaced_copy_makes_no_new_partners);
	tcase_add_test(t, without_a_whole_group_there_is_a_place_still);
	tcase_add_test(t, equal_input_gives_equal_output);
	tcase_add_test(t, every_disk_gets_a_reason);
	tcase_add_test(t, a_thousand_disks_are_no_trouble);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
