/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VM tests need of a cluster, one verb a run, on the public API only. Not a tool for people:
 * that is hcictl.
 */
#include <errno.h>
#include <fcntl.h>
#include <hci/hci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1u << 20)

static struct hci_error err;
static hci_cluster *cluster;

static int fail(const char *what)
{
	fprintf(stderr, "vmctl %s: %s (%s)\n", what, err.message, hci_strerror(err.code));
	return 1;
}

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)arg;
	if (level <= HCI_LOG_WARN)
		fprintf(stderr, "vmctl: %s: %s\n", subsystem, line);
}

static char *buffer(void)
{
	void *p;

	if (hci_buffer_alloc(&p, CHUNK, &err))
		abort();
	return p;
}

static int do_setup(char **a) /* NODE PATH ... */
{
	struct hci_pool_opts po = HCI_POOL_OPTS_INIT;
	char uuid[HCI_UUID_STR];

	po.name = "p";
	if (hci_pool_create(cluster, &po, &err))
		return fail("pool");
	for (; a[0] && a[1]; a += 2) {
		struct hci_disk_opts o = HCI_DISK_OPTS_INIT;

		o.node = a[0];
		o.path = a[1];
		o.pool = "p";
		if (hci_disk_add(cluster, &o, uuid, &err))
			return fail("disk");
	}
	return 0;
}

static int is_zero(const char *p, size_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

static int do_import(char **a) /* VOLUME FILE REPLICAS */
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v;
	int fd = open(a[1], O_RDONLY), rc = 0;
	char *buf = buffer();
	off_t size = lseek(fd, 0, SEEK_END);

	o.name = a[0];
	o.pool = "p";
	o.bytes = (uint64_t)size;
	o.replicas = (uint32_t)atoi(a[2]);
	o.segment_bytes = 64u << 20;
	if (hci_volume_create(cluster, &o, &err) || hci_volume_attach(&v, cluster, a[0], NULL, &err))
		return fail("volume");
	for (off_t off = 0; off < size && !rc; off += CHUNK) {
		if (pread(fd, buf, CHUNK, off) != CHUNK)
			abort();
		if (!is_zero(buf, CHUNK) && hci_volume_pwrite(v, buf, CHUNK, (uint64_t)off, &err))
			rc = fail("write");
	}
	hci_volume_unref(v);
	hci_buffer_free(buf);
	close(fd);
	return rc;
}

static int do_dump(char **a) /* VOLUME FILE */
{
	struct hci_attach_opts o = HCI_ATTACH_OPTS_INIT;
	hci_volume *v;
	int fd = open(a[1], O_RDWR | O_CREAT | O_TRUNC, 0600), rc = 0;
	char *buf = buffer();

	o.wait_ms = 20000;
	if (hci_volume_attach(&v, cluster, a[0], &o, &err))
		return fail("attach");
	for (uint64_t off = 0; off < hci_volume_size(v) && !rc; off += CHUNK) {
		if (hci_volume_pread(v, buf, CHUNK, off, &err))
			rc = fail("read");
		else if (pwrite(fd, buf, CHUNK, (off_t)off) != CHUNK)
			abort();
	}
	hci_volume_unref(v);
	hci_buffer_free(buf);
	close(fd);
	return rc;
}

/* Every replica of every segment against the first. */
static int do_compare(char **a) /* VOLUME */
{
	struct hci_replica_info *r;
	uint64_t n, differ = 0;
	char *x = buffer(), *y = buffer();

	if (hci_volume_replicas(cluster, a[0], &r, &n, sizeof(*r), &err))
		return fail("replicas");
	for (uint64_t i = 1; i < n; i++) {
		if (r[i].segment != r[i - 1].segment)
			continue;
		for (uint64_t off = 0; off < 64u << 20; off += CHUNK) {
			if (hci_volume_read_replica(cluster, a[0], r[i - 1].disk, r[i].segment, x, CHUNK, off, &err) ||
			    hci_volume_read_replica(cluster, a[0], r[i].disk, r[i].segment, y, CHUNK, off, &err))
				return fail("replica");
			differ += memcmp(x, y, CHUNK) != 0;
		}
	}
	printf("%llu differ of %llu replicas\n", (unsigned long long)differ, (unsigned long long)n);
	hci_list_free(r);
	hci_buffer_free(x);
	hci_buffer_free(y);
	return differ != 0;
}

