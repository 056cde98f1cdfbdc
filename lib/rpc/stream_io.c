/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of a stream. A message is a request with a payload; its answer comes when the other end's user
 * has taken it, and is what gives the credit back. So what is under way is bounded by the window, the buffers are
 * lent and not copied, and the end of the connection completes each message once, as it does any request.
 */
#include "base/err.h"
#include "base/mem.h"
#include "rpc/stream_impl.h"

/* ---- out ---- */

static uint64_t limit(const struct rpc_stream *s)
{
	return MIN(s->peer_window, stream_pace_limit(&s->pace));
}

/* One message may always go, so that a small limit slows and never stops. */
static uint32_t room(const struct rpc_stream *s)
{
	uint64_t free;

	if (!s->in_flight)
		return RPC_STREAM_MESSAGE_MAX;
	if (s->in_flight + RPC_STREAM_COST >= limit(s))
		return 0;
	free = limit(s) - s->in_flight - RPC_STREAM_COST;
	return free < STREAM_ROOM_MIN ? 0 : (uint32_t)MIN(free, RPC_STREAM_MESSAGE_MAX);
}

uint32_t rpc_stream_room_for(struct rpc_stream *s, uint32_t need)
{
	uint32_t n = s->open && !s->ended ? room(s) : 0;

	if (n && n >= need)
		return n;
	s->want = MAX(need, 1);
	s->pace.held_back = true;
	return 0;
}

uint32_t rpc_stream_room(struct rpc_stream *s)
{
	return rpc_stream_room_for(s, 1);
}

void *rpc_stream_buf(struct rpc_stream *s, uint32_t len)
{
	return rpc_pool_payload(s->conn->pool, len);
}

void rpc_stream_buf_free(struct rpc_stream *s, void *buf, uint32_t len)
{
	rpc_pool_payload_put(s->conn->pool, buf, len);
}

static void give_back(struct rpc_stream *s, void *arg, uint32_t cap, void (*release)(void *arg))
{
	if (release)
		release(arg);
	else
		rpc_stream_buf_free(s, arg, cap);
}

static void message_done(struct rpc_call *call)
{
	struct stream_message *m = container_of(call, struct stream_message, call);
	struct rpc_stream *s = m->s;

	s->in_flight -= m->cost;
	if (call->status)
		stream_over(s, &call->err);
	else
		stream_pace_taken(&s->pace, m, env_now(s->e));
	rpc_call_free(call);
	give_back(s, m->arg, m->cap, m->release);
	mem_free(m);
	if (s->want && s->open && !s->ended && !s->freed && room(s) >= s->want) {
		s->want = 0;
		s->ops->on_writable(s->arg);
	}
	stream_settle(s);
	stream_unref(s);
}

static int check(const struct rpc_stream *s, uint32_t len)
{
	if (s->over)
		return s->err.code ? s->err.code : HCI_E_CLOSED;
	if (!s->open || s->ended)
		return HCI_E_STATE;
	if (!len || len > RPC_STREAM_MESSAGE_MAX)
		return HCI_E_RANGE;
	/* The pace is for the user to keep; the window is the peer's, and it cuts us off. */
	return s->in_flight + len + RPC_STREAM_COST > s->peer_window ? HCI_E_AGAIN : 0;
}

static int send_message(struct rpc_stream *s, const void *data, uint32_t len, void *arg, uint32_t cap, void (*release)(void *arg))
{
	int rc = check(s, len);
	struct stream_message *m = rc ? NULL : MEM_NEW(struct stream_message);

	if (!m) {
		if (rc == HCI_E_AGAIN)
			s->want = len;
		give_back(s, arg, cap, release);
		return rc ? rc : HCI_E_NOMEM;
	}
	m->s = s;
	m->arg = arg;
	m->cap = cap;
	m->release = release;
	m->cost = len + RPC_STREAM_COST;
	m->call.method = RPC_STREAM_MESSAGE;
	m->call.payload = data;
	m->call.payload_len = len;
	m->call.done = message_done;
	s->in_flight += m->cost;
	stream_pace_sent(&s->pace, m, env_now(s->e));
	stream_ref(s);
	rpc_submit(s->conn, &m->call);
	return 0;
}

