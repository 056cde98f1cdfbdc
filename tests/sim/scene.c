/* SPDX-License-Identifier: Apache-2.0 */
/* One seed from beginning to end: see scene.h. */
#include "sim/scene.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/ssd.h"

struct scene;

struct scene_volume {
	struct scene *s;
	char name[16];
	struct workload wl;
	struct wl_writer writer[CL_CLIENTS_MAX];
	struct engine engine[CL_CLIENTS_MAX];
	struct vol_create create;
	struct uuid uuid;
};

struct scene {
	struct cluster *c;
	struct scene_volume vol[TR_VOLUMES_MAX];
	unsigned nvol;
	struct trouble trouble;
	uint64_t mended;
};

static uint64_t pick(struct scene *s, uint64_t n)
{
	return sim_rand_below(s->c->sim, n);
}

static void say(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%c %s %s\n", "EWIDT"[level < 5 ? level : 4], subsystem, line);
}

/* ---- what runs on clients ---- */

static void create_volumes(struct life *l, void *arg)
{
	struct scene *s = arg;
	struct hci_error err = { 0 };

	for (unsigned k = 0; k < s->nvol; k++)
		if (vol_create(&l->vol, &s->vol[k].create, &s->vol[k].uuid, &err))
			cluster_fail(s->c, "create: %s", err.message);
}

struct load {
	struct env *env;
	struct wl_writer *w;
};

static void load_fiber(void *arg)
{
	struct load *x = arg;

	wl_writer_run(x->env, x->w);
	mem_free(x);
}

/* Each client tries to get each volume. */
static void client_life(struct life *l, void *arg)
{
	struct scene *s = arg;

	for (unsigned k = 0; k < s->nvol; k++) {
		struct load *x = TRY_PTR(MEM_NEW(struct load));

		*x = (struct load){ l->env, &s->vol[k].writer[l->node->index] };
		TRY(fiber_spawn(l->env, load_fiber, x, "load"));
	}
}

static void node_died(struct cl_node *n, void *arg)
{
	struct scene *s = arg;

	for (unsigned k = 0; n->client && k < s->nvol; k++)
		wl_writer_crashed(&s->vol[k].writer[n->index]);
}

static struct scene *scene_of(struct cluster *c)
{
	return c->arg;
}

static bool broken(struct cluster *c)
{
	struct scene *s = scene_of(c);

	for (unsigned k = 0; k < s->nvol; k++)
		if (history_violation(s->vol[k].wl.history))
			return true;
	return false;
}

static bool nobody_attached(struct cluster *c)
{
	struct scene *s = scene_of(c);

	for (unsigned k = 0; k < s->nvol; k++)
		for (unsigned i = 0; i < c->o.clients; i++)
			if (s->vol[k].writer[i].attached)
				return false;
	return true;
}

/* ---- the end ---- */

static void describe(struct vol *v, char *out, size_t cap)
{
	struct vol_status st;

	vol_status(v, &st);
	snprintf(out, cap, "%u disks out, %u of %u segments degraded, copy %" PRIu64 "/%" PRIu64, st.out,
		 st.segments_degraded, st.segments, st.resync_done, st.resync_total);
}

static bool volume_whole(struct vol *v)
{
	struct vol_status st;

	vol_status(v, &st);
	return !st.out && !st.segments_degraded;
}

static void become_whole(struct scene *s, struct env *e, void **handle)
{
	uint64_t end = env_now(e) + 300 * NS_PER_S;
	char text[128];
	bool whole;

	do {
		fiber_sleep(e, 100 * NS_PER_MS);
		death_removed(&s->trouble); /* what turned out to be dead since the last fault */
		whole = trouble_volumes_whole(&s->trouble);
		for (unsigned k = 0; k < s->nvol; k++) {
			whole &= volume_whole(engine_vol(handle[k]));
			if (env_now(e) < end || (k + 1 < s->nvol && volume_whole(engine_vol(handle[k]))))
				continue; /* the one that is told is one that is not whole, if its writer knows */
			if (whole)
				continue;
			describe(engine_vol(handle[k]), text, sizeof(text));
			cluster_fail(s->c, "five minutes after the last fault volume %s is not whole: %s; %s",
				     s->vol[k].name, text, s->trouble.why);
		}
	} while (!whole && env_now(e) < end);
}

