/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls we make on a connection. Each has a slot from rpc_submit() until its reply came; a call
 * that is cancelled or timed out leaves the slot behind, so that its late reply is known for what
 * it is. The id on the wire is the slot's index and a number that grows at each use.
 *
 * Calls wait in their slots for the hello, and while the connection has as much open as the other
 * side allows: so an honest peer is never held back on the reading side, where that would delay
 * replies as well.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

enum { CALL_IDLE, CALL_OPEN, CALL_DONE }; /* DONE: in done_calls */

/* ---- slots ---- */

static bool grow(struct slots *t)
{
	struct rpc_slot **chunk = mem_realloc(t->chunk, (t->nchunks + 1) * sizeof(*chunk));
	struct rpc_slot *s;

	if (!chunk)
		return false;
	t->chunk = chunk;
	s = mem_calloc(SLOT_CHUNK, sizeof(*s));
	if (!s)
		return false;
	chunk[t->nchunks] = s;
	for (uint32_t i = SLOT_CHUNK; i-- > 0;) {
		s[i].id = t->nchunks * SLOT_CHUNK + i;
		s[i].next_free = t->free;
		t->free = &s[i];
	}
	t->nchunks++;
	return true;
}

static struct rpc_slot *slot_get(struct slots *t)
{
	struct rpc_slot *s;

	if (!t->free && !grow(t))
		return NULL;
	s = t->free;
	t->free = s->next_free;
	s->id += UINT64_C(1) << 32;
	list_init(&s->out.link);
	return s;
}

static void slot_put(struct slots *t, struct rpc_slot *s)
{
	if (s->state == SLOT_QUEUED || s->state == SLOT_SENT) {
		t->open--;
		t->send_bytes -= s->send_bytes;
		t->recv_bytes -= s->recv_bytes;
	}
	mem_free(s->owned);
	s->owned = NULL;
	s->call = NULL;
	s->state = SLOT_FREE;
	s->next_free = t->free;
	t->free = s;
}

static struct rpc_slot *slot_at(const struct slots *t, uint32_t i)
{
	return &t->chunk[i / SLOT_CHUNK][i % SLOT_CHUNK];
}

struct rpc_slot *rpc_call_find(struct rpc_conn *c, uint64_t id)
{
	uint32_t i = (uint32_t)id;
	struct rpc_slot *s;

	if (i >= c->calls.nchunks * SLOT_CHUNK)
		return NULL;
	s = slot_at(&c->calls, i);
	return s->id == id && s->state == SLOT_SENT ? s : NULL;
}

/* ---- going out ---- */

static bool may_send(const struct rpc_conn *c, const struct rpc_slot *s)
{
	const struct slots *t = &c->calls;

	if (c->state != CONN_READY || t->open >= RPC_INFLIGHT_MAX)
		return false;
	return !t->open || (t->send_bytes + s->send_bytes <= RPC_INFLIGHT_BYTES &&
			    t->recv_bytes + s->recv_bytes <= RPC_BACKLOG_BYTES);
}

static void slot_send(struct rpc_conn *c, struct rpc_slot *s)
{
	struct rpc_call *call = s->call;
	struct frame f = {
		.type = FRAME_REQUEST,
		.version = (uint8_t)c->version,
		.method = call->method,
		.id = s->id,
		.body_len = (uint32_t)call->body.len,
		.payload_len = call->payload_len,
	};

	s->state = SLOT_QUEUED;
	c->calls.open++;
	c->calls.send_bytes += s->send_bytes;
	c->calls.recv_bytes += s->recv_bytes;
	rpc_out_frame(&s->out, OUT_CALL, &f, call->body.data, call->payload);
	rpc_out_push(c, &s->out);
}

static void send_waiting(struct rpc_conn *c)
{
	struct slots *t = &c->calls;

	while (!list_empty(&t->waiting)) {
		struct rpc_slot *s = list_first(&t->waiting, struct rpc_slot, out.link);

		if (!may_send(c, s))
			return;
		list_del(&s->out.link);
		slot_send(c, s);
	}
}

void rpc_calls_ready(struct rpc_conn *c)
{
	send_waiting(c);
}

/* ---- completion ---- */

static void reply_free(struct rpc_call *call)
{
	if (!call->pool)
		return;
	rpc_pool_body_put(call->pool, call->reply_body, call->reply_body_cap);
	if (call->payload_made)
		rpc_pool_payload_put(call->pool, call->reply_payload, call->reply_payload_len);
	rpc_pool_unref(call->pool);
	call->pool = NULL;
	call->reply_body = NULL;
	call->payload_made = 0;
	call->reply_payload = NULL;
	call->reply_payload_len = 0;
	call->reply = rd_init(NULL, 0);
}

void rpc_call_free(struct rpc_call *call)
{
	reply_free(call);
	buf_free(&call->body);
}

static void to_done(struct rpc_conn *c, struct rpc_call *call)
{
	call->open = CALL_DONE;
	call->slot = NULL;
	list_push(&c->done_calls, &call->link);
}

