/* SPDX-License-Identifier: Apache-2.0 */
/* Job records: while the store cannot be reached, and how often they are written. */
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

/* ---- how often they are written ---- */

static uint64_t revision(struct world *w, struct store *store)
{
	struct rec_job r;
	char key[REC_KEY];
	uint64_t rev;

	key_job(key, w->id);
	ck_assert_int_eq(rec_job_get(store, key, &r, &rev, NULL), 0);
	return rev;
}

static uint64_t writes(struct world *w, struct store *store, struct core_job *j, uint64_t ns, bool moves)
{
	uint64_t end = env_now(w->env) + ns, n = 0, rev = revision(w, store), now;

	for (uint64_t done = 1; env_now(w->env) < end; done++) {
		ck_assert(!core_job_progress(j, moves ? done : 0, 0, "waiting for its turn"));
		now = revision(w, store);
		n += now != rev;
		rev = now;
		fiber_sleep(w->env, 50 * NS_PER_MS);
	}
	return n;
}

static void cancel(struct world *w, struct store *store)
{
	struct rec_job r;
	char key[REC_KEY];
	uint64_t rev;

	key_job(key, w->id);
	ck_assert_int_eq(rec_job_get(store, key, &r, &rev, NULL), 0);
	r.cancel_requested = true;
	ck_assert_int_eq(rec_job_put(store, key, &r, rev, 0, NULL, NULL), 0);
}

static void wait_fiber(void *arg)
{
	struct world *w = arg;
	struct store *store;
	struct core_job j, other;
	struct hci_error err;
	uint64_t n, at;
	char id[HCI_NAME_MAX];

	open_core(w, &store);
	ck_assert_int_eq(core_job_create(w->core, "test", "y", "a", NULL, id, &err), 0);
	ck_assert_int_eq(core_job_begin(w->core, id, &other, &err), 0);
	ck_assert_int_eq(core_job_create(w->core, "test", "x", "a", NULL, w->id, &err), 0);
	ck_assert_int_eq(core_job_begin(w->core, w->id, &j, &err), 0);
	n = writes(w, store, &j, 60 * NS_PER_S, false);
	ck_assert_msg(n >= 8 && n <= 15, "%llu times in a minute in which nothing changed", (unsigned long long)n);
	n = writes(w, store, &j, 6 * NS_PER_S, true);
	ck_assert_msg(n >= 12 && n <= 22, "%llu times in six seconds in which it went on", (unsigned long long)n);
	/* A phase that is told is not told later. */
	fiber_sleep(w->env, NS_PER_S);
	n = revision(w, store);
	(void)core_job_progress(&j, j.rec->done, 0, "another");
	ck_assert_uint_ne(revision(w, store), n);
	/* Nor is it long before it is cancelled, though it has nothing to write. */
	cancel(w, store);
	at = env_now(w->env);
	while (!core_job_progress(&j, j.rec->done, 0, NULL) && env_now(w->env) < at + 30 * NS_PER_S)
		fiber_sleep(w->env, 50 * NS_PER_MS);
	ck_assert_msg(env_now(w->env) < at + NS_PER_S, "heard of it after %llu ms",
		      (unsigned long long)((env_now(w->env) - at) / NS_PER_MS));
	ck_assert(!core_job_progress(&other, 0, 0, NULL));
	core_job_end(&j, HCI_E_CANCELLED, "cancelled");
	core_job_leave(&other);
	look(w, store);
	core_close(w->core);
	store_close(store);
	w->done = true;
}

static void boot_to_wait(struct env *e, void *arg)
{
	struct world *w = arg;

	w->env = e;
	ck_assert_int_eq(fiber_spawn(e, wait_fiber, w, "test"), 0);
}

START_TEST(a_job_that_waits_writes_seldom_and_hears_at_once_that_it_is_cancelled)
{
	struct world w;

	run(&w, 3, boot_to_wait);
	ck_assert_uint_eq(w.state, REC_JOB_CANCELLED);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_jobs");
	TCase *tc = tcase_create("end");

	tcase_add_test(tc, end_is_written_when_the_store_is_back);
	tcase_add_test(tc, node_that_stops_does_not_wait_for_the_store);
	tcase_add_test(tc, a_job_that_waits_writes_seldom_and_hears_at_once_that_it_is_cancelled);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
