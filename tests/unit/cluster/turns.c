/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of migrations that leave a node: never more than the limit, in order, equal shares, limits that change meanwhile, and
 * destinations that take no more at present.
 */
#include "cluster/turns.h"
#include "env/sim.h"
#include "unit/harness.h"

#define JOBS 20u
#define LONG (10 * NS_PER_S)

struct world {
	struct env *env;
	struct turns turns;
	uint32_t limit, most, ended, next;
	uint64_t total;
	bool cancelled[JOBS], odd_order, odd_x, unequal, push, full[2];
	uint32_t last_x; /* of those that go to the first of them, plus 1 */
	uint32_t asked; /* destinations that were full */
	uint32_t pushed_in_at;
	struct job {
		struct world *w;
		uint32_t i;
		struct turn turn;
		bool running, done, waits_there;
	} job[JOBS];
	void (*meanwhile)(struct world *w);
};

static uint32_t limit(void *arg)
{
	return ((struct world *)arg)->limit;
}

static bool wants_out(void *arg, bool there)
{
	struct job *j = arg;

	j->waits_there = there;
	return j->w->cancelled[j->i];
}

/* Where each goes; two places. */
static const char *const place[] = { "x", "y" };

static unsigned place_of(const struct job *j)
{
	return j->i % 2;
}

static bool get_in(struct job *j)
{
	struct world *w = j->w;
	bool in;

	j->turn.to = place[place_of(j)];
	in = turns_begin(&w->turns, &j->turn, wants_out, j);
	while (in && w->full[place_of(j)]) {
		w->asked++;
		fiber_sleep(w->env, 10 * NS_PER_MS);
		in = turns_refused(&w->turns, &j->turn, wants_out, j);
	}
	if (in)
		turns_taken(&w->turns, &j->turn);
	return in;
}

/* What those that run would send in a second is the whole of the limit, and each the same. */
static void look(struct world *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < JOBS; i++)
		n += w->job[i].running;
	w->most = MAX(w->most, n);
	w->unequal |= n != w->turns.running || turns_share(&w->turns, w->total) != w->total / MAX(n, 1);
}

static void job_fiber(void *arg)
{
	struct job *j = arg;
	struct world *w = j->w;

	if (get_in(j)) {
		while (w->next < JOBS && w->cancelled[w->next])
			w->next++;
		w->odd_order |= j->i != w->next++;
		w->odd_x |= !place_of(j) && j->i + 1 < w->last_x;
		w->last_x = place_of(j) ? w->last_x : j->i + 1;
		j->running = true;
		look(w);
		fiber_sleep(w->env, LONG);
		look(w);
		j->running = false;
		turns_end(&w->turns, &j->turn);
		if (w->push && !j->i && get_in(j)) {
			w->pushed_in_at = w->next;
			turns_end(&w->turns, &j->turn);
		}
	}
	j->done = true;
	w->ended++;
}

static void meanwhile_fiber(void *arg)
{
	struct world *w = arg;

	if (w->meanwhile)
		w->meanwhile(w);
}

static void boot(struct env *e, void *arg)
{
	struct world *w = arg;

	w->env = e;
	turns_init(&w->turns, e, limit, w);
	for (uint32_t i = 0; i < JOBS; i++) {
		w->job[i] = (struct job){ .w = w, .i = i };
		ck_assert_int_eq(fiber_spawn(e, job_fiber, &w->job[i], "job"), 0);
	}
	ck_assert_int_eq(fiber_spawn(e, meanwhile_fiber, w, "meanwhile"), 0);
}

static bool is_done(void *arg)
{
	return ((struct world *)arg)->ended == JOBS;
}

static uint64_t run(struct world *w, uint32_t at_a_time, void (*meanwhile)(struct world *w))
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct sim *sim;
	uint64_t took;

	*w = (struct world){ .limit = at_a_time, .total = 1000000, .meanwhile = meanwhile };
	o.seed = 1;
	sim = sim_new(&o);
	sim_node_boot(sim_node_new(sim, "a"), boot, w);
	ck_assert_msg(sim_run_until(sim, is_done, w, 1000 * LONG), "they did not end");
	took = sim_now(sim);
	ck_assert_msg(!w->odd_order, "not in order");
	ck_assert_msg(!w->unequal, "shares are not equal");
	ck_assert_uint_eq(w->turns.running, 0);
	sim_free(sim);
	return took;
}

START_TEST(no_more_than_the_limit_at_a_time_and_in_order)
{
	struct world w;

	for (uint32_t n = 1; n <= JOBS; n += 3) {
		uint64_t took = run(&w, n, NULL);

		ck_assert_uint_eq(w.most, n);
		/* And no place is left empty. */
		ck_assert_uint_lt(took, (JOBS + n - 1) / n * (LONG + NS_PER_S));
	}
}
END_TEST

static void less_then_more(struct world *w)
{
	fiber_sleep(w->env, LONG / 2);
	w->limit = 1;
	fiber_sleep(w->env, LONG); /* those that ran have ended */
	w->most = 0;
	fiber_sleep(w->env, 3 * LONG);
	ck_assert_uint_eq(w->most, 1);
	w->limit = 5;
	fiber_sleep(w->env, NS_PER_S); /* at once, not when one has ended */
	ck_assert_uint_eq(w->turns.running, 5);
}

