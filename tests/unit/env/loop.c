/* SPDX-License-Identifier: Apache-2.0 */
/* Deferred tasks, posts from threads, blocking work, and the end of a loop with things in flight.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "unit/env/real.h"

/* ---- deferred tasks ---- */

static char order[64];

static void note_a(struct env_task *t)
{
	(void)t;
	strcat(order, "a");
}

static void note_b(struct env_task *t)
{
	(void)t;
	strcat(order, "b");
}

static void deferred_body(struct env *e)
{
	struct env_task a, b;

	order[0] = '\0';
	env_task_init(&a, note_a);
	env_task_init(&b, note_b);
	env_defer(e, &a);
	env_defer(e, &b);
	env_defer(e, &a); /* is queued already */
	ck_assert_str_eq(order, "");
	fiber_sleep(e, NS_PER_MS);
	ck_assert_str_eq(order, "ab");
	env_defer(e, &a);
	env_defer(e, &b);
	env_undefer(e, &a);
	env_undefer(e, &a);
	fiber_sleep(e, NS_PER_MS);
	ck_assert_str_eq(order, "abb");
	env_post(e, &a);
	env_undefer(e, &a);
	fiber_sleep(e, NS_PER_MS);
	ck_assert_str_eq(order, "abb");
}

START_TEST(deferred_tasks_run_once_in_order)
{
	with_env(deferred_body);
}
END_TEST

/* ---- posts ---- */

#define POSTERS 4
#define POSTS 20000

struct post {
	struct env_task task;
	struct poster *poster;
	unsigned seq;
};
struct poster {
	struct env *env;
	pthread_t thread;
	struct post *posts;
	unsigned next; /* on the loop: expected */
};
static unsigned arrived, disordered, off_loop;

static void post_ran(struct env_task *t)
{
	struct post *p = container_of(t, struct post, task);

	if (p->seq != p->poster->next++)
		disordered++;
	if (!env_on_loop(p->poster->env))
		off_loop++;
	if (++arrived == POSTERS * POSTS)
		env_stop(p->poster->env);
}

static void *post_many(void *arg)
{
	struct poster *p = arg;
	unsigned i;

	for (i = 0; i < POSTS; i++) {
		struct post *x = &p->posts[i];

		x->poster = p;
		x->seq = i;
		env_task_init(&x->task, post_ran);
		env_post(p->env, &x->task);
		if (i % 1000 == 0)
			usleep(100); /* so that the loop sleeps now and then */
	}
	return NULL;
}

START_TEST(posts_of_many_threads_all_arrive_in_each_threads_order)
{
	struct env_real_opts o = { .name = "test", .spin_ns = _i ? NS_PER_MS : 0 };
	struct env *e = env_real_new(&o, NULL);
	struct poster p[POSTERS];
	unsigned i;

	arrived = disordered = off_loop = 0;
	for (i = 0; i < POSTERS; i++) {
		p[i].env = e;
		p[i].next = 0;
		p[i].posts = calloc(POSTS, sizeof(struct post));
		pthread_create(&p[i].thread, NULL, post_many, &p[i]);
	}
	env_run(e);
	for (i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		free(p[i].posts);
	}
	ck_assert_uint_eq(arrived, POSTERS * POSTS);
	ck_assert_uint_eq(disordered, 0);
	ck_assert_uint_eq(off_loop, 0);
	env_free(e);
}
END_TEST

/* A post to a loop that sleeps for good is seen at once: no wake is lost. */
struct ping {
	struct env_task task;
	struct env *env;
	atomic_uint *count;
};

static void ping_ran(struct env_task *t)
{
	struct ping *p = container_of(t, struct ping, task);

	atomic_fetch_add(p->count, 1);
}

static void *ping_thread(void *arg)
{
	struct ping *p = arg;
	unsigned i;

	for (i = 1; i <= 5000; i++) {
		env_post(p->env, &p->task);
		while (atomic_load(p->count) < i)
			sched_yield();
	}
	env_stop(p->env);
	return NULL;
}

START_TEST(a_post_wakes_a_sleeping_loop)
{
	struct env_real_opts o = { .name = "test", .spin_ns = _i ? NS_PER_MS : 0 };
	struct env *e = env_real_new(&o, NULL);
	atomic_uint count = 0;
	struct ping p = { .env = e, .count = &count };
	pthread_t t;

	env_task_init(&p.task, ping_ran);
	pthread_create(&t, NULL, ping_thread, &p);
	env_run(e);
	pthread_join(t, NULL);
	ck_assert_uint_eq(count, 5000);
	env_free(e);
}
END_TEST

/* ---- work ---- */

static atomic_uint napping, most_napping;

