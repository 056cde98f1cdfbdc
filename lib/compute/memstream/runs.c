/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a disk one destination has, as it has told: ascending runs. In front of an index of the disk's blocks, so that
 * nothing is referred to that is not there.
 */
#include <pthread.h>

#include "base/mem.h"
#include "compute/memstream/store.h"

struct run {
	uint32_t first, n;
};

struct mst_runs {
	struct mst_provider index;
	uint32_t most;
	pthread_mutex_t lock; /* of what follows, for moments */
	struct run *runs;
	uint32_t n, cap;
	uint32_t first; /* of the next run, of which only that is known yet */
	bool half;
};

struct mst_runs *mst_runs_new(const struct mst_provider *index, uint32_t most)
{
	struct mst_runs *r = MEM_NEW(struct mst_runs);

	if (!r)
		return NULL;
	r->index = *index;
	r->most = most;
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void mst_runs_free(struct mst_runs *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	mem_free(r->runs);
	mem_free(r);
}

/* False: no room. What is out of order is left out. */
static bool add(struct mst_runs *r, uint32_t first, uint32_t n)
{
	struct run *last = r->n ? &r->runs[r->n - 1] : NULL;

	if (!n || (last && first < (uint64_t)last->first + last->n))
		return true;
	if (r->n == r->most)
		return false;
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? r->cap * 2 : 16;
		struct run *more = mem_realloc(r->runs, cap * sizeof(*more));

		if (!more)
			return false;
		r->runs = more;
		r->cap = cap;
	}
	r->runs[r->n++] = (struct run){ first, n };
	return true;
}

static bool told(void *ctx, uint32_t number)
{
	struct mst_runs *r = ctx;
	bool room = true;

	pthread_mutex_lock(&r->lock);
	if (r->half)
		room = add(r, r->first, number);
	else
		r->first = number;
	r->half = !r->half;
	pthread_mutex_unlock(&r->lock);
	return room;
}

static bool has(struct mst_runs *r, uint64_t block)
{
	uint32_t lo = 0, hi;
	bool is;

	pthread_mutex_lock(&r->lock);
	for (hi = r->n; lo < hi;) { /* the first that begins behind it */
		uint32_t mid = lo + (hi - lo) / 2;

		if (r->runs[mid].first > block)
			hi = mid;
		else
			lo = mid + 1;
	}
	is = lo && block - r->runs[lo - 1].first < r->runs[lo - 1].n;
	pthread_mutex_unlock(&r->lock);
	return is;
}

static int lookup(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	struct mst_runs *r = ctx;
	int found = r->index.lookup(r->index.ctx, quick, batch, token);

	return found == MST_HAS && !has(r, *token) ? MST_HAS_NOT : found;
}

void mst_runs_provider(struct mst_runs *r, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = r, .kind = r->index.kind, .lookup = lookup, .told = told };
	memcpy(out->id, r->index.id, sizeof(out->id));
}
