/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a volume, whether it is current or not, for one who can tell whether it is what he wants. Nothing is
 * counted, moved or made room for by that.
 */
#include "cache/cache_impl.h"

#include <stdlib.h>

#include "base/mem.h"

struct peek {
	struct cache_read r;
	struct env *e;
	struct fiber_cond over;
	bool done;
};

static const struct known_vol *find(const struct cache *c, const struct uuid *volume)
{
	for (uint32_t i = 0; i < c->nvols; i++)
		if (uuid_eq(&c->vols[i]->volume, volume))
			return c->vols[i];
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int cache_list(const struct cache *c, const struct uuid *volume, uint64_t **out, size_t *n)
{
	const struct known_vol *v = find(c, volume);
	uint64_t want = v ? v->maps : 0;

	*n = 0;
	*out = want ? mem_calloc(want, sizeof(**out)) : NULL;
	if (want && !*out)
		return HCI_E_NOMEM;
	for (uint32_t m = 0; m < c->t.nmaps && *n < want; m++)
		if (c->t.maps[m].chunk != TAB_NONE && c->t.maps[m].vol == v->id)
			(*out)[(*n)++] = c->t.maps[m].block;
	if (*n)
		qsort(*out, *n, sizeof(**out), by_number);
	return 0;
}

static void peek_over(struct cache_read *r)
{
	struct peek *p = container_of(r, struct peek, r);

	p->done = true;
	fiber_cond_signal(p->e, &p->over);
}

/* Into a buffer of its own, as the SSD may answer when nobody waits any more. */
static void block_read(struct env_io *io)
{
	struct ssd_io *s = container_of(io, struct ssd_io, io);
	struct cache_read *r = s->r;
	bool good = ssd_good(s);

	if (good && r)
		memcpy(s->dst, s->buf, s->n);
	mem_free_aligned(s->buf);
	ssd_io_end(s);
	if (r)
		cache_read_part(r, good);
}

static bool from_ssd(struct cache *c, uint32_t k, void *buf)
{
	struct peek p = { .r = { .done = peek_over, .c = c, .left = 1, .quiet = true, .begun = env_now(c->e) }, .e = c->e };
	struct ssd_io *s = ssd_io_new(c, k);

	if (!s)
		return false;
	s->buf = mem_alloc_aligned(c->o.block);
	if (!s->buf) {
		ssd_io_end(s);
		return false;
	}
	fiber_cond_init(&p.over);
	list_init(&p.r.link);
	s->r = &p.r;
	s->dst = buf;
	s->n = c->o.block;
	ssd_read(s, c->t.chunks[k].slot, block_read);
	while (!p.done)
		fiber_cond_wait(c->e, &p.over);
	return p.r.ok;
}

int cache_peek(struct cache *c, const struct uuid *volume, uint64_t block, void *buf)
{
	const struct known_vol *v = find(c, volume);
	uint32_t m = v ? tab_map_find(&c->t, v->id, block) : TAB_NONE, k;

	if (m == TAB_NONE)
		return HCI_E_NOTFOUND;
	k = c->t.maps[m].chunk;
	if (c->t.chunks[k].buf) {
		memcpy(buf, c->t.chunks[k].buf, c->o.block);
		return 0;
	}
	return c->t.chunks[k].slot != TAB_NONE && cache_ssd_ok(c) && from_ssd(c, k, buf) ? 0 : HCI_E_NOTFOUND;
}
