/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places in the log's ring: where a batch goes, where each live one is, what is free. A batch is
 * never split: one that does not fit before the end goes to the beginning. No I/O here.
 */
#include "base/mem.h"
#include "replica/replica_impl.h"

static bool ring_empty(const struct ring *r)
{
	return r->tail_lsn == r->next_lsn;
}

uint32_t ring_used(const struct ring *r)
{
	if (ring_empty(r))
		return 0;
	return r->head > r->tail ? r->head - r->tail : r->blocks - r->tail + r->head;
}

/* Where `blocks` in a row are free, such that `keep` more stay free after. */
bool ring_place(const struct ring *r, uint32_t blocks, uint32_t keep, uint32_t *pos)
{
	bool wrap = r->blocks - r->head < blocks;

	*pos = wrap ? 0 : r->head;
	if (ring_empty(r))
		return blocks + keep < r->blocks;
	if (r->head > r->tail) {
		/* Head and tail must not meet: that would look like an empty ring. */
		if (wrap)
			return blocks + keep < r->tail;
		return (uint64_t)blocks + keep < (uint64_t)(r->blocks - r->head) + r->tail;
	}
	return !wrap && blocks + keep < r->tail - r->head;
}

int ring_reserve(struct ring *r)
{
	uint32_t cap = MAX(r->pos_cap * 2, 256u);
	uint32_t *pos;

	if (r->next_lsn - r->tail_lsn < r->pos_cap)
		return 0;
	pos = mem_alloc(cap * sizeof(*pos));
	if (!pos)
		return HCI_E_NOMEM;
	for (uint64_t l = r->tail_lsn; l < r->next_lsn; l++)
		pos[l & (cap - 1)] = r->pos[l & (r->pos_cap - 1)];
	mem_free(r->pos);
	r->pos = pos;
	r->pos_cap = cap;
	return 0;
}

void ring_take(struct ring *r, uint32_t pos, uint32_t blocks)
{
	if (ring_empty(r))
		r->tail = pos;
	r->pos[r->next_lsn & (r->pos_cap - 1)] = pos;
	r->next_lsn++;
	r->head = pos + blocks == r->blocks ? 0 : pos + blocks;
}

uint32_t ring_pos_of(const struct ring *r, uint64_t lsn)
{
	return lsn == r->next_lsn ? r->head : r->pos[lsn & (r->pos_cap - 1)];
}

void ring_release(struct ring *r, uint64_t tail_lsn)
{
	r->tail = ring_pos_of(r, tail_lsn);
	r->tail_lsn = tail_lsn;
}

uint64_t ring_after(const struct ring *r, uint64_t from, uint32_t blocks)
{
	uint64_t lo = from, hi = r->applied + 1;
	uint32_t start = ring_dist(r, ring_pos_of(r, from));

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (ring_dist(r, ring_pos_of(r, mid)) - start >= blocks)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}
