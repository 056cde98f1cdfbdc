/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream whose peer keeps to the frames (those are rpc_frame's) but to nothing that docs/wire-stream.md says: openings,
 * messages, ends and answers of any kind at any moment, and a user of ours who does what a user may do. The first byte is a
 * set of bits:
 *	1  our end opens the stream; else it accepts
 *	2  our user takes all that is readable inside the callback
 *	4  ... and sends inside on_writable
 *	8  ... and closes inside on_closed
 * The rest is a script of two bytes a step: what, and how. Whatever comes: no callback from inside a call or after the last
 * one, never more than the window at either side, every lent message is given back once, and nothing stays behind.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "env/sim.h"
#include "rpc/stream.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

enum { WE_OPEN = 1, TAKE_AT_ONCE = 2, SEND_AT_ONCE = 4, CLOSE_AT_ONCE = 8 };

enum step {
	WAIT,
	/* the peer */
	OPEN, OPEN_RAW, MESSAGE, END, CANCEL, ANSWER, ANSWER_RAW, REFUSE_LAST, HANG_UP,
	/* our user */
	ACCEPT, REFUSE, TAKE, SEND, SEND_LENT, PACE, CLOSE, FINISH,
	STEPS
};

#define CALLS 32u
#define SERVICE "fuzz"

struct lent {
	struct world *w;
	unsigned given_back;
};

struct world {
	uint8_t flags;
	const uint8_t *p, *end;
	struct sim_node *peer_node, *our_node;
	/* the peer */
	struct rpc *peer;
	struct rpc_conn *conn;
	struct rpc_call calls[CALLS];
	bool busy[CALLS];
	unsigned last;
	struct list held; /* requests of ours that it has not answered */
	uint64_t owed;    /* what these count for */
	uint64_t granted; /* by its answer or opening; 0: none was good */
	/* our end */
	struct rpc *r;
	struct rpc_stream *s;
	bool offered, closed, in_call;
	uint64_t window; /* that we granted */
	struct lent lent[256];
	unsigned nlent;
};

static const uint32_t lengths[] = { 1, 100, 4096, 16384, 65536, 262144, 1u << 20, (1u << 20) + 1, 2u << 20, 4u << 20 };
static const uint32_t windows[] = { RPC_STREAM_WINDOW_MIN, RPC_STREAM_WINDOW, RPC_STREAM_WINDOW_MAX, 0,
				    RPC_STREAM_WINDOW_MIN - 1, RPC_STREAM_WINDOW_MAX + 1, UINT32_MAX };
static uint8_t bytes[4u << 20]; /* of payloads; never written */

static bool is_good(uint32_t window)
{
	return window >= RPC_STREAM_WINDOW_MIN && window <= RPC_STREAM_WINDOW_MAX;
}

/* ---- our user ---- */

static void take_all(struct world *w)
{
	struct rpc_stream_message m;
	uint64_t sum = 0;

	while (w->s && rpc_stream_next(w->s, &m)) {
		CHECK(m.len && m.len <= RPC_STREAM_MESSAGE_MAX && m.data[0] == 0 && m.data[m.len - 1] == 0);
		sum += m.len + RPC_STREAM_COST;
		CHECK(sum <= w->window);
		rpc_stream_taken(w->s);
	}
}

static void give_back(void *arg)
{
	struct lent *l = arg;

	CHECK(!l->given_back++);
}

static void send_some(struct world *w, uint32_t len, bool lent)
{
	uint32_t room = rpc_stream_room(w->s);
	int rc;
	void *b;

	CHECK(room <= RPC_STREAM_MESSAGE_MAX);
	if (lent && w->nlent < ARRAY_SIZE(w->lent)) {
		rc = rpc_stream_send_lent(w->s, bytes, len, give_back, &w->lent[w->nlent++]);
	} else {
		b = rpc_stream_buf(w->s, len);
		memset(b, 0, len);
		rc = rpc_stream_send(w->s, b, len, len);
	}
	CHECK(rc <= 0);
}

static void before_callback(const struct world *w)
{
	CHECK(!w->in_call && w->s && !w->closed);
}

static void on_open(void *arg)
{
	before_callback(arg);
}

static void on_readable(void *arg)
{
	struct world *w = arg;

	before_callback(w);
	if (w->flags & TAKE_AT_ONCE)
		take_all(w);
}

static void on_writable(void *arg)
{
	struct world *w = arg;

	before_callback(w);
	if (w->flags & SEND_AT_ONCE)
		send_some(w, 4096, true);
}

static void close_it(struct world *w)
{
	rpc_stream_close(w->s, NULL);
	w->s = NULL;
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct world *w = arg;

	(void)err;
	before_callback(w);
	w->closed = true;
	if (w->flags & CLOSE_AT_ONCE)
		close_it(w);
}

static const struct rpc_stream_ops ops = { on_open, on_readable, on_writable, on_closed };

static void on_offer(void *arg, struct rpc_stream *s, struct rd *args)
{
	struct world *w = arg;
	uint32_t n;

	(void)rd_bin(args, &n);
	if (w->s) {
		rpc_stream_refuse(s, HCI_E_BUSY, "one is enough");
		return;
	}
	CHECK(rpc_stream_is_offer(s));
	w->s = s;
	w->offered = true;
	w->closed = false;
}

static void user_step(struct world *w, enum step what, uint8_t how)
{
	uint32_t len = lengths[how % ARRAY_SIZE(lengths)], window = windows[how % ARRAY_SIZE(windows)];

	if (!w->s)
		return;
	if (w->offered) {
		w->offered = what != ACCEPT && what != REFUSE;
		if (what == ACCEPT) {
			w->window = !window ? RPC_STREAM_WINDOW : is_good(window) ? window :
				    window < RPC_STREAM_WINDOW_MIN ? RPC_STREAM_WINDOW_MIN : RPC_STREAM_WINDOW_MAX;
			rpc_stream_accept(w->s, window, &ops, w);
		}
		if (what == REFUSE) {
			rpc_stream_refuse(w->s, HCI_E_BUSY, "no");
			w->s = NULL;
		}
		return;
	}
	if (what == TAKE)
		take_all(w);
	else if (what == SEND || what == SEND_LENT)
		send_some(w, MIN(len, RPC_STREAM_MESSAGE_MAX), what == SEND_LENT);
	else if (what == PACE)
		rpc_stream_pace(w->s, how * NS_PER_MS);
	else if (what == FINISH)
		rpc_stream_end(w->s);
	else if (what == CLOSE)
		close_it(w);
}

/* ---- the peer ---- */

static void on_done(struct rpc_call *call)
{
	struct world *w = container_of(call - call->timeout_ns % CALLS, struct world, calls[0]);

	w->busy[call->timeout_ns % CALLS] = false;
}

static struct rpc_call *new_call(struct world *w, uint32_t method)
{
	for (unsigned i = 0; i < CALLS && rpc_conn_ok(w->conn); i++) {
		struct rpc_call *c = &w->calls[i];

		if (w->busy[i])
			continue;
		rpc_call_free(c);
		memset(c, 0, sizeof(*c));
		c->method = method;
		c->done = on_done;
		c->timeout_ns = 100 * NS_PER_S / CALLS * CALLS + i; /* the remainder is the index */
		w->busy[i] = true;
		w->last = i;
		return c;
	}
	return NULL;
}

static void put_raw(struct world *w, struct buf *b, uint8_t n)
{
	size_t len = MIN((size_t)n, (size_t)(w->end - w->p));

	buf_append(b, w->p, len);
	w->p += len;
}

static void open_stream(struct world *w, uint8_t how, bool raw)
{
	struct rpc_call *c = new_call(w, RPC_STREAM_OPEN);
	uint32_t window = windows[how % ARRAY_SIZE(windows)];

	if (!c)
		return;
	if (raw) {
		put_raw(w, &c->body, how);
	} else {
		pk_map(&c->body, 3);
		pk_kv_str(&c->body, "service", how & 0x40 ? "another" : SERVICE);
		pk_kv_u64(&c->body, "window", window);
		pk_str(&c->body, "args");
		pk_bin(&c->body, bytes, how & 0x80 ? 5000 : 10);
	}
	/* Of several openings one at most is accepted, and by what it granted we are measured: the largest. */
	w->granted = raw ? RPC_STREAM_WINDOW_MAX : MAX(w->granted, is_good(window) ? window : 0);
	rpc_submit(w->conn, c);
}

static void answer(struct world *w, uint8_t how, enum step what)
{
	struct list *l = what == REFUSE_LAST ? w->held.prev : w->held.next;
	uint32_t window = windows[how % ARRAY_SIZE(windows)];
	struct buf b = BUF_INIT;
	struct rpc_req *req;

	if (list_empty(&w->held))
		return;
	list_del(l);
	req = list_entry(l, struct rpc_req, link);
	if (req->method == RPC_STREAM_MESSAGE)
		w->owed -= req->payload_len + RPC_STREAM_COST;
	if (what == ANSWER_RAW) {
		put_raw(w, &b, how);
	} else if (req->method == RPC_STREAM_OPEN) {
		pk_map(&b, 1);
		pk_kv_u64(&b, "window", window);
	}
	if (req->method == RPC_STREAM_OPEN)
		w->granted = what == ANSWER_RAW ? RPC_STREAM_WINDOW_MAX : is_good(window) ? window : 0;
	rpc_reply(req, what == REFUSE_LAST ? HCI_E_IO : 0, NULL, &b, bytes, how & 0x80 ? 100 : 0, NULL, NULL);
	buf_free(&b);
}

static void serve(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	list_push(&w->held, &req->link);
	if (req->method != RPC_STREAM_MESSAGE)
		return;
	w->owed += req->payload_len + RPC_STREAM_COST;
	CHECK(req->payload_len && req->payload_len <= RPC_STREAM_MESSAGE_MAX && w->owed <= w->granted);
}

static void peer_step(struct world *w, enum step what, uint8_t how)
{
	struct rpc_call *c;

	if (what == OPEN || what == OPEN_RAW) {
		open_stream(w, how, what == OPEN_RAW);
	} else if (what == MESSAGE || what == END) {
		c = new_call(w, what == END ? RPC_STREAM_END : RPC_STREAM_MESSAGE);
		if (!c)
			return;
		c->payload = bytes;
		c->payload_len = what == MESSAGE && how != 255 ? lengths[how % ARRAY_SIZE(lengths)] : 0;
		rpc_submit(w->conn, c);
	} else if (what == CANCEL) {
		if (w->busy[w->last])
			rpc_cancel(w->conn, &w->calls[w->last]);
	} else if (what == HANG_UP) {
		rpc_conn_shutdown(w->conn);
	} else {
		answer(w, how, what);
	}
}

/* ---- the two nodes ---- */

/* The connection, when we made it, is the one that our opening comes by. */
static void serve_open(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	if (!w->conn)
		w->conn = rpc_conn_ref(req->conn);
	serve(arg, req);
}

static void peer_boot(struct env *e, void *arg)
{
	struct world *w = arg;
	struct rpc_opts o = { .node_name = "peer" };

	w->peer = rpc_new(e, &o);
	CHECK(w->peer);
	rpc_forget(w->peer, w->peer); /* the stream's methods: this peer has its own */
	CHECK(!rpc_register(w->peer, RPC_STREAM_OPEN, serve_open, w) && !rpc_register(w->peer, RPC_STREAM_MESSAGE, serve, w) &&
	      !rpc_register(w->peer, RPC_STREAM_END, serve, w));
	CHECK(!rpc_listen(w->peer, "tcp:peer:7001", NULL));
	if (!(w->flags & WE_OPEN))
		w->conn = rpc_connect(w->peer, "tcp:ours:7000", "ours", NULL);
}

static void our_boot(struct env *e, void *arg)
{
	struct world *w = arg;
	struct rpc_opts o = { .node_name = "ours" };
	struct rpc_stream_opts so = { .service = SERVICE };
	struct rpc_conn *c;

	w->r = rpc_new(e, &o);
	CHECK(w->r && !rpc_stream_serve(w->r, SERVICE, on_offer, w) && !rpc_listen(w->r, "tcp:ours:7000", NULL));
	if (!(w->flags & WE_OPEN))
		return;
	c = rpc_connect(w->r, "tcp:peer:7001", "peer", NULL);
	CHECK(c);
	w->window = RPC_STREAM_WINDOW;
	w->s = rpc_stream_open(c, &so, &ops, w, NULL);
	CHECK(w->s);
}

struct act {
	struct world *w;
	enum step what;
	uint8_t how;
};

static void do_peer(struct env *e, void *arg)
{
	struct act *a = arg;

	(void)e;
	if (a->w->conn)
		peer_step(a->w, a->what, a->how);
}

static void do_user(struct env *e, void *arg)
{
	struct act *a = arg;

	(void)e;
	a->w->in_call = true;
	user_step(a->w, a->what, a->how);
	a->w->in_call = false;
}

static void our_end(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)e;
	if (w->s && w->offered)
		rpc_stream_refuse(w->s, HCI_E_CANCELLED, "over");
	else if (w->s)
		close_it(w);
	w->s = NULL;
	rpc_free(w->r);
	for (unsigned i = 0; i < w->nlent; i++)
		CHECK(w->lent[i].given_back == 1);
}

