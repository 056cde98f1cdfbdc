/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the index with their consequences: buffers, dirty pages, counts, and making room. */
#include "cache/cache_impl.h"

#include "base/mem.h"

void cache_dirty(struct cache *c, uint32_t m)
{
	uint32_t page = m / CACHE_PAGE_CLAIMS;

	if (c->dirty)
		c->dirty[page / 64] |= UINT64_C(1) << page % 64;
}

void cache_chunk_check(struct cache *c, uint32_t k)
{
	struct chunk *x = &c->t.chunks[k];

	if (x->maps != TAB_NONE || x->pins || x->flags & CH_WRITING)
		return;
	if (x->buf)
		cache_buf_put(c, x->buf);
	x->buf = NULL;
	tab_chunk_del(&c->t, k);
}

void cache_unmap(struct cache *c, uint32_t m)
{
	struct map *x = &c->t.maps[m];
	uint32_t k = x->chunk;

	c->vols[x->vol]->maps--;
	if (x->flags & MAP_DOUBT)
		c->vols[x->vol]->doubtful--;
	if (c->t.chunks[k].slot != TAB_NONE)
		cache_dirty(c, m);
	tab_map_del(&c->t, m);
	cache_chunk_check(c, k);
}

void cache_drop_chunk(struct cache *c, uint32_t k)
{
	struct chunk *x = &c->t.chunks[k];

	x->pins++;
	while (x->maps != TAB_NONE)
		cache_unmap(c, x->maps);
	x->pins--;
	cache_chunk_check(c, k);
}

/* Shared places can use up the maps before the slots: one goes then, whichever the hand comes to. */
static bool map_room(struct cache *c)
{
	struct tab *t = &c->t;

	for (uint32_t i = 0; i < MIN(t->nmaps, 256u); i++) {
		uint32_t m = t->map_hand++ % t->nmaps;
		struct map *x = &t->maps[m];

		if (x->chunk == TAB_NONE || t->chunks[x->chunk].pins || t->chunks[x->chunk].flags & CH_WRITING)
			continue;
		cache_unmap(c, m);
		c->st.evicted++;
		metric_add(c->m_evict, 1);
		return true;
	}
	return false;
}

bool cache_map(struct cache *c, struct cache_vol *cv, uint64_t block, uint32_t k)
{
	if (block >> CACHE_BLOCK_BITS)
		return false;
	if (c->t.free_map == TAB_NONE && !map_room(c))
		return false;
	if (tab_map_add(&c->t, cv->v->id, block, k) == TAB_NONE)
		return false;
	cv->v->maps++;
	return true;
}

/* ---- buffers ---- */

/* Takes a buffer from the queue of memory; who was never worth a slot is forgotten, but for the ghost. */
static bool ram_room(struct cache *c)
{
	uint32_t k = policy_ram_victim(&c->t);
	struct chunk *x;

	if (k == TAB_NONE)
		return false;
	x = &c->t.chunks[k];
	if (x->slot != TAB_NONE) {
		policy_ram_out(&c->t, k);
		cache_buf_put(c, x->buf);
		x->buf = NULL;
		return true;
	}
	for (uint32_t m = x->maps; m != TAB_NONE; m = c->t.maps[m].snext)
		policy_ghost_add(&c->t, c->t.maps[m].vol, c->t.maps[m].block);
	cache_drop_chunk(c, k);
	c->st.evicted++;
	metric_add(c->m_evict, 1);
	return true;
}

void *cache_buf_get(struct cache *c)
{
	struct list *n = list_pop(&c->free_bufs);
	void *buf;

	if (!n && c->bufs < c->bufs_max) {
		buf = mem_alloc_aligned(c->o.block);
		c->bufs += buf != NULL;
		return buf;
	}
	if (!n && ram_room(c))
		n = list_pop(&c->free_bufs);
	c->nfree_bufs -= n != NULL;
	return n;
}

void cache_buf_put(struct cache *c, void *buf)
{
	list_push_front(&c->free_bufs, buf);
	c->nfree_bufs++;
}
