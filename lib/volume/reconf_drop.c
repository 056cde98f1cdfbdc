/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving back the space of copies that went. Sent on behalf of the disk's present opening, so that however late it comes
 * it does not touch what a later opening wrote; only once no request of ours for the segment is under way there, and
 * nothing is copied to it meanwhile. The volume's slot on the disk stays, and with it the generation that keeps older
 * writers out: one that slept through the move must not find a disk that knows nothing of newer ones.
 */
#include "volume/reconf.h"

#include "base/mem.h"

#define DROP_TIMEOUT (60 * NS_PER_S)

struct drop {
	struct list link;
	struct rpc_call call;
	struct rpc_conn *conn; /* NULL: not sent yet */
	struct leg *leg;
	uint32_t segment;
};

void reconf_drop_later(struct reconf *r, uint32_t segment, struct leg *l)
{
	struct drop *d = MEM_NEW(struct drop);

	if (!d)
		return; /* the space stays taken until the disk is looked over */
	d->leg = l;
	d->segment = segment;
	r->v->st.dropping++;
	list_push(&r->drops, &d->link);
}

static bool in_use(struct vol *v, const struct drop *d)
{
	const struct leg_op *op;

	if (v->segs[d->segment].users)
		return true;
	list_for_each(op, &d->leg->ops, link)
		if (op->piece->segment == d->segment)
			return true;
	return false;
}

static void drop_free(struct drop *d)
{
	d->leg->v->st.dropping--;
	list_del(&d->link);
	rpc_conn_unref(d->conn);
	mem_free(d);
}

static void drop_done(struct rpc_call *c)
{
	struct drop *d = container_of(c, struct drop, call);
	struct leg *l = d->leg;
	struct vol *v = l->v;

	v->segs[d->segment].dropping--;
	if (c->status)
		log_info(env_log(v->e), "volume %s: segment %u still takes space on a disk of node %s: %s", v->rec.name,
			 d->segment, l->node, c->err.message);
	/* It may still come about there: not after the next opening. */
	if (c->status == HCI_E_TIMEOUT && l->conn == d->conn)
		leg_fail(l, c->status, "no answer to a drop");
	rpc_call_free(c);
	drop_free(d);
	vol_fiber_end(v);
}

/* A copy may have been made there again: then it is not to be dropped any more. A disk that is away is left alone. */
void reconf_drops_run(struct reconf *r)
{
	struct vol *v = r->v;
	struct drop *d, *tmp;

	list_for_each_safe(d, tmp, &r->drops, link) {
		if (d->conn)
			continue;
		if (d->leg->state != LEG_UP || map_pos(v, &v->segs[d->segment], &d->leg->disk) >= 0) {
			drop_free(d);
			continue;
		}
		if (in_use(v, d))
			continue;
		d->conn = rpc_conn_ref(d->leg->conn);
		d->call.method = REPL_RPC_DROP;
		d->call.timeout_ns = DROP_TIMEOUT;
		d->call.done = drop_done;
		pk_map(&d->call.body, 2);
		pk_kv_u64(&d->call.body, "handle", d->leg->handle);
		pk_kv_u64(&d->call.body, "segment", d->segment);
		v->segs[d->segment].dropping++;
		v->fibers++; /* the volume's end waits for it */
		rpc_submit(d->conn, &d->call);
	}
}

void reconf_drops_end(struct reconf *r)
{
	struct drop *d, *tmp;

	list_for_each_safe(d, tmp, &r->drops, link)
		if (d->conn)
			rpc_cancel(d->conn, &d->call);
		else
			drop_free(d);
}
