/* SPDX-License-Identifier: Apache-2.0 */
/* A node comes to the cluster: also where the store's answers take nearly as long as a node may be silent. */
#include <stdio.h>

#include "cluster/node.h"
#include "unit/cluster/alone.h"

struct world {
	struct alone a;
	uint64_t worst;
};

static void join_fiber(void *arg)
{
	struct world *w = arg;
	struct core_opts co = { .env = w->a.e, .self = "a" };
	struct node_opts no = { .name = "a", .listen = "tcp:a:7400", .no_repair = true, .heartbeat_ns = 50 * NS_PER_MS };
	struct rec_cluster cl = { .format = REC_VERSION, .name = "c", .uuid = { .b = { 1 } } };
	struct hci_error err;
	struct core *c;
	struct node *n;

	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &co.store), 0);
	ck_assert_int_eq(rec_cluster_put(co.store, KEY_CLUSTER, &cl, 0, 0, NULL, &err), 0);
	ck_assert_msg(!core_open(&co, &c, &err), "%s", err.message);
	simstore_latency(w->a.ss, NS_PER_MS, w->worst); /* each way */
	ck_assert_msg(!node_start(c, &no, &n, &err), "%s", err.message);
	simstore_latency(w->a.ss, NS_PER_MS, NS_PER_MS);
	for (unsigned i = 0; i < 1000 && !core_alive(c, "a"); i++)
		fiber_sleep(w->a.e, 10 * NS_PER_MS);
	ck_assert(core_alive(c, "a"));
	node_stop(n);
	core_close(c);
	store_close(co.store);
}

/* The lease of 150 ms may be over when what is to hang on it arrives: then there is a new one. */
START_TEST(a_slow_store_keeps_nobody_away)
{
	struct world w = { .worst = 150 * NS_PER_MS };

	for (uint64_t seed = 1; seed <= 50; seed++)
		alone_run(&w.a, seed, join_fiber, &w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cluster_join");
	TCase *tc = tcase_create("join");

	tcase_add_test(tc, a_slow_store_keeps_nobody_away);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
