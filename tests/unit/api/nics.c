/* SPDX-License-Identifier: Apache-2.0 */
/* Network interfaces of VMs through the public calls: what is refused, what is kept, whose addresses are whose. */
#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

static struct world w;

static int define(const char *name, const struct hci_vm_nic_opts *nics, uint32_t n)
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;

	o.name = name;
	o.nics = nics;
	o.nnics = n;
	memset(&w.err, 0, sizeof(w.err));
	return hci_vm_define(w.client, &o, &w.err);
}

static struct hci_vm_nic_opts nic(const char *bridge, const char *mac)
{
	struct hci_vm_nic_opts x = HCI_VM_NIC_OPTS_INIT;

	x.bridge = bridge;
	x.mac = mac;
	return x;
}

static void refused(int rc, int want, const char *says)
{
	ck_assert_int_eq(rc, want);
	ck_assert_msg(strstr(w.err.message, says) && strstr(w.err.message, "VM v"), "%s", w.err.message);
}

static void wrong_ones(void)
{
	struct hci_vm_nic_opts x = nic(NULL, NULL), many[HCI_VM_NICS_MAX + 1];

	refused(define("v", &x, 1), HCI_E_INVAL, "bridge");
	x.bridge = "br0'/><x";
	refused(define("v", &x, 1), HCI_E_INVAL, "interface 0: bridge \"br0'/><x\"");
	x.bridge = "sixteen-bytes-it";
	refused(define("v", &x, 1), HCI_E_INVAL, "sixteen-bytes-it");
	x = nic("br0", "03:00:00:00:00:00");
	refused(define("v", &x, 1), HCI_E_INVAL, "group");
	x = nic("br0", "what");
	refused(define("v", &x, 1), HCI_E_INVAL, "no MAC address");
	x = nic("br0", NULL);
	x.mtu = 67;
	refused(define("v", &x, 1), HCI_E_INVAL, "MTU 67");
	x.mtu = 65536;
	refused(define("v", &x, 1), HCI_E_INVAL, "MTU 65536");
	x.mtu = 0;
	x.model = HCI_VM_NIC_E1000E + 1;
	refused(define("v", &x, 1), HCI_E_INVAL, "model 2");
	x.model = 0;
	x.link = HCI_VM_LINK_DOWN + 1;
	refused(define("v", &x, 1), HCI_E_INVAL, "link 2");
	for (unsigned i = 0; i <= HCI_VM_NICS_MAX; i++)
		many[i] = nic("br0", NULL);
	refused(define("v", many, HCI_VM_NICS_MAX + 1), HCI_E_INVAL, "at most 8");
	ck_assert_int_eq(define("v", NULL, 1), HCI_E_INVAL);
	many[1].size += 8;
	refused(define("v", many, 2), HCI_E_INVAL, "element 1");
	many[0] = many[1] = nic("br0", "02:00:00:00:00:01");
	refused(define("v", many, 2), HCI_E_INVAL, "interfaces 0 and 1");
}

