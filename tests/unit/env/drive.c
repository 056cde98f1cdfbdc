/* SPDX-License-Identifier: Apache-2.0 */
/* A loop that is run by whoever waits for it: exactly one thread at a time, and nothing waits for one that stays away. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "unit/env/real.h"

static struct env *env;
static pthread_t home;
static atomic_uint inside, together, off_loop; /* of tasks */

static void *home_main(void *arg)
{
	env_run(arg);
	return NULL;
}

static void start(uint64_t spin_ns)
{
	struct env_real_opts o = { .name = "test", .spin_ns = spin_ns };

	inside = together = off_loop = 0;
	env = env_real_new(&o, NULL);
	ck_assert_ptr_nonnull(env);
	pthread_create(&home, NULL, home_main, env);
}

static void end(void)
{
	env_stop(env);
	pthread_join(home, NULL);
	env_free(env);
	ck_assert_uint_eq(together, 0);
	ck_assert_uint_eq(off_loop, 0);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- one task, and who ran it ---- */

struct job {
	struct env_task task;
	atomic_bool ran;
	pthread_t by;
};

static void job_run(struct env_task *t)
{
	struct job *j = container_of(t, struct job, task);

	if (atomic_fetch_add(&inside, 1))
		together++;
	if (!env_on_loop(env))
		off_loop++;
	j->by = pthread_self();
	atomic_fetch_sub(&inside, 1);
	atomic_store(&j->ran, true);
}

static void job_init(struct job *j)
{
	env_task_init(&j->task, job_run);
	atomic_store(&j->ran, false);
}

static bool job_ran(void *arg)
{
	return atomic_load(&((struct job *)arg)->ran);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

START_TEST(who_waits_runs_the_loop)
{
	unsigned own = 0, n = 0;
	struct job j;

	start(0);
	for (; n < 20000 && own < 1000; n++) {
		job_init(&j);
		env_post_quiet(env, &j.task);
		(void)env_drive(env, now_ns() + 20 * NS_PER_S, job_ran, &j);
		while (!job_ran(&j)) /* the loop's thread had it */
			usleep(100);
		own += pthread_equal(j.by, pthread_self()) != 0;
		ck_assert(!env_on_loop(env)); /* any more */
	}
	ck_assert_uint_ge(own, 1000);
	end();
}
END_TEST

START_TEST(it_ends_at_its_time)
{
	uint64_t begin = now_ns();

	start(0);
	while (now_ns() < begin + 30 * NS_PER_MS)
		(void)env_drive(env, begin + 30 * NS_PER_MS, never, NULL);
	ck_assert_uint_lt(now_ns() - begin, 20 * NS_PER_S);
	end();
}
END_TEST

/* Nobody has the loop after a guest has gone: a post of anybody, and a quiet one of who does not come back, are run. */
START_TEST(nothing_waits_for_a_guest_that_stays_away)
{
	struct job first, after;

	start(0);
	for (unsigned i = 0; i < 200; i++) {
		job_init(&first);
		job_init(&after);
		env_post_quiet(env, &first.task);
		(void)env_drive(env, now_ns() + 20 * NS_PER_S, job_ran, &first);
		if (_i)
			env_post_quiet(env, &after.task);
		else
			env_post(env, &after.task);
		for (unsigned k = 0; !job_ran(&after); k++) {
			ck_assert_uint_lt(k, 100000);
			usleep(100);
		}
		while (!job_ran(&first))
			usleep(100);
	}
	end();
}
END_TEST

/* ---- many at once ---- */

#define GUESTS 3
#define POSTERS 3
#define POSTS 3000

static atomic_bool over;

static bool enough(void *arg)
{
	unsigned *turns = arg;

	return ++*turns % 3 == 0;
}

static void *guest_main(void *arg)
{
	struct timespec some = { 0, 20000 };

	(void)arg;
	while (!atomic_load(&over)) {
		unsigned turns = 0;

		if (env_drive(env, now_ns() + 2 * NS_PER_MS, enough, &turns) == ENV_DRIVE_NO)
			nanosleep(&some, NULL);
	}
	return NULL;
}

static void *poster_main(void *arg)
{
	struct job *j = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		job_init(&j[i]);
		env_post(env, &j[i].task);
		if (i % 100 == 0)
			usleep(100);
	}
	for (unsigned i = 0; i < POSTS; i++)
		while (!job_ran(&j[i]))
			usleep(1000);
	return NULL;
}

/* Fibers begin on one thread and go on in another. */
static atomic_uint steps;

static void walk(void *arg)
{
	unsigned *left = arg;

	while (*left) {
		if (atomic_fetch_add(&inside, 1))
			together++;
		--*left;
		steps++;
		atomic_fetch_sub(&inside, 1);
		fiber_sleep(env, 200 * NS_PER_US);
	}
}

static unsigned left[4];

static void walk_start(struct env_task *t)
{
	(void)t;
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(fiber_spawn(env, walk, &left[i], "walk"), 0);
}

START_TEST(one_at_a_time_and_nothing_is_lost)
{
	static struct job jobs[POSTERS][POSTS];
	pthread_t guest[GUESTS], poster[POSTERS];
	struct env_task t;

	start(_i ? 50 * NS_PER_US : 0);
	atomic_store(&over, false);
	steps = 0;
	for (unsigned i = 0; i < 4; i++)
		left[i] = 200;
	env_task_init(&t, walk_start);
	env_post(env, &t);
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_create(&guest[i], NULL, guest_main, NULL);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_create(&poster[i], NULL, poster_main, jobs[i]);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(poster[i], NULL);
	while (atomic_load(&steps) < 800)
		usleep(1000);
	usleep(5000);
	atomic_store(&over, true);
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(guest[i], NULL);
	end();
}
END_TEST

/* ---- signals ---- */

static atomic_uint signals;
static atomic_bool driving;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static bool told(void *arg)
{
	(void)arg;
	atomic_store(&driving, true);
	return atomic_load(&signals) > 0;
}

static void *drive_main(void *arg)
{
	while (!atomic_load(&signals))
		(void)env_drive(env, now_ns() + NS_PER_S, told, arg);
	return NULL;
}

START_TEST(signals_come_while_a_guest_sleeps)
{
	struct sigaction a = { .sa_handler = on_signal };
	pthread_t guest;

	sigaction(SIGUSR1, &a, NULL);
	start(0);
	signals = 0;
	atomic_store(&driving, false);
	pthread_create(&guest, NULL, drive_main, NULL);
	while (!atomic_load(&driving))
		usleep(100);
	usleep(2000);
	pthread_kill(guest, SIGUSR1);
	pthread_join(guest, NULL);
	ck_assert_uint_eq(signals, 1);
	end();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_drive");
	TCase *t = tcase_create("drive");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, who_waits_runs_the_loop);
	tcase_add_test(t, it_ends_at_its_time);
	tcase_add_loop_test(t, nothing_waits_for_a_guest_that_stays_away, 0, 2);
	tcase_add_loop_test(t, one_at_a_time_and_nothing_is_lost, 0, 2);
	tcase_add_test(t, signals_come_while_a_guest_sleeps);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
