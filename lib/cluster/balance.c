/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan that evens out a pool. What is evened out is the part of each data disk's capacity that segments are placed on,
 * written or not: it is known exactly, without asking disks, and what volumes will write in the end follows it.
 *
 * Every move goes from a disk above the common share to one below it, which stays below it but for half a segment, or at
 * least below the one it comes from: so what moves is what disks have too much and not more. The volume's policy says to
 * which of those below.
 */
#include "cluster/plan_impl.h"

#include <stdlib.h>

#define ASKS_A_TURN 200u /* of the policy, before other fibers run */

struct copy {
	uint32_t vol, segment, n;
	uint32_t disk[REC_COPIES_MAX]; /* in the snapshot */
};

struct balance {
	struct core *c;
	struct plan *p;
	struct snap snap;
	uint64_t *placed; /* bytes on each disk */
	bool *even;       /* nothing can leave the disk any more */
	bool *could;      /* the disk can be used at all */
	struct rec_list vols;
	struct copy *segs;
	uint32_t nsegs, cap;
	uint32_t vol; /* being read */
	double share;
	unsigned asks;
};

/* ---- what is there ---- */

static bool segs_grow(struct balance *b)
{
	uint32_t cap = b->cap ? b->cap * 2 : 256;
	struct copy *s;

	if (b->nsegs < b->cap)
		return true;
	s = mem_realloc(b->segs, cap * sizeof(*s));
	if (!s)
		return false;
	b->segs = s;
	b->cap = cap;
	return true;
}

static int read_chunk(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct balance *b = arg;
	const struct rec_volume *v = REC_AT(&b->vols, b->vol, struct rec_volume);

	for (uint32_t i = 0; i < m->n; i++) {
		struct copy *s;
		bool at_rest = m->seg[i].n == v->replicas;

		if (!segs_grow(b))
			return err_set(err, HCI_E_NOMEM, "pool %s: out of memory", v->pool);
		s = &b->segs[b->nsegs];
		*s = (struct copy){ .vol = b->vol, .segment = first + i, .n = m->seg[i].n };
		for (uint32_t k = 0; k < s->n; k++) {
			s->disk[k] = snap_find(&b->snap, &m->seg[i].r[k].disk);
			at_rest &= !m->seg[i].r[k].joining && s->disk[k] != UINT32_MAX;
			if (s->disk[k] != UINT32_MAX)
				b->placed[s->disk[k]] += v->segment_size;
		}
		b->nsegs += at_rest; /* others are being changed already */
	}
	return 0;
}

static int read_pool(struct balance *b, const char *pool, struct hci_error *err)
{
	int rc = rec_volume_list(b->c->o.store, PREFIX_VOLUME, &b->vols, err);

	if (rc)
		return rc;
	b->p->vols = mem_calloc(b->vols.n + 1, sizeof(*b->p->vols));
	if (!b->p->vols)
		return err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	b->p->nvols = (uint32_t)b->vols.n;
	for (b->vol = 0; !rc && b->vol < b->vols.n; b->vol++) {
		const struct rec_volume *v = REC_AT(&b->vols, b->vol, struct rec_volume);

		b->p->vols[b->vol] = v->uuid;
		if (strcmp(v->pool, pool) || v->state != REC_VOLUME_READY)
			continue;
		rc = plan_each_chunk(b->c, v, read_chunk, b, err);
		rc = rc == HCI_E_NOTFOUND ? 0 : rc; /* deleted meanwhile */
	}
	return rc;
}

/* ---- shares ---- */

static bool counts(const struct balance *b, uint32_t i)
{
	return b->could[i] && b->snap.disks[i].capacity;
}

static double share_of(const struct balance *b, uint32_t i)
{
	return (double)b->placed[i] / (double)b->snap.disks[i].capacity;
}

static void spread_of(const struct balance *b, double *most, double *least)
{
	*most = 0;
	*least = 1e9;
	for (uint32_t i = 0; i < b->snap.n; i++) {
		if (!counts(b, i))
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
		if (!counts(b, i))
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

static int position(const struct copy *s, uint32_t disk)
{
	for (uint32_t k = 0; k < s->n; k++)
		if (s->disk[k] == disk)
			return (int)k;
	return -1;
}

/* Asks the policy for one of the disks that have too little; the snapshot says what the plan has placed so far. */
static int ask(struct balance *b, const struct copy *s, uint32_t from, bool last, uint32_t *to)
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

		d->usable = b->could[i] && i != from && has_room(b, i, from, v->segment_size, last);
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

/* One copy off this disk; false: there is none that can go. last: also to where half a segment is too much. */
static bool move_one(struct balance *b, uint32_t from, bool last, bool *nomem)
{
	for (uint32_t i = 0; i < b->nsegs; i++) {
		struct copy *s = &b->segs[i];
		uint64_t bytes = REC_AT(&b->vols, s->vol, struct rec_volume)->segment_size;
		int k = position(s, from);
		uint32_t to;

		if (k < 0 || !too_much(b, from, bytes) || ask(b, s, from, last, &to))
			continue;
		if (!plan_add(b->p, s->vol, s->segment, &b->snap.ids[from], &b->snap.ids[to])) {
			*nomem = true;
			return false;
		}
		b->placed[from] -= bytes;
		b->placed[to] += bytes;
		b->p->bytes += bytes;
		s->disk[k] = to;
		return true;
	}
	return false;
}

static uint32_t fullest(const struct balance *b)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < b->snap.n; i++)
		if (counts(b, i) && !b->even[i] && (best == UINT32_MAX || share_of(b, i) > share_of(b, best)))
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

int plan_balance(struct core *c, const char *pool, struct plan *out, struct hci_error *err)
{
	struct balance b = { .c = c, .p = out };
	bool nomem = false;
	uint32_t from;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = snap_make(c, pool, HCI_PLACE_NEW, &b.snap, err);
	if (!rc) {
		b.placed = mem_calloc(b.snap.n, sizeof(*b.placed));
		b.even = mem_calloc(b.snap.n, sizeof(*b.even));
		b.could = mem_calloc(b.snap.n, sizeof(*b.could));
		if (!b.placed || !b.even || !b.could)
			rc = err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	}
	if (!rc)
		rc = read_pool(&b, pool, err);
	if (!rc) {
		for (uint32_t i = 0; i < b.snap.n; i++)
			b.could[i] = b.snap.disks[i].usable;
		common_share(&b);
		spread_of(&b, &out->most, &out->least);
		while ((from = fullest(&b)) != UINT32_MAX && !nomem)
			b.even[from] = !move_one(&b, from, false, &nomem) && !move_one(&b, from, true, &nomem);
		spread_of(&b, &out->most_after, &out->least_after);
		if (out->n)
			qsort(out->moves, out->n, sizeof(*out->moves), by_volume);
		if (nomem)
			rc = err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	}
	snap_free(&b.snap);
	rec_list_free(&b.vols);
	mem_free(b.placed);
	mem_free(b.even);
	mem_free(b.could);
	mem_free(b.segs);
	if (rc)
		plan_free(out);
	return rc;
}
