/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a two-replica volume does beside the raw disk, in one run: short rounds that take turns, so
 * that a machine that is busy elsewhere is so for all of them. See docs/performance.md.
 *
 * The directory must be on a real disk, not in memory. Both replicas lie on that one disk: half of
 * the raw rate is the most that a write can reach.
 */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Half of a log, from where on writers are held back, with a fifth of it for the log's own entries. */
#define BURST "randwrite_4k_qd32"
#define LOG_MIB 1024
#define BURST_OPS(log_bytes) ((log_bytes) / 2 / 4096 / 5 * 4)

static const struct load loads[] = {
	{ "randread_4k_qd1", false, false, 4096, 1, 0 },
	{ "randread_4k_qd32", false, false, 4096, 32, 0 },
	{ "randwrite_4k_qd1", true, false, 4096, 1, 0 },
	{ BURST, true, false, 4096, 32, 0 },
	{ "read_1m_qd8", false, true, 1048576, 8, 0 },
	{ "write_1m_qd8", true, true, 1048576, 8, 0 },
};
/* Past what the write log holds: it must be moved as fast as it is filled. */
static const struct load sustained = { "randwrite_4k_qd32_sustained", true, false, 4096, 32, 0 };
#define LOADS (sizeof(loads) / sizeof(loads[0]))

enum { RAW, RAW_DSYNC, PLAIN, TLS, LOCAL, TARGETS };
static const char *const names[TARGETS] = { "raw", "raw_dsync", "plain", "tls", "local" };

static struct target *targets[TARGETS];
static struct world *worlds[TARGETS];
static struct row rows[TARGETS * (LOADS + 1)];
static unsigned nrows;

static struct {
	const char *dir, *only_target, *only_load, *disks[2], *log, *cache;
	double seconds, sustained_s;
	unsigned rounds;
	uint64_t bytes, log_bytes, cache_bytes, cache_ram;
	bool no_settle;
} opt = { "/var/tmp", NULL, NULL, { NULL, NULL }, NULL, NULL, 2, 20, 5, 2048 * MiB_, LOG_MIB * MiB_, 0, 0, false };

static const char usage[] =
	"bench_volume [options]: a two-replica volume beside the raw disk, as JSON on stdout\n"
	"  --dir DIR        on the disk to measure (/var/tmp); 7 times the size is needed there, and 6 write logs\n"
	"  --size MIB       of the volume and the raw file (2048)\n"
	"  --seconds S      of each load in each round (2)\n"
	"  --rounds N       (5)\n"
	"  --sustained S    seconds of random writes past the write log (20; 0: none), with the\n"
	"                   operations of each second; as many as fill the log go before\n"
	"  --target NAMES   only these of raw,raw_dsync,plain,tls,local\n"
	"  --load NAMES     only these, such as randwrite_4k_qd32,read_1m_qd8; the last is\n"
	"                   randwrite_4k_qd32_sustained\n"
	"  --disks A,B      folders on the disks of the two nodes; the raw file lies on the first\n"
	"  --log DIR        the disks' write logs go there\n"
	"  --log-size MIB   of each disk's write log (1024); randwrite_4k_qd32 ends after as many as half\n"
	"                   of it holds\n"
	"  --cache FILE     the writer's read cache, warmed before the loads\n"
	"  --cache-size MIB of that file\n"
	"  --cache-ram MIB  of the cache's part in memory\n"
	"  --no-settle      do not wait between loads until the write logs are moved, nor fill them\n"
	"  --help           this\n"
	"Targets: a raw file (O_DIRECT, Linux AIO), the same with O_DSYNC, and a volume of two\n"
	"replicas: over plain TCP, over TLS, and over TLS with the writer in the first node's process,\n"
	"as on a hyper-converged node. Progress goes to stderr, a line a load as it ends. Interrupted,\n"
	"it prints what it has, and leaves nothing behind.\n";

/* Is it one of the list, or is there no list? */
static bool want(const char *name, const char *list)
{
	size_t n = strlen(name);

	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return true;
	return !list;
}

