/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks are in the log: a node a region, found through the segment's tables without a
 * search. Also the frames that keep such blocks in memory, and the counts that space.c decides
 * from. Nodes are promised before a write is put in a batch, so that applying it cannot fail.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

#define NODES_SLAB 256u
#define FRAMES_SLAB 64u

/* ---- memory ---- */

static bool more_nodes(struct repl_disk *d)
{
	void **slabs = mem_realloc(d->node_slabs, (d->nslabs + 1) * sizeof(*slabs));
	struct node *n;

	if (!slabs)
		return false;
	d->node_slabs = slabs;
	n = mem_alloc(NODES_SLAB * sizeof(*n));
	if (!n)
		return false;
	slabs[d->nslabs++] = n;
	for (unsigned i = 0; i < NODES_SLAB; i++)
		list_push(&d->free_nodes, &n[i].dirty);
	d->nfree_nodes += NODES_SLAB;
	return true;
}

bool index_promise(struct repl_disk *d, uint32_t n)
{
	while (d->nfree_nodes < d->promised + n) {
		if (!more_nodes(d))
			return false;
	}
	d->promised += n;
	return true;
}

void index_unpromise(struct repl_disk *d, uint32_t n)
{
	d->promised -= n;
}

static uint8_t *frame_get(struct repl_disk *d)
{
	void **slabs;
	uint8_t *f = d->free_frames;

	if (!f) {
		if (d->nframe_slabs == d->frame_slabs_max)
			return NULL;
		slabs = mem_realloc(d->frame_slabs, (d->nframe_slabs + 1) * sizeof(*slabs));
		if (!slabs)
			return NULL;
		d->frame_slabs = slabs;
		f = mem_alloc_aligned(FRAMES_SLAB * HCI_BLOCK);
		if (!f)
			return NULL;
		slabs[d->nframe_slabs++] = f;
		for (unsigned i = FRAMES_SLAB; i-- > 0;) {
			*(void **)(f + (size_t)i * HCI_BLOCK) = d->free_frames;
			d->free_frames = f + (size_t)i * HCI_BLOCK;
		}
	}
	d->free_frames = *(void **)f;
	d->frames_used++;
	return f;
}

void frame_put(struct repl_disk *d, uint8_t *f)
{
	*(void **)f = d->free_frames;
	d->free_frames = f;
	d->frames_used--;
}

static void free_slabs(struct repl_disk *d)
{
	for (uint32_t i = 0; i < d->nframe_slabs; i++)
		mem_free_aligned(d->frame_slabs[i]);
	d->nframe_slabs = 0;
	d->free_frames = NULL;
	for (uint32_t i = 0; i < d->nslabs; i++)
		mem_free(d->node_slabs[i]);
	d->nslabs = 0;
	d->nfree_nodes = 0;
	list_init(&d->free_nodes);
}

void index_trim(struct repl_disk *d)
{
	if (d->nnodes == 0 && d->promised == 0 && d->frames_used == 0)
		free_slabs(d);
}

void index_fini(struct repl_disk *d)
{
	free_slabs(d);
	mem_free(d->frame_slabs);
	mem_free(d->node_slabs);
}

int seg_prepare(struct seg *s, uint32_t block, uint32_t n)
{
	uint32_t first = block / REGION_BLOCKS / MAP_REGIONS;
	uint32_t last = (block + n - 1) / REGION_BLOCKS / MAP_REGIONS;

	for (uint32_t i = first; i <= last; i++) {
		struct mpage *p = s->pages[i];

		if (!p) {
			p = s->pages[i] = MEM_NEW(struct mpage);
			if (!p)
				return HCI_E_NOMEM;
		}
		if (!p->nodes) {
			p->nodes = mem_calloc(MAP_REGIONS, sizeof(*p->nodes));
			if (!p->nodes)
				return HCI_E_NOMEM;
		}
	}
	return 0;
}

/* ---- nodes ---- */

struct node *index_node(const struct seg *s, uint32_t region)
{
	const struct mpage *p = s->pages[region / MAP_REGIONS];

	return p && p->nodes ? p->nodes[region % MAP_REGIONS] : NULL;
}

static struct node *node_get(struct seg *s, uint32_t region)
{
	struct repl_disk *d = s->d;
	struct mpage *p = s->pages[region / MAP_REGIONS];
	struct node *n = p->nodes[region % MAP_REGIONS];
	struct list *l;

	if (n)
		return n;
	if (list_empty(&d->free_nodes))
		more_nodes(d);
	l = list_pop(&d->free_nodes);
	if (!l)
		return NULL;
	d->nfree_nodes--;
	d->nnodes++;
	n = list_entry(l, struct node, dirty);
	memset(n, 0, sizeof(*n));
	list_init(&n->dirty);
	n->part = THROTTLE_NO_PART;
	n->seg = s;
	n->region = region;
	n->recovered = d->log.first_lsn == 0;
	p->nodes[region % MAP_REGIONS] = n;
	p->nnodes++;
	return n;
}

