/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would stop a live migration, asked before anything moves: the source says what the domain needs, the destination what of that
 * it does not have, all of it at once. Whether the whole may begin is cluster/handover_check.c's.
 */
#include "compute/compute_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIBVIRT_MIN 6008000 /* 6.8: memory over unix sockets */
#define KVM "/dev/kvm"
#define ETHERNET_MTU 1500u

/* ---- what a domain needs ---- */

/* The element as libvirt prints it, into out; left empty when there is none or it is too long. */
static void element(const char *xml, const char *name, char *out, size_t cap)
{
	char open[32], close[32];
	const char *a, *b;

	*out = '\0';
	snprintf(open, sizeof(open), "<%s ", name);
	snprintf(close, sizeof(close), "</%s>", name);
	a = strstr(xml, open);
	b = a ? strstr(a, close) : NULL;
	if (b && (size_t)(b - a) + strlen(close) < cap)
		snprintf(out, cap, "%.*s", (int)((size_t)(b - a) + strlen(close)), a);
}

/* What stands between the end of from and to; empty as above. */
static void between(const char *xml, const char *from, const char *to, char *out, size_t cap)
{
	const char *a = strstr(xml, from), *b;

	*out = '\0';
	a = a ? a + strlen(from) : NULL;
	b = a ? strstr(a, to) : NULL;
	if (b && (size_t)(b - a) < cap)
		snprintf(out, cap, "%.*s", (int)(b - a), a);
}

/*
 * Its interfaces, as libvirt prints them. What a guest that was not told an MTU counts on is Ethernet's, unless it has less
 * where it is.
 */
void preflight_ports(const char *xml, struct compute_needs *out)
{
	static const char open[] = "<interface type='bridge'", close[] = "</interface>";
	char one[2048], mtu[16];
	const char *at = xml, *end;

	out->nports = 0;
	while (out->nports < ARRAY_SIZE(out->ports) && (at = strstr(at, open)) && (end = strstr(at, close))) {
		struct bridge_port *p = &out->ports[out->nports];
		struct bridge b;

		snprintf(one, sizeof(one), "%.*s", (int)MIN(end - at, (ptrdiff_t)sizeof(one) - 1), at);
		at = end;
		between(one, "<source bridge='", "'", p->bridge, sizeof(p->bridge));
		between(one, "<mtu size='", "'", mtu, sizeof(mtu));
		if (!ether_if_name(p->bridge))
			continue;
		p->mtu = (uint32_t)strtoul(mtu, NULL, 10);
		if (!p->mtu && !bridge_look(p->bridge, &b))
			p->mtu = MIN(b.mtu, ETHERNET_MTU);
		out->nports++;
	}
}

int compute_needs(struct compute *c, const char *name, struct compute_needs *out, struct hci_error *err)
{
	virConnectPtr conn;
	virDomainPtr d;
	int rc = compute_domain(c, name, &conn, &d, err);
	char *xml;

	memset(out, 0, sizeof(*out));
	if (rc)
		return rc;
	xml = virDomainGetXMLDesc(d, VIR_DOMAIN_XML_MIGRATABLE);
	if (xml) {
		const char *type = strstr(xml, "<type ");

		out->kvm = domain_xml_is_kvm(xml);
		element(xml, "cpu", out->cpu, sizeof(out->cpu));
		between(xml, "<emulator>", "<", out->emulator, sizeof(out->emulator));
		preflight_ports(xml, out);
		between(type ? type : "", "arch='", "'", out->arch, sizeof(out->arch));
		between(type ? type : "", "machine='", "'", out->machine, sizeof(out->machine));
		free(xml);
	} else {
		rc = compute_fail(err, "VM %s cannot be described", name);
	}
	compute_domain_put(c, conn, d);
	return rc;
}

/* ---- both ends: libvirt ---- */

/* Not known is no reason to refuse: libvirt itself will say. */
static void check_libvirt(struct problems *p, virConnectPtr conn, const char *caps)
{
	unsigned long version = 0;

	if (!virConnectGetLibVersion(conn, &version) && version < LIBVIRT_MIN)
		problems_add(p, HCI_E_STATE, "libvirt", "install 6.8 or newer", "libvirt %lu.%lu is too old", version / 1000000,
			     version / 1000 % 1000);
	if (caps && strstr(caps, "<migration_features>") && !strstr(caps, "<live/>"))
		problems_add(p, HCI_E_STATE, "libvirt", "use its QEMU driver", "this hypervisor does not migrate live");
}

