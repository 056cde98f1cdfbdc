/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that fail for good: when they may. The promise is that any replicas - 1 may; so each death waits until the
 * store says that every segment keeps an in-sync copy on another live disk, and nothing else is broken meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/uuid.h"
#include "sim/reconf.h"
#include "sim/ssd.h"

#define CALM (5 * NS_PER_S)

/* The records of one volume as the store has them now. */
struct records {
	unsigned volume;
	uint32_t replicas;
	struct rec_volsync sync;
	struct rec_volmap map;
};

/* One disk, or all that have their log on one SSD. */
struct loss {
	const struct cl_disk *disk;
	const struct cl_ssd *ssd;
};

typedef bool segment_fn(struct trouble *t, const struct records *r, uint32_t segment, const struct loss *without);

static bool is_lost(const struct cl_disk *d)
{
	return d->dead || d->log_lost;
}

static bool is_out(const struct records *r, const struct uuid *disk)
{
	for (uint32_t k = 0; k < r->sync.n; k++)
		if (uuid_eq(&r->sync.out[k].disk, disk))
			return true;
	return false;
}

/* Does it hold for each segment of each volume? */
static bool all_segments(struct trouble *t, segment_fn *fn, const struct loss *without)
{
	struct records *r = calloc(1, sizeof(*r));
	char key[REC_KEY];
	const void *v;
	uint32_t len;
	struct rec_volume rec;
	bool ok = true;

	if (!r)
		abort();
	for (unsigned k = 0; k < t->nvolumes && ok; k++) {
		ok = reconf_volume(t, k, &rec);
		r->replicas = rec.replicas;
		r->volume = k;
		key_volsync(key, &t->volume[k].uuid);
		v = simstore_peek(t->c->store, key, &len);
		ok = ok && v && rec_volsync_decode(v, len, &r->sync, NULL) == 0;
		for (uint32_t chunk = 0; ok; chunk++) {
			key_volmap(key, &t->volume[k].uuid, chunk);
			v = simstore_peek(t->c->store, key, &len);
			if (!v)
				break;
			ok = rec_volmap_decode(v, len, &r->map, NULL) == 0;
			for (uint32_t s = 0; ok && s < r->map.n; s++)
				ok = fn(t, r, s, without);
		}
	}
	free(r);
	return ok;
}

/* Why it is not whole, for people: the last reason found. */
static bool not_whole(struct trouble *t, const struct records *r, const char *what, uint32_t segment, const struct cl_disk *d)
{
	snprintf(t->why, sizeof(t->why), "v%u, segment %u: %s on %s%s", r->volume, segment, what, d ? d->rec.node : "?",
		 d ? d->rec.path : "");
	return false;
}

static bool segment_whole(struct trouble *t, const struct records *r, uint32_t s, const struct loss *without)
{
	(void)without;
	if (r->map.seg[s].n != r->replicas)
		return not_whole(t, r, "not as many copies as wanted", s, NULL);
	for (uint32_t k = 0; k < r->map.seg[s].n; k++) {
		struct cl_disk *d = cluster_disk(t->c, &r->map.seg[s].r[k].disk);

		if (r->map.seg[s].r[k].joining)
			return not_whole(t, r, "copy joining", s, d);
		if (!d || is_lost(d))
			return not_whole(t, r, "copy on a failed disk", s, d);
		for (uint32_t i = 0; i < k; i++) {
			struct cl_disk *o = cluster_disk(t->c, &r->map.seg[s].r[i].disk);

			if (o && o->node == d->node)
				return not_whole(t, r, "two copies on one node", s, d);
		}
	}
	return r->sync.n == 0 || not_whole(t, r, "disks are out of the in-sync set", s, NULL);
}

bool trouble_volumes_whole(struct trouble *t)
{
	for (unsigned k = 0; k < t->nvolumes; k++) {
		if (!reconf_pending(t, k))
			continue;
		snprintf(t->why, sizeof(t->why), "a change of its copies is not done");
		return false;
	}
	return all_segments(t, segment_whole, NULL);
}

static bool segment_survives(struct trouble *t, const struct records *r, uint32_t s, const struct loss *without)
{
	for (uint32_t k = 0; k < r->map.seg[s].n; k++) {
		struct cl_disk *d = cluster_disk(t->c, &r->map.seg[s].r[k].disk);

		if (d && d != without->disk && (!d->ssd || d->ssd != without->ssd) && !is_lost(d) && !r->map.seg[s].r[k].joining && !is_out(r, &d->rec.uuid))
			return true;
	}
	return false;
}

/* One that may die: its node keeps another, so that there is always a place to rebuild. */
static struct cl_disk *mortal(struct trouble *t, struct cl_node *n)
{
	struct cl_disk *d = NULL;
	unsigned live = 0;

