/* SPDX-License-Identifier: Apache-2.0 */
/* Does a migration come nearer to its end? From what QEMU tells of its passes over the memory. */
#include "compute/compute.h"

void converge_look(struct converge *c, uint64_t pass, uint64_t remaining)
{
	/* In the first pass all is left: what the guest changed meanwhile is what the second one begins with. */
	if (pass < 2 || pass == c->pass)
		return;
	/* A tenth less is not worth another pass: the guest does not hold still either. */
	if (c->pass >= 2)
		c->vain = pass > c->pass && remaining >= c->dirty - c->dirty / 10 ? c->vain + 1 : 0;
	c->pass = pass;
	c->dirty = remaining;
}