static bool all_scrubbed(struct cluster *c)
{
	for (unsigned k = 0; k < c->ndisks; k++)
		if (!c->disk[k].dead && !c->disk[k].scrubbed)
			return false;
	return true;
}

/* Every disk is scrubbed, and what was found is repaired. */
static void become_sound(struct scene *s, struct env *e, void **handle)
{
	uint64_t end = env_now(e) + 120 * NS_PER_S;
	struct vol_status st;

	for (unsigned k = 0; k < s->c->ndisks; k++)
		s->c->disk[k].scrub_wanted = true;
	while (!all_scrubbed(s->c) && env_now(e) < end)
		fiber_sleep(e, 100 * NS_PER_MS);
	for (unsigned k = 0; k < s->c->ndisks && !s->c->failed; k++) {
		struct cl_disk *d = &s->c->disk[k];

		if (!d->dead && !d->scrubbed)
			cluster_fail(s->c, "two minutes were not enough to scrub the disks: %s%s (%s)", d->rec.node, d->rec.path,
				     d->serving ? "serving" : d->log_lost ? "its log is lost" : "not open");
	}
	for (unsigned k = 0; k < s->nvol && !s->c->failed; k++) {
		vol_ask_scrubs(engine_vol(handle[k]));
		do {
			fiber_sleep(e, 100 * NS_PER_MS);
			vol_status(engine_vol(handle[k]), &st);
		} while ((!st.scrubs_heard || st.mending) && env_now(e) < end);
		if (!st.scrubs_heard || st.mending)
			cluster_fail(s->c, "volume %s: what the scrub found is not repaired: %u regions are left", s->vol[k].name,
				     st.mending);
		s->mended += st.mended_blocks;
	}
}

static void *attach_again(struct scene *s, struct env *e, struct scene_volume *v)
{
	uint64_t end = env_now(e) + 120 * NS_PER_S;
	void *handle = NULL;
	int rc;

	while ((rc = engine_ops.attach(e, &v->engine[0], &handle)) && env_now(e) < end)
		fiber_sleep(e, 500 * NS_PER_MS);
	if (rc)
		cluster_fail(s->c, "two minutes after the last fault volume %s cannot be attached: %s", v->name,
			     hci_strerror(rc));
	return rc ? NULL : handle;
}

static void verify(struct scene *s, struct env *e, void **handle, const char *when)
{
	for (unsigned k = 0; k < s->nvol && !s->c->failed; k++) {
		bool may_be_lost = s->trouble.lies || s->trouble.volume[k].replicas < 2;
		int rc = wl_verify(e, &s->vol[k].wl, handle[k], may_be_lost);

		/* The failure that was to come may be this read's: it says so, and the next one is served. */
		if (rc == HCI_E_NOMEM && s->c->injected)
			rc = wl_verify(e, &s->vol[k].wl, handle[k], may_be_lost);

		if (rc)
			cluster_fail(s->c, "volume %s: a block cannot be read %s: %s", s->vol[k].name, when, hci_strerror(rc));
	}
}

/* All is whole: what one disk forgets the others know. */
static void one_disk_rots(struct scene *s)
{
	struct cl_disk *d = &s->c->disk[pick(s, s->c->ndisks)];

	for (unsigned k = 0; k < 8 && !d->dead; k++)
		sim_disk_rot(d->sd, ".seg");
}

static void final_check(struct life *l, void *arg)
{
	struct scene *s = arg;
	void *handle[TR_VOLUMES_MAX] = { NULL };

	for (unsigned k = 0; k < s->nvol && !s->c->failed; k++)
		handle[k] = attach_again(s, l->env, &s->vol[k]);
	if (s->c->failed)
		return;
	verify(s, l->env, handle, "after the last fault");
	become_whole(s, l->env, handle);
	if (!s->c->failed)
		become_sound(s, l->env, handle);
	verify(s, l->env, handle, "when all is whole");
	for (unsigned k = 0; k < s->nvol && !s->c->failed; k++)
		engine_compare(l, &s->vol[k].uuid, s->trouble.lies);
	/* With a failure that may come at any moment that would be more than two replicas promise. */
	if (!s->c->injected) {
		one_disk_rots(s);
		verify(s, l->env, handle, "when one disk has rotted");
	}
	for (unsigned k = 0; k < s->nvol; k++)
		engine_ops.detach(handle[k]);
}

