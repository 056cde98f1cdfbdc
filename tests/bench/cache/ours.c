/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache's own index and policy (lib/cache/tab.c, policy.c), driven as read.c, write.c and admit.c drive them,
 * without data; and LRU over one list as the measure of both.
 */
#include <math.h>
#include <stdlib.h>

#include "cache/tab.h"
#include "trace.h"

static void drop(struct tab *t, uint32_t k)
{
	while (t->chunks[k].maps != TAB_NONE)
		tab_map_del(t, t->chunks[k].maps);
	tab_chunk_del(t, k);
}

static void ram_room(struct tab *t, uint32_t ram)
{
	while (t->ram.n >= ram) {
		uint32_t k = policy_ram_victim(t);

		if (t->chunks[k].slot != TAB_NONE) {
			policy_ram_out(t, k);
			continue;
		}
		policy_ghost_add(t, 1, t->maps[t->chunks[k].maps].block);
		drop(t, k);
	}
}

static bool admit(struct tab *t, uint32_t k)
{
	if (!t->slots_free) {
		uint32_t old = policy_main_victim(t);

		if (old == k || old == TAB_NONE)
			return false;
		drop(t, old);
	}
	tab_slot_new(t, k);
	policy_main_in(t, k);
	t->chunks[k].freq = 0;
	return true;
}

void run_ours(const struct trace *tr, uint32_t cap, uint32_t ram, struct score *s)
{
	uint32_t hits = 0, writes = 0, from = tr->n / 10, slots = cap - ram;
	struct tab t;
	uint64_t t0;

	if (!tab_init(&t, slots, cap + cap / 2, ram + 64))
		abort();
	tab_maps_free(&t);
	tab_slots_free(&t);
	t0 = bench_ns();
	for (uint32_t i = 0; i < tr->n; i++) {
		uint32_t m = tab_map_find(&t, 1, tr->at[i]), k = m == TAB_NONE ? m : t.maps[m].chunk;

		if (k != TAB_NONE) {
			hits += i >= from;
			if (policy_hit(&t, k, 1) && t.chunks[k].slot == TAB_NONE)
				writes += admit(&t, k);
			if (!(t.chunks[k].flags & CH_IN_RAM)) {
				ram_room(&t, ram);
				policy_ram_in(&t, k);
			}
			continue;
		}
		ram_room(&t, ram);
		k = tab_chunk_new(&t);
		tab_map_add(&t, 1, tr->at[i], k);
		t.chunks[k].touched = 1;
		policy_ram_in(&t, k);
		if (t.slots_free || policy_ghost_take(&t, 1, tr->at[i]))
			writes += admit(&t, k);
	}
	s->ns = (double)(bench_ns() - t0) / tr->n;
	s->hit_ratio = (double)hits / (tr->n - from);
	s->ssd_writes = (double)writes / tr->n;
	tab_fini(&t);
}
