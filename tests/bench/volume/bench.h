/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of these benchmarks share. A target takes reads and writes and gives completions
 * back: the raw file (raw.c) or a volume (world.c). load.c drives any of them, report.c prints.
 */
#ifndef BENCH_VOLUME_H
#define BENCH_VOLUME_H

#include <hci/hci.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "scratch.h"

#define MiB_ (UINT64_C(1024) * 1024)
#define NODES_MAX 16
#define PROCS_MAX (1 + NODES_MAX)
#define ROUNDS_MAX 64
#define DEPTH_MAX 256u
#define SERIES_MAX 3600u

struct target {
	const char *name;
	uint64_t bytes;
	/* 0 or negative; exactly one tag is reaped for each that was accepted. */
	int (*submit)(struct target *t, bool write, void *buf, uint64_t len, uint64_t off,
		      uint32_t tag);
	/* At least one, at most max. */
	int (*reap)(struct target *t, uint32_t *tags, int max);
	void (*settle)(struct target *t); /* NULL: nothing to wait for */
	pid_t procs[PROCS_MAX];           /* whose CPU time counts: the client, then the nodes */
	const char *who[PROCS_MAX];       /* their names */
	unsigned nprocs;
};

struct load {
	const char *name;
	bool write, seq;
	uint32_t len, depth;
	uint64_t span; /* of the target's first bytes only; 0: all of it */
};

struct result {
	double ops, iops, mb_s, p50_us, p99_us;
	double gap_ms;                                /* longest time without a completion */
	double cpu_us;                                /* an operation, all processes together */
	double user_us[PROCS_MAX], sys_us[PROCS_MAX]; /* the same by process */
};

/* Operations completed in each second since the load began. */
struct series {
	unsigned n;
	uint32_t ops[SERIES_MAX];
};

/* ---- load.c ---- */
double now_s(void);
void load_init(void);
/* max: of operations, 0: as many as the seconds allow. series: NULL, or filled in. A load that load_stop() cut short
 * gives what it had. */
int load_run(struct target *t, const struct load *l, double seconds, uint64_t max, struct result *out,
	     struct series *series);
/* Once over everything, 1 MiB at a time. */
int load_pass(struct target *t, bool write);
/* From a signal handler: loads end soon. */
void load_stop(int sig);
bool load_stopped(void);

/* ---- start.c ---- */
struct bench {
	const char *usage;
	int (*options)(int argc, char **argv); /* not 0: usage is shown */
	const char *const *dir;                /* where the scratch folder is made; set by options */
	int (*run)(const char *scratch);
};
int bench_main(int argc, char **argv, const struct bench *b);

/* ---- raw.c ---- */
/* dsync: every write is durable when it is done, as a volume's are. */
struct target *raw_open(const char *path, uint64_t bytes, bool dsync);
void raw_close(struct target *t);

/* ---- world.c: nodes in processes of their own, and us as the writer ---- */
struct world_opts {
	const char *name;
	bool tls;
	bool local; /* the first node lives in our process */
	unsigned nodes, replicas;
	uint64_t bytes; /* 0: no volume is made */
	uint64_t segment_bytes;
	const char *policy;       /* placement; NULL: the default */
	const char *const *disks; /* by node; NULL: folders of our own */
	const char *log;          /* where the disks' write logs go; NULL: on the disks */
	uint64_t log_size;        /* 0: the default */
	const char *cache;        /* file of our read cache; NULL: none */
	uint64_t cache_size, cache_ram;
	uint32_t rebuild_delay_ms; /* 0: the default */
};
struct world;
struct world *world_up(const char *dir, const struct world_opts *o);
struct target *world_target(struct world *w);
hci_cluster *world_cluster(struct world *w);
hci_volume *world_volume(struct world *w);
/* Hits and misses of the read cache so far. */
int world_cache(struct world *w, uint64_t *hits, uint64_t *misses);
/* heap_used() of all nodes together. */
uint64_t world_nodes_heap(struct world *w);
void world_kill(struct world *w, unsigned node);
void world_down(struct world *w);

/* ---- node.c: a node's process ---- */
int cluster_open_as(hci_cluster **out, const char *store, const char *name, const char *pki);
int node_start_here(hci_node **out, hci_cluster *c, const char *name, const char *run_dir);
/* What malloc has handed out in this process, bytes. */
uint64_t heap_used(void);
/* What it does, until its standard input ends. Each byte that comes there is answered with heap_used(). */
int node_main(char **argv);
/* Starts one; *in is that input, and its output. Negative, or its process id. */
pid_t node_spawn(const char *store, const char *name, const char *run_dir, const char *pki, int *in);
int failed(const char *what, const struct hci_error *err);

/* ---- report.c ---- */
struct row {
	const struct target *target;
	const struct load *load;
	unsigned n;
	struct result r[ROUNDS_MAX];
	struct series *series; /* of the last round; NULL: not kept */
};
/* burst_ops: a burst ended after so many at the latest. */
void report(const struct row *rows, unsigned n, double seconds, unsigned rounds, uint64_t bytes, uint64_t log_bytes,
	    uint64_t burst_ops);
/* The median and the smallest of a series' full seconds. */
void series_sum(const struct series *s, double *med, double *least);

#endif