/* A look into the client's memory from outside: its code does not run. */
static void hung(struct scene *s)
{
	struct vol_status st;
	char text[128];

	for (unsigned k = 0; k < s->nvol; k++) {
		for (unsigned i = 0; i < s->c->o.clients; i++) {
			struct wl_writer *w = &s->vol[k].writer[i];

			if (!w->attached)
				continue;
			vol_status(engine_vol(w->handle), &st);
			describe(engine_vol(w->handle), text, sizeof(text));
			cluster_fail(s->c,
				     "two minutes after the last fault client%u has not detached %s: %" PRIu64
				     " requests in flight, seq %" PRIu64 ", stable %" PRIu64 ", %s",
				     i, s->vol[k].name, st.inflight, st.seq, st.stable, text);
		}
	}
}

static void finish(struct scene *s)
{
	struct cluster *c = s->c;

	for (unsigned k = 0; k < s->nvol; k++)
		s->vol[k].wl.stop = true;
	/* What dies meanwhile was scheduled before; it boots again by itself. */
	if (!cluster_run_until(c, nobody_attached, 120 * NS_PER_S) && !c->failed)
		hung(s);
	sim_run(c->sim, 20 * NS_PER_S); /* faults' ends that are still to come; leases */
	if (c->failed || broken(c))
		return;
	if (!cluster_call(&c->client[0], final_check, s, 1200 * NS_PER_S) && !c->failed)
		cluster_fail(c, "the final check did not end");
}

/* ---- the beginning ---- */

static uint64_t world_time(void *arg)
{
	return sim_now(arg);
}

static void volume_init(struct scene *s, unsigned k, uint32_t replicas, const struct scene_opts *o)
{
	struct scene_volume *v = &s->vol[k];
	uint64_t segment = MiB, size;

	v->s = s;
	snprintf(v->name, sizeof(v->name), "v%u", k);
	size = pick(s, 3) * segment + (1 + pick(s, 8)) * 64 * KiB;
	wl_init(&v->wl, s->c->sim, size / HCI_BLOCK, o->seed + k, &engine_ops);
	if (o->trace && o->trace_volume == k)
		history_trace(v->wl.history, o->trace - 1, world_time, s->c->sim);
	v->wl.depth = 1 + (unsigned)pick(s, s->nvol > 1 ? 6 : 12);
	/* Few large requests: what matters is how they meet, and bytes cost time. */
	v->wl.max_blocks = 1 + (unsigned)pick(s, pick(s, 6) ? 6 : 40);
	v->wl.zeroes = pick(s, 6) ? 0 : 40;
	v->wl.think_ns = 8 * NS_PER_MS << pick(s, 6);
	v->wl.hold_max = (pick(s, 3) ? 60 : 8) * NS_PER_S;
	v->wl.hold_min = 100 * NS_PER_MS;
	v->create = (struct vol_create){
		.name = v->name, .pool = "pool", .policy = "", .size = size, .segment_size = segment,
		.replicas = replicas, .on_full = pick(s, 3) ? REC_FULL_WAIT : REC_FULL_FAIL,
		.write_timeout_ns = (1 + pick(s, 4)) * NS_PER_S,
		.rebuild_delay_ns = (pick(s, 3) ? 3 : 600) * NS_PER_S,
		.place = cluster_place, .arg = s->c,
	};
}

