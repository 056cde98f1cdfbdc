/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One seed: a cluster, a volume, clients that load it in turn, random trouble for a while; then all is
 * mended, the volume must become whole again, every block must read as the history says, and all copies
 * must be equal. One line sums up; a broken rule is told with its seed.
 *
 *	test_sim_volume --seeds FIRST-LAST [--time SECONDS] [--verbose] [--block N] [--twice] [--only KIND,KIND...]
 *
 * --mutate NAME plants a bug in the engine (volume.h, VOL_MUTATE_*): the run then passes if one of the
 * seeds finds it, and stops there.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "sim/engine.h"
#include "sim/trouble.h"

struct params {
	uint64_t seconds;
	bool verbose, twice;
	uint64_t trace; /* block to trace, + 1 */
	uint32_t mask;
	uint32_t mutate;
};

static const struct {
	const char *name;
	uint32_t bit;
} mutations[] = {
	{ "ack-early", VOL_MUTATE_ACK_EARLY },
	{ "left-late", VOL_MUTATE_LEFT_LATE },
	{ "no-settle", VOL_MUTATE_NO_SETTLE },
	{ "skip-region", VOL_MUTATE_SKIP_REGION },
	{ "resume-blind", VOL_MUTATE_RESUME_BLIND },
	{ "no-sums", VOL_MUTATE_NO_SUMS },
};

struct totals {
	uint64_t seeds, broken, events, virtual_ns, reads, writes, failed, attaches, uncertain, resolved, checked;
	uint64_t faults[TR_KINDS];
};

struct scene {
	struct cluster *c;
	struct workload wl;
	struct wl_writer writer[CL_CLIENTS_MAX];
	struct engine engine[CL_CLIENTS_MAX];
	struct trouble trouble;
	struct vol_create create;
	struct uuid volume;
	bool created, verified;
	uint64_t digest;
};

static volatile uint64_t seed_at_work;

/* ---- output ---- */

static void say(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%c %s %s\n", "EWIDT"[level < 5 ? level : 4], subsystem, line);
}

static void on_signal(int sig)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "seed %" PRIu64 ": signal %d\n", seed_at_work, sig);

	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(3);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* ---- one seed ---- */

static void create_volume(struct life *l, void *arg)
{
	struct scene *s = arg;
	struct hci_error err = { 0 };

	if (vol_create(&l->vol, &s->create, &s->volume, &err))
		cluster_fail(s->c, "create: %s", err.message);
	s->created = true;
}

static void client_life(struct life *l, void *arg)
{
	struct scene *s = arg;

	wl_writer_run(l->env, &s->writer[l->node->index]);
}

static void node_died(struct cl_node *n, void *arg)
{
	struct scene *s = arg;

	if (n->client)
		wl_writer_crashed(&s->writer[n->index]);
}

static struct scene *scene_of(struct cluster *c)
{
	return c->arg;
}

static bool broken(struct cluster *c)
{
	return history_violation(scene_of(c)->wl.history) != NULL;
}

static bool nobody_attached(struct cluster *c)
{
	for (unsigned k = 0; k < c->o.clients; k++) {
		if (scene_of(c)->writer[k].attached)
			return false;
	}
	return true;
}

static void describe(struct vol *v, char *out, size_t cap)
{
	struct vol_status st;

	vol_status(v, &st);
	snprintf(out, cap, "%u disks out, %u of %u segments degraded, copy %" PRIu64 "/%" PRIu64, st.out,
		 st.segments_degraded, st.segments, st.resync_done, st.resync_total);
}

static void become_whole(struct scene *s, struct env *e, struct vol *v)
{
	uint64_t end = env_now(e) + 300 * NS_PER_S;
	struct vol_status st;
	char text[128];

	do {
		fiber_sleep(e, 100 * NS_PER_MS);
		vol_status(v, &st);
	} while ((st.out || st.segments_degraded || !trouble_volume_whole(&s->trouble)) && env_now(e) < end);
	describe(v, text, sizeof(text));
	if (env_now(e) >= end)
		cluster_fail(s->c, "five minutes after the last fault the volume is not whole: %s; %s", text, s->trouble.why);
}

static void final_check(struct life *l, void *arg)
{
	struct scene *s = arg;
	uint64_t end = env_now(l->env) + 120 * NS_PER_S;
	void *handle = NULL;
	int rc;

	while ((rc = engine_ops.attach(l->env, &s->engine[0], &handle)) && env_now(l->env) < end)
		fiber_sleep(l->env, 500 * NS_PER_MS);
	if (rc) {
		cluster_fail(s->c, "two minutes after the last fault the volume cannot be attached: %s", hci_strerror(rc));
		return;
	}
	rc = wl_verify(l->env, &s->wl, handle);
	if (rc)
		cluster_fail(s->c, "a block cannot be read after the last fault: %s", hci_strerror(rc));
	become_whole(s, l->env, engine_vol(handle));
	if (!s->c->failed && wl_verify(l->env, &s->wl, handle))
		cluster_fail(s->c, "a block cannot be read from the whole volume");
	engine_ops.detach(handle);
	if (!s->c->failed)
		engine_compare(l, &s->volume);
	s->verified = true;
}

