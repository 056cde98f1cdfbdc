/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this benchmark share. A target takes reads and writes and gives completions
 * back: the raw file (raw.c) or a volume (world.c). load.c drives any of them, report.c prints.
 */
#ifndef BENCH_VOLUME_H
#define BENCH_VOLUME_H

#include <hci/hci.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MiB_ (UINT64_C(1024) * 1024)
#define PROCS_MAX 3
#define ROUNDS_MAX 64
#define DEPTH_MAX 64u

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
	unsigned nprocs;
};

struct load {
	const char *name;
	bool write, seq;
	uint32_t len, depth;
};

struct result {
	double iops, mb_s, p50_us, p99_us;
	double user_us[PROCS_MAX], sys_us[PROCS_MAX]; /* an operation, by process */
};

/* ---- load.c ---- */
double now_s(void);
void load_init(void);
int load_run(struct target *t, const struct load *l, double seconds, struct result *out);
/* Once over everything, 1 MiB at a time. */
int load_fill(struct target *t);

/* ---- raw.c ---- */
/* dsync: every write is durable when it is done, as a volume's are. */
struct target *raw_open(const char *path, uint64_t bytes, bool dsync);
void raw_close(struct target *t);

/* ---- world.c: two nodes in processes of their own, and us as the writer ---- */
struct world;
struct world *world_up(const char *name, const char *dir, bool tls, uint64_t bytes);
struct target *world_target(struct world *w);
void world_down(struct world *w);
/* What a node's process does, until its standard input ends. */
int world_node(char **argv);

/* ---- report.c ---- */
struct row {
	const char *target;
	const struct load *load;
	unsigned n;
	struct result r[ROUNDS_MAX];
};
void report(const struct row *rows, unsigned n, unsigned nprocs_of(const char *target),
	    double seconds, unsigned rounds, uint64_t bytes);

#endif
