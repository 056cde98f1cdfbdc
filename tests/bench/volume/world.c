/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster on 127.0.0.1: nodes with one disk (a directory) each, in processes of their own or the
 * first of them in ours, and a volume over them that we attach. Public API only.
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct target t;
	struct world_opts o;
	char dir[200], store[256];
	char names[NODES_MAX][8];
	pid_t pid[NODES_MAX]; /* 0: in our process, or gone */
	int in[NODES_MAX];
	hci_cluster *c;
	hci_node *node; /* the first, if it is ours */
	hci_volume *v;
	hci_queue *q;
};

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
	unsigned long long last = 0, now;

	usleep(300000);
	for (int i = 0; i < 120 && !load_stopped(); i++) {
		now = 0;
		for (unsigned p = 0; p < t->nprocs; p++)
			now += written(t->procs[p]);
		if (now - last < MiB_)
			return;
		last = now;
		usleep(500000);
	}
}

/* ---- up and down ---- */

static void pki_dir(const struct world *w, const char *name, char *out, size_t cap)
{
	if (w->o.tls)
		snprintf(out, cap, "%.180s/pki-%s", w->dir, name);
	else
		snprintf(out, cap, "-");
}

static int issue(const struct world *w, const char *name)
{
	struct hci_error err;
	char pki[256];

	pki_dir(w, name, pki, sizeof(pki));
	mkdir(pki, 0700);
	return hci_pki_issue(w->dir, name, "127.0.0.1", pki, 0, &err) ? failed("certificate", &err) : 0;
}

static int make_cluster(const struct world *w)
{
	struct hci_error err;

	if (hci_cluster_create(w->store, "bench", &err))
		return failed("create", &err);
	if (!w->o.tls)
		return 0;
	if (hci_pki_create_ca(w->dir, "bench", &err))
		return failed("ca", &err);
	for (unsigned i = 0; i < w->o.nodes; i++)
		if (issue(w, w->names[i]))
			return -1;
	return issue(w, "client");
}

static void count_cpu(struct world *w, pid_t pid, const char *who)
{
	w->t.procs[w->t.nprocs] = pid;
	w->t.who[w->t.nprocs++] = who;
}

static int open_cache(struct world *w)
{
	struct hci_cache_opts o = HCI_CACHE_OPTS_INIT;
	struct hci_error err;

	o.path = w->o.cache;
	o.bytes = w->o.cache_size;
	o.ram = w->o.cache_ram;
	return hci_cache_open(w->c, &o, &err) ? failed("cache", &err) : 0;
}

uint64_t world_nodes_heap(struct world *w)
{
	uint64_t sum = 0, heap;

	for (unsigned i = 0; i < w->o.nodes; i++)
		if (w->in[i] >= 0 && write(w->in[i], "?", 1) == 1 && read(w->in[i], &heap, sizeof(heap)) == sizeof(heap))
			sum += heap;
	return sum;
}

int world_cache(struct world *w, uint64_t *hits, uint64_t *misses)
{
	struct hci_cache_info i;
	struct hci_error err;

	if (hci_cache_info(w->c, &i, sizeof(i), &err))
		return failed("cache", &err);
	*hits = i.hits_ram + i.hits_ssd;
	*misses = i.misses;
	return 0;
}

static int start_nodes(struct world *w)
{
	const char *us = w->o.local ? w->names[0] : "client";
	char pki[256];

	count_cpu(w, getpid(), w->o.local ? "client+n1" : "client");
	for (unsigned i = w->o.local; i < w->o.nodes; i++) {
		pki_dir(w, w->names[i], pki, sizeof(pki));
		w->pid[i] = node_spawn(w->store, w->names[i], w->dir, pki, &w->in[i]);
		if (w->pid[i] < 0)
			return -1;
		count_cpu(w, w->pid[i], w->names[i]);
	}
	pki_dir(w, us, pki, sizeof(pki));
	if (cluster_open_as(&w->c, w->store, us, pki))
		return -1;
	if (w->o.cache && open_cache(w))
		return -1;
	return w->o.local ? node_start_here(&w->node, w->c, us, w->dir) : 0;
}

