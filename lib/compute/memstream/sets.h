/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of pages in groups of eight: a hash belongs to one group, and takes the place of the group's oldest. No chains, no
 * list of ages, the same small work for each page; a group's lock is shared with some others. What goes with a hash its
 * owner keeps in arrays of its own, by slot.
 */
#ifndef MEMSTREAM_SETS_H
#define MEMSTREAM_SETS_H

#include <pthread.h>

#include "base/base.h"

#define SETS_WAYS 8u
#define SETS_LOCKS 64u

struct sets {
	uint64_t groups;
	uint64_t *hash; /* groups of SETS_WAYS; 0: free */
	uint8_t *next;  /* of each group: whose turn to go */
	pthread_mutex_t lock[SETS_LOCKS];
};

bool sets_init(struct sets *s, uint64_t n); /* false: no memory; free it all the same */
void sets_free(struct sets *s);

static inline uint64_t sets_slots(const struct sets *s)
{
	return s->groups * SETS_WAYS;
}

static inline uint64_t sets_group(const struct sets *s, uint64_t quick)
{
	return (uint64_t)((unsigned __int128)quick * s->groups >> 64);
}

static inline pthread_mutex_t *sets_lock(struct sets *s, uint64_t group)
{
	return &s->lock[group % SETS_LOCKS];
}

/* With the group's lock, both. find: the slot, or -1. add, of what is not there: the slot it gets. */
int64_t sets_find(const struct sets *s, uint64_t group, uint64_t quick);
uint64_t sets_add(struct sets *s, uint64_t group, uint64_t quick);

#endif
