/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: order, re-arming, disarming, against a sorted model; and in real time. */
#include "env/env_impl.h"
#include "unit/env/real.h"

#define N 500

struct probe {
	struct env_timer timer;
	uint64_t armed_seq;
	bool armed;
};
static struct probe probes[N];
static uint64_t last_deadline, last_seq;
static unsigned fired;

static void probe_fired(struct env_timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	ck_assert(p->armed);
	ck_assert(!env_timer_armed(t));
	ck_assert(t->deadline > last_deadline ||
		  (t->deadline == last_deadline && p->armed_seq > last_seq));
	last_deadline = t->deadline;
	last_seq = p->armed_seq;
	p->armed = false;
	fired++;
}

/* A thousand random operations, then time passes in steps: all that was armed fires, in order. */
START_TEST(random_operations_fire_in_order)
{
	static const struct env_ops none;
	struct fiber_stacks *stacks = fiber_stacks_new();
	struct env e;
	unsigned i, armed = 0;
	uint64_t seq = 0;

	srand((unsigned)_i);
	env_init(&e, &none, NULL, NULL, stacks);
	for (i = 0; i < N; i++) {
		env_timer_init(&probes[i].timer, probe_fired);
		probes[i].armed = false;
	}
	for (i = 0; i < 4 * N; i++) {
		struct probe *p = &probes[rand() % N];

		if (rand() % 4 == 0) {
			env_timer_disarm(&e, &p->timer);
			p->armed = false;
		} else {
			env_timer_arm(&e, &p->timer, (uint64_t)(1 + rand() % 100));
			p->armed = true;
			p->armed_seq = ++seq;
		}
		ck_assert_int_eq(env_timer_armed(&p->timer), p->armed);
	}
	for (i = 0; i < N; i++)
		armed += probes[i].armed;
	fired = 0;
	last_deadline = last_seq = 0;
	for (e.now = 0; e.now <= 100; e.now += 1 + (unsigned)rand() % 20) {
		env_run_timers(&e);
		ck_assert_uint_gt(env_next_timer(&e), e.now);
	}
	e.now = 100;
	env_run_timers(&e);
	ck_assert_uint_eq(fired, armed);
	ck_assert_uint_eq(env_next_timer(&e), UINT64_MAX);
	env_fini(&e);
	fiber_stacks_free(stacks);
}
END_TEST

struct tick {
	struct env_timer timer;
	struct env *env;
	unsigned n;
};

static void tick(struct env_timer *t)
{
	struct tick *k = container_of(t, struct tick, timer);

	if (++k->n < 20)
		env_timer_arm(k->env, t,
			      env_now(k->env)); /* past already: next turn, no endless loop */
}

static void real_time_body(struct env *e)
{
	unsigned tries = 0;
	bool in_time;

	/* Others may have the processor; not each time. */
	do {
		struct tick k = { .env = e };
		uint64_t start = env_now(e), took;

		env_timer_init(&k.timer, tick);
		env_timer_arm(e, &k.timer, env_now(e));
		fiber_sleep(e, 20 * NS_PER_MS + 300 * NS_PER_US);
		took = env_now(e) - start;
		ck_assert_uint_ge(took, 20 * NS_PER_MS + 300 * NS_PER_US);
		in_time = took < 60 * NS_PER_MS && k.n == 20;
		while (k.n < 20)
			fiber_sleep(e, NS_PER_MS);
	} while (!in_time && ++tries < 100);
	ck_assert(in_time);
}

START_TEST(real_time_passes)
{
	with_env(real_time_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_timer");
	TCase *t = tcase_create("timer");

	tcase_add_loop_test(t, random_operations_fire_in_order, 0, 20);
	tcase_add_test(t, real_time_passes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
