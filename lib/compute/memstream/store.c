/* SPDX-License-Identifier: Apache-2.0 */
/* A node's store of pages that came by migrations, found by their quick hash. What a source knows of it: known.c. */
#include "compute/memstream/store.h"

#include <hci/error.h>

#include "base/mem.h"
#include "compute/memstream/sets.h"

struct mst_store {
	uint8_t id[16];
	struct sets sets;
	uint8_t **pages; /* a page each, taken when it is used */
	/* atomic */
	uint64_t n, came;
	uint32_t left; /* decoders */
};

struct mst_store *mst_store_new(const uint8_t id[16], uint64_t bytes)
{
	struct mst_store *s = MEM_NEW(struct mst_store);

	if (!s)
		return NULL;
	memcpy(s->id, id, sizeof(s->id));
	if (sets_init(&s->sets, bytes / MST_PAGE))
		s->pages = mem_calloc(sets_slots(&s->sets), sizeof(*s->pages));
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
	for (uint64_t i = 0; s->pages && i < sets_slots(&s->sets); i++)
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
	uint64_t group = sets_group(&s->sets, token);
	int64_t slot;

	pthread_mutex_lock(sets_lock(&s->sets, group));
	slot = sets_find(&s->sets, group, token);
	if (slot >= 0 && s->pages[slot])
		memcpy(page, s->pages[slot], MST_PAGE);
	else
		slot = -1;
	pthread_mutex_unlock(sets_lock(&s->sets, group));
	return slot < 0 ? HCI_E_NOTFOUND : 0;
}

static void store_note(void *ctx, uint64_t quick, const void *page)
{
	struct mst_store *s = ctx;
	uint64_t group = sets_group(&s->sets, quick), slot;

	if (!quick || !page)
		return;
	pthread_mutex_lock(sets_lock(&s->sets, group));
	if (sets_find(&s->sets, group, quick) < 0) {
		slot = sets_add(&s->sets, group, quick);
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
	pthread_mutex_unlock(sets_lock(&s->sets, group));
	__atomic_add_fetch(&s->came, 1, __ATOMIC_RELEASE);
}

static uint32_t store_join(void *ctx)
{
	(void)ctx; /* who brings what makes no difference here */
	return 1;
}

static void store_leave(void *ctx, uint32_t who, bool all)
{
	struct mst_store *s = ctx;

	(void)who;
	if (!all)
		__atomic_add_fetch(&s->left, 1, __ATOMIC_RELEASE);
}

static uint64_t store_came(void *ctx, uint32_t *left)
{
	struct mst_store *s = ctx;

	*left = __atomic_load_n(&s->left, __ATOMIC_ACQUIRE);
	return __atomic_load_n(&s->came, __ATOMIC_ACQUIRE);
}

void mst_store_provider(struct mst_store *s, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = s, .read = store_read, .note = store_note, .join = store_join,
				      .leave = store_leave, .came = store_came };
	memcpy(out->id, s->id, sizeof(s->id));
	memcpy(out->id, MST_STORE_PREFIX, sizeof(MST_STORE_PREFIX) - 1);
}
