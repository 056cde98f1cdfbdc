/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an attached volume costs: time to attach a thin one, and memory of the process that has it attached and
 * of the nodes; then memory by what is served: blocks are written all over so many segments, when all that is bounded
 * for each disk is in use.
 *
 * Memory is what malloc has handed out (mallinfo2), which does not depend on what happened before, and the
 * resident set, which does.
 */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define VOLUMES_MAX 1000

static struct {
	const char *dir;
	const char *disks[2];
	unsigned volumes, segments;
	uint64_t bytes;
} opt = { "/var/tmp", { NULL, NULL }, 100, 256, 1024 * 1024 * MiB_ };

static const char usage[] =
	"bench_attach [options]: time and memory of attached thin volumes, two nodes over TLS, as JSON\n"
	"  --dir DIR      for the store and the disks (/var/tmp)\n"
	"  --disks A,B    folders on file systems that are larger than a volume, such as sparse ones:\n"
	"                 tests/bench/attach makes them (folders of the first option)\n"
	"  --volumes N    attached at once (100)\n"
	"  --size GIB     of each (1024)\n"
	"  --segments N   of 256 MiB, in which blocks are written, after three times as many to warm up (256)\n"
	"  --help         this\n";

struct memory {
	double heap, rss, nodes_heap, nodes_rss; /* MiB */
};

static double rss_of(pid_t pid)
{
	unsigned long long kib = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmRSS: %llu", &kib);
	if (f)
		fclose(f);
	return (double)kib / 1024;
}

static struct memory memory(struct world *w)
{
	const struct target *t = world_target(w);
	struct memory out = { (double)heap_used() / (double)MiB_, rss_of(getpid()),
			      (double)world_nodes_heap(w) / (double)MiB_, 0 };

	for (unsigned i = 1; i < t->nprocs; i++)
		out.nodes_rss += rss_of(t->procs[i]);
	return out;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int create(hci_cluster *c, unsigned i)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_error err;
	char name[16];

	snprintf(name, sizeof(name), "thin%u", i);
	o.name = name;
	o.pool = "p";
	o.replicas = 2;
	o.bytes = opt.bytes;
	return hci_volume_create(c, &o, &err) ? failed("volume", &err) : 0;
}

/* Of this process, in milliseconds: the part of an attach's time that a busy machine does not change. */
static double cpu_ms(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e3 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e3;
}

static int attach(hci_cluster *c, unsigned i, hci_volume **v, double *ms)
{
	struct hci_error err;
	char name[16];
	double begin = now_s();

	snprintf(name, sizeof(name), "thin%u", i);
	if (hci_volume_attach(v, c, name, NULL, &err))
		return failed("attach", &err);
	*ms = (now_s() - begin) * 1e3;
	return 0;
}

/* What was written comes to its place, and what that took is free again. */
static void settle(struct world *w)
{
	uint64_t was = 0, now = world_nodes_heap(w);

	for (unsigned i = 0; i < 30 && now != was; i++) {
		sleep(1);
		was = now;
		now = world_nodes_heap(w);
	}
}

/* One block in each 16 MiB: the disks then have files and tables for all of it. */
static int touch(hci_volume *v, uint64_t first, uint64_t segments)
{
	void *block;
	struct hci_error err;

	if (hci_buffer_alloc(&block, 4096, &err))
		return failed("buffer", &err);
	memset(block, 1, 4096);
	for (uint64_t i = first * 16; i < (first + segments) * 16 && !load_stopped(); i++)
		if (hci_volume_pwrite(v, block, 4096, i * 16 * MiB_, &err))
			return failed("write", &err);
	hci_buffer_free(block);
	return 0;
}

static void print(const char *what, struct memory a, struct memory b, double per)
{
	printf(", \"%s\": {\"client_heap\": %.3f, \"client_rss\": %.3f, \"nodes_heap\": %.3f, \"nodes_rss\": %.3f}", what, (b.heap - a.heap) / per,
	       (b.rss - a.rss) / per, (b.nodes_heap - a.nodes_heap) / per, (b.nodes_rss - a.nodes_rss) / per);
}

