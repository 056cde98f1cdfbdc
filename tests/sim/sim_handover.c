/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migrations in the simulated world, each with something that happens at one of its steps (move.h).
 *
 *	test_sim_handover --sweep [--every K] [--from N] [--only FAULT,...]   each fault at each (Kth) step of one migration
 *	test_sim_handover --seeds FIRST-LAST     other seeds, each with one to four faults at steps of its own
 *	test_sim_handover --seed S --at N:FAULT[,N:FAULT...] [--limit MS] [--verbose]   one again, with its log
 *	                  [--twice] [--ran-on] [--mutate NAME]
 *
 * FAULT may be "limit": the job's time is over at that step. --ran-on, of any of these: should the guest go on at the source after all of its
 * memory had left, its QEMU and the service end together in the moment in which it is told of a write. --mutate plants a bug in the hand-over: the run then passes if it is
 * found, and stops there.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cluster/node.h"
#include "sim/move.h"

#define LIMIT MOVE_FAULTS /* one more kind: a time limit */
#define KINDS (MOVE_FAULTS + 1)

static const struct {
	const char *name;
	uint32_t bit;
} bugs[] = {
	{ "no-key", HO_MUTATE_NO_KEY },
	{ "no-release", HO_MUTATE_NO_RELEASE },
	{ "release-running", HO_MUTATE_RELEASE_RUNNING },
	{ "give-blind", HO_MUTATE_GIVE_BLIND },
	{ "io-early", HO_MUTATE_IO_EARLY },
	{ "no-job-look", HO_MUTATE_NO_JOB_LOOK },
	{ "finish-blind", HO_MUTATE_FINISH_BLIND },
	{ "no-gate", HO_MUTATE_NO_GATE },
	{ "up-early", HO_MUTATE_UP_EARLY },
};

struct run {
	struct move_opts o;
	bool sweep, random, twice;
	uint64_t first, last, every, from;
	uint32_t kinds;
	const char *bug;
};

struct totals {
	uint64_t played, broken, steps, events, moved, stayed, stopped;
	double virtual_s;
};

static char playing[200];

static void on_signal(int sig)
{
	if (write(STDERR_FILENO, playing, strlen(playing)) < 0)
		_exit(3);
	signal(sig, SIG_DFL);
	raise(sig);
}

static const char *kind_name(uint32_t k)
{
	return k == LIMIT ? "limit" : move_fault_name((enum move_fault)k);
}

static void describe(const struct move_opts *o)
{
	int n = snprintf(playing, sizeof(playing), "--seed %" PRIu64, o->seed);

	for (unsigned k = 0; k < MOVE_AT_MAX; k++)
		if (o->at[k].step)
			n += snprintf(playing + n, sizeof(playing) - (size_t)n, "%s%" PRIu64 ":%s", k ? "," : " --at ", o->at[k].step,
				      move_fault_name(o->at[k].fault));
	if (o->timeout_ms)
		n += snprintf(playing + n, sizeof(playing) - (size_t)n, " --limit %" PRIu64, o->timeout_ms);
	if (o->ran_on)
		n += snprintf(playing + n, sizeof(playing) - (size_t)n, " --ran-on");
	snprintf(playing + n, sizeof(playing) - (size_t)n, "\n");
}

static void play(const struct run *x, const struct move_opts *o, struct move_result *r, struct totals *t)
{
	struct move_result again;

	describe(o);
	move_play(o, r);
	t->played++;
	t->broken += *r->why != '\0';
	t->steps += r->steps;
	t->events += r->events;
	t->virtual_s += (double)r->virtual_ns / 1e9;
	t->moved += r->at == 1;
	t->stayed += r->at == 0;
	t->stopped += r->at < 0;
	if (*r->why)
		fprintf(stderr, "%.*s: %s\n", (int)strcspn(playing, "\n"), playing, r->why);
	if (!x->twice)
		return;
	move_play(o, &again);
	if (again.digest == r->digest)
		return;
	fprintf(stderr, "%.*s: two runs differ\n", (int)strcspn(playing, "\n"), playing);
	t->broken++;
}

/* What happens without a fault, and how long that is. */
static bool reference(const struct run *x, uint64_t seed, struct move_result *r, struct totals *t)
{
	struct move_opts o = x->o;

	o.seed = seed;
	memset(o.at, 0, sizeof(o.at));
	o.timeout_ms = 0;
	play(x, &o, r, t);
	if (!*r->why && r->at != 1) {
		fprintf(stderr, "seed %" PRIu64 ": a migration without a fault does not go well: %d\n", seed, r->job);
		t->broken++;
	}
	return !t->broken;
}

