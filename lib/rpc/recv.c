/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in: from the stream to whole frames. The stream is read in large pieces into a staging
 * buffer; header, body and payload are taken from there, and the rest of a long part is received
 * straight to where it belongs. A length is checked (frame.c) before anything is done with it.
 *
 * Backpressure: between two frames the reading stops as long as the peer has more open than it may.
 */
#include "base/crc32c.h"
#include "base/err.h"
#include "base/metrics.h"
#include "rpc/impl.h"

static bool over_limit(const struct rpc_conn *c)
{
	return c->open_reqs > RPC_INFLIGHT_MAX || c->open_bytes > RPC_INFLIGHT_BYTES ||
	       c->backlog > RPC_BACKLOG_BYTES;
}

/* With some slack, so that a connection at its limit does not stop and go at every frame. */
static bool under_limit(const struct rpc_conn *c)
{
	return c->open_reqs <= RPC_INFLIGHT_MAX / 4 * 3 &&
	       c->open_bytes <= RPC_INFLIGHT_BYTES / 4 * 3 &&
	       c->backlog <= RPC_BACKLOG_BYTES / 4 * 3;
}

void rpc_rx_resume(struct rpc_conn *c)
{
	if (!c->paused || c->state == CONN_CLOSED || !under_limit(c))
		return;
	c->paused = false;
	env_conn_pause(c->io, false);
	env_defer(c->env, &c->rx_task); /* what is staged already makes no event */
}

static void rx_next(struct rx *rx)
{
	rx->part = RX_HEADER;
	rx->req = NULL;
	rx->slot = NULL;
	rx->body = NULL;
	rx->payload = NULL;
	rx->payload_made = 0;
	rx->dst = NULL;
	rx->fail = 0;
}

void rpc_rx_drop(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;

	if (rx->req)
		rpc_req_free(rx->req);
	rpc_pool_body_put(c->pool, rx->body, rx->body_cap);
	if (rx->payload_made)
		rpc_pool_payload_put(c->pool, rx->payload, rx->payload_made);
	rx_next(rx);
}

static void rx_want(struct rx *rx, enum rx_part part, void *dst, uint32_t n)
{
	rx->part = part;
	rx->dst = dst;
	rx->got = 0;
	rx->want = n;
}

/* ---- header ---- */

static int check_state(struct rpc_conn *c, const struct frame *f, struct hci_error *err)
{
	bool early = f->type == FRAME_HELLO || f->type == FRAME_GOODBYE;

	if (c->state != CONN_READY && !early)
		return err_set(err, HCI_E_PROTO, "sent a frame of type %u before its hello",
			       f->type);
	if (c->state == CONN_READY && f->type == FRAME_HELLO)
		return err_set(err, HCI_E_PROTO, "sent a second hello");
	if (!early && f->version != (uint8_t)c->version)
		return err_set(err, HCI_E_PROTO,
			       "sent a frame of protocol version %u, %u was agreed on", f->version,
			       c->version);
	return 0;
}

static int begin_reply(struct rpc_conn *c, const struct frame *f, struct hci_error *err)
{
	struct rx *rx = &c->rx;

	rx->slot = rpc_call_find(c, f->id);
	if (!rx->slot)
		return err_set(err, HCI_E_PROTO, "replied to request %llx, which is not open",
			       (unsigned long long)f->id);
	return 0;
}

/* Where the body goes. No memory for a reply's: that call fails, the connection goes on. */
static int begin_body(struct rpc_conn *c, const struct frame *f, struct hci_error *err)
{
	struct rx *rx = &c->rx;
	uint8_t *dst;

	if (f->type == FRAME_REQUEST) {
		rx->req = rpc_req_new(c, f);
		if (!rx->req)
			return err_set(err, HCI_E_NOMEM, "out of memory for its request");
		dst = rx->req->body;
	} else if (f->body_len && !(rx->slot && !rx->slot->call)) {
		rx->body = rpc_pool_body(c->pool, f->body_len, &rx->body_cap);
		if (!rx->body && f->type != FRAME_REPLY)
			return err_set(err, HCI_E_NOMEM, "out of memory for its frame");
		if (!rx->body)
			rx->fail = HCI_E_NOMEM;
		dst = rx->body;
	} else {
		dst = NULL;
	}
	rx_want(rx, RX_BODY, dst, f->body_len);
	return 0;
}

static bool take_header(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;
	struct hci_error err;
	int rc;

	if (over_limit(c)) {
		c->paused = true;
		env_conn_pause(c->io, true);
		return false;
	}
	if (rx->tail - rx->head < FRAME_HDR) {
		memmove(rx->stage, rx->stage + rx->head, rx->tail - rx->head);
		rx->tail -= rx->head;
		rx->head = 0;
		return false;
	}
	rc = rpc_frame_parse(rx->stage + rx->head, &rx->f, &err);
	rx->head += FRAME_HDR;
	if (!rc)
		rc = check_state(c, &rx->f, &err);
	if (!rc && rx->f.type == FRAME_REPLY)
		rc = begin_reply(c, &rx->f, &err);
	if (!rc)
		rc = begin_body(c, &rx->f, &err);
	if (rc)
		rpc_conn_fail(c, &err);
	return !rc;
}

