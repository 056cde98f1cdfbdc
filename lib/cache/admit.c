/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a block from memory to the SSD. First an equal one is looked for, by fingerprint, and compared byte by byte:
 * then both addresses share its place. Else it gets a slot, and is found there once it is written.
 */
#include "cache/cache_impl.h"

/* All addresses of chunk k belong to `to` from now on. k is gone after. */
static void merge(struct cache *c, uint32_t k, uint32_t to)
{
	struct chunk *x = &c->t.chunks[k], *y = &c->t.chunks[to];

	x->pins++;
	y->touched |= x->touched;
	while (x->maps != TAB_NONE) {
		uint32_t m = x->maps;

		tab_map_move(&c->t, m, to);
		cache_dirty(c, m);
		c->st.shared++;
		metric_add(c->m_share, 1);
	}
	if (!y->buf && x->flags & CH_IN_RAM) {
		policy_ram_out(&c->t, k);
		y->buf = x->buf;
		x->buf = NULL;
		policy_ram_in(&c->t, to);
	}
	x->pins--;
	cache_chunk_check(c, k);
}

static void written(struct env_io *io)
{
	struct ssd_io *s = container_of(io, struct ssd_io, io);
	struct cache *c = s->c;
	struct chunk *x = &c->t.chunks[s->chunk];

	x->flags &= (uint8_t)~CH_WRITING;
	if (io->result != c->geo.block) {
		ssd_error(c, "a write", io->result);
		tab_fp_del(&c->t, s->chunk);
		tab_slot_put(&c->t, s->chunk);
	} else {
		policy_main_in(&c->t, s->chunk);
		x->freq = 0;
		for (uint32_t m = x->maps; m != TAB_NONE; m = c->t.maps[m].snext)
			cache_dirty(c, m);
		c->st.admitted++;
		metric_add(c->m_admit, 1);
	}
	ssd_io_end(s);
}

static bool slot_room(struct cache *c)
{
	uint32_t k;

	if (c->t.slots_free)
		return true;
	k = policy_main_victim(&c->t);
	if (k == TAB_NONE)
		return false;
	cache_drop_chunk(c, k);
	c->st.evicted++;
	metric_add(c->m_evict, 1);
	return c->t.slots_free != 0;
}

/* Takes s over. The chunk's fingerprint is set. */
static void write_out(struct ssd_io *s)
{
	struct cache *c = s->c;
	struct chunk *x = &c->t.chunks[s->chunk];

	if (x->maps == TAB_NONE || !cache_ssd_ok(c) || !slot_room(c)) {
		x->flags &= (uint8_t)~CH_WRITING;
		ssd_io_end(s);
		return;
	}
	x->wr = ++c->wr;
	x->flags |= CH_WRITING;
	s->buf = x->buf;
	s->begun = env_now(c->e);
	tab_fp_add(&c->t, s->chunk);
	ssd_write(s, tab_slot_new(&c->t, s->chunk), written);
}

/* The candidate came from the SSD. */
static void compared(struct env_io *io)
{
	struct ssd_io *s = container_of(io, struct ssd_io, io), *w;
	struct cache *c = s->c;
	uint32_t k = s->chunk, to = s->other;
	struct chunk *x = &c->t.chunks[k], *y = &c->t.chunks[to];
	bool equal = ssd_good(s) && !memcmp(s->buf, x->buf, c->geo.block);

	x->flags &= (uint8_t)~CH_WRITING;
	c->ncompares--;
	cache_buf_put(c, s->buf);
	w = equal || x->maps == TAB_NONE ? NULL : ssd_io_new(c, k);
	if (equal && x->maps != TAB_NONE && y->maps != TAB_NONE)
		merge(c, k, to);
	ssd_io_end(s);
	y->pins--;
	cache_chunk_check(c, to);
	if (w)
		write_out(w);
}

static void compare(struct ssd_io *s, uint32_t to)
{
	struct cache *c = s->c;

	/* Neither goes while this is under way: k is pinned by s. */
	c->t.chunks[to].pins++;
	c->t.chunks[s->chunk].flags |= CH_WRITING;
	s->buf = cache_buf_get(c);
	if (s->buf) {
		s->other = to;
		c->ncompares++;
		ssd_read(s, c->t.chunks[to].slot, compared);
		return;
	}
	c->t.chunks[s->chunk].flags &= (uint8_t)~CH_WRITING;
	c->t.chunks[to].pins--;
	cache_chunk_check(c, to);
	ssd_io_end(s);
}

void cache_admit(struct cache *c, uint32_t k)
{
	struct chunk *x = &c->t.chunks[k];
	struct ssd_io *s;
	uint32_t to;

	if (!cache_ssd_ok(c) || !x->buf || x->slot != TAB_NONE || x->flags & CH_WRITING || c->closing ||
	    c->nwrites + c->ncompares >= MIN(CACHE_WRITES, c->bufs_max / 2))
		return;
	x->fp = fp_of(c->key, x->buf);
	to = tab_fp_find(&c->t, x->fp);
	if (to != TAB_NONE && c->t.chunks[to].buf && !memcmp(c->t.chunks[to].buf, x->buf, c->geo.block)) {
		merge(c, k, to);
		return;
	}
	s = ssd_io_new(c, k);
	if (!s)
		return;
	if (to != TAB_NONE && !c->t.chunks[to].buf)
		compare(s, to);
	else
		write_out(s);
}
