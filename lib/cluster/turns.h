/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is: so many at a time, in order of their coming, and what each of them may have of a common limit. Each goes somewhere, by
 * name, and may find on its turn that there is no room: then it gives the turn back, keeps its place in the order, and tries again after a
 * while. Those that go elsewhere do not wait for it; those behind it that want to go there, too, do. Of one loop.
 */
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
	struct list order;         /* struct turn, those that run as well */
	struct fiber_cond left;
};

struct turn {
	struct list link;
	const char *to;  /* the caller's, as long as the turn */
	bool runs;
	bool refused;    /* the last time; it tries again from then on: */
	uint64_t again_at;
};

void turns_init(struct turns *t, struct env *e, uint32_t (*at_a_time)(void *arg), void *arg);
/*
 * From a fiber: parks until it is the turn of x, whose to is set. False: wants_out said so first, and it has none. That is called five times a
 * second; there: it waits because there is no room where it goes, or others that were refused go before it.
 */
bool turns_begin(struct turns *t, struct turn *x, bool (*wants_out)(void *arg, bool there), void *arg);
/* There is no room: parks until it is its turn again. Likewise. */
bool turns_refused(struct turns *t, struct turn *x, bool (*wants_out)(void *arg, bool there), void *arg);
/* There was room; it runs on. */
void turns_taken(struct turns *t, struct turn *x);
/* Of one that runs. */
void turns_end(struct turns *t, struct turn *x);
/* One that runs waits for something else, and leaves its share to the others; false: it is over. */
void turns_rest(struct turns *t, bool rests);
/* What each that runs, and does not rest, may have of a total, now; 0: no limit. */
uint64_t turns_share(const struct turns *t, uint64_t total);

#endif
