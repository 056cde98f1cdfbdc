/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node's store of pages that came by migrations, found by their quick hash, and what a source knows of such a store.
 *
 * Both are sets of slots in groups of eight: a hash belongs to one group, and takes the place of the group's oldest. No
 * chains, no list of ages, the same small work for each page; a group's lock is shared with some others.
 */
#include "compute/memstream/store.h"

#include <hci/error.h>
#include <pthread.h>

#include "base/mem.h"

#define WAYS 8u
#define LOCKS 64u

struct sets {
	uint64_t groups;
	uint64_t *hash; /* groups of WAYS; 0: free */
	uint8_t *next;  /* of each group: whose turn to go */
	pthread_mutex_t lock[LOCKS];
};

static bool sets_init(struct sets *s, uint64_t n)
{
	s->groups = MAX(n / WAYS, (uint64_t)1);
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_mutex_init(&s->lock[i], NULL);
	s->hash = mem_calloc(s->groups * WAYS, sizeof(*s->hash));
	s->next = mem_calloc(s->groups, 1);
	return s->hash && s->next;
}

static void sets_free(struct sets *s)
{
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_mutex_destroy(&s->lock[i]);
	mem_free(s->hash);
	mem_free(s->next);
}

static uint64_t group_of(const struct sets *s, uint64_t quick)
{
	return (uint64_t)((unsigned __int128)quick * s->groups >> 64);
}

/* With the group's lock. The slot, or -1. */
static int64_t find(const struct sets *s, uint64_t group, uint64_t quick)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (s->hash[group * WAYS + i] == quick)
			return (int64_t)(group * WAYS + i);
	return -1;
}

/* With the group's lock, and not there yet: the slot it gets. */
static uint64_t add(struct sets *s, uint64_t group, uint64_t quick)
{
	uint64_t slot = group * WAYS + s->next[group];

	s->next[group] = (uint8_t)((s->next[group] + 1) % WAYS);
	s->hash[slot] = quick;
	return slot;
}

/* ---- the store ---- */

struct mst_store {
	uint8_t id[16];
	struct sets sets;
	uint8_t **pages; /* a page each, taken when it is used */
	uint64_t n;      /* atomic */
};

struct mst_store *mst_store_new(const uint8_t id[16], uint64_t bytes)
{
	struct mst_store *s = MEM_NEW(struct mst_store);

	if (!s)
		return NULL;
	memcpy(s->id, id, sizeof(s->id));
	if (sets_init(&s->sets, bytes / MST_PAGE))
		s->pages = mem_calloc(s->sets.groups * WAYS, sizeof(*s->pages));
	if (!s->pages) {
		mst_store_free(s);
		return NULL;
	}
	return s;
}

void mst_store_free(struct mst_store *s)
{
	if (!s)
		return;
	for (uint64_t i = 0; s->pages && i < s->sets.groups * WAYS; i++)
		mem_free(s->pages[i]);
	mem_free(s->pages);
	sets_free(&s->sets);
	mem_free(s);
}

uint64_t mst_store_pages(struct mst_store *s)
{
	return __atomic_load_n(&s->n, __ATOMIC_RELAXED);
}

static int store_read(void *ctx, uint64_t token, void *page)
{
	struct mst_store *s = ctx;
	uint64_t group = group_of(&s->sets, token);
	pthread_mutex_t *lock = &s->sets.lock[group % LOCKS];
	int64_t slot;

	pthread_mutex_lock(lock);
	slot = find(&s->sets, group, token);
	if (slot >= 0 && s->pages[slot])
		memcpy(page, s->pages[slot], MST_PAGE);
	else
		slot = -1;
	pthread_mutex_unlock(lock);
	return slot < 0 ? HCI_E_NOTFOUND : 0;
}

static void store_note(void *ctx, uint64_t quick, const void *page)
{
	struct mst_store *s = ctx;
	uint64_t group = group_of(&s->sets, quick), slot;
	pthread_mutex_t *lock = &s->sets.lock[group % LOCKS];

	if (!quick || !page)
		return;
	pthread_mutex_lock(lock);
	if (find(&s->sets, group, quick) < 0) {
		slot = add(&s->sets, group, quick);
		if (!s->pages[slot]) {
			s->pages[slot] = mem_alloc(MST_PAGE);
			if (s->pages[slot])
				__atomic_add_fetch(&s->n, 1, __ATOMIC_RELAXED);
			else
				s->sets.hash[slot] = 0;
		}
		if (s->pages[slot])
			memcpy(s->pages[slot], page, MST_PAGE);
	}
	pthread_mutex_unlock(lock);
}

void mst_store_provider(struct mst_store *s, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = s, .read = store_read, .note = store_note };
	memcpy(out->id, s->id, sizeof(s->id));
	memcpy(out->id, MST_STORE_PREFIX, sizeof(MST_STORE_PREFIX) - 1);
}

/* ---- what is known of one ---- */

struct mst_known {
	struct sets sets;
	pthread_mutex_t id_lock;
	uint8_t id[16];
};

struct mst_known *mst_known_new(uint64_t pages)
{
	struct mst_known *k = MEM_NEW(struct mst_known);

	if (!k)
		return NULL;
	pthread_mutex_init(&k->id_lock, NULL);
	if (!sets_init(&k->sets, pages)) {
		mst_known_free(k);
		return NULL;
	}
	return k;
}

void mst_known_free(struct mst_known *k)
{
	if (!k)
		return;
	pthread_mutex_destroy(&k->id_lock);
	sets_free(&k->sets);
	mem_free(k);
}

static bool known_match(void *ctx, const uint8_t id[16])
{
	struct mst_known *k = ctx;

	if (memcmp(id, MST_STORE_PREFIX, sizeof(MST_STORE_PREFIX) - 1) != 0)
		return false;
	pthread_mutex_lock(&k->id_lock);
	if (memcmp(k->id, id, sizeof(k->id)) != 0) {
		memcpy(k->id, id, sizeof(k->id));
		for (uint64_t g = 0; g < k->sets.groups; g++) {
			pthread_mutex_lock(&k->sets.lock[g % LOCKS]);
			memset(k->sets.hash + g * WAYS, 0, WAYS * sizeof(*k->sets.hash));
			pthread_mutex_unlock(&k->sets.lock[g % LOCKS]);
		}
	}
	pthread_mutex_unlock(&k->id_lock);
	return true;
}

static bool known_lookup(void *ctx, uint64_t quick, uint64_t *token)
{
	struct mst_known *k = ctx;
	uint64_t group = group_of(&k->sets, quick);
	pthread_mutex_t *lock = &k->sets.lock[group % LOCKS];
	int64_t slot;

	pthread_mutex_lock(lock);
	slot = quick ? find(&k->sets, group, quick) : -1;
	pthread_mutex_unlock(lock);
	*token = quick;
	return slot >= 0;
}

static void known_note(void *ctx, uint64_t quick, const void *page)
{
	struct mst_known *k = ctx;
	uint64_t group = group_of(&k->sets, quick);
	pthread_mutex_t *lock = &k->sets.lock[group % LOCKS];

	(void)page;
	if (!quick)
		return;
	pthread_mutex_lock(lock);
	if (find(&k->sets, group, quick) < 0)
		add(&k->sets, group, quick);
	pthread_mutex_unlock(lock);
}

void mst_known_provider(struct mst_known *k, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = k, .lookup = known_lookup, .note = known_note, .match = known_match };
}
