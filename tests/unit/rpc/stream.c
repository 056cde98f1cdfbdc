/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: order, windows, both kinds of end, loss, and peers that break the rules. */
#include "base/buf.h"
#include "base/mem.h"
#include "rpc/stream.h"
#include "unit/harness.h"
#include "unit/rpc/raw.h"

#define W_MIN RPC_STREAM_WINDOW_MIN

/* One end, with a user who sends numbered messages and checks what it gets. */
struct end {
	struct world *w;
	struct rpc_stream *s;
	struct fiber_cond cond;
	bool opened, closed, hold, ended_seen;
	struct hci_error err;
	unsigned got, sent, writable;
	uint64_t got_bytes;
};

struct pair {
	struct end a, b; /* opener, server */
	uint32_t window;
	int refuse; /* what the server says, 0: accepts */
	bool later; /* the server decides later */
	char args[32];
};

static uint32_t size_of(unsigned i)
{
	static const uint32_t sizes[] = { 1, 4096, 100000, RPC_STREAM_MESSAGE_MAX, 17 };

	return sizes[i % 5];
}

static void changed(struct end *x)
{
	fiber_cond_signal(x->w->e, &x->cond);
}

static void take(struct end *x)
{
	struct rpc_stream_message m;

	while (!x->hold && rpc_stream_next(x->s, &m)) {
		ck_assert_uint_eq(m.len, size_of(x->got));
		ck_assert(filled(m.data, m.len, x->got));
		x->got++;
		x->got_bytes += m.len;
		rpc_stream_taken(x->s);
	}
	if (rpc_stream_at_end(x->s))
		x->ended_seen = true;
	changed(x);
}

static void on_open(void *arg)
{
	struct end *x = arg;

	ck_assert(!x->opened);
	x->opened = true;
	changed(x);
}

static void on_readable(void *arg)
{
	take(arg);
}

static void on_writable(void *arg)
{
	struct end *x = arg;

	x->writable++;
	changed(x);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct end *x = arg;

	ck_assert(!x->closed);
	x->closed = true;
	x->err = *err;
	changed(x);
}

static const struct rpc_stream_ops ops = { on_open, on_readable, on_writable, on_closed };

static void accept(struct pair *p)
{
	if (p->refuse)
		rpc_stream_refuse(p->b.s, p->refuse, "not today");
	else
		rpc_stream_accept(p->b.s, p->window, &ops, &p->b);
	if (p->refuse)
		p->b.s = NULL;
}

static void on_offer(void *arg, struct rpc_stream *s, struct rd *args)
{
	struct pair *p = arg;

	ck_assert(rd_strcpy(args, p->args, sizeof(p->args)));
	ck_assert_str_eq(rpc_stream_peer(s), "cli");
	p->b.s = s;
	if (!p->later)
		accept(p);
}

static void end_init(struct end *x, struct world *w)
{
	x->w = w;
	fiber_cond_init(&x->cond);
}

static struct rpc_conn *connect_(struct world *w)
{
	struct hci_error err;
	struct rpc_conn *c = rpc_connect(w->cli, w->addr, "srv", &err);

	ck_assert_ptr_nonnull(c);
	return c;
}

static void open_on(struct pair *p, struct rpc_conn *c, const char *service)
{
	struct rpc_stream_opts o = { .service = service, .window = p->window };
	struct buf args = BUF_INIT;
	struct hci_error err;

	pk_str(&args, "hello");
	o.args = &args;
	p->a.s = rpc_stream_open(c, &o, &ops, &p->a, &err);
	buf_free(&args);
	ck_assert_ptr_nonnull(p->a.s);
}

static void pair_init(struct world *w, struct pair *p)
{
	end_init(&p->a, w);
	end_init(&p->b, w);
	ck_assert_int_eq(rpc_stream_serve(w->srv, "test", on_offer, p), 0);
	ck_assert_int_eq(rpc_stream_serve(w->srv, "test", on_offer, p), HCI_E_EXISTS);
}

static void pair_open(struct world *w, struct pair *p)
{
	pair_init(w, p);
	open_on(p, connect_(w), "test");
	while (!p->a.opened && !p->a.closed)
		fiber_cond_wait(w->e, &p->a.cond);
}

