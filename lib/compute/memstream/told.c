/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one destination has told of itself: the high halves of quick hashes, in a table of open addresses that grows. Of a
 * million pages there, one in four thousand that is not there passes for one that is, and costs a question of the destination.
 */
#include <pthread.h>
#include <sys/random.h>

#include "base/mem.h"
#include "compute/memstream/store.h"

#define FIRST 4096u
#define ID_BYTES 4u

struct mst_told {
	char prefix[ID_BYTES];
	uint8_t kind;
	uint32_t most;
	uint64_t secret;
	pthread_mutex_t lock; /* over a few instructions, or while the table grows */
	uint32_t *e;          /* 0: free */
	uint32_t cap, n;      /* cap: a power of two */
};

struct mst_told *mst_told_new(const char *prefix, uint8_t kind, uint32_t most)
{
	struct mst_told *t = MEM_NEW(struct mst_told);

	if (!t)
		return NULL;
	memcpy(t->prefix, prefix, ID_BYTES);
	t->kind = kind;
	t->most = MIN(most, UINT32_MAX / 4);
	if (getrandom(&t->secret, sizeof(t->secret), GRND_NONBLOCK) != (ssize_t)sizeof(t->secret))
		t->secret = (uintptr_t)t;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void mst_told_free(struct mst_told *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	mem_free(t->e);
	mem_free(t);
}

/*
 * Its place in e, or that where it belongs. They are parts of a hash, but a guest at the destination can choose its pages, and a peer what
 * it tells, so that all begin to look at one place: not without knowing our number.
 */
static uint32_t *place(const struct mst_told *t, uint32_t *e, uint32_t cap, uint32_t half)
{
	uint64_t h = (half ^ t->secret) * 0x9e3779b97f4a7c15u;
	uint32_t i;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
	i = (uint32_t)(h >> 32) & (cap - 1);
	while (e[i] && e[i] != half)
		i = (i + 1) & (cap - 1);
	return &e[i];
}

static bool grow(struct mst_told *t)
{
	uint32_t cap = t->cap ? t->cap * 2 : FIRST;
	uint32_t *e = mem_calloc(cap, sizeof(*e));

	if (!e)
		return false;
	for (uint32_t i = 0; i < t->cap; i++)
		if (t->e[i])
			*place(t, e, cap, t->e[i]) = t->e[i];
	mem_free(t->e);
	t->e = e;
	t->cap = cap;
	return true;
}

static bool told(void *ctx, uint32_t half)
{
	struct mst_told *t = ctx;
	uint32_t *at;
	bool room;

	half = half ? half : 1;
	pthread_mutex_lock(&t->lock);
	room = t->n < t->most && ((uint64_t)t->n * 4 < (uint64_t)t->cap * 3 || grow(t));
	if (room) {
		at = place(t, t->e, t->cap, half);
		t->n += !*at;
		*at = half;
	}
	pthread_mutex_unlock(&t->lock);
	return room;
}

static int lookup(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	struct mst_told *t = ctx;
	uint32_t half = quick >> 32 ? (uint32_t)(quick >> 32) : 1;
	bool has;

	(void)batch;
	*token = quick;
	pthread_mutex_lock(&t->lock);
	has = quick && t->cap && *place(t, t->e, t->cap, half);
	pthread_mutex_unlock(&t->lock);
	return has ? MST_HAS : MST_HAS_NOT;
}

static bool match(void *ctx, const uint8_t id[16])
{
	const struct mst_told *t = ctx;

	return !memcmp(id, t->prefix, ID_BYTES);
}

void mst_told_provider(struct mst_told *t, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = t, .kind = t->kind, .lookup = lookup, .match = match, .told = told };
}
