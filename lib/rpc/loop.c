/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection of a node with itself: frames go from the queue of outgoing ones straight to where
 * received ones go, with no socket, TLS or system call. All else is as on any connection: slots,
 * timeouts, cancelling, replies that come late.
 *
 * Payloads are copied once, into a buffer of the request or of the call. That is what makes a cancelled
 * call safe: its buffers are its owner's again at once, while a disk may still be at work on ours.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

#define FRAMES_TURN 256 /* delivered before others have their turn */

static void take_call(struct rpc_conn *c, struct out *o, const struct frame *f)
{
	struct rpc_slot *s = container_of(o, struct rpc_slot, out);
	struct req *q = rpc_req_new(c, f);

	if (!q) {
		rpc_conn_failf(c, HCI_E_NOMEM, "out of memory for a request");
		return;
	}
	if (!q->fail && f->body_len)
		memcpy(q->body, o->body, f->body_len);
	if (!q->fail && f->payload_len) {
		q->pub.payload = rpc_pool_payload(c->pool, f->payload_len);
		if (q->pub.payload) {
			memcpy(q->pub.payload, o->payload, f->payload_len);
			q->made = q->pub.payload_len = f->payload_len;
		} else {
			q->fail = HCI_E_NOMEM;
		}
	}
	s->state = SLOT_SENT;
	rpc_req_dispatch(q);
}

static void take_reply(struct rpc_conn *c, struct out *o, const struct frame *f)
{
	struct rx *rx = &c->rx;

	rx->f = *f;
	rx->slot = rpc_call_find(c, f->id);
	if (rx->slot && rx->slot->call && f->body_len) {
		rx->body = rpc_pool_body(c->pool, f->body_len, &rx->body_cap);
		if (rx->body)
			memcpy(rx->body, o->body, f->body_len);
		else
			rx->fail = HCI_E_NOMEM;
	}
	if (rx->slot)
		rpc_rx_reply_payload(c);
	if (rx->dst && f->payload_len)
		memcpy(rx->dst, o->payload, f->payload_len);
	rpc_req_sent(container_of(o, struct req, out));
	if (rx->slot)
		rpc_call_reply(c);
	else
		rpc_rx_drop(c);
}

void rpc_loop_flush(struct rpc_conn *c)
{
	struct hci_error err;
	struct frame f;

	rpc_conn_ref(c);
	for (int i = 0; i < FRAMES_TURN && c->state != CONN_CLOSED && !list_empty(&c->outq); i++) {
		struct out *o = list_entry(list_pop(&c->outq), struct out, link);

		o->queued = false;
		if (rpc_frame_parse(o->hdr, &f, &err)) { /* a limit that the sender did not keep */
			if (o->kind == OUT_REPLY)
				rpc_req_sent(container_of(o, struct req, out));
			rpc_conn_fail(c, &err);
		} else if (o->kind == OUT_CALL) {
			take_call(c, o, &f);
		} else {
			take_reply(c, o, &f);
		}
	}
	if (c->state != CONN_CLOSED && !list_empty(&c->outq))
		env_defer(c->env, &c->flush_task);
	rpc_conn_unref(c);
}

bool rpc_is_self(const struct rpc *r, const char *node)
{
	return r->node_name[0] && !strcmp(r->node_name, node) && !list_empty(&r->listeners);
}

struct rpc_conn *rpc_loop_connect(struct rpc *r, struct hci_error *err)
{
	struct rpc_conn *c;

	if (r->closing) {
		err_set(err, HCI_E_CLOSED, "connecting to ourselves: this end is shutting down");
		return NULL;
	}
	c = rpc_conn_new(r, "itself");
	if (!c) {
		err_set(err, HCI_E_NOMEM, "connecting to ourselves: out of memory");
		return NULL;
	}
	env_timer_disarm(c->env, &c->timer);
	c->loop = true;
	snprintf(c->peer, sizeof(c->peer), "%s", r->node_name);
	c->features = r->o.features;
	c->state = CONN_READY;
	c->was_ready = true;
	c->ready_at = env_now(c->env);
	metric_add(r->m_conns, 1);
	return c;
}
