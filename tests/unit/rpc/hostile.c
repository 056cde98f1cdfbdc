/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that stall, lie, flood, or die in the middle: only their own connection suffers. */
#include <limits.h>

#include "base/mem.h"
#include "unit/harness.h"
#include "unit/rpc/raw.h"

/* A raw client past the hellos, beside an honest one. */
struct pair {
	struct rpc_conn *honest;
	struct raw *raw;
};

static struct pair pair_open(struct world *w)
{
	struct pair p = { world_connect(w), raw_connect(w, w->addr) };
	struct frame f;

	ck_assert(raw_hello(w, p.raw, "raw"));
	ck_assert(raw_expect(p.raw, FRAME_HELLO, &f, NULL));
	return p;
}

static void pair_close(struct world *w, struct pair *p)
{
	check_echo(w, p->honest, 4096);
	raw_free(p->raw);
	rpc_conn_unref(p->honest);
}

BOTH(honest_raw_peer_is_served)
{
	struct pair p = pair_open(w);
	struct buf b = BUF_INIT, out = BUF_INIT;
	struct frame f;

	pk_u64(&b, 42);
	ck_assert(raw_request(p.raw, M_ECHO, 7, &b));
	ck_assert(raw_next(p.raw, &f, &out));
	ck_assert_uint_eq(f.type, FRAME_REPLY);
	ck_assert_uint_eq(f.id, 7);
	ck_assert_uint_eq(f.method, M_ECHO);
	ck_assert_int_eq(f.status, 0);
	ck_assert_uint_eq(out.len, b.len);
	f = (struct frame){ .type = FRAME_PING, .version = 1, .id = 99 };
	ck_assert(raw_send_frame(p.raw, &f, NULL, NULL));
	ck_assert(raw_next(p.raw, &f, NULL));
	ck_assert_uint_eq(f.type, FRAME_PONG);
	ck_assert_uint_eq(f.id, 99);
	f = (struct frame){ .type = FRAME_GOODBYE, .version = 1 };
	ck_assert(raw_send_frame(p.raw, &f, NULL, NULL));
	ck_assert(!raw_next(p.raw, &f, NULL));
	buf_free(&b);
	buf_free(&out);
	pair_close(w, &p);
}

BOTH(every_byte_by_itself)
{
	struct pair p = pair_open(w);
	struct frame f = {
		.type = FRAME_REQUEST, .version = 1, .method = M_ECHO, .id = 3, .payload_len = 30
	};
	uint8_t bytes[FRAME_HDR + 30];
	struct buf out = BUF_INIT;

	rpc_frame_encode(&f, bytes);
	fill(bytes + FRAME_HDR, 30, 1);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert(raw_send(p.raw, bytes + i, 1));
		fiber_sleep(w->e, NS_PER_MS);
	}
	ck_assert(raw_next(p.raw, &f, &out));
	ck_assert_uint_eq(f.id, 3);
	ck_assert(out.len == 30 && filled(out.data, 30, 1));
	buf_free(&out);
	pair_close(w, &p);
}

BOTH(garbage_is_shown_the_door)
{
	struct pair p = pair_open(w);
	char junk[64] = "GET / HTTP/1.1\r\nHost: example\r\n\r\n";

	ck_assert(raw_send(p.raw, junk, sizeof(junk)));
	raw_expect_goodbye(p.raw, HCI_E_PROTO, "bad magic");
	pair_close(w, &p);
}

BOTH(garbage_instead_of_hello)
{
	struct rpc_conn *c = world_connect(w);
	struct raw *r = raw_connect(w, w->addr);
	char junk[64] = "\x16\x03\x01 TLS client hello, perhaps";

	ck_assert(raw_send(r, junk, sizeof(junk)));
	raw_expect_goodbye(r, HCI_E_PROTO, "TLS on one side only");
	raw_free(r);
	check_echo(w, c, 1);
	rpc_conn_unref(c);
}

struct bad {
	struct frame f;
	const char *text;
};

