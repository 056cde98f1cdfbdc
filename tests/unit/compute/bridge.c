/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bridges of this machine, in a network namespace of the test's own: what guests' interfaces need of them, before a start and
 * before a migration. Needs root; skipped without.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compute/compute_impl.h"
#include "unit/harness.h"

static bool alone; /* in a namespace of our own */
static int fd;

static void setup(void)
{
	alone = !unshare(CLONE_NEWNET);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (!alone)
		printf("skipped: no network namespace: %s\n", strerror(errno));
}

static void make(const char *name, int mtu, bool up)
{
	struct ifreq r = { 0 };

	ck_assert_msg(!ioctl(fd, SIOCBRADDBR, name), "bridge %s: %s", name, strerror(errno));
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	r.ifr_mtu = mtu;
	ck_assert_int_eq(ioctl(fd, SIOCSIFMTU, &r), 0);
	r.ifr_flags = up ? IFF_UP : 0;
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &r), 0);
}

START_TEST(are_told_from_other_interfaces)
{
	struct bridge b;

	if (!alone)
		return;
	make("br0", 1400, true);
	ck_assert_int_eq(bridge_look("br0", &b), 0);
	ck_assert_uint_eq(b.mtu, 1400);
	ck_assert(b.up);
	ck_assert_int_eq(bridge_look("br1", &b), ENODEV);
	ck_assert_int_eq(bridge_look("lo", &b), EMEDIUMTYPE);
}
END_TEST

START_TEST(are_listed_by_name)
{
	struct bridge b[3];

	if (!alone)
		return;
	ck_assert_uint_eq(bridge_list(b, 3), 0);
	make("br1", 1500, false);
	make("br0", 9000, true);
	ck_assert_uint_eq(bridge_list(b, 3), 2);
	ck_assert_str_eq(b[0].name, "br0");
	ck_assert_uint_eq(b[0].mtu, 9000);
	ck_assert_str_eq(b[1].name, "br1");
	ck_assert(b[0].up && !b[1].up);
	ck_assert_uint_eq(bridge_list(b, 1), 2);
}
END_TEST

/* why: NULL: nothing is lacking. */
static void lacks(const char *bridge, uint32_t mtu, bool live, const char *why, const char *cure)
{
	struct bridge_port p = { .mtu = mtu };
	struct bridge_lack l;

	snprintf(p.bridge, sizeof(p.bridge), "%s", bridge);
	ck_assert_int_eq(bridge_lacks(&p, "n7", live, &l), why != NULL);
	ck_assert_msg(!why || (strstr(l.why, why) && strstr(l.why, "n7") && strstr(l.cure, cure)), "%s: %s", l.why, l.cure);
}

START_TEST(what_is_lacking_is_said_with_its_cure)
{
	if (!alone)
		return;
	make("br0", 1500, false);
	lacks("br0", 0, false, NULL, "");
	lacks("br0", 1500, false, NULL, "");
	lacks("br0", 1501, false, "has an MTU of 1500, the interface needs 1501", "mtu 1501");
	lacks("br0", 0, true, "is down", "ip link set dev br0 up");
	lacks("br1", 0, false, "has no bridge br1", "ip link add name br1 type bridge");
	lacks("lo", 0, false, "is no Linux bridge", "choose another node");
}
END_TEST

#define NIC(bridge, more) "<interface type='bridge'>\n<mac address='02:00:00:00:00:01'/>\n<source bridge='" bridge "'/>" more "</interface>"

START_TEST(a_domain_says_what_its_interfaces_need)
{
	struct compute_needs *n = MEM_NEW(struct compute_needs);

	if (!alone)
		goto out;
	make("br0", 9000, true);
	make("br1", 1400, true);
	preflight_ports("<a/>", n);
	ck_assert_uint_eq(n->nports, 0);
	preflight_ports(NIC("br0", "<target dev='x'/>") NIC("br1", "") NIC("br0", "<mtu size='8000'/>") NIC("br9", "") "<mtu size='7'/>", n);
	ck_assert_uint_eq(n->nports, 4);
	ck_assert_str_eq(n->ports[0].bridge, "br0");
	ck_assert_uint_eq(n->ports[0].mtu, 1500); /* it was told nothing */
	ck_assert_uint_eq(n->ports[1].mtu, 1400); /* nor could it have more */
	ck_assert_uint_eq(n->ports[2].mtu, 8000);
	ck_assert_str_eq(n->ports[3].bridge, "br9");
	ck_assert_uint_eq(n->ports[3].mtu, 0);
	preflight_ports(NIC("br0'", "") NIC("-", "") "<interface type='bridge'>", n); /* no end, no name */
	ck_assert_uint_eq(n->nports, 1);
	preflight_ports(NIC("a", "") NIC("b", "") NIC("c", "") NIC("d", "") NIC("e", "") NIC("f", "") NIC("g", "") NIC("h", "") NIC("i", ""), n);
	ck_assert_uint_eq(n->nports, HCI_VM_NICS_MAX);
out:
	mem_free(n);
}
END_TEST

/* libvirt's test driver takes what it would do nothing about. */
START_TEST(a_vm_is_not_started_without_its_bridge)
{
	struct compute_nic nic = { .bridge = "br0", .port = "hci01020300-0", .mac = "02:00:00:00:00:01", .mtu = 1500 };
	struct compute_vm vm = { .name = "v1", .uuid = { { 1, 2, 3 } }, .memory_bytes = 64 << 20, .console_log = "/c", .nics = &nic, .nnics = 1,
				 .node = "n7" };
	struct compute_opts o = { .uri = "test:///default" };
	struct compute_needs *n = MEM_NEW(struct compute_needs);
	struct problems p = { 0 };
	struct hci_error err;
	struct compute *c;

	if (!alone)
		goto out;
	ck_assert_int_eq(compute_open(&o, &c, &err), 0);
	ck_assert_int_eq(compute_start(c, &vm, &err), HCI_E_STATE);
	ck_assert_msg(strstr(err.message, "VM v1: interface 0 (02:00:00:00:00:01): node n7 has no bridge br0: make it"), "%s", err.message);
	make("br0", 1400, true);
	ck_assert_int_eq(compute_start(c, &vm, &err), HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(err.message, "has an MTU of 1400, the interface needs 1500"));
	nic.mtu = 1400;
	ck_assert_msg(!compute_start(c, &vm, &err), "%s", err.message);

	/* And what it needs elsewhere. */
	ck_assert_int_eq(compute_needs(c, "v1", n, &err), 0);
	ck_assert_uint_eq(n->nports, 1);
	ck_assert_str_eq(n->ports[0].bridge, "br0");
	ck_assert_uint_eq(n->ports[0].mtu, 1400);
	n->node = "n8";
	snprintf(n->ports[0].bridge, sizeof(n->ports[0].bridge), "br1");
	compute_preflight(c, n, &p);
	for (uint32_t i = 0; i <= p.n; i++) {
		ck_assert_uint_lt(i, p.n);
		if (!strcmp(p.v[i].what, "interface 0") && strstr(p.v[i].why, "node n8 has no bridge br1") && *p.v[i].cure)
			break;
	}
	problems_free(&p);
	compute_close(c);
out:
	mem_free(n);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("compute_bridge");
	TCase *t = tcase_create("bridge");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, are_told_from_other_interfaces);
	tcase_add_test(t, are_listed_by_name);
	tcase_add_test(t, what_is_lacking_is_said_with_its_cure);
	tcase_add_test(t, a_domain_says_what_its_interfaces_need);
	tcase_add_test(t, a_vm_is_not_started_without_its_bridge);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