static void node_free(struct node *n)
{
	struct seg *s = n->seg;
	struct repl_disk *d = s->d;
	struct mpage *p = s->pages[n->region / MAP_REGIONS];

	p->nodes[n->region % MAP_REGIONS] = NULL;
	p->nnodes--;
	throttle_unlist(d, n);
	list_del(&n->dirty);
	list_push_front(&d->free_nodes, &n->dirty);
	d->nfree_nodes++;
	d->nnodes--;
}

static uint16_t *valid_of(const struct seg *s, uint32_t region)
{
	return &s->pages[region / MAP_REGIONS]->valid[region % MAP_REGIONS];
}

static bool node_valid(const struct node *n, unsigned i)
{
	return *valid_of(n->seg, n->region) >> i & 1;
}

/* What a region will take in the file system when it is written back: it is allocated as a whole.
 */
static uint64_t node_resv(const struct node *n)
{
	return n->data && !*valid_of(n->seg, n->region) ? REGION_BLOCKS : 0;
}

/* The only place where a block's place changes, so that the counts are right. */
static void node_set(struct node *n, unsigned i, uint32_t loc, uint32_t sum, uint8_t *mem)
{
	struct repl_disk *d = n->seg->d;
	uint32_t old = n->loc[i];

	if (n->mem[i] && !(n->snap && n->snap->mem[i] == n->mem[i]))
		frame_put(d, n->mem[i]);
	d->resv -= node_resv(n);
	throttle_block(n, i, loc);
	n->live += (uint32_t)(loc != 0) - (uint32_t)(old != 0);
	n->data += (uint32_t)loc_is_data(loc) - (uint32_t)loc_is_data(old);
	n->loc[i] = loc;
	n->sum[i] = sum;
	n->mem[i] = mem;
	d->resv += node_resv(n);
}

static void node_touched(struct node *n, uint64_t lsn)
{
	struct repl_disk *d = n->seg->d;

	if (n->live == 0 && !n->snap) {
		node_free(n);
	} else if (!n->snap && list_empty(&n->dirty)) {
		n->lsn = lsn;
		list_push(&d->dirty, &n->dirty);
		throttle_list(d, n);
	}
}

void index_page_dirty(struct seg *s, struct mpage *p, uint64_t lsn)
{
	p->dirty_lsn = p->dirty ? MIN(p->dirty_lsn, lsn) : lsn;
	p->dirty = true;
	seg_dirty(s);
}

void index_valid(struct seg *s, uint32_t region, uint16_t mask)
{
	struct node *n = index_node(s, region);
	uint16_t *v = valid_of(s, region);

	if (*v == mask)
		return;
	if (n)
		s->d->resv -= node_resv(n);
	*v = mask;
	if (n)
		s->d->resv += node_resv(n);
	index_page_dirty(s, s->pages[region / MAP_REGIONS], 0); /* with this pass, not later */
}

uint32_t index_new_blocks(const struct seg *s, uint32_t block, uint32_t n)
{
	uint32_t first = block / REGION_BLOCKS, last = (block + n - 1) / REGION_BLOCKS, need = 0;

	for (uint32_t r = first; r <= last; r++) {
		const struct mpage *p = s ? s->pages[r / MAP_REGIONS] : NULL;
		const struct node *x = p ? index_node(s, r) : NULL;

		if (!p || (!p->valid[r % MAP_REGIONS] && !(x && x->data)))
			need += REGION_BLOCKS;
	}
	return need;
}

int index_write(struct seg *s, uint32_t block, uint32_t n, uint32_t pos, const uint8_t *data,
		const uint32_t *sums, uint64_t lsn)
{
	struct repl_disk *d = s->d;
	uint32_t b = block, end = block + n;

	while (b < end) {
		uint32_t stop = MIN(end, ROUND_UP(b + 1, REGION_BLOCKS));
		struct node *x = node_get(s, b / REGION_BLOCKS);

		if (!x)
			return HCI_E_NOMEM;
		for (; b < stop; b++) {
			uint32_t k = b - block;
			uint8_t *f = data ? frame_get(d) : NULL;

			if (f)
				memcpy(f, data + (size_t)k * HCI_BLOCK, HCI_BLOCK);
			node_set(x, b % REGION_BLOCKS, pos + k + 1, sums[k], f);
		}
		node_touched(x, lsn);
	}
	return 0;
}

bool index_all_direct(const struct node *n)
{
	if (!n->direct || n->snap)
		return false;
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if (n->loc[i] != LOC_FILE)
			return false;
	}
	return true;
}

/* Nothing of what it had before is needed any more. */
static void node_renewed(struct node *n)
{
	if (n->snap || list_empty(&n->dirty))
		return;
	throttle_unlist(n->seg->d, n);
	list_del(&n->dirty);
}