/* Until four threads are at it, however long it takes until each of them gets a processor. */
static void nap(void *arg)
{
	unsigned n = atomic_fetch_add(&napping, 1) + 1, most = atomic_load(&most_napping);

	(void)arg;
	while (n > most && !atomic_compare_exchange_weak(&most_napping, &most, n))
		;
	for (unsigned i = 0; i < 10000 && atomic_load(&most_napping) < 4; i++)
		usleep(1000);
	usleep(50000);
	atomic_fetch_sub(&napping, 1);
}

struct napper {
	struct env *env;
	unsigned *left;
	struct fiber_cond *cond;
};

static void napper(void *arg)
{
	struct napper *n = arg;

	fiber_work(n->env, nap, NULL);
	ck_assert(env_on_loop(n->env));
	--*n->left;
	fiber_cond_signal(n->env, n->cond);
}

static unsigned threads_before; /* a sanitizer may have one of its own */

static void work_body(struct env *e)
{
	struct fiber_cond cond;
	unsigned left = 8, i;
	struct napper n = { e, &left, &cond };
	uint64_t start = env_now(e), took;

	ck_assert_uint_eq(count_threads(), threads_before); /* none before there is work */
	fiber_cond_init(&cond);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(fiber_spawn(e, napper, &n, "napper"), 0);
	while (left)
		fiber_cond_wait(e, &cond);
	took = env_now(e) - start;
	ck_assert_uint_ge(took, 100 * NS_PER_MS); /* eight naps of 50 ms on four threads */
	ck_assert_uint_eq(atomic_load(&most_napping), 4);
	ck_assert_uint_eq(count_threads(), threads_before + 4);
}

START_TEST(work_runs_in_parallel_up_to_the_limit)
{
	threads_before = count_threads();
	with_env(work_body);
	ck_assert_uint_eq(count_threads(), threads_before);
}
END_TEST

/* ---- the end ---- */

static unsigned works_done, runs;

static void slow_run(struct env_work *w)
{
	(void)w;
	usleep(2000);
	__atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
}

static void slow_done(struct env_work *w)
{
	(void)w;
	works_done++;
}

static void sleeper(void *arg)
{
	fiber_sleep(arg, 3600 * NS_PER_S);
	ck_abort_msg("a fiber ran on after its env had ended");
}

START_TEST(an_end_with_work_in_flight_still_completes_it_once)
{
	struct env_real_opts o = { .name = "test" };
	unsigned fds = count_fds(), threads = count_threads(), i;
	struct env *e = env_real_new(&o, NULL);
	struct env_work w[40];

	works_done = runs = 0;
	for (i = 0; i < 40; i++) {
		w[i].run = slow_run;
		w[i].done = slow_done;
		env_work(e, &w[i]);
	}
	ck_assert_int_eq(fiber_spawn(e, sleeper, e, "sleeper"), 0);
	env_free(e);
	ck_assert_uint_eq(runs, 40);
	ck_assert_uint_eq(works_done, 40);
	ck_assert_uint_eq(count_fds(), fds);
	ck_assert_uint_eq(count_threads(), threads);
}
END_TEST

static void clocks_body(struct env *e)
{
	uint64_t a = env_now(e), r = env_realtime(e);
	uint8_t x[300] = { 0 }, y[300] = { 0 };

	usleep(3000);
	ck_assert_uint_eq(env_now(e), a); /* cached per turn */
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_ge(env_now(e), a + 3 * NS_PER_MS);
	ck_assert_uint_gt(env_realtime(e), r);
	ck_assert_uint_gt(r, UINT64_C(1700000000) * NS_PER_S);
	env_random(e, x, sizeof(x));
	env_random(e, y, sizeof(y));
	ck_assert_int_ne(memcmp(x, y, sizeof(x)), 0);
}

START_TEST(clocks_and_randomness)
{
	with_env(clocks_body);
}
END_TEST

START_TEST(out_of_memory_at_every_point_of_creation)
{
	struct env_real_opts o = { .name = "test" };
	unsigned fds = count_fds();

	FOR_EACH_ALLOC_FAILURE(n) {
		struct hci_error err = { 0 };
		struct env *e = env_real_new(&o, &err);

		if (!e)
			ck_assert_int_eq(err.code, HCI_E_NOMEM);
		env_free(e);
	}
	ck_assert_uint_eq(count_fds(), fds);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_loop");
	TCase *t = tcase_create("loop");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, deferred_tasks_run_once_in_order);
	tcase_add_loop_test(t, posts_of_many_threads_all_arrive_in_each_threads_order, 0, 2);
	tcase_add_loop_test(t, a_post_wakes_a_sleeping_loop, 0, 2);
	tcase_add_test(t, work_runs_in_parallel_up_to_the_limit);
	tcase_add_test(t, an_end_with_work_in_flight_still_completes_it_once);
	tcase_add_test(t, clocks_and_randomness);
	tcase_add_test(t, out_of_memory_at_every_point_of_creation);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