int rpc_stream_send(struct rpc_stream *s, void *buf, uint32_t cap, uint32_t len)
{
	return send_message(s, buf, len, buf, cap, NULL);
}

int rpc_stream_send_lent(struct rpc_stream *s, const void *data, uint32_t len, void (*release)(void *arg), void *arg)
{
	return send_message(s, data, len, arg, 0, release);
}

static void end_done(struct rpc_call *call)
{
	struct rpc_stream *s = container_of(call, struct rpc_stream, end_call);

	if (call->status)
		stream_over(s, &call->err);
	s->end_acked = true;
	stream_settle(s);
	stream_unref(s);
}

void rpc_stream_end(struct rpc_stream *s)
{
	if (!s->open || s->ended)
		return;
	s->ended = true;
	s->end_call.method = RPC_STREAM_END;
	s->end_call.done = end_done;
	stream_ref(s);
	rpc_submit(s->conn, &s->end_call);
}

uint64_t rpc_stream_in_flight(const struct rpc_stream *s)
{
	return s->in_flight;
}

/* ---- in ---- */

/* The stream of a request of ours, or NULL: answered. */
static struct rpc_stream *stream_of(struct rpc_req *req)
{
	struct rpc_stream *s = req->conn->stream;

	if (s && s->open)
		return s;
	rpc_reply(req, HCI_E_STATE, "no stream is open on this connection", NULL, NULL, 0, NULL, NULL);
	return NULL;
}

static void broken(struct rpc_stream *s, struct rpc_req *req, const char *rule)
{
	struct hci_error err;

	err_set(&err, HCI_E_PROTO, "the peer of a stream breaks its rules: %s", rule);
	rpc_reply(req, HCI_E_PROTO, rule, NULL, NULL, 0, NULL, NULL);
	stream_over(s, &err);
}

void stream_on_message(void *arg, struct rpc_req *req)
{
	struct rpc_stream *s = stream_of(req);
	uint64_t cost = (uint64_t)req->payload_len + RPC_STREAM_COST;

	(void)arg;
	if (!s)
		return;
	if (s->peer_ended) {
		broken(s, req, "a message after its end");
	} else if (!req->payload_len || req->payload_len > RPC_STREAM_MESSAGE_MAX) {
		broken(s, req, "a message that is empty or too long");
	} else if (s->held + cost > s->window) {
		broken(s, req, "more than the window");
	} else {
		s->held += cost;
		list_push(&s->rx, &req->link);
		stream_readable(s);
	}
}

void stream_on_end(void *arg, struct rpc_req *req)
{
	struct rpc_stream *s = stream_of(req);

	(void)arg;
	if (!s)
		return;
	if (s->peer_ended) {
		broken(s, req, "two ends");
		return;
	}
	s->peer_ended = true;
	rpc_reply(req, 0, NULL, NULL, NULL, 0, NULL, NULL);
	stream_ref(s);
	stream_readable(s);
	stream_settle(s);
	stream_unref(s);
}

bool rpc_stream_next(struct rpc_stream *s, struct rpc_stream_message *out)
{
	struct rpc_req *req;

	if (list_empty(&s->rx)) {
		s->told_readable = false;
		return false;
	}
	req = list_first(&s->rx, struct rpc_req, link);
	out->data = req->payload;
	out->len = req->payload_len;
	return true;
}

void rpc_stream_taken(struct rpc_stream *s)
{
	struct list *l = list_pop(&s->rx);
	struct rpc_req *req;

	if (!l)
		return;
	req = list_entry(l, struct rpc_req, link);
	s->held -= (uint64_t)req->payload_len + RPC_STREAM_COST;
	rpc_reply(req, 0, NULL, NULL, NULL, 0, NULL, NULL);
	stream_settle(s);
}

bool rpc_stream_at_end(const struct rpc_stream *s)
{
	return s->peer_ended && list_empty(&s->rx);
}
