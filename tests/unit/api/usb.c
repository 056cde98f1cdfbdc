/* SPDX-License-Identifier: Apache-2.0 */
/* USB devices of VMs through the public calls: what is refused, what is kept. */
#include <stdio.h>
#include <string.h>

#include "../harness.h"
#include "world.h"

static struct world w;

static int define(const char *name, const struct hci_vm_usb_opts *usb, uint32_t n)
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;

	o.name = name;
	o.usb = usb;
	o.nusb = n;
	memset(&w.err, 0, sizeof(w.err));
	return hci_vm_define(w.client, &o, &w.err);
}

static struct hci_vm_usb_opts device(const char *name, const char *node, const char *server)
{
	struct hci_vm_usb_opts x = HCI_VM_USB_OPTS_INIT;

	x.name = name;
	x.node = node;
	x.server = server;
	return x;
}

static void refused(struct hci_vm_usb_opts x, int want, const char *says)
{
	ck_assert_int_eq(define("v", &x, 1), want);
	ck_assert_msg(strstr(w.err.message, says), "%s", w.err.message);
}

static void wrong_ones(void)
{
	struct hci_vm_usb_opts many[HCI_VM_USB_MAX + 1], x = device("k", "n1", "tcp:h:1");
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;
	char longer[300];

	refused(device(NULL, "n1", "tcp:h:1"), HCI_E_INVAL, "its name is missing");
	refused(device("k", NULL, "tcp:h:1"), HCI_E_INVAL, "its node is missing");
	refused(device("k", "n1", NULL), HCI_E_INVAL, "its server is missing");
	refused(device("a/b", "n1", "tcp:h:1"), HCI_E_INVAL, "USB device");
	refused(device("k", "n/1", "tcp:h:1"), HCI_E_INVAL, "node");
	refused(device("k", "n9", "tcp:h:1"), HCI_E_NOTFOUND, "there is no node n9");
	refused(device("k", "n1", "127.0.0.1:4000"), HCI_E_INVAL, "server \"127.0.0.1:4000\"");
	refused(device("k", "n1", "tcp:h:"), HCI_E_INVAL, "tcp:HOST:PORT");
	refused(device("k", "n1", "unix:relative"), HCI_E_INVAL, "unix:/path");
	snprintf(longer, sizeof(longer), "tcp:%0280d:1", 0);
	refused(device("k", "n1", longer), HCI_E_INVAL, "server");
	x.reserved = 1;
	refused(x, HCI_E_INVAL, "reserved");
	for (unsigned i = 0; i <= HCI_VM_USB_MAX; i++)
		many[i] = device("k", "n1", "tcp:h:1");
	ck_assert_int_eq(define("v", many, 2), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "two USB devices are named k"));
	ck_assert_int_eq(define("v", many, HCI_VM_USB_MAX + 1), HCI_E_INVAL);
	ck_assert_int_eq(define("v", NULL, 1), HCI_E_INVAL);
	many[1].size += 8;
	ck_assert_int_eq(define("v", many, 2), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "set up all alike"));
	o.name = "v";
	o.reserved = 1;
	ck_assert_int_eq(hci_vm_define(w.client, &o, &w.err), HCI_E_INVAL);
}

START_TEST(are_kept_as_given)
{
	struct hci_vm_usb_opts x[2];
	struct hci_vm_usb_info *v;
	struct hci_vm_info *vms;
	uint64_t n;

	world_up(&w, 0);
	wrong_ones();
	x[0] = device("dongle", "n1", "tcp:127.0.0.1:4000");
	x[1] = device("reader", "n2", "unix:/run/reader");
	ok(define("v1", x, 2));
	ok(define("v2", NULL, 0));
	ok(hci_vm_usb(w.client, "v1", &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(v[0].name, "dongle");
	ck_assert_str_eq(v[0].node, "n1");
	ck_assert_str_eq(v[0].server, "tcp:127.0.0.1:4000");
	ck_assert_str_eq(v[1].name, "reader");
	ck_assert_str_eq(v[1].server, "unix:/run/reader");
	hci_list_free(v);
	ok(hci_vm_list(w.client, &vms, &n, sizeof(*vms), &w.err));
	ck_assert_uint_eq(n, 2);
	ck_assert_uint_eq(vms[0].nusb, 2);
	ck_assert_uint_eq(vms[1].nusb, 0);
	hci_list_free(vms);
	ok(hci_vm_usb(w.client, "v2", &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 0);
	hci_list_free(v);
	ck_assert_int_eq(hci_vm_usb(w.client, "v3", &v, &n, sizeof(*v), &w.err), HCI_E_NOTFOUND);
	ck_assert_int_eq(hci_vm_usb(w.client, "no/name", &v, &n, sizeof(*v), &w.err), HCI_E_INVAL);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_usb");
	TCase *t = tcase_create("usb");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, are_kept_as_given);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
