/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fail the nth, for every n, in the manner of SQLite: memory, disk I/O, connections, requests to the store and its
 * answers. The scene is always the same (scene.h, rehearsed): attach, writes, a node that dies and is resynced, power loss
 * and recovery everywhere, a writer that dies and is settled after, a disk that dies and is rebuilt. Whatever fails:
 * nothing crashes, nothing is lost, all becomes whole.
 *
 *	test_sim_sweep --fail memory|io|send|store|answer [--ssds] [--every N] [--from N] [--seed N] [--verbose]
 *
 * --ssds: some disks have their write log on an SSD, which is out for a while, and then lost. --every N: each Nth only, for CI.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim/scene.h"

static volatile uint64_t at_work;

static void on_signal(int sig)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "failing %" PRIu64 ": signal %d\n", at_work, sig);

	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(3);
	signal(sig, SIG_DFL);
	raise(sig);
}

static enum scene_fail kind_of(const char *name)
{
	static const char *const names[] = { "", "memory", "io", "send", "store", "answer" };

	for (unsigned k = 1; k < ARRAY_SIZE(names); k++)
		if (!strcmp(name, names[k]))
			return (enum scene_fail)k;
	return SCENE_FAIL_NONE;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "fail", required_argument, NULL, 'f' }, { "every", required_argument, NULL, 'e' },
		{ "from", required_argument, NULL, 'n' }, { "seed", required_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },    { "ssds", no_argument, NULL, 'l' },
		{ 0 },
	};
	struct scene_opts o = { .seed = 1, .seconds = 7, .rehearsed = true, .mask = 0 };
	uint64_t every = 1, from = 1, runs = 0, broken = 0, n;
	struct scene_result r;
	int opt;

	while ((opt = getopt_long(argc, argv, "f:e:n:s:vl", longs, NULL)) != -1) {
		if (opt == 'f')
			o.fail = kind_of(optarg);
		else if (opt == 'e')
			every = strtoull(optarg, NULL, 10);
		else if (opt == 'n')
			from = strtoull(optarg, NULL, 10);
		else if (opt == 's')
			o.seed = strtoull(optarg, NULL, 10);
		else if (opt == 'v')
			o.verbose = true;
		else if (opt == 'l')
			o.ssds = true;
		else
			return 2;
	}
	if (!o.fail || !every || !from)
		return 2;
	if (o.ssds)
		o.seconds += 5;
	signal(SIGSEGV, on_signal);
	signal(SIGABRT, on_signal);
	o.points = points_new();
	/* Until there is no nth any more. */
	for (n = from;; n += every) {
		at_work = o.fail_nth = n;
		scene_play(&o, &r);
		runs++;
		if (r.why[0]) {
			broken++;
			fprintf(stderr, "failing %" PRIu64 ": %s\n", n, r.why);
		}
		if (r.could_fail < n || o.verbose)
			break;
	}
	printf("%" PRIu64 " runs, up to the %" PRIu64 "th: %" PRIu64 " violations\n", runs, n, broken);
	points_free(o.points);
	return broken ? 1 : 0;
}