static int measure(struct world *w)
{
	static hci_volume *v[VOLUMES_MAX];
	static double ms[VOLUMES_MAX], create_ms;
	struct memory none, one, all, warm, touched;
	double begin = now_s(), first = 0, cpu;
	int rc = 0;

	for (unsigned i = 0; i < opt.volumes && !rc; i++)
		rc = create(world_cluster(w), i);
	if (rc)
		return rc;
	create_ms = (now_s() - begin) * 1e3 / opt.volumes;
	fprintf(stderr, "made %u volumes, %.1f ms each\n", opt.volumes, create_ms);
	none = one = memory(w);
	cpu = cpu_ms();
	for (unsigned i = 0; i < opt.volumes && !rc && !load_stopped(); i++) {
		rc = attach(world_cluster(w), i, &v[i], &ms[i]);
		if (i == 0) {
			first = ms[0];
			one = memory(w);
		}
	}
	cpu = cpu_ms() - cpu;
	all = memory(w);
	if (!rc && !load_stopped())
		rc = touch(v[0], 0, opt.segments * 3); /* from now on the logs' memory is there, and the cache of checksums is full */
	settle(w);
	warm = memory(w);
	if (!rc && !load_stopped())
		rc = touch(v[0], opt.segments * 3, opt.segments);
	settle(w);
	touched = memory(w);
	if (!rc && !load_stopped()) {
		qsort(ms, opt.volumes, sizeof(ms[0]), by_value);
		printf("{\"volumes\": %u, \"bytes\": %llu, \"create_ms\": %.1f, \"attach_ms\": {\"first\": %.1f, \"median\": %.1f, "
		       "\"most\": %.1f, \"client_cpu\": %.1f},\n \"unit\": \"MiB\", \"base\": {\"client_heap\": %.1f, \"client_rss\": %.1f, \"nodes_heap\": %.1f, \"nodes_rss\": %.1f}",
		       opt.volumes, (unsigned long long)opt.bytes, create_ms, first, ms[opt.volumes / 2],
		       ms[opt.volumes - 1], cpu / opt.volumes, none.heap, none.rss, none.nodes_heap, none.nodes_rss);
		print("first_volume", none, one, 1);
		print("each_further_volume", one, all, opt.volumes > 1 ? opt.volumes - 1 : 1);
		print("each_tib_served", warm, touched, opt.segments / 4096.0);
		printf("}\n");
	}
	for (unsigned i = 0; i < opt.volumes; i++)
		hci_volume_unref(v[i]);
	return rc;
}

static int options(int argc, char **argv)
{
	static const struct option o[] = {
		{ "dir", 1, NULL, 'd' },      { "volumes", 1, NULL, 'n' }, { "size", 1, NULL, 'b' },
		{ "segments", 1, NULL, 's' }, { "disks", 1, NULL, 'D' },
		{ "help", 0, NULL, 'h' },     { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", o, NULL)) != -1) {
		switch (c) {
		case 'd':
			opt.dir = optarg;
			break;
		case 'n':
			opt.volumes = (unsigned)atoi(optarg);
			break;
		case 'b':
			opt.bytes = strtoull(optarg, NULL, 10) * 1024 * MiB_;
			break;
		case 'D':
			opt.disks[0] = strtok(optarg, ",");
			opt.disks[1] = strtok(NULL, ",");
			if (!opt.disks[1])
				return -1;
			break;
		case 's':
			opt.segments = (unsigned)atoi(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			return -1;
		}
	}
	return optind == argc && opt.volumes >= 1 && opt.volumes <= VOLUMES_MAX && opt.bytes && opt.segments >= 1 &&
	       opt.segments <= opt.bytes / (1024 * MiB_) ? 0 : -1;
}

static int bench(const char *dir)
{
	struct world_opts o = { .name = "attach", .tls = true, .nodes = 2, .replicas = 2 };
	struct world *w;
	int rc = -1;

	if (opt.disks[0])
		o.disks = opt.disks;
	w = world_up(dir, &o);
	if (w)
		rc = measure(w);
	world_down(w);
	return rc;
}

int main(int argc, char **argv)
{
	return bench_main(argc, argv, &(struct bench){ usage, options, &opt.dir, bench });
}
