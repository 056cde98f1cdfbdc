/* SPDX-License-Identifier: Apache-2.0 */
/* Random faults: see trouble.h. Each is begun by an event of the world and undone by another. */
#include "sim/trouble.h"

#include "sim/reconf.h"

#include <stdio.h>
#include <stdlib.h>

#define CALM (20 * NS_PER_S) /* before a disk may die for good */

static const char *const names[TR_KINDS] = {
	"kill", "power", "power-all", "client", "cut", "isolate", "reset",
	"disk", "store-cut", "store-loss", "compact", "clock", "disk-death",
	"replicas", "evacuate", "move",
};

const char *trouble_name(enum trouble_kind k)
{
	return names[k];
}

struct undo {
	struct trouble *t;
	enum trouble_kind kind;
	struct cl_node *a, *b;
	struct cl_disk *disk;
};

static uint64_t pick(struct trouble *t, uint64_t n)
{
	return sim_rand_below(t->c->sim, n);
}

static struct cl_node *pick_node(struct trouble *t)
{
	return &t->c->node[pick(t, t->c->o.nodes)];
}

static struct cl_node *pick_any(struct trouble *t)
{
	uint64_t k = pick(t, t->c->o.nodes + t->c->o.clients);

	return k < t->c->o.nodes ? &t->c->node[k] : &t->c->client[k - t->c->o.nodes];
}

/* Mostly short, now and then long. */
static uint64_t duration(struct trouble *t)
{
	switch (pick(t, 4)) {
	case 0:
		return pick(t, 100 * NS_PER_MS);
	case 3:
		return pick(t, 15 * NS_PER_S);
	default:
		return pick(t, 3 * NS_PER_S);
	}
}

static void undo_fire(void *arg)
{
	struct undo *u = arg;
	struct trouble *t = u->t;
	struct cluster *c = t->c;

	switch (u->kind) {
	case TR_KILL:
	case TR_POWER:
	case TR_POWER_ALL:
	case TR_CLIENT:
		cluster_boot(u->a);
		break;
	case TR_CUT:
		sim_net_cut(c->sim, u->a->sim, u->b->sim, false);
		break;
	case TR_ISOLATE:
		sim_net_isolate(c->sim, u->a->sim, false);
		break;
	case TR_DISK:
		if (!u->disk->dead) {
			u->disk->fault = SIM_DISK_OK;
			sim_disk_fault(u->disk->sd, SIM_DISK_OK);
		}
		break;
	case TR_STORE_CUT:
		simstore_cut(c->store, u->a ? u->a->sim : NULL, false);
		break;
	case TR_STORE_LOSS:
		simstore_loss(c->store, 0, 0);
		break;
	case TR_CLOCK:
		sim_node_clock(u->a->sim, 0, 0);
		break;
	default:
		break;
	}
	if (--t->active == 0)
		t->calm_since = sim_now(c->sim);
	free(u);
}

static void undo_later(struct trouble *t, enum trouble_kind kind, struct cl_node *a, struct cl_node *b, struct cl_disk *d)
{
	struct undo *u = calloc(1, sizeof(*u));

	if (!u)
		abort();
	*u = (struct undo){ t, kind, a, b, d };
	t->active++;
	sim_at(t->c->sim, sim_now(t->c->sim) + duration(t), undo_fire, u);
}

/* ---- the faults ---- */

static void power_all(struct trouble *t)
{
	bool clients = pick(t, 2);

	for (unsigned k = 0; k < t->c->o.nodes; k++) {
		cluster_kill(&t->c->node[k], true);
		undo_later(t, TR_POWER_ALL, &t->c->node[k], NULL, NULL);
	}
	for (unsigned k = 0; clients && k < t->c->o.clients; k++) {
		cluster_kill(&t->c->client[k], true);
		undo_later(t, TR_POWER_ALL, &t->c->client[k], NULL, NULL);
	}
}

static void disk_fault(struct trouble *t)
{
	static const enum sim_disk_fault faults[] = { SIM_DISK_EIO, SIM_DISK_STALL, SIM_DISK_SLOW, SIM_DISK_READONLY };
	struct cl_disk *d = &t->c->disk[pick(t, t->c->ndisks)];

	if (d->dead)
		return;
	d->fault = faults[pick(t, ARRAY_SIZE(faults))];
	d->faulted_lately = true;
	sim_disk_fault(d->sd, d->fault);
	undo_later(t, TR_DISK, NULL, NULL, d);
}

