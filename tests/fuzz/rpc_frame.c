/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from a stranger, first to the header's parser alone, then as a stream into a connection in
 * the simulator. The first byte is a set of bits:
 *	1  our end is the client, with calls open; else the server
 *	2  a good hello is sent before the rest
 *	4  headers get their magic and checksums right, so that what lies behind them is reached
 *	8  the bytes come one after the other, not in one piece
 * Whatever comes, every call is done once, an honest connection beside goes on working, and nothing
 * stays behind.
 */
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "env/sim.h"
#include "rpc/frame.h"
#include "rpc/rpc.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

enum { AS_CLIENT = 1, WITH_HELLO = 2, REPAIR = 4, DRIBBLE = 8 };
enum { M_ECHO = 0x301, M_HOLD = 0x302 };
#define CALLS 3u

struct world {
	uint8_t flags;
	const uint8_t *data;
	size_t size;
	/* the raw end */
	struct env *raw_env;
	struct env_conn *raw;
	struct env_listener *raw_listener;
	struct buf out;
	size_t sent;
	struct env_timer tick;
	bool raw_over;
	/* our end */
	struct rpc *r;
	struct rpc_conn *conn, *honest;
	struct rpc_call calls[CALLS], echo;
	unsigned done, echoed;
	struct list held;
	uint8_t page[4096];
};

static void check_header(const uint8_t *data, size_t size)
{
	uint8_t again[FRAME_HDR];
	struct frame f;

	if (size < FRAME_HDR || rpc_frame_parse(data, &f, NULL) < 0)
		return;
	CHECK(f.body_len <= RPC_BODY_MAX && f.payload_len <= RPC_PAYLOAD_MAX && f.status <= 0);
	rpc_frame_encode(&f, again);
	CHECK(!memcmp(again, data, FRAME_HDR));
}

/* ---- the stream ---- */

static void add_frame(struct buf *b, struct frame *f, const void *body)
{
	uint8_t hdr[FRAME_HDR];

	f->body_crc = crc32c(0, body, f->body_len);
	rpc_frame_encode(f, hdr);
	buf_append(b, hdr, sizeof(hdr));
	buf_append(b, body, f->body_len);
}