START_TEST(a_limit_that_changes_counts_for_those_that_wait)
{
	struct world w;

	run(&w, 4, less_then_more);
	ck_assert_uint_eq(w.most, 5);
}
END_TEST

static void cancel_some(struct world *w)
{
	fiber_sleep(w->env, LONG / 2);
	w->cancelled[2] = w->cancelled[7] = w->cancelled[JOBS - 1] = true;
	fiber_sleep(w->env, NS_PER_S);
	ck_assert(w->job[2].done && w->job[7].done && w->job[JOBS - 1].done);
}

START_TEST(who_is_cancelled_waits_no_longer_and_keeps_nobody_waiting)
{
	struct world w;
	uint64_t took = run(&w, 2, cancel_some);

	ck_assert_uint_eq(w.most, 2);
	ck_assert_uint_lt(took, (JOBS - 3 + 1) / 2 * (LONG + NS_PER_S));
}
END_TEST

/* Begins again at the moment in which it makes room: who waited is not awake yet. */
static void push_in(struct world *w)
{
	fiber_sleep(w->env, LONG / 2);
	w->push = true;
}

START_TEST(who_comes_when_there_is_room_waits_behind_those_that_wait)
{
	struct world w;

	run(&w, 1, push_in);
	ck_assert_uint_eq(w.pushed_in_at, JOBS);
}
END_TEST

static void share(struct world *w)
{
	fiber_sleep(w->env, LONG / 2);
	ck_assert_uint_eq(turns_share(&w->turns, w->total), w->total / 4);
	w->total = 400; /* changed meanwhile: counts at once */
	ck_assert_uint_eq(turns_share(&w->turns, w->total), 100);
	turns_rest(&w->turns, true);
	turns_rest(&w->turns, true);
	ck_assert_uint_eq(turns_share(&w->turns, w->total), w->total / (w->turns.running - 2)); /* theirs goes to the others */
	turns_rest(&w->turns, false);
	turns_rest(&w->turns, false);
	ck_assert_uint_eq(turns_share(&w->turns, w->total), 100);
	ck_assert_uint_eq(turns_share(&w->turns, 3), 1); /* never 0, which is no limit */
	ck_assert_uint_eq(turns_share(&w->turns, 0), 0);
}

START_TEST(each_has_the_same_share_of_what_all_may_have)
{
	struct world w;

	run(&w, 4, share);
}
END_TEST

/* One destination takes nobody for a while: those that go to the other one are not kept waiting, nor is it asked by all. */
static uint32_t even_left(const struct world *w, bool even)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < JOBS; i++)
		n += (i % 2 == 0) == even && !w->job[i].done;
	return n;
}

static void x_is_full(struct world *w)
{
	fiber_sleep(w->env, JOBS / 2 / 2 * (LONG + NS_PER_S)); /* enough for the others, two at a time */
	ck_assert_uint_eq(even_left(w, false), 0);
	ck_assert_uint_eq(even_left(w, true), JOBS / 2);
	ck_assert_uint_eq(w->turns.running, 0);
	for (uint32_t i = 0; i < JOBS; i += 2)
		ck_assert_msg(w->job[i].waits_there, "job %u does not say what it waits for", i);
	/* One of them asks whenever a place is free, twice a second at most. */
	ck_assert_uint_ge(w->asked, JOBS / 2 / 2);
	w->asked = 0;
	fiber_sleep(w->env, LONG);
	ck_assert_uint_le(w->asked, 2 * LONG / NS_PER_S);
	ck_assert_uint_ge(w->asked, LONG / NS_PER_S);
	w->most = 0;
	w->cancelled[4] = true;
	fiber_sleep(w->env, NS_PER_S);
	ck_assert(w->job[4].done);
	w->full[0] = false;
}

START_TEST(who_finds_no_room_waits_without_a_place_and_keeps_its_order)
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct world w = { .limit = 2, .total = 1000000, .meanwhile = x_is_full };
	struct sim *sim;

	o.seed = 1;
	sim = sim_new(&o);
	w.full[0] = true;
	sim_node_boot(sim_node_new(sim, "a"), boot, &w);
	ck_assert_msg(sim_run_until(sim, is_done, &w, 1000 * LONG), "they did not end");
	ck_assert_msg(!w.odd_x, "those that go to one destination do not keep their order");
	ck_assert_uint_eq(w.most, 2);
	ck_assert_uint_eq(w.turns.running, 0);
	ck_assert(list_empty(&w.turns.order));
	sim_free(sim);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_turns");
	TCase *tc = tcase_create("turns");

	tcase_add_test(tc, no_more_than_the_limit_at_a_time_and_in_order);
	tcase_add_test(tc, a_limit_that_changes_counts_for_those_that_wait);
	tcase_add_test(tc, who_is_cancelled_waits_no_longer_and_keeps_nobody_waiting);
	tcase_add_test(tc, who_comes_when_there_is_room_waits_behind_those_that_wait);
	tcase_add_test(tc, each_has_the_same_share_of_what_all_may_have);
	tcase_add_test(tc, who_finds_no_room_waits_without_a_place_and_keeps_its_order);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