static uint64_t world_time(void *arg)
{
	return sim_now(arg);
}

static void setup(struct scene *s, const struct params *p, uint64_t seed)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct cluster *c;
	uint64_t size;

	o.seed = seed;
	o.mutate = p->mutate;
	/* Shape by the seed, before the world has its own numbers. */
	o.nodes = 3 + seed % 3;
	o.data_disks = 1 + seed / 3 % 2;
	o.log_size = 4 * MiB;
	if (p->verbose)
		o.log = (struct log){ .level = LOG_DEBUG, .emit = say };
	c = s->c = cluster_new(&o);
	c->on_death = node_died;
	c->arg = s;
	size = (1 + sim_rand_below(c->sim, 6)) * MiB + sim_rand_below(c->sim, 16) * 64 * KiB;
	wl_init(&s->wl, c->sim, size / HCI_BLOCK, seed, &engine_ops);
	if (p->trace)
		history_trace(s->wl.history, p->trace - 1, world_time, c->sim);
	s->wl.depth = 1 + (unsigned)sim_rand_below(c->sim, 12);
	s->wl.max_blocks = 1 + (unsigned)sim_rand_below(c->sim, 40);
	s->wl.think_ns = 4 * NS_PER_MS << sim_rand_below(c->sim, 6);
	s->wl.hold_max = (sim_rand_below(c->sim, 3) ? 60 : 8) * NS_PER_S;
	s->wl.hold_min = 100 * NS_PER_MS;
	s->create = (struct vol_create){
		.name = "v", .pool = "pool", .policy = "", .size = size, .segment_size = MiB,
		.replicas = 2 + (uint32_t)sim_rand_below(c->sim, 2), .on_full = REC_FULL_WAIT,
		.write_timeout_ns = (1 + sim_rand_below(c->sim, 4)) * NS_PER_S,
		.rebuild_delay_ns = (sim_rand(c->sim) & 1 ? 3 : 600) * NS_PER_S,
		.place = cluster_place, .arg = c,
	};
}

static void load_and_trouble(struct scene *s, const struct params *p)
{
	struct cluster *c = s->c;

	for (unsigned k = 0; k < c->o.clients; k++) {
		s->engine[k] = (struct engine){ &c->client[k], s->volume, 2 * NS_PER_S };
		s->writer[k] = (struct wl_writer){ .wl = &s->wl, .arg = &s->engine[k] };
	}
	s->trouble = (struct trouble){
		.c = c, .volume = s->volume, .replicas = s->create.replicas, .mask = p->mask,
		.mean_ns = (200 + sim_rand_below(c->sim, 3000)) * NS_PER_MS, .deaths_left = 2,
	};
	cluster_start_clients(c, client_life, s);
	sim_run(c->sim, sim_rand_below(c->sim, 3 * NS_PER_S));
	trouble_start(&s->trouble);
	cluster_run_until(c, broken, p->seconds * NS_PER_S);
	trouble_end(&s->trouble);
}

/* A look into the client's memory from outside: its code does not run. */
static void hung(struct scene *s)
{
	struct vol_status st;
	char text[128];

	for (unsigned k = 0; k < s->c->o.clients; k++) {
		if (!s->writer[k].attached)
			continue;
		vol_status(engine_vol(s->writer[k].handle), &st);
		describe(engine_vol(s->writer[k].handle), text, sizeof(text));
		cluster_fail(s->c,
			     "two minutes after the last fault client%u has not detached: %" PRIu64
			     " requests in flight, seq %" PRIu64 ", stable %" PRIu64 ", %s",
			     k, st.inflight, st.seq, st.stable, text);
	}
}

static void finish(struct scene *s)
{
	struct cluster *c = s->c;

	s->wl.stop = true;
	/* What dies meanwhile was scheduled before; it boots again by itself. */
	if (!cluster_run_until(c, nobody_attached, 120 * NS_PER_S) && !c->failed)
		hung(s);
	sim_run(c->sim, 20 * NS_PER_S); /* faults' ends that are still to come; leases */
	if (c->failed || broken(c))
		return;
	if (!cluster_call(&c->client[0], final_check, s, 1200 * NS_PER_S) && !c->failed)
		cluster_fail(c, "the final check did not end");
}

