/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes need a repair, asked of a store that does not always answer: what is not known is not "none". */
#include "base/mem.h"
#include "cluster/node_repair.h"
#include "unit/cluster/alone.h"

#define ASKED 200u

enum why { OUT, JOINING, MOVE, WHYS };

struct world {
	struct alone a;
	struct node n;
	enum why why;
	unsigned yes, unknown;
};

static const struct uuid vol = { .b = { 1 } }, disk = { .b = { 2 } };

#define PUT(type, key, rec) ck_assert_int_eq(rec_##type##_put(s, key, rec, 0, 0, NULL, NULL), 0)

static void put_records(struct world *w, struct store *s, struct rec_volume *v)
{
	struct rec_cluster c = { .format = REC_VERSION, .name = "c" };
	struct rec_volsync *sync = MEM_NEW(struct rec_volsync);
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct store_op op = { STORE_PUT, NULL, "x", 1, 0 };
	char key[REC_KEY];

	*v = (struct rec_volume){ .uuid = vol, .name = "v", .pool = "p", .size = MiB, .segment_size = MiB, .replicas = 1,
				  .state = REC_VOLUME_READY };
	PUT(cluster, KEY_CLUSTER, &c);
	sync->generation = 1;
	sync->n = w->why == OUT;
	sync->out[0].disk = disk;
	key_volsync(key, &vol);
	PUT(volsync, key, sync);
	m->n = m->seg[0].n = 1;
	m->seg[0].r[0].disk = disk;
	m->seg[0].r[0].joining = w->why == JOINING;
	key_volmap(key, &vol, 0);
	PUT(volmap, key, m);
	key_volmove(key, &vol);
	op.key = key;
	if (w->why == MOVE)
		ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, NULL), 0);
	mem_free(sync);
	mem_free(m);
}

static void test_fiber(void *arg)
{
	struct world *w = arg;
	struct core_opts o = { .env = w->a.e, .self = "a" };
	struct hci_error err;
	struct rec_volume v;
	unsigned left;

	w->n.e = w->a.e;
	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &o.store), 0);
	put_records(w, o.store, &v);
	ck_assert_msg(!core_open(&o, &w->n.core, &err), "%s", err.message);
	store_set_timeout(o.store, 20 * NS_PER_MS);
	simstore_loss(w->a.ss, 200, 200);
	for (unsigned i = 0; i < ASKED; i++) {
		int need = repair_needed(&w->n, &v, false, &left);

		ck_assert_int_ne(need, 0);
		w->yes += need > 0;
		w->unknown += need < 0;
	}
	simstore_loss(w->a.ss, 0, 0);
	core_close(w->n.core);
	store_close(o.store);
}

START_TEST(a_store_that_does_not_answer_makes_no_volume_whole)
{
	struct world w = { .why = (enum why)_i };

	alone_run(&w.a, 1, test_fiber, &w);
	ck_assert_uint_gt(w.yes, 0);
	ck_assert_uint_gt(w.unknown, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_repair");
	TCase *tc = tcase_create("needed");

	tcase_add_loop_test(tc, a_store_that_does_not_answer_makes_no_volume_whole, OUT, WHYS);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