static const struct bad bad_frames[] = {
	{ { .type = FRAME_REQUEST,
	    .version = 1,
	    .method = M_ECHO,
	    .id = 1,
	    .body_len = RPC_BODY_MAX + 1 },
	  "body of 262145" },
	{ { .type = FRAME_REQUEST,
	    .version = 1,
	    .method = M_ECHO,
	    .id = 1,
	    .body_len = UINT32_MAX },
	  "body of 4294967295" },
	{ { .type = FRAME_REQUEST,
	    .version = 1,
	    .method = M_ECHO,
	    .id = 1,
	    .payload_len = RPC_PAYLOAD_MAX + 1 },
	  "payload of" },
	{ { .type = FRAME_REQUEST,
	    .version = 1,
	    .method = M_ECHO,
	    .id = 1,
	    .payload_len = UINT32_MAX },
	  "payload of" },
	{ { .type = FRAME_REQUEST, .version = 9, .method = M_ECHO, .id = 1 }, "version 9" },
	{ { .type = 77, .version = 1 }, "unknown type 77" },
	{ { .type = FRAME_HELLO, .version = 1 }, "second hello" },
	{ { .type = FRAME_PING, .version = 1, .method = 3 }, "may not have" },
	{ { .type = FRAME_REPLY, .version = 1, .id = 0 }, "not open" },
	{ { .type = FRAME_REPLY, .version = 1, .id = UINT64_MAX }, "not open" },
	{ { .type = FRAME_REPLY, .version = 1, .id = 1, .status = 5 }, "out of range" },
	{ { .type = FRAME_REQUEST, .version = 1, .method = M_ECHO, .id = 1, .body_crc = 1 },
	  "fails its checksum" },
};

BOTH(frames_against_the_rules)
{
	struct rpc_conn *c = world_connect(w);
	struct raw *r[ARRAY_SIZE(bad_frames)];

	/* All at once: each is held for a moment after its goodbye. */
	for (size_t i = 0; i < ARRAY_SIZE(bad_frames); i++) {
		r[i] = raw_connect(w, w->addr);
		ck_assert(raw_hello(w, r[i], "raw"));
		ck_assert(raw_send_frame(r[i], &bad_frames[i].f, NULL, NULL));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_frames); i++) {
		raw_expect_goodbye(r[i], HCI_E_PROTO, bad_frames[i].text);
		raw_free(r[i]);
	}
	check_echo(w, c, 4096);
	rpc_conn_unref(c);
	ck_assert_uint_eq(w->served, 1);
}

BOTH(nothing_before_the_hello)
{
	struct raw *r = raw_connect(w, w->addr);

	ck_assert(raw_request(r, M_ECHO, 1, NULL));
	raw_expect_goodbye(r, HCI_E_PROTO, "before its hello");
	raw_free(r);
	ck_assert_uint_eq(w->served, 0);
	ck_assert_uint_eq(w->closed,
			  0); /* never got past the hello: the hook does not hear of it */
}

/* Each body of a hello cut at every length. */
BOTH(hello_cut_short)
{
	struct buf b = BUF_INIT;
	struct raw *r[100];

	pk_map(&b, 4);
	pk_kv_u64(&b, "min", 1);
	pk_kv_u64(&b, "max", 1);
	pk_kv_str(&b, "node", "raw");
	pk_kv_uuid(&b, "cluster", &w->cluster);
	ck_assert_uint_le(b.len, ARRAY_SIZE(r));
	for (size_t n = 0; n < b.len; n++) {
		struct frame f = { .type = FRAME_HELLO, .version = 1, .body_len = (uint32_t)n };

		r[n] = raw_connect(w, w->addr);
		ck_assert(raw_send_frame(r[n], &f, b.data, NULL));
	}
	for (size_t n = 0; n < b.len; n++) {
		raw_expect_goodbye(r[n], HCI_E_PROTO, "makes no sense");
		raw_free(r[n]);
	}
	buf_free(&b);
}

BOTH(death_in_the_middle_of_a_frame)
{
	struct rpc_conn *c = world_connect(w);
	struct frame f = { .type = FRAME_REQUEST,
			   .version = 1,
			   .method = M_ECHO,
			   .id = 1,
			   .payload_len = 100000 };
	uint8_t *bytes = mem_zalloc(FRAME_HDR + 100000);

	rpc_frame_encode(&f, bytes);
	for (size_t n = 1; n < FRAME_HDR + 100000; n = n < 50 ? n + 7 : n * 4) {
		struct raw *r = raw_connect(w, w->addr);

		ck_assert(raw_hello(w, r, "raw"));
		ck_assert(raw_send(r, bytes, n));
		fiber_sleep(w->e, NS_PER_MS);
		raw_close(r, n % 2);
		raw_free(r);
	}
	check_echo(w, c, 100000);
	ck_assert_uint_eq(w->served, 1);
	mem_free(bytes);
	rpc_conn_unref(c);
}

/* How many of n requests the server takes; at least `least`, which may take a while on a busy machine. */
static unsigned flood(struct world *w, struct raw *r, unsigned n, unsigned least)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert(raw_request(r, M_HOLD, i + 1, NULL));
	for (unsigned i = 0; i < 6000 && w->nheld < least; i++)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	fiber_sleep(w->e, 200 * NS_PER_MS);
	return w->nheld;
}

