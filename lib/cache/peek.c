/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a volume, whether it is current or not, for one who can tell whether it is what he wants. Nothing is
 * counted, moved or made room for by that.
 */
#include "cache/cache_impl.h"

#include <hci/error.h>

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

/* Ten of its 40 bits at a time. A million takes some milliseconds, with qsort() a tenth of a second, in which the loop does nothing else. */
int cache_sort(uint64_t *v, size_t n)
{
	uint64_t *from = v, *to = n ? mem_calloc(n, sizeof(*to)) : NULL, *free_me = to;

	if (n && !to)
		return HCI_E_NOMEM;
	for (unsigned shift = 0; n && shift < 40; shift += 10) {
		uint32_t at[1024] = { 0 }, sum = 0;
		uint64_t *was = from;

		for (size_t i = 0; i < n; i++)
			at[from[i] >> shift & 1023]++;
		for (unsigned i = 0; i < 1024; i++) {
			uint32_t c = at[i];

			at[i] = sum;
			sum += c;
		}
		for (size_t i = 0; i < n; i++)
			to[at[from[i] >> shift & 1023]++] = from[i];
		from = to;
		to = was;
	}
	mem_free(free_me); /* four times to and fro: all is in v */
	return 0;
}

int cache_list(const struct cache *c, const struct uuid *volume, size_t most, uint64_t **out, size_t *n)
{
	const struct known_vol *v = find(c, volume);
	size_t want = v ? MIN(v->maps, most) : 0;
	int rc;

	*n = 0;
	*out = want ? mem_calloc(want, sizeof(**out)) : NULL;
	if (want && !*out)
		return HCI_E_NOMEM;
	for (uint32_t m = 0; m < c->t.nmaps && *n < want; m++)
		if (c->t.maps[m].chunk != TAB_NONE && c->t.maps[m].vol == v->id)
			(*out)[(*n)++] = c->t.maps[m].block;
	rc = cache_sort(*out, *n);
	if (rc) {
		mem_free(*out);
		*out = NULL;
	}
	return rc;
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
