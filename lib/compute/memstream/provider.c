/* SPDX-License-Identifier: Apache-2.0 */
/* When a provider is worth asking: see provider.h. */
#include "compute/memstream/provider.h"

#define JUDGED 256u          /* references, between two judgements */
#define PAUSE_FIRST 4096u    /* pages */
#define PAUSE_MAX (1u << 20)
#define SLOW (2 * NS_PER_MS)
#define SAMPLE_MAX (4 * SLOW) /* one read that hung says little of the next */
#define PROBE 16u

bool worth_pausing(struct worth *w)
{
	uint32_t refused;

	if (w->pause) {
		w->pause--;
		return true;
	}
	if (w->used < JUDGED)
		return false;
	refused = __atomic_load_n(&w->refused, __ATOMIC_RELAXED);
	if ((refused - w->refused_before) * 4 > w->used) {
		w->pause_next = w->pause_next ? MIN(w->pause_next * 2, PAUSE_MAX) : PAUSE_FIRST;
		w->pause = w->pause_next;
	} else {
		w->pause_next /= 2;
	}
	w->refused_before = refused;
	w->used = 0;
	return w->pause;
}

bool worth_reading(struct worth *w)
{
	if (__atomic_load_n(&w->ns, __ATOMIC_RELAXED) < SLOW)
		return true;
	return __atomic_add_fetch(&w->skipped, 1, __ATOMIC_RELAXED) % PROBE == 0;
}

void worth_read(struct worth *w, uint64_t took_ns)
{
	uint64_t old = __atomic_load_n(&w->ns, __ATOMIC_RELAXED);

	took_ns = MIN(took_ns, (uint64_t)SAMPLE_MAX);
	/* The last sixteen or so; between threads one may be lost, which does not matter. */
	__atomic_store_n(&w->ns, old - old / 16 + took_ns / 16, __ATOMIC_RELAXED);
}
