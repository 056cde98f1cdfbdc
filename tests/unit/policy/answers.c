/* SPDX-License-Identifier: Apache-2.0 */
/* Asking: whatever a plugin answers, the caller gets a checked answer or an error that names it. */
#include "unit/policy/pool.h"

#define ANSWERS TEST_PLUGINS "/answers.so"
#define ANSWERS_VM TEST_PLUGINS "/answers-vm.so"
#define N 6

static struct pool p;
static char reasons[N][256];
static double scores[N];

/* One usable disk a domain, but disk 3, which is not usable, and the last two, which share theirs.
 */
static void setup(void)
{
	pool_make(&p, N, 1, GiB);
	unusable(&p.disk[3], "the disk is offline");
	strcpy(p.disk[N - 1].domain, p.disk[N - 2].domain);
	memset(p.chosen, 0xaa, sizeof(p.chosen));
}

static void teardown(void)
{
	pool_free(&p);
}

static int ask(const char *how)
{
	struct policy *policy = load_or_fail(ANSWERS, how);
	int rc = policy_place(policy, &p.s, &p.r, p.chosen, p.r.want, reasons, scores, &p.err);

	policy_unref(policy);
	return rc;
}

static void is_nonsense(const char *how, const char *what)
{
	ck_assert_int_eq(ask(how), HCI_E_PLUGIN);
	ck_assert_has(p.err.message, what);
	ck_assert_has(p.err.message, "plugin answers");
	ck_assert_uint_eq(p.chosen[0], 0xaaaaaaaa);
}

START_TEST(good_answers_come_through)
{
	ck_assert_int_eq(ask(""), 0);
	ck_assert_uint_eq(p.chosen[0], 0);
	ck_assert_uint_eq(p.chosen[1], 1);
	ck_assert_uint_eq(p.chosen[2], 0xaaaaaaaa);
	ck_assert(scores[2] == 2.0);
	/* The snapshot's word for what was not usable. */
	ck_assert_str_eq(reasons[3], "the disk is offline");
}
END_TEST

START_TEST(nonsense_is_an_error)
{
	uint32_t keep = 4;

	is_nonsense("range", "a disk that does not exist (6)");
	is_nonsense("nothing", "a disk that does not exist");
	is_nonsense("twice", "two disks of one failure domain");
	is_nonsense("domain", "two disks of one failure domain");
	is_nonsense("unusable", "a disk that is not usable (3)");
	is_nonsense("more", "more disks than asked for");
	is_nonsense("positive", "neither 0 nor negative (7)");
	is_nonsense("nan", "a score that is no number");
	is_nonsense("infinite", "a score that is no number");
	p.r.keep = &keep;
	p.r.nkeep = 1;
	is_nonsense("kept", "a failure domain that has a copy already");
	keep = 5; /* its domain is that of disk 4 */
	p.r.want = 1;
	is_nonsense("kept", "a failure domain that has a copy already");
}
END_TEST

START_TEST(texts_are_cleaned)
{
	ck_assert_int_eq(ask("unterminated"), 0);
	for (int i = 0; i < N; i++)
		ck_assert_uint_eq(strlen(reasons[i]), 255);
	ck_assert_int_eq(ask("control"), 0);
	ck_assert_str_eq(reasons[0], "one two [31m");
	ck_assert_int_eq(ask("utf8"), 0);
	ck_assert_str_eq(reasons[0], "gr\xc3\xbc\xc3\x9f ?? ? ??? \xf0\x9f\x98\x80 ?");
}
END_TEST

START_TEST(no_place_says_why)
{
	ck_assert_int_eq(ask("fail"), HCI_E_NOPLACE);
	ck_assert_has(p.err.message,
		      "policy p: no place for 2 copies on 6 disks: not today at all");
	ck_assert_has(p.err.message, "(4 x too small, 2 x too far)");
	ck_assert_str_eq(reasons[0], "too far");
	ck_assert_uint_eq(p.chosen[0], 0xaaaaaaaa);
	/* Also when nobody asked for the reasons of each disk. */
	memset(&p.err, 0, sizeof(p.err));
	struct policy *policy = load_or_fail(ANSWERS, "fail");
	ck_assert_int_eq(pool_place(&p, policy), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "(4 x too small, 2 x too far)");
	policy_unref(policy);
	ck_assert_int_eq(ask("fail-null"), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "no reason given");
	ck_assert_int_eq(ask("fail-large"), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "yyyy");
	ck_assert_int_eq(ask("silent"), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "no reason given (1 x the disk is offline)");
}
END_TEST

START_TEST(wrong_requests_are_refused)
{
	struct policy *policy = load_or_fail(ANSWERS, ""), *vm = load_or_fail(ANSWERS_VM, "");
	uint32_t keep = N;

	p.r.want = 0;
	ck_assert_int_eq(pool_place(&p, policy), HCI_E_INVAL);
	p.r.want = 17;
	ck_assert_int_eq(pool_place(&p, policy), HCI_E_INVAL);
	p.r.want = 2;
	ck_assert_int_eq(policy_place(policy, &p.s, &p.r, p.chosen, 1, NULL, NULL, &p.err),
			 HCI_E_INVAL);
	p.r.keep = &keep;
	p.r.nkeep = 1;
	ck_assert_int_eq(pool_place(&p, policy), HCI_E_INVAL);
	p.r.nkeep = 0;
	ck_assert_int_eq(pool_place(&p, vm), HCI_E_PLUGIN);
	ck_assert_has(p.err.message, "answers-vm is no placement plugin");
	policy_unref(policy);
	policy_unref(vm);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
	struct policy *good = load_or_fail(ANSWERS, ""), *fails = load_or_fail(ANSWERS, "fail");
	int failed = 0;

	FOR_EACH_ALLOC_FAILURE(n) {
		int rc = policy_place(good, &p.s, &p.r, p.chosen, 2, reasons, scores, &p.err);

		ck_assert(rc == 0 || rc == HCI_E_NOMEM);
		failed += rc != 0;
	}
	ck_assert_int_eq(failed, 2);
	/* The summary is a courtesy: without memory for it the failure stays what it is. */
	FOR_EACH_ALLOC_FAILURE(n) {
		ck_assert_int_eq(pool_place(&p, fails), HCI_E_NOPLACE);
		ck_assert_has(p.err.message, "not today");
	}
	policy_unref(good);
	policy_unref(fails);
}
END_TEST

