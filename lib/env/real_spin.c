/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop looks for work for some microseconds before it sleeps (base/spin.h). Others that could run
 * on the processor are let through each time round.
 */
#include <sched.h>
#include <sys/epoll.h>

#include "env/real_impl.h"

static bool something_to_do(struct real *r)
{
	return atomic_load_explicit(&r->posted, memory_order_relaxed) || aio_pending(r) ||
	       atomic_load_explicit(&r->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&r->drive.want, memory_order_relaxed);
}

bool spin_look(struct real *r, struct epoll_event *ev, int nev, uint64_t now, uint64_t until, int *n)
{
	uint64_t end = MIN(until, now + r->spin.ns), then;

	*n = 0;
	if (!r->spin.ns)
		return false;
	do {
		if (something_to_do(r))
			return true;
		*n = epoll_wait(r->epfd, ev, nev, 0);
		if (*n)
			return true;
		then = now;
		sched_yield();
		now = real_clock();
	} while (spin_goes_on(&r->spin, then, now) && now < end);
	return something_to_do(r);
}