/* The server takes one request over the limit, then reads no more until it has worked off some. */
BOTH(flood_of_requests)
{
	struct pair p = pair_open(w);
	struct frame f;

	ck_assert_uint_eq(flood(w, p.raw, RPC_INFLIGHT_MAX + 1000, RPC_INFLIGHT_MAX + 1), RPC_INFLIGHT_MAX + 1);
	check_echo(w, p.honest, 4096);
	world_release_held(w);
	for (unsigned i = 0; i < 6000 && w->nheld != 999; i++)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	ck_assert_uint_eq(w->nheld, 999);
	for (unsigned i = 0; i < RPC_INFLIGHT_MAX + 1; i++)
		ck_assert(raw_expect(p.raw, FRAME_REPLY, &f, NULL));
	world_release_held(w);
	for (unsigned i = 0; i < 999; i++)
		ck_assert(raw_expect(p.raw, FRAME_REPLY, &f, NULL));
	pair_close(w, &p);
}

/* Asks for a lot and reads none of it: the server stops reading, then gives up on it. */
BOTH(replies_that_nobody_reads)
{
	struct rpc_opts o = world_opts(w, "srv2");
	struct rpc *srv;
	struct raw *r;
	struct frame f;
	struct buf b = BUF_INIT;
	unsigned n;

	o.ping_interval_ns = 100 * NS_PER_MS;
	srv = world_server(w, &o);
	world_serve(w, srv);
	r = raw_connect(w, rpc_listen_addr(srv));
	ck_assert(raw_hello(w, r, "raw"));
	ck_assert(raw_expect(r, FRAME_HELLO, &f, NULL));
	raw_hold(r, true);
	pk_u64(&b, 1 << 20);
	for (n = 0; n < 1000 && raw_request(r, M_MAKE, n + 1, &b); n++)
		if (n % 16 == 0)
			fiber_sleep(w->e, NS_PER_MS);
	fiber_sleep(w->e, 100 * NS_PER_MS);
	/* 32 MiB wait in the connection, some more in the stream's own buffers. */
	ck_assert_uint_le(w->served, 60);
	fiber_sleep(w->e, 1000 * NS_PER_MS);
	raw_hold(r, false);
	while (raw_next(r, &f, NULL))
		ck_assert_uint_ne(f.type, FRAME_GOODBYE);
	raw_free(r);
	buf_free(&b);
	rpc_free(srv);
}

BOTH(flood_of_pings)
{
	struct pair p = pair_open(w);
	struct frame f;

	for (unsigned i = 1; i <= 20000; i++) {
		f = (struct frame){ .type = FRAME_PING, .version = 1, .id = i };
		ck_assert(raw_send_frame(p.raw, &f, NULL, NULL));
	}
	do
		ck_assert(raw_expect(p.raw, FRAME_PONG, &f, NULL));
	while (f.id != 20000); /* the last one is answered in any case */
	pair_close(w, &p);
}

/* ---- a server that misbehaves towards our client ---- */

static struct rpc_conn *meet(struct world *w, struct raw *r)
{
	struct rpc_conn *c;
	struct frame f;

	c = rpc_connect(w->cli, env_listener_addr(r->listener), NULL, NULL);
	ck_assert_ptr_nonnull(c);
	raw_accept(r);
	ck_assert(raw_hello(w, r, "raw"));
	ck_assert(raw_expect(r, FRAME_HELLO, &f, NULL));
	ck_assert_int_eq(rpc_conn_wait(c, NULL), 0);
	return c;
}

BOTH(reply_twice)
{
	struct raw *r = raw_listen(w);
	struct rpc_conn *c = meet(w, r);
	struct tcall *t = tcall_new(w, M_ECHO), *u = tcall_new(w, M_ECHO);
	struct hci_error err;
	struct frame f;

	tcall_submit(c, t);
	tcall_submit(c, u);
	ck_assert(raw_expect(r, FRAME_REQUEST, &f, NULL));
	f.type = FRAME_REPLY;
	ck_assert(raw_send_frame(r, &f, NULL, NULL));
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, 0);
	ck_assert(raw_send_frame(r, &f, NULL, NULL));
	tcall_wait(u);
	ck_assert_int_eq(u->call.status, HCI_E_PROTO);
	ck_assert_int_eq(rpc_conn_error(c, &err), HCI_E_PROTO);
	raw_expect_goodbye(r, HCI_E_PROTO, "not open");
	tcall_free(t);
	tcall_free(u);
	rpc_conn_unref(c);
	raw_free(r);
}

