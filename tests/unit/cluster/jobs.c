/* SPDX-License-Identifier: Apache-2.0 */
/* Job records while the store cannot be reached. */
#include "cluster/core.h"
#include "store/store_sim.h"
#include "unit/harness.h"

#define OUTAGE (600 * NS_PER_S)

struct world {
	struct sim *sim;
	struct simstore *ss;
	struct env *env;
	struct core *core;
	char id[HCI_NAME_MAX];
	bool stopping;
	uint64_t took; /* core_job_end() */
	uint32_t state;
	bool done;
};

static void open_core(struct world *w, struct store **store)
{
	struct rec_cluster cluster = { .format = REC_VERSION, .name = "c" };
	struct core_opts o = { .env = w->env, .self = "a" };
	struct hci_error err;

	ck_assert_int_eq(simstore_open(w->ss, w->env, store), 0);
	ck_assert_int_eq(rec_cluster_put(*store, KEY_CLUSTER, &cluster, 0, 0, NULL, &err), 0);
	o.store = *store;
	ck_assert_msg(!core_open(&o, &w->core, &err), "%s", err.message);
}

static void heal_fiber(void *arg)
{
	struct world *w = arg;

	fiber_sleep(w->env, OUTAGE);
	simstore_cut(w->ss, NULL, false);
}

static void stop_fiber(void *arg)
{
	struct world *w = arg;

	fiber_sleep(w->env, OUTAGE / 2);
	w->stopping = true;
}

static void look(struct world *w, struct store *store)
{
	struct rec_job r;
	char key[REC_KEY];

	key_job(key, w->id);
	ck_assert_int_eq(rec_job_get(store, key, &r, NULL, NULL), 0);
	w->state = r.state;
}

static void end_fiber(void *arg)
{
	struct world *w = arg;
	struct store *store;
	struct core_job j;
	struct hci_error err;
	uint64_t at;

	open_core(w, &store);
	ck_assert_int_eq(core_job_create(w->core, "test", "x", "a", NULL, w->id, &err), 0);
	ck_assert_int_eq(core_job_begin(w->core, w->id, &j, &err), 0);
	j.stopping = &w->stopping;
	simstore_cut(w->ss, NULL, true);
	ck_assert_int_eq(fiber_spawn(w->env, heal_fiber, w, "heal"), 0);
	at = env_now(w->env);
	core_job_end(&j, 0, "result");
	w->took = env_now(w->env) - at;
	fiber_sleep(w->env, OUTAGE);
	look(w, store);
	core_close(w->core);
	store_close(store);
	w->done = true;
}

static void boot(struct env *e, void *arg)
{
	struct world *w = arg;

	w->env = e;
	ck_assert_int_eq(fiber_spawn(e, end_fiber, w, "test"), 0);
}

static void boot_to_stop(struct env *e, void *arg)
{
	boot(e, arg);
	ck_assert_int_eq(fiber_spawn(e, stop_fiber, arg, "stop"), 0);
}

static bool is_done(void *arg)
{
	struct world *w = arg;

	return w->done;
}

static void run(struct world *w, uint64_t seed, void (*fn)(struct env *e, void *arg))
{
	struct sim_opts o = SIM_OPTS_INIT;

	memset(w, 0, sizeof(*w));
	o.seed = seed;
	w->sim = sim_new(&o);
	w->ss = simstore_new(w->sim);
	sim_node_boot(sim_node_new(w->sim, "a"), fn, w);
	ck_assert_msg(sim_run_until(w->sim, is_done, w, 10 * OUTAGE), "it did not end");
	simstore_free(w->ss);
	sim_free(w->sim);
}

START_TEST(end_is_written_when_the_store_is_back)
{
	struct world w;

	for (uint64_t seed = 0; seed < 10; seed++) {
		run(&w, seed, boot);
		ck_assert_uint_eq(w.state, REC_JOB_DONE);
		ck_assert_uint_ge(w.took, OUTAGE);
		ck_assert_uint_lt(w.took, 2 * OUTAGE);
	}
}
END_TEST

/* The next life of the node finds it running and ends it. */
START_TEST(node_that_stops_does_not_wait_for_the_store)
{
	struct world w;

	run(&w, 1, boot_to_stop);
	ck_assert_uint_lt(w.took, OUTAGE);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_jobs");
	TCase *tc = tcase_create("end");

	tcase_add_test(tc, end_is_written_when_the_store_is_back);
	tcase_add_test(tc, node_that_stops_does_not_wait_for_the_store);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
