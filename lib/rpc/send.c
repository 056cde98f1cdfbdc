/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes out. Frames of all kinds stand in one queue; what gathers in a turn of the loop goes to the
 * stream as few, large vectors. Bodies and payloads are lent until the stream took them.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

void rpc_out_frame(struct out *o, enum out_kind kind, const struct frame *f, const void *body,
		   const void *payload)
{
	struct frame g = *f;

	g.body_crc = crc32c(0, body, g.body_len);
	rpc_frame_encode(&g, o->hdr);
	o->kind = kind;
	o->body = body;
	o->body_len = g.body_len;
	o->payload = payload;
	o->payload_len = g.payload_len;
}

void rpc_out_push(struct rpc_conn *c, struct out *o)
{
	if (list_empty(&c->outq))
		c->tx_seen = true;
	o->queued = true;
	list_push(&c->outq, &o->link);
	if (!c->blocked)
		env_defer(c->env, &c->flush_task);
}

bool rpc_out_remove(struct rpc_conn *c, struct out *o)
{
	if (c->out_off && c->outq.next == &o->link)
		return false;
	list_del(&o->link);
	o->queued = false;
	return true;
}

static int add(struct iovec *iov, int n, const void *p, uint32_t len, uint32_t *skip)
{
	uint32_t s = MIN(*skip, len);

	*skip -= s;
	if (s == len)
		return n;
	iov[n].iov_base = (char *)(uintptr_t)p + s;
	iov[n].iov_len = len - s;
	return n + 1;
}

/* As many frames as the vector holds; *total: their bytes that are not sent yet. */
static int gather(struct rpc_conn *c, struct iovec iov[RPC_SEND_IOV], uint64_t *total)
{
	uint32_t skip = c->out_off;
	struct out *o;
	int n = 0;

	*total = 0;
	list_for_each(o, &c->outq, link) {
		if (n + 3 > RPC_SEND_IOV)
			break;
		*total += out_bytes(o) - skip;
		n = add(iov, n, o->hdr, FRAME_HDR, &skip);
		n = add(iov, n, o->body, o->body_len, &skip);
		n = add(iov, n, o->payload, o->payload_len, &skip);
	}
	return n;
}

/* Moves the frames that are sent whole from the queue to sent. No callback in here: one could take
 * frames from the queue that the stream has got already. */
static void take_sent(struct rpc_conn *c, uint64_t n, struct list *sent)
{
	while (n) {
		struct out *o = list_first(&c->outq, struct out, link);
		uint32_t left = out_bytes(o) - c->out_off;

		if (n < left) {
			c->out_off += (uint32_t)n;
			return;
		}
		n -= left;
		c->out_off = 0;
		list_del(&o->link);
		o->queued = false;
		list_push(sent, &o->link);
		if (o->kind == OUT_CALL)
			container_of(o, struct rpc_slot, out)->state = SLOT_SENT;
	}
}

static void finish_sent(struct list *sent, struct rpc_conn *c)
{
	struct list *l;

	while ((l = list_pop(sent))) {
		struct out *o = list_entry(l, struct out, link);

		if (o->kind == OUT_REPLY) {
			rpc_req_sent(container_of(o, struct req, out));
		} else if (o->kind == OUT_CALL) {
			struct rpc_slot *s = container_of(o, struct rpc_slot, out);

			mem_free(s->owned);
			s->owned = NULL;
		} else if (o == &c->pong && c->pong_due && c->state != CONN_CLOSED) {
			struct frame f = { .type = FRAME_PONG,
					   .version = (uint8_t)c->version,
					   .id = c->pong_id };

			c->pong_due = false;
			rpc_out_frame(&c->pong, OUT_CTRL, &f, NULL, NULL);
			rpc_out_push(c, &c->pong);
		}
	}
}

void rpc_out_flush(struct rpc_conn *c)
{
	struct iovec iov[RPC_SEND_IOV];
	struct list sent;
	uint64_t total;
	int64_t n;

	if (c->loop) {
		rpc_loop_flush(c);
		return;
	}
	rpc_conn_ref(c);
	while (c->state != CONN_CLOSED && !list_empty(&c->outq)) {
		int niov = gather(c, iov, &total);

		n = env_conn_send(c->io, iov, niov);
		if (n == HCI_E_AGAIN) {
			c->blocked = true;
			break;
		}
		if (n <= 0)
			break; /* on_closed follows */
		c->tx_seen = true;
		metric_add(c->rpc->m_tx, (uint64_t)n);
		list_init(&sent);
		take_sent(c, (uint64_t)n, &sent);
		finish_sent(&sent, c);
	}
	rpc_conn_unref(c);
}