/* ---- body, payload ---- */

/* Copies what is staged; true when the part is whole. */
static bool take_part(struct rx *rx)
{
	uint32_t n = MIN(rx->want - rx->got, rx->tail - rx->head);

	if (rx->dst && n)
		memcpy(rx->dst + rx->got, rx->stage + rx->head, n);
	rx->head += n;
	rx->got += n;
	if (rx->head == rx->tail)
		rx->head = rx->tail = 0;
	return rx->got == rx->want;
}

static void begin_request_payload(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;
	struct req *q = rx->req;

	if (!rx->f.payload_len || q->fail)
		return;
	q->pub.payload = rpc_pool_payload(c->pool, rx->f.payload_len);
	if (!q->pub.payload) {
		q->fail = HCI_E_NOMEM;
		return;
	}
	q->made = rx->f.payload_len;
	q->pub.payload_len = rx->f.payload_len;
	rx->dst = q->pub.payload;
}

void rpc_rx_reply_payload(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;
	struct rpc_call *call = rx->slot->call;
	uint32_t len = rx->f.payload_len;

	if (!call || !len || rx->fail)
		return;
	if (len > (call->reply_buf || call->reply_cap ? call->reply_cap : RPC_PAYLOAD_MAX)) {
		rx->fail = HCI_E_PROTO;
		return;
	}
	if (call->reply_buf) {
		rx->payload = call->reply_buf;
	} else {
		rx->payload = rpc_pool_payload(c->pool, len);
		if (!rx->payload)
			rx->fail = HCI_E_NOMEM;
		else
			rx->payload_made = len;
	}
	rx->dst = rx->payload;
}

static bool take_body(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;

	if (!take_part(rx))
		return false;
	if ((rx->dst || !rx->want) && crc32c(0, rx->dst, rx->want) != rx->f.body_crc) {
		rpc_conn_failf(c, HCI_E_PROTO, "sent a frame whose body fails its checksum");
		return false;
	}
	rx_want(rx, RX_PAYLOAD, NULL, rx->f.payload_len);
	if (rx->req)
		begin_request_payload(c);
	else if (rx->slot)
		rpc_rx_reply_payload(c);
	return true;
}

static bool take_payload(struct rpc_conn *c)
{
	struct rx *rx = &c->rx;
	struct req *q = rx->req;

	if (!take_part(rx))
		return false;
	if (q) {
		rx_next(rx);
		rpc_req_dispatch(q);
	} else if (rx->slot) {
		rpc_call_reply(c); /* takes what it needs, then rx_next by way of rpc_rx_drop */
	} else {
		rpc_conn_frame(c);
		rpc_rx_drop(c);
	}
	return c->state != CONN_CLOSED;
}

static bool rx_step(struct rpc_conn *c)
{
	switch (c->rx.part) {
	case RX_HEADER:
		return take_header(c);
	case RX_BODY:
		return take_body(c);
	default:
		return take_payload(c);
	}
}

/* ---- from the stream ---- */

static int64_t rx_recv(struct rpc_conn *c, uint32_t *asked)
{
	struct rx *rx = &c->rx;
	uint32_t missing = rx->want - rx->got;
	int64_t n;

	if (rx->part != RX_HEADER && rx->dst && missing >= RPC_DIRECT_MIN) {
		*asked = missing;
		n = env_conn_recv(c->io, rx->dst + rx->got, missing);
		if (n > 0)
			rx->got += (uint32_t)n;
		return n;
	}
	*asked = RPC_STAGE - rx->tail;
	n = env_conn_recv(c->io, rx->stage + rx->tail, *asked);
	if (n > 0)
		rx->tail += (uint32_t)n;
	return n;
}

static void rx_ended(struct rpc_conn *c)
{
	const struct rx *rx = &c->rx;
	struct hci_error err;

	if (rx->part != RX_HEADER || rx->head != rx->tail)
		err_set(&err, HCI_E_CLOSED, "closed by the peer in the middle of a frame");
	else if (c->state != CONN_READY && !c->inbound && c->rpc && !c->rpc->o.tls)
		/* OpenSSL ends a connection that does not begin with a TLS record without an alert. */
		err_set(&err, HCI_E_CLOSED, "closed by the peer before its hello: if it wants TLS, open the cluster with the files "
					    "of the CA, a certificate and its key");
	else
		err_set(&err, HCI_E_CLOSED, "closed by the peer");
	rpc_conn_lost(c, &err);
}

void rpc_rx_run(struct rpc_conn *c)
{
	uint64_t turn = 0;
	uint32_t asked;
	int64_t n;

	rpc_conn_ref(c);
	while (c->state != CONN_CLOSED && !c->paused) {
		while (rx_step(c))
			;
		if (c->state == CONN_CLOSED || c->paused || turn >= RPC_TURN_BYTES)
			break;
		n = rx_recv(c, &asked);
		if (n == 0)
			rx_ended(c);
		if (n <= 0)
			break; /* nothing there, or on_closed follows */
		c->rx_seen = true;
		metric_add(c->rpc->m_rx, (uint64_t)n);
		turn += (uint64_t)n;
	}
	rpc_conn_unref(c);
}