START_TEST(are_kept_as_given_and_made)
{
	struct hci_vm_nic_opts x[8];
	struct hci_vm_nic_info *v, *u;
	struct hci_vm_info *vms;
	uint64_t n;

	world_up(&w, 0);
	wrong_ones();
	x[0] = nic("br0", "52:54:00:AA:bb:01");
	x[0].mtu = 9000;
	x[1] = nic("vmbr1.100", NULL);
	x[1].model = HCI_VM_NIC_E1000E;
	x[1].link = HCI_VM_LINK_DOWN;
	ok(define("v1", x, 2));
	ok(hci_vm_nics(w.client, "v1", &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 2);
	ck_assert_str_eq(v[0].bridge, "br0");
	ck_assert_str_eq(v[0].mac, "52:54:00:aa:bb:01");
	ck_assert_uint_eq(v[0].mtu, 9000);
	ck_assert_uint_eq(v[0].model, HCI_VM_NIC_VIRTIO);
	ck_assert_uint_eq(v[0].link, HCI_VM_LINK_UP);
	ck_assert_str_eq(v[1].bridge, "vmbr1.100");
	ck_assert_int_eq(strncmp(v[1].mac, "02:", 3), 0);
	ck_assert_uint_eq(v[1].mtu, 0);
	ck_assert_uint_eq(v[1].model, HCI_VM_NIC_E1000E);
	ck_assert_uint_eq(v[1].link, HCI_VM_LINK_DOWN);
	ck_assert_int_eq(strncmp(v[1].port, "hci", 3), 0);
	ck_assert_int_eq(strncmp(v[1].port, v[0].port, strlen(v[0].port) - 1), 0);
	ck_assert_str_ne(v[1].port, v[0].port);
	ok(hci_vm_list(w.client, &vms, &n, sizeof(*vms), &w.err));
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(vms[0].nnics, 2);
	hci_list_free(vms);

	/* No other VM gets an address that is taken, given or made, in whatever case it is written. */
	x[0] = nic("br9", "52:54:00:aa:BB:01");
	refused(define("v2", x, 1), HCI_E_EXISTS, "is VM v1's");
	x[0].mac = v[1].mac;
	refused(define("v2", x, 1), HCI_E_EXISTS, "is VM v1's");
	for (unsigned i = 0; i < 8; i++)
		x[i] = nic("br0", NULL);
	ok(define("v2", x, 8));
	ok(hci_vm_nics(w.client, "v2", &u, &n, sizeof(*u), &w.err));
	ck_assert_uint_eq(n, 8);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(u[i].mac, u[k].mac);
	hci_list_free(u);
	hci_list_free(v);

	/* Free again. */
	ok(hci_vm_undefine(w.client, "v1", &w.err));
	x[0] = nic("br9", "52:54:00:aa:BB:01");
	ok(define("v3", x, 1));
	ok(define("v4", NULL, 0));
	ok(hci_vm_nics(w.client, "v4", &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 0);
	hci_list_free(v);
	ck_assert_int_eq(hci_vm_nics(w.client, "v1", &v, &n, sizeof(*v), &w.err), HCI_E_NOTFOUND);
	ck_assert_int_eq(hci_vm_nics(w.client, "no/name", &v, &n, sizeof(*v), &w.err), HCI_E_INVAL);
	world_down(&w);
}
END_TEST

/* ---- the scheduler ---- */

static void set(int fd, const char *name, int mtu)
{
	struct ifreq r = { 0 };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	r.ifr_mtu = mtu;
	ck_assert_int_eq(ioctl(fd, SIOCSIFMTU, &r), 0);
	r.ifr_flags = IFF_UP;
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &r), 0);
}

/* In 20 s: this is said of n1; NULL: it may have the VM. */
static void comes(const char *vm, const char *why_not)
{
	struct hci_policy_candidate *v;
	uint64_t n;
	bool is = false;

	for (unsigned i = 0; i < 100 && !is; i++) {
		if (i)
			usleep(200000);
		ok(hci_policy_explain_vm(w.client, "balance", vm, &v, &n, sizeof(*v), &w.err));
		ck_assert_uint_eq(n, WORLD_NODES);
		for (uint64_t k = 0; k < n; k++) {
			/* The others run no VMs, and tell nothing. */
			if (strcmp(v[k].node, "n1"))
				ck_assert_msg(!strstr(v[k].reason, "bridge"), "%s: %s", v[k].node, v[k].reason);
			else
				is |= why_not ? strstr(v[k].reason, why_not) != NULL : !strstr(v[k].reason, "bridge");
		}
		hci_list_free(v);
	}
	ck_assert_msg(is, "it is not said of n1: %s", why_not ? why_not : "that it may have it");
}

START_TEST(no_vm_is_placed_where_its_bridge_is_missing)
{
	struct hci_vm_nic_opts x = nic("br0", NULL);
	int fd;

	if (unshare(CLONE_NEWNET)) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	set(fd, "lo", 65536);
	world_up(&w, 0);
	world_node_stop(&w, 0);
	w.libvirt_uri = "test:///default";
	world_node_start(&w, 0);
	ok(define("v1", &x, 1));
	x.mtu = 9000;
	ok(define("v2", &x, 1));
	ok(define("v3", NULL, 0));
	comes("v1", "it has no bridge br0");
	comes("v3", NULL);
	ck_assert_int_eq(ioctl(fd, SIOCBRADDBR, "br0"), 0);
	set(fd, "br0", 1500);
	comes("v1", NULL);
	comes("v2", "MTU of 1500, an interface needs 9000");
	set(fd, "br0", 9000);
	comes("v2", NULL);
	close(fd);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_nics");
	TCase *t = tcase_create("nics");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, are_kept_as_given_and_made);
	tcase_add_test(t, no_vm_is_placed_where_its_bridge_is_missing);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