static void disk_dir(const struct world *w, unsigned i, char *out, size_t cap)
{
	if (w->o.disks)
		snprintf(out, cap, "%.200s/hci-bench-%s-%s", w->o.disks[i], w->o.name, w->names[i]);
	else
		snprintf(out, cap, "%.180s/disk-%s", w->dir, w->names[i]);
}

static int add_disk(struct world *w, unsigned i)
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	struct hci_error err;
	char path[300];

	disk_dir(w, i, path, sizeof(path));
	scratch_remove(path); /* of a run that was killed */
	mkdir(path, 0700);
	o.node = w->names[i];
	o.path = path;
	o.pool = "p";
	o.log = w->o.log;
	o.log_size = w->o.log_size;
	return hci_disk_add(w->c, &o, NULL, &err) ? failed("disk", &err) : 0;
}

static int make_volume(struct world *w)
{
	struct hci_volume_opts vo = HCI_VOLUME_OPTS_INIT;
	struct hci_error err;

	vo.name = "v";
	vo.pool = "p";
	vo.replicas = w->o.replicas;
	vo.bytes = w->o.bytes;
	vo.segment_bytes = w->o.segment_bytes;
	vo.rebuild_delay_ms = w->o.rebuild_delay_ms;
	if (hci_volume_create(w->c, &vo, &err))
		return failed("volume", &err);
	if (hci_volume_attach(&w->v, w->c, "v", NULL, &err))
		return failed("attach", &err);
	if (hci_queue_create(&w->q, w->c, DEPTH_MAX, &err))
		return failed("queue", &err);
	return 0;
}

static int make_pool(struct world *w)
{
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	struct hci_error err;

	p.name = "p";
	p.policy = w->o.policy;
	if (hci_pool_create(w->c, &p, &err))
		return failed("pool", &err);
	for (unsigned i = 0; i < w->o.nodes; i++)
		if (add_disk(w, i))
			return -1;
	return w->o.bytes ? make_volume(w) : 0;
}

struct world *world_up(const char *dir, const struct world_opts *o)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->o = *o;
	snprintf(w->dir, sizeof(w->dir), "%.150s/%s", dir, o->name);
	snprintf(w->store, sizeof(w->store), "sqlite:%s/cluster.db", w->dir);
	w->t = (struct target){ .name = o->name,
				.bytes = o->bytes,
				.submit = vol_submit_,
				.reap = vol_reap_,
				.settle = vol_settle };
	for (unsigned i = 0; i < NODES_MAX; i++) {
		w->in[i] = -1;
		snprintf(w->names[i], sizeof(w->names[i]), "n%u", i + 1);
	}
	if (mkdir(w->dir, 0700) || make_cluster(w) || start_nodes(w) || make_pool(w)) {
		world_down(w);
		return NULL;
	}
	return w;
}

struct target *world_target(struct world *w)
{
	return &w->t;
}

hci_cluster *world_cluster(struct world *w)
{
	return w->c;
}

hci_volume *world_volume(struct world *w)
{
	return w->v;
}

void world_kill(struct world *w, unsigned node)
{
	kill(w->pid[node], SIGKILL);
	waitpid(w->pid[node], NULL, 0);
	w->pid[node] = 0;
}

void world_down(struct world *w)
{
	char path[300];

	if (!w)
		return;
	hci_queue_unref(w->q);
	hci_volume_unref(w->v);
	hci_node_stop(w->node);
	hci_cluster_unref(w->c);
	for (unsigned i = 0; i < w->o.nodes; i++)
		if (w->in[i] >= 0)
			close(w->in[i]); /* the node ends */
	for (unsigned i = 0; i < w->o.nodes; i++)
		if (w->pid[i] > 0)
			waitpid(w->pid[i], NULL, 0);
	for (unsigned i = 0; i < w->o.nodes; i++) {
		disk_dir(w, i, path, sizeof(path));
		scratch_remove(path);
	}
	free(w);
}