static void wait_closed(struct end *x)
{
	while (!x->closed)
		fiber_cond_wait(x->w->e, &x->cond);
	rpc_stream_close(x->s, NULL);
	x->s = NULL;
}

static int send_one(struct end *x)
{
	uint32_t n = size_of(x->sent);
	void *b = rpc_stream_buf(x->s, n);
	int rc;

	fill(b, n, x->sent);
	rc = rpc_stream_send(x->s, b, n, n);
	if (!rc)
		x->sent++;
	return rc;
}

static void send_many(struct end *x, unsigned n)
{
	while (x->sent < n) {
		unsigned before = x->writable;

		if (rpc_stream_room(x->s) >= size_of(x->sent)) {
			ck_assert_int_eq(send_one(x), 0);
		} else if (rpc_stream_room(x->s)) {
			fiber_sleep(x->w->e, NS_PER_MS / 10);
		} else {
			while (x->writable == before && !x->closed)
				fiber_cond_wait(x->w->e, &x->cond);
			ck_assert(!x->closed);
		}
	}
}

/* ---- what should work ---- */

struct sender {
	struct end *x;
	unsigned n;
	bool done;
};

static void sender(void *arg)
{
	struct sender *s = arg;

	send_many(s->x, s->n);
	rpc_stream_end(s->x->s);
	s->done = true;
	changed(s->x);
}

BOTH(messages_cross_both_ways_in_order)
{
	struct pair p = { .window = w->kind == WORLD_SIM ? W_MIN : 0 };
	struct sender b;

	pair_open(w, &p);
	ck_assert(p.a.opened);
	ck_assert_str_eq(p.args, "hello");
	b = (struct sender){ .x = &p.b, .n = 120 };
	ck_assert_int_eq(fiber_spawn(w->e, sender, &b, "sender"), 0);
	send_many(&p.a, 100);
	rpc_stream_end(p.a.s);
	wait_closed(&p.a);
	wait_closed(&p.b);
	ck_assert(b.done);
	ck_assert_int_eq(p.a.err.code, 0);
	ck_assert_int_eq(p.b.err.code, 0);
	ck_assert_uint_eq(p.b.got, 100);
	ck_assert_uint_eq(p.a.got, 120);
	ck_assert(p.a.ended_seen && p.b.ended_seen);
}

BOTH(one_end_may_go_on_after_the_other_has_ended)
{
	struct pair p = { 0 };

	pair_open(w, &p);
	rpc_stream_end(p.a.s);
	rpc_stream_end(p.a.s);
	ck_assert_int_eq(send_one(&p.a), HCI_E_STATE);
	while (!p.b.ended_seen)
		fiber_cond_wait(w->e, &p.b.cond);
	send_many(&p.b, 20);
	rpc_stream_end(p.b.s);
	wait_closed(&p.a);
	wait_closed(&p.b);
	ck_assert_int_eq(p.a.err.code, 0);
	ck_assert_int_eq(p.b.err.code, 0);
	ck_assert_uint_eq(p.a.got, 20);
}

BOTH(a_slow_reader_holds_the_sender_back)
{
	struct pair p = { .window = W_MIN };

	p.b.hold = true;
	pair_open(w, &p);
	for (unsigned i = 0; i < 50; i++)
		while (rpc_stream_room(p.a.s) >= size_of(p.a.sent) && !send_one(&p.a))
			;
	ck_assert_uint_eq(p.a.sent, 3); /* the fourth is as long as the window */
	ck_assert_int_eq(send_one(&p.a), HCI_E_AGAIN);
	fiber_sleep(w->e, 20 * NS_PER_S);
	ck_assert(!p.a.closed && !p.b.closed);
	ck_assert_uint_eq(p.a.writable, 0);
	p.b.hold = false;
	take(&p.b);
	send_many(&p.a, 30);
	rpc_stream_end(p.a.s);
	rpc_stream_end(p.b.s);
	wait_closed(&p.b);
	wait_closed(&p.a);
	ck_assert_uint_eq(p.b.got, 30);
}

