/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's life: opening, the hello, keep-alive, the end, references.
 *
 *	CONNECTING --on_open--> HELLO --peer's hello is good--> READY
 *	any of these --rpc_conn_fail, rpc_conn_lost--> CLOSED
 *	CLOSED --late task--> cleaned up --last reference--> freed
 *
 * The end comes in two steps. rpc_conn_fail() may be called from anywhere and makes no callback: it
 * records why, says goodbye and cuts the stream off. The late task then completes the calls, gives
 * lent payloads back and tells the hooks. After a goodbye the stream drains for a moment, because a
 * socket closed with bytes unread is reset, and the goodbye with it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

#define LOG_SUB "rpc"

#define SILENT_MAX 3

const char *rpc_conn_name(const struct rpc_conn *c, char out[CONN_NAME_MAX])
{
	const char *node = c->peer[0] ? c->peer : c->expect;

	snprintf(out, CONN_NAME_MAX, "%s%s (%.120s)", node[0] ? "node " : "peer", node, c->addr);
	return out;
}

/* ---- the end ---- */

static void conn_free(struct rpc_conn *c)
{
	env_undefer(c->env, &c->flush_task);
	env_undefer(c->env, &c->rx_task);
	env_timer_disarm(c->env, &c->timer);
	rpc_calls_free(c);
	if (c->rpc)
		list_del(&c->link);
	buf_free(&c->hello_body);
	mem_free(c->rx.stage);
	rpc_pool_unref(c->pool);
	mem_free(c);
}

struct rpc_conn *rpc_conn_ref(struct rpc_conn *c)
{
	c->refs++;
	return c;
}

void rpc_conn_unref(struct rpc_conn *c)
{
	if (!c)
		return;
	if (c->refs == 1 && c->state != CONN_CLOSED)
		rpc_conn_failf(c, HCI_E_CLOSED, "closed: it is no longer used");
	if (--c->refs == 0)
		conn_free(c);
}

static void io_close(struct rpc_conn *c, bool abort_now)
{
	if (c->io)
		env_conn_close(c->io, abort_now);
	c->io = NULL;
}

static void drain_end(struct rpc_conn *c)
{
	if (!c->draining)
		return;
	c->draining = false;
	env_timer_disarm(c->env, &c->timer);
	io_close(c, false);
	rpc_conn_unref(c);
}

static void drain_readable(void *arg)
{
	struct rpc_conn *c = arg;
	int64_t n;

	do {
		n = env_conn_recv(c->io, c->rx.stage, RPC_STAGE);
		if (n > 0)
			c->drained += (uint32_t)n;
	} while (n > 0 && c->drained < RPC_DRAIN_BYTES);
	if (n != HCI_E_AGAIN)
		drain_end(c);
}

static void drain_writable(void *arg)
{
	(void)arg;
}

static void drain_closed(void *arg, const struct hci_error *err)
{
	(void)err;
	drain_end(arg);
}

static const struct env_conn_ops drain_ops = {
	.on_open = drain_writable,
	.on_readable = drain_readable,
	.on_writable = drain_writable,
	.on_closed = drain_closed,
};

/* True: it is on its way, and the stream is draining. */
static bool say_goodbye(struct rpc_conn *c, const struct hci_error *why)
{
	struct frame f = { .type = FRAME_GOODBYE, .version = RPC_VERSION, .status = why->code };
	struct iovec iov[2];
	struct buf body = BUF_INIT;
	struct out o;
	int64_t n = -1;

	if (c->loop || c->out_off || c->blocked)
		return false;
	rpc_goodbye_write(why, &body);
	if (!body.failed) {
		f.body_len = (uint32_t)body.len;
		rpc_out_frame(&o, OUT_CTRL, &f, body.data, NULL);
		iov[0] = (struct iovec){ o.hdr, FRAME_HDR };
		iov[1] = (struct iovec){ body.data, body.len };
		n = env_conn_send(c->io, iov, 2);
	}
	buf_free(&body);
	if (n != (int64_t)(FRAME_HDR + f.body_len))
		return false;
	rpc_conn_ref(c);
	c->draining = true;
	env_conn_set_ops(c->io, &drain_ops, c);
	if (c->paused)
		env_conn_pause(c->io, false);
	env_timer_arm(c->env, &c->timer, env_now(c->env) + RPC_DRAIN_NS);
	return true;
}

