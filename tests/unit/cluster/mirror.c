/* SPDX-License-Identifier: Apache-2.0 */
/* The mirror of the store's records when its watch loses its place, again and again, and the store goes away meanwhile. */
#include <stdio.h>

#include "cluster/core.h"
#include "store/store_sim.h"
#include "unit/harness.h"

#define DISKS 6u
#define KEPT 2u /* of them nobody ever deletes the first */
#define NODES 4u
#define ROUNDS 30u

struct world {
	struct sim *sim;
	struct simstore *ss;
	struct sim_node *here;
	struct env *a, *b;
	struct core *core;
	struct store *other; /* b's: who changes records */
	unsigned made;
	bool open, over, done;
};

static struct uuid disk_id(uint32_t i)
{
	return (struct uuid){ .b = { 0xd0, [15] = (uint8_t)i } };
}

static void node_name(char name[HCI_NAME_MAX], uint32_t i)
{
	snprintf(name, HCI_NAME_MAX, "n%u", i);
}

/* Each is another record. */
static void put_disk(struct world *w, struct store *s, uint32_t i)
{
	struct rec_disk r = { .uuid = disk_id(i), .node = "a", .pool = "p", .state = REC_DISK_ONLINE };
	char key[REC_KEY];

	snprintf(r.path, sizeof(r.path), "/%u", w->made++);
	key_disk(key, &r.uuid);
	(void)rec_disk_put(s, key, &r, REC_REV_ANY, 0, NULL, NULL);
}

static void put_node(struct world *w, struct store *s, uint32_t i)
{
	struct rec_node r = { .wanted = REC_NODE_UP };
	char key[REC_KEY];

	node_name(r.name, i);
	snprintf(r.addr, sizeof(r.addr), "%u", w->made++);
	key_node(key, r.name);
	(void)rec_node_put(s, key, &r, REC_REV_ANY, 0, NULL, NULL);
}

static void change_one(struct world *w)
{
	uint32_t i = sim_rand_below(w->sim, DISKS);
	struct uuid id = disk_id(i);
	char key[REC_KEY];

	switch (sim_rand_below(w->sim, 3)) {
	case 0:
		put_node(w, w->other, i % NODES);
		return;
	case 1:
		put_disk(w, w->other, i);
		return;
	default:
		key_disk(key, &id);
		if (i >= KEPT)
			(void)rec_delete(w->other, key, REC_REV_ANY, NULL, NULL);
	}
}

static void change_fiber(void *arg)
{
	struct world *w = arg;

	ck_assert_int_eq(simstore_open(w->ss, w->b, &w->other), 0);
	while (!w->open)
		fiber_sleep(w->b, NS_PER_MS);
	for (unsigned round = 0; round < ROUNDS; round++) {
		bool cut = sim_rand_below(w->sim, 2);

		simstore_cut(w->ss, w->here, cut);
		for (unsigned i = sim_rand_below(w->sim, 4); i > 0; i--)
			change_one(w);
		if (cut)
			simstore_compact(w->ss);
		simstore_cut(w->ss, w->here, false);
		fiber_sleep(w->b, sim_rand_below(w->sim, 8 * NS_PER_MS));
		if (sim_rand_below(w->sim, 8) == 0) { /* it is told that its place is lost, and then cannot read */
			simstore_loss(w->ss, 1000, 0);
			fiber_sleep(w->b, sim_rand_below(w->sim, NS_PER_S));
			simstore_loss(w->ss, 0, 0);
		}
	}
	store_close(w->other);
	w->over = true;
}

static void compare(struct world *w, struct store *s)
{
	struct hci_error err;
	char key[REC_KEY], name[HCI_NAME_MAX];

	ck_assert_int_eq(core_catch_up(w->core, &err), 0);
	fiber_sleep(w->a, 60 * NS_PER_S);
	for (uint32_t i = 0; i < DISKS; i++) {
		struct uuid id = disk_id(i);
		struct rec_disk r;
		const struct rec_disk *m = core_disk(w->core, &id);
		int rc;

		key_disk(key, &id);
		rc = rec_disk_get(s, key, &r, NULL, NULL);
		m = core_disk(w->core, &id);
		ck_assert_int_eq(rc, m ? 0 : HCI_E_NOTFOUND);
		ck_assert(!m || !strcmp(m->path, r.path));
	}
	for (uint32_t i = 0; i < NODES; i++) {
		const struct rec_node *m;
		struct rec_node r;

		node_name(name, i);
		key_node(key, name);
		ck_assert_int_eq(rec_node_get(s, key, &r, NULL, NULL), 0);
		m = core_node(w->core, name);
		ck_assert(m && !strcmp(m->addr, r.addr));
	}
}

static void look_fiber(void *arg)
{
	struct world *w = arg;
	struct rec_cluster cluster = { .format = REC_VERSION, .name = "c" };
	struct core_opts o = { .env = w->a, .self = "a" };
	struct hci_error err;

	ck_assert_int_eq(simstore_open(w->ss, w->a, &o.store), 0);
	ck_assert_int_eq(rec_cluster_put(o.store, KEY_CLUSTER, &cluster, 0, 0, NULL, &err), 0);
	for (uint32_t i = 0; i < DISKS; i++)
		put_disk(w, o.store, i);
	for (uint32_t i = 0; i < NODES; i++)
		put_node(w, o.store, i);
	ck_assert_msg(!core_open(&o, &w->core, &err), "%s", err.message);
	w->open = true;
	while (!w->over) {
		for (uint32_t i = 0; i < KEPT; i++) {
			struct uuid id = disk_id(i);

			ck_assert_msg(core_disk(w->core, &id) != NULL, "disk %u is not seen for a moment", i);
		}
		fiber_sleep(w->a, 200 * NS_PER_US);
	}
	compare(w, o.store);
	core_close(w->core);
	store_close(o.store);
	w->done = true;
}

static void boot_a(struct env *e, void *arg)
{
	struct world *w = arg;

	w->a = e;
	ck_assert_int_eq(fiber_spawn(e, look_fiber, w, "look"), 0);
}

static void boot_b(struct env *e, void *arg)
{
	struct world *w = arg;

	w->b = e;
	ck_assert_int_eq(fiber_spawn(e, change_fiber, w, "change"), 0);
}

static bool is_done(void *arg)
{
	const struct world *w = arg;

	return w->done;
}

START_TEST(it_is_never_empty_and_always_the_store_in_the_end)
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct world w = { 0 };

	o.seed = (uint64_t)_i + 1;
	w.sim = sim_new(&o);
	w.ss = simstore_new(w.sim);
	w.here = sim_node_new(w.sim, "a");
	sim_node_boot(w.here, boot_a, &w);
	sim_node_boot(sim_node_new(w.sim, "b"), boot_b, &w);
	ck_assert_msg(sim_run_until(w.sim, is_done, &w, 3600 * NS_PER_S), "it did not end");
	simstore_free(w.ss);
	sim_free(w.sim);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_mirror");
	TCase *tc = tcase_create("mirror");

	tcase_add_loop_test(tc, it_is_never_empty_and_always_the_store_in_the_end, 0, 20);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