static void peer_end(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)e;
	while (!list_empty(&w->held))
		answer(w, 0, ANSWER);
	rpc_conn_unref(w->conn);
	rpc_free(w->peer);
	for (unsigned i = 0; i < CALLS; i++) {
		CHECK(!w->busy[i]);
		rpc_call_free(&w->calls[i]);
	}
}

static void run(struct world *w)
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct sim *s = sim_new(&o);
	unsigned steps = 0;

	list_init(&w->held);
	w->peer_node = sim_node_new(s, "peer");
	w->our_node = sim_node_new(s, "ours");
	sim_node_call(w->flags & WE_OPEN ? w->peer_node : w->our_node, w->flags & WE_OPEN ? peer_boot : our_boot, w);
	sim_node_call(w->flags & WE_OPEN ? w->our_node : w->peer_node, w->flags & WE_OPEN ? our_boot : peer_boot, w);
	sim_run(s, 50 * NS_PER_MS);
	while (w->end - w->p >= 2 && steps++ < 300) {
		struct act a = { .w = w, .what = w->p[0] % STEPS, .how = w->p[1] };

		w->p += 2;
		if (a.what == WAIT)
			sim_run(s, (a.how & 0x80 ? 100u * (a.how & 0x7f) : a.how) * NS_PER_MS);
		else if (a.what < ACCEPT)
			sim_node_call(w->peer_node, do_peer, &a);
		else
			sim_node_call(w->our_node, do_user, &a);
	}
	sim_run(s, NS_PER_S);
	sim_node_call(w->our_node, our_end, w);
	sim_run(s, NS_PER_S);
	sim_node_call(w->peer_node, peer_end, w);
	sim_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w;

	if (!size)
		return 0;
	w = calloc(1, sizeof(*w));
	w->flags = data[0];
	w->p = data + 1;
	w->end = data + size;
	run(w);
	free(w);
	return 0;
}