static int do_define(char **a) /* VM NODE KERNEL INITRD CMDLINE VOLUME...; its memory: VM_MEMORY MiB, if that is set */
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;
	const char *memory = getenv("VM_MEMORY");

	o.name = a[0];
	o.node = a[1];
	o.kernel = a[2];
	o.initrd = a[3];
	o.cmdline = a[4];
	o.memory_bytes = memory ? strtoull(memory, NULL, 10) << 20 : 0;
	while (a[5 + o.nvolumes]) {
		o.volumes[o.nvolumes] = a[5 + o.nvolumes];
		o.nvolumes++;
	}
	return hci_vm_define(cluster, &o, &err) ? fail("define") : 0;
}

static int job_end(hci_job *job, int64_t cancel_after_ms)
{
	struct hci_job_info i;
	int rc;

	if (cancel_after_ms > 0) {
		rc = hci_job_wait(job, cancel_after_ms, &err);
		if (rc == HCI_E_TIMEOUT)
			(void)hci_job_cancel(job, &err);
	}
	rc = hci_job_wait(job, -1, &err);
	if (rc)
		fail("job");
	else if (!hci_job_info(job, &i, sizeof(i), &err))
		printf("%s\n", i.message);
	hci_job_unref(job);
	return rc == HCI_E_CANCELLED ? 3 : rc ? 1 : 0;
}

static int do_start(char **a) /* VM [NODE] */
{
	struct hci_vm_start_opts o = HCI_VM_START_OPTS_INIT;
	hci_job *job;

	o.node = a[1];
	return hci_vm_start_on(cluster, a[0], &o, &job, &err) ? fail("start") : job_end(job, 0);
}

static int do_stop(char **a) /* VM destroy|shutdown */
{
	hci_job *job;

	return hci_vm_stop(cluster, a[0], strcmp(a[1], "destroy") ? HCI_VM_STOP_SHUTDOWN : HCI_VM_STOP_DESTROY, &job, &err) ?
		       fail("stop") :
		       job_end(job, 0);
}

/* VM NODE BANDWIDTH CANCEL_AFTER_MS [storage | postcopy=MS]; time limit: VM_TIMEOUT ms, if that is set */
static int do_check(char **a) /* VM NODE */
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	struct hci_migrate_problem *p;
	uint64_t n;

	o.to = a[1];
	if (hci_vm_check_migrate(cluster, a[0], &o, &p, &n, sizeof(*p), &err))
		return fail("check");
	for (uint64_t i = 0; i < n; i++)
		printf("%s: %s: %s\n", p[i].what, p[i].why, p[i].cure);
	hci_list_free(p);
	return n != 0;
}

static int do_migrate(char **a)
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	const char *limit = getenv("VM_TIMEOUT");
	hci_job *job;

	o.to = a[1];
	o.bandwidth_bytes = strtoull(a[2], NULL, 10);
	o.with_storage = a[4] && !strcmp(a[4], "storage");
	o.postcopy_ms = a[4] && !strncmp(a[4], "postcopy=", 9) ? (uint32_t)atoi(a[4] + 9) : 0;
	o.timeout_ms = limit ? (uint32_t)atoi(limit) : o.timeout_ms;
	return hci_vm_migrate(cluster, a[0], &o, &job, &err) ? fail("migrate") : job_end(job, atoi(a[3]));
}

static int do_limit(char **a) /* NODE BYTES: a second, of all migrations that leave it; 0: none */
{
	struct hci_node_limits l = HCI_NODE_LIMITS_INIT;

	l.migrate_bandwidth = strtoull(a[1], NULL, 10);
	return hci_node_limit(cluster, a[0], &l, &err) ? fail("limit") : 0;
}

