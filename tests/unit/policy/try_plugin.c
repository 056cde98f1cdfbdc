/* SPDX-License-Identifier: Apache-2.0 */
/* try_plugin PATH: loads the teaching plugin as libhci does and looks at what it decides. */
#include "unit/policy/pool.h"

static const char *plugin;

START_TEST(teaching_plugin_places)
{
	static char reasons[6][256];
	struct policy *policy = load_or_fail(plugin, ""),
		      *ssd = load_or_fail(plugin, "at-least=ssd"), *none;
	uint32_t keep = 4;
	struct pool p;

	ck_assert_str_eq(policy_plugin_name(policy), "placement-teaching");
	pool_make(&p, 3, 2, 100 * GiB);
	p.disk[3].disk_class = HCI_DISK_SSD;
	p.disk[4].disk_class = HCI_DISK_NVME;
	p.disk[1].free = 50 * GiB;
	ck_assert_int_eq(policy_place(policy, &p.s, &p.r, p.chosen, 2, reasons, NULL, &p.err), 0);
	ck_assert_uint_eq(p.chosen[0], 4);
	ck_assert_uint_eq(p.chosen[1], 3);
	for (int i = 0; i < 6; i++)
		ck_assert_msg(reasons[i][0], "disk %d has no reason", i);
	p.r.want = 3;
	ck_assert_int_eq(pool_place(&p, policy), 0);
	ck_assert_uint_eq(p.chosen[2], 0);
	ck_assert_int_eq(pool_place(&p, ssd), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "too slow");
	p.r.want = 1;
	p.r.purpose = HCI_PLACE_REBUILD;
	p.r.keep = &keep;
	p.r.nkeep = 1;
	p.disk[1].role = HCI_DISK_SPARE;
	ck_assert_int_eq(pool_place(&p, policy), 0);
	ck_assert_uint_eq(p.chosen[0], 1);
	ck_assert_int_eq(policy_load("p", plugin, "at-least=tape", NULL, &none, &p.err),
			 HCI_E_PLUGIN);
	ck_assert_has(p.err.message, "at-least=hdd or at-least=ssd");
	policy_unref(policy);
	policy_unref(ssd);
	pool_free(&p);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("policy_teaching");
	TCase *t = tcase_create("teaching");
	SRunner *runner = srunner_create(s);
	int failed;

	if (argc != 2) {
		fprintf(stderr, "usage: try_plugin PATH\n");
		return 2;
	}
	plugin = argv[1];
	tcase_add_test(t, teaching_plugin_places);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
