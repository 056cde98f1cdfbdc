/* SPDX-License-Identifier: Apache-2.0 */
/* The faults themselves: each is begun here and undone by an event of the world. When and where: trouble.c. */
#include <stdlib.h>

#include "sim/reconf.h"
#include "sim/ssd.h"
#include "sim/stops.h"

static struct cl_node *pick_node(struct trouble *t)
{
	return &t->c->node[tr_pick(t, t->c->o.nodes)];
}

static struct cl_node *pick_any(struct trouble *t)
{
	uint64_t k = tr_pick(t, t->c->o.nodes + t->c->o.clients);

	return k < t->c->o.nodes ? &t->c->node[k] : &t->c->client[k - t->c->o.nodes];
}

/* Mostly short, now and then long; and some so long that a node returns when its copies are elsewhere already, or
 * that no lease outlives it. */
static uint64_t duration(struct trouble *t, enum trouble_kind kind)
{
	bool can_be_long = kind == TR_KILL || kind == TR_POWER || kind == TR_STORE_CUT || kind == TR_SPLIT || kind == TR_FULL;

	if (can_be_long && tr_pick(t, 10) == 0)
		return 15 * NS_PER_S + tr_pick(t, 25 * NS_PER_S);
	switch (tr_pick(t, 4)) {
	case 0:
		return tr_pick(t, 100 * NS_PER_MS);
	case 3:
		return tr_pick(t, (kind == TR_PAUSE ? 6 : 15) * NS_PER_S);
	default:
		return tr_pick(t, 3 * NS_PER_S);
	}
}

/* ---- groups of nodes that do not hear of each other ---- */

static void cut_pairs(struct trouble *t, uint64_t side, bool cut)
{
	struct cluster *c = t->c;
	unsigned n = c->o.nodes + c->o.clients;

	for (unsigned i = 0; i < n; i++) {
		struct cl_node *a = i < c->o.nodes ? &c->node[i] : &c->client[i - c->o.nodes];

		if (side >> i & 1)
			simstore_cut(c->store, a->sim, cut);
		for (unsigned k = 0; k < n; k++) {
			struct cl_node *b = k < c->o.nodes ? &c->node[k] : &c->client[k - c->o.nodes];

			if ((side >> i & 1) != (side >> k & 1))
				sim_net_cut(c->sim, a->sim, b->sim, cut);
		}
	}
}

/* A client and some nodes, the one that was hit among them, on the side without the store. */
static void split(struct trouble *t, struct cl_node *at)
{
	struct cluster *c = t->c;
	uint64_t side = 1 + tr_pick(t, (UINT64_C(1) << c->o.nodes) - 2);

	side |= UINT64_C(1) << (c->o.nodes + (at && at->client ? at->index : tr_pick(t, c->o.clients)));
	cut_pairs(t, side, true);
}

/* ---- the end of a fault ---- */

static void undo_now(struct undo *u)
{
	struct trouble *t = u->t;
	struct cluster *c = t->c;
	struct cl_disk *d = u->disk ? cluster_disk_now(u->disk) : NULL;

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
	case TR_SPLIT:
		cut_pairs(t, (UINT64_C(1) << (c->o.nodes + c->o.clients)) - 1, false);
		sim_net_heal(c->sim);
		break;
	case TR_DISK:
		if (!d->dead) {
			d->fault = SIM_DISK_OK;
			sim_disk_fault(d->sd, SIM_DISK_OK);
		}
		break;
	case TR_FULL:
		d->full = false;
		sim_disk_set_capacity(d->sd, c->o.disk_size);
		break;
	case TR_SSD:
	case TR_SSD_AWAY:
	case TR_SSD_BLANK:
	case TR_SSD_SWAP:
	case TR_SSD_LOST:
	case TR_SSD_OLD:
		ssd_undo(t, u->kind, u->a);
		break;
	case TR_STOP:
	case TR_UNMOUNT:
		stops_undo(u->kind, u->a);
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
	case TR_CACHE:
		sim_disk_fault(u->a->cache_disk, SIM_DISK_OK);
		break;
	default:
		break;
	}
}

static void undo_fire(void *arg)
{
	struct undo *u = arg;
	struct trouble *t = u->t;

	undo_now(u);
	list_del(&u->link);
	free(u);
	if (--t->active == 0)
		t->calm_since = sim_now(t->c->sim);
}

void trouble_undo_at(struct trouble *t, uint64_t when, struct undo what)
{
	struct undo *u = calloc(1, sizeof(*u));

	if (!u)
		abort();
	*u = what;
	u->t = t;
	list_init(&u->link);
	list_push(&t->undos, &u->link);
	t->active++;
	sim_at(t->c->sim, when, undo_fire, u);
}

