/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives the process: a claim for each map whose block is on the SSD. Claims are written whenever it is
 * convenient, in any order, without a sync: each is true for ever ("after all writes up to the stamp this block
 * had this content"), whatever a crash leaves of the others. What it says of the slot is checked by the fingerprint
 * when the slot is read, and that nothing was written since is checked at the next attach (vol.c).
 */
#include "cache/cache_impl.h"

#include "base/mem.h"

#define RUN 64u                     /* pages in one write or read */
#define FLUSH_EVERY NS_PER_S
#define FLUSH_PAGES 1024u           /* in one go */
#define REFRESH_ALL (600 * NS_PER_S) /* in this time all stamps are written anew, while there are writes */

/* ---- reading ---- */

/* Of two claims for one slot the later one holds. TAB_NONE: not this one. */
static uint32_t claim_chunk(struct cache *c, const struct claim *q)
{
	uint32_t k = c->t.slots[q->slot];
	struct chunk *x;

	if (k != TAB_NONE) {
		x = &c->t.chunks[k];
		if (x->wr == q->wr && x->fp == q->fp)
			return k;
		if (x->wr >= q->wr)
			return TAB_NONE;
		cache_drop_chunk(c, k);
	}
	k = tab_chunk_new(&c->t);
	if (k == TAB_NONE)
		return k;
	x = &c->t.chunks[k];
	x->fp = q->fp;
	x->wr = q->wr;
	x->slot = q->slot;
	x->touched = 0;
	c->t.slots[q->slot] = k;
	tab_fp_add(&c->t, k);
	policy_main_in(&c->t, k);
	return k;
}

static void claim_load(struct cache *c, uint32_t m, const struct claim *q)
{
	struct known_vol *v = cache_known(c, &q->volume);
	uint32_t k, old;

	if (!v)
		return;
	old = tab_map_find(&c->t, v->id, q->block);
	if (old != TAB_NONE) {
		if (c->t.maps[old].stamp >= q->stamp)
			return;
		cache_unmap(c, old);
	}
	k = claim_chunk(c, q);
	if (k == TAB_NONE)
		return;
	tab_map_put(&c->t, m, v->id, q->block, k);
	c->t.maps[m].flags = MAP_DOUBT;
	c->t.maps[m].stamp = q->stamp;
	v->maps++;
	v->doubtful++;
	c->wr = MAX(c->wr, q->wr);
}

static void page_load(struct cache *c, uint32_t page, const void *p, struct claim *q)
{
	if (!claims_decode(p, &c->id, page, &c->geo, q))
		return;
	for (uint32_t i = 0; i < CACHE_PAGE_CLAIMS; i++)
		if (!uuid_is_null(&q[i].volume))
			claim_load(c, page * CACHE_PAGE_CLAIMS + i, &q[i]);
}

int cache_load(struct cache *c)
{
	uint8_t *buf = mem_alloc_aligned(RUN * HCI_BLOCK);
	struct claim *q = mem_calloc(CACHE_PAGE_CLAIMS, sizeof(*q));
	int rc = buf && q ? 0 : HCI_E_NOMEM;

	for (uint32_t page = 0; !rc && page < c->geo.pages && !c->ssd_off; page += RUN) {
		uint32_t n = MIN(RUN, c->geo.pages - page);
		int64_t got = fiber_read(c->e, c->file, buf, n * HCI_BLOCK, CACHE_CLAIMS_OFF + (uint64_t)page * HCI_BLOCK);

		if (got < 0)
			ssd_error(c, "reading its index", got);
		for (uint32_t i = 0; got > 0 && i < got / HCI_BLOCK; i++)
			page_load(c, page + i, buf + i * HCI_BLOCK, q);
	}
	tab_maps_free(&c->t);
	tab_slots_free(&c->t);
	mem_free(q);
	mem_free_aligned(buf);
	return rc;
}

/* ---- writing ---- */

static void page_fill(struct cache *c, uint32_t page, void *p, struct claim *q)
{
	memset(q, 0, CACHE_PAGE_CLAIMS * sizeof(*q));
	for (uint32_t i = 0; i < CACHE_PAGE_CLAIMS; i++) {
		const struct map *x = &c->t.maps[page * CACHE_PAGE_CLAIMS + i];
		const struct chunk *k = x->chunk == TAB_NONE ? NULL : &c->t.chunks[x->chunk];
		const struct known_vol *v = c->vols ? c->vols[x->vol] : NULL;

		if (!k || k->slot == TAB_NONE || k->flags & CH_WRITING || !v)
			continue;
		q[i] = (struct claim){ .volume = v->volume, .block = x->block, .fp = k->fp, .wr = k->wr, .slot = k->slot,
				       .stamp = x->flags & MAP_DOUBT ? x->stamp : cache_stamp(v->owner) };
	}
	claims_encode(&c->id, page, q, p);
	c->dirty[page / 64] &= ~(UINT64_C(1) << page % 64);
}

static bool is_dirty(const struct cache *c, uint32_t page)
{
	return c->dirty[page / 64] >> page % 64 & 1;
}

/* Writes dirty pages from flush_at on, once around at most. Parks. */
static void flush(struct cache *c, uint8_t *buf, struct claim *q, uint32_t max)
{
	uint32_t seen = 0;

	while (seen < c->geo.pages && max && !c->ssd_off) {
		uint32_t first, n = 0;
		int64_t rc;

		if (c->flush_at >= c->geo.pages)
			c->flush_at = 0;
		first = c->flush_at;
		while (n < RUN && first + n < c->geo.pages && is_dirty(c, first + n) && max) {
			page_fill(c, first + n, buf + n * HCI_BLOCK, q);
			n++;
			max--;
		}
		c->flush_at = first + MAX(n, 1u);
		seen += MAX(n, 1u);
		if (!n)
			continue;
		rc = fiber_write(c->e, c->file, buf, n * HCI_BLOCK, CACHE_CLAIMS_OFF + (uint64_t)first * HCI_BLOCK, 0);
		if (rc >= 0)
			continue;
		ssd_error(c, "writing its index", rc);
		for (uint32_t i = 0; i < n; i++)
			c->dirty[(first + i) / 64] |= UINT64_C(1) << (first + i) % 64;
		return;
	}
}

/* Stamps grow old: a write makes the claims of its whole region doubtful that were written down before. */
static void refresh(struct cache *c)
{
	uint32_t n = (uint32_t)(c->geo.pages * FLUSH_EVERY / REFRESH_ALL) + 1;

	if (!c->refresh)
		return;
	for (uint32_t i = 0; i < n; i++) {
		if (c->refresh_at >= c->geo.pages) {
			c->refresh_at = 0;
			c->refresh = false;
			return;
		}
		c->dirty[c->refresh_at / 64] |= UINT64_C(1) << c->refresh_at % 64;
		c->refresh_at++;
	}
}

static void flush_fiber(void *arg)
{
	struct cache *c = arg;
	uint8_t *buf = mem_alloc_aligned(RUN * HCI_BLOCK);
	struct claim *q = mem_calloc(CACHE_PAGE_CLAIMS, sizeof(*q));

	while (!c->closing) {
		uint64_t wake = env_now(c->e) + FLUSH_EVERY;

		while (!c->closing && env_now(c->e) < wake)
			fiber_cond_wait_until(c->e, &c->changed, wake);
		if (!c->closing && buf && q && cache_ssd_ok(c)) {
			refresh(c);
			flush(c, buf, q, FLUSH_PAGES);
		}
	}
	/* What is on its way to the SSD has an address to be written down. */
	while (c->nwrites || c->nreads)
		fiber_cond_wait(c->e, &c->changed);
	if (buf && q && cache_ssd_ok(c)) {
		flush(c, buf, q, UINT32_MAX);
		(void)fiber_fsync(c->e, c->file);
	}
	mem_free(q);
	mem_free_aligned(buf);
	c->flusher = false;
	fiber_cond_signal(c->e, &c->changed);
}

int cache_flush_start(struct cache *c)
{
	c->flusher = true;
	if (fiber_spawn(c->e, flush_fiber, c, "cache-flush")) {
		c->flusher = false;
		return HCI_E_NOMEM;
	}
	return 0;
}

void cache_flush_end(struct cache *c)
{
	c->closing = true;
	fiber_cond_signal(c->e, &c->changed);
	while (c->flusher)
		fiber_cond_wait(c->e, &c->changed);
}
