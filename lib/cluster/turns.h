/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is: so many at a time, in order of their coming, and what each of them may have of a common limit. Of one loop. */
#ifndef CLUSTER_TURNS_H
#define CLUSTER_TURNS_H

#include "base/base.h"
#include "base/list.h"
#include "env/fiber.h"

struct turns {
	struct env *e;
	/* At this moment; both may change while some wait or run. */
	uint32_t (*at_a_time)(void *arg);
	void *arg;
	uint32_t running, resting; /* resting: of those that run */
	struct list waiting;
	struct fiber_cond left;
};

void turns_init(struct turns *t, struct env *e, uint32_t (*at_a_time)(void *arg), void *arg);
/* From a fiber: parks until it is the caller's turn. False: wants_out said so first, and it has none. Called five times a second. */
bool turns_begin(struct turns *t, bool (*wants_out)(void *arg), void *arg);
void turns_end(struct turns *t);
/* One that runs waits for something else, and leaves its share to the others; false: it is over. */
void turns_rest(struct turns *t, bool rests);
/* What each that runs, and does not rest, may have of a total, now; 0: no limit. */
uint64_t turns_share(const struct turns *t, uint64_t total);

#endif
