/* SPDX-License-Identifier: Apache-2.0 */
/* The index in memory: see tab.h. Who goes is in policy.c. */
#include "cache/tab.h"

#include "base/mem.h"
#include "cache/hash.h"

static uint32_t pow2(uint64_t n)
{
	uint32_t p = 16;

	while (p < n && p < UINT32_C(1) << 31)
		p *= 2;
	return p;
}

static void *take(struct tab *t, size_t n, size_t size)
{
	t->bytes += n * size;
	return mem_calloc(n, size);
}

bool tab_init(struct tab *t, uint32_t slots, uint32_t maps, uint32_t ram)
{
	uint32_t mh = pow2((uint64_t)maps * 3 / 4), fh = pow2((uint64_t)slots * 3 / 4), gh = pow2(slots);

	memset(t, 0, sizeof(*t));
	t->nchunks = slots + ram + 64;
	t->nmaps = maps;
	t->nslots = slots;
	t->chunks = take(t, t->nchunks, sizeof(*t->chunks));
	t->maps = take(t, maps, sizeof(*t->maps));
	t->mhash = take(t, mh, sizeof(*t->mhash));
	t->fhash = take(t, fh, sizeof(*t->fhash));
	t->slots = take(t, MAX(slots, 1u), sizeof(*t->slots));
	t->ghosts = take(t, gh, sizeof(*t->ghosts));
	if (!t->chunks || !t->maps || !t->mhash || !t->fhash || !t->slots || !t->ghosts) {
		tab_fini(t);
		return false;
	}
	t->mmask = mh - 1;
	t->fmask = fh - 1;
	t->gmask = gh - 1;
	memset(t->mhash, 0xff, mh * sizeof(*t->mhash));
	memset(t->fhash, 0xff, fh * sizeof(*t->fhash));
	memset(t->slots, 0xff, MAX(slots, 1u) * sizeof(*t->slots));
	t->ram = t->main = (struct queue){ TAB_NONE, TAB_NONE, 0 };
	t->ghost_now = 1;
	t->loading = true;
	t->free_chunk = t->free_map = t->free_slot = TAB_NONE;
	for (uint32_t i = t->nchunks; i--;) {
		t->chunks[i].ram_next = t->free_chunk;
		t->free_chunk = i;
	}
	for (uint32_t i = 0; i < maps; i++)
		t->maps[i].chunk = TAB_NONE;
	return true;
}

void tab_fini(struct tab *t)
{
	mem_free(t->chunks);
	mem_free(t->maps);
	mem_free(t->mhash);
	mem_free(t->fhash);
	mem_free(t->slots);
	mem_free(t->ghosts);
	memset(t, 0, sizeof(*t));
}

/* ---- maps ---- */

static uint32_t *map_head(const struct tab *t, uint16_t vol, uint64_t block)
{
	return &t->mhash[mix64(block << 16 | vol) & t->mmask];
}

uint32_t tab_map_find(const struct tab *t, uint16_t vol, uint64_t block)
{
	uint32_t m = *map_head(t, vol, block);

	while (m != TAB_NONE && (t->maps[m].block != block || t->maps[m].vol != vol))
		m = t->maps[m].hnext;
	return m;
}

static void sib_add(struct tab *t, uint32_t m, uint32_t chunk)
{
	struct chunk *k = &t->chunks[chunk];
	struct map *x = &t->maps[m];

	x->chunk = chunk;
	x->sprev = TAB_NONE;
	x->snext = k->maps;
	if (k->maps != TAB_NONE)
		t->maps[k->maps].sprev = m;
	k->maps = m;
}

static void sib_del(struct tab *t, uint32_t m)
{
	struct map *x = &t->maps[m];

	if (x->snext != TAB_NONE)
		t->maps[x->snext].sprev = x->sprev;
	if (x->sprev != TAB_NONE)
		t->maps[x->sprev].snext = x->snext;
	else
		t->chunks[x->chunk].maps = x->snext;
}

