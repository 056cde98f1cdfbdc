/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order among overlapping writes. A write that is not aligned reads a block, patches it and writes
 * it back: another write to that block in between would be lost. So of two writes that touch a
 * common block, one of them unaligned, the later waits for the earlier. Aligned writes never wait
 * for each other: overlapping ones are the client's own race.
 *
 * Each newcomer counts once whom it has to wait for; a write that ends takes itself off the counts
 * of those behind it. Both cost one pass over the writes under way, and none at all while every
 * write is aligned.
 */
#include "export/nbd_internal.h"

static bool conflict(const struct nbd_req *r, const struct nbd_req *o)
{
	return (r->rmw || o->rmw) && r->a < o->b && o->a < r->b;
}

bool nbd_range_enter(struct nbd_export *x, struct nbd_req *r)
{
	struct nbd_req *o;

	r->blockers = 0;
	if (r->rmw || x->nrmw) {
		list_for_each(o, &x->ranges, range)
			r->blockers += conflict(r, o);
	}
	list_push(&x->ranges, &r->range);
	x->nrmw += r->rmw;
	x->nwait += r->blockers != 0;
	return r->blockers == 0;
}

void nbd_range_leave(struct nbd_export *x, struct nbd_req *r)
{
	struct list ready, *n;
	struct nbd_req *o;

	list_init(&ready);
	x->nwait -= r->blockers != 0; /* given up while it waited */
	/* Whoever stands behind r and conflicts with it has counted it. */
	for (n = r->range.next; x->nwait && n != &x->ranges; n = n->next) {
		o = list_entry(n, struct nbd_req, range);
		if (!conflict(r, o) || --o->blockers)
			continue;
		x->nwait--;
		list_push(&ready, &o->out);
	}
	list_del(&r->range);
	x->nrmw -= r->rmw;
	/* They start after the list is in order again; starting may refuse, answer and so leave. */
	while ((n = list_pop(&ready)))
		nbd_exec_restart(list_entry(n, struct nbd_req, out));
}
