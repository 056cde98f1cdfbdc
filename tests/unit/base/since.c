/* SPDX-License-Identifier: Apache-2.0 */
/* How long something is so, with clocks that are set. */
#include "base/since.h"

#include "unit/harness.h"

#define S UINT64_C(1000000000)
#define TODAY (UINT64_C(1700000000) * S)

START_TEST(what_began_here_is_counted_by_our_own_clock)
{
	struct since s;

	since_seen(&s, 100 * S, TODAY, 0);
	ck_assert(!since_over(&s, 100 * S, 600 * S, 10 * S));
	ck_assert(!since_over(&s, 699 * S, 600 * S, 10 * S)); /* whatever the wall clock shows */
	ck_assert(since_over(&s, 700 * S, 600 * S, 10 * S));
}
END_TEST

START_TEST(what_was_before_us_counts_by_the_wall)
{
	struct since s;

	since_seen(&s, 5 * S, TODAY, TODAY - 300 * S);
	ck_assert(!since_over(&s, 304 * S, 600 * S, 10 * S));
	ck_assert(since_over(&s, 305 * S, 600 * S, 10 * S));
}
END_TEST

START_TEST(a_clock_that_was_set_forward_leaves_a_grace)
{
	struct since s;

	since_seen(&s, 5 * S, TODAY, TODAY - 100000 * S);
	ck_assert(!since_over(&s, 5 * S, 600 * S, 10 * S));
	ck_assert(!since_over(&s, 14 * S, 600 * S, 10 * S));
	ck_assert(since_over(&s, 15 * S, 600 * S, 10 * S));
	/* of a short limit a quarter */
	ck_assert(!since_over(&s, 5 * S + 499000000, 2 * S, 10 * S));
	ck_assert(since_over(&s, 5 * S + 500000000, 2 * S, 10 * S));
}
END_TEST

START_TEST(a_clock_that_was_set_back_costs_the_whole_time_at_most)
{
	struct since s;

	since_seen(&s, 5 * S, TODAY, TODAY + 100000 * S);
	ck_assert(!since_over(&s, 604 * S, 600 * S, 10 * S));
	ck_assert(since_over(&s, 605 * S, 600 * S, 10 * S));
}
END_TEST

START_TEST(ends_of_the_range)
{
	struct since s;

	since_seen(&s, 5 * S, TODAY, 1);
	ck_assert(!since_over(&s, UINT64_MAX / 2, UINT64_MAX, 10 * S));
	ck_assert(since_over(&s, 5 * S, 0, 10 * S));
	ck_assert(!since_over(&s, 4 * S, 0, 10 * S));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base_since");
	TCase *t = tcase_create("since");

	tcase_add_test(t, what_began_here_is_counted_by_our_own_clock);
	tcase_add_test(t, what_was_before_us_counts_by_the_wall);
	tcase_add_test(t, a_clock_that_was_set_forward_leaves_a_grace);
	tcase_add_test(t, a_clock_that_was_set_back_costs_the_whole_time_at_most);
	tcase_add_test(t, ends_of_the_range);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