/* ---- other releases ---- */

START_TEST(plugins_of_other_releases_work)
{
	static const char *const names[] = { "old", "newer", "short" };
	struct {
		struct hci_placement_disk d;
		uint64_t later[3];
	} wide[N];
	char path[256];

	memset(wide, 0xff, sizeof(wide));
	for (int i = 0; i < N; i++)
		wide[i].d = p.disk[i];
	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		uint32_t narrow[2];
		struct policy *policy;

		snprintf(path, sizeof(path), TEST_PLUGINS "/%s.so", names[k]);
		policy = load_or_fail(path, "");
		ck_assert_str_eq(policy_plugin_name(policy), names[k]);
		strcpy(p.disk[N - 1].domain, "alone");
		p.disk[2].free *= 2;
		ck_assert_msg(pool_place(&p, policy) == 0, "%s", p.err.message);
		memcpy(narrow, p.chosen, sizeof(narrow));
		/* A host whose disks have grown. */
		for (int i = 0; i < N; i++)
			wide[i].d = p.disk[i];
		p.s.disks = &wide[0].d;
		p.s.disk_stride = sizeof(wide[0]);
		ck_assert_msg(pool_place(&p, policy) == 0, "%s", p.err.message);
		ck_assert_mem_eq(narrow, p.chosen, sizeof(narrow));
		p.s.disks = p.disk;
		p.s.disk_stride = sizeof(*p.disk);
		policy_unref(policy);
	}
}
END_TEST

/* ---- scheduling ---- */

static struct hci_scheduler_node nodes[3];
static uint32_t at;

static int ask_vm(const char *how)
{
	struct hci_scheduler_snapshot s = { sizeof(s), sizeof(nodes[0]), 3, 0, nodes };
	struct hci_scheduler_request r = { .size = sizeof(r), .vm = "web", .vcpus = 1 };
	struct policy *policy = load_or_fail(ANSWERS_VM, how);
	int rc;

	memset(nodes, 0, sizeof(nodes));
	for (int i = 0; i < 3; i++)
		snprintf(nodes[i].name, sizeof(nodes[i].name), "node%d", i);
	nodes[0].usable = nodes[2].usable = 1;
	strcpy(nodes[1].why_not, "the node is down");
	at = 77;
	rc = policy_schedule(policy, &s, &r, &at, reasons, scores, &p.err);
	ck_assert_int_eq(policy_schedule(policy, &s, &r, &at, NULL, NULL, NULL), rc);
	policy_unref(policy);
	return rc;
}

START_TEST(scheduler_answers_are_checked)
{
	static const char *const bad[][2] = {
		{ "range", "a node that does not exist (3)" },
		{ "unusable", "a node that is not usable (1)" },
		{ "more", "more than one node" },
		{ "nan", "a score that is no number" },
		{ "positive", "neither 0 nor negative (1)" },
	};

	ck_assert_int_eq(ask_vm(""), 0);
	ck_assert_uint_eq(at, 0);
	ck_assert_str_eq(reasons[1], "the node is down");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(ask_vm(bad[i][0]), HCI_E_PLUGIN);
		ck_assert_has(p.err.message, bad[i][1]);
		ck_assert_uint_eq(at, 77);
	}
	ck_assert_int_eq(ask_vm("unterminated"), 0);
	ck_assert_uint_eq(strlen(reasons[2]), 255);
	ck_assert_int_eq(ask_vm("silent"), HCI_E_NOPLACE);
	ck_assert_has(p.err.message, "no node for VM web: no reason given (1 x the node is down)");
}
END_TEST

START_TEST(no_nodes_is_no_crash)
{
	struct hci_scheduler_snapshot s = { sizeof(s), sizeof(nodes[0]), 0, 0, NULL };
	struct hci_scheduler_request r = { .size = sizeof(r) };
	struct policy *policy = load_or_fail(SHIPPED_PLUGINS "/scheduler-balance.so", "");

	ck_assert_int_eq(policy_schedule(policy, &s, &r, &at, NULL, NULL, &p.err), HCI_E_NOPLACE);
	ck_assert_int_eq(pool_place(&p, policy), HCI_E_PLUGIN);
	policy_unref(policy);
	policy = load_or_fail(ANSWERS, "");
	ck_assert_int_eq(policy_schedule(policy, &s, &r, &at, NULL, NULL, &p.err), HCI_E_PLUGIN);
	ck_assert_has(p.err.message, "is no scheduler plugin");
	policy_unref(policy);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("policy_answers");
	TCase *t = tcase_create("answers");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, good_answers_come_through);
	tcase_add_test(t, nonsense_is_an_error);
	tcase_add_test(t, texts_are_cleaned);
	tcase_add_test(t, no_place_says_why);
	tcase_add_test(t, wrong_requests_are_refused);
	tcase_add_test(t, out_of_memory_is_an_error);
	tcase_add_test(t, plugins_of_other_releases_work);
	tcase_add_test(t, scheduler_answers_are_checked);
	tcase_add_test(t, no_nodes_is_no_crash);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
