/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a two-replica volume does beside the raw disk, in one run: short rounds that take turns, so
 * that a machine that is busy elsewhere is so for all of them. See docs/performance.md.
 *
 * The directory must be on a real disk, not in memory. Both replicas lie on that one disk: half of
 * the raw rate is the most that a write can reach.
 */
#include "bench.h"

#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct load loads[] = {
	{ "randread_4k_qd1", false, false, 4096, 1 },
	{ "randread_4k_qd32", false, false, 4096, 32 },
	{ "randwrite_4k_qd1", true, false, 4096, 1 },
	{ "randwrite_4k_qd32", true, false, 4096, 32 },
	{ "read_1m_qd8", false, true, 1048576, 8 },
	{ "write_1m_qd8", true, true, 1048576, 8 },
};
/* Past what the write log holds: it must be moved as fast as it is filled. */
static const struct load sustained = { "randwrite_4k_qd32_sustained", true, false, 4096, 32 };
#define LOADS (sizeof(loads) / sizeof(loads[0]))
#define TARGETS 4

static struct target *targets[TARGETS];
static struct row rows[TARGETS * (LOADS + 1)];
static unsigned nrows;

static struct {
	const char *dir, *only_target, *only_load;
	double seconds, sustained_s;
	unsigned rounds;
	uint64_t bytes;
} opt = { "/var/tmp", NULL, NULL, 2, 20, 5, 2048 * MiB_ };

static const char usage[] =
	"bench_volume [options]: a two-replica volume beside the raw disk, as JSON\n"
	"  --dir DIR        on the disk to measure (/var/tmp); 5 times the size is needed there\n"
	"  --size MIB       of the volume and the raw file (2048)\n"
	"  --seconds S      of each load in each round (2)\n"
	"  --rounds N       (5)\n"
	"  --sustained S    seconds of random writes past the write log (20; 0: none)\n"
	"  --target NAME    only raw, raw_dsync, plain or tls\n"
	"  --load NAME      only this one, such as randwrite_4k_qd32\n";

static bool want(const char *name, const char *only)
{
	return !only || !strcmp(name, only);
}

static struct row *row_of(const char *target, const struct load *l)
{
	for (unsigned i = 0; i < nrows; i++)
		if (rows[i].load == l && !strcmp(rows[i].target, target))
			return &rows[i];
	rows[nrows].target = target;
	rows[nrows].load = l;
	return &rows[nrows++];
}

static unsigned nprocs_of(const char *target)
{
	for (unsigned i = 0; i < TARGETS; i++)
		if (targets[i] && !strcmp(targets[i]->name, target))
			return targets[i]->nprocs;
	return 0;
}

static int measure(struct target *t, const struct load *l, double seconds, struct row *row)
{
	if (load_run(t, l, seconds, &row->r[row->n]))
		return -1;
	/* What it left behind must not be paid for by the next one. */
	if (t->settle && l->write)
		t->settle(t);
	fprintf(stderr, "%-10s %-28s %8.0f/s %7.1f MB/s p50 %.0f us\n", t->name, l->name,
		row->r[row->n].iops, row->r[row->n].mb_s, row->r[row->n].p50_us);
	row->n++;
	return 0;
}

static int run_all(void)
{
	/* The order of the output: by target. */
	for (unsigned t = 0; t < TARGETS; t++) {
		for (unsigned i = 0; i < LOADS && targets[t]; i++)
			row_of(targets[t]->name, &loads[i]);
		if (targets[t])
			row_of(targets[t]->name, &sustained);
	}
	for (unsigned r = 0; r < opt.rounds; r++) {
		for (unsigned i = 0; i < LOADS; i++) {
			for (unsigned t = 0; t < TARGETS; t++) {
				if (!targets[t] || !want(loads[i].name, opt.only_load))
					continue;
				if (measure(targets[t], &loads[i], opt.seconds,
					    row_of(targets[t]->name, &loads[i])))
					return -1;
			}
		}
	}
	for (unsigned t = 0; t < TARGETS && opt.sustained_s > 0; t++)
		if (targets[t] && want(sustained.name, opt.only_load) &&
		    measure(targets[t], &sustained, opt.sustained_s,
			    row_of(targets[t]->name, &sustained)))
			return -1;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

static int bench(const char *dir)
{
	struct world *plain = NULL, *tls = NULL;
	char file[300];
	int rc = -1;

	snprintf(file, sizeof(file), "%s/raw", dir);
	if (want("raw", opt.only_target) && !(targets[0] = raw_open(file, opt.bytes, false)))
		goto out;
	if (want("raw_dsync", opt.only_target) && !(targets[1] = raw_open(file, opt.bytes, true)))
		goto out;
	if (want("plain", opt.only_target)) {
		plain = world_up("plain", dir, false, opt.bytes);
		if (!plain)
			goto out;
		targets[2] = world_target(plain);
	}
	if (want("tls", opt.only_target)) {
		tls = world_up("tls", dir, true, opt.bytes);
		if (!tls)
			goto out;
		targets[3] = world_target(tls);
	}
	for (unsigned i = 0; i < TARGETS; i++) {
		if (!targets[i] || (i == 1 && targets[0]))
			continue;
		fprintf(stderr, "filling %s: processes", targets[i]->name);
		for (unsigned k = 0; k < targets[i]->nprocs; k++)
			fprintf(stderr, " %d", (int)targets[i]->procs[k]);
		fprintf(stderr, "\n");
		if (load_fill(targets[i]))
			goto out;
		if (targets[i]->settle)
			targets[i]->settle(targets[i]);
	}
	rc = run_all();
	if (!rc)
		report(rows, nrows, nprocs_of, opt.seconds, opt.rounds, opt.bytes);
out:
	world_down(tls);
	world_down(plain);
	raw_close(targets[1]);
	raw_close(targets[0]);
	return rc;
}

static int options(int argc, char **argv)
{
	static const struct option o[] = {
		{ "dir", 1, NULL, 'd' },       { "size", 1, NULL, 'b' },
		{ "seconds", 1, NULL, 's' },   { "rounds", 1, NULL, 'r' },
		{ "target", 1, NULL, 't' },    { "load", 1, NULL, 'l' },
		{ "sustained", 1, NULL, 'u' }, { NULL, 0, NULL, 0 },
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
		default:
			return -1;
		}
	}
	return optind == argc && opt.rounds >= 1 && opt.rounds <= ROUNDS_MAX && opt.bytes ? 0 : -1;
}

int main(int argc, char **argv)
{
	char dir[256];
	int rc;

	setenv("HCI_PLUGIN_DIR", BENCH_PLUGINS, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 6 && !strcmp(argv[1], "--node"))
		return world_node(argv + 2);
	if (options(argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	snprintf(dir, sizeof(dir), "%.200s/hci-bench-XXXXXX", opt.dir);
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	load_init();
	rc = bench(dir);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return rc ? 1 : 0;
}