void tab_map_put(struct tab *t, uint32_t m, uint16_t vol, uint64_t block, uint32_t chunk)
{
	uint32_t *head = map_head(t, vol, block);
	struct map *x = &t->maps[m];

	x->block = block;
	x->vol = vol;
	x->flags = 0;
	x->stamp = 0;
	x->hnext = *head;
	*head = m;
	sib_add(t, m, chunk);
	t->maps_used++;
}

uint32_t tab_map_add(struct tab *t, uint16_t vol, uint64_t block, uint32_t chunk)
{
	uint32_t m = t->free_map;

	if (m == TAB_NONE)
		return m;
	t->free_map = t->maps[m].hnext;
	tab_map_put(t, m, vol, block, chunk);
	return m;
}

void tab_map_del(struct tab *t, uint32_t m)
{
	struct map *x = &t->maps[m];
	uint32_t *at = map_head(t, x->vol, x->block);

	while (*at != m)
		at = &t->maps[*at].hnext;
	*at = x->hnext;
	sib_del(t, m);
	x->chunk = TAB_NONE;
	x->hnext = t->free_map;
	t->free_map = m;
	t->maps_used--;
}

void tab_map_move(struct tab *t, uint32_t m, uint32_t chunk)
{
	sib_del(t, m);
	sib_add(t, m, chunk);
}

void tab_maps_free(struct tab *t)
{
	t->free_map = TAB_NONE;
	for (uint32_t i = t->nmaps; i--;)
		if (t->maps[i].chunk == TAB_NONE) {
			t->maps[i].hnext = t->free_map;
			t->free_map = i;
		}
}

/* ---- chunks, slots, fingerprints ---- */

uint32_t tab_chunk_new(struct tab *t)
{
	uint32_t k = t->free_chunk;

	if (k == TAB_NONE)
		return k;
	t->free_chunk = t->chunks[k].ram_next;
	t->chunks[k] = (struct chunk){ .maps = TAB_NONE, .slot = TAB_NONE, .flags = CH_USED };
	return k;
}

void tab_chunk_del(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];

	if (x->flags & CH_IN_RAM)
		policy_ram_out(t, k);
	if (x->flags & CH_IN_MAIN)
		policy_main_out(t, k);
	if (x->flags & CH_HASHED)
		tab_fp_del(t, k);
	if (x->slot != TAB_NONE)
		tab_slot_put(t, k);
	x->flags = 0;
	x->ram_next = t->free_chunk;
	t->free_chunk = k;
}

void tab_fp_add(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];
	uint32_t *head = &t->fhash[x->fp & t->fmask];

	x->fp_next = *head;
	*head = k;
	x->flags |= CH_HASHED;
}

void tab_fp_del(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];
	uint32_t *at = &t->fhash[x->fp & t->fmask];

	while (*at != k)
		at = &t->chunks[*at].fp_next;
	*at = x->fp_next;
	x->flags &= (uint8_t)~CH_HASHED;
}

uint32_t tab_fp_find(const struct tab *t, uint64_t fp)
{
	uint32_t k = t->fhash[fp & t->fmask];

	while (k != TAB_NONE && t->chunks[k].fp != fp)
		k = t->chunks[k].fp_next;
	return k;
}

uint32_t tab_slot_new(struct tab *t, uint32_t k)
{
	uint32_t s = t->free_slot;

	if (s == TAB_NONE)
		return s;
	t->free_slot = t->slots[s];
	t->slots_free--;
	t->slots[s] = k;
	t->chunks[k].slot = s;
	return s;
}

void tab_slot_put(struct tab *t, uint32_t k)
{
	uint32_t s = t->chunks[k].slot;

	t->chunks[k].slot = TAB_NONE;
	if (t->loading) {
		t->slots[s] = TAB_NONE;
		return;
	}
	t->slots[s] = t->free_slot;
	t->free_slot = s;
	t->slots_free++;
}

void tab_slots_free(struct tab *t)
{
	t->loading = false;
	t->free_slot = TAB_NONE;
	t->slots_free = 0;
	for (uint32_t s = t->nslots; s--;)
		if (t->slots[s] == TAB_NONE) {
			t->slots[s] = t->free_slot;
			t->free_slot = s;
			t->slots_free++;
		}
}