static void add_hello(struct buf *b)
{
	struct frame f = { .type = FRAME_HELLO, .version = 1 };
	struct uuid cluster = { { 0 } };
	struct buf h = BUF_INIT;

	pk_map(&h, 4);
	pk_kv_u64(&h, "min", 1);
	pk_kv_u64(&h, "max", 1);
	pk_kv_str(&h, "node", "raw");
	pk_kv_uuid(&h, "cluster", &cluster);
	f.body_len = (uint32_t)h.len;
	add_frame(b, &f, h.data);
	buf_free(&h);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static void repair(uint8_t *p, size_t n)
{
	static const uint32_t magic = FRAME_MAGIC;

	while (n >= FRAME_HDR) {
		uint64_t body = get32(p + 24), payload = get32(p + 28);
		uint32_t crc;

		memcpy(p, &magic, 4);
		if (body <= n - FRAME_HDR) {
			crc = crc32c(0, p + FRAME_HDR, body);
			memcpy(p + 32, &crc, 4);
		}
		crc = crc32c(0, p, 36);
		memcpy(p + 36, &crc, 4);
		if (body + payload > n - FRAME_HDR)
			return;
		p += FRAME_HDR + body + payload;
		n -= FRAME_HDR + body + payload;
	}
}

static void build(struct world *w)
{
	size_t at;

	if (w->flags & WITH_HELLO)
		add_hello(&w->out);
	at = w->out.len;
	buf_append(&w->out, w->data, w->size);
	if (w->flags & REPAIR && w->size)
		repair(w->out.data + at, w->size);
}

/* ---- the raw end ---- */

static void push(struct world *w)
{
	while (w->sent < w->out.len && !w->raw_over) {
		size_t n = w->out.len - w->sent;
		struct iovec iov = { w->out.data + w->sent, w->flags & DRIBBLE ? MIN(n, 13) : n };
		int64_t k = env_conn_send(w->raw, &iov, 1);

		if (k <= 0)
			return;
		w->sent += (size_t)k;
		if (w->flags & DRIBBLE) {
			env_timer_arm(w->raw_env, &w->tick, env_now(w->raw_env) + NS_PER_MS);
			return;
		}
	}
}

static void raw_open(void *arg)
{
	push(arg);
}

static void raw_readable(void *arg)
{
	struct world *w = arg;
	char tmp[4096];
	int64_t n;

	while ((n = env_conn_recv(w->raw, tmp, sizeof(tmp))) > 0)
		;
	if (n != HCI_E_AGAIN)
		w->raw_over = true;
}

static void raw_closed(void *arg, const struct hci_error *err)
{
	(void)err;
	((struct world *)arg)->raw_over = true;
}

static const struct env_conn_ops raw_ops = { raw_open, raw_readable, raw_open, raw_closed };

static void on_tick(struct env_timer *t)
{
	struct world *w = container_of(t, struct world, tick);

	push(w);
}

static void raw_accept(void *arg, struct env_conn *c)
{
	struct world *w = arg;

	CHECK(!w->raw);
	w->raw = c;
	env_conn_set_ops(c, &raw_ops, w);
	push(w);
}

static void raw_boot(struct env *e, void *arg)
{
	struct world *w = arg;

	w->raw_env = e;
	build(w);
	env_timer_init(&w->tick, on_tick);
	if (w->flags & AS_CLIENT)
		w->raw_listener = env_listen(e, "tcp:raw:7001", NULL, raw_accept, w, NULL);
	else
		w->raw = env_connect(e, "tcp:ours:7000", NULL, &raw_ops, w, NULL);
	CHECK(w->raw || w->raw_listener);
}

static void raw_end(struct env *e, void *arg)
{
	struct world *w = arg;

	env_timer_disarm(e, &w->tick);
	if (w->raw)
		env_conn_close(w->raw, true);
	if (w->raw_listener)
		env_listener_close(w->raw_listener);
	buf_free(&w->out);
}

/* ---- our end ---- */

static void serve_echo(void *arg, struct rpc_req *req)
{
	struct buf b = { .data = (uint8_t *)(uintptr_t)req->args.p,
			 .len = (size_t)(req->args.end - req->args.p) };

	(void)arg;
	if (req->payload_len)
		CHECK((uintptr_t)req->payload % HCI_BLOCK == 0);
	rpc_reply(req, 0, NULL, b.len > RPC_BODY_MAX / 2 ? NULL : &b, req->payload,
		  req->payload_len, NULL, NULL);
}

static void serve_hold(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	list_push(&w->held, &req->link);
}

static void on_done(struct rpc_call *call)
{
	struct world *w = container_of(call - call->timeout_ns % 10, struct world, calls[0]);

	w->done++;
}

static void on_echo(struct rpc_call *call)
{
	struct world *w = container_of(call, struct world, echo);

	CHECK(call->status == 0);
	w->echoed++;
}

static void call_out(struct world *w)
{
	w->conn = rpc_connect(w->r, "tcp:raw:7001", NULL, NULL);
	CHECK(w->conn);
	for (uint64_t i = 0; i < CALLS; i++) {
		struct rpc_call *c = &w->calls[i];

		c->method = M_ECHO;
		c->done = on_done;
		c->timeout_ns = 3 * NS_PER_S + i; /* the last digit is the index */
		c->payload = w->page;
		c->payload_len = i == 1 ? sizeof(w->page) : 0;
		c->reply_buf = i == 2 ? w->page : NULL;
		c->reply_cap = i == 2 ? sizeof(w->page) : 0;
		rpc_submit(w->conn, c);
	}
}

static void our_boot(struct env *e, void *arg)
{
	struct world *w = arg;
	struct rpc_opts o = { .node_name = "ours" };

	w->r = rpc_new(e, &o);
	CHECK(w->r && !rpc_register(w->r, M_ECHO, serve_echo, w) &&
	      !rpc_register(w->r, M_HOLD, serve_hold, w));
	CHECK(rpc_listen(w->r, "tcp:ours:7000", NULL) == 0);
	w->honest = rpc_connect(w->r, "tcp:ours:7000", "ours", NULL);
	CHECK(w->honest);
	if (w->flags & AS_CLIENT)
		call_out(w);
}

static void our_check(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)e;
	w->echo.method = M_ECHO;
	w->echo.done = on_echo;
	w->echo.payload = w->page;
	w->echo.payload_len = sizeof(w->page);
	rpc_submit(w->honest, &w->echo);
}

static void our_end(struct env *e, void *arg)
{
	struct world *w = arg;
	struct list *l;

	(void)e;
	CHECK(w->echoed == 1);
	CHECK(w->done == (w->flags & AS_CLIENT ? CALLS : 0));
	while ((l = list_pop(&w->held)))
		rpc_reply(list_entry(l, struct rpc_req, link), HCI_E_IO, "held", NULL, w->page, 100,
			  NULL, NULL);
	rpc_call_free(&w->echo);
	for (unsigned i = 0; i < CALLS; i++)
		rpc_call_free(&w->calls[i]);
	rpc_conn_unref(w->conn);
	rpc_conn_unref(w->honest);
	rpc_free(w->r);
}

static void check_stream(uint8_t flags, const uint8_t *data, size_t size)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sim_opts o = SIM_OPTS_INIT;
	struct sim_node *raw, *ours;
	struct sim *s = sim_new(&o);

	w->flags = flags;
	w->data = data;
	w->size = size;
	list_init(&w->held);
	raw = sim_node_new(s, "raw");
	ours = sim_node_new(s, "ours");
	if (flags & AS_CLIENT) {
		sim_node_call(raw, raw_boot, w);
		sim_node_call(ours, our_boot, w);
	} else {
		sim_node_call(ours, our_boot, w);
		sim_node_call(raw, raw_boot, w);
	}
	sim_run(s, 4 * NS_PER_S + (flags & DRIBBLE ? size / 13 * NS_PER_MS : 0));
	sim_node_call(ours, our_check, w);
	sim_run(s, NS_PER_S);
	sim_node_call(ours, our_end, w);
	sim_node_call(raw, raw_end, w);
	sim_free(s);
	free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	check_header(data + 1, size - 1);
	check_stream(data[0], data + 1, size - 1);
	return 0;
}