static struct row *row_of(const struct target *target, const struct load *l)
{
	for (unsigned i = 0; i < nrows; i++)
		if (rows[i].load == l && rows[i].target == target)
			return &rows[i];
	rows[nrows].target = target;
	rows[nrows].load = l;
	return &rows[nrows++];
}

static int measure(struct target *t, const struct load *l, double seconds, struct row *row)
{
	struct result *r = &row->r[row->n];

	if (load_stopped())
		return 0;
	if (load_run(t, l, seconds, t->settle && !strcmp(l->name, BURST) ? BURST_OPS(opt.log_bytes) : 0, r, row->series))
		return -1;
	/* What it left behind must not be paid for by the next one. */
	if (t->settle && l->write && !opt.no_settle)
		t->settle(t);
	fprintf(stderr, "%-10s %-28s %9.0f ops %8.0f/s %7.1f MB/s p50 %.0f us, cpu %.1f us\n", t->name,
		l->name, r->ops, r->iops, r->mb_s, r->p50_us, r->cpu_us);
	row->n++;
	return 0;
}

static int measure_sustained(struct target *t)
{
	struct row *row = row_of(t, &sustained);
	struct result fill;
	double med, least;

	row->series = calloc(1, sizeof(*row->series));
	if (!row->series)
		return -1;
	if (t->settle && !opt.no_settle && load_run(t, &sustained, 1e9, opt.log_bytes / 4096, &fill, NULL))
		return -1;
	if (measure(t, &sustained, opt.sustained_s, row))
		return -1;
	if (!row->n)
		return 0;
	series_sum(row->series, &med, &least);
	fprintf(stderr, "%-10s by second: median %.0f, least %.0f; longest pause %.0f ms\n", t->name, med,
		least, row->r[0].gap_ms);
	return 0;
}

static int run_all(void)
{
	/* The order of the output: by target. */
	for (unsigned t = 0; t < TARGETS; t++) {
		for (unsigned i = 0; i < LOADS && targets[t]; i++)
			row_of(targets[t], &loads[i]);
		if (targets[t])
			row_of(targets[t], &sustained);
	}
	for (unsigned r = 0; r < opt.rounds; r++) {
		for (unsigned i = 0; i < LOADS; i++) {
			for (unsigned t = 0; t < TARGETS; t++) {
				if (!targets[t] || !want(loads[i].name, opt.only_load))
					continue;
				if (measure(targets[t], &loads[i], opt.seconds,
					    row_of(targets[t], &loads[i])))
					return -1;
			}
		}
	}
	for (unsigned t = 0; t < TARGETS && opt.sustained_s > 0; t++)
		if (targets[t] && want(sustained.name, opt.only_load) && measure_sustained(targets[t]))
			return -1;
	return 0;
}

/* Reads all of it until a pass finds it in the cache: that may let pass by what is read once only, or while it is busy. */
static int warm(unsigned i)
{
	uint64_t hits, misses, h0, m0;

	for (int k = 0; k < 10 && !load_stopped(); k++) {
		if (world_cache(worlds[i], &h0, &m0) || load_pass(targets[i], false) ||
		    world_cache(worlds[i], &hits, &misses))
			return -1;
		fprintf(stderr, "%-10s warming: %llu hits, %llu misses\n", names[i], (unsigned long long)(hits - h0),
			(unsigned long long)(misses - m0));
		if ((misses - m0) * 50 <= hits - h0)
			break;
	}
	return 0;
}

static int fill_all(void)
{
	for (unsigned i = 0; i < TARGETS; i++) {
		if (!targets[i] || (i == RAW_DSYNC && targets[RAW]))
			continue;
		fprintf(stderr, "filling %s: processes", targets[i]->name);
		for (unsigned k = 0; k < targets[i]->nprocs; k++)
			fprintf(stderr, " %d", (int)targets[i]->procs[k]);
		fprintf(stderr, "\n");
		if (load_pass(targets[i], true))
			return -1;
		if (targets[i]->settle)
			targets[i]->settle(targets[i]);
		if (opt.cache && i >= PLAIN && warm(i))
			return -1;
	}
	return 0;
}