BOTH(with_a_pace_less_is_under_way)
{
	struct pair p = { 0 };
	uint64_t most = 0;

	pair_open(w, &p);
	rpc_stream_pace(p.a.s, NS_PER_MS / 1000);
	for (unsigned i = 0; i < 60; i++) {
		send_many(&p.a, i);
		most = MAX(most, rpc_stream_in_flight(p.a.s));
	}
	ck_assert_uint_gt(rpc_stream_rate(p.a.s), 0);
	ck_assert_uint_le(most, RPC_STREAM_MESSAGE_MAX + 300000);
	rpc_stream_end(p.a.s);
	rpc_stream_end(p.b.s);
	wait_closed(&p.b);
	wait_closed(&p.a);
	ck_assert_uint_eq(p.b.got, 59);
}

/* ---- what should not ---- */

BOTH(a_refused_one_says_why)
{
	struct pair p = { .refuse = HCI_E_STATE };

	pair_open(w, &p);
	ck_assert(!p.a.opened);
	ck_assert_int_eq(p.a.err.code, HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(p.a.err.message, "not today"));
	rpc_stream_close(p.a.s, NULL);
}

BOTH(a_service_that_is_not_there)
{
	struct pair p = { 0 };

	pair_init(w, &p);
	open_on(&p, connect_(w), "other");
	wait_closed(&p.a);
	ck_assert_int_eq(p.a.err.code, HCI_E_UNSUPPORTED);
	rpc_forget(w->srv, &p);
	p.a.closed = false;
	open_on(&p, connect_(w), "test");
	wait_closed(&p.a);
	ck_assert_int_eq(p.a.err.code, HCI_E_UNSUPPORTED);
}

BOTH(a_node_that_does_not_answer)
{
	struct pair p = { .later = true };

	pair_init(w, &p);
	open_on(&p, connect_(w), "test");
	wait_closed(&p.a);
	ck_assert_int_eq(p.a.err.code, HCI_E_TIMEOUT);
	fiber_sleep(w->e, NS_PER_S);
	accept(&p); /* too late */
	wait_closed(&p.b);
	ck_assert_int_ne(p.b.err.code, 0);
}

BOTH(the_other_end_hears_the_reason)
{
	struct hci_error why = { .code = HCI_E_CANCELLED, .message = "somebody changed his mind" };
	struct pair p = { 0 };

	pair_open(w, &p);
	send_many(&p.a, 2);
	rpc_stream_close(w->kind == WORLD_SIM ? p.a.s : p.b.s, &why);
	wait_closed(w->kind == WORLD_SIM ? &p.b : &p.a);
	ck_assert_int_eq(w->kind == WORLD_SIM ? p.b.err.code : p.a.err.code, HCI_E_CANCELLED);
	ck_assert_ptr_nonnull(strstr(w->kind == WORLD_SIM ? p.b.err.message : p.a.err.message, "changed his mind"));
}

BOTH(a_lost_connection_is_seen_by_both)
{
	struct pair p = { .window = W_MIN };
	struct rpc_conn *c = connect_(w);

	p.b.hold = true;
	pair_init(w, &p);
	rpc_conn_ref(c);
	open_on(&p, c, "test");
	while (!p.a.opened)
		fiber_cond_wait(w->e, &p.a.cond);
	send_many(&p.a, 3);
	fiber_sleep(w->e, 10 * NS_PER_MS);
	rpc_conn_shutdown(c);
	ck_assert_int_lt(send_one(&p.a), 0);
	wait_closed(&p.a);
	wait_closed(&p.b);
	ck_assert_int_ne(p.a.err.code, 0);
	ck_assert_int_ne(p.b.err.code, 0);
	rpc_conn_unref(c);
}

BOTH(it_may_be_closed_at_any_moment)
{
	for (unsigned i = 0; i < 40; i++) {
		struct pair p = { .later = i % 3 == 0 };

		pair_init(w, &p);
		open_on(&p, connect_(w), "test");
		fiber_sleep(w->e, i * NS_PER_MS / 10);
		if (p.b.s && p.later)
			accept(&p);
		for (unsigned k = 0; k < 3 && p.a.opened; k++)
			(void)send_one(&p.a);
		rpc_stream_close(i & 1 ? p.a.s : p.b.s, NULL);
		if (i & 1) {
			fiber_sleep(w->e, NS_PER_S);
			if (p.b.s)
				wait_closed(&p.b);
		} else if (p.b.s) {
			wait_closed(&p.a);
		} else {
			rpc_stream_close(p.a.s, NULL);
			fiber_sleep(w->e, NS_PER_S);
			if (p.b.s)
				wait_closed(&p.b);
		}
		rpc_forget(w->srv, &p);
	}
}