/* done() comes from the late task; the call's reference is given back after it. */
static void complete_later(struct rpc_conn *c, struct rpc_call *call)
{
	to_done(c, call);
	rpc_conn_late(c);
}

static void complete(struct rpc_conn *c, struct rpc_call *call)
{
	call->open = CALL_IDLE;
	call->done(call);
	rpc_conn_unref(c);
}

void rpc_calls_run_done(struct rpc_conn *c)
{
	struct list batch, *l;

	/* Only what is there now: a done() that submits again must not keep us here. */
	list_init(&batch);
	list_splice(&batch, &c->done_calls);
	while ((l = list_pop(&batch)))
		complete(c, list_entry(l, struct rpc_call, link));
}

/* Copies what is left to send of a frame whose owner wants its buffers back. */
static bool own_rest(struct rpc_conn *c, struct rpc_slot *s)
{
	struct out *o = &s->out;
	uint8_t *copy;

	if (!o->body_len && !o->payload_len)
		return true;
	copy = mem_alloc((size_t)o->body_len + o->payload_len);
	if (!copy) {
		rpc_conn_failf(
			c, HCI_E_NOMEM,
			"out of memory for a request that was cancelled while it was being sent");
		return false;
	}
	if (o->body_len)
		memcpy(copy, o->body, o->body_len);
	if (o->payload_len)
		memcpy(copy + o->body_len, o->payload, o->payload_len);
	o->body = copy;
	o->payload = copy + o->body_len;
	s->owned = copy;
	return true;
}

/* Takes the call from its slot: nothing of the connection points at it or its buffers after. */
static void detach(struct rpc_conn *c, struct rpc_slot *s)
{
	struct rpc_call *call = s->call;
	struct rx *rx = &c->rx;

	s->call = NULL;
	call->slot = NULL;
	if (rx->slot == s && rx->payload && !rx->payload_made) {
		rx->payload = NULL;
		if (rx->part == RX_PAYLOAD)
			rx->dst = NULL;
	}
	switch (s->state) {
	case SLOT_WAITING:
		list_del(&s->out.link);
		slot_put(&c->calls, s);
		break;
	case SLOT_QUEUED:
		if (rpc_out_remove(c, &s->out))
			slot_put(&c->calls, s);
		else
			own_rest(c, s);
		break;
	default: /* sent: the slot stays until the reply comes */
		break;
	}
}

void rpc_cancel(struct rpc_conn *c, struct rpc_call *call)
{
	if (call->open != CALL_OPEN)
		return;
	detach(c, call->slot);
	call->status = err_set(&call->err, HCI_E_CANCELLED, "request 0x%03x to %s was cancelled",
			       call->method, c->peer[0] ? c->peer : c->addr);
	complete_later(c, call);
	if (c->state == CONN_READY)
		send_waiting(c);
}

void rpc_calls_fail_all(struct rpc_conn *c)
{
	struct slots *t = &c->calls;

	for (uint32_t i = 0; i < t->nchunks * SLOT_CHUNK; i++) {
		struct rpc_slot *s = slot_at(t, i);
		struct rpc_call *call = s->call;

		if (!call)
			continue;
		/* The stream is gone: what was half sent needs no copy. */
		s->call = NULL;
		if (s->state == SLOT_WAITING || s->out.queued)
			list_del(&s->out.link);
		s->out.queued = false;
		slot_put(t, s);
		call->status = err_copy(&call->err, &c->err, HCI_E_CLOSED);
		to_done(c, call); /* the caller is the late task */
	}
}

/* ---- timeouts: one timer, for the earliest; completed calls do not bother to disarm it ---- */

static void arm(struct rpc_conn *c, uint64_t deadline)
{
	struct env_timer *t = &c->calls.timer;

	if (deadline != NO_DEADLINE && (!env_timer_armed(t) || deadline < t->deadline))
		env_timer_arm(c->env, t, deadline);
}

static void expire(struct rpc_conn *c, struct rpc_slot *s)
{
	struct rpc_call *call = s->call;

	detach(c, s);
	call->status =
		err_set(&call->err, HCI_E_TIMEOUT, "request 0x%03x to %s: no reply within %llu ms",
			call->method, c->peer[0] ? c->peer : c->addr,
			(unsigned long long)(call->timeout_ns / NS_PER_MS));
	complete_later(c, call);
}

static void on_call_timer(struct env_timer *timer)
{
	struct rpc_conn *c = container_of(timer, struct rpc_conn, calls.timer);
	uint64_t now = env_now(c->env), next = NO_DEADLINE;
	struct slots *t = &c->calls;

	for (uint32_t i = 0; i < t->nchunks * SLOT_CHUNK; i++) {
		struct rpc_slot *s = slot_at(t, i);

		if (!s->call)
			continue;
		if (s->deadline <= now)
			expire(c, s);
		else
			next = MIN(next, s->deadline);
	}
	if (c->state == CONN_CLOSED)
		return;
	arm(c, next);
	if (c->state == CONN_READY)
		send_waiting(c);
}

/* ---- submitting ---- */