int index_direct(struct seg *s, uint32_t block, uint32_t n, unsigned side, const uint32_t *sums, uint64_t lsn, bool known)
{
	for (uint32_t r = block / REGION_BLOCKS; r < (block + n) / REGION_BLOCKS; r++) {
		struct mpage *p = s->pages[r / MAP_REGIONS];
		struct node *x = node_get(s, r);
		unsigned i = r % MAP_REGIONS;

		if (!x)
			return HCI_E_NOMEM;
		x->both = known && (x->direct || seg_valid(s, r));
		for (unsigned k = 0; k < REGION_BLOCKS; k++)
			node_set(x, k, LOC_FILE, *sums++, NULL);
		x->direct = true;
		x->renewed = x->snap;
		x->reads = s->d->reads_begun;
		node_renewed(x);
		p->side[i / 8] = (uint8_t)((p->side[i / 8] & ~(1u << (i % 8))) | side << (i % 8));
		node_touched(x, lsn);
	}
	return 0;
}

/*
 * A block that is neither in the file nor on its way there reads as zeroes already: no node needed, unless its sum may be there.
 * One that a pass is writing at this moment must be zeroed after it.
 */
int index_zero(struct seg *s, uint32_t block, uint32_t n, uint64_t lsn)
{
	uint32_t b = block, end = block + n;

	while (b < end) {
		uint32_t region = b / REGION_BLOCKS;
		uint32_t stop = MIN(end, ROUND_UP(b + 1, REGION_BLOCKS));
		const struct mpage *p = s->pages[region / MAP_REGIONS];
		struct node *x = index_node(s, region);

		if (!x && !p->valid[region % MAP_REGIONS]) {
			b = stop;
			continue;
		}
		if (!x)
			x = node_get(s, region);
		if (!x)
			return HCI_E_NOMEM;
		for (; b < stop; b++) {
			unsigned i = b % REGION_BLOCKS;
			bool needed = x->snap || x->direct || x->recovered || node_valid(x, i);

			node_set(x, i, needed ? LOC_ZERO : 0, SUM_NONE, NULL);
		}
		node_touched(x, lsn);
	}
	return 0;
}

/*
 * Applying a run of entries again, on top of tables that have them already, ends in the same
 * tables: recovery depends on it. The larger seq wins unless it is set; the last entry decides
 * about ZERO.
 */
void index_seq(struct seg *s, uint32_t block, uint32_t n, bool zero, uint64_t seq, bool set)
{
	uint32_t first = block / REGION_BLOCKS, last = (block + n - 1) / REGION_BLOCKS;

	if (s->d->mutate & REPL_MUTATE_SEQ_FORGOTTEN && seq % 8 == 5)
		return;
	for (uint32_t r = first; r <= last; r++) {
		struct mpage *p = s->pages[r / MAP_REGIONS];
		uint64_t *q = &p->seq[r % MAP_REGIONS];
		uint64_t old = *q & REPL_SEQ_MASK;
		bool whole = block <= r * REGION_BLOCKS && block + n >= (r + 1) * REGION_BLOCKS;
		bool flag = zero && (whole || old == 0 || (*q & REPL_SEQ_ZERO));

		*q = (set ? seq : MAX(old, seq)) | (flag ? REPL_SEQ_ZERO : 0) | (set && whole ? REPL_SEQ_COPIED : 0);
		index_page_dirty(s, p, s->d->log.applied);
	}
}

/* ---- what a pass and a drop do to nodes ---- */

static void snap_frames(struct node *n, struct snap *sn)
{
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if (sn->mem[i] && sn->mem[i] != n->mem[i])
			frame_put(n->seg->d, sn->mem[i]);
	}
}

static void insert_before(struct node *n, struct list *before)
{
	list_insert_(&n->dirty, before->prev, before);
	throttle_list(n->seg->d, n);
}

void index_node_done(struct node *n, uint64_t lsn, struct list *before)
{
	struct snap *sn = n->snap;

	snap_frames(n, sn);
	throttle_untake(n->seg->d, sn);
	n->snap = NULL;
	n->direct &= n->renewed;
	n->both &= n->renewed;
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if (!n->renewed && n->loc[i] && n->loc[i] == sn->loc[i])
			node_set(n, i, 0, SUM_NONE, NULL);
	}
	n->renewed = false;
	if (n->live == 0) {
		node_free(n);
		return;
	}
	n->lsn = lsn;
	insert_before(n, before);
}

void index_node_requeue(struct node *n, struct list *before)
{
	snap_frames(n, n->snap);
	throttle_untake(n->seg->d, n->snap);
	n->snap = NULL;
	n->renewed = n->both = false; /* the latter: the other side may be gone */
	if (n->live == 0)
		node_free(n);
	else
		insert_before(n, before);
}

static void node_clear(struct node *n)
{
	for (unsigned i = 0; i < REGION_BLOCKS; i++)
		node_set(n, i, 0, SUM_NONE, NULL);
}

void index_forget_seg(struct seg *s)
{
	for (uint32_t i = 0; i < s->npages; i++) {
		struct mpage *p = s->pages[i];

		for (uint32_t k = 0; p && p->nodes && k < MAP_REGIONS; k++) {
			struct node *n = p->nodes[k];

			if (!n)
				continue;
			node_clear(n);
			if (!n->snap)
				node_free(n);
		}
	}
}
