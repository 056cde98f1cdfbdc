/* SPDX-License-Identifier: Apache-2.0 */
/* The program in README.md does what README.md says it does. */
#include <stdlib.h>
#include <string.h>

#include "unit/api/world.h"
#include "unit/harness.h"

int readme_main(void); /* README.md's main() */

static struct world w;

/* Two in-sync replicas on distinct nodes hold the block. */
static void check_replicas(void)
{
	struct hci_replica_info *r;
	char block[4096];
	uint64_t n;

	ok(hci_volume_replicas(w.client, "first", &r, &n, sizeof(*r), &w.err));
	ck_assert_uint_ge(n, 2);
	ck_assert_uint_eq(r[0].segment, 0);
	ck_assert_uint_eq(r[1].segment, 0);
	ck_assert_str_ne(r[0].node, r[1].node);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(r[i].state, HCI_REPLICA_IN_SYNC);
		ok(hci_volume_read_replica(w.client, "first", r[i].disk, 0, block, sizeof(block), 0, &w.err));
		ck_assert_str_eq(block, "hello");
	}
	hci_list_free(r);
}

START_TEST(writes_to_two_nodes)
{
	world_up(&w, 0);
	world_pool(&w, 0);
	setenv("HCI_STORE", w.store, 1);
	ck_assert_int_eq(readme_main(), EXIT_SUCCESS);
	check_replicas();
	/* A second run finds the name taken. */
	ck_assert_int_eq(readme_main(), EXIT_FAILURE);
	world_down(&w);
}
END_TEST

START_TEST(fails_without_a_store)
{
	unsetenv("HCI_STORE");
	ck_assert_int_eq(readme_main(), EXIT_FAILURE);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("docs_readme");
	TCase *t = tcase_create("program");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, writes_to_two_nodes);
	tcase_add_test(t, fails_without_a_store);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
