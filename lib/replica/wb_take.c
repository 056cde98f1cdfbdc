/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pass takes: the oldest regions, as only their leaving gives the log's space back, each with the
 * neighbours that are in the log as well: what lies side by side is written with one stroke. But not those that are much
 * newer: moving them frees nothing until all that is older has gone, and then everything at once.
 */
#include <errno.h>

#include "base/mem.h"
#include "replica/replica_impl.h"

#define SNAPS_MAX 8192u
#define PASS_MAX (64 * MiB)
#define OLDER 4u        /* the part of the log that neighbours are taken from */
#define RUN_REGIONS 16u /* to either side: with more a stroke is not cheaper by much */

struct take {
	struct wb *w;
	uint64_t bytes, limit;
	uint64_t lsn; /* neighbours are not newer */
};

static void take(struct take *t, struct node *n)
{
	struct snap *sn = &t->w->snaps[t->w->n++];

	throttle_unlist(n->seg->d, n);
	list_del(&n->dirty);
	sn->node = n;
	memcpy(sn->loc, n->loc, sizeof(sn->loc));
	memcpy(sn->sum, n->sum, sizeof(sn->sum));
	memcpy(sn->mem, n->mem, sizeof(sn->mem));
	sn->written = sn->filed = sn->cleared = 0;
	sn->direct = n->direct;
	sn->kept = n->kept == n->seg->d->passes;
	n->snap = sn;
	n->seg->refs++;
	t->bytes += (uint64_t)n->live * HCI_BLOCK;
}

static bool enough(const struct take *t)
{
	return t->w->n == t->w->cap || t->bytes >= t->limit;
}

/* False: the run ends here. */
static bool take_beside(struct take *t, const struct seg *s, uint32_t region)
{
	struct node *n = s->dead ? NULL : index_node(s, region);

	if (!n || n->snap || n->live == 0 || n->lsn > t->lsn || enough(t))
		return false;
	take(t, n);
	return true;
}

static void take_run(struct take *t, struct node *n)
{
	const struct seg *s = n->seg;
	uint32_t regions = seg_blocks(s) / REGION_BLOCKS, r = n->region;

	take(t, n);
	for (uint32_t i = 1; i <= RUN_REGIONS && i <= r && take_beside(t, s, r - i);)
		i++;
	for (uint32_t i = 1; i <= RUN_REGIONS && r + i < regions && take_beside(t, s, r + i);)
		i++;
}

int wb_take(struct repl_disk *d, struct wb *w, const struct list *end)
{
	/* Of a large log a small part: what it frees comes at its end, and the log must not overflow until then. */
	uint64_t tail = d->log.tail_lsn;
	struct take t = { .w = w, .lsn = tail + (d->log.applied - MIN(tail, d->log.applied)) / OLDER,
			  .limit = MIN(PASS_MAX, (uint64_t)d->log.blocks * HCI_BLOCK / 8) };

	if (!w->snaps) {
		w->cap = (uint32_t)MIN(SNAPS_MAX, d->log.blocks);
		w->snaps = mem_alloc(w->cap * sizeof(w->snaps[0]));
		if (!w->snaps)
			return -ENOMEM;
	}
	w->n = 0;
	direct_keep(d);
	while (d->dirty.next != end && !enough(&t))
		take_run(&t, list_first(&d->dirty, struct node, dirty));
	return 0;
}
