/* SPDX-License-Identifier: Apache-2.0 */
/* How long to look before sleeping: longer while it would have paid, not at all when it does not. */
#include "base/spin.h"

#include "../harness.h"

START_TEST(short_sleeps_make_it_look_as_long_as_allowed)
{
	struct spin s = { .max = 100000 };
	uint64_t last = 0;

	for (int i = 0; i < 10; i++) {
		spin_slept(&s, 0, 50000);
		ck_assert_uint_ge(s.ns, last);
		ck_assert_uint_gt(s.ns, 0);
		last = s.ns;
	}
	ck_assert_uint_eq(s.ns, 100000);
}
END_TEST

START_TEST(long_sleeps_end_it)
{
	struct spin s = { .max = 100000, .ns = 100000 };

	for (int i = 0; i < 10; i++)
		spin_slept(&s, 0, 5000000);
	ck_assert_uint_eq(s.ns, 0);
}
END_TEST

START_TEST(never_means_never)
{
	struct spin s = { 0 };

	for (int i = 0; i < 10; i++)
		spin_slept(&s, 0, 0);
	ck_assert_uint_eq(s.ns, 0);
}
END_TEST

#define MS UINT64_C(1000000)

START_TEST(who_loses_the_processor_stops_for_a_while)
{
	struct spin s = { .max = 100000, .ns = 100000 };
	uint64_t now = 1000 * MS, ban = 0;

	ck_assert(spin_goes_on(&s, now, now + 5000));
	ck_assert_uint_eq(s.ns, 100000);
	for (int i = 0; i < 20; i++) {
		uint64_t end;

		ck_assert(!spin_goes_on(&s, now, now + 4 * MS));
		now += 4 * MS;
		ck_assert_uint_eq(s.ns, 0);
		end = s.banned_until;
		ck_assert_uint_ge(end - now, ban); /* never shorter than the last one */
		ck_assert_uint_le(end - now, 1024 * MS);
		ban = end - now;
		spin_slept(&s, end - 1, 10);
		ck_assert_uint_eq(s.ns, 0);
		spin_slept(&s, end, 10);
		ck_assert_uint_gt(s.ns, 0);
		now = end;
	}
	ck_assert_uint_ge(ban, 1000 * MS);
	/* Long after that, once does not count as again. */
	now += 10000 * MS;
	ck_assert(!spin_goes_on(&s, now, now + 4 * MS));
	ck_assert_uint_le(s.banned_until - now, 25 * MS);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/spin");
	TCase *t = tcase_create("spin");

	tcase_add_test(t, short_sleeps_make_it_look_as_long_as_allowed);
	tcase_add_test(t, long_sleeps_end_it);
	tcase_add_test(t, never_means_never);
	tcase_add_test(t, who_loses_the_processor_stops_for_a_while);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
