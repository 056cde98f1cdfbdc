/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to look for work before sleeping. A processor that halts takes tens of microseconds to
 * come back, more in a virtual machine, and a request meets several threads on its way: that is most
 * of the latency of a fast disk.
 *
 * It adapts as the kernel's KVM halt polling does (Documentation/virt/kvm/halt-polling): a sleep that
 * was shorter than the longest look says that looking longer would have paid, a longer one that it would
 * not. So who is idle does not look at all, nor does who waits for something slow.
 *
 * Who looks yields the processor each time round. When others are busy on it, they keep it for a whole slice,
 * some milliseconds, while a sleeper that is woken would get it sooner: one such loss ends the looking for a
 * while, for twice as long when it happens again.
 */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_FIRST_NS 10000u
#define SPIN_LOST_NS 1000000u /* away for longer than this: somebody else had the processor */
#define SPIN_BAN_MIN_NS 16000000u
#define SPIN_BAN_MAX_NS 1000000000u

struct spin {
	uint64_t max, ns; /* at most, and at present */
	uint64_t ban, banned_until;
};

/* After a sleep until now, of so long, that began when looking was in vain. */
static inline void spin_slept(struct spin *s, uint64_t now, uint64_t slept_ns)
{
	if (now < s->banned_until)
		return;
	if (slept_ns < s->max)
		s->ns = s->ns < SPIN_FIRST_NS ? SPIN_FIRST_NS : s->ns * 2;
	else
		s->ns /= 2;
	if (s->ns > s->max)
		s->ns = s->max;
	if (s->ns < SPIN_FIRST_NS)
		s->ns = 0;
}

/* After one time round, from then to now. False: the looking is over. */
static inline bool spin_goes_on(struct spin *s, uint64_t then, uint64_t now)
{
	if (now - then < SPIN_LOST_NS)
		return true;
	/* Long ago since the last time: begin with a short ban. */
	if (!s->ban || now > s->banned_until + SPIN_BAN_MAX_NS)
		s->ban = SPIN_BAN_MIN_NS;
	else if (s->ban < SPIN_BAN_MAX_NS)
		s->ban *= 2;
	s->banned_until = now + s->ban;
	s->ns = 0;
	return false;
}

#endif
