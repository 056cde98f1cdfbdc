/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler policy that comes with libhci decides. */
#include "unit/policy/pool.h"

#define BALANCE SHIPPED_PLUGINS "/scheduler-balance.so"
#define N 4

static struct policy *balance;
static struct hci_scheduler_node node[N];
static struct hci_scheduler_snapshot s;
static struct hci_scheduler_request r;
static struct hci_error err;
static char reasons[N][256];
static double scores[N];
static uint32_t at;

static void setup(void)
{
	balance = load_or_fail(BALANCE, "");
	memset(node, 0, sizeof(node));
	for (int i = 0; i < N; i++) {
		snprintf(node[i].name, sizeof(node[i].name), "node%d", i);
		node[i].usable = 1;
		node[i].cpus = 8;
		node[i].memory = 64 * GiB;
		node[i].memory_free = 32 * GiB;
		node[i].vms = 4;
		node[i].vcpus = 8;
	}
	s = (struct hci_scheduler_snapshot){ sizeof(s), sizeof(node[0]), N, 0, node };
	r = (struct hci_scheduler_request){
		.size = sizeof(r), .vcpus = 2, .memory = 4 * GiB, .volume_bytes = 100 * GiB
	};
	strcpy(r.vm, "web");
}

static void teardown(void)
{
	policy_unref(balance);
}

static uint32_t ask(void)
{
	ck_assert_msg(policy_schedule(balance, &s, &r, &at, reasons, scores, &err) == 0, "%s",
		      err.message);
	return at;
}

START_TEST(the_least_loaded_node_is_chosen)
{
	node[2].vcpus = 6;
	ck_assert_uint_eq(ask(), 2);
	ck_assert(scores[2] > scores[1]);
	/* By the share of its processors, not their number. */
	node[3].cpus = 64;
	node[3].vcpus = 32;
	ck_assert_uint_eq(ask(), 3);
}
END_TEST

START_TEST(then_the_one_that_has_the_data_then_fewest_vms)
{
	node[1].vms = 3;
	ck_assert_uint_eq(ask(), 1);
	node[3].local_bytes = 50 * GiB;
	ck_assert_uint_eq(ask(), 3);
	node[2].local_bytes = UINT64_MAX; /* more copies than the volume has bytes */
	ck_assert_uint_eq(ask(), 2);
	ck_assert_has(reasons[2], "100% of its data is local");
	ck_assert_has(reasons[3], "8 vCPUs in 4 other VMs run there, 50% of its data is local");
}
END_TEST

START_TEST(nodes_without_room_are_turned_down)
{
	node[0].vcpus = 0;
	node[0].memory_free = 4 * GiB - 1;
	node[1].usable = 0;
	strcpy(node[1].why_not, "the node is in maintenance");
	ask();
	ck_assert_uint_ge(at, 2);
	ck_assert_str_eq(reasons[0], "not enough free memory");
	ck_assert_str_eq(reasons[1], "the node is in maintenance");
	/* Unknown memory turns nobody down. */
	node[0].memory = 0;
	ck_assert_uint_eq(ask(), 0);
	for (int i = 0; i < N; i++)
		node[i].memory = node[i].memory_free = 1;
	ck_assert_int_eq(policy_schedule(balance, &s, &r, &at, NULL, NULL, &err), HCI_E_NOPLACE);
	ck_assert_has(err.message, "VM web: no node is up and has room (3 x not enough free "
				   "memory, 1 x the node is in");
}
END_TEST

/* Otherwise a VM would be sent to and fro between equal nodes. */
START_TEST(the_vm_is_no_burden_to_the_node_it_is_on)
{
	strcpy(r.current, "node1");
	node[1].vms = 5;
	node[1].vcpus = 9;
	node[1].memory_free = 0;
	ck_assert_uint_eq(ask(), 1);
	ck_assert_has(reasons[1], "7 vCPUs in 4 other VMs");
	node[1].vms = node[1].vcpus = 0; /* counted before it was started */
	ck_assert_uint_eq(ask(), 1);
	strcpy(r.current, "nowhere");
	node[1].vcpus = 9;
	ck_assert_uint_ne(ask(), 1);
}
END_TEST

START_TEST(equal_input_gives_equal_output)
{
	unsigned seen[N] = { 0 };

	for (uint64_t seed = 0; seed < 200; seed++) {
		struct hci_scheduler_node swap;
		char name[HCI_NAME_MAX];

		r.seed = seed * UINT64_C(0x9e3779b97f4a7c15);
		strcpy(name, node[ask()].name);
		seen[name[4] - '0']++;
		swap = node[0];
		memmove(node, node + 1, sizeof(node[0]) * (N - 1));
		node[N - 1] = swap;
		ck_assert_str_eq(node[ask()].name, name);
	}
	for (int i = 0; i < N; i++)
		ck_assert_uint_ge(seen[i], 10);
}
END_TEST

START_TEST(an_older_host_is_refused_not_misread)
{
	s.node_stride = offsetof(struct hci_scheduler_node, vms);
	ck_assert_int_eq(policy_schedule(balance, &s, &r, &at, NULL, NULL, &err), HCI_E_NOPLACE);
	ck_assert_has(err.message, "too old");
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("policy_scheduler");
	TCase *t = tcase_create("balance");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_least_loaded_node_is_chosen);
	tcase_add_test(t, then_the_one_that_has_the_data_then_fewest_vms);
	tcase_add_test(t, nodes_without_room_are_turned_down);
	tcase_add_test(t, the_vm_is_no_burden_to_the_node_it_is_on);
	tcase_add_test(t, equal_input_gives_equal_output);
	tcase_add_test(t, an_older_host_is_refused_not_misread);
	suite_add_tcase(suite, t);
	return suite;
}

HARNESS_MAIN(suite)