static int check_call(const struct rpc_conn *c, struct rpc_call *call)
{
	if (c->state == CONN_CLOSED)
		return err_copy(&call->err, &c->err, HCI_E_CLOSED);
	if (call->body.failed)
		return err_set(&call->err, HCI_E_NOMEM,
			       "request 0x%03x: out of memory for its arguments", call->method);
	if (call->body.len > RPC_BODY_MAX || call->payload_len > RPC_PAYLOAD_MAX)
		return err_set(&call->err, HCI_E_RANGE,
			       "request 0x%03x: %zu bytes of arguments, %u of payload: the limits "
			       "are %u and %u",
			       call->method, call->body.len, call->payload_len, RPC_BODY_MAX,
			       RPC_PAYLOAD_MAX);
	return 0;
}

static uint64_t deadline_of(const struct rpc_conn *c, const struct rpc_call *call)
{
	uint64_t now = env_now(c->env);

	if (!call->timeout_ns || call->timeout_ns > NO_DEADLINE - now)
		return NO_DEADLINE;
	return now + call->timeout_ns;
}

void rpc_submit(struct rpc_conn *c, struct rpc_call *call)
{
	struct rpc_slot *s = NULL;

	reply_free(call);
	rpc_conn_ref(c);
	call->reply = rd_init(NULL, 0);
	call->status = check_call(c, call);
	if (!call->status) {
		s = slot_get(&c->calls);
		if (!s)
			call->status = err_set(&call->err, HCI_E_NOMEM,
					       "request 0x%03x: out of memory", call->method);
	}
	if (!s) {
		complete_later(c, call);
		return;
	}
	call->open = CALL_OPEN;
	call->id = s->id;
	call->slot = s;
	s->call = call;
	s->send_bytes = (uint32_t)call->body.len + call->payload_len;
	s->recv_bytes = call->reply_cap;
	s->deadline = deadline_of(c, call);
	arm(c, s->deadline);
	metric_add(c->rpc->m_calls, 1);
	if (list_empty(&c->calls.waiting) && may_send(c, s)) {
		slot_send(c, s);
	} else {
		s->state = SLOT_WAITING;
		list_push(&c->calls.waiting, &s->out.link);
	}
}

/* ---- the reply ---- */

static void take_error(struct rpc_conn *c, struct rpc_call *call)
{
	char text[400], name[CONN_NAME_MAX];

	rpc_take_text(&call->reply, text, sizeof(text));
	call->reply.bad = false;
	call->status = err_set(&call->err, call->status, "%s: %s", rpc_conn_name(c, name),
			       text[0] ? text : hci_strerror(call->status));
}

static void take_reply(struct rpc_conn *c, struct rpc_call *call)
{
	struct rx *rx = &c->rx;
	char name[CONN_NAME_MAX];

	call->pool = rpc_pool_ref(c->pool);
	call->reply_body = rx->body;
	call->reply_body_cap = rx->body_cap;
	call->reply = rd_init(rx->body, rx->body ? rx->f.body_len : 0);
	call->reply_payload = rx->payload;
	call->reply_payload_len = rx->payload ? rx->f.payload_len : 0;
	call->payload_made = rx->payload_made != 0;
	rx->body = NULL;
	rx->payload_made = 0;
	call->status = rx->f.status;
	if (rx->fail)
		call->status = err_set(&call->err, rx->fail,
				       "%s: reply to request 0x%03x with a payload of %u bytes: %s",
				       rpc_conn_name(c, name), call->method, rx->f.payload_len,
				       rx->fail == HCI_E_NOMEM ? "out of memory"
							       : "longer than was asked for");
	else if (call->status)
		take_error(c, call);
}

void rpc_call_reply(struct rpc_conn *c)
{
	struct rpc_slot *s = c->rx.slot;
	struct rpc_call *call = s->call;

	if (call)
		take_reply(c, call);
	rpc_rx_drop(c);
	slot_put(&c->calls, s);
	send_waiting(c);
	if (call) {
		call->slot = NULL;
		complete(c, call);
	}
}

/* ---- from a fiber ---- */

static void wake(struct rpc_call *call)
{
	struct fiber *f = call->fiber;

	call->fiber = NULL;
	fiber_wake(call->env, f);
}

int rpc_call_wait(struct rpc_conn *c, struct rpc_call *call)
{
	call->env = c->env;
	call->fiber = fiber_self(c->env);
	call->done = wake;
	rpc_submit(c, call);
	while (call->fiber)
		fiber_park(c->env);
	return call->status;
}

/* ---- set-up and end ---- */

void rpc_calls_init(struct rpc_conn *c)
{
	list_init(&c->calls.waiting);
	env_timer_init(&c->calls.timer, on_call_timer);
}

void rpc_calls_free(struct rpc_conn *c)
{
	struct slots *t = &c->calls;

	env_timer_disarm(c->env, &t->timer);
	for (uint32_t i = 0; i < t->nchunks * SLOT_CHUNK; i++)
		mem_free(slot_at(t, i)->owned);
	for (uint32_t i = 0; i < t->nchunks; i++)
		mem_free(t->chunk[i]);
	mem_free(t->chunk);
}
