/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: parking and waking, conditions with and without a deadline, mutex, many at once, deep
 * stacks. */
#include <pthread.h>
#include <unistd.h>

#include "unit/env/real.h"

struct ctx {
	struct env *env;
	struct fiber *fiber;
	struct fiber_cond cond;
	struct fiber_mutex mutex;
	unsigned running, most, ended, step;
};

static void ended(struct ctx *c)
{
	c->ended++;
	fiber_cond_signal(c->env, &c->cond);
}

static void wait_ended(struct ctx *c, unsigned n)
{
	while (c->ended < n)
		fiber_cond_wait(c->env, &c->cond);
}

/* ---- park, wake ---- */

static void parker(void *arg)
{
	struct ctx *c = arg;

	c->fiber = fiber_self(c->env);
	fiber_park(c->env);
	c->step = 1;
	fiber_wake(c->env, c->fiber);
	fiber_wake(c->env, c->fiber);
	fiber_park(c->env); /* was woken before it parks: goes on at once */
	c->step = 2;
	fiber_park(c->env); /* remembered, but not counted */
	ended(c);
}

static void park_body(struct env *e)
{
	struct ctx c = { .env = e };

	fiber_cond_init(&c.cond);
	ck_assert_int_eq(fiber_spawn(e, parker, &c, "parker"), 0);
	ck_assert_ptr_null(c.fiber); /* starts on the next turn */
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(c.step, 0);
	fiber_wake(e, c.fiber);
	ck_assert_uint_eq(c.step, 0);
	fiber_wake(e, c.fiber); /* before it ran: the same wake */
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(c.step, 2);
	ck_assert_uint_eq(c.ended, 0);
	fiber_wake(e, c.fiber);
	wait_ended(&c, 1);
}

START_TEST(a_wake_before_the_park_is_remembered_once)
{
	with_env(park_body);
}
END_TEST

/* A wake that comes while a fiber sleeps is not lost and does not shorten the sleep. */
static void sleeping(void *arg)
{
	struct ctx *c = arg;
	uint64_t start = env_now(c->env);

	c->fiber = fiber_self(c->env);
	fiber_sleep(c->env, 10 * NS_PER_MS);
	ck_assert_uint_ge(env_now(c->env) - start, 10 * NS_PER_MS);
	fiber_park(c->env);
	ended(c);
}

static void sleep_body(struct env *e)
{
	struct ctx c = { .env = e };

	fiber_cond_init(&c.cond);
	fiber_spawn(e, sleeping, &c, "sleeping");
	fiber_sleep(e, NS_PER_MS);
	fiber_wake(e, c.fiber);
	wait_ended(&c, 1);
}

START_TEST(a_wake_does_not_shorten_a_sleep)
{
	with_env(sleep_body);
}
END_TEST

/* The loop was held up: the sleep is over, and somebody wakes the sleeper before it runs. */
static void late_body(struct env *e)
{
	struct ctx c = { .env = e };

	fiber_cond_init(&c.cond);
	fiber_spawn(e, sleeping, &c, "sleeping");
	fiber_sleep(e, NS_PER_MS);
	usleep(20000);
	fiber_sleep(e, 1); /* due before the other, in the same turn */
	fiber_wake(e, c.fiber);
	wait_ended(&c, 1);
}

START_TEST(a_wake_at_the_end_of_a_sleep_is_kept)
{
	with_env(late_body);
}
END_TEST

/* ---- conditions ---- */

static void waiting(void *arg)
{
	struct ctx *c = arg;

	while (!c->step)
		fiber_cond_wait(c->env, &c->cond);
	c->ended++;
}

static void cond_body(struct env *e)
{
	struct ctx c = { .env = e };
	struct fiber_cond other;
	uint64_t start = env_now(e);
	unsigned i;

	fiber_cond_init(&c.cond);
	fiber_cond_init(&other);
	for (i = 0; i < 100; i++)
		fiber_spawn(e, waiting, &c, "waiting");
	fiber_sleep(e, NS_PER_MS);
	fiber_cond_signal(e, &c.cond); /* condition still false: all wait again */
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(c.ended, 0);
	c.step = 1;
	fiber_cond_signal(e, &c.cond);
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(c.ended, 100);
	ck_assert(!fiber_cond_wait_until(e, &other, start)); /* past: false, after a turn */
	start = env_now(e);
	ck_assert(!fiber_cond_wait_until(e, &other, start + 5 * NS_PER_MS));
	ck_assert_uint_ge(env_now(e), start + 5 * NS_PER_MS);
	ck_assert(list_empty(&other.waiters));
}