static void set_closed(struct rpc_conn *c, const struct hci_error *err)
{
	char name[CONN_NAME_MAX];

	c->err = *err;
	err_prefix(&c->err, "%s", rpc_conn_name(c, name));
	c->state = CONN_CLOSED;
	c->closed_at = env_now(c->env);
	env_timer_disarm(c->env, &c->timer);
	env_timer_disarm(c->env, &c->calls.timer);
	fiber_cond_signal(c->env, &c->cond);
	if (err->code != HCI_E_CLOSED)
		metric_add(c->rpc->m_failed, 1);
	/* Who called is told through its calls; of what comes in nobody else hears. */
	if (c->inbound && err->code != HCI_E_CLOSED)
		log_warn(env_log(c->env), "%s", c->err.message);
	else
		log_debug(env_log(c->env), "%s", c->err.message);
	rpc_conn_late(c);
}

void rpc_conn_fail(struct rpc_conn *c, const struct hci_error *err)
{
	enum conn_state was = c->state;

	if (was == CONN_CLOSED)
		return;
	set_closed(c, err);
	if (was == CONN_CONNECTING || !say_goodbye(c, err))
		io_close(c, true);
}

int rpc_conn_failf(struct rpc_conn *c, int code, const char *fmt, ...)
{
	struct hci_error err = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.message, sizeof(err.message), fmt, ap);
	va_end(ap);
	rpc_conn_fail(c, &err);
	return code;
}

void rpc_conn_lost(struct rpc_conn *c, const struct hci_error *err)
{
	if (c->state == CONN_CLOSED)
		return;
	set_closed(c, err);
	io_close(c, true);
}

void rpc_conn_shutdown(struct rpc_conn *c)
{
	rpc_conn_failf(c, HCI_E_CLOSED, "closed: this end shut it down");
}

/* Gives back what was lent for replies that will not be sent. */
static void drop_output(struct rpc_conn *c)
{
	struct list *l;

	c->out_off = 0;
	while ((l = list_pop(&c->outq))) {
		struct out *o = list_entry(l, struct out, link);

		o->queued = false;
		if (o->kind == OUT_REPLY)
			rpc_req_sent(container_of(o, struct req, out));
	}
}

static void clean_up(struct rpc_conn *c)
{
	c->cleaned = true;
	rpc_calls_fail_all(c);
	rpc_calls_run_done(c);
	rpc_stream_conn_gone(c);
	drop_output(c);
	rpc_rx_drop(c);
	if (c->was_ready) {
		metric_add(c->rpc->m_conns, (uint64_t)-1);
		for (unsigned i = 0; i < c->rpc->nhooks; i++)
			c->rpc->hooks[i].fn(c->rpc->hooks[i].arg, c);
	}
	if (c->inbound) {
		c->rpc->inbound--;
		rpc_conn_unref(c);
	}
}

static void run_late(struct env_task *t)
{
	struct rpc_conn *c = container_of(t, struct rpc_conn, late);

	rpc_calls_run_done(c);
	if (c->state == CONN_CLOSED && !c->cleaned)
		clean_up(c);
	rpc_conn_unref(c);
}

void rpc_conn_late(struct rpc_conn *c)
{
	if (c->late.queued)
		return;
	rpc_conn_ref(c);
	env_defer(c->env, &c->late);
}

void rpc_conn_dispose(struct rpc_conn *c)
{
	rpc_conn_ref(c);
	rpc_conn_shutdown(c);
	/* Again for a done() that submits once more, but not for ever. */
	for (int i = 0; i < 3 && c->late.queued; i++) {
		env_undefer(c->env, &c->late);
		run_late(&c->late);
	}
	drain_end(c);
	list_del(&c->link);
	c->rpc = NULL;
	rpc_conn_unref(c);
}

/* ---- keep-alive ---- */

static void send_ping(struct rpc_conn *c)
{
	struct frame f = { .type = FRAME_PING, .version = (uint8_t)c->version };

	if (c->ping.queued)
		return;
	f.id = ++c->ping_id;
	rpc_out_frame(&c->ping, OUT_CTRL, &f, NULL, NULL);
	rpc_out_push(c, &c->ping);
}

