/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throughput with all nodes, and with one of them dead after that was noticed. Told where the nodes'
 * disks are; tests/bench/nodes makes disks that are slow enough to be the bottleneck.
 */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	const char *dir, *policy, *disks[NODES_MAX];
	unsigned nodes;
	double seconds;
	uint32_t depth;
	uint64_t bytes, segment_bytes;
} opt = { "/var/tmp", NULL, { NULL }, 0, 6, 128, 512 * MiB_, 4 * MiB_ };

static const char usage[] =
	"bench_nodes --disks A,B,... [options]: a volume of two replicas with all nodes and with one gone, as JSON\n"
	"  --disks A,B,...  a folder on each node's disk; as many nodes\n"
	"  --dir DIR        for the store (/var/tmp)\n"
	"  --policy NAME    placement (the default policy)\n"
	"  --size MIB       of the volume (512)\n"
	"  --segment MIB    (4: many, so that they spread evenly)\n"
	"  --seconds S      of each load (6)\n"
	"  --depth N        requests at a time (128)\n"
	"  --help           this\n";

static struct load loads[] = {
	{ "randread_8k", false, false, 8192, 0, 0 },
	{ "randread_64k", false, false, 65536, 0, 0 },
	{ "randwrite_8k", true, false, 8192, 0, 0 },
};
#define LOADS (sizeof(loads) / sizeof(loads[0]))

static int measure(struct target *t, const char *when, struct result *r)
{
	for (unsigned i = 0; i < LOADS; i++) {
		struct result warm;

		/* Queues fill and the throttle's first slices pass before it counts. */
		if (load_run(t, &loads[i], opt.seconds / 6, 0, &warm, NULL) ||
		    load_run(t, &loads[i], opt.seconds, 0, &r[i], NULL))
			return -1;
		if (loads[i].write)
			t->settle(t);
		fprintf(stderr, "%-8s %-14s %9.0f ops %8.0f/s %7.1f MB/s p50 %.0f us, longest pause %.0f ms, cpu %.1f us\n",
			when, loads[i].name, r[i].ops, r[i].iops, r[i].mb_s, r[i].p50_us, r[i].gap_ms, r[i].cpu_us);
	}
	return 0;
}

/* Writes go on until the set is without the dead node's disk; how long that took, in ms. */
static int notice(struct world *w, double *ms)
{
	static const struct load touch = { "notice", true, false, 8192, 8, 0 };
	struct hci_volume_status st;
	double begin = now_s();
	struct hci_error err;
	struct result r;

	do {
		if (load_run(world_target(w), &touch, 0.2, 0, &r, NULL))
			return -1;
		if (hci_volume_status(world_volume(w), &st, sizeof(st), &err))
			return failed("status", &err);
	} while (!st.replicas_out && now_s() - begin < 60 && !load_stopped());
	*ms = (now_s() - begin) * 1e3;
	fprintf(stderr, "noticed after %.0f ms: %u of %u segments have one copy\n", *ms, st.segments_degraded, st.segments);
	return st.replicas_out ? 0 : -1;
}

static void print(const struct result *all, const struct result *less, double noticed_ms)
{
	printf("{\"nodes\": %u, \"policy\": \"%s\", \"noticed_ms\": %.0f", opt.nodes, opt.policy ? opt.policy : "", noticed_ms);
	for (unsigned i = 0; i < LOADS; i++)
		printf(", \"%s\": {\"all\": %.0f, \"one_gone\": %.0f, \"ratio\": %.3f, \"cpu_us_per_op\": [%.1f, %.1f]}",
		       loads[i].name, all[i].iops, less[i].iops, less[i].iops / all[i].iops, all[i].cpu_us, less[i].cpu_us);
	printf("}\n");
}

static int bench(const char *dir)
{
	struct world_opts o = { .name = "nodes", .nodes = opt.nodes, .replicas = 2, .bytes = opt.bytes,
				.segment_bytes = opt.segment_bytes, .policy = opt.policy, .disks = opt.disks,
				.log_size = 16 * MiB_ }; /* formatting writes it, on slow disks */
	struct world *w = world_up(dir, &o);
	struct result all[LOADS], less[LOADS];
	double noticed_ms = 0;
	int rc = -1;

	if (!w)
		return -1;
	for (unsigned i = 0; i < LOADS; i++)
		loads[i].depth = opt.depth;
	fprintf(stderr, "filling\n");
	if (load_pass(world_target(w), true))
		goto out;
	world_target(w)->settle(world_target(w));
	if (measure(world_target(w), "all", all) || load_stopped())
		goto out;
	world_kill(w, opt.nodes / 2);
	if (notice(w, &noticed_ms) || measure(world_target(w), "one gone", less) || load_stopped())
		goto out;
	print(all, less, noticed_ms);
	rc = 0;
out:
	world_down(w);
	return rc;
}

static int options(int argc, char **argv)
{
	static const struct option o[] = {
		{ "dir", 1, NULL, 'd' },     { "policy", 1, NULL, 'p' },  { "disks", 1, NULL, 'D' },
		{ "size", 1, NULL, 'b' },    { "seconds", 1, NULL, 's' }, { "depth", 1, NULL, 'q' },
		{ "segment", 1, NULL, 'g' }, { "help", 0, NULL, 'h' },    { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", o, NULL)) != -1) {
		switch (c) {
		case 'd':
			opt.dir = optarg;
			break;
		case 'p':
			opt.policy = optarg;
			break;
		case 'D':
			for (char *p = strtok(optarg, ","); p && opt.nodes < NODES_MAX; p = strtok(NULL, ","))
				opt.disks[opt.nodes++] = p;
			break;
		case 'b':
			opt.bytes = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 'g':
			opt.segment_bytes = strtoull(optarg, NULL, 10) * MiB_;
			break;
		case 's':
			opt.seconds = atof(optarg);
			break;
		case 'q':
			opt.depth = (uint32_t)atoi(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			return -1;
		}
	}
	return optind == argc && opt.nodes >= 3 && opt.bytes && opt.depth >= 1 && opt.depth <= DEPTH_MAX ? 0 : -1;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, &(struct bench){ usage, options, &opt.dir, bench });
}
