/* SPDX-License-Identifier: Apache-2.0 */
/* See stops.h. */
#include "sim/stops.h"

/* splitmix64, of Steele, Lea and Flood: "Fast splittable pseudorandom number generators" */
static uint64_t choose(struct trouble *t, uint64_t n)
{
	uint64_t z = t->stops_rand += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % n;
}

static bool wanted(const struct trouble *t, enum trouble_kind kind)
{
	return t->stops && t->mask >> kind & 1;
}

/* ---- mounts ---- */

/* What is to be formatted there, or will be, may be: then it is not this that is tried. */
static bool may_be_empty(struct cl_disk *d)
{
	return d->formatted && !d->dead && !d->unmounted && !d->log_lost && !d->log_old && !d->log_end_rots && !d->log_breaks &&
	       d->fault == SIM_DISK_OK && d->rec.state != REC_DISK_NEW && uuid_is_null(&d->rec.replaces) &&
	       !(d->ssd && cluster_given_up(d));
}

static void exchange(struct cl_disk *d)
{
	sim_disk_fault(d->sd, SIM_DISK_OK);
	sim_disk_pull(d->sd);
	sim_disk_pull(d->under);
	sim_disk_swap(d->sd, d->under);
	d->fault = SIM_DISK_OK;
	sim_disk_fault(d->sd, SIM_DISK_OK);
	d->faulted_lately = true;
}

static void unmount(struct cl_disk *d)
{
	sim_disk_wipe(d->under);
	exchange(d);
	d->unmounted = true;
}

/* One that was given up meanwhile has a successor in the empty directory, and there that stays. */
static void mount(struct cl_disk *d)
{
	if (d->unmounted && !d->dead && !d->successor && !(d->ssd && cluster_given_up(d)))
		exchange(d);
	d->unmounted = false;
}

static void mount_all(struct cl_node *n)
{
	for (unsigned k = 0; k < n->cl->ndisks; k++)
		if (n->cl->disk[k].node == n)
			mount(&n->cl->disk[k]);
}

/* ---- the faults ---- */

static uint64_t duration(struct trouble *t)
{
	return choose(t, (choose(t, 8) ? 4 : 30) * NS_PER_S);
}

/* Who starts it again waits for its end, but not for ever. */
static void stop(struct trouble *t, struct cl_node *n)
{
	if (!cluster_stop(n)) {
		t->count[TR_STOP]--;
		return;
	}
	trouble_undo_at(t, sim_now(t->c->sim) + duration(t), (struct undo){ .kind = TR_STOP, .a = n });
}

bool stops_first(struct trouble *t, struct cl_node *n)
{
	if (!wanted(t, TR_STOP) || choose(t, 2) || !cluster_stop(n))
		return false;
	t->count[TR_STOP]++;
	trouble_undo_at(t, sim_now(t->c->sim) + 4 * NS_PER_S + duration(t), (struct undo){ .kind = TR_STOP, .a = n });
	return true;
}

/* It comes back before they do. */
static void come_back_empty(struct trouble *t, struct cl_node *n)
{
	uint64_t back = sim_now(t->c->sim) + duration(t);
	bool all = choose(t, 2), any = false;
	unsigned one = (unsigned)choose(t, n->ndisks);

	cluster_kill(n, choose(t, 2));
	for (unsigned k = 0; k < n->ndisks; k++) {
		if ((!all && k != one) || !may_be_empty(n->disks[k]))
			continue;
		unmount(n->disks[k]);
		any = true;
	}
	t->count[TR_UNMOUNT] -= !any;
	trouble_undo_at(t, back, (struct undo){ .kind = TR_STOP, .a = n });
	trouble_undo_at(t, back + duration(t), (struct undo){ .kind = TR_UNMOUNT, .a = n });
}

void stops_fault(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	struct cl_node *n = at && !at->client ? at : &t->c->node[choose(t, t->c->o.nodes)];

	if (kind == TR_STOP)
		stop(t, n);
	else
		come_back_empty(t, n);
}

static void end(struct cl_node *n)
{
	if (n->life && n->life->stopping)
		cluster_kill(n, false);
}

void stops_undo(enum trouble_kind kind, struct cl_node *at)
{
	if (kind == TR_UNMOUNT) {
		mount_all(at);
		return;
	}
	end(at);
	cluster_boot(at);
}

void stops_mend(struct trouble *t)
{
	for (unsigned k = 0; k < t->c->o.nodes; k++) {
		end(&t->c->node[k]);
		mount_all(&t->c->node[k]);
	}
}

/* ---- when ---- */

enum trouble_kind stops_instead(struct trouble *t, enum trouble_kind kind, const struct cl_node *at)
{
	if (!at || at->client)
		return kind;
	if (kind == TR_KILL && wanted(t, TR_STOP) && choose(t, 3) == 0)
		return TR_STOP;
	if (kind == TR_POWER && wanted(t, TR_UNMOUNT) && choose(t, 4) == 0)
		return TR_UNMOUNT;
	return kind;
}

static void tick(void *arg)
{
	struct trouble *t = arg;
	enum trouble_kind kind = choose(t, 2) ? TR_STOP : TR_UNMOUNT;

	if (t->over)
		return;
	sim_at(t->c->sim, sim_now(t->c->sim) + choose(t, 16 * t->mean_ns), tick, t);
	if (!t->quiet && !t->healing && sim_now(t->c->sim) >= t->hush_until && wanted(t, kind))
		fault_begin(t, kind, NULL);
}

void stops_start(struct trouble *t)
{
	t->stops_rand = t->c->o.seed;
	if (t->stops)
		sim_at(t->c->sim, sim_now(t->c->sim) + choose(t, 16 * t->mean_ns), tick, t);
}