static int do_replicas(char **a) /* VOLUME N */
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;

	o.replicas = (uint32_t)atoi(a[1]);
	return hci_volume_set(cluster, a[0], &o, NULL, &err) ? fail("replicas") : 0;
}

static int do_copies(char **a) /* VOLUME NODE */
{
	struct hci_replica_info *r;
	uint64_t n, there = 0;

	if (hci_volume_replicas(cluster, a[0], &r, &n, sizeof(*r), &err))
		return fail("replicas");
	for (uint64_t i = 0; i < n; i++)
		there += !strcmp(r[i].node, a[1]);
	printf("%llu of %llu\n", (unsigned long long)there, (unsigned long long)n);
	hci_list_free(r);
	return 0;
}

static int do_vms(char **a)
{
	struct hci_vm_info *v;
	uint64_t n;

	(void)a;
	if (hci_vm_list(cluster, &v, &n, sizeof(*v), &err))
		return fail("list");
	for (uint64_t i = 0; i < n; i++)
		printf("%s node=%s wanted=%d state=%d console=%s\n", v[i].name, v[i].node, v[i].wanted, v[i].state,
		       v[i].console_log);
	hci_list_free(v);
	return 0;
}

static int do_volumes(char **a)
{
	struct hci_volume_info *v;
	uint64_t n;

	(void)a;
	if (hci_volume_list(cluster, &v, &n, sizeof(*v), &err))
		return fail("list");
	for (uint64_t i = 0; i < n; i++)
		printf("%s attached=%s generation=%llu out=%u\n", v[i].name, v[i].attached_by,
		       (unsigned long long)v[i].generation, v[i].replicas_out);
	hci_list_free(v);
	return 0;
}

static int do_jobs(char **a)
{
	struct hci_job_info *v;
	uint64_t n;

	(void)a;
	if (hci_job_list(cluster, &v, &n, sizeof(*v), &err))
		return fail("list");
	for (uint64_t i = 0; i < n; i++)
		printf("%s %s %s node=%s state=%d error=%d %s phase=%s\n", v[i].id, v[i].type, v[i].target, v[i].node, v[i].state,
		       v[i].error, v[i].message, v[i].phase);
	hci_list_free(v);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(char **argv);
	int min;
} verbs[] = {
	{ "setup", do_setup, 2 },   { "import", do_import, 3 },   { "dump", do_dump, 2 },       { "compare", do_compare, 1 },
	{ "define", do_define, 5 }, { "start", do_start, 1 },     { "stop", do_stop, 2 },       { "migrate", do_migrate, 4 },
	{ "check", do_check, 2 },
	{ "vms", do_vms, 0 },       { "volumes", do_volumes, 0 }, { "jobs", do_jobs, 0 },
	{ "limit", do_limit, 2 },   { "replicas", do_replicas, 2 }, { "copies", do_copies, 2 },
};

/* VM_CERTS: a directory as hcictl pki issue makes them, for "admin". */
static void use_certs(struct hci_cluster_opts *o, const char *dir)
{
	static char ca[256], cert[256], key[256];

	if (!dir)
		return;
	snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
	snprintf(cert, sizeof(cert), "%s/node.crt", dir);
	snprintf(key, sizeof(key), "%s/node.key", dir);
	o->ca_file = ca;
	o->cert_file = cert;
	o->key_file = key;
	o->client_name = "admin";
}

int main(int argc, char **argv)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	int rc = 2;

	if (argc < 3)
		return 2;
	if (!strcmp(argv[2], "create"))
		return hci_cluster_create(argv[1], "test", &err) ? fail("create") : 0;
	o.store_url = argv[1];
	o.log = say;
	use_certs(&o, getenv("VM_CERTS"));
	if (hci_cluster_open(&cluster, &o, &err))
		return fail("open");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(argv[2], verbs[i].name) && argc - 3 >= verbs[i].min)
			rc = verbs[i].fn(argv + 3);
	hci_cluster_unref(cluster);
	return rc;
}
