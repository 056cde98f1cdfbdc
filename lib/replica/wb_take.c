/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pass takes. Only the leaving of the oldest gives the log's space back.
 *
 * From a log on the disk itself: the blocks in the oldest part of the log, wherever they belong, as they are read back with
 * a few long strokes; and of what lies beside such a block in its region what is still in memory, as it costs nothing. A read of 4 KiB for
 * each block, which it takes to have the newer blocks of the same regions along, costs as much as it saves.
 *
 * From a log on another medium: the oldest regions, each with the neighbours that are in the log as well: what lies
 * side by side is written with one stroke. But not those that are much newer: moving them frees nothing until all that
 * is older has gone, and then everything at once.
 */
#include <errno.h>

#include "base/mem.h"
#include "replica/replica_impl.h"

#define SNAPS_MAX 16384u
#define PASS_MAX (64 * MiB)
#define OLDER 4u        /* the part of the log that neighbours are taken from */
#define RUN_REGIONS 16u /* to either side: with more a stroke is not cheaper by much */

struct take {
	struct wb *w;
	uint64_t bytes, limit;
	uint64_t lsn; /* neighbours are not newer */
	uint32_t end; /* single blocks: not so far from the tail */
};

/* which: bit per block. */
static void take(struct take *t, struct node *n, uint16_t which)
{
	struct repl_disk *d = n->seg->d;
	struct snap *sn = &t->w->snaps[t->w->n++];

	list_del(&n->dirty);
	sn->node = n;
	sn->part = false;
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		bool in = which >> i & 1;

		sn->loc[i] = in ? n->loc[i] : 0;
		sn->mem[i] = in ? n->mem[i] : NULL;
		sn->sum[i] = n->sum[i];
		sn->part |= n->loc[i] && !in;
		t->bytes += n->loc[i] && in ? HCI_BLOCK : 0;
		t->w->blocks += loc_is_data(sn->loc[i]);
	}
	sn->written = sn->filed = sn->cleared = 0;
	sn->direct = n->direct;
	sn->kept = n->kept == d->passes;
	throttle_take(d, sn);
	n->snap = sn;
	n->seg->refs++;
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
	take(t, n, UINT16_MAX);
	return true;
}

static void take_run(struct take *t, struct node *n)
{
	const struct seg *s = n->seg;
	uint32_t regions = seg_blocks(s) / REGION_BLOCKS, r = n->region;

	take(t, n, UINT16_MAX);
	for (uint32_t i = 1; i <= RUN_REGIONS && i <= r && take_beside(t, s, r - i);)
		i++;
	for (uint32_t i = 1; i <= RUN_REGIONS && r + i < regions && take_beside(t, s, r + i);)
		i++;
}

static void take_regions(struct take *t, const struct list *end)
{
	struct repl_disk *d = t->w->d;
	uint64_t tail = d->log.tail_lsn;

	t->lsn = tail + (d->log.applied - MIN(tail, d->log.applied)) / OLDER;
	while (d->dirty.next != end && !enough(t))
		take_run(t, list_first(&d->dirty, struct node, dirty));
}

/* ---- single blocks ---- */

static uint16_t blocks_of(const struct take *t, const struct node *n)
{
	const struct ring *r = &n->seg->d->log;
	uint16_t which = 0;

	if (n->direct)
		return UINT16_MAX;
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if (n->loc[i] && (!loc_is_data(n->loc[i]) || ring_dist(r, n->loc[i] - 1) < t->end))
			which |= (uint16_t)(1u << i);
	}
	for (unsigned i = 1; i < REGION_BLOCKS && which; i++) {
		unsigned k = REGION_BLOCKS - 1 - i;

		if (which >> (i - 1) & 1 && n->mem[i])
			which |= (uint16_t)(1u << i);
		if (which >> (k + 1) & 1 && n->mem[k])
			which |= (uint16_t)(1u << k);
	}
	return which;
}

/*
 * The list is in the order of when a region's oldest block was written, or a bound below that: regions of which blocks are left
 * are put where the part ends, and looked at again by the next pass. So all of the part is in regions before that place.
 */
static void take_blocks(struct take *t, const struct list *end)
{
	struct repl_disk *d = t->w->d;
	struct list rest, *l = d->dirty.next, *next;
	uint64_t from;

	if (l == end)
		return;
	from = MAX(list_entry(l, struct node, dirty)->lsn, d->log.tail_lsn);
	t->w->rest_lsn = MAX(ring_after(&d->log, from, (uint32_t)(t->limit / HCI_BLOCK)), from + 1);
	t->end = t->w->rest_lsn > d->log.applied ? d->log.blocks : ring_dist(&d->log, ring_pos_of(&d->log, t->w->rest_lsn));
	list_init(&rest);
	for (; l != end && list_entry(l, struct node, dirty)->lsn < t->w->rest_lsn; l = next) {
		struct node *n = list_entry(l, struct node, dirty);
		uint16_t which = enough(t) ? 0 : blocks_of(t, n);

		next = l->next;
		if (which) {
			take(t, n, which);
		} else if (!enough(t)) {
			list_del(&n->dirty);
			n->lsn = t->w->rest_lsn;
			list_push(&rest, &n->dirty);
		}
	}
	list_insert_(&t->w->rest, l->prev, l);
	while ((l = list_pop(&rest)))
		list_insert_(l, t->w->rest.prev, &t->w->rest);
}

int wb_take(struct repl_disk *d, struct wb *w, const struct list *end)
{
	/* Of a large log a small part: what it frees comes at its end, and the log must not overflow until then. */
	struct take t = { .w = w, .limit = MIN(PASS_MAX, (uint64_t)d->log.blocks * HCI_BLOCK / 8) };

	w->n = 0;
	w->blocks = 0;
	w->most = (uint32_t)(t.limit / HCI_BLOCK);
	w->rest_lsn = UINT64_MAX;
	if (!w->snaps) {
		w->cap = (uint32_t)MIN(SNAPS_MAX, d->log.blocks);
		w->snaps = mem_alloc(w->cap * sizeof(w->snaps[0]));
		if (!w->snaps)
			return -ENOMEM;
	}
	direct_keep(d);
	if (wb_whole(d))
		take_regions(&t, end);
	else
		take_blocks(&t, end);
	return 0;
}
