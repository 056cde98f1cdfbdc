/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes into memory: blocks that were read elsewhere, and what was written. A write takes its range out before it is
 * sent, and puts it back when it is acknowledged; what failed stays out. Why a read in between, or a fill that
 * began before, cannot bring old data back: neither is under way together with a write that overlaps (cache.h).
 *
 * A block that is written in part is put together from what memory had of it, if no other write of a part of it
 * was under way in the same time: those are not ordered against each other.
 */
#include "cache/cache_impl.h"

#define ENTER_MAX 65536u /* longer writes only update what is there: a copy in of a disk is not a reader's business */

/* A chunk in memory for that block, to be filled in. NULL: no room, which is no harm. */
static struct chunk *chunk_in(struct cache_vol *cv, uint64_t block, uint16_t touched, uint32_t *out)
{
	struct cache *c = cv->c;
	uint8_t *buf = cache_buf_get(c);
	uint32_t k = buf ? tab_chunk_new(&c->t) : TAB_NONE;
	struct chunk *x;

	if (k == TAB_NONE || !cache_map(c, cv, block, k)) {
		if (k != TAB_NONE)
			tab_chunk_del(&c->t, k);
		if (buf)
			cache_buf_put(c, buf);
		return NULL;
	}
	x = &c->t.chunks[k];
	x->buf = buf;
	x->touched = touched;
	policy_ram_in(&c->t, k);
	*out = k;
	return x;
}

void cache_fill(struct cache_vol *cv, uint64_t off, uint64_t len, const void *data, uint64_t used, uint64_t used_len,
		uint64_t ns)
{
	struct cache *c = cv->c;
	uint32_t bs = c->o.block, k;

	if (!cache_live(cv))
		return;
	c->miss_ns = c->miss_ns ? c->miss_ns - c->miss_ns / 16 + ns / 16 : ns;
	for (uint64_t b = (off + bs - 1) / bs; (b + 1) * bs <= off + len; b++) {
		uint32_t m = tab_map_find(&c->t, cv->v->id, b);
		uint64_t from = MAX(used, b * bs), to = MIN(used + used_len, (b + 1) * bs);
		struct chunk *x;

		if (m != TAB_NONE && !(c->t.maps[m].flags & MAP_DOUBT))
			continue;
		if (m != TAB_NONE)
			cache_unmap(c, m);
		x = chunk_in(cv, b, from < to ? cache_parts((uint32_t)(from - b * bs), (uint32_t)(to - b * bs)) : 0, &k);
		if (!x)
			return;
		memcpy(x->buf, (const uint8_t *)data + (b * bs - off), bs);
		c->st.fills++;
		metric_add(c->m_fill, 1);
		if (cache_ssd_ok(c) && (c->t.slots_free || policy_ghost_take(&c->t, cv->v->id, b)))
			cache_admit(c, k);
	}
}

/* ---- writes ---- */

static struct cache_ticket *ticket(const struct cache_vol *cv, uint64_t block)
{
	return &cv->c->tickets[mix64(block << 16 | cv->v->id) % CACHE_TICKETS];
}

/* Is block b, at this end of [off, off+len), written in part? One that both ends lie in belongs to the first. */
static bool is_edge(uint64_t off, uint64_t len, uint32_t bs, int end, uint64_t *b)
{
	uint64_t first = off / bs, last = (off + len - 1) / bs;

	*b = end ? last : first;
	if (end)
		return last != first && (off + len) % bs;
	return off % bs || (first == last && len % bs);
}

static void edge_begin(struct cache_vol *cv, struct cache_write *w, int end, uint64_t block)
{
	struct cache *c = cv->c;
	struct cache_ticket *t = ticket(cv, block);
	uint32_t m = tab_map_find(&c->t, cv->v->id, block);

	if (m != TAB_NONE && !(c->t.maps[m].flags & MAP_DOUBT) && c->t.chunks[c->t.maps[m].chunk].buf && !t->inflight) {
		w->edge[end] = c->t.maps[m].chunk;
		c->t.chunks[w->edge[end]].pins++;
	}
	t->inflight++;
	w->ticket[end] = ++t->begun;
}

void cache_write_begin(struct cache_vol *cv, struct cache_write *w, uint64_t off, uint64_t len, uint64_t seq)
{
	struct cache *c = cv->c;
	uint32_t bs = c->o.block, m;
	uint64_t b;

	*w = (struct cache_write){ .edge = { TAB_NONE, TAB_NONE } };
	cv->seq = seq;
	for (int end = 0; end < 2; end++)
		if (is_edge(off, len, bs, end, &b))
			edge_begin(cv, w, end, b);
	if (!cache_live(cv) || c->o.mutate & CACHE_MUTATE_KEEP_OLD)
		return;
	c->refresh = true;
	for (b = off / bs; b <= (off + len - 1) / bs; b++) {
		m = tab_map_find(&c->t, cv->v->id, b);
		if (m == TAB_NONE)
			continue;
		w->had = true;
		w->hot |= c->t.chunks[c->t.maps[m].chunk].slot != TAB_NONE;
		cache_unmap(c, m);
		c->st.invalidated++;
	}
}

/* What was on the SSD before is worth it again at its next read; other things at their second. */
static struct chunk *written(struct cache_vol *cv, const struct cache_write *w, uint64_t block)
{
	struct cache *c = cv->c;
	uint32_t m = tab_map_find(&c->t, cv->v->id, block), k;

	if (m != TAB_NONE)
		cache_unmap(c, m);
	return chunk_in(cv, block, w->hot ? UINT16_MAX : 0, &k);
}

/* [off, off+len) of the volume is data; the rest of the block is in `old`. */
static void edge_patch(struct cache_vol *cv, const struct cache_write *w, uint64_t block, const struct chunk *old,
		       uint64_t off, uint64_t len, const void *data)
{
	uint32_t bs = cv->c->o.block;
	uint64_t from = MAX(off, block * bs), to = MIN(off + len, (block + 1) * bs);
	struct chunk *x = written(cv, w, block);

	if (!x)
		return;
	memcpy(x->buf, old->buf, bs);
	memcpy(x->buf + (from - block * bs), (const uint8_t *)data + (from - off), to - from);
}

void cache_write_end(struct cache_vol *cv, struct cache_write *w, uint64_t off, uint64_t len, const void *data)
{
	struct cache *c = cv->c;
	uint32_t bs = c->o.block;
	bool keep = data && cache_live(cv) && !(c->o.mutate & CACHE_MUTATE_KEEP_OLD);
	uint64_t b;

	for (int end = 0; end < 2; end++) {
		struct cache_ticket *t;

		if (!is_edge(off, len, bs, end, &b))
			continue;
		t = ticket(cv, b);
		t->inflight--;
		if (w->edge[end] == TAB_NONE)
			continue;
		if (keep && t->begun == w->ticket[end])
			edge_patch(cv, w, b, &c->t.chunks[w->edge[end]], off, len, data);
		c->t.chunks[w->edge[end]].pins--;
		cache_chunk_check(c, w->edge[end]);
	}
	if (!keep || (len > ENTER_MAX && !w->had))
		return;
	for (b = (off + bs - 1) / bs; (b + 1) * bs <= off + len; b++) {
		struct chunk *x = written(cv, w, b);

		if (!x)
			return;
		memcpy(x->buf, (const uint8_t *)data + (b * bs - off), bs);
	}
}
