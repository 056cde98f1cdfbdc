/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users before copies. (The scrub is the disk's own and makes way for both by itself: scrub.c.) A disk takes what it is given: a queue of large copies in it is a queue that each
 * small request of a user stands behind. So of those that come second only a few are let through at a time as long as
 * users have requests, more when they have none; what waits, waits here. A few always go, so nothing waits for ever.
 *
 * Requests of users pass by what waits. That changes the order of two requests for the same blocks only if the
 * writer has both open, which it never has: it copies under a lock on the range, and a replica whose answer to a copy it
 * did not get is opened anew first, which makes void what is still waiting (op_stale).
 */
#include "replica/lane.h"

#include "base/mem.h"

#define RECENT (20 * NS_PER_MS) /* users count as there for so long after their last request */

struct lane {
	struct env *e;
	struct list waiting; /* copies */
	uint32_t users, others; /* at the disk */
	uint32_t busy;
	uint64_t last_user;
	struct env_timer timer;
	bool closed;
};

static uint32_t limit(const struct lane *l)
{
	return l->users || env_now(l->e) < l->last_user + RECENT ? l->busy : LANE_IDLE;
}

static void kick(struct lane *l)
{
	struct list *n;

	while (l->others < limit(l) && (n = list_pop(&l->waiting))) {
		l->others++;
		list_entry(n, struct lane_item, link)->go(list_entry(n, struct lane_item, link));
	}
	/* Users may be gone in a moment: then more. */
	if (!list_empty(&l->waiting) && !env_timer_armed(&l->timer))
		env_timer_arm(l->e, &l->timer, env_now(l->e) + RECENT);
}

static void timer_fn(struct env_timer *t)
{
	kick(container_of(t, struct lane, timer));
}

uint32_t lane_share(const struct lane *l)
{
	return l->busy;
}

struct lane *lane_new(struct env *e, uint32_t busy)
{
	struct lane *l = MEM_NEW(struct lane);

	if (!l)
		return NULL;
	l->e = e;
	l->busy = busy ? busy : LANE_BUSY;
	list_init(&l->waiting);
	env_timer_init(&l->timer, timer_fn);
	return l;
}

static void maybe_free(struct lane *l)
{
	if (l->closed && !l->users && !l->others)
		mem_free(l);
}

void lane_close(struct lane *l)
{
	struct list *n;

	if (!l)
		return;
	env_timer_disarm(l->e, &l->timer);
	while ((n = list_pop(&l->waiting)))
		list_entry(n, struct lane_item, link)->refuse(list_entry(n, struct lane_item, link));
	l->closed = true;
	maybe_free(l);
}

void lane_submit(struct lane *l, struct lane_item *x)
{
	x->lane = l;
	if (x->class_ == LANE_USER) {
		l->users++;
		l->last_user = env_now(l->e);
		x->go(x);
		return;
	}
	list_init(&x->link);
	list_push(&l->waiting, &x->link);
	kick(l);
}

void lane_end(struct lane_item *x)
{
	struct lane *l = x->lane;

	if (x->class_ == LANE_USER) {
		l->users--;
		l->last_user = env_now(l->e);
	} else {
		l->others--;
	}
	if (l->closed)
		maybe_free(l);
	else if (!list_empty(&l->waiting))
		kick(l);
}
