/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite against the simulated store, and what only it can do: faults. */
#include "conformance.h"
#include "store/store_sim.h"
#include "unit/harness.h"

struct world {
	struct sim *sim;
	struct simstore *ss;
	struct sim_node *node;
	void (*body)(struct conf *c);
	struct conf conf;
	bool done;
};

static struct world w;

static void fiber_main(void *arg)
{
	(void)arg;
	w.body(&w.conf);
	w.done = true;
}

static void boot(struct env *e, void *arg)
{
	(void)arg;
	w.conf.env = e;
	ck_assert_int_eq(fiber_spawn(e, fiber_main, NULL, "test"), 0);
}

static bool is_done(void *arg)
{
	(void)arg;
	return w.done;
}

static void make(uint64_t seed, void (*body)(struct conf *c))
{
	struct sim_opts o = SIM_OPTS_INIT;

	memset(&w, 0, sizeof(w));
	o.seed = seed;
	w.sim = sim_new(&o);
	w.ss = simstore_new(w.sim);
	w.node = sim_node_new(w.sim, "a");
	w.body = body;
}

static void start(void)
{
	w.done = false;
	sim_node_boot(w.node, boot, NULL);
}

static void end(void)
{
	simstore_free(w.ss);
	sim_free(w.sim);
}

static void run(const struct conf_driver *d, void (*body)(struct conf *c))
{
	(void)d;
	for (uint64_t seed = 0; seed < 20; seed++) {
		make(seed, body);
		start();
		ck_assert_msg(sim_run_until(w.sim, is_done, NULL, 600 * NS_PER_S), "the case did not end");
		end();
	}
}

static int open_client(struct conf *c, struct store **out, struct hci_error *err)
{
	(void)err;
	return simstore_open(w.ss, c->env, out);
}

/* ---- faults ---- */

static int put(struct store *s, const char *key, const char *value)
{
	struct store_op op = { STORE_PUT, key, value, (uint32_t)strlen(value), 0 };

	return store_txn(s, NULL, 0, &op, 1, NULL, NULL);
}

static void with_the_way_cut(struct conf *c)
{
	struct store_result r;
	struct store *s;
	uint64_t t0;

	ck_assert_int_eq(simstore_open(w.ss, c->env, &s), 0);
	ck_assert_int_eq(put(s, "a", "1"), 0);
	simstore_cut(w.ss, w.node, true);
	t0 = env_now(c->env);
	store_set_timeout(s, NS_PER_S);
	ck_assert_int_eq(store_get(s, "a", &r, NULL), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(put(s, "a", "2"), HCI_E_UNAVAILABLE);
	ck_assert_uint_le(env_now(c->env) - t0, 2100 * NS_PER_MS);
	simstore_cut(w.ss, NULL, false);
	ck_assert_int_eq(store_get(s, "a", &r, NULL), 0);
	ck_assert_mem_eq(r.kvs[0].value, "1", 1);
	store_result_free(&r);
	store_close(s);
}

START_TEST(cut)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		make(seed, with_the_way_cut);
		start();
		ck_assert(sim_run_until(w.sim, is_done, NULL, 60 * NS_PER_S));
		end();
	}
}
END_TEST

static int applied, refused, unknown_applied;

/* A write that failed may have happened; a read never fails by a loss. */
static void with_losses(struct conf *c)
{
	struct store_result r;
	struct store *s;
	char v[16];

	ck_assert_int_eq(simstore_open(w.ss, c->env, &s), 0);
	simstore_loss(w.ss, 100, 100);
	for (int k = 0; k < 50; k++) {
		int rc;
		bool there;

		snprintf(v, sizeof(v), "%d", k);
		rc = put(s, "key", v);
		ck_assert(rc == 0 || rc == HCI_E_UNAVAILABLE);
		ck_assert_int_eq(store_get(s, "key", &r, NULL), 0);
		there = r.n == 1 && r.kvs[0].value_len == strlen(v) && memcmp(r.kvs[0].value, v, strlen(v)) == 0;
		store_result_free(&r);
		if (rc == 0)
			ck_assert(there);
		applied += rc == 0;
		refused += rc != 0 && !there;
		unknown_applied += rc != 0 && there;
	}
	store_close(s);
}

