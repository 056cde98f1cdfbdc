/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two move the metadata to the same place at the same time. Whatever the order in which they get at the two stores: never can
 * both be opened, never one that has not all, and who is told that it was moved finds it there.
 */
#include "base/mem.h"
#include "env/fiber.h"
#include "env/sim.h"
#include "store/records.h"
#include "store/store_move.h"
#include "unit/cluster/alone.h"

#define KEYS 250
#define FROM "sim:a"
#define TO "sim:b"

struct world {
	struct alone al;
	struct simstore *ss[2];
	uint64_t delay;
	int second;
	bool ended;
};

static int move(struct world *w)
{
	struct store_move m = { .from_url = FROM, .to_url = TO };
	int rc;

	ck_assert_int_eq(simstore_open(w->ss[0], w->al.e, &m.from), 0);
	ck_assert_int_eq(simstore_open(w->ss[1], w->al.e, &m.to), 0);
	rc = store_move(&m, NULL);
	store_close(m.from);
	store_close(m.to);
	return rc;
}

static void second_main(void *arg)
{
	struct world *w = arg;

	fiber_sleep(w->al.e, w->delay);
	w->second = move(w);
	w->ended = true;
}

static void fill(struct store *s)
{
	struct rec_cluster c = { .name = "lab", .format = 1, .uuid.b = { 7 } };
	char key[32];

	ck_assert_int_eq(rec_cluster_put(s, KEY_CLUSTER, &c, 0, 0, NULL, NULL), 0);
	for (unsigned i = 0; i < KEYS; i++) {
		struct store_op op = { STORE_PUT, key, key, 12, 0 };

		snprintf(key, sizeof(key), "volmap/%05u", i);
		ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, NULL), 0);
	}
}

/* At once: while it is asked nobody goes on. */
static bool usable(const struct simstore *s)
{
	uint32_t n;

	return simstore_peek(s, KEY_CLUSTER, &n) && !simstore_peek(s, KEY_MOVED, &n) && !simstore_peek(s, KEY_COPYING, &n);
}

static bool has_all(const struct simstore *s)
{
	char key[32];
	uint32_t n;

	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "volmap/%05u", i);
		if (!simstore_peek(s, key, &n))
			return false;
	}
	return true;
}

static void check(struct world *w, int first, int second)
{
	bool a = usable(w->ss[0]), b = usable(w->ss[1]);

	ck_assert_msg(!a || !b, "both are the cluster's store (%d, %d; %llu ns)", first, second, (unsigned long long)w->delay);
	ck_assert_msg(!b || has_all(w->ss[1]), "it lacks keys (%d, %d; %llu ns)", first, second, (unsigned long long)w->delay);
	ck_assert_msg(b || (first && second), "it was said to be moved (%d, %d; %llu ns)", first, second, (unsigned long long)w->delay);
}

static void test_fiber(void *arg)
{
	struct world *w = arg;
	struct store *a;
	int first;

	w->ss[0] = w->al.ss;
	w->ss[1] = simstore_new(w->al.sim);
	ck_assert_int_eq(simstore_open(w->ss[0], w->al.e, &a), 0);
	fill(a);
	ck_assert_int_eq(fiber_spawn(w->al.e, second_main, w, "second"), 0);
	first = move(w);
	check(w, first, HCI_E_BUSY);
	while (!w->ended)
		fiber_sleep(w->al.e, NS_PER_MS);
	check(w, first, w->second);
	/* And if both gave up it can be begun again. */
	if (!usable(w->ss[1]))
		ck_assert_int_eq(move(w), 0);
	check(w, 0, 0);
	store_close(a);
	simstore_free(w->ss[1]);
}

START_TEST(one_of_two_counts)
{
	for (uint64_t seed = 0; seed < 1000; seed++) {
		struct world w = { .delay = seed * 100 * NS_PER_US };

		alone_run(&w.al, seed, test_fiber, &w);
	}
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/move twice");
	TCase *tc = tcase_create("move");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, one_of_two_counts);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(make_suite)