/* Two sides that go on for longer than a lease, or a node that sleeps so long: often with nothing else going on. */
static uint64_t until(struct trouble *t, enum trouble_kind kind)
{
	uint64_t now = sim_now(t->c->sim);

	if ((kind == TR_SPLIT || kind == TR_PAUSE) && tr_pick(t, 2)) {
		t->hush_until = now + 3 * NS_PER_S + tr_pick(t, 7 * NS_PER_S);
		return t->hush_until - tr_pick(t, NS_PER_S);
	}
	return now + duration(t, kind);
}

static void undo_later(struct trouble *t, struct undo what)
{
	trouble_undo_at(t, until(t, what.kind), what);
}

void faults_free(struct trouble *t)
{
	struct list *l;

	while ((l = list_pop(&t->undos)))
		free(list_entry(l, struct undo, link));
}

/* ---- the faults ---- */

static void power_all(struct trouble *t)
{
	bool clients = tr_pick(t, 2);

	for (unsigned k = 0; k < t->c->o.nodes; k++) {
		cluster_kill(&t->c->node[k], true);
		undo_later(t, (struct undo){ .kind = TR_POWER_ALL, .a = &t->c->node[k] });
	}
	for (unsigned k = 0; clients && k < t->c->o.clients; k++) {
		cluster_kill(&t->c->client[k], true);
		undo_later(t, (struct undo){ .kind = TR_POWER_ALL, .a = &t->c->client[k] });
	}
}

static void pause_node(struct trouble *t, struct cl_node *n)
{
	uint64_t end = until(t, TR_PAUSE);

	sim_node_pause(n->sim, end);
	trouble_undo_at(t, end, (struct undo){ .kind = TR_PAUSE, .a = n });
}

static struct cl_disk *pick_disk(struct trouble *t, struct cl_node *at)
{
	if (at && at->ndisks)
		return at->disks[tr_pick(t, at->ndisks)];
	return cluster_disk_now(&t->c->disk[tr_pick(t, t->c->ndisks)]);
}

static void disk_fault(struct trouble *t, struct cl_disk *d)
{
	static const enum sim_disk_fault faults[] = { SIM_DISK_EIO, SIM_DISK_STALL, SIM_DISK_SLOW, SIM_DISK_READONLY };

	if (d->dead)
		return;
	d->fault = faults[tr_pick(t, ARRAY_SIZE(faults))];
	d->faulted_lately = true;
	sim_disk_fault(d->sd, d->fault);
	undo_later(t, (struct undo){ .kind = TR_DISK, .disk = d });
}

/* Somebody else takes the room, but for a little. */
static void disk_full(struct trouble *t, struct cl_disk *d)
{
	if (d->dead)
		return;
	d->full = d->faulted_lately = true;
	sim_disk_set_capacity(d->sd, sim_disk_used(d->sd) + tr_pick(t, 2 * MiB));
	undo_later(t, (struct undo){ .kind = TR_FULL, .disk = d });
}

/*
 * Not of data and of their checksums on one disk: a write of data that the medium lost, and then rot in the newer copy of the page that
 * would tell, leave what was there before with the checksum of before (docs/disk-format.md, "Damaged tables").
 */
static void lie_of_data(struct cl_disk *d, enum sim_disk_lie lie)
{
	d->lied = true;
	sim_disk_lie(d->sd, ".seg", lie);
}

#define LOG_END 16u /* writes */

static void disk_lies(struct trouble *t, struct cl_disk *d)
{
	switch (tr_pick(t, 11)) {
	case 10: /* records of volumes: both copies have what matters */
		sim_disk_lie(d->sd, "/meta", tr_pick(t, 2) ? SIM_LIE_LOST : SIM_LIE_MISDIRECTED);
		break;
	case 0:
		if (!d->lied)
			sim_disk_rot(d->sd, ".map");
		break;
	case 8:
	case 9:
		/* Of the last batches nobody tells that they were there (recover_gap.c): those rot in death.c, where another copy is left. */
		sim_disk_rot_old(d->ssd ? d->ssd->sd : d->sd, d->ssd ? "" : "log", LOG_END);
		break;
	case 1:
	case 2:
		lie_of_data(d, SIM_LIE_LOST);
		break;
	case 3:
	case 4:
		lie_of_data(d, SIM_LIE_MISDIRECTED);
		break;
	default:
		sim_disk_rot(d->sd, ".seg");
		break;
	}
}

static void clock_fault(struct trouble *t, struct cl_node *n)
{
	sim_node_clock(n->sim, (int64_t)tr_pick(t, 600) - 300,
		       (int64_t)tr_pick(t, 200 * NS_PER_S) - (int64_t)(100 * NS_PER_S));
	undo_later(t, (struct undo){ .kind = TR_CLOCK, .a = n });
}