START_TEST(conditions_wake_all_and_keep_deadlines)
{
	with_env(cond_body);
}
END_TEST

static void signaller(void *arg)
{
	struct ctx *c = arg;

	fiber_sleep(c->env, NS_PER_MS);
	fiber_cond_signal(c->env, &c->cond);
}

static void cond_until_body(struct env *e)
{
	struct ctx c = { .env = e };

	fiber_cond_init(&c.cond);
	fiber_spawn(e, signaller, &c, "signaller");
	ck_assert(fiber_cond_wait_until(e, &c.cond, env_now(e) + NS_PER_S));
	fiber_sleep(e, NS_PER_MS);
}

START_TEST(a_signal_before_the_deadline_is_told)
{
	with_env(cond_until_body);
}
END_TEST

/* ---- mutex ---- */

static void contender(void *arg)
{
	struct ctx *c = arg;
	unsigned i;

	for (i = 0; i < 20; i++) {
		fiber_mutex_lock(c->env, &c->mutex);
		c->running++;
		c->most = MAX(c->most, c->running);
		fiber_sleep(c->env, 20 * NS_PER_US);
		c->running--;
		fiber_mutex_unlock(c->env, &c->mutex);
	}
	ended(c);
}

static void mutex_body(struct env *e)
{
	struct ctx c = { .env = e };
	unsigned i;

	fiber_cond_init(&c.cond);
	fiber_mutex_init(&c.mutex);
	for (i = 0; i < 10; i++)
		fiber_spawn(e, contender, &c, "contender");
	wait_ended(&c, 10);
	ck_assert_uint_eq(c.most, 1);
}

START_TEST(a_mutex_lets_one_in)
{
	with_env(mutex_body);
}
END_TEST

/* ---- many, deep ---- */

static unsigned __attribute__((noinline)) deep(unsigned n)
{
	volatile char pad[1024];

	pad[0] = (char)n;
	pad[1023] = (char)n;
	return n ? deep(n - 1) + (unsigned)(pad[0] == pad[1023]) : 0;
}

static void spawner(void *arg)
{
	struct ctx *c = arg;

	ck_assert_uint_eq(deep(40), 40);
	fiber_sleep(c->env, NS_PER_US);
	if (c->step++ < 3000)
		fiber_spawn(c->env, spawner, c, "spawner");
	ended(c);
}

static void many_body(struct env *e)
{
	struct ctx c = { .env = e };
	unsigned i, n = 300;

	fiber_cond_init(&c.cond);
	for (i = 0; i < n; i++)
		ck_assert_int_eq(fiber_spawn(e, spawner, &c, "spawner"), 0);
	wait_ended(&c, 3300);
	ck_assert_uint_eq(c.ended, 3300);
}

START_TEST(thousands_come_and_go_on_deep_stacks)
{
	with_env(many_body);
}
END_TEST

/* Two loops in two threads of one process do not know of each other. */
static void *other_loop(void *arg)
{
	(void)arg;
	with_env_log(mutex_body, (struct log){ 0 });
	return NULL;
}

START_TEST(two_loops_run_side_by_side)
{
	pthread_t t;

	pthread_create(&t, NULL, other_loop, NULL);
	with_env_log(cond_body, (struct log){ 0 });
	pthread_join(t, NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_fiber");
	TCase *t = tcase_create("fiber");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_wake_before_the_park_is_remembered_once);
	tcase_add_test(t, a_wake_does_not_shorten_a_sleep);
	tcase_add_test(t, a_wake_at_the_end_of_a_sleep_is_kept);
	tcase_add_test(t, conditions_wake_all_and_keep_deadlines);
	tcase_add_test(t, a_signal_before_the_deadline_is_told);
	tcase_add_test(t, a_mutex_lets_one_in);
	tcase_add_test(t, thousands_come_and_go_on_deep_stacks);
	tcase_add_test(t, two_loops_run_side_by_side);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