/* Counts ticks and not time, so that a process that was stopped for a while does not take its own
 * absence for its peers'. */
static void keep_alive(struct rpc_conn *c)
{
	uint64_t ms = c->rpc->o.ping_interval_ns * SILENT_MAX / NS_PER_MS;

	c->rx_silent = c->rx_seen || c->paused ? 0 : c->rx_silent + 1;
	c->tx_stuck = c->tx_seen || list_empty(&c->outq) ? 0 : c->tx_stuck + 1;
	if (c->rx_silent >= SILENT_MAX) {
		rpc_conn_failf(c, HCI_E_TIMEOUT,
			       "silent for %llu ms: the node is down, cut off or overloaded",
			       (unsigned long long)ms);
		return;
	}
	if (c->tx_stuck >= SILENT_MAX) {
		rpc_conn_failf(
			c, HCI_E_TIMEOUT,
			"has not taken a byte for %llu ms: the node is cut off or overloaded",
			(unsigned long long)ms);
		return;
	}
	if (!c->rx_seen)
		send_ping(c);
	c->rx_seen = c->tx_seen = false;
	env_timer_arm(c->env, &c->timer, env_now(c->env) + c->rpc->o.ping_interval_ns);
}

static void on_timer(struct env_timer *t)
{
	struct rpc_conn *c = container_of(t, struct rpc_conn, timer);

	if (c->draining)
		drain_end(c);
	else if (c->state == CONN_READY)
		keep_alive(c);
	else
		rpc_conn_failf(
			c, HCI_E_TIMEOUT,
			"%s within %llu ms: check that the node runs and the address is right",
			c->state == CONN_HELLO ? "connected, but sent no hello" : "did not answer",
			(unsigned long long)(c->rpc->o.connect_timeout_ns / NS_PER_MS));
}

/* ---- frames that concern the connection itself ---- */

static void got_hello(struct rpc_conn *c)
{
	struct hci_error err;

	if (rpc_hello_take(c, c->rx.body, c->rx.f.body_len, &err) < 0) {
		rpc_conn_fail(c, &err);
		return;
	}
	c->state = CONN_READY;
	c->was_ready = true;
	c->ready_at = env_now(c->env);
	metric_add(c->rpc->m_conns, 1);
	env_timer_arm(c->env, &c->timer, env_now(c->env) + c->rpc->o.ping_interval_ns);
	rpc_calls_ready(c);
	fiber_cond_signal(c->env, &c->cond);
}

static void got_ping(struct rpc_conn *c, uint64_t id)
{
	struct frame f = { .type = FRAME_PONG, .version = (uint8_t)c->version, .id = id };

	/* One answer at a time: a flood of pings takes no memory. */
	if (c->pong.queued) {
		c->pong_due = true;
		c->pong_id = id;
		return;
	}
	rpc_out_frame(&c->pong, OUT_CTRL, &f, NULL, NULL);
	rpc_out_push(c, &c->pong);
}

static void got_goodbye(struct rpc_conn *c)
{
	struct hci_error err;

	rpc_goodbye_take(&c->rx.f, c->rx.body, &err);
	err_prefix(&err, "ended by the peer");
	rpc_conn_lost(c, &err);
}

void rpc_conn_frame(struct rpc_conn *c)
{
	switch (c->rx.f.type) {
	case FRAME_HELLO:
		got_hello(c);
		break;
	case FRAME_PING:
		got_ping(c, c->rx.f.id);
		break;
	case FRAME_GOODBYE:
		got_goodbye(c);
		break;
	default: /* a pong: that something came is all there is to know */
		break;
	}
}

/* ---- the beginning ---- */

static void send_hello(struct rpc_conn *c)
{
	struct frame f = { .type = FRAME_HELLO, .version = RPC_VERSION };

	c->state = CONN_HELLO;
	if (rpc_hello_write(c->rpc, &c->hello_body) < 0) {
		rpc_conn_failf(c, HCI_E_NOMEM, "out of memory");
		return;
	}
	f.body_len = (uint32_t)c->hello_body.len;
	rpc_out_frame(&c->hello, OUT_CTRL, &f, c->hello_body.data, NULL);
	rpc_out_push(c, &c->hello);
}

static void on_open(void *arg)
{
	struct rpc_conn *c = arg;

	if (c->state == CONN_CONNECTING)
		send_hello(c);
}

