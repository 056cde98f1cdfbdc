/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs seeds (scene.h), one after the other; one line for each broken rule, with its seed, and a summary.
 *
 *	test_sim_volume --seeds FIRST-LAST [--time SECONDS] [--verbose] [--block [VOLUME:]N] [--twice] [--only KIND,...]
 *	                [--lies] [--mutate NAME] [--points FILE] [--need-points]
 *
 * --lies leaves out the seeds whose disks keep what was written: seven of eight.
 * --mutate plants a bug in the engine (mutations.h): the run then passes if one of the seeds finds it, and stops
 * there. --points writes how often each marked point was reached; --need-points fails if one never was.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sim/mutations.h"
#include "sim/scene.h"

struct params {
	struct scene_opts scene;
	uint64_t first, last;
	bool twice, lies, mutate, need_points;
	const char *points_file;
};

struct totals {
	uint64_t seeds, broken;
	struct scene_result sum;
};

static volatile uint64_t seed_at_work;

static void on_signal(int sig)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "seed %" PRIu64 ": signal %d\n", seed_at_work, sig);

	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(3);
	signal(sig, SIG_DFL);
	raise(sig);
}

static uint64_t play(struct params *p, uint64_t seed, struct totals *t)
{
	struct scene_result r;
	struct scene_result *s = &t->sum;

	seed_at_work = p->scene.seed = seed;
	scene_play(&p->scene, &r);
	if (r.why[0])
		fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, r.why);
	t->seeds++;
	t->broken += r.why[0] != '\0';
	s->events += r.events;
	s->virtual_ns += r.virtual_ns;
	s->reads += r.reads;
	s->writes += r.writes;
	s->failed += r.failed;
	s->attaches += r.attaches;
	s->mended += r.mended;
	s->history.uncertain += r.history.uncertain;
	s->history.resolved += r.history.resolved;
	s->history.checked += r.history.checked;
	for (unsigned k = 0; k < TR_KINDS; k++)
		s->faults[k] += r.faults[k];
	s->logs.disks += r.logs.disks;
	s->logs.back += r.logs.back;
	s->logs.given_up += r.logs.given_up;
	s->logs.refused += r.logs.refused;
	cluster_add_cache(&s->cache, &r.cache);
	return r.digest;
}

static void play_all(struct params *p, struct totals *t)
{
	for (uint64_t seed = p->first; seed <= p->last; seed++) {
		uint64_t digest;

		if (p->lies && !scene_lies(seed))
			continue;
		digest = play(p, seed, t);
		if (p->mutate && t->broken)
			return;
		if (p->twice && play(p, seed, t) != digest) {
			fprintf(stderr, "seed %" PRIu64 ": two runs differ\n", seed);
			t->broken++;
		}
	}
}

/* ---- output ---- */

static void print_totals(const struct totals *t, double secs)
{
	const struct scene_result *s = &t->sum;

	printf("%" PRIu64 " seeds, %" PRIu64 " violations; %.1f virtual hours and %" PRIu64 " events in %.1f s (%.0f/s)\n",
	       t->seeds, t->broken, (double)s->virtual_ns / 3600e9, s->events, secs, (double)s->events / secs);
	printf("%" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " failed requests, %" PRIu64 " attaches, %" PRIu64
	       " uncertain writes, %" PRIu64 " settled, %" PRIu64 " blocks checked, %" PRIu64 " mended by scrubs\n",
	       s->reads, s->writes, s->failed, s->attaches, s->history.uncertain, s->history.resolved, s->history.checked,
	       s->mended);
	printf("read cache: %" PRIu64 " hits in memory, %" PRIu64 " on the SSD, %" PRIu64 " misses; %" PRIu64
	       " blocks admitted, %" PRIu64 " shared, %" PRIu64 " evicted; %" PRIu64 " kept, %" PRIu64 " outdated; %" PRIu64
	       " errors, %" PRIu64 " rotten\n",
	       s->cache.hits_ram, s->cache.hits_ssd, s->cache.misses, s->cache.admitted, s->cache.shared, s->cache.evicted,
	       s->cache.proven, s->cache.outdated, s->cache.errors, s->cache.corrupt);
	printf("write logs on SSDs: %" PRIu64 " disks; %" PRIu64 " logs came back, %" PRIu64 " disks were given up, %" PRIu64
	       " for an old log\n",
	       s->logs.disks, s->logs.back, s->logs.given_up, s->logs.refused);
	for (unsigned k = 0; k < TR_KINDS; k++)
		if (k != TR_AMBUSH)
			printf("%s%s %" PRIu64, k ? ", " : "faults: ", trouble_name((enum trouble_kind)k), s->faults[k]);
	printf("\n");
}