void compute_may_leave(struct compute *c, const char *name, bool state, struct problems *out)
{
	struct compute_state st;
	struct hci_error err;
	virConnectPtr conn;
	char *caps;
	int rc;

	if (compute_conn(c, &conn, &err)) {
		problems_add(out, err.code, "libvirt", "start it at the VM's node", "%s", err.message);
		return;
	}
	caps = virConnectGetCapabilities(conn);
	check_libvirt(out, conn, caps);
	free(caps);
	compute_conn_put(c, conn);
	rc = state ? compute_find(c, name, &st, &err) : 0;
	if (rc)
		problems_add(out, rc == HCI_E_NOTFOUND ? HCI_E_STATE : rc, "VM", "start it", "%s", err.message);
	else if (state && st.state != HCI_VM_RUNNING)
		problems_add(out, HCI_E_STATE, "VM", st.io_error ? "see to its volumes: it goes on when they answer" : "resume it",
			     "it is paused%s: only a running VM can be migrated live",
			     st.migrating ? " by a migration under way" : st.io_error ? " as a disk does not answer" : "");
}

/* ---- at the destination ---- */

/* What it could take, caches given up; UINT64_MAX: not known. */
static uint64_t memory_free(virConnectPtr conn)
{
	virNodeMemoryStats st[16];
	int n = ARRAY_SIZE(st);
	uint64_t kib = 0;

	if (virNodeGetMemoryStats(conn, VIR_NODE_MEMORY_STATS_ALL_CELLS, st, &n, 0))
		n = 0;
	for (int i = 0; i < n; i++)
		if (!strcmp(st[i].field, VIR_NODE_MEMORY_STATS_FREE) || !strcmp(st[i].field, VIR_NODE_MEMORY_STATS_CACHED) ||
		    !strcmp(st[i].field, VIR_NODE_MEMORY_STATS_BUFFERS))
			kib += st[i].value;
	if (!n)
		kib = virNodeGetFreeMemory(conn) / 1024;
	return kib ? kib * 1024 : UINT64_MAX;
}

static void check_memory(struct problems *p, virConnectPtr conn, const struct compute_needs *n)
{
	uint64_t memory = memory_free(conn);

	if (memory < n->memory_bytes)
		problems_add(p, HCI_E_STATE, "memory", "move other VMs away, or choose another node",
			     "%llu MiB of memory are free, it needs %llu", (unsigned long long)(memory / MiB),
			     (unsigned long long)(n->memory_bytes / MiB));
}

static void check_file(struct problems *p, const char *what, const char *path)
{
	if (path && *path && access(path, R_OK))
		problems_add(p, HCI_E_STATE, what, "put it there: its path is the same on every node", "%s %s: %s", what, path,
			     strerror(errno));
}

void preflight_cpu(struct problems *p, virConnectPtr conn, const struct compute_needs *n, preflight_compare *compare)
{
	/* Without KVM every CPU is emulated. */
	if (n->kvm && *n->cpu && compare(conn, n->cpu, 0) == VIR_CPU_COMPARE_INCOMPATIBLE)
		problems_add(p, HCI_E_STATE, "CPU", "give the VM a model that all nodes have",
			     "this machine's CPU lacks what its virtual CPU has");
}

bool preflight_has_machine(const char *caps, const char *arch, const char *machine)
{
	char open[64], name[96];
	const char *at, *end, *found;
	bool any = false;

	snprintf(open, sizeof(open), "<arch name='%s'>", arch);
	snprintf(name, sizeof(name), ">%s</machine>", machine);
	for (at = strstr(caps, open); at; at = strstr(end, open)) {
		end = strstr(at, "</arch>");
		if (!end)
			break;
		found = strstr(at, name);
		if (found && found < end)
			return true;
		found = strstr(at, "</machine>");
		any |= found && found < end;
	}
	return !any; /* it does not tell, as libvirt's test driver */
}

