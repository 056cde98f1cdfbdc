/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source knows of one node's store of pages: which it has, and which are on their way to it and with whom. A page is
 * claimed when a batch is classified in which it goes in full, and there when that batch is acknowledged. Claims of an
 * encoder that is gone count for nothing, by its number, which no other gets.
 */
#include "compute/memstream/store.h"

#include "base/mem.h"
#include "compute/memstream/sets.h"

#define SOURCES 32u /* encoders at a time; more of them claim nothing */

struct claim {
	uint32_t who; /* 0: it is there */
	uint32_t batch;
};

struct mst_known {
	struct sets sets;
	struct claim *claims; /* by slot */
	uint32_t batches;     /* atomic: numbers given */
	uint32_t sources[SOURCES]; /* atomic: those that are here; 0: free */
	pthread_mutex_t lock; /* id, last */
	uint32_t last;
	uint8_t id[16];
};

struct mst_known *mst_known_new(uint64_t pages)
{
	struct mst_known *k = MEM_NEW(struct mst_known);

	if (!k)
		return NULL;
	pthread_mutex_init(&k->lock, NULL);
	if (sets_init(&k->sets, pages))
		k->claims = mem_calloc(sets_slots(&k->sets), sizeof(*k->claims));
	if (!k->claims) {
		mst_known_free(k);
		return NULL;
	}
	return k;
}

void mst_known_free(struct mst_known *k)
{
	if (!k)
		return;
	pthread_mutex_destroy(&k->lock);
	sets_free(&k->sets);
	mem_free(k->claims);
	mem_free(k);
}

static bool known_match(void *ctx, const uint8_t id[16])
{
	struct mst_known *k = ctx;

	if (memcmp(id, MST_STORE_PREFIX, sizeof(MST_STORE_PREFIX) - 1) != 0)
		return false;
	pthread_mutex_lock(&k->lock);
	if (memcmp(k->id, id, sizeof(k->id)) != 0) {
		memcpy(k->id, id, sizeof(k->id));
		for (uint64_t g = 0; g < k->sets.groups; g++) {
			pthread_mutex_lock(sets_lock(&k->sets, g));
			memset(k->sets.hash + g * SETS_WAYS, 0, SETS_WAYS * sizeof(*k->sets.hash));
			pthread_mutex_unlock(sets_lock(&k->sets, g));
		}
	}
	pthread_mutex_unlock(&k->lock);
	return true;
}

/* ---- who is here ---- */

static uint32_t known_join(void *ctx)
{
	struct mst_known *k = ctx;
	uint32_t who = 0;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < SOURCES && !who; i++) {
		if (k->sources[i])
			continue;
		k->last = k->last == UINT32_MAX ? 1 : k->last + 1;
		who = k->last;
		__atomic_store_n(&k->sources[i], who, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&k->lock);
	return who;
}

static void known_leave(void *ctx, uint32_t who, bool all)
{
	struct mst_known *k = ctx;

	(void)all;
	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < SOURCES; i++)
		if (k->sources[i] == who)
			__atomic_store_n(&k->sources[i], 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&k->lock);
}

static bool is_here(struct mst_known *k, uint32_t who)
{
	for (unsigned i = 0; i < SOURCES; i++)
		if (__atomic_load_n(&k->sources[i], __ATOMIC_RELAXED) == who)
			return true;
	return false;
}

/* ---- pages ---- */

static uint32_t known_begin(void *ctx)
{
	struct mst_known *k = ctx;

	return __atomic_add_fetch(&k->batches, 1, __ATOMIC_RELAXED);
}

static int known_lookup(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	struct mst_known *k = ctx;
	uint64_t group = sets_group(&k->sets, quick);
	struct claim c = { 0 };
	int64_t slot;

	pthread_mutex_lock(sets_lock(&k->sets, group));
	slot = quick ? sets_find(&k->sets, group, quick) : -1;
	if (slot >= 0)
		c = k->claims[slot];
	pthread_mutex_unlock(sets_lock(&k->sets, group));
	*token = quick;
	if (slot < 0)
		return MST_HAS_NOT;
	if (!c.who)
		return MST_HAS;
	/* The numbers go round. */
	return (int32_t)(batch - c.batch) > 0 && is_here(k, c.who) ? MST_COMES : MST_HAS_NOT;
}

/* The slot of a page, a new one if need be. With the group's lock. */
static struct claim *place(struct mst_known *k, uint64_t group, uint64_t quick, bool *is_new)
{
	int64_t slot = sets_find(&k->sets, group, quick);

	*is_new = slot < 0;
	return &k->claims[slot < 0 ? sets_add(&k->sets, group, quick) : (uint64_t)slot];
}

static void known_claim(void *ctx, uint64_t quick, uint32_t who, uint32_t batch)
{
	struct mst_known *k = ctx;
	uint64_t group = sets_group(&k->sets, quick);
	struct claim *c;
	bool is_new;

	if (!quick || !who)
		return;
	pthread_mutex_lock(sets_lock(&k->sets, group));
	c = place(k, group, quick, &is_new);
	/* The first counts, as it comes first. */
	if (is_new || (c->who && !is_here(k, c->who)))
		*c = (struct claim){ who, batch };
	pthread_mutex_unlock(sets_lock(&k->sets, group));
}

static void known_note(void *ctx, uint64_t quick, const void *page)
{
	struct mst_known *k = ctx;
	uint64_t group = sets_group(&k->sets, quick);
	bool is_new;

	(void)page;
	if (!quick)
		return;
	pthread_mutex_lock(sets_lock(&k->sets, group));
	*place(k, group, quick, &is_new) = (struct claim){ 0 };
	pthread_mutex_unlock(sets_lock(&k->sets, group));
}

void mst_known_provider(struct mst_known *k, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = k, .kind = MST_KIND_STORE, .lookup = known_lookup, .note = known_note, .match = known_match,
				      .join = known_join, .leave = known_leave, .begin = known_begin, .claim = known_claim };
}
