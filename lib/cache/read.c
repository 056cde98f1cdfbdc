/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that the cache answers: all blocks are there, or it is a miss. From memory they are copied at once; from
 * the SSD they come into buffers of ours, so that an SSD that answers too late harms nobody, and stay in memory.
 */
#include "cache/cache_impl.h"

enum { TIER_RAM, TIER_SSD };

/* The chunk that can be read now. */
static uint32_t usable(const struct cache_vol *cv, uint64_t block)
{
	const struct cache *c = cv->c;
	uint32_t m = tab_map_find(&c->t, cv->v->id, block), k;

	if (m == TAB_NONE || c->t.maps[m].flags & MAP_DOUBT)
		return TAB_NONE;
	k = c->t.maps[m].chunk;
	if (c->t.chunks[k].buf || (c->t.chunks[k].slot != TAB_NONE && cache_ssd_ok(c)))
		return k;
	return TAB_NONE;
}

bool cache_has(const struct cache_vol *cv, uint64_t off, uint64_t len)
{
	uint32_t bs = cv->c->o.block;

	if (!cache_live(cv))
		return false;
	for (uint64_t b = off / bs; b <= (off + len - 1) / bs; b++)
		if (usable(cv, b) == TAB_NONE)
			return false;
	return true;
}

/* ---- the end of a read ---- */

static void read_over(struct cache_read *r)
{
	struct cache *c = r->c;
	uint64_t ns = env_now(c->e) - r->begun;

	r->ok = !r->failed;
	if (r->quiet) {
		r->done(r);
		return;
	}
	if (!r->ok) {
		c->st.misses++;
		metric_add(c->m_miss, 1);
	} else if (r->tier == TIER_SSD) {
		c->st.hits_ssd++;
		metric_add(c->m_hit_ssd, 1);
	} else {
		c->st.hits_ram++;
		metric_add(c->m_hit_ram, 1);
	}
	if (r->ok && c->miss_ns > ns) {
		c->st.saved_ns += c->miss_ns - ns;
		metric_set(c->m_saved, (int64_t)(c->st.saved_ns / NS_PER_MS));
	}
	r->done(r);
}

void cache_read_part(struct cache_read *r, bool ok)
{
	r->failed |= !ok;
	if (--r->left == 0)
		read_over(r);
}

void cache_done_task(struct env_task *t)
{
	struct cache *c = container_of(t, struct cache, done_task);
	struct list *n, todo;

	list_init(&todo);
	list_splice(&todo, &c->done);
	while ((n = list_pop(&todo)))
		read_over(list_entry(n, struct cache_read, link));
}

/* ---- from the SSD ---- */

static void part_read(struct env_io *io)
{
	struct ssd_io *s = container_of(io, struct ssd_io, io);
	struct cache *c = s->c;
	struct cache_read *r = s->r;
	struct chunk *x = &c->t.chunks[s->chunk];
	bool good = ssd_good(s);

	if (good && r)
		memcpy(s->dst, (uint8_t *)s->buf + s->skip, s->n);
	/* It stays in memory, unless it was thrown out or came twice. */
	if (good && !x->buf && x->maps != TAB_NONE) {
		x->buf = s->buf;
		policy_ram_in(&c->t, s->chunk);
	} else {
		cache_buf_put(c, s->buf);
	}
	ssd_io_end(s);
	if (r)
		cache_read_part(r, good);
}

static bool part_from_ssd(struct cache *c, uint32_t k, struct cache_read *r, uint8_t *dst, uint32_t skip, uint32_t n)
{
	struct ssd_io *s = ssd_io_new(c, k); /* k is pinned before room is made */

	if (!s)
		return false;
	s->buf = cache_buf_get(c);
	if (!s->buf) {
		ssd_io_end(s);
		return false;
	}
	s->r = r;
	s->dst = dst;
	s->skip = skip;
	s->n = n;
	r->left++;
	r->tier = TIER_SSD;
	ssd_read(s, c->t.chunks[k].slot, part_read);
	return true;
}

/* Making room for one part may have thrown out another: it is looked up anew, and then it is a miss after all. */
static bool part(struct cache_vol *cv, struct cache_read *r, uint64_t block, uint8_t *dst, uint32_t skip, uint32_t n)
{
	struct cache *c = cv->c;
	uint32_t k = usable(cv, block);
	struct chunk *x = &c->t.chunks[k == TAB_NONE ? 0 : k];
	bool again;

	if (k == TAB_NONE)
		return false;
	again = policy_hit(&c->t, k, cache_parts(skip, skip + n));
	if (!x->buf)
		return part_from_ssd(c, k, r, dst, skip, n);
	memcpy(dst, x->buf + skip, n);
	if (again && x->slot == TAB_NONE)
		cache_admit(c, k);
	return true;
}

bool cache_read(struct cache_vol *cv, struct cache_read *r, void *buf, uint64_t off, uint64_t len)
{
	struct cache *c = cv->c;
	uint32_t bs = c->o.block;
	uint64_t at = off;

	if (!cache_has(cv, off, len)) {
		c->st.misses++;
		metric_add(c->m_miss, 1);
		return false;
	}
	r->c = c;
	r->left = 1;
	r->failed = r->quiet = false;
	r->tier = TIER_RAM;
	r->begun = env_now(c->e);
	list_init(&r->link);
	while (at < off + len && !r->failed) {
		uint32_t skip = (uint32_t)(at % bs), n = (uint32_t)MIN((uint64_t)(bs - skip), off + len - at);

		r->failed = !part(cv, r, at / bs, (uint8_t *)buf + (at - off), skip, n);
		at += n;
	}
	if (--r->left)
		return true;
	list_push(&c->done, &r->link);
	env_defer(c->e, &c->done_task);
	return true;
}