static bool play(const struct params *p, uint64_t seed, struct totals *t, uint64_t *digest)
{
	struct scene *s = calloc(1, sizeof(*s));
	struct history_counts hc;
	const char *why;

	if (!s)
		abort();
	seed_at_work = seed;
	setup(s, p, seed);
	if (!s->c->failed)
		cluster_call(&s->c->client[0], create_volume, s, 60 * NS_PER_S);
	if (!s->c->failed)
		load_and_trouble(s, p);
	if (!s->c->failed && !broken(s->c))
		finish(s);
	why = history_violation(s->wl.history);
	if (!why && s->c->failed)
		why = s->c->why;
	if (why)
		fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, why);
	history_counts(s->wl.history, &hc);
	t->seeds++;
	t->broken += why != NULL;
	t->events += sim_events(s->c->sim);
	t->virtual_ns += sim_now(s->c->sim);
	t->reads += s->wl.reads;
	t->writes += s->wl.writes;
	t->failed += s->wl.failed;
	t->attaches += s->wl.attaches;
	t->uncertain += hc.uncertain;
	t->resolved += hc.resolved;
	t->checked += hc.checked;
	for (unsigned k = 0; k < TR_KINDS; k++)
		t->faults[k] += s->trouble.count[k];
	*digest = sim_digest(s->c->sim) ^ history_digest(s->wl.history);
	cluster_free(s->c);
	wl_free(&s->wl);
	free(s);
	return why == NULL;
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

static uint32_t mutation_of(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(mutations); i++)
		if (!strcmp(name, mutations[i].name))
			return mutations[i].bit;
	return 0;
}

static void print_totals(const struct totals *t, double secs)
{
	printf("%" PRIu64 " seeds, %" PRIu64 " violations; %.1f virtual hours and %" PRIu64 " events in %.1f s (%.0f/s)\n",
	       t->seeds, t->broken, (double)t->virtual_ns / 3600e9, t->events, secs, (double)t->events / secs);
	printf("%" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " failed requests, %" PRIu64 " attaches, %" PRIu64
	       " uncertain writes, %" PRIu64 " settled, %" PRIu64 " blocks checked\n",
	       t->reads, t->writes, t->failed, t->attaches, t->uncertain, t->resolved, t->checked);
	for (unsigned k = 0; k < TR_KINDS; k++)
		printf("%s%s %" PRIu64, k ? ", " : "faults: ", trouble_name((enum trouble_kind)k), t->faults[k]);
	printf("\n");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seeds", required_argument, NULL, 's' }, { "time", required_argument, NULL, 't' },
		{ "verbose", no_argument, NULL, 'v' },     { "twice", no_argument, NULL, '2' },
		{ "only", required_argument, NULL, 'o' },  { "block", required_argument, NULL, 'b' },
		{ "mutate", required_argument, NULL, 'm' },
		{ 0 },
	};
	struct params p = { .seconds = 60, .mask = UINT32_MAX };
	uint64_t first = 0, last = 19, digest, again;
	struct totals t = { 0 };
	struct timespec t0, t1;
	int opt;

	while ((opt = getopt_long(argc, argv, "s:t:v2o:b:m:", longs, NULL)) != -1) {
		if (opt == 's') {
			char *dash = strchr(optarg, '-');

			first = strtoull(optarg, NULL, 10);
			last = dash ? strtoull(dash + 1, NULL, 10) : first;
		} else if (opt == 't') {
			p.seconds = strtoull(optarg, NULL, 10);
		} else if (opt == 'v') {
			p.verbose = true;
		} else if (opt == '2') {
			p.twice = true;
		} else if (opt == 'b') {
			p.trace = strtoull(optarg, NULL, 10) + 1;
		} else if (opt == 'o') {
			p.mask = kinds_of(optarg);
		} else if (opt == 'm' && mutation_of(optarg)) {
			p.mutate = mutation_of(optarg);
		} else {
			return 2;
		}
	}
	signal(SIGSEGV, on_signal);
	signal(SIGABRT, on_signal);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (uint64_t seed = first; seed <= last; seed++) {
		play(&p, seed, &t, &digest);
		if (p.mutate && t.broken)
			break;
		if (!p.twice)
			continue;
		play(&p, seed, &t, &again);
		if (digest != again) {
			fprintf(stderr, "seed %" PRIu64 ": two runs differ\n", seed);
			t.broken++;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	print_totals(&t, (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	if (p.mutate)
		printf("the planted bug was %s\n", t.broken ? "found" : "NOT found");
	return (t.broken != 0) == (p.mutate != 0) ? 0 : 1;
}