static void setup(struct scene *s, const struct scene_opts *o)
{
	struct cluster_opts co = CLUSTER_OPTS_INIT;
	uint32_t replicas;

	co.seed = o->seed;
	co.mutate = o->mutate;
	co.mutate_replica = o->mutate_replica;
	/* Shape by the seed, before the world has its own numbers. */
	co.nodes = 3 + o->seed % 3;
	co.data_disks = 1 + o->seed / 3 % 2;
	co.log_size = 4 * MiB;
	co.mutate_cache = o->mutate_cache;
	co.cache_size = o->seed % 2 ? MiB + 256 * KiB : 0;
	co.cache_block = 4096u << o->seed / 2 % 5;
	co.ssds = o->seed / 6 % 2 || o->ssds;
	co.unmounts = !o->rehearsed && o->seed / 48 % 3 == 1;
	co.log_wait_ns = (o->seed / 12 % 4 ? 2 + o->seed / 12 % 4 * 2 : 600) * NS_PER_S;
	if (o->verbose)
		co.log = (struct log){ .level = LOG_DEBUG, .emit = say };
	s->c = cluster_new(&co);
	s->c->on_death = node_died;
	s->c->arg = s;
	s->trouble = (struct trouble){ .c = s->c, .points = o->points, .mask = o->mask, .lies = scene_lies(o->seed),
				      .log_ends = o->seed % 8 == 3, .stops = co.unmounts };
	s->c->log_rots = s->trouble.lies && s->trouble.mask >> TR_ROT & 1;
	trouble_init(&s->trouble);
	s->nvol = pick(s, 3) || o->rehearsed ? 1 : 2 + (unsigned)pick(s, 2);
	replicas = 2 + (uint32_t)pick(s, 2);
	for (unsigned k = 0; k < s->nvol; k++)
		volume_init(s, k, pick(s, 4) ? replicas : 2 + (uint32_t)pick(s, 2), o);
}

/* ---- rehearsed trouble ---- */

static void step_kill(void *arg)
{
	cluster_kill(&((struct scene *)arg)->c->node[0], false);
}

static void step_power(void *arg)
{
	struct cluster *c = ((struct scene *)arg)->c;

	for (unsigned k = 0; k < c->o.nodes; k++)
		cluster_kill(&c->node[k], true);
}

static void step_writer(void *arg)
{
	struct cluster *c = ((struct scene *)arg)->c;

	for (unsigned k = 0; k < c->o.clients; k++)
		cluster_kill(&c->client[k], false);
}

static void step_boot(void *arg)
{
	struct cluster *c = ((struct scene *)arg)->c;

	for (unsigned k = 0; k < c->o.nodes; k++)
		cluster_boot(&c->node[k]);
	for (unsigned k = 0; k < c->o.clients; k++)
		cluster_boot(&c->client[k]);
}

/* Not while what was made to fail has taken a copy away: that would be more than two replicas promise. */
static void step_disk(void *arg)
{
	struct scene *s = arg;

	if (!trouble_volumes_whole(&s->trouble) || cluster_disks_missing(s->c)) {
		sim_at(s->c->sim, sim_now(s->c->sim) + 100 * NS_PER_MS, step_disk, s);
		return;
	}
	fault_disk_dies(s->c->node[1].disks[0]);
	death_removed(&s->trouble);
}

static void step_ssd_out(void *arg)
{
	struct scene *s = arg;

	ssd_out(&s->trouble, s->c->node[0].ssd, 1200 * NS_PER_MS);
}

/* Like a disk that dies: its disks are given up, new ones take their place when there is a new SSD. */
static void step_ssd_lost(void *arg)
{
	struct scene *s = arg;

	if (s->trouble.over)
		return;
	if (!trouble_volumes_whole(&s->trouble) || cluster_disks_missing(s->c)) {
		sim_at(s->c->sim, sim_now(s->c->sim) + 100 * NS_PER_MS, step_ssd_lost, s);
		return;
	}
	s->trouble.deaths_left = 0;
	ssd_dies(&s->trouble, &s->c->node[0]);
	death_removed(&s->trouble);
}

static void rehearse(struct scene *s)
{
	static const struct {
		uint64_t ms;
		void (*fn)(void *arg);
	} steps[] = {
		{ 300, step_kill }, { 700, step_boot }, { 1500, step_power }, { 1800, step_boot },
		{ 2600, step_writer }, { 2700, step_boot }, { 5000, step_disk },
		/* with write logs on SSDs */
		{ 3300, step_ssd_out }, { 8000, step_ssd_lost },
	};

	for (unsigned k = 0; k < ARRAY_SIZE(steps) - (s->c->nssds ? 0 : 2); k++)
		sim_at(s->c->sim, sim_now(s->c->sim) + steps[k].ms * NS_PER_MS, steps[k].fn, s);
}

