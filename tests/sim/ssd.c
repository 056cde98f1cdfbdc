/* SPDX-License-Identifier: Apache-2.0 */
/* See ssd.h. */
#include "sim/ssd.h"
#include "sim/stops.h"

#include <stdlib.h>

static bool busy(const struct cl_ssd *s)
{
	return s->fault != SIM_DISK_OK || s->lost || s->blank || s->swapped;
}

static struct cl_ssd *pick_ssd(struct trouble *t, struct cl_node *at)
{
	struct cl_ssd *s = at && at->ssd ? at->ssd : &t->c->ssd[tr_pick(t, t->c->nssds)];

	return busy(s) ? NULL : s;
}

/* Disks that lose their log for a moment are refused when they are opened, perhaps only after it is back. */
static void touched(struct cl_ssd *s)
{
	for (unsigned k = 0; k < s->node->ndisks; k++)
		if (s->node->disks[k]->ssd)
			s->node->disks[k]->faulted_lately = true;
}

static void pull(struct cl_ssd *s)
{
	sim_disk_pull(s->sd);
	s->fault = SIM_DISK_GONE;
	touched(s);
}

static void put_in(struct cl_ssd *s)
{
	sim_disk_fault(s->sd, SIM_DISK_OK);
	s->fault = SIM_DISK_OK;
	touched(s);
}

/* Mostly soon; and often about as long as they wait for it, where what is decided meets what happens. */
static uint64_t away_for(struct trouble *t)
{
	uint64_t wait = MIN(t->c->o.log_wait_ns, 12 * NS_PER_S);

	switch (tr_pick(t, 4)) {
	case 0:
		return tr_pick(t, 3 * NS_PER_S);
	case 3:
		return 8 * NS_PER_S + tr_pick(t, 25 * NS_PER_S);
	default:
		return wait / 2 + tr_pick(t, 2 * wait);
	}
}

static void later(struct trouble *t, enum trouble_kind kind, struct cl_ssd *s, uint64_t ns)
{
	trouble_undo_at(t, sim_now(t->c->sim) + ns, (struct undo){ .kind = kind, .a = s->node });
}

/* ---- passing ---- */

static bool in_place(struct trouble *t, struct cl_ssd *s)
{
	static const enum sim_disk_fault faults[] = { SIM_DISK_EIO, SIM_DISK_STALL, SIM_DISK_SLOW, SIM_DISK_READONLY };

	s->fault = faults[tr_pick(t, ARRAY_SIZE(faults))];
	sim_disk_fault(s->sd, s->fault);
	touched(s);
	later(t, TR_SSD, s, tr_pick(t, (tr_pick(t, 3) ? 3 : 15) * NS_PER_S));
	return true;
}

void ssd_out(struct trouble *t, struct cl_ssd *s, uint64_t ns)
{
	pull(s);
	later(t, TR_SSD_AWAY, s, ns);
}

static bool goes_away(struct trouble *t, struct cl_ssd *s)
{
	pull(s);
	later(t, TR_SSD_AWAY, s, away_for(t));
	/* Often it is looked at when its node is: */
	if (tr_pick(t, 4) == 0)
		fault_begin(t, tr_pick(t, 2) ? TR_KILL : TR_POWER, s->node);
	return true;
}

/* Nobody is just making a log there, nor about to: of a disk that was given up its successor is. */
static bool all_made(const struct cl_ssd *s)
{
	for (unsigned k = 0; k < s->n; k++) {
		const struct cl_disk *d = s->node->disks[k];

		if (!d->dead && (!d->formatted || cluster_given_up(d)))
			return false;
	}
	return true;
}

/* With one log on it: if that disk is given up meanwhile the blank one stays, and nobody misses what the other had. */
static bool blank(struct trouble *t, struct cl_ssd *s)
{
	if (s->n != 1 || !all_made(s))
		return false;
	pull(s);
	cluster_blank_ssd(s, s->shelf);
	sim_disk_pull(s->shelf);
	sim_disk_swap(s->sd, s->shelf);
	s->blank = s->node->disks[0];
	s->blank_taken = false;
	put_in(s);
	later(t, TR_SSD_BLANK, s, away_for(t));
	return true;
}

static void not_blank(struct cl_ssd *s)
{
	const struct cl_disk *d = s->blank;

	s->blank = NULL;
	touched(s);
	if (d->dead || s->blank_taken || cluster_given_up(d))
		return;
	pull(s);
	sim_disk_swap(s->sd, s->shelf);
	put_in(s);
}

void ssd_log_made_anew(struct cl_node *at)
{
	if (at->ssd)
		at->ssd->blank_taken = true;
}

static void exchange(struct cl_ssd *a, struct cl_ssd *b)
{
	pull(a);
	pull(b);
	sim_disk_swap(a->sd, b->sd);
	put_in(a);
	put_in(b);
}

/* Found out before anybody's log counts as lost: else both would be given up, and have their new logs with the other. */
static bool swap(struct trouble *t, struct cl_ssd *a)
{
	struct cl_ssd *b = &t->c->ssd[tr_pick(t, t->c->nssds)];

	if (b == a || busy(b) || !all_made(a) || !all_made(b))
		return false;
	exchange(a, b);
	a->swapped = b;
	b->swapped = a;
	later(t, TR_SSD_SWAP, a, tr_pick(t, MIN(t->c->o.log_wait_ns / 5, 15 * NS_PER_S)));
	return true;
}

static void swap_back(struct cl_ssd *a)
{
	struct cl_ssd *b = a->swapped;

	if (!b)
		return;
	exchange(a, b);
	a->swapped = b->swapped = NULL;
}

