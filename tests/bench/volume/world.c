/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster of two nodes on 127.0.0.1, each a process of its own with one disk (a directory), and a
 * volume with a replica on both that this process attaches. Public API only.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODES 2

struct world {
	struct target t;
	char dir[200], store[256];
	pid_t pid[NODES];
	int in[NODES];
	hci_cluster *c;
	hci_volume *v;
	hci_queue *q;
};

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)level;
	fprintf(stderr, "%s %s: %s\n", (const char *)arg, subsystem, line);
}

static int failed(const char *what, const struct hci_error *err)
{
	fprintf(stderr, "%s: %s\n", what, err->message);
	return -1;
}

static int open_as(hci_cluster **out, const char *store, const char *name, const char *pki)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char ca[256], cert[256], key[256];
	struct hci_error err;

	o.store_url = store;
	o.client_name = name;
	o.log = say;
	o.log_arg = (void *)(uintptr_t)name;
	o.log_level = getenv("BENCH_LOG") ? HCI_LOG_INFO : HCI_LOG_WARN;
	if (strcmp(pki, "-")) {
		snprintf(ca, sizeof(ca), "%s/ca.crt", pki);
		snprintf(cert, sizeof(cert), "%s/node.crt", pki);
		snprintf(key, sizeof(key), "%s/node.key", pki);
		o.ca_file = ca;
		o.cert_file = cert;
		o.key_file = key;
	}
	return hci_cluster_open(out, &o, &err) ? failed("open", &err) : 0;
}

/* ---- a node's process ---- */

int world_node(char **argv)
{
	const char *store = argv[0], *name = argv[1], *run_dir = argv[2], *pki = argv[3];
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	struct hci_error err;
	hci_cluster *c;
	hci_node *n;
	char sink[16];

	if (open_as(&c, store, name, pki))
		return 1;
	o.name = name;
	o.listen = "tcp:127.0.0.1:0";
	o.run_dir = run_dir;
	if (hci_node_start(&n, c, &o, &err))
		return -failed("node", &err);
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	while (read(STDIN_FILENO, sink, sizeof(sink)) > 0)
		;
	hci_node_stop(n);
	hci_cluster_unref(c);
	return 0;
}

