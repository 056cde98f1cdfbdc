/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan that evens out a pool. What is evened out is the part of each data disk's capacity that segments are placed on,
 * written or not: it is known exactly, without asking disks, and what volumes will write in the end follows it.
 *
 * Every move goes from a disk above the common share to one below it, which stays below it but for half a segment, or at
 * least below the one it comes from: so what moves is what disks have too much and not more. The volume's policy says to
 * which of those below.
 */
#include "cluster/balance_impl.h"

#include <stdlib.h>

#define ASKS_A_TURN 200u /* of the policy, before other fibers run */

/* ---- shares ---- */

static double share_of(const struct balance *b, uint32_t i)
{
	return (double)b->placed[i] / (double)b->snap.disks[i].capacity;
}

static void spread_of(const struct balance *b, double *most, double *least)
{
	*most = 0;
	*least = 1e9;
	for (uint32_t i = 0; i < b->snap.n; i++) {
		if (!balance_counts(b, i))
			continue;
		*most = MAX(*most, 100 * share_of(b, i));
		*least = MIN(*least, 100 * share_of(b, i));
	}
	*least = MIN(*least, *most);
}

static void common_share(struct balance *b)
{
	double placed = 0, capacity = 0;

	for (uint32_t i = 0; i < b->snap.n; i++) {
		if (!balance_counts(b, i))
			continue;
		placed += (double)b->placed[i];
		capacity += (double)b->snap.disks[i].capacity;
	}
	b->share = capacity > 0 ? placed / capacity : 0;
}

/* Has it more than half a segment too much, or too little? */
static bool too_much(const struct balance *b, uint32_t i, uint64_t seg)
{
	return (double)b->placed[i] - (double)seg / 2 >= b->share * (double)b->snap.disks[i].capacity;
}

static bool has_room(const struct balance *b, uint32_t i, uint32_t from, uint64_t seg, bool last)
{
	double cap = (double)b->snap.disks[i].capacity, to = (double)b->placed[i];

	if (to + (double)seg / 2 <= b->share * cap)
		return true;
	return last && to < b->share * cap &&
	       (to + (double)seg) / cap <= ((double)b->placed[from] - (double)seg) / (double)b->snap.disks[from].capacity;
}

/* ---- moving ---- */

int balance_ask(struct balance *b, const struct copy *s, uint32_t from, uint32_t *to)
{
	const struct rec_volume *v = REC_AT(&b->vols, s->vol, struct rec_volume);
	struct hci_placement_request r;
	uint32_t keep[REC_COPIES_MAX], n = 0;
	struct policy *p = NULL;
	struct hci_error err;
	char name[HCI_NAME_MAX];
	bool any = false;
	int rc = 0;

	for (uint32_t k = 0; k < s->n; k++)
		if (s->disk[k] != from)
			keep[n++] = s->disk[k];
	for (uint32_t i = 0; i < b->snap.n; i++) {
		struct hci_placement_disk *d = &b->snap.disks[i];

		d->usable = b->may[i];
		any |= d->usable != 0;
		d->free = d->capacity - MIN(d->capacity, b->placed[i]);
		d->segments = b->placed[i] / v->segment_size;
	}
	if (!any)
		rc = HCI_E_NOPLACE;
	if (!rc && !b->c->o.place)
		rc = core_policy_get(b->c, place_policy_name(b->c, v->pool, v->policy, name), &p, &err);
	place_request_init(&r, HCI_PLACE_NEW, &v->uuid, s->segment, v->replicas, v->segment_size);
	r.want = 1;
	r.keep = keep;
	r.nkeep = n;
	if (!rc)
		rc = place_ask(b->c, p, &b->snap, &r, to, &err);
	if (++b->asks % ASKS_A_TURN == 0)
		fiber_sleep(b->c->o.env, NS_PER_MS);
	return rc;
}

