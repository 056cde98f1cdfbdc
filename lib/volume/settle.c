/* SPDX-License-Identifier: Apache-2.0 */
/* What was in flight when the last writer died is made equal on all replicas, before anything else runs. */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

/* Everything after `stable` that some replica of the set holds: make all of them hold the same. */
static int settle_segment(struct vol *v, uint32_t segment, struct repl_region *all, size_t n, void *buf)
{
	struct seg *s = &v->segs[segment];
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		uint32_t src = seg_best_source(v, segment, -1);

		if (src == UINT32_MAX)
			return HCI_E_UNAVAILABLE;
		for (unsigned k = 0; !rc && k < s->n; k++)
			if (k != src && s->pos[k] == POS_IN && seg_leg(v, s, k)->state == LEG_UP &&
			    !(k == s->n - 1u && vol_mutated(v->x, VOL_MUTATE_SETTLE_SKIPS))) {
				rc = copy_regions(v, src, seg_leg(v, s, k), segment,
						  (uint64_t)all[i].region * REPL_REGION, region_len(v, all[i].region),
						  buf, all[i].seq & REPL_SEQ_MASK);
				v->st.resync_copied += region_len(v, all[i].region);
			}
	}
	return rc;
}

int resync_settle(struct vol *v, uint64_t stable, struct hci_error *err)
{
	struct repl_region *all = NULL, *more;
	size_t n = 0, nmore;
	void *buf = mem_alloc_aligned(REPL_REGION);
	int rc = buf ? 0 : HCI_E_NOMEM;

	for (uint32_t i = 0; !rc && i < v->nlegs && !(vol_mutated(v->x, VOL_MUTATE_NO_SETTLE)); i++) {
		struct leg *l = v->legs[i];

		if (l->out || l->state != LEG_UP || l->at_open.last_seq <= stable)
			continue;
		rc = leg_regions(l, stable, UINT32_MAX, &more, &nmore);
		if (!rc)
			rc = region_union(all, n, more, nmore, &all, &n);
		else
			mem_free(all), all = NULL;
	}
	for (size_t i = 0; !rc && i < n;) {
		size_t k = i;

		while (k < n && all[k].segment == all[i].segment)
			k++;
		rc = settle_segment(v, all[i].segment, all + i, k - i, buf);
		i = k;
	}
	if (!rc && n)
		log_info(env_log(v->e), "volume %s: %zu regions that were in flight are settled", v->rec.name, n);
	mem_free(all);
	mem_free_aligned(buf);
	if (rc)
		err_set(err, rc, "volume %s: what the last writer left in flight could not be settled: %s", v->rec.name,
			hci_strerror(rc));
	return rc;
}