void ssd_trouble(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	static bool (*const begin[TR_KINDS])(struct trouble *t, struct cl_ssd *s) = {
		[TR_SSD] = in_place, [TR_SSD_AWAY] = goes_away, [TR_SSD_BLANK] = blank, [TR_SSD_SWAP] = swap,
	};
	struct cl_ssd *s = pick_ssd(t, at);

	if (!s || !begin[kind](t, s))
		t->count[kind]--;
}

static void log_is_lost(struct cl_node *n, bool doomed)
{
	for (unsigned k = 0; k < n->ndisks; k++) {
		if (!n->disks[k]->ssd || n->disks[k]->dead)
			continue;
		n->disks[k]->log_lost = true;
		n->disks[k]->doomed = doomed;
	}
}

/* Now; a new one comes later. */
static void is_lost(struct trouble *t, struct cl_ssd *s)
{
	pull(s);
	later(t, TR_SSD_LOST, s, tr_pick(t, 20 * NS_PER_S));
}

void ssd_undo(struct trouble *t, enum trouble_kind kind, struct cl_node *at)
{
	struct cl_ssd *s = at->ssd;

	if (kind == TR_SSD_LOST && s->lost && s->fault == SIM_DISK_OK) { /* the node is down, or was to be: its disks may be open again */
		log_is_lost(s->node, false);
		if (t->over) /* who waits for all to be whole again has said already that it is removed */
			ssd_removed(t);
		is_lost(t, s);
	} else if (kind == TR_SSD_LOST && s->lost) { /* a new one is there */
		cluster_blank_ssd(s, s->sd);
		s->lost = false;
		put_in(s);
	} else if (kind == TR_SSD_SWAP) {
		swap_back(s);
	} else if (kind == TR_SSD_BLANK && s->blank) {
		not_blank(s);
	} else if (kind != TR_SSD_LOST && s->fault != SIM_DISK_OK && !s->lost) {
		put_in(s);
	}
}

void ssd_mend(struct trouble *t)
{
	for (unsigned k = 0; k < t->c->nssds; k++) {
		struct cl_ssd *s = &t->c->ssd[k];

		swap_back(s);
		if (s->blank)
			not_blank(s);
		else if (s->fault != SIM_DISK_OK && !s->lost)
			put_in(s);
	}
}

/* ---- for good ---- */

/* There will be a place to rebuild: another disk of the node, or a new SSD. */
static bool may_stay_away(const struct cl_node *n)
{
	for (unsigned k = 0; k < n->ndisks; k++)
		if (!n->disks[k]->dead && !n->disks[k]->ssd)
			return true;
	return false;
}

struct cl_node *ssd_mortal(struct trouble *t, uint64_t k)
{
	for (unsigned i = 0; i < t->c->nssds; i++) {
		struct cl_ssd *s = &t->c->ssd[(k + i) % t->c->nssds];

		if (!busy(s))
			return s->node;
	}
	return NULL;
}

void ssd_dies(struct trouble *t, struct cl_node *n)
{
	bool doomed = t->deaths_left && may_stay_away(n) && tr_pick(t, 4) == 0;

	t->count[TR_SSD_LOST]++;
	n->ssd->lost = true;
	log_is_lost(n, doomed);
	if (doomed) {
		pull(n->ssd);
		t->deaths_left--;
	} else if (stops_first(t, n)) { /* replaced in an orderly way, and nothing need be lost; but nobody relies on that */
		later(t, TR_SSD_LOST, n->ssd, 500 * NS_PER_MS + tr_pick(t, 3 * NS_PER_S));
	} else {
		is_lost(t, n->ssd);
	}
}

void ssd_removed(struct trouble *t)
{
	for (unsigned k = 0; k < t->c->ndisks; k++) {
		struct cl_disk *d = &t->c->disk[k];

		/* A disk that was closed in an orderly way does not need the log that is old, and waits for it nevertheless. */
		if ((!d->log_lost && !(t->stops && d->log_old)) || d->dead)
			continue;
		d->rec.log_wait_ns = NS_PER_S;
		if (!d->doomed)
			continue;
		d->dead = true;
		d->serving = false;
		d->rec.state = REC_DISK_FAILED;
	}
}

/* ---- what it held before ---- */

bool ssd_old_ready(struct trouble *t)
{
	struct cl_ssd *s = t->old_ssd;

	/* The disks on it are the same as then? */
	if (s && t->old_made == s->made && !s->lost)
		return true;
	sim_image_free(t->old_image);
	t->old_image = NULL;
	s = pick_ssd(t, NULL);
	if (s && !all_made(s))
		s = NULL;
	t->old_ssd = s;
	if (s) {
		t->old_image = sim_disk_image(s->sd);
		t->old_made = s->made;
	}
	return false;
}

void ssd_old(struct trouble *t)
{
	struct cl_ssd *s = t->old_ssd;

	if (!s || busy(s) || t->old_made != s->made)
		return;
	t->count[TR_SSD_OLD]++;
	pull(s);
	sim_disk_restore(s->sd, t->old_image);
	s->fault = SIM_DISK_GONE;
	for (unsigned k = 0; k < s->node->ndisks; k++)
		s->node->disks[k]->log_old = s->node->disks[k]->ssd && !s->node->disks[k]->dead;
	later(t, TR_SSD_OLD, s, tr_pick(t, 3 * NS_PER_S));
	if (tr_pick(t, 3) == 0)
		cluster_kill(s->node, tr_pick(t, 2));
	sim_image_free(t->old_image);
	t->old_image = NULL;
	t->old_ssd = NULL;
}