static void inject(struct scene *s, const struct scene_opts *o)
{
	s->c->injected = o->fail_nth != 0;
	if (o->fail == SCENE_FAIL_MEMORY)
		mem_fail_nth(o->fail_nth);
	else if (o->fail)
		sim_fail_nth(s->c->sim, (enum sim_fail_kind)(o->fail - SCENE_FAIL_IO), o->fail_nth);
}

static uint64_t could_fail(struct scene *s, const struct scene_opts *o)
{
	uint64_t allocations = mem_fail_nth(0);

	if (o->fail == SCENE_FAIL_MEMORY)
		return allocations;
	return o->fail ? sim_fail_count(s->c->sim, (enum sim_fail_kind)(o->fail - SCENE_FAIL_IO)) : 0;
}

static void load_and_trouble(struct scene *s, const struct scene_opts *o)
{
	struct cluster *c = s->c;

	s->trouble.nvolumes = s->nvol;
	for (unsigned k = 0; k < s->nvol; k++) {
		struct scene_volume *v = &s->vol[k];

		s->trouble.volume[k].uuid = v->uuid;
		s->trouble.volume[k].replicas = v->create.replicas;
		for (unsigned i = 0; i < c->o.clients; i++) {
			v->engine[i] = (struct engine){ &c->client[i], v->uuid, 2 * NS_PER_S };
			v->writer[i] = (struct wl_writer){ .wl = &v->wl, .arg = &v->engine[i] };
		}
	}
	s->trouble.mean_ns = (100 + pick(s, 1500)) * NS_PER_MS;
	s->trouble.deaths_left = 2;
	cluster_start_clients(c, client_life, s);
	inject(s, o);
	if (o->rehearsed) {
		rehearse(s);
	} else {
		sim_run(c->sim, pick(s, 3 * NS_PER_S));
		trouble_start(&s->trouble);
	}
	cluster_run_until(c, broken, o->seconds * NS_PER_S);
	trouble_end(&s->trouble);
}

static void count(struct scene *s, struct scene_result *r)
{
	struct history_counts hc;

	r->digest = sim_digest(s->c->sim);
	r->events = sim_events(s->c->sim);
	r->virtual_ns = sim_now(s->c->sim);
	r->mended = s->mended;
	for (unsigned k = 0; k < s->nvol; k++) {
		struct workload *wl = &s->vol[k].wl;

		if (history_violation(wl->history) && !r->why[0])
			snprintf(r->why, sizeof(r->why), "volume %s: %s", s->vol[k].name, history_violation(wl->history));
		history_counts(wl->history, &hc);
		r->reads += wl->reads;
		r->writes += wl->writes;
		r->failed += wl->failed;
		r->attaches += wl->attaches;
		r->history.uncertain += hc.uncertain;
		r->history.resolved += hc.resolved;
		r->history.checked += hc.checked;
		r->digest ^= history_digest(wl->history) * (k + 1);
	}
	if (!r->why[0] && s->c->failed)
		snprintf(r->why, sizeof(r->why), "%s", s->c->why);
	for (unsigned k = 0; k < TR_KINDS; k++)
		r->faults[k] = s->trouble.count[k];
	cluster_count_caches(s->c);
	r->cache = s->c->cache;
	r->logs = s->c->logs;
}

void scene_play(const struct scene_opts *o, struct scene_result *r)
{
	struct scene *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	memset(r, 0, sizeof(*r));
	setup(s, o);
	if (!s->c->failed)
		cluster_call(&s->c->client[0], create_volumes, s, 60 * NS_PER_S);
	if (!s->c->failed)
		load_and_trouble(s, o);
	if (!s->c->failed && !broken(s->c))
		finish(s);
	r->could_fail = could_fail(s, o);
	count(s, r);
	cluster_free(s->c);
	trouble_free(&s->trouble);
	for (unsigned k = 0; k < s->nvol; k++)
		wl_free(&s->vol[k].wl);
	free(s);
}
