/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast lost copies are made again, beside what dd copies on the same medium in the same run; and what users
 * of the volume notice of it. Three nodes, a two-replica volume, one node is killed: two thirds of the volume have lost
 * a copy, which the other two nodes make from and to each other. JSON.
 */
#include "bench.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLICES_MAX 4096u

static struct {
	const char *dir;
	double load_seconds;
	uint64_t bytes, segment;
	bool tls, idle_only;
} opt = { "/var/tmp", 10, 1536 * MiB_, 64 * MiB_, false, false };

static const char usage[] =
	"bench_rebuild [options]: making copies again beside dd, as JSON\n"
	"  --dir DIR          on the disk to measure (/var/tmp); five times the size is needed there\n"
	"  --size MIB         of the volume, of which two thirds are rebuilt (1536)\n"
	"  --segment MIB      (64)\n"
	"  --load-seconds S   of load before the node is killed (10)\n"
	"  --idle-only        not under load\n"
	"  --tls\n";

static const struct load user = { "randrw_4k_qd8", true, false, 4096, 8, 0 };

/* ---- dd ---- */

static double dd(const char *dir, uint64_t bytes)
{
	char in[300], out[300], count[64];
	double begin = now_s(), took;
	int st = 0;
	pid_t p;

	snprintf(in, sizeof(in), "if=%.250s/dd-from", dir);
	snprintf(out, sizeof(out), "of=%.250s/dd-to", dir);
	snprintf(count, sizeof(count), "count=%llu", (unsigned long long)(bytes / MiB_));
	p = fork();
	if (p == 0) {
		execlp("dd", "dd", in, out, "bs=1M", count, "iflag=direct", "oflag=direct", "conv=fsync", "status=none",
		       (char *)NULL);
		_exit(127);
	}
	waitpid(p, &st, 0);
	took = now_s() - begin;
	unlink(out + 3);
	return st ? -1 : (double)bytes / 1e6 / took;
}

static int dd_source(const char *dir, uint64_t bytes)
{
	char path[300];
	void *buf;
	FILE *f;

	snprintf(path, sizeof(path), "%.250s/dd-from", dir);
	f = fopen(path, "w");
	if (!f || hci_buffer_alloc(&buf, MiB_, NULL))
		return -1;
	for (uint64_t i = 0; i < MiB_ / 8; i++)
		((uint64_t *)buf)[i] = i * 0x9e3779b97f4a7c15u;
	for (uint64_t i = 0; i < bytes / MiB_; i++)
		if (fwrite(buf, MiB_, 1, f) != 1)
			return -1;
	hci_buffer_free(buf);
	return fflush(f) || fsync(fileno(f)) || fclose(f) ? -1 : 0;
}

/* ---- what it costs, however busy the machine is ---- */

struct cost {
	double cpu_s, written;
};

static void cost_of(pid_t pid, struct cost *c)
{
	char path[64], line[1024], *p;
	unsigned long u = 0, s = 0;
	double w = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f) && (p = strrchr(line, ')')))
		sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s);
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "write_bytes: %lf", &w);
	if (f)
		fclose(f);
	c->cpu_s += (double)(u + s) / (double)sysconf(_SC_CLK_TCK);
	c->written += w;
}

/* Of all nodes but the one that is killed. What that one wrote is counted as ours once it was waited for. */
static struct cost cost(struct world *w, bool all_there)
{
	const struct target *t = world_target(w);
	struct cost c = { 0 }, gone = { 0 };

	for (unsigned i = 0; i + 1 < t->nprocs; i++)
		cost_of(t->procs[i], &c);
	if (all_there)
		cost_of(t->procs[t->nprocs - 1], &gone);
	c.written += gone.written;
	return c;
}

/* ---- the volume ---- */

static bool whole(struct world *w)
{
	struct hci_volume_info *v;
	struct hci_error err;
	uint64_t n;
	bool yes;

	if (hci_volume_list(world_cluster(w), &v, &n, sizeof(*v), &err))
		return false;
	yes = n == 1 && !v[0].replicas_out && !v[0].rebuilding;
	hci_list_free(v);
	return yes;
}

/* Bytes of copies that the last node has. */
static uint64_t held(struct world *w, const char *node)
{
	struct hci_replica_info *r;
	struct hci_error err;
	uint64_t n, bytes = 0;

	if (hci_volume_replicas(world_cluster(w), "v", &r, &n, sizeof(*r), &err)) {
		failed("replicas", &err);
		return 0;
	}
	for (uint64_t i = 0; i < n; i++)
		bytes += !strcmp(r[i].node, node) ? opt.segment : 0;
	hci_list_free(r);
	return bytes;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct slices {
	double p50[SLICES_MAX], p99[SLICES_MAX];
	double ops;
	unsigned n;
};

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n ? v[n / 2] : 0;
}

static int slice(struct world *w, double seconds, struct slices *s)
{
	struct result r;

	if (load_run(world_target(w), &user, seconds, 0, &r, NULL))
		return -1;
	if (s->n < SLICES_MAX) {
		s->p50[s->n] = r.p50_us;
		s->p99[s->n++] = r.p99_us;
	}
	s->ops += r.ops;
	return 0;
}

struct outcome {
	double seconds, mb;
	double rate;        /* MB/s */
	double dd;          /* MB/s */
	struct cost cost;   /* from the kill to the end */
	double p50_before, p99_before, p50_during, p99_during, iops_before, iops_during;
};

