/* SPDX-License-Identifier: Apache-2.0 */
/* Requests we got: from the whole frame to the handler, and the reply back. */
#include <stdio.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

#define LOG_SUB "rpc"

#define MESSAGE_MAX 400u

struct req *rpc_req_new(struct rpc_conn *c, const struct frame *f)
{
	struct req *q = rpc_pool_obj(c->pool);

	if (!q)
		return NULL;
	memset(q, 0, offsetof(struct req, small));
	q->body = q->small;
	q->body_cap = sizeof(q->small);
	q->cost = f->body_len + f->payload_len;
	q->pub.conn = rpc_conn_ref(c);
	q->pub.method = f->method;
	q->pub.id = f->id;
	c->open_reqs++;
	c->open_bytes += q->cost;
	if (f->body_len > sizeof(q->small)) {
		q->body = mem_alloc(f->body_len);
		q->body_cap = f->body_len;
		if (!q->body)
			q->fail = HCI_E_NOMEM;
	}
	if (q->body)
		q->pub.args = rd_init(q->body, f->body_len);
	return q;
}

static void payload_free(struct req *q)
{
	if (q->made)
		rpc_pool_payload_put(q->pub.conn->pool, q->pub.payload, q->made);
	q->made = 0;
	q->pub.payload = NULL;
}

void rpc_req_free(struct req *q)
{
	struct rpc_conn *c = q->pub.conn;

	payload_free(q);
	if (q->body != q->small)
		mem_free(q->body);
	c->open_reqs--;
	c->open_bytes -= q->cost;
	rpc_pool_obj_put(c->pool, q);
	rpc_rx_resume(c);
	rpc_conn_unref(c);
}

void rpc_req_sent(struct req *q)
{
	q->pub.conn->backlog -= out_bytes(&q->out);
	if (q->release)
		q->release(q->arg);
	rpc_req_free(q);
}

void rpc_req_dispatch(struct req *q)
{
	struct rpc_conn *c = q->pub.conn;
	const struct rpc_method_entry *m = rpc_method(c->rpc, q->pub.method);
	char text[96];

	metric_add(c->rpc->m_requests, 1);
	if (q->fail) {
		rpc_reply(&q->pub, q->fail, "out of memory for the request", NULL, NULL, 0, NULL,
			  NULL);
	} else if (!m) {
		snprintf(text, sizeof(text), "request 0x%03x is not known here: upgrade this node",
			 q->pub.method);
		rpc_reply(&q->pub, HCI_E_UNSUPPORTED, text, NULL, NULL, 0, NULL, NULL);
	} else {
		m->fn(m->arg, &q->pub);
	}
}

/* ---- the reply's body: with a failure a text stands before the handler's own ---- */

static bool body_room(struct req *q, uint32_t need, uint8_t **old)
{
	*old = NULL;
	if (need <= q->body_cap && q->body)
		return true;
	if (q->body != q->small)
		*old = q->body; /* freed after the copy, which may be from there */
	q->body = mem_alloc(need);
	q->body_cap = need;
	return q->body;
}

static size_t put_text(uint8_t *p, const char *s, size_t n)
{
	p[0] = 0xda; /* msgpack str 16 */
	p[1] = (uint8_t)(n >> 8);
	p[2] = (uint8_t)n;
	memcpy(p + 3, s, n);
	return n + 3;
}

/* Bytes of the body, or negative when memory ran out. */
static int64_t build_body(struct req *q, int status, const char *message, const struct buf *body)
{
	size_t text = status && message ? strnlen(message, MESSAGE_MAX) : 0;
	size_t head = status ? text + 3 : 0, len = body ? body->len : 0;
	uint8_t *old;

	if (!body_room(q, (uint32_t)(head + len), &old)) {
		mem_free(old);
		return HCI_E_NOMEM;
	}
	if (len)
		memmove(q->body + head, body->data, len);
	if (head)
		put_text(q->body, message ? message : "", text);
	mem_free(old);
	return (int64_t)(head + len);
}

static void send_reply(struct req *q, int status, uint32_t body_len, const void *payload,
		       uint32_t payload_len)
{
	struct rpc_conn *c = q->pub.conn;
	struct frame f = {
		.type = FRAME_REPLY,
		.version = (uint8_t)c->version,
		.method = q->pub.method,
		.status = status,
		.id = q->pub.id,
		.body_len = body_len,
		.payload_len = payload_len,
	};

	rpc_out_frame(&q->out, OUT_REPLY, &f, q->body, payload);
	c->backlog += out_bytes(&q->out);
	rpc_out_push(c, &q->out);
}

static bool is_own(const struct req *q, const void *payload)
{
	const char *p = payload, *mine = q->pub.payload;

	return q->made && p >= mine && p < mine + q->made;
}

/* What a handler may not do is answered in its place, and logged. */
static int check_reply(struct rpc_conn *c, struct req *q, int status, const struct buf *body,
		       uint32_t payload_len)
{
	if (status > 0 || status < FRAME_STATUS_MIN ||
	    (body && (body->failed || body->len > RPC_BODY_MAX - MESSAGE_MAX - 3)) ||
	    payload_len > RPC_PAYLOAD_MAX) {
		log_error(env_log(c->env),
			  "request 0x%03x: its reply is not sent: status %d, %zu bytes of body, %u "
			  "of payload",
			  q->pub.method, status, body ? body->len : 0, payload_len);
		return body && body->failed ? HCI_E_NOMEM : HCI_E_INTERNAL;
	}
	return 0;
}

void rpc_reply(struct rpc_req *req, int status, const char *message, const struct buf *body,
	       const void *payload, uint32_t payload_len, void (*release)(void *arg), void *arg)
{
	struct req *q = container_of(req, struct req, pub);
	struct rpc_conn *c = req->conn;
	int64_t len;
	int bad;

	if (q->replied) {
		log_error(env_log(c->env), "request 0x%03x was replied to twice", req->method);
		return;
	}
	q->replied = true;
	q->release = release;
	q->arg = arg;
	bad = check_reply(c, q, status, body, payload_len);
	if (bad) {
		status = bad;
		message = "the reply could not be made: see the log of the node";
		body = NULL;
		payload_len = 0;
	}
	if (!payload_len || !is_own(q, payload))
		payload_free(q);
	len = c->state == CONN_CLOSED ? 0 : build_body(q, status, message, body);
	if (len < 0)
		rpc_conn_failf(c, HCI_E_NOMEM, "out of memory for a reply");
	if (c->state == CONN_CLOSED) {
		c->backlog += out_bytes(&q->out); /* which rpc_req_sent takes off */
		rpc_req_sent(q);
		return;
	}
	send_reply(q, status, (uint32_t)len, payload, payload_len);
}
