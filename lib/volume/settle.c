/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was in flight when the last writer died is made equal on all replicas, before anything else runs.
 *
 * A replica surely holds all up to the `stable` that it knows itself: the writer told it after all that was acknowledged, its
 * log has both in this order, and loses at most its end. It is not told while it is out of the set (leg_send). The highest
 * stable that any of them knows says less: it is about what was acknowledged, and bits may flip in the last batches of a log
 * that was not yet written back (replica/recover_gap.c), which then looks like one that was cut off. So in each segment
 * the regions are compared from the lowest stable of its replicas on. These differ by a few writes only, as each write
 * to a segment tells all of its replicas.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

/* What each replica of the set has that is newer than what all of them surely hold. */
struct settle {
	struct vol *v;
	struct {
		struct repl_region *r; /* ascending */
		size_t n;
	} *of; /* by the leg's index */
	uint32_t nlegs;
	struct repl_region *all; /* of all of them */
	size_t n;
	uint64_t *floor; /* by segment: its replicas surely hold all up to here */
	void *buf;
};

static uint64_t number_at(const struct settle *t, const struct leg *l, const struct repl_region *r)
{
	const struct repl_region *x = l->idx < t->nlegs ? region_at(t->of[l->idx].r, t->of[l->idx].n, r) : NULL;

	return x ? x->seq & REPL_SEQ_MASK : 0;
}

/*
 * Any replica of the set would do, as what was acknowledged is on all of them. One with the highest number also has what
 * another lost with the end of its log (replica/recover_gap.c).
 */
static uint32_t source(const struct settle *t, const struct repl_region *r)
{
	struct vol *v = t->v;
	struct seg *s = &v->segs[r->segment];
	uint32_t best = seg_best_source(v, r->segment, -1);
	uint64_t most = best == UINT32_MAX ? 0 : number_at(t, seg_leg(v, s, best), r);

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);

		if (s->pos[k] != POS_IN || l->state != LEG_UP || number_at(t, l, r) <= most)
			continue;
		best = k;
		most = number_at(t, l, r);
	}
	return best;
}

static int settle_region(struct settle *t, const struct repl_region *r)
{
	struct vol *v = t->v;
	struct seg *s = &v->segs[r->segment];
	uint32_t src = source(t, r);
	int rc = src == UINT32_MAX ? HCI_E_UNAVAILABLE : 0;

	for (unsigned k = 0; !rc && k < s->n; k++)
		if (k != src && s->pos[k] == POS_IN && seg_leg(v, s, k)->state == LEG_UP &&
		    !(k == s->n - 1u && vol_mutated(v->x, VOL_MUTATE_SETTLE_SKIPS))) {
			rc = copy_regions(v, src, seg_leg(v, s, k), r->segment, (uint64_t)r->region * REPL_REGION,
					  region_len(v, r->region), t->buf, r->seq & REPL_SEQ_MASK);
			v->st.resync_copied += region_len(v, r->region);
		}
	return rc;
}

static void find_floors(struct settle *t)
{
	struct vol *v = t->v;

	for (uint32_t i = 0; i < v->nsegs; i++) {
		struct seg *s = &v->segs[i];

		t->floor[i] = vol_mutated(v->x, VOL_MUTATE_SETTLE_HIGH) ? 0 : UINT64_MAX;
		for (unsigned k = 0; k < s->n; k++) {
			const struct leg *l = seg_leg(v, s, k);

			if (s->pos[k] == POS_IN && l->state == LEG_UP)
				t->floor[i] = MIN(t->floor[i], l->at_open.stable_seq);
		}
		for (uint32_t n = 0; vol_mutated(v->x, VOL_MUTATE_SETTLE_HIGH) && n < v->nlegs; n++)
			t->floor[i] = v->legs[n]->out ? t->floor[i] : MAX(t->floor[i], v->legs[n]->at_open.stable_seq);
	}
}

/* The lowest of the segments that the leg has a copy of. */
static uint64_t floor_of(const struct settle *t, const struct leg *l)
{
	struct vol *v = t->v;
	uint64_t low = UINT64_MAX;

	for (uint32_t i = 0; i < v->nsegs; i++) {
		struct seg *s = &v->segs[i];

		for (unsigned k = 0; k < s->n; k++)
			if (s->leg[k] == l->idx && s->pos[k] == POS_IN)
				low = MIN(low, t->floor[i]);
	}
	return low;
}

/* Sorts out what all replicas of the segment have for sure. */
static size_t above_floor(const struct settle *t, struct repl_region *r, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if ((r[i].seq & REPL_SEQ_MASK) > t->floor[r[i].segment])
			r[k++] = r[i];
	return k;
}

static int add_list(struct settle *t, struct leg *l)
{
	uint64_t low = floor_of(t, l);
	struct repl_region *list, *copy;
	size_t n;
	int rc;

	if (l->at_open.last_seq <= low)
		return 0;
	rc = leg_regions(l, low, UINT32_MAX, &list, &n);
	if (rc)
		return rc;
	n = above_floor(t, list, n);
	copy = mem_calloc(n + 1, sizeof(*copy));
	if (copy) {
		if (n)
			memcpy(copy, list, n * sizeof(*copy));
		t->of[l->idx].r = copy;
		t->of[l->idx].n = n;
		return region_union(t->all, t->n, list, n, &t->all, &t->n);
	}
	mem_free(list);
	return HCI_E_NOMEM;
}

int resync_settle(struct vol *v, struct hci_error *err)
{
	struct settle t = { .v = v, .nlegs = v->nlegs, .buf = mem_alloc_aligned(REPL_REGION) };
	int rc;

	t.of = mem_calloc(t.nlegs + 1, sizeof(*t.of));
	t.floor = mem_calloc(v->nsegs + 1, sizeof(*t.floor));
	rc = t.buf && t.of && t.floor ? 0 : HCI_E_NOMEM;
	if (!rc)
		find_floors(&t);
	for (uint32_t i = 0; !rc && i < t.nlegs && !(vol_mutated(v->x, VOL_MUTATE_NO_SETTLE)); i++) {
		struct leg *l = v->legs[i];

		if (!l->out && l->state == LEG_UP)
			rc = add_list(&t, l);
	}
	for (size_t i = 0; !rc && i < t.n; i++)
		rc = settle_region(&t, &t.all[i]);
	if (!rc && t.n)
		log_info(env_log(v->e), "volume %s: %zu regions that were in flight are settled", v->rec.name, t.n);
	for (uint32_t i = 0; t.of && i < t.nlegs; i++)
		mem_free(t.of[i].r);
	mem_free(t.of);
	mem_free(t.floor);
	mem_free(t.all);
	mem_free_aligned(t.buf);
	if (rc)
		err_set(err, rc, "volume %s: what the last writer left in flight could not be settled: %s", v->rec.name,
			hci_strerror(rc));
	return rc;
}
