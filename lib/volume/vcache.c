/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the volume has to do with the read cache (cache/cache.h): it is asked before a replica is, gets what replicas
 * answered, and is told of each write. The order of overlapping pieces (io.c) is what the cache relies on: while a read
 * piece is active no write overlaps it, and the other way round. A read of a part of a block is widened to the
 * whole block, before it is put in that order, when the cache does not have it.
 */
#include "volume/io_impl.h"

#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"

static uint64_t vol_off(const struct piece *p)
{
	return p->segment * p->v->rec.segment_size + p->off;
}

/* ---- reads ---- */

void vcache_widen(struct piece *p)
{
	struct vol *v = p->v;
	uint64_t ss = v->rec.segment_size, bs, from, to;
	uint8_t *buf;

	if (!v->cache || p->op != VOL_READ)
		return;
	bs = cache_block(v->x->cache);
	from = p->off / bs * bs;
	to = ROUND_UP(p->off + p->len, bs);
	if (p->segment * ss + to > v->rec.size || to > ss)
		to = p->off + p->len; /* the last block of a volume may be cut: it is not cached */
	if ((from == p->off && to == p->off + p->len) || to - from > REPL_IO_MAX || cache_has(v->cache, vol_off(p), p->len))
		return;
	buf = mem_alloc_aligned(to - from);
	if (!buf)
		return;
	p->asked_off = p->off;
	p->asked_len = p->len;
	p->asked_buf = p->buf;
	p->buf = buf;
	p->off = from;
	p->len = to - from;
}

static void cached_read_done(struct cache_read *r)
{
	struct piece *p = container_of(r, struct piece, cached.read);
	bool ok = r->ok;

	p->open_ops--;
	if (piece_over(p))
		return;
	if (ok)
		piece_finish(p, 0);
	else
		read_run(p);
}

bool vcache_read(struct piece *p)
{
	struct vol *v = p->v;
	bool widened = p->asked_buf;

	if (!v->cache || p->cache_asked)
		return false;
	p->cache_asked = true;
	p->cached.read.done = cached_read_done;
	if (!cache_read(v->cache, &p->cached.read, widened ? p->asked_buf : p->buf,
			widened ? vol_off(p) + (p->asked_off - p->off) : vol_off(p), widened ? p->asked_len : p->len))
		return false;
	list_del(&p->stall);
	p->open_ops++;
	return true;
}

void vcache_fill(struct piece *p)
{
	struct vol *v = p->v;
	uint64_t at = vol_off(p), skip = 0, len = p->len;

	if (p->asked_buf) {
		skip = p->asked_off - p->off;
		len = p->asked_len;
		memcpy(p->asked_buf, p->buf + skip, len);
	}
	if (v->cache)
		cache_fill(v->cache, at, p->len, p->buf, at + skip, len, env_now(v->e) - p->io->priv[1]);
}

bool vcache_narrow(struct piece *p)
{
	if (!p->asked_buf)
		return false;
	mem_free_aligned(p->buf);
	p->buf = p->asked_buf;
	p->asked_buf = NULL;
	piece_again(p, p->asked_off, p->asked_len);
	return true;
}

/* ---- writes, and the end of either ---- */

void vcache_write_begin(struct piece *p)
{
	if (p->v->cache)
		cache_write_begin(p->v->cache, &p->cached.write, vol_off(p), p->len, p->seq);
}

void vcache_end(struct piece *p, int status)
{
	bool keep = !status && p->op == VOL_WRITE;

	/*
	 * With a number it was begun. What failed may be on some replicas or on none: nothing is kept of it. Nor of what its
	 * owner changed while it was being sent: the replicas have what the sums are of.
	 */
	if (p->v->cache && p->seq)
		cache_write_end(p->v->cache, &p->cached.write, vol_off(p), p->len,
				keep && !block_sums_wrong(p->buf, (uint32_t)(p->len / HCI_BLOCK), p->sums) ? p->buf : NULL);
	if (p->asked_buf)
		mem_free_aligned(p->buf);
}

/* ---- what was kept from before this attachment ---- */

/* blocks: of this segment, ascending. Any replica of the set knows the last number of each region. */
static int prove_segment(struct vol *v, uint32_t segment, const uint64_t *blocks, size_t n, uint64_t since)
{
	uint32_t src = seg_best_source(v, segment, -1), bs = cache_block(v->x->cache);
	uint64_t base = segment * v->rec.segment_size;
	struct repl_region *r = NULL;
	size_t nr = 0, k = 0;
	int rc;

	if (src == UINT32_MAX)
		return HCI_E_UNAVAILABLE;
	rc = leg_regions(seg_leg(v, &v->segs[segment], src), since, segment, &r, &nr);
	for (size_t i = 1; !rc && i < nr; i++)
		rc = r[i - 1].region < r[i].region ? 0 : HCI_E_PROTO;
	for (size_t i = 0; !rc && i < n; i++) {
		uint32_t region = (uint32_t)((blocks[i] * bs - base) / REPL_REGION);

		while (k < nr && r[k].region < region)
			k++;
		cache_prove(v->cache, blocks[i], k < nr && r[k].region == region ? r[k].seq & REPL_SEQ_MASK : 0);
	}
	mem_free(r);
	return rc;
}

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

static void prove_fiber(void *arg)
{
	struct vol *v = arg;
	uint64_t per = v->rec.segment_size / cache_block(v->x->cache);
	struct cache_doubts d;
	size_t i = 0, end;

	if (cache_doubts(v->cache, &d))
		log_info(env_log(v->e), "volume %s: no memory to look at what the cache kept: it is read anew", v->rec.name);
	while (i < d.n && !over(v)) {
		uint32_t segment = (uint32_t)(d.blocks[i] / per);

		for (end = i; end < d.n && d.blocks[end] / per == segment; end++)
			;
		if (segment < v->nsegs && prove_segment(v, segment, d.blocks + i, end - i, d.since))
			fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + 200 * NS_PER_MS);
		else
			i = end;
	}
	mem_free(d.blocks);
	vol_fiber_end(v);
}

void vcache_attach(struct vol *v)
{
	uint64_t next = vol_seq_floor(v->gen + 1);

	if (!v->x->cache)
		return;
	/* Without a next floor the numbers may come again in a later attachment: nothing outlives this one. */
	v->cache = cache_attach(v->x->cache, &v->rec.uuid, v->seq, next ? next - 1 : 0);
	if (!v->cache)
		return;
	v->fibers++;
	if (fiber_spawn(v->e, prove_fiber, v, "volume-cache"))
		v->fibers--;
}
