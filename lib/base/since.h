/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For how long something is so, when what follows from it must not come early because somebody set the clock. Since when is
 * recorded by the wall clock, which a process can only believe for the time before it was there; from the moment on at which it
 * sees the thing it counts by its own. And what it believes it does not believe to the end: a clock that was stepped while nobody
 * looked leaves at least a grace by the one that cannot be.
 */
#ifndef BASE_SINCE_H
#define BASE_SINCE_H

#include "base/base.h"

struct since {
	uint64_t seen;   /* by the monotonic clock */
	uint64_t before; /* so long it had been so then, by the wall clock */
};

/* began: by the wall clock, 0: just now. */
static inline void since_seen(struct since *s, uint64_t now, uint64_t wall, uint64_t began)
{
	s->seen = now;
	s->before = began && wall > began ? wall - began : 0;
}

/* grace: at least so long, or a quarter of the limit when that is less, has passed since it was seen. */
static inline bool since_over(const struct since *s, uint64_t now, uint64_t limit, uint64_t grace)
{
	uint64_t left = limit - MIN(s->before, limit - MIN(grace, limit / 4));

	return now >= s->seen && now - s->seen >= left;
}

#endif