static void sweep(const struct run *x, struct totals *t)
{
	struct move_result ref, r;

	if (!reference(x, x->o.seed, &ref, t))
		return;
	printf("%" PRIu64 " steps, %" PRIu64 " ms\n", ref.steps, ref.job_ms);
	for (uint32_t k = 0; k < KINDS; k++) {
		uint64_t before = t->played;

		/* Not at the same steps for each. */
		for (uint64_t n = x->from + (k * 7) % x->every; (x->kinds >> k & 1) && n <= ref.steps; n += x->every) {
			struct move_opts o = x->o;

			if (k == LIMIT)
				o.timeout_ms = 1 + n * ref.job_ms / ref.steps;
			else
				o.at[0].step = n, o.at[0].fault = (enum move_fault)k;
			play(x, &o, &r, t);
			if (x->bug && t->broken)
				return;
		}
		if (t->played > before)
			printf("%-14s at %" PRIu64 " steps\n", kind_name(k), t->played - before);
	}
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void seeds(const struct run *x, struct totals *t)
{
	for (uint64_t s = x->first; s <= x->last && !(x->bug && t->broken); s++) {
		uint64_t rnd = s * UINT64_C(0x9e3779b97f4a7c15) + 1;
		struct move_opts o = x->o;
		struct move_result r;
		unsigned n;

		for (unsigned k = 0; k < 8; k++)
			(void)next(&rnd);
		n = 1 + (unsigned)(next(&rnd) % MOVE_AT_MAX);
		o.seed = s;
		for (unsigned k = 0; k < n; k++) {
			o.at[k].step = 1 + next(&rnd) % (next(&rnd) % 3 ? 1600 : 6000);
			do
				o.at[k].fault = (enum move_fault)(next(&rnd) % MOVE_FAULTS);
			while (!(x->kinds >> o.at[k].fault & 1));
		}
		o.timeout_ms = next(&rnd) % 8 == 0 ? 1 + next(&rnd) % 2000 : 0;
		o.ran_on |= next(&rnd) % 3 == 0;
		play(x, &o, &r, t);
	}
}

/* ---- options ---- */

static bool kind_of(const char *name, uint32_t *out)
{
	for (*out = 0; *out < KINDS; ++*out)
		if (!strcmp(name, kind_name(*out)))
			return true;
	fprintf(stderr, "no fault is called '%s'; there are:", name);
	for (uint32_t k = 0; k < KINDS; k++)
		fprintf(stderr, " %s", kind_name(k));
	fprintf(stderr, "\n");
	return false;
}

static bool take_at(struct move_opts *o, char *list)
{
	unsigned n = 0;

	for (char *k = strtok(list, ","); k; k = strtok(NULL, ",")) {
		char *colon = strchr(k, ':');
		uint32_t kind;

		if (!colon || n == MOVE_AT_MAX || !kind_of(colon + 1, &kind) || kind == LIMIT)
			return false;
		o->at[n].step = strtoull(k, NULL, 10);
		o->at[n++].fault = (enum move_fault)kind;
	}
	return true;
}

static bool take_kinds(struct run *x, char *list)
{
	uint32_t kind;

	x->kinds = 0;
	for (char *k = strtok(list, ","); k; k = strtok(NULL, ",")) {
		if (!kind_of(k, &kind))
			return false;
		x->kinds |= 1u << kind;
	}
	return true;
}

static bool plant(struct run *x, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(bugs); i++)
		if (!strcmp(bugs[i].name, name)) {
			x->bug = name;
			x->o.mutate = bugs[i].bit;
			return true;
		}
	fprintf(stderr, "no mutation is called '%s'\n", name);
	return false;
}

static bool options(struct run *x, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "sweep", no_argument, NULL, 'w' },	   { "every", required_argument, NULL, 'e' },
		{ "from", required_argument, NULL, 'f' },  { "only", required_argument, NULL, 'o' },
		{ "seeds", required_argument, NULL, 's' }, { "seed", required_argument, NULL, '1' },
		{ "at", required_argument, NULL, 'a' },	   { "limit", required_argument, NULL, 'l' },
		{ "verbose", no_argument, NULL, 'v' },	   { "twice", no_argument, NULL, '2' },
		{ "mutate", required_argument, NULL, 'm' }, { "ran-on", no_argument, NULL, 'r' },
		{ 0 },
	};
	bool ok = true;
	int opt;

	while (ok && (opt = getopt_long(argc, argv, "we:f:o:s:1:a:l:v2m:r", longs, NULL)) != -1) {
		switch (opt) {
		case 'w':
			x->sweep = true;
			break;
		case 'e':
			x->every = strtoull(optarg, NULL, 10);
			ok = x->every > 0;
			break;
		case 'f':
			x->from = strtoull(optarg, NULL, 10);
			break;
		case 'o':
			ok = take_kinds(x, optarg);
			break;
		case 's':
			x->random = true;
			x->first = strtoull(optarg, NULL, 10);
			x->last = strchr(optarg, '-') ? strtoull(strchr(optarg, '-') + 1, NULL, 10) : x->first;
			break;
		case '1':
			x->o.seed = strtoull(optarg, NULL, 10);
			break;
		case 'a':
			ok = take_at(&x->o, optarg);
			break;
		case 'l':
			x->o.timeout_ms = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			x->o.verbose = true;
			break;
		case '2':
			x->twice = true;
			break;
		case 'r':
			x->o.ran_on = true;
			break;
		case 'm':
			ok = plant(x, optarg);
			break;
		default:
			ok = false;
		}
	}
	return ok && optind == argc;
}

int main(int argc, char **argv)
{
	struct run x = { .o = { .seed = 1 }, .every = 1, .from = 1, .kinds = UINT32_MAX };
	struct totals t = { 0 };
	struct move_result r;
	struct timespec t0, t1;

	if (!options(&x, argc, argv))
		return 2;
	signal(SIGSEGV, on_signal);
	signal(SIGABRT, on_signal);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (x.sweep)
		sweep(&x, &t);
	if (x.random && !(x.bug && t.broken))
		seeds(&x, &t);
	if (!x.sweep && !x.random) {
		play(&x, &x.o, &r, &t);
		printf("%" PRIu64 " steps; the job: %d after %" PRIu64 " ms; the guest is at n%d\n", r.steps, r.job, r.job_ms, r.at);
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("%" PRIu64 " migrations, %" PRIu64 " violations; %" PRIu64 " moved, %" PRIu64 " stayed, %" PRIu64 " guests died with a machine; "
	       "%.1f virtual hours, %" PRIu64 " events in %.1f s\n",
	       t.played, t.broken, t.moved, t.stayed, t.stopped, t.virtual_s / 3600, t.events,
	       (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	if (x.bug)
		printf("the planted bug was %s\n", t.broken ? "found" : "NOT found");
	return (t.broken != 0) == (x.bug != NULL) ? 0 : 1;
}
