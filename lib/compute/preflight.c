/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would stop a live migration, asked before anything moves: the source says what the domain needs, the destination what of that
 * it does not have, all of it at once.
 */
#include "compute/compute_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#define LIBVIRT_MIN 6008000 /* 6.8: memory over unix sockets */

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
		out->kvm = domain_xml_is_kvm(xml);
		element(xml, "cpu", out->cpu, sizeof(out->cpu));
		free(xml);
	} else {
		rc = compute_fail(err, "VM %s cannot be described", name);
	}
	compute_domain_put(c, conn, d);
	return rc;
}

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

static void problem(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
static void problem(struct buf *b, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(b, "%s%s", b->len ? "; " : "", text);
}

static void check_file(struct buf *b, const char *what, const char *path)
{
	if (path && *path && access(path, R_OK))
		problem(b, "its %s %s: %s", what, path, strerror(errno));
}

static void check_cpu(struct buf *b, virConnectPtr conn, const struct compute_needs *n)
{
	int rc;

	/* Without KVM every CPU is emulated. */
	if (!n->kvm || !*n->cpu)
		return;
	rc = virConnectCompareCPU(conn, n->cpu, 0);
	if (rc == VIR_CPU_COMPARE_INCOMPATIBLE)
		problem(b, "this machine's CPU lacks what its virtual CPU has: give the VM a model that all nodes have");
}

static void check_conn(struct compute *c, struct buf *b, const struct compute_needs *n)
{
	unsigned long version = 0;
	struct hci_error err;
	virConnectPtr conn;
	uint64_t memory;

	if (compute_conn(c, &conn, &err)) {
		problem(b, "%.250s", err.message);
		return;
	}
	if (!virConnectGetLibVersion(conn, &version) && version < LIBVIRT_MIN)
		problem(b, "libvirt %lu.%lu is too old: 6.8 or newer is needed", version / 1000000, version / 1000 % 1000);
	memory = memory_free(conn);
	if (memory < n->memory_bytes)
		problem(b, "%llu MiB of memory are free, it needs %llu", (unsigned long long)(memory / MiB),
			(unsigned long long)(n->memory_bytes / MiB));
	check_cpu(b, conn, n);
	compute_conn_put(c, conn);
}

int compute_preflight(struct compute *c, const struct compute_needs *n, struct hci_error *err)
{
	struct compute_local local;
	struct buf b = BUF_INIT;
	struct hci_error why;
	int rc = 0;

	if (compute_local(c->uri, &local, &why))
		problem(&b, "%.250s", why.message);
	check_conn(c, &b, n);
	if (n->kvm && access("/dev/kvm", R_OK | W_OK))
		problem(&b, "it runs with KVM, and /dev/kvm: %s", strerror(errno));
	check_file(&b, "kernel", n->kernel);
	check_file(&b, "initrd", n->initrd);
	if (b.failed)
		rc = err_set(err, HCI_E_NOMEM, "out of memory");
	else if (b.len)
		rc = err_set(err, HCI_E_STATE, "%.*s", (int)MIN(b.len, 480), (const char *)b.data);
	buf_free(&b);
	return rc;
}
