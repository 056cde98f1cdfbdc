/* SPDX-License-Identifier: Apache-2.0 */
/* When a migration counts as one that does not converge. */
#include "compute/compute.h"
#include "unit/harness.h"

START_TEST(passes_that_leave_as_much_are_in_vain)
{
	struct converge c = { 0 };

	converge_look(&c, 1, 1000);
	converge_look(&c, 1, 10);
	ck_assert_uint_eq(c.vain, 0);
	converge_look(&c, 2, 400); /* what the guest changed in the first: no measure yet */
	ck_assert_uint_eq(c.vain, 0);
	converge_look(&c, 2, 3); /* the same pass goes on */
	converge_look(&c, 3, 400);
	ck_assert_uint_eq(c.vain, 1);
	converge_look(&c, 4, 380);
	ck_assert_uint_eq(c.vain, 2);
	converge_look(&c, 5, 900);
	ck_assert_uint_eq(c.vain, 3);
}
END_TEST

START_TEST(a_pass_that_shrinks_it_begins_the_count_anew)
{
	struct converge c = { 0 };

	converge_look(&c, 2, 400);
	converge_look(&c, 3, 400);
	converge_look(&c, 4, 400);
	ck_assert_uint_eq(c.vain, 2);
	converge_look(&c, 5, 350);
	ck_assert_uint_eq(c.vain, 0);
	converge_look(&c, 6, 350);
	ck_assert_uint_eq(c.vain, 1);
	converge_look(&c, 9, 100); /* looks come now and then: passes may be missed */
	ck_assert_uint_eq(c.vain, 0);
}
END_TEST

START_TEST(one_that_begins_again_is_looked_at_anew)
{
	struct converge c = { 0 };

	converge_look(&c, 5, 400);
	converge_look(&c, 6, 400);
	converge_look(&c, 0, 0);
	converge_look(&c, 2, 500);
	ck_assert_uint_eq(c.vain, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("compute_converge");
	TCase *t = tcase_create("converge");

	tcase_add_test(t, passes_that_leave_as_much_are_in_vain);
	tcase_add_test(t, a_pass_that_shrinks_it_begins_the_count_anew);
	tcase_add_test(t, one_that_begins_again_is_looked_at_anew);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
