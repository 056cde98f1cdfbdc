/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attachments, and what is kept from one to the next. While a volume is attached what is mapped of it is current,
 * as every write passes here. When the attachment ends each map is stamped with the number of the
 * last write it knows, and is doubtful from then on. Numbers never come twice, so the next attachment, wherever others
 * were meanwhile, need only know the last write of a region to tell which of its blocks have not changed.
 */
#include "cache/cache_impl.h"

#include "base/mem.h"

struct known_vol *cache_known(struct cache *c, const struct uuid *volume)
{
	struct known_vol **vols, *v;

	for (uint32_t i = 0; i < c->nvols; i++)
		if (uuid_eq(&c->vols[i]->volume, volume))
			return c->vols[i];
	if (c->nvols == CACHE_VOLS_MAX)
		return NULL;
	vols = mem_realloc(c->vols, (c->nvols + 1) * sizeof(*vols));
	if (!vols)
		return NULL;
	c->vols = vols;
	v = MEM_NEW(struct known_vol);
	if (!v)
		return NULL;
	v->volume = *volume;
	v->id = (uint16_t)c->nvols;
	vols[c->nvols++] = v;
	return v;
}

/* The attachment is over: what it leaves is stamped. */
static void retire(struct cache_vol *cv)
{
	struct cache *c = cv->c;
	uint64_t stamp = cache_stamp(cv);

	/* One that is attached for a repair alone has none, and costs nothing. */
	for (uint32_t m = 0; m < c->t.nmaps && cv->v->doubtful < cv->v->maps; m++) {
		struct map *x = &c->t.maps[m];

		if (x->chunk == TAB_NONE || x->vol != cv->v->id || x->flags & MAP_DOUBT)
			continue;
		x->flags |= MAP_DOUBT;
		x->stamp = stamp;
		cv->v->doubtful++;
		cache_dirty(c, m);
	}
	cv->v->owner = NULL;
}

struct cache_vol *cache_attach(struct cache *c, const struct uuid *volume, uint64_t seq, uint64_t stamp_max)
{
	struct known_vol *v = cache_known(c, volume);
	struct cache_vol *cv = v ? MEM_NEW(struct cache_vol) : NULL;

	if (!cv)
		return NULL;
	if (v->owner)
		retire(v->owner);
	*cv = (struct cache_vol){ .c = c, .v = v, .seq = seq, .stamp_max = stamp_max };
	v->owner = cv;
	return cv;
}

void cache_detach(struct cache_vol *cv)
{
	if (!cv)
		return;
	if (cache_live(cv))
		retire(cv);
	mem_free(cv);
}

int cache_doubts(struct cache_vol *cv, struct cache_doubts *d)
{
	struct cache *c = cv->c;
	uint64_t want = cache_live(cv) ? cv->v->doubtful : 0;
	int rc;

	*d = (struct cache_doubts){ .since = UINT64_MAX };
	if (!want)
		return 0;
	d->blocks = mem_calloc(want, sizeof(*d->blocks));
	if (!d->blocks)
		return HCI_E_NOMEM;
	for (uint32_t m = 0; m < c->t.nmaps && d->n < want; m++) {
		const struct map *x = &c->t.maps[m];

		if (x->chunk == TAB_NONE || x->vol != cv->v->id || !(x->flags & MAP_DOUBT))
			continue;
		d->blocks[d->n++] = x->block;
		d->since = MIN(d->since, x->stamp);
	}
	rc = cache_sort(d->blocks, d->n);
	if (rc) {
		mem_free(d->blocks);
		*d = (struct cache_doubts){ .since = UINT64_MAX };
	}
	return rc;
}

void cache_prove(struct cache_vol *cv, uint64_t block, uint64_t seq)
{
	struct cache *c = cv->c;
	uint32_t m = cache_live(cv) ? tab_map_find(&c->t, cv->v->id, block) : TAB_NONE;
	struct map *x = &c->t.maps[m == TAB_NONE ? 0 : m];

	if (m == TAB_NONE || !(x->flags & MAP_DOUBT))
		return;
	/* A stamp beyond the last write is of a history that was undone: a store or disks put back from a copy. */
	if ((seq <= x->stamp && x->stamp <= cv->seq) || c->o.mutate & CACHE_MUTATE_TRUST) {
		x->flags &= (uint8_t)~MAP_DOUBT;
		cv->v->doubtful--;
		c->st.proven++;
		cache_dirty(c, m);
		return;
	}
	c->st.outdated++;
	cache_unmap(c, m);
}