static void cache_fault(struct trouble *t, struct cl_node *n)
{
	static const enum sim_disk_fault faults[] = { SIM_DISK_EIO, SIM_DISK_STALL, SIM_DISK_SLOW, SIM_DISK_READONLY };

	if (!n->cache_disk)
		return;
	n->cache_faulted = true;
	if (tr_pick(t, 2)) {
		sim_disk_rot(n->cache_disk, "cache");
		return;
	}
	sim_disk_fault(n->cache_disk, faults[tr_pick(t, ARRAY_SIZE(faults))]);
	undo_later(t, (struct undo){ .kind = TR_CACHE, .a = n });
}

void fault_disk_dies(struct cl_disk *d)
{
	d->dead = true;
	d->serving = false;
	d->fault = SIM_DISK_EIO;
	d->rec.state = REC_DISK_FAILED;
	sim_disk_fault(d->sd, SIM_DISK_EIO);
}

/* What strikes a node as a whole. */
static void node_fault(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	struct cluster *c = t->c;

	switch (kind) {
	case TR_KILL:
	case TR_POWER:
		at = at ? at : pick_node(t);
		cluster_kill(at, kind == TR_POWER);
		undo_later(t, (struct undo){ .kind = kind, .a = at });
		break;
	case TR_POWER_ALL:
		power_all(t);
		break;
	case TR_CLIENT:
		at = at && at->client ? at : &c->client[tr_pick(t, c->o.clients)];
		cluster_kill(at, tr_pick(t, 2));
		undo_later(t, (struct undo){ .kind = kind, .a = at });
		break;
	case TR_PAUSE:
		pause_node(t, at ? at : pick_any(t));
		break;
	default:
		clock_fault(t, at ? at : pick_any(t));
		break;
	}
}

static void net_fault(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	struct cluster *c = t->c;
	struct cl_node *a = at ? at : pick_any(t), *b = pick_any(t), *swap = a;

	if (tr_pick(t, 2)) {
		a = b;
		b = swap;
	}
	switch (kind) {
	case TR_CUT:
		sim_net_cut(c->sim, a->sim, b->sim, true);
		undo_later(t, (struct undo){ .kind = kind, .a = a, .b = b });
		break;
	case TR_ISOLATE:
		sim_net_isolate(c->sim, swap->sim, true);
		undo_later(t, (struct undo){ .kind = kind, .a = swap });
		break;
	case TR_SPLIT:
		split(t, at);
		undo_later(t, (struct undo){ .kind = kind });
		break;
	default:
		sim_net_reset_conns(c->sim, a->sim, b->sim);
		break;
	}
}

static void store_fault(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	struct cluster *c = t->c;
	struct cl_node *a = at ? at : pick_any(t);

	switch (kind) {
	case TR_STORE_CUT:
		a = tr_pick(t, 5) ? a : NULL;
		simstore_cut(c->store, a ? a->sim : NULL, true);
		undo_later(t, (struct undo){ .kind = kind, .a = a });
		break;
	case TR_STORE_LOSS:
		simstore_loss(c->store, (uint32_t)tr_pick(t, 300), (uint32_t)tr_pick(t, 300));
		undo_later(t, (struct undo){ .kind = kind });
		break;
	default:
		simstore_compact(c->store);
		break;
	}
}

void fault_begin(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	t->count[kind]++;
	switch (kind) {
	case TR_KILL:
	case TR_POWER:
	case TR_POWER_ALL:
	case TR_CLIENT:
	case TR_PAUSE:
	case TR_CLOCK:
		node_fault(t, kind, at);
		break;
	case TR_CUT:
	case TR_ISOLATE:
	case TR_SPLIT:
	case TR_RESET:
		net_fault(t, kind, at);
		break;
	case TR_DISK:
		disk_fault(t, pick_disk(t, at));
		break;
	case TR_FULL:
		disk_full(t, pick_disk(t, at));
		break;
	case TR_CACHE:
		cache_fault(t, at && at->client ? at : &t->c->client[tr_pick(t, t->c->o.clients)]);
		break;
	case TR_ROT:
		disk_lies(t, pick_disk(t, at));
		break;
	case TR_REPLICAS:
	case TR_EVACUATE:
	case TR_MOVE:
		reconf_trouble(t, kind);
		break;
	case TR_SSD:
	case TR_SSD_AWAY:
	case TR_SSD_BLANK:
	case TR_SSD_SWAP:
		ssd_trouble(t, kind, at);
		break;
	case TR_STOP:
	case TR_UNMOUNT:
		stops_fault(t, kind, at);
		break;
	default:
		store_fault(t, kind, at);
		break;
	}
}
