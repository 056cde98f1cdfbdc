/* SPDX-License-Identifier: Apache-2.0 */
/* See sets.h. */
#include "compute/memstream/sets.h"

#include "base/mem.h"

bool sets_init(struct sets *s, uint64_t n)
{
	s->groups = MAX(n / SETS_WAYS, (uint64_t)1);
	for (unsigned i = 0; i < SETS_LOCKS; i++)
		pthread_mutex_init(&s->lock[i], NULL);
	s->hash = mem_calloc(sets_slots(s), sizeof(*s->hash));
	s->next = mem_calloc(s->groups, 1);
	return s->hash && s->next;
}

void sets_free(struct sets *s)
{
	for (unsigned i = 0; i < SETS_LOCKS; i++)
		pthread_mutex_destroy(&s->lock[i]);
	mem_free(s->hash);
	mem_free(s->next);
}

int64_t sets_find(const struct sets *s, uint64_t group, uint64_t quick)
{
	for (unsigned i = 0; i < SETS_WAYS; i++)
		if (s->hash[group * SETS_WAYS + i] == quick)
			return (int64_t)(group * SETS_WAYS + i);
	return -1;
}

uint64_t sets_add(struct sets *s, uint64_t group, uint64_t quick)
{
	uint64_t slot = group * SETS_WAYS + s->next[group];

	s->next[group] = (uint8_t)((s->next[group] + 1) % SETS_WAYS);
	s->hash[slot] = quick;
	return slot;
}