/* libvirt is told "pc-q35-7.2" by QEMU, also where "q35" was asked for: a QEMU that is older does not have it. */
static void check_qemu(struct problems *p, virConnectPtr conn, const struct compute_needs *n, const char *caps)
{
	unsigned long v = 0;

	if (*n->emulator && access(n->emulator, X_OK))
		problems_add(p, HCI_E_STATE, "QEMU", "install it where the source has it", "%s: %s", n->emulator, strerror(errno));
	if (!caps || !*n->machine || !*n->arch || preflight_has_machine(caps, n->arch, n->machine))
		return;
	(void)virConnectGetVersion(conn, &v);
	problems_add(p, HCI_E_STATE, "machine type", "install a QEMU as new as the source's",
		     "the guest has machine type %s, which QEMU %lu.%lu here does not know", n->machine, v / 1000000, v / 1000 % 1000);
}

bool preflight_has_usb(const char *domcaps)
{
	return !strstr(domcaps, "<redirdev supported='no'"); /* before libvirt 9.1 it does not tell: QEMU will */
}

static void check_usb(struct problems *p, virConnectPtr conn, const struct compute_needs *n)
{
	char *caps;

	if (!n->usb)
		return;
	caps = virConnectGetDomainCapabilities(conn, *n->emulator ? n->emulator : NULL, *n->arch ? n->arch : NULL,
					       *n->machine ? n->machine : NULL, n->kvm ? "kvm" : "qemu", 0);
	if (caps && !preflight_has_usb(caps))
		problems_add(p, HCI_E_STATE, "USB", "install its module usb-redir, or a QEMU that has it",
			     "QEMU here cannot reach USB devices of other nodes");
	free(caps);
}

static void check_postcopy(struct problems *p)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0)
		close(fd);
	else if (errno == ENOSYS || errno == EPERM)
		problems_add(p, HCI_E_STATE, "userfaultfd", "do without post-copy, or use a kernel with CONFIG_USERFAULTFD",
			     "post-copy needs it here: %s", strerror(errno));
}

/* One that is not reached is one cause, told once. */
static void check_conn(struct compute *c, struct problems *p, const struct compute_needs *n)
{
	struct compute_local local;
	struct hci_error err;
	virConnectPtr conn;
	char *caps;

	if (compute_conn(c, &conn, &err)) {
		problems_add(p, HCI_E_STATE, "libvirt", "start libvirtd there", "%s", err.message);
		return;
	}
	if (compute_local(c->uri, &local, &err))
		problems_add(p, HCI_E_STATE, "libvirt", "set libvirt_uri of the node service", "%s", err.message);
	caps = virConnectGetCapabilities(conn);
	check_libvirt(p, conn, caps);
	check_memory(p, conn, n);
	preflight_cpu(p, conn, n, virConnectCompareCPU);
	check_qemu(p, conn, n, caps);
	check_usb(p, conn, n);
	free(caps);
	compute_conn_put(c, conn);
}

void preflight_kvm(struct problems *p, const struct compute_needs *n, const char *device)
{
	if (n->kvm && access(device, R_OK | W_OK))
		problems_add(p, HCI_E_STATE, "KVM", "load the kernel's kvm module, switch virtualization on in the firmware",
			     "it runs with KVM, and %s: %s", device, strerror(errno));
}

static void check_ports(struct problems *p, const struct compute_needs *n)
{
	struct bridge_lack lack;
	char what[24];

	for (uint32_t i = 0; i < n->nports; i++) {
		snprintf(what, sizeof(what), "interface %u", i);
		if (bridge_lacks(&n->ports[i], n->node ? n->node : "?", true, &lack))
			problems_add(p, HCI_E_STATE, what, lack.cure, "%s", lack.why);
	}
}

void compute_preflight(struct compute *c, const struct compute_needs *n, struct problems *out)
{
	check_conn(c, out, n);
	preflight_kvm(out, n, KVM);
	check_ports(out, n);
	check_file(out, "kernel", n->kernel);
	check_file(out, "initrd", n->initrd);
	if (n->postcopy)
		check_postcopy(out);
}