bool balance_move(struct balance *b, struct copy *s, uint32_t from, uint32_t to)
{
	uint64_t bytes = balance_bytes(b, s);
	int k = balance_position(s, from);

	if (!plan_add(b->p, s->vol, s->segment, &b->snap.ids[from], &b->snap.ids[to])) {
		b->nomem = true;
		return false;
	}
	b->placed[from] -= bytes;
	b->placed[to] += bytes;
	b->load[from] -= MIN(b->load[from], s->load[k]);
	b->load[to] += s->load[k];
	b->p->bytes += bytes;
	s->disk[k] = to;
	s->moved = true;
	return true;
}

/* One copy off this disk; false: there is none that can go. last: also to where half a segment is too much. */
static bool move_one(struct balance *b, uint32_t from, bool last)
{
	for (uint32_t i = 0; i < b->nsegs; i++) {
		struct copy *s = &b->segs[i];
		uint64_t bytes = balance_bytes(b, s);
		uint32_t to;

		if (balance_position(s, from) < 0 || !too_much(b, from, bytes))
			continue;
		for (uint32_t k = 0; k < b->snap.n; k++)
			b->may[k] = b->could[k] && k != from && has_room(b, k, from, bytes, last);
		if (!balance_ask(b, s, from, &to))
			return balance_move(b, s, from, to);
	}
	return false;
}

static uint32_t fullest(const struct balance *b)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < b->snap.n; i++)
		if (balance_counts(b, i) && !b->even[i] && (best == UINT32_MAX || share_of(b, i) > share_of(b, best)))
			best = i;
	return best;
}

static int by_volume(const void *x, const void *y)
{
	const struct plan_move *a = x, *b = y;

	if (a->vol != b->vol)
		return a->vol < b->vol ? -1 : 1;
	return a->m.segment < b->m.segment ? -1 : a->m.segment > b->m.segment;
}

static void even_out(struct balance *b)
{
	uint32_t from;

	while ((from = fullest(b)) != UINT32_MAX && !b->nomem)
		b->even[from] = !move_one(b, from, false) && !move_one(b, from, true);
}

static bool make_room(struct balance *b)
{
	b->placed = mem_calloc(b->snap.n, sizeof(*b->placed));
	b->load = mem_calloc(b->snap.n, sizeof(*b->load));
	b->even = mem_calloc(b->snap.n, sizeof(*b->even));
	b->could = mem_calloc(b->snap.n, sizeof(*b->could));
	b->may = mem_calloc(b->snap.n, sizeof(*b->may));
	return b->placed && b->load && b->even && b->could && b->may;
}

static void make_plan(struct balance *b, bool load)
{
	struct plan *p = b->p;

	for (uint32_t i = 0; i < b->snap.n; i++)
		b->could[i] = b->snap.disks[i].usable;
	common_share(b);
	spread_of(b, &p->most, &p->least);
	balance_load_spread(b, &p->load_most, &p->load_least);
	even_out(b);
	if (load)
		balance_load(b);
	spread_of(b, &p->most_after, &p->least_after);
	balance_load_spread(b, &p->load_most_after, &p->load_least_after);
	if (p->n)
		qsort(p->moves, p->n, sizeof(*p->moves), by_volume);
}

int plan_balance(struct core *c, const char *pool, bool load, struct plan *out, struct hci_error *err)
{
	struct balance b = { .c = c, .p = out };
	int rc;

	memset(out, 0, sizeof(*out));
	rc = snap_make(c, pool, HCI_PLACE_NEW, &b.snap, err);
	if (!rc && !make_room(&b))
		rc = err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	if (!rc)
		rc = balance_read_maps(&b, pool, err);
	if (!rc && load)
		rc = balance_read_loads(&b, err);
	if (!rc)
		make_plan(&b, load);
	if (!rc && b.nomem)
		rc = err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	snap_free(&b.snap);
	rec_list_free(&b.vols);
	mem_free(b.placed);
	mem_free(b.load);
	mem_free(b.even);
	mem_free(b.could);
	mem_free(b.may);
	mem_free(b.segs);
	if (rc)
		plan_free(out);
	return rc;
}
