/* SPDX-License-Identifier: Apache-2.0 */
/* What was in flight when the last writer died is made equal on all replicas, before anything else runs. */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

/* What each replica of the set has that is newer than stable. */
struct settle {
	struct vol *v;
	struct {
		struct repl_region *r; /* ascending */
		size_t n;
	} *of; /* by the leg's index */
	uint32_t nlegs;
	struct repl_region *all; /* of all of them */
	size_t n;
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

static int add_list(struct settle *t, struct leg *l, uint64_t stable)
{
	struct repl_region *list, *copy;
	size_t n;
	int rc = leg_regions(l, stable, UINT32_MAX, &list, &n);

	if (rc)
		return rc;
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

int resync_settle(struct vol *v, uint64_t stable, struct hci_error *err)
{
	struct settle t = { .v = v, .nlegs = v->nlegs, .buf = mem_alloc_aligned(REPL_REGION) };
	int rc;

	t.of = mem_calloc(t.nlegs + 1, sizeof(*t.of));
	rc = t.buf && t.of ? 0 : HCI_E_NOMEM;
	for (uint32_t i = 0; !rc && i < t.nlegs && !(vol_mutated(v->x, VOL_MUTATE_NO_SETTLE)); i++) {
		struct leg *l = v->legs[i];

		if (!l->out && l->state == LEG_UP && l->at_open.last_seq > stable)
			rc = add_list(&t, l, stable);
	}
	for (size_t i = 0; !rc && i < t.n; i++)
		rc = settle_region(&t, &t.all[i]);
	if (!rc && t.n)
		log_info(env_log(v->e), "volume %s: %zu regions that were in flight are settled", v->rec.name, t.n);
	for (uint32_t i = 0; t.of && i < t.nlegs; i++)
		mem_free(t.of[i].r);
	mem_free(t.of);
	mem_free(t.all);
	mem_free_aligned(t.buf);
	if (rc)
		err_set(err, rc, "volume %s: what the last writer left in flight could not be settled: %s", v->rec.name,
			hci_strerror(rc));
	return rc;
}
