/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

#include "unit/harness.h"

struct item {
	int v;
	struct list node;
};

static void fill(struct list *l, struct item *items, int n, int first)
{
	list_init(l);
	for (int i = 0; i < n; i++) {
		items[i].v = first + i;
		list_push(l, &items[i].node);
	}
}

/* The values in order, as decimal digits. */
static int digits(const struct list *l)
{
	struct item *it;
	int d = 0;

	list_for_each(it, l, node)
		d = d * 10 + it->v;
	return d;
}

START_TEST(order)
{
	struct item items[3], front = { 9, { 0 } };
	struct list l;

	fill(&l, items, 3, 1);
	list_push_front(&l, &front.node);
	ck_assert_int_eq(digits(&l), 9123);
	ck_assert_ptr_eq(list_first(&l, struct item, node), &front);
	ck_assert_ptr_eq(list_pop(&l), &front.node);
	ck_assert_int_eq(digits(&l), 123);
}
END_TEST

START_TEST(delete_twice_is_harmless)
{
	struct item items[3];
	struct list l;

	fill(&l, items, 3, 1);
	list_del(&items[1].node);
	list_del(&items[1].node);
	ck_assert_int_eq(digits(&l), 13);
	list_del(&items[0].node);
	list_del(&items[2].node);
	ck_assert(list_empty(&l));
	ck_assert_ptr_null(list_pop(&l));
}
END_TEST

START_TEST(delete_while_walking)
{
	struct item items[5], *it, *tmp;
	struct list l;

	fill(&l, items, 5, 1);
	list_for_each_safe(it, tmp, &l, node)
		if (it->v % 2)
			list_del(&it->node);
	ck_assert_int_eq(digits(&l), 24);
}
END_TEST

START_TEST(splice)
{
	struct item a[2], b[2];
	struct list la, lb;

	fill(&la, a, 2, 1);
	fill(&lb, b, 2, 3);
	list_splice(&la, &lb);
	ck_assert_int_eq(digits(&la), 1234);
	ck_assert(list_empty(&lb));
	list_splice(&la, &lb);
	ck_assert_int_eq(digits(&la), 1234);
	list_splice(&lb, &la);
	ck_assert_int_eq(digits(&lb), 1234);
	ck_assert(list_empty(&la));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/list");
	TCase *t = tcase_create("list");

	tcase_add_test(t, order);
	tcase_add_test(t, delete_twice_is_harmless);
	tcase_add_test(t, delete_while_walking);
	tcase_add_test(t, splice);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
