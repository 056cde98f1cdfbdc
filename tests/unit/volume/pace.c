/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of copying against a disk that exists on paper: a request takes its own time, with a tail, and longer the more
 * bytes of copies are in flight.
 */
#include "volume/pace.h"

#include "unit/harness.h"

#include <math.h>

struct disk {
	double bytes_to_double; /* in flight, until a request takes twice as long */
	uint32_t rate;          /* requests a second; 0: no user */
	uint32_t impact;
};

static struct pace p;
static uint64_t now, seed;

static double uniform(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (double)(seed >> 11) / 9007199254740992.0 + 1e-12;
}

/* Median 200 us, the 99th of a hundred about 800 us: lognormal. */
static uint64_t undisturbed(void)
{
	double g = sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());

	return (uint64_t)(200e3 * exp(0.6 * g));
}

static void users(const struct disk *d, uint64_t ns, double inflight)
{
	uint32_t n = (uint32_t)((double)d->rate * (double)ns / 1e9);

	for (uint32_t i = 0; i < n; i++) {
		now += ns / n;
		pace_sample(&p, false, 4096, (uint64_t)((double)undisturbed() * (1 + inflight / d->bytes_to_double)), d->impact,
			    now);
	}
	if (!n)
		now += ns;
}

struct seen {
	double window, factor; /* on average; of the latency */
	uint64_t slowest_gap;
	unsigned pauses;
};

static struct seen copy_for(const struct disk *d, unsigned seconds)
{
	struct seen s = { 0 };
	unsigned n = seconds * 10;

	pace_running(&p, true, now);
	for (unsigned i = 0; i < n; i++) {
		/* A gap between copies of 64 KiB: so much less is in flight on average. */
		double inflight = (double)p.window / (1 + (double)p.gap / 1e6);
		bool pause = p.next_at > now;

		if (pause) {
			pace_running(&p, false, now);
			users(d, p.next_at - now, 0);
			pace_running(&p, true, now);
			s.pauses++;
		}
		users(d, PACE_TICK, inflight);
		pace_tick(&p, now);
		s.window += inflight / n;
		s.factor += (1 + inflight / d->bytes_to_double) / n;
		s.slowest_gap = MAX(s.slowest_gap, p.gap);
	}
	pace_running(&p, false, now);
	now += NS_PER_S;
	return s;
}

static void up(void)
{
	seed = 1;
	now = 1000 * NS_PER_S;
	pace_init(&p, now);
}

START_TEST(nobody_there_means_all_there_is)
{
	struct disk d = { 1e6, 0, 200 };

	copy_for(&d, 2);
	ck_assert_uint_eq(p.window, PACE_MAX);
	ck_assert_uint_eq(p.gap, 0);
}
END_TEST

/* A few that were timed long ago, too few to say something, are nobody. */
START_TEST(who_left_does_not_hold_it_up)
{
	struct disk few = { 1e6, 30, 200 }, d = { 1e6, 0, 200 };

	pace_running(&p, true, now);
	users(&few, NS_PER_S / 3, 1e6);
	pace_running(&p, false, now);
	now += NS_PER_S;
	copy_for(&d, 2);
	ck_assert_uint_eq(p.window, PACE_MAX);
}
END_TEST

START_TEST(queues_no_longer_than_the_medium_needs)
{
	struct disk d = { 1e6, 0, 200 };

	for (unsigned i = 0; i < 100; i++)
		pace_copied(&p, 3 * PACE_TOOK); /* a slow one */
	copy_for(&d, 2);
	ck_assert_uint_eq(p.window, PACE_START);
	for (unsigned i = 0; i < 100; i++)
		pace_copied(&p, PACE_TOOK / 4);
	copy_for(&d, 2);
	ck_assert_uint_eq(p.window, PACE_MAX);
	for (unsigned i = 0; i < 100; i++)
		pace_copied(&p, 3 * PACE_TOOK);
	copy_for(&d, 2);
	ck_assert_uint_eq(p.window, PACE_START);
}
END_TEST

/* Whatever the disk stands, what users wait stays near what they may, and the copies take what is left. */
START_TEST(users_wait_no_longer_than_they_may)
{
	static const double stands[] = { 256e3, 1e6, 4e6 };
	static const uint32_t impact[] = { 150, 200, 400 };
	struct disk d = { stands[_i % 3], 2000, impact[_i / 3] };
	struct seen s;
	double may = d.impact / 100.0;

	users(&d, 2 * NS_PER_S, 0);
	copy_for(&d, 20);
	s = copy_for(&d, 60);
	ck_assert_msg(s.factor < 1 + (may - 1) * 1.1, "requests take %.2f times as long", s.factor);
	/* At least a third of what would be allowed: caution has its price, as a tail is known badly. */
	ck_assert_msg(s.factor > 1 + (may - 1) * 0.3, "requests take %.2f times as long: copies could go faster", s.factor);
	ck_assert_uint_eq(s.pauses > 2, 0);
}
END_TEST

START_TEST(a_copy_always_goes_on)
{
	struct disk d = { 1e3, 2000, 200 }; /* any copy at all is too much */
	struct seen s;

	users(&d, 2 * NS_PER_S, 0);
	s = copy_for(&d, 60);
	ck_assert_uint_le(s.slowest_gap, PACE_GAP_MAX);
	ck_assert_uint_ge(p.window, PACE_LEAST);
}
END_TEST

START_TEST(what_is_undisturbed_is_found_out)
{
	struct disk d = { 1e6, 2000, 200 };
	struct seen s;

	/* Copies from the first moment: attached in the middle of a rebuild. */
	s = copy_for(&d, 20);
	ck_assert_uint_ge(s.pauses, 1);
	ck_assert_uint_le(s.pauses, 6);
	s = copy_for(&d, 60);
	ck_assert_msg(s.factor < 2.2, "requests take %.2f times as long", s.factor);
	ck_assert_msg(s.factor > 1.2, "requests take %.2f times as long: copies could go faster", s.factor);
}
END_TEST

/* Few users, many samples or few: a handful of requests a second must not hold a rebuild up for ever. */
START_TEST(a_user_now_and_then_does_not_stop_it)
{
	struct disk d = { 64e6, 30, 200 };
	struct seen s;

	users(&d, 20 * NS_PER_S, 0);
	s = copy_for(&d, 120);
	ck_assert_msg(s.window > (double)PACE_START / 2, "%.0f bytes in flight on average", s.window);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("volume_pace");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, up, NULL);
	tcase_add_test(t, nobody_there_means_all_there_is);
	tcase_add_test(t, who_left_does_not_hold_it_up);
	tcase_add_test(t, queues_no_longer_than_the_medium_needs);
	tcase_add_loop_test(t, users_wait_no_longer_than_they_may, 0, 9);
	tcase_add_test(t, a_copy_always_goes_on);
	tcase_add_test(t, what_is_undisturbed_is_found_out);
	tcase_add_test(t, a_user_now_and_then_does_not_stop_it);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
