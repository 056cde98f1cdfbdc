/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is told of a VM that somebody else pauses, lets go on, or ends: by libvirt's test driver, whose domains this test sees as well. One
 * whose QEMU is killed: tests/integration/vm/crash.sh.
 */
#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "api/api_impl.h"
#include "world.h"

#define URI "test:///default"

static struct world w;
static virConnectPtr conn;

static struct hci_vm_info info(void)
{
	struct hci_vm_info *v, out;
	uint64_t n;

	ok(hci_vm_list(w.client, &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 1);
	out = *v;
	hci_list_free(v);
	return out;
}

/* And it is an event, with its node. */
static void becomes(int32_t state, const char *text)
{
	struct hci_event e = { 0 };
	int rc;

	for (int i = 0; i < 100 && info().state != state; i++)
		usleep(100000);
	ck_assert_int_eq(info().state, state);
	do {
		rc = hci_event_next(w.client, &e, sizeof(e), 5000, &w.err);
		ck_assert_msg(rc == 1, "no event says that it is %s", text);
	} while (e.type != HCI_EVENT_VM_STATE || strcmp(e.text, text) != 0);
	ck_assert_str_eq(e.object, "v1");
	if (state != HCI_VM_STOPPED)
		ck_assert_str_eq(e.node, "n1");
}

static virDomainPtr domain(void)
{
	virDomainPtr d = virDomainLookupByName(conn, "v1");

	ck_assert_ptr_nonnull(d);
	return d;
}

static void up(void)
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;

	world_up(&w, 0);
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	w.libvirt_uri = URI;
	world_node_start(&w, 0);
	conn = virConnectOpen(URI);
	ck_assert_ptr_nonnull(conn);
	o.name = "v1";
	o.node = "n1";
	o.kernel = "/nonexistent/vmlinuz";
	o.memory_bytes = 64 << 20;
	ok(hci_vm_define(w.client, &o, &w.err));
	ok(hci_event_subscribe(w.client, 0, &w.err));
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	becomes(HCI_VM_RUNNING, "running");
}

START_TEST(one_that_somebody_pauses_is_told_to_be_paused)
{
	virDomainPtr d;

	up();
	d = domain();
	ck_assert_int_eq(virDomainSuspend(d), 0);
	becomes(HCI_VM_PAUSED, "paused");
	ck_assert_int_eq(info().wanted, HCI_VM_RUNNING);
	/* It runs, for all who want to start or to forget it. */
	ck_assert_int_eq(hci_vm_start(w.client, "v1", NULL, &w.err), HCI_E_STATE);
	ck_assert_int_eq(hci_vm_undefine(w.client, "v1", &w.err), HCI_E_STATE);
	sleep(3);
	ck_assert_int_eq(info().state, HCI_VM_PAUSED);
	ck_assert_int_eq(virDomainResume(d), 0);
	becomes(HCI_VM_RUNNING, "running");
	/* And ends as others do. */
	ck_assert_int_eq(virDomainSuspend(d), 0);
	becomes(HCI_VM_PAUSED, "paused");
	virDomainFree(d);
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	becomes(HCI_VM_STOPPED, "stopped");
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	becomes(HCI_VM_RUNNING, "running");
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	virConnectClose(conn);
	world_down(&w);
}
END_TEST

START_TEST(one_that_somebody_ends_is_stopped)
{
	virDomainPtr d;

	up();
	d = domain();
	ck_assert_int_eq(virDomainDestroy(d), 0);
	virDomainFree(d);
	becomes(HCI_VM_STOPPED, "stopped");
	ck_assert_int_eq(info().wanted, HCI_VM_STOPPED);
	virConnectClose(conn);
	world_down(&w);
}
END_TEST

/* As the node's service writes it: see crash.sh. */
static int crash(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	(void)arg;
	ck_assert_ptr_nonnull(r);
	key_vm(key, "v1");
	rc = rec_vm_get(c->store, key, r, &rev, err);
	r->crashed = true;
	if (!rc)
		rc = rec_vm_put(c->store, key, r, rev, 0, NULL, err);
	mem_free(r);
	return rc;
}

START_TEST(one_that_crashed_is_told_so_until_it_is_started_again)
{
	up();
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	becomes(HCI_VM_STOPPED, "stopped");
	ok(api_call(w.client, crash, NULL, &w.err));
	becomes(HCI_VM_CRASHED, "crashed");
	ck_assert_int_eq(info().wanted, HCI_VM_STOPPED);
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	becomes(HCI_VM_RUNNING, "running");
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	becomes(HCI_VM_STOPPED, "stopped");
	virConnectClose(conn);
	world_down(&w);
}
END_TEST

/* A guest outlives its node's service, which would leave a domain alone that has no record. */
START_TEST(one_that_is_to_run_is_not_forgotten_while_its_service_is_away)
{
	up();
	world_node_stop(&w, 0);
	ck_assert_int_eq(hci_vm_undefine(w.client, "v1", &w.err), HCI_E_STATE);
	ck_assert_msg(strstr(w.err.message, "node n1") && strstr(w.err.message, "hcictl node remove"), "%s", w.err.message);
	world_node_start(&w, 0);
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	ok(hci_vm_undefine(w.client, "v1", &w.err));
	virConnectClose(conn);
	world_down(&w);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("api_vmstate");
	TCase *tc = tcase_create("vmstate");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, one_that_somebody_pauses_is_told_to_be_paused);
	tcase_add_test(tc, one_that_somebody_ends_is_stopped);
	tcase_add_test(tc, one_that_crashed_is_told_so_until_it_is_started_again);
	tcase_add_test(tc, one_that_is_to_run_is_not_forgotten_while_its_service_is_away);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