static void clock_fault(struct trouble *t)
{
	struct cl_node *n = pick_any(t);

	sim_node_clock(n->sim, (int64_t)pick(t, 600) - 300, (int64_t)pick(t, 200 * NS_PER_S) - (int64_t)(100 * NS_PER_S));
	undo_later(t, TR_CLOCK, n, NULL, NULL);
}

/* Why it is not whole, for people: the last reason found. */
static bool not_whole(struct trouble *t, const char *what, uint32_t segment, const struct cl_disk *d)
{
	snprintf(t->why, sizeof(t->why), "segment %u: %s on %s%s", segment, what, d ? d->rec.node : "?",
		 d ? d->rec.path : "");
	return false;
}

static bool chunk_whole(struct trouble *t, const struct rec_volmap *m, uint32_t replicas)
{
	for (uint32_t s = 0; s < m->n; s++) {
		if (m->seg[s].n != replicas)
			return not_whole(t, "not as many copies as wanted", s, NULL);
		for (uint32_t r = 0; r < m->seg[s].n; r++) {
			struct cl_disk *d = cluster_disk(t->c, &m->seg[s].r[r].disk);

			if (m->seg[s].r[r].joining)
				return not_whole(t, "copy joining", s, d);
			if (!d || d->dead)
				return not_whole(t, "copy on a failed disk", s, d);
		}
	}
	return true;
}

bool trouble_volume_whole(struct trouble *t)
{
	struct rec_volsync *sync = calloc(1, sizeof(*sync));
	struct rec_volmap *map = calloc(1, sizeof(*map));
	char key[REC_KEY];
	struct rec_volume rec;
	const void *v;
	uint32_t len;
	bool whole = false;

	snprintf(t->why, sizeof(t->why), "a change of its copies is not done");
	if (!reconf_volume(t, &rec) || reconf_pending(t))
		return false;
	snprintf(t->why, sizeof(t->why), "disks are out of the in-sync set");
	if (!sync || !map)
		abort();
	key_volsync(key, &t->volume);
	v = simstore_peek(t->c->store, key, &len);
	if (v && rec_volsync_decode(v, len, sync, NULL) == 0 && sync->n == 0) {
		whole = true;
		for (uint32_t chunk = 0;; chunk++) {
			key_volmap(key, &t->volume, chunk);
			v = simstore_peek(t->c->store, key, &len);
			if (!v)
				break;
			whole &= rec_volmap_decode(v, len, map, NULL) == 0 && chunk_whole(t, map, rec.replicas);
		}
	}
	free(sync);
	free(map);
	return whole;
}

/* One that may die: its node keeps another, so that there is always a place to rebuild. */
static struct cl_disk *mortal(struct trouble *t, struct cl_node *n)
{
	struct cl_disk *d = NULL;
	unsigned live = 0;

	for (unsigned k = 0; k < n->ndisks; k++) {
		if (!n->disks[k]->dead && pick(t, ++live) == 0)
			d = n->disks[k];
	}
	return live > 1 ? d : NULL;
}

/* Waits for calm, then takes up to replicas - 1 disks of distinct nodes away at once. */
static void disk_death(struct trouble *t)
{
	uint64_t n = 1 + pick(t, t->replicas - 1), first = pick(t, t->c->o.nodes);

	if (t->active || sim_now(t->c->sim) - t->calm_since < CALM / 4 || cluster_disks_missing(t->c) ||
	    !trouble_volume_whole(t)) {
		t->quiet = true;
		return;
	}
	t->quiet = false;
	t->healing = n == t->replicas - 1;
	t->died_at = sim_now(t->c->sim);
	t->deaths_left--;
	t->count[TR_DISK_DEATH]++;
	for (uint64_t k = 0; k < n; k++) {
		struct cl_node *node = &t->c->node[(first + k) % t->c->o.nodes];
		struct cl_disk *d = mortal(t, node);

		if (!d)
			continue;
		d->dead = true;
		d->serving = false;
		d->fault = SIM_DISK_EIO;
		d->rec.state = REC_DISK_FAILED;
		sim_disk_fault(d->sd, SIM_DISK_EIO);
	}
}

/* Somebody takes the dead disks out of the cluster: no delay any more. */
static void operator_removes(struct trouble *t)
{
	for (unsigned k = 0; k < t->c->ndisks; k++)
		if (t->c->disk[k].dead)
			t->c->disk[k].rec.state = REC_DISK_REMOVED;
}

