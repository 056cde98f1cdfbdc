/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to look for work before sleeping. A processor that halts takes tens of microseconds to
 * come back, more in a virtual machine, and a request meets several threads on its way: that is most
 * of the latency of a fast disk.
 *
 * It adapts as the kernel's KVM halt polling does (Documentation/virt/kvm/halt-polling): a sleep that
 * was shorter than the longest look says that looking longer would have paid, a longer one that it would
 * not. So who is idle does not look at all, nor does who waits for something slow.
 */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdint.h>

#define SPIN_FIRST_NS 10000u

struct spin {
	uint64_t max, ns; /* at most, and at present */
};

/* After a sleep of so long that began when looking was in vain. */
static inline void spin_slept(struct spin *s, uint64_t slept_ns)
{
	if (slept_ns < s->max)
		s->ns = s->ns < SPIN_FIRST_NS ? SPIN_FIRST_NS : s->ns * 2;
	else
		s->ns /= 2;
	if (s->ns > s->max)
		s->ns = s->max;
	if (s->ns < SPIN_FIRST_NS)
		s->ns = 0;
}

#endif