/* The request is half on the wire when it is cancelled: its buffer is given back, and what the
 * server gets is still what was submitted. */
BOTH(cancel_while_it_is_being_sent)
{
	struct raw *r = raw_listen(w);
	struct rpc_conn *c = meet(w, r);
	struct tcall *t[12];
	uint8_t *data[ARRAY_SIZE(t)];
	struct buf body = BUF_INIT;
	struct frame f;
	unsigned n = 0;

	raw_hold(r, true);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = tcall_new(w, M_ECHO);
		data[i] = mem_alloc(RPC_PAYLOAD_MAX);
		fill(data[i], RPC_PAYLOAD_MAX, i);
		t[i]->call.payload = data[i];
		t[i]->call.payload_len = RPC_PAYLOAD_MAX;
		t[i]->call.timeout_ns = i % 2 ? 50 * NS_PER_MS : 0;
		tcall_submit(c, t[i]);
	}
	fiber_sleep(w->e, 100 * NS_PER_MS);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		rpc_cancel(c, &t[i]->call);
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, i % 2 ? HCI_E_TIMEOUT : HCI_E_CANCELLED);
		memset(data[i], 0xff, RPC_PAYLOAD_MAX);
		mem_free(data[i]);
		tcall_free(t[i]);
	}
	raw_hold(r, false);
	t[0] = tcall_new(w, 0xf77);
	tcall_submit(c, t[0]);
	for (;;) {
		ck_assert(raw_expect(r, FRAME_REQUEST, &f, &body));
		if (f.method == 0xf77)
			break;
		ck_assert_uint_eq(f.payload_len, RPC_PAYLOAD_MAX);
		ck_assert(filled(body.data, body.len, n));
		n++;
		f.type = FRAME_REPLY;
		f.payload_len = f.body_crc = 0;
		ck_assert(raw_send_frame(r, &f, NULL, NULL));
	}
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_lt(n, ARRAY_SIZE(t));
	f.type = FRAME_REPLY;
	ck_assert(raw_send_frame(r, &f, NULL, NULL));
	tcall_wait(t[0]);
	ck_assert_int_eq(t[0]->call.status, 0);
	tcall_free(t[0]);
	buf_free(&body);
	rpc_conn_unref(c);
	raw_free(r);
}

/* An error text from a stranger: no control characters, and not a string at all. */
BOTH(odd_error_texts)
{
	struct raw *r = raw_listen(w);
	struct rpc_conn *c = meet(w, r);
	struct tcall *t = tcall_new(w, M_ECHO);
	struct buf b = BUF_INIT;
	struct frame f;

	for (unsigned i = 0; i < 3; i++) {
		buf_reset(&b);
		if (i == 0)
			pk_str(&b, "line one\nline two\x1b[2J");
		else if (i == 1)
			pk_u64(&b, 12345);
		tcall_submit(c, t);
		ck_assert(raw_expect(r, FRAME_REQUEST, &f, NULL));
		f.type = FRAME_REPLY;
		f.status = -77;
		f.body_len = (uint32_t)b.len;
		ck_assert(raw_send_frame(r, &f, b.data, NULL));
		tcall_wait(t);
		ck_assert_int_eq(t->call.status, -77);
		ck_assert_int_eq(t->call.err.code, -77);
		if (i == 0)
			ck_assert_ptr_nonnull(strstr(t->call.err.message, "line one?line two?[2J"));
	}
	buf_free(&b);
	tcall_free(t);
	rpc_conn_unref(c);
	raw_free(r);
}

static Suite *suite(void)
{
	Suite *s = suite_create("rpc hostile peers");
	TCase *tc = tcase_create("hostile");

	tcase_set_timeout(tc, 120);
	add_both(tc, honest_raw_peer_is_served);
	add_both(tc, every_byte_by_itself);
	add_both(tc, garbage_is_shown_the_door);
	add_both(tc, garbage_instead_of_hello);
	add_both(tc, frames_against_the_rules);
	add_both(tc, nothing_before_the_hello);
	add_both(tc, hello_cut_short);
	add_both(tc, death_in_the_middle_of_a_frame);
	add_both(tc, flood_of_requests);
	add_both(tc, replies_that_nobody_reads);
	add_both(tc, flood_of_pings);
	add_both(tc, reply_twice);
	add_both(tc, cancel_while_it_is_being_sent);
	add_both(tc, odd_error_texts);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