static void one_fault(struct trouble *t, enum trouble_kind kind)
{
	struct cluster *c = t->c;
	struct cl_node *a = pick_any(t), *b = pick_any(t);

	t->count[kind]++;
	switch (kind) {
	case TR_KILL:
	case TR_POWER:
		a = pick_node(t);
		cluster_kill(a, kind == TR_POWER);
		undo_later(t, kind, a, NULL, NULL);
		break;
	case TR_POWER_ALL:
		power_all(t);
		break;
	case TR_CLIENT:
		a = &c->client[pick(t, c->o.clients)];
		cluster_kill(a, pick(t, 2));
		undo_later(t, kind, a, NULL, NULL);
		break;
	case TR_CUT:
		sim_net_cut(c->sim, a->sim, b->sim, true);
		undo_later(t, kind, a, b, NULL);
		break;
	case TR_ISOLATE:
		sim_net_isolate(c->sim, a->sim, true);
		undo_later(t, kind, a, NULL, NULL);
		break;
	case TR_RESET:
		sim_net_reset_conns(c->sim, a->sim, b->sim);
		break;
	case TR_DISK:
		disk_fault(t);
		break;
	case TR_STORE_CUT:
		a = pick(t, 5) ? a : NULL;
		simstore_cut(c->store, a ? a->sim : NULL, true);
		undo_later(t, kind, a, NULL, NULL);
		break;
	case TR_STORE_LOSS:
		simstore_loss(c->store, (uint32_t)pick(t, 300), (uint32_t)pick(t, 300));
		undo_later(t, kind, NULL, NULL, NULL);
		break;
	case TR_COMPACT:
		simstore_compact(c->store);
		break;
	case TR_CLOCK:
		clock_fault(t);
		break;
	case TR_REPLICAS:
	case TR_EVACUATE:
	case TR_MOVE:
		reconf_trouble(t, kind);
		break;
	default:
		break;
	}
}

static const uint8_t weight[TR_KINDS] = { 10, 8, 2, 5, 8, 6, 5, 8, 4, 2, 1, 2, 1, 2, 2, 4 };

static void tick(void *arg)
{
	struct trouble *t = arg;
	struct sim *s = t->c->sim;
	unsigned total = 0;
	uint64_t x;

	if (t->over)
		return;
	/* Now and then several at once: what recovers from one is hit by the next. */
	if (t->burst)
		t->burst--;
	else if (!t->quiet && pick(t, 4) == 0)
		t->burst = 1 + (unsigned)pick(t, 4);
	sim_at(s, sim_now(s) + (t->burst ? pick(t, 20 * NS_PER_MS) : pick(t, 2 * t->mean_ns)), tick, t);
	if (t->healing) {
		t->healing = !trouble_volume_whole(t);
		if (t->healing && sim_now(s) - t->died_at > 10 * NS_PER_S)
			operator_removes(t);
		return;
	}
	if (t->quiet) {
		disk_death(t);
		return;
	}
	for (unsigned k = 0; k < TR_KINDS; k++)
		total += t->mask >> k & 1 ? weight[k] : 0;
	x = pick(t, total ? total : 1);
	for (unsigned k = 0; k < TR_KINDS; k++) {
		unsigned w = t->mask >> k & 1 ? weight[k] : 0;

		if (x < w) {
			if (k != TR_DISK_DEATH)
				one_fault(t, (enum trouble_kind)k);
			else if (!t->burst && t->deaths_left && t->replicas > 1)
				disk_death(t);
			return;
		}
		x -= w;
	}
}

void trouble_start(struct trouble *t)
{
	t->calm_since = sim_now(t->c->sim);
	tick(t);
}

void trouble_end(struct trouble *t)
{
	struct cluster *c = t->c;

	t->over = true;
	sim_net_heal(c->sim);
	simstore_cut(c->store, NULL, false);
	simstore_loss(c->store, 0, 0);
	operator_removes(t);
	reconf_end(t);
	for (unsigned k = 0; k < c->ndisks; k++) {
		if (c->disk[k].dead)
			continue;
		c->disk[k].fault = SIM_DISK_OK;
		sim_disk_fault(c->disk[k].sd, SIM_DISK_OK);
	}
	for (unsigned k = 0; k < c->o.nodes; k++)
		cluster_boot(&c->node[k]);
	for (unsigned k = 0; k < c->o.clients; k++)
		cluster_boot(&c->client[k]);
}