/* False: the file cannot be written, or points are missing and needed. */
static bool print_points(const struct params *p)
{
	FILE *f = p->points_file ? fopen(p->points_file, "w") : NULL;
	uint32_t never = 0;
	char name[80];

	if (p->points_file && !f) {
		perror(p->points_file);
		return false;
	}
	if (f)
		points_print(p->scene.points, f);
	for (uint32_t k = 0; k < points_targets(p->scene.points); k++) {
		if (!points_missing(p->scene.points, k))
			continue;
		never++;
		if (p->need_points)
			fprintf(stderr, "never reached: %s\n", points_name(p->scene.points, k, name, sizeof(name)));
	}
	printf("%u of %u marked points reached\n", points_targets(p->scene.points) - never, points_targets(p->scene.points));
	if (f && fclose(f)) {
		perror(p->points_file);
		return false;
	}
	return !p->need_points || never == 0;
}

/* ---- the program ---- */

static uint32_t kinds_of(char *list)
{
	uint32_t mask = 0;

	for (char *k = strtok(list, ","); k; k = strtok(NULL, ",")) {
		for (unsigned i = 0; i < TR_KINDS; i++)
			mask |= strcmp(k, trouble_name((enum trouble_kind)i)) == 0 ? 1u << i : 0;
	}
	return mask;
}

static bool plant(struct params *p, const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(mutations); i++) {
		if (strcmp(name, mutations[i].name) != 0)
			continue;
		p->mutate = true;
		p->scene.mutate |= mutations[i].volume;
		p->scene.mutate_replica |= mutations[i].replica;
		p->scene.mutate_cache |= mutations[i].cache;
		return true;
	}
	fprintf(stderr, "no mutation is called '%s'; there are:", name);
	for (unsigned i = 0; i < ARRAY_SIZE(mutations); i++)
		fprintf(stderr, " %s", mutations[i].name);
	fprintf(stderr, "\n");
	return false;
}

static void take_seeds(struct params *p, const char *text)
{
	const char *dash = strchr(text, '-');

	p->first = strtoull(text, NULL, 10);
	p->last = dash ? strtoull(dash + 1, NULL, 10) : p->first;
}

static void take_block(struct params *p, const char *text)
{
	const char *colon = strchr(text, ':');

	p->scene.trace_volume = colon ? (uint32_t)strtoul(text, NULL, 10) : 0;
	p->scene.trace = strtoull(colon ? colon + 1 : text, NULL, 10) + 1;
}

static bool options(struct params *p, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seeds", required_argument, NULL, 's' }, { "time", required_argument, NULL, 't' },
		{ "verbose", no_argument, NULL, 'v' },     { "twice", no_argument, NULL, '2' },
		{ "only", required_argument, NULL, 'o' },  { "block", required_argument, NULL, 'b' },
		{ "mutate", required_argument, NULL, 'm' }, { "points", required_argument, NULL, 'p' },
		{ "need-points", no_argument, NULL, 'n' }, { "lies", no_argument, NULL, 'l' },
		{ 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "s:t:v2o:b:m:p:nl", longs, NULL)) != -1) {
		switch (opt) {
		case 's':
			take_seeds(p, optarg);
			break;
		case 't':
			p->scene.seconds = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			p->scene.verbose = true;
			break;
		case '2':
			p->twice = true;
			break;
		case 'o':
			p->scene.mask = kinds_of(optarg);
			break;
		case 'b':
			take_block(p, optarg);
			break;
		case 'm':
			if (!plant(p, optarg))
				return false;
			break;
		case 'p':
			p->points_file = optarg;
			break;
		case 'n':
			p->need_points = true;
			break;
		case 'l':
			p->lies = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	struct params p = { .scene = { .seconds = 40, .mask = UINT32_MAX }, .last = 19 };
	struct totals t = { 0 };
	struct timespec t0, t1;
	bool points_ok;

	if (!options(&p, argc, argv))
		return 2;
	signal(SIGSEGV, on_signal);
	signal(SIGABRT, on_signal);
	p.scene.points = points_new();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	play_all(&p, &t);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	print_totals(&t, (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	points_ok = p.mutate || print_points(&p);
	points_free(p.scene.points);
	if (p.mutate)
		printf("the planted bug was %s\n", t.broken ? "found" : "NOT found");
	return (t.broken != 0) == p.mutate && points_ok ? 0 : 1;
}