static int bench(const char *dir)
{
	uint64_t hits, misses;
	char file[300];
	int rc = -1;

	snprintf(file, sizeof(file), "%s/%s", opt.disks[0] ? opt.disks[0] : dir, "hci-bench-raw");
	for (unsigned i = RAW; i <= RAW_DSYNC; i++)
		if (want(names[i], opt.only_target) &&
		    !(targets[i] = raw_open(file, opt.bytes, i == RAW_DSYNC)))
			goto out;
	for (unsigned i = PLAIN; i < TARGETS; i++) {
		struct world_opts o = { .name = names[i], .tls = i != PLAIN, .local = i == LOCAL,
					.nodes = 2, .replicas = 2, .bytes = opt.bytes,
					.disks = opt.disks[0] ? opt.disks : NULL,
					.log = opt.log, .log_size = opt.log_bytes, .cache = opt.cache,
					.cache_size = opt.cache_bytes, .cache_ram = opt.cache_ram };

		if (!want(names[i], opt.only_target))
			continue;
		worlds[i] = world_up(dir, &o);
		if (!worlds[i])
			goto out;
		targets[i] = world_target(worlds[i]);
	}
	rc = fill_all();
	if (!rc)
		rc = run_all();
	/* What was measured before something failed is worth having, too. */
	for (unsigned i = PLAIN; i < TARGETS && opt.cache; i++)
		if (worlds[i] && !world_cache(worlds[i], &hits, &misses))
			fprintf(stderr, "%-10s read cache: %llu hits, %llu misses\n", names[i], (unsigned long long)hits,
				(unsigned long long)misses);
	report(rows, nrows, opt.seconds, opt.rounds, opt.bytes, opt.log_bytes, BURST_OPS(opt.log_bytes));
out:
	for (unsigned i = PLAIN; i < TARGETS; i++)
		world_down(worlds[i]);
	for (unsigned i = RAW; i <= RAW_DSYNC; i++)
		raw_close(targets[i]);
	unlink(file);
	return rc;
}

static int options(int argc, char **argv)
{
	static const struct option o[] = {
		{ "dir", 1, NULL, 'd' },      { "size", 1, NULL, 'b' },   { "seconds", 1, NULL, 's' },
		{ "rounds", 1, NULL, 'r' },   { "target", 1, NULL, 't' }, { "load", 1, NULL, 'l' },
		{ "sustained", 1, NULL, 'u' }, { "disks", 1, NULL, 'D' },  { "log", 1, NULL, 'L' },
		{ "log-size", 1, NULL, 'S' }, { "help", 0, NULL, 'h' },   { "no-settle", 0, NULL, 'n' },
		{ "cache", 1, NULL, 'C' },    { "cache-size", 1, NULL, 'c' }, { "cache-ram", 1, NULL, 'R' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", o, NULL)) != -1) {
		switch (c) {
		case 'd':
			opt.dir = optarg;
			break;
		case 'b':
			opt.bytes = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 's':
			opt.seconds = atof(optarg);
			break;
		case 'r':
			opt.rounds = (unsigned)atoi(optarg);
			break;
		case 't':
			opt.only_target = optarg;
			break;
		case 'l':
			opt.only_load = optarg;
			break;
		case 'u':
			opt.sustained_s = atof(optarg);
			break;
		case 'D':
			opt.disks[0] = strtok(optarg, ",");
			opt.disks[1] = strtok(NULL, ",");
			if (!opt.disks[1])
				return -1;
			break;
		case 'L':
			opt.log = optarg;
			break;
		case 'S':
			opt.log_bytes = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 'C':
			opt.cache = optarg;
			break;
		case 'c':
			opt.cache_bytes = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 'R':
			opt.cache_ram = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 'n':
			opt.no_settle = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			return -1;
		}
	}
	return optind == argc && opt.rounds >= 1 && opt.rounds <= ROUNDS_MAX && opt.bytes && opt.log_bytes ? 0 : -1;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, &(struct bench){ usage, options, &opt.dir, bench });
}