START_TEST(losses)
{
	applied = refused = unknown_applied = 0;
	for (uint64_t seed = 0; seed < 20; seed++) {
		make(seed, with_losses);
		start();
		ck_assert(sim_run_until(w.sim, is_done, NULL, 6000 * NS_PER_S));
		end();
	}
	ck_assert_int_gt(applied, 500);
	ck_assert_int_gt(refused, 50);
	ck_assert_int_gt(unknown_applied, 50);
}
END_TEST

/* Watches see every value once, in order, or are told that they lost their place. */
static uint64_t next_value, lost_places, watched_rev;

static void saw(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	(void)arg;
	watched_rev = rev;
	if (!ev) {
		lost_places++;
		next_value = rev + 1; /* one put a revision */
		return;
	}
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(rev, next_value);
	next_value++;
}

static void watching(struct conf *c)
{
	struct store *s;

	ck_assert_int_eq(simstore_open(w.ss, c->env, &s), 0);
	ck_assert_ptr_nonnull(store_watch(s, "k", 0, saw, NULL));
}

START_TEST(compaction)
{
	for (uint64_t seed = 0; seed < 20; seed++) {
		next_value = 1;
		lost_places = 0;
		make(seed, watching);
		start();
		for (int k = 0; k < 200; k++) {
			simstore_put(w.ss, "k", "v", 1);
			if (k == 100)
				simstore_cut(w.ss, w.node, true);
			if (k == 150) {
				simstore_compact(w.ss);
				simstore_cut(w.ss, w.node, false);
			}
			sim_run(w.sim, sim_rand_below(w.sim, NS_PER_MS));
		}
		sim_run(w.sim, NS_PER_S);
		ck_assert_uint_eq(lost_places, 1);
		ck_assert_uint_eq(watched_rev, 200);
		end();
	}
}
END_TEST

/* Crashes with requests and watches under way; the next life finds the store sound. */
static void busy(struct conf *c)
{
	struct store *s;
	char v[16];

	ck_assert_int_eq(simstore_open(w.ss, c->env, &s), 0);
	ck_assert_ptr_nonnull(store_watch(s, "", 0, saw, NULL));
	for (int k = 0;; k++) {
		uint64_t lease;

		snprintf(v, sizeof(v), "%d", k);
		ck_assert_int_eq(store_lease_grant(s, NS_PER_S, &lease, NULL), 0);
		ck_assert_int_eq(put(s, "k", v), 0);
	}
}

START_TEST(crashes)
{
	for (uint64_t seed = 0; seed < 10; seed++) {
		uint64_t rev = 0;

		make(seed, busy);
		for (int k = 0; k < 20; k++) {
			next_value = 1;
			start();
			sim_run(w.sim, sim_rand_below(w.sim, 100 * NS_PER_MS));
			if (k % 2)
				sim_node_crash(w.node);
			else
				sim_node_power_loss(w.node);
			sim_run(w.sim, NS_PER_S);
			ck_assert_uint_ge(simstore_revision(w.ss), rev);
			rev = simstore_revision(w.ss);
		}
		ck_assert_uint_gt(rev, 20);
		end();
	}
}
END_TEST

static Suite *make_suite(void)
{
	static const struct conf_driver d = { .name = "sim", .run = run, .open = open_client };
	Suite *s = suite_create("store/sim conformance");
	TCase *t = tcase_create("faults");

	conf_add(s, &d);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, cut);
	tcase_add_test(t, losses);
	tcase_add_test(t, compaction);
	tcase_add_test(t, crashes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(make_suite)