static void on_readable(void *arg)
{
	rpc_rx_run(arg);
}

static void on_writable(void *arg)
{
	struct rpc_conn *c = arg;

	c->blocked = false;
	rpc_out_flush(c);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	rpc_conn_lost(arg, err);
}

static const struct env_conn_ops conn_ops = {
	.on_open = on_open,
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

static void run_flush(struct env_task *t)
{
	rpc_out_flush(container_of(t, struct rpc_conn, flush_task));
}

static void run_rx(struct env_task *t)
{
	rpc_rx_run(container_of(t, struct rpc_conn, rx_task));
}

struct rpc_conn *rpc_conn_new(struct rpc *r, const char *addr)
{
	size_t len = strlen(addr);
	struct rpc_conn *c = mem_zalloc(sizeof(*c) + len + 1);

	if (!c)
		return NULL;
	c->rx.stage = mem_alloc(RPC_STAGE);
	if (!c->rx.stage) {
		mem_free(c);
		return NULL;
	}
	memcpy(c->addr, addr, len + 1);
	c->rpc = r;
	c->env = r->env;
	c->pool = rpc_pool_ref(r->pool);
	c->id = ++r->conn_seq;
	c->refs = 1;
	c->state = CONN_CONNECTING;
	c->version = RPC_VERSION;
	list_init(&c->outq);
	list_init(&c->done_calls);
	fiber_cond_init(&c->cond);
	env_timer_init(&c->timer, on_timer);
	env_task_init(&c->late, run_late);
	env_task_init(&c->flush_task, run_flush);
	env_task_init(&c->rx_task, run_rx);
	rpc_calls_init(c);
	list_push(&r->conns, &c->link);
	env_timer_arm(c->env, &c->timer, env_now(c->env) + r->o.connect_timeout_ns);
	return c;
}

int rpc_conn_accept(struct rpc *r, struct env_conn *io)
{
	struct rpc_conn *c = rpc_conn_new(r, "incoming");

	if (!c) {
		env_conn_close(io, true);
		return HCI_E_NOMEM;
	}
	c->inbound = true;
	r->inbound++;
	c->io = io;
	env_conn_set_ops(io, &conn_ops, c);
	send_hello(c);
	return 0;
}

struct rpc_conn *rpc_connect(struct rpc *r, const char *addr, const char *expect_node,
			     struct hci_error *err)
{
	struct rpc_conn *c;

	if (r->closing) {
		err_set(err, HCI_E_CLOSED, "connecting to %s: this end is shutting down", addr);
		return NULL;
	}
	c = rpc_conn_new(r, addr);
	if (!c) {
		err_set(err, HCI_E_NOMEM, "connecting to %s: out of memory", addr);
		return NULL;
	}
	if (expect_node)
		snprintf(c->expect, sizeof(c->expect), "%s", expect_node);
	c->io = env_connect(r->env, addr, r->o.tls, &conn_ops, c, err);
	if (!c->io) {
		c->state = CONN_CLOSED;
		rpc_conn_unref(c);
		return NULL;
	}
	return c;
}

int rpc_conn_wait(struct rpc_conn *c, struct hci_error *err)
{
	int rc = 0;

	rpc_conn_ref(c);
	while (c->state == CONN_CONNECTING || c->state == CONN_HELLO)
		fiber_cond_wait(c->env, &c->cond);
	if (c->state == CONN_CLOSED)
		rc = err_copy(err, &c->err, HCI_E_CLOSED);
	rpc_conn_unref(c);
	return rc;
}

/* ---- asking ---- */

bool rpc_conn_ok(const struct rpc_conn *c)
{
	return c->state != CONN_CLOSED;
}

int rpc_conn_error(const struct rpc_conn *c, struct hci_error *err)
{
	return c->state == CONN_CLOSED ? err_copy(err, &c->err, HCI_E_CLOSED) : 0;
}

void **rpc_conn_slot(struct rpc_conn *c)
{
	return &c->slot;
}

const char *rpc_conn_peer(const struct rpc_conn *c)
{
	return c->peer;
}

uint64_t rpc_conn_id(const struct rpc_conn *c)
{
	return c->id;
}

uint64_t rpc_conn_features(const struct rpc_conn *c)
{
	return c->features;
}