/* ---- hostile ---- */

static struct tcall *call_of(struct world *w, uint32_t method, const void *payload, uint32_t len)
{
	struct tcall *t = tcall_new(w, method);

	t->call.payload = payload;
	t->call.payload_len = len;
	return t;
}

static void open_body(struct tcall *t, uint64_t window, uint32_t nargs)
{
	static const uint8_t zero[8192];

	pk_map(&t->call.body, 4);
	pk_kv_str(&t->call.body, "service", "test");
	pk_kv_u64(&t->call.body, "window", window);
	pk_kv_str(&t->call.body, "new", "skipped");
	pk_str(&t->call.body, "args");
	pk_bin(&t->call.body, zero, nargs);
}

static int call_once(struct world *w, struct rpc_conn *c, struct tcall *t)
{
	int rc;

	(void)w;
	tcall_submit(c, t);
	tcall_wait(t);
	rc = t->call.status;
	tcall_free(t);
	return rc;
}

static struct tcall *opening(struct world *w, uint64_t window, uint32_t nargs)
{
	struct tcall *t = tcall_new(w, RPC_STREAM_OPEN);

	open_body(t, window, nargs);
	return t;
}

static void on_offer_plain(void *arg, struct rpc_stream *s, struct rd *args)
{
	struct pair *p = arg;

	(void)args;
	p->b.s = s;
	accept(p);
}

static struct rpc_conn *hostile(struct world *w, struct pair *p)
{
	end_init(&p->b, w);
	p->b.hold = true;
	p->window = W_MIN;
	ck_assert_int_eq(rpc_stream_serve(w->srv, "test", on_offer_plain, p), 0);
	return world_connect(w);
}

BOTH(openings_that_make_no_sense)
{
	struct pair p = { 0 };
	struct rpc_conn *c = hostile(w, &p);
	struct tcall *t = tcall_new(w, RPC_STREAM_OPEN);

	tcall_arg(t, 7);
	ck_assert_int_eq(call_once(w, c, t), HCI_E_PROTO);
	ck_assert_int_eq(call_once(w, c, opening(w, 0, 0)), HCI_E_PROTO);
	ck_assert_int_eq(call_once(w, c, opening(w, W_MIN - 1, 0)), HCI_E_PROTO);
	ck_assert_int_eq(call_once(w, c, opening(w, RPC_STREAM_WINDOW_MAX + 1, 0)), HCI_E_PROTO);
	ck_assert_int_eq(call_once(w, c, opening(w, W_MIN, 4097)), HCI_E_PROTO);
	ck_assert_int_eq(call_once(w, c, call_of(w, RPC_STREAM_MESSAGE, "x", 1)), HCI_E_STATE);
	ck_assert_int_eq(call_once(w, c, call_of(w, RPC_STREAM_END, NULL, 0)), HCI_E_STATE);
	ck_assert_int_eq(call_once(w, c, opening(w, W_MIN, 4096)), 0);
	ck_assert_int_eq(call_once(w, c, opening(w, W_MIN, 0)), HCI_E_STATE); /* a second one */
	ck_assert(rpc_conn_ok(c));
	rpc_conn_unref(c);
	wait_closed(&p.b);
}

