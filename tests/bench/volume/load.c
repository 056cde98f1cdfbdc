/* SPDX-License-Identifier: Apache-2.0 */
/* One load on one target for some seconds: rate, latencies, progress, CPU time of each process. */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 4000000u /* microseconds: throttled media take their time */

static struct {
	uint8_t *p;
	uint32_t len;
} buf[DEPTH_MAX];
static uint32_t *hist;
static uint64_t seed = 88172645463325252u;
static volatile sig_atomic_t stop;

double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void load_stop(int sig)
{
	(void)sig;
	stop = 1;
}

bool load_stopped(void)
{
	return stop;
}

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

void load_init(void)
{
	hist = calloc(BUCKETS, sizeof(*hist));
	if (!hist)
		exit(1);
}

/* Buffers for so many requests of that length, full of what does not compress. */
static void need(uint32_t depth, uint32_t len)
{
	for (uint32_t i = 0; i < depth; i++) {
		void *p;

		if (buf[i].len >= len)
			continue;
		hci_buffer_free(buf[i].p);
		if (hci_buffer_alloc(&p, len, NULL))
			exit(1);
		buf[i].p = p;
		buf[i].len = len;
		for (uint64_t k = 0; k < len / 8; k++)
			((uint64_t *)p)[k] = rnd();
	}
}

/* User and system time in seconds. */
static void cpu_of(pid_t pid, double *user, double *sys)
{
	unsigned long u = 0, s = 0;
	char path[64], line[1024], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f) && (p = strrchr(line, ')')))
		sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s);
	if (f)
		fclose(f);
	*user = (double)u / (double)sysconf(_SC_CLK_TCK);
	*sys = (double)s / (double)sysconf(_SC_CLK_TCK);
}

static double percentile(uint64_t n, double q)
{
	uint64_t sum = 0, want = (uint64_t)((double)n * q);

	for (uint32_t i = 0; i < BUCKETS; i++) {
		sum += hist[i];
		if (sum > want)
			return i;
	}
	return BUCKETS;
}

struct run {
	struct target *t;
	const struct load *l;
	struct series *series;
	uint64_t next, ops;
	double begin, last, gap; /* last: of the last completion */
	double start[DEPTH_MAX];
};

static uint64_t span_of(const struct run *r)
{
	return r->l->span && r->l->span < r->t->bytes ? r->l->span : r->t->bytes;
}

static int start_one(struct run *r, uint32_t tag)
{
	uint64_t units = span_of(r) / r->l->len;
	uint64_t at = (r->l->seq ? r->next++ : rnd()) % units * r->l->len;

	/* No block equals another: a cache that shares by content would hold them all in one place. */
	for (uint32_t i = 0; i < r->l->len && r->l->write; i += 4096)
		*(uint64_t *)(void *)(buf[tag].p + i) = rnd();
	r->start[tag] = now_s();
	return r->t->submit(r->t, r->l->write, buf[tag].p, r->l->len, at, tag);
}

static void progress(struct run *r, double now, uint32_t n)
{
	uint64_t second = (uint64_t)(now - r->begin);

	if (now - r->last > r->gap)
		r->gap = now - r->last;
	r->last = now;
	if (r->series && second < SERIES_MAX) {
		r->series->ops[second] += n;
		r->series->n = (unsigned)second + 1;
	}
}

/* Until the deadline, or so many operations; then what is open is waited for. */
static int drive(struct run *r, double deadline, uint64_t max)
{
	uint32_t tags[DEPTH_MAX], open = 0;
	uint64_t started = 0;
	int n, rc = 0;

	while (open < r->l->depth && started < max && !rc) {
		rc = start_one(r, open++);
		started++;
	}
	while (open && !rc) {
		n = r->t->reap(r->t, tags, DEPTH_MAX);
		if (n < 0)
			return n;
		double now = now_s();

		progress(r, now, (uint32_t)n);
		for (int i = 0; i < n; i++) {
			double us = (now - r->start[tags[i]]) * 1e6;

			hist[us < BUCKETS - 1 ? (uint32_t)us : BUCKETS - 1]++;
			r->ops++;
			open--;
			if (now < deadline && started < max && !stop && !rc) {
				rc = start_one(r, tags[i]);
				started++;
				open++;
			}
		}
	}
	return rc;
}

int load_run(struct target *t, const struct load *l, double seconds, uint64_t max, struct result *out,
	     struct series *series)
{
	struct run r = { .t = t, .l = l, .series = series };
	double u[PROCS_MAX], s[PROCS_MAX], u2, s2, took;
	int rc;

	need(l->depth, l->len);
	if (l->seq)
		r.next = rnd() % (span_of(&r) / l->len);
	memset(hist, 0, BUCKETS * sizeof(*hist));
	if (series)
		memset(series, 0, sizeof(*series));
	for (unsigned i = 0; i < t->nprocs; i++)
		cpu_of(t->procs[i], &u[i], &s[i]);
	r.begin = r.last = now_s();
	rc = drive(&r, r.begin + seconds, max ? max : UINT64_MAX);
	took = now_s() - r.begin;
	if (rc)
		return rc;
	memset(out, 0, sizeof(*out));
	out->ops = (double)r.ops;
	out->iops = out->ops / took;
	out->mb_s = out->iops * l->len / 1e6;
	out->p50_us = percentile(r.ops, 0.5);
	out->p99_us = percentile(r.ops, 0.99);
	out->gap_ms = r.gap * 1e3;
	for (unsigned i = 0; i < t->nprocs; i++) {
		cpu_of(t->procs[i], &u2, &s2);
		out->user_us[i] = (u2 - u[i]) * 1e6 / out->ops;
		out->sys_us[i] = (s2 - s[i]) * 1e6 / out->ops;
		out->cpu_us += out->user_us[i] + out->sys_us[i];
	}
	return 0;
}

int load_pass(struct target *t, bool write)
{
	const struct load l = { "pass", write, true, (uint32_t)MiB_, 8, 0 };
	struct run r = { .t = t, .l = &l };

	need(l.depth, l.len);
	r.begin = r.last = now_s();
	return drive(&r, 1e300, t->bytes / MiB_);
}