	for (unsigned k = 0; k < n->ndisks; k++) {
		if (!is_lost(n->disks[k]) && tr_pick(t, ++live) == 0)
			d = n->disks[k];
	}
	return live > 1 ? d : NULL;
}

static void boot_again(void *arg)
{
	cluster_boot(arg);
}

/* Nothing else goes wrong until the other replicas have met the writer, living or next, that has to notice. */
static void log_ends(struct trouble *t, struct cl_node *n)
{
	struct cl_disk *d = mortal(t, n); /* what is missing may be noticed when it is opened: then that is its death */

	t->log_end_next = false;
	if (!d)
		return;
	d->log_breaks = tr_pick(t, 3) == 0;
	d->log_end_rots = !d->log_breaks;
	t->count[TR_LOG_END]++;
	t->healing = true;
	t->died_at = sim_now(t->c->sim);
	t->hold_until = t->died_at + 15 * NS_PER_S;
	cluster_kill(n, true);
	sim_at(t->c->sim, t->died_at + tr_pick(t, 3 * NS_PER_S), boot_again, n);
}

/* Nothing else goes wrong until what it says was believed, or not. */
static void ssd_returns_old(struct trouble *t)
{
	t->ssd_next = 0;
	t->healing = true;
	t->died_at = sim_now(t->c->sim);
	t->hold_until = t->died_at + 15 * NS_PER_S;
	ssd_old(t);
	for (unsigned k = 0; k < t->c->o.nodes; k++)
		if (!sim_node_up(t->c->node[k].sim))
			sim_at(t->c->sim, t->died_at + tr_pick(t, 5 * NS_PER_S), boot_again, &t->c->node[k]);
}

/* Of so many nodes; of the others of them a disk, sometimes. */
static void ssds_die(struct trouble *t, uint64_t n)
{
	struct cl_node *first = ssd_mortal(t, tr_pick(t, t->c->nssds));

	for (uint64_t k = 0; k < n && first; k++) {
		struct cl_node *node = &t->c->node[(first->index + k) % t->c->o.nodes];
		struct cl_disk *d;

		if (node->ssd && !node->ssd->lost) {
			ssd_dies(t, node);
			continue;
		}
		d = t->deaths_left ? mortal(t, node) : NULL;
		if (d) {
			t->deaths_left--;
			t->count[TR_DISK_DEATH]++;
			fault_disk_dies(d);
		}
	}
}

void death_first(struct trouble *t)
{
	uint32_t replicas = REC_REPLICAS_MAX;
	uint64_t n, first = tr_pick(t, t->c->o.nodes);

	if (t->active || sim_now(t->c->sim) - t->calm_since < CALM || cluster_disks_missing(t->c) ||
	    !trouble_volumes_whole(t)) {
		t->quiet = true;
		return;
	}
	for (unsigned k = 0; k < t->nvolumes; k++)
		replicas = MIN(replicas, t->volume[k].replicas);
	t->quiet = false;
	if (replicas < 2)
		return;
	if (t->log_end_next) {
		log_ends(t, &t->c->node[first]);
		return;
	}
	if (t->ssd_next == TR_SSD_OLD) {
		ssd_returns_old(t);
		return;
	}
	n = 1 + tr_pick(t, replicas - 1);
	t->second = n < replicas - 1 && tr_pick(t, 4);
	t->healing = n == replicas - 1 || t->second;
	t->died_at = sim_now(t->c->sim);
	if (t->ssd_next == TR_SSD_LOST) {
		t->ssd_next = 0;
		ssds_die(t, n);
		return;
	}
	t->deaths_left--;
	t->count[TR_DISK_DEATH]++;
	for (uint64_t k = 0; k < n; k++) {
		struct cl_disk *d = mortal(t, &t->c->node[(first + k) % t->c->o.nodes]);

		if (d)
			fault_disk_dies(d);
	}
}

void death_second(struct trouble *t)
{
	uint64_t first = tr_pick(t, t->c->o.nodes);

	if (!t->second || t->over)
		return;
	for (uint64_t k = 0; k < t->c->o.nodes && t->second; k++) {
		struct cl_node *n = &t->c->node[(first + k) % t->c->o.nodes];
		bool ssd = n->ssd && !n->ssd->lost && n->ssd->fault == SIM_DISK_OK && tr_pick(t, 2);
		struct cl_disk *d = ssd ? NULL : mortal(t, n);
		struct loss without = { d, ssd ? n->ssd : NULL };

		if ((!d && !ssd) || !all_segments(t, segment_survives, &without))
			continue;
		t->second = false;
		if (ssd) {
			ssd_dies(t, n);
			continue;
		}
		t->count[TR_DISK_DEATH]++;
		fault_disk_dies(d);
	}
}

void death_removed(struct trouble *t)
{
	ssd_removed(t);
	for (unsigned k = 0; k < t->c->ndisks; k++)
		if (t->c->disk[k].dead)
			t->c->disk[k].rec.state = REC_DISK_REMOVED;
}