/* Returns what the stream's end at the server says. */
static int breaks(struct world *w, unsigned how)
{
	static uint8_t big[RPC_STREAM_MESSAGE_MAX + 1];
	struct pair p = { 0 };
	struct rpc_conn *c = hostile(w, &p);
	struct tcall *t[2000];
	unsigned n = 0;

	ck_assert_int_eq(call_once(w, c, opening(w, W_MIN, 0)), 0);
	if (how == 0) { /* many small ones */
		for (; n < 1100; n++)
			tcall_submit(c, t[n] = call_of(w, RPC_STREAM_MESSAGE, "x", 1));
	} else if (how == 1) {
		for (; n < 2; n++)
			tcall_submit(c, t[n] = call_of(w, RPC_STREAM_MESSAGE, big, RPC_STREAM_MESSAGE_MAX / 2 + 1));
	} else if (how == 2) {
		tcall_submit(c, t[n++] = call_of(w, RPC_STREAM_MESSAGE, big, sizeof(big)));
	} else if (how == 3) {
		tcall_submit(c, t[n++] = call_of(w, RPC_STREAM_MESSAGE, NULL, 0));
	} else {
		tcall_submit(c, t[n++] = call_of(w, RPC_STREAM_END, NULL, 0));
		tcall_submit(c, t[n++] = call_of(w, how == 4 ? RPC_STREAM_END : RPC_STREAM_MESSAGE, "x", how == 5));
	}
	wait_closed(&p.b);
	for (unsigned i = 0; i < n; i++) {
		tcall_wait(t[i]);
		tcall_free(t[i]);
	}
	ck_assert(!rpc_conn_ok(c));
	rpc_conn_unref(c);
	rpc_forget(w->srv, &p);
	return p.b.err.code;
}

BOTH(a_peer_that_breaks_the_rules_is_cut_off)
{
	for (unsigned how = 0; how < 6; how++)
		ck_assert_int_eq(breaks(w, how), HCI_E_PROTO);
}

/* ---- memory ---- */

static void one_short_life(struct world *w)
{
	struct pair p = { 0 };
	struct rpc_stream_opts o = { .service = "test" };
	struct hci_error err;
	struct rpc_conn *c;

	end_init(&p.a, w);
	end_init(&p.b, w);
	if (rpc_stream_serve(w->srv, "test", on_offer_plain, &p))
		return;
	c = rpc_connect(w->cli, w->addr, "srv", &err);
	p.a.s = c ? rpc_stream_open(c, &o, &ops, &p.a, &err) : NULL;
	while (p.a.s && !p.a.opened && !p.a.closed)
		fiber_cond_wait(w->e, &p.a.cond);
	if (p.a.opened) {
		void *b = rpc_stream_buf(p.a.s, 5000);

		if (b) {
			fill(b, 1, 0);
			(void)rpc_stream_send(p.a.s, b, 5000, 1);
		}
		rpc_stream_end(p.a.s);
		if (p.b.s)
			rpc_stream_end(p.b.s);
		while (!p.a.closed)
			fiber_cond_wait(w->e, &p.a.cond);
	}
	rpc_stream_close(p.a.s, NULL);
	fiber_sleep(w->e, 100 * NS_PER_MS);
	rpc_stream_close(p.b.s, NULL);
	rpc_forget(w->srv, &p);
}

static void failing(struct world *w)
{
	for (uint64_t n = 1; n < 40; n++) {
		mem_fail_nth(n);
		one_short_life(w);
		mem_fail_nth(0);
	}
}

START_TEST(each_allocation_may_fail)
{
	world_run(WORLD_SIM, failing);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("rpc_stream");
	TCase *tc = tcase_create("stream");

	tcase_set_timeout(tc, 120);
	add_both(tc, messages_cross_both_ways_in_order);
	add_both(tc, one_end_may_go_on_after_the_other_has_ended);
	tcase_add_loop_test(tc, a_slow_reader_holds_the_sender_back, WORLD_SIM, WORLD_KINDS);
	add_both(tc, with_a_pace_less_is_under_way);
	add_both(tc, a_refused_one_says_why);
	add_both(tc, a_service_that_is_not_there);
	tcase_add_loop_test(tc, a_node_that_does_not_answer, WORLD_SIM, WORLD_KINDS);
	add_both(tc, the_other_end_hears_the_reason);
	add_both(tc, a_lost_connection_is_seen_by_both);
	tcase_add_loop_test(tc, it_may_be_closed_at_any_moment, WORLD_SIM, WORLD_KINDS);
	add_both(tc, openings_that_make_no_sense);
	add_both(tc, a_peer_that_breaks_the_rules_is_cut_off);
	tcase_add_test(tc, each_allocation_may_fail);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