static int spawn(struct world *w, int i, const char *pki)
{
	int in[2], out[2];
	char name[16], up[8];
	ssize_t n;

	snprintf(name, sizeof(name), "n%d", i + 1);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return -1;
	w->pid[i] = fork();
	if (w->pid[i] < 0)
		return -1;
	if (w->pid[i] == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl("/proc/self/exe", "bench_volume", "--node", w->store, name, w->dir, pki,
		      (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	w->in[i] = in[1];
	n = read(out[0], up, sizeof(up));
	close(out[0]);
	return n > 0 ? 0 : -1;
}

/* ---- the target ---- */

static struct world *world_of(struct target *t)
{
	return (struct world *)(void *)t;
}

static int vol_submit_(struct target *t, bool write, void *buf, uint64_t len, uint64_t off,
		       uint32_t tag)
{
	struct world *w = world_of(t);
	struct hci_error err;
	int rc = write ? hci_volume_submit_write(w->v, w->q, buf, len, off, tag, NULL, &err)
		       : hci_volume_submit_read(w->v, w->q, buf, len, off, tag, NULL, &err);

	return rc ? failed("submit", &err) : 0;
}

static int vol_reap_(struct target *t, uint32_t *tags, int max)
{
	struct hci_completion c[DEPTH_MAX];
	int n = hci_queue_reap(world_of(t)->q, c, (uint32_t)max, -1);

	for (int i = 0; i < n; i++) {
		tags[i] = (uint32_t)c[i].tag;
		if (c[i].status) {
			fprintf(stderr, "I/O failed: %s\n", hci_strerror(c[i].status));
			return -1;
		}
	}
	return n;
}

static unsigned long long written(pid_t pid)
{
	unsigned long long v = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "write_bytes: %llu", &v);
	if (f)
		fclose(f);
	return v;
}

/* Until the nodes have moved their logs to the segments: they write next to nothing any more. */
static void vol_settle(struct target *t)
{
	struct world *w = world_of(t);
	unsigned long long last = 0, now;

	usleep(300000);
	for (int i = 0; i < 120; i++) {
		now = written(w->pid[0]) + written(w->pid[1]);
		if (now - last < MiB_)
			return;
		last = now;
		usleep(500000);
	}
}

/* ---- up and down ---- */

static int make_cluster(struct world *w, bool tls, char *pki, size_t cap)
{
	static const char *const names[] = { "client", "n1", "n2" };
	struct hci_error err;

	if (hci_cluster_create(w->store, "bench", &err))
		return failed("create", &err);
	if (tls && hci_pki_create_ca(w->dir, "bench", &err))
		return failed("ca", &err);
	snprintf(pki, cap, "-");
	for (unsigned i = 0; i < 3 && tls; i++) {
		snprintf(pki, cap, "%.180s/pki-%s", w->dir, names[i]);
		mkdir(pki, 0700);
		if (hci_pki_issue(w->dir, names[i], "127.0.0.1", pki, 0, &err))
			return failed("certificate", &err);
	}
	return 0;
}

static void pki_dir(struct world *w, bool tls, const char *name, char *out, size_t cap)
{
	if (tls)
		snprintf(out, cap, "%.180s/pki-%s", w->dir, name);
	else
		snprintf(out, cap, "-");
}

static int make_volume(struct world *w, uint64_t bytes)
{
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	struct hci_volume_opts vo = HCI_VOLUME_OPTS_INIT;
	struct hci_error err;

	p.name = "p";
	if (hci_pool_create(w->c, &p, &err))
		return failed("pool", &err);
	for (int i = 0; i < NODES; i++) {
		struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
		char node[16], path[256];

		snprintf(node, sizeof(node), "n%d", i + 1);
		snprintf(path, sizeof(path), "%.180s/disk-%s", w->dir, node);
		mkdir(path, 0700);
		o.node = node;
		o.path = path;
		o.pool = "p";
		if (hci_disk_add(w->c, &o, NULL, &err))
			return failed("disk", &err);
	}
	vo.name = "v";
	vo.pool = "p";
	vo.replicas = NODES;
	vo.bytes = bytes;
	if (hci_volume_create(w->c, &vo, &err))
		return failed("volume", &err);
	if (hci_volume_attach(&w->v, w->c, "v", NULL, &err))
		return failed("attach", &err);
	if (hci_queue_create(&w->q, w->c, DEPTH_MAX, &err))
		return failed("queue", &err);
	return 0;
}

struct world *world_up(const char *name, const char *dir, bool tls, uint64_t bytes)
{
	struct world *w = calloc(1, sizeof(*w));
	char pki[256], node[16];

	if (!w)
		return NULL;
	snprintf(w->dir, sizeof(w->dir), "%.100s/%s", dir, name);
	snprintf(w->store, sizeof(w->store), "sqlite:%s/cluster.db", w->dir);
	w->t = (struct target){ .name = name,
				.bytes = bytes,
				.submit = vol_submit_,
				.reap = vol_reap_,
				.settle = vol_settle };
	w->in[0] = w->in[1] = -1;
	if (mkdir(w->dir, 0700) || make_cluster(w, tls, pki, sizeof(pki)))
		goto fail;
	for (int i = 0; i < NODES; i++) {
		snprintf(node, sizeof(node), "n%d", i + 1);
		pki_dir(w, tls, node, pki, sizeof(pki));
		if (spawn(w, i, pki))
			goto fail;
		w->t.procs[1 + i] = w->pid[i];
	}
	w->t.procs[0] = getpid();
	w->t.nprocs = 1 + NODES;
	pki_dir(w, tls, "client", pki, sizeof(pki));
	if (open_as(&w->c, w->store, "client", pki) || make_volume(w, bytes))
		goto fail;
	return w;
fail:
	world_down(w);
	return NULL;
}

struct target *world_target(struct world *w)
{
	return &w->t;
}

void world_down(struct world *w)
{
	if (!w)
		return;
	hci_queue_unref(w->q);
	hci_volume_unref(w->v);
	hci_cluster_unref(w->c);
	for (int i = 0; i < NODES; i++) {
		if (w->in[i] >= 0)
			close(w->in[i]); /* the node ends */
		if (w->pid[i] > 0)
			waitpid(w->pid[i], NULL, 0);
	}
	free(w);
}
