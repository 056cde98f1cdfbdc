/* SPDX-License-Identifier: Apache-2.0 */
/* See scratch.h. */
#include "compute/memstream/scratch.h"

#include "base/mem.h"

#define GRAIN (64u << 10)

struct scratch_block {
	size_t cap;
	max_align_t data[];
};

void scratch_init(struct scratch *p)
{
	*p = (struct scratch){ 0 };
	pthread_mutex_init(&p->lock, NULL);
}

void scratch_free(struct scratch *p)
{
	while (p->n)
		mem_free(p->kept[--p->n]);
	pthread_mutex_destroy(&p->lock);
}

/* Not one that is much larger: it would be missed by who needs that. */
static bool fits(const struct scratch_block *b, size_t n)
{
	return b->cap >= n && b->cap <= 2 * n + GRAIN;
}

void *scratch_take(struct scratch *p, size_t n)
{
	struct scratch_block *b = NULL;

	pthread_mutex_lock(&p->lock);
	/* The last one that came is the warmest. */
	for (unsigned i = p->n; i-- && !b;) {
		if (!fits(p->kept[i], n))
			continue;
		b = p->kept[i];
		p->kept[i] = p->kept[--p->n];
		p->bytes -= b->cap;
	}
	pthread_mutex_unlock(&p->lock);
	if (!b) {
		if (!UNDER_ASAN)
			n = ROUND_UP(n, (size_t)GRAIN);
		b = mem_alloc(sizeof(*b) + n);
		if (!b)
			return NULL;
		b->cap = n;
	}
	return b->data;
}

void scratch_give(struct scratch *p, void *data)
{
	struct scratch_block *b = data ? container_of(data, struct scratch_block, data) : NULL;

	if (!b)
		return;
	pthread_mutex_lock(&p->lock);
	if (!UNDER_ASAN && p->n < SCRATCH_KEPT && p->bytes + b->cap <= SCRATCH_BYTES) {
		p->kept[p->n++] = b;
		p->bytes += b->cap;
		b = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	mem_free(b);
}