static int run(const char *dir, bool load, struct outcome *o)
{
	static struct slices before, during;
	struct world_opts wo = { .name = load ? "load" : "idle", .tls = opt.tls, .local = true, .nodes = 3, .replicas = 2,
				 .bytes = opt.bytes, .segment_bytes = opt.segment, .rebuild_delay_ms = 100 };
	struct world *w = world_up(dir, &wo);
	double killed, looked, begin = 0, d;
	struct cost c;
	int rc = -1;

	memset(&before, 0, sizeof(before));
	memset(&during, 0, sizeof(during));
	if (!w || load_pass(world_target(w), true))
		goto out;
	world_target(w)->settle(world_target(w));
	o->dd = dd(dir, opt.bytes / 3 * 2);
	d = now_s();
	while (load && now_s() < d + opt.load_seconds)
		if (slice(w, 0.5, &before))
			goto out;
	o->iops_before = load ? before.ops / (now_s() - d) : 0;
	/* On a busy machine it may have been taken for dead already, and part of it made again. */
	while (!whole(w) && !load_stopped())
		usleep(100000);
	o->mb = (double)held(w, "n3") / 1e6;
	c = cost(w, true);
	world_kill(w, 2);
	killed = now_s();
	/* From when the first copy is wanted: until then nobody knew that the node does not come back. */
	while (!load_stopped()) {
		looked = now_s();
		if (load ? slice(w, 0.25, &during) : usleep(20000) && false)
			goto out;
		if (begin == 0 && !whole(w))
			begin = now_s();
		else if (begin == 0 && !held(w, "n3"))
			begin = looked; /* a small one began and ended between two looks */
		if (begin > 0 && whole(w))
			break;
		if (begin == 0 && now_s() > killed + 60) {
			fprintf(stderr, "nothing was rebuilt\n");
			goto out;
		}
		if (begin == 0)
			memset(&during, 0, sizeof(during));
	}
	if (load_stopped())
		goto out; /* what was made so far is no figure */
	o->seconds = now_s() - begin;
	o->cost = cost(w, false);
	o->cost.cpu_s -= c.cpu_s;
	o->cost.written -= c.written;
	o->rate = o->mb / o->seconds;
	o->iops_during = load ? during.ops / o->seconds : 0;
	d = dd(dir, opt.bytes / 3 * 2);
	o->dd = (o->dd + d) / 2;
	o->p50_before = median(before.p50, before.n);
	o->p99_before = median(before.p99, before.n);
	o->p50_during = median(during.p50, during.n);
	o->p99_during = median(during.p99, during.n);
	rc = held(w, "n3") ? -1 : 0;
out:
	world_down(w);
	return rc;
}

static void print(const struct outcome *o, bool load)
{
	printf("  \"%s\": {\"mb\": %.0f, \"seconds\": %.2f, \"mb_s\": %.0f, \"dd_mb_s\": %.0f, \"ratio\": %.2f", load ? "load" : "idle",
	       o->mb, o->seconds, o->rate, o->dd, o->rate / o->dd);
	if (!load)
		printf(", \"cpu_s_per_gb\": %.2f, \"written_per_byte\": %.2f", o->cost.cpu_s / o->mb * 1e3,
		       o->cost.written / 1e6 / o->mb);
	if (load)
		printf(",\n    \"user\": {\"load\": \"%s\", \"iops_before\": %.0f, \"iops_during\": %.0f, \"p50_us_before\": %.0f, "
		       "\"p50_us_during\": %.0f,\n      \"p99_us_before\": %.0f, \"p99_us_during\": %.0f, \"p99_ratio\": %.2f}",
		       user.name, o->iops_before, o->iops_during, o->p50_before, o->p50_during, o->p99_before, o->p99_during,
		       o->p99_during / o->p99_before);
	printf("}");
}

static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "dir", required_argument, NULL, 'd' },     { "size", required_argument, NULL, 's' },
		{ "segment", required_argument, NULL, 'g' }, { "load-seconds", required_argument, NULL, 'l' },
		{ "tls", no_argument, NULL, 't' },           { "idle-only", no_argument, NULL, 'i' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'd')
			opt.dir = optarg;
		else if (c == 's')
			opt.bytes = strtoull(optarg, NULL, 10) * MiB_;
		else if (c == 'g')
			opt.segment = strtoull(optarg, NULL, 10) * MiB_;
		else if (c == 'l')
			opt.load_seconds = atof(optarg);
		else if (c == 't')
			opt.tls = true;
		else if (c == 'i')
			opt.idle_only = true;
		else
			return -1;
	}
	return optind == argc && opt.bytes && opt.segment ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct outcome idle = { 0 }, load = { 0 };
	char dir[256];
	int rc = 1;

	setenv("HCI_PLUGIN_DIR", BENCH_PLUGINS, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, load_stop);
	signal(SIGTERM, load_stop);
	if (argc == 6 && !strcmp(argv[1], "--node"))
		return node_main(argv + 2);
	if (options(argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	if (scratch_make(opt.dir, dir, sizeof(dir)))
		return 1;
	load_init();
	if (dd_source(dir, opt.bytes / 3 * 2) || run(dir, false, &idle))
		goto out;
	if (!opt.idle_only && run(dir, true, &load))
		goto out;
	printf("{\"bytes\": %llu, \"segment\": %llu, \"tls\": %s,\n", (unsigned long long)opt.bytes,
	       (unsigned long long)opt.segment, opt.tls ? "true" : "false");
	print(&idle, false);
	if (!opt.idle_only) {
		printf(",\n");
		print(&load, true);
	}
	printf("\n}\n");
	rc = 0;
out:
	scratch_remove(dir);
	return rc;
}
