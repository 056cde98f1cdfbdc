/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and replies between honest ends. */
#include "base/mem.h"
#include "unit/harness.h"
#include "unit/rpc/world.h"

BOTH(echo_of_every_size)
{
	static const uint32_t sizes[] = {
		0,     1,     511,   4095,  4096,   4097,           16383,
		16384, 65495, 65536, 65537, 262144, (1u << 20) + 1, RPC_PAYLOAD_MAX
	};
	struct rpc_conn *c = world_connect(w);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		check_echo(w, c, sizes[i]);
	ck_assert_str_eq(rpc_conn_peer(c), "srv");
	ck_assert_uint_eq(rpc_conn_features(c), 5);
	rpc_conn_unref(c);
	ck_assert_uint_eq(w->released, ARRAY_SIZE(sizes));
}

BOTH(bodies_of_every_size)
{
	static const uint32_t sizes[] = {
		0, 1, 191, 192, 255, 256, 257, 65536, RPC_BODY_MAX - 1000
	};
	struct rpc_conn *c = world_connect(w);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct tcall *t = tcall_new(w, M_ECHO);
		uint8_t *data = mem_alloc(sizes[i] + 1);

		fill(data, sizes[i], 3);
		buf_append(&t->call.body, data, sizes[i]);
		ck_assert_int_eq(rpc_call_wait(c, &t->call), 0);
		ck_assert_uint_eq((size_t)(t->call.reply.end - t->call.reply.p), sizes[i]);
		ck_assert(filled(t->call.reply.p, sizes[i], 3));
		mem_free(data);
		tcall_free(t);
	}
	rpc_conn_unref(c);
}

BOTH(reply_goes_where_it_is_wanted)
{
	struct rpc_conn *c = world_connect(w);
	static const uint32_t sizes[] = { 1, 4096, 100000, 1u << 20 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct tcall *t = tcall_new(w, M_MAKE);
		uint8_t *buf = mem_zalloc(sizes[i] + 1);

		tcall_arg(t, sizes[i]);
		t->call.reply_buf = buf;
		t->call.reply_cap = sizes[i];
		ck_assert_int_eq(rpc_call_wait(c, &t->call), 0);
		ck_assert_ptr_eq(t->call.reply_payload, buf);
		ck_assert_uint_eq(t->call.reply_payload_len, sizes[i]);
		ck_assert(filled(buf, sizes[i], sizes[i]));
		/* One byte less than what comes: this call fails, the connection stays. */
		t->call.reply_cap = sizes[i] - 1;
		memset(buf, 0x5a, sizes[i]);
		ck_assert_int_eq(rpc_call_wait(c, &t->call), HCI_E_PROTO);
		ck_assert_uint_eq(buf[0], 0x5a);
		ck_assert(rpc_conn_ok(c));
		mem_free(buf);
		tcall_free(t);
	}
	check_echo(w, c, 4096);
	rpc_conn_unref(c);
}

#define MANY 2000u

BOTH(many_at_once)
{
	static const uint32_t sizes[] = { 0, 100, 4096, 8192, 70000 };
	struct tcall **t = mem_calloc(MANY, sizeof(*t));
	struct rpc_conn *c = world_connect(w);
	uint8_t *data = mem_alloc(70000);

	fill(data, 70000, 9);
	for (unsigned i = 0; i < MANY; i++) {
		t[i] = tcall_new(w, M_ECHO);
		tcall_arg(t[i], i);
		t[i]->call.payload = data;
		t[i]->call.payload_len = sizes[i % ARRAY_SIZE(sizes)];
		tcall_submit(c, t[i]);
	}
	for (unsigned i = 0; i < MANY; i++) {
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, 0);
		ck_assert_uint_eq(rd_u64(&t[i]->call.reply), i);
		ck_assert_uint_eq(t[i]->call.reply_payload_len, sizes[i % ARRAY_SIZE(sizes)]);
		ck_assert(filled(t[i]->call.reply_payload, t[i]->call.reply_payload_len, 9));
		tcall_free(t[i]);
	}
	ck_assert_uint_eq(w->released, MANY);
	mem_free(data);
	mem_free(t);
	rpc_conn_unref(c);
}

/* More than a connection lets through at once: they queue here and all get their turn. */
BOTH(more_calls_than_may_be_open)
{
	unsigned n = RPC_INFLIGHT_MAX + 500;
	struct tcall **t = mem_calloc(n, sizeof(*t));
	struct rpc_conn *c = world_connect(w);

	for (unsigned i = 0; i < n; i++) {
		t[i] = tcall_new(w, M_HOLD);
		tcall_submit(c, t[i]);
	}
	for (unsigned i = 0; i < 100 && w->nheld < RPC_INFLIGHT_MAX; i++)
		fiber_sleep(w->e, 20 * NS_PER_MS);
	fiber_sleep(w->e, 20 * NS_PER_MS);
	ck_assert_uint_eq(w->nheld, RPC_INFLIGHT_MAX);
	world_release_held(w);
	for (unsigned i = 0; i < 100 && w->nheld < 500; i++)
		fiber_sleep(w->e, 20 * NS_PER_MS);
	ck_assert_uint_eq(w->nheld, 500);
	world_release_held(w);
	for (unsigned i = 0; i < n; i++) {
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, 0);
		tcall_free(t[i]);
	}
	mem_free(t);
	rpc_conn_unref(c);
}

BOTH(late_replies_overtake)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *t[10];
	unsigned order = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = tcall_new(w, M_LATE);
		tcall_arg(t[i], 20 * (ARRAY_SIZE(t) - i));
		t[i]->order = &order;
		tcall_submit(c, t[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		ck_assert_uint_eq(t[i]->at, ARRAY_SIZE(t) - 1 - i);
		tcall_free(t[i]);
	}
	rpc_conn_unref(c);
}

/* Requests arrive as they were submitted, also those from before the hello. */
BOTH(calls_wait_for_the_hello_in_order)
{
	struct rpc_conn *c = rpc_connect(w->cli, w->addr, NULL, NULL);
	struct tcall *t[20];
	unsigned order = 0;

	ck_assert_ptr_nonnull(c);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = tcall_new(w, M_ECHO);
		t[i]->order = &order;
		tcall_submit(c, t[i]);
	}
	ck_assert_uint_eq(w->served, 0);
	rpc_conn_unref(c); /* open calls keep the connection */
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, 0);
		ck_assert_uint_eq(t[i]->at, i);
		tcall_free(t[i]);
	}
}

BOTH(failures_have_words)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *t = tcall_new(w, M_FAIL);

	pk_i64(&t->call.body, HCI_E_NOSPACE);
	ck_assert_int_eq(rpc_call_wait(c, &t->call), HCI_E_NOSPACE);
	ck_assert_int_eq(t->call.err.code, HCI_E_NOSPACE);
	ck_assert_ptr_nonnull(strstr(t->call.err.message, "no luck"));
	ck_assert_ptr_nonnull(strstr(t->call.err.message, "node srv"));
	t->call.method = 0xfff;
	ck_assert_int_eq(rpc_call_wait(c, &t->call), HCI_E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(t->call.err.message, "0xfff"));
	t->call.method = 0xffffffff;
	ck_assert_int_eq(rpc_call_wait(c, &t->call), HCI_E_UNSUPPORTED);
	t->call.method = RPC_PING;
	ck_assert_int_eq(rpc_call_wait(c, &t->call), 0);
	tcall_free(t);
	rpc_conn_unref(c);
}

BOTH(too_long_a_request_is_refused_here)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *t = tcall_new(w, M_ECHO);

	t->call.payload = t;
	t->call.payload_len = RPC_PAYLOAD_MAX + 1;
	tcall_submit(c, t);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, HCI_E_RANGE);
	t->call.payload_len = 0;
	t->call.body.failed = true;
	tcall_submit(c, t);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, HCI_E_NOMEM);
	ck_assert_uint_eq(w->served, 0);
	check_echo(w, c, 1);
	tcall_free(t);
	rpc_conn_unref(c);
}

BOTH(cancel_before_and_after_it_went_out)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *early = tcall_new(w, M_HOLD), *late = tcall_new(w, M_HOLD);

	rpc_cancel(c, &early->call); /* never submitted: nothing */
	tcall_submit(c, early);
	rpc_cancel(c, &early->call);
	ck_assert_uint_eq(early->done, 0);
	rpc_cancel(c, &early->call);
	tcall_wait(early);
	ck_assert_int_eq(early->call.status, HCI_E_CANCELLED);
	tcall_submit(c, late);
	for (unsigned i = 0; i < 100 && !w->nheld; i++)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	ck_assert_uint_eq(w->nheld, 1); /* the first one never went out */
	rpc_cancel(c, &late->call);
	tcall_wait(late);
	ck_assert_int_eq(late->call.status, HCI_E_CANCELLED);
	rpc_cancel(c, &late->call); /* done: nothing */
	world_release_held(w);      /* the late reply is dropped */
	check_echo(w, c, 4096);
	tcall_free(early);
	tcall_free(late);
	rpc_conn_unref(c);
}

/* The buffer of a cancelled call is the caller's at once, though its reply is on the way. */
BOTH(a_late_payload_touches_nothing)
{
	struct rpc_conn *c = world_connect(w);
	uint32_t n = RPC_PAYLOAD_MAX;
	uint8_t *buf = mem_alloc(n);

	for (unsigned i = 0; i < 50; i++) {
		struct tcall *t = tcall_new(w, M_MAKE);

		tcall_arg(t, n);
		t->call.reply_buf = buf;
		t->call.reply_cap = n;
		tcall_submit(c, t);
		fiber_sleep(w->e, i * 100 * NS_PER_US);
		rpc_cancel(c, &t->call);
		tcall_wait(t);
		memset(buf, 0x77, n);
		check_echo(w, c, 1);
		for (uint32_t k = 0; k < n; k += 997)
			ck_assert_uint_eq(buf[k], 0x77);
		tcall_free(t);
	}
	mem_free(buf);
	rpc_conn_unref(c);
}

BOTH(timeouts)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *quick = tcall_new(w, M_HOLD), *slow = tcall_new(w, M_HOLD),
		     *fine = tcall_new(w, M_LATE);
	uint64_t start = env_now(w->e);

	slow->call.timeout_ns = 90 * NS_PER_MS + world_late(w) / 2;
	quick->call.timeout_ns = 40 * NS_PER_MS;
	fine->call.timeout_ns = 500 * NS_PER_MS + world_late(w);
	tcall_arg(fine, 150);
	tcall_submit(c, slow);
	tcall_submit(c, quick);
	tcall_submit(c, fine);
	tcall_wait(quick);
	ck_assert_int_eq(quick->call.status, HCI_E_TIMEOUT);
	ck_assert_uint_ge(env_now(w->e) - start, 40 * NS_PER_MS);
	ck_assert_uint_eq(slow->done, 0);
	tcall_wait(slow);
	ck_assert_int_eq(slow->call.status, HCI_E_TIMEOUT);
	ck_assert_uint_ge(env_now(w->e) - start, 90 * NS_PER_MS);
	tcall_wait(fine);
	ck_assert_int_eq(fine->call.status, 0);
	/* Again with the same ones: the late replies of before hit nobody. */
	tcall_submit(c, quick);
	world_release_held(w);
	tcall_wait(quick);
	ck_assert_int_eq(quick->call.status, HCI_E_TIMEOUT);
	world_release_held(w);
	check_echo(w, c, 5000);
	tcall_free(quick);
	tcall_free(slow);
	tcall_free(fine);
	rpc_conn_unref(c);
}

static void call_back(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	/* From the server to the client, on the client's own connection. */
	rpc_conn_ref(req->conn);
	*rpc_conn_slot(req->conn) = w;
	list_push(&w->held, &req->link);
	w->nheld++;
}

BOTH(either_end_may_call)
{
	struct rpc_conn *c, *back;
	struct tcall *t = tcall_new(w, 0xf20);

	ck_assert_int_eq(rpc_register(w->srv, 0xf20, call_back, w), 0);
	world_serve(w, w->cli);
	c = world_connect(w);
	tcall_submit(c, t);
	while (!w->nheld)
		fiber_sleep(w->e, NS_PER_MS);
	back = list_first(&w->held, struct rpc_req, link)->conn;
	ck_assert_str_eq(rpc_conn_peer(back), "cli");
	ck_assert_ptr_eq(*rpc_conn_slot(back), w);
	ck_assert_uint_ne(rpc_conn_id(back), 0);
	check_echo(w, back, 0);
	check_echo(w, back, 100000);
	world_release_held(w);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, 0);
	rpc_conn_unref(back);
	tcall_free(t);
	rpc_conn_unref(c);
}

static Suite *suite(void)
{
	Suite *s = suite_create("rpc calls");
	TCase *tc = tcase_create("calls");

	tcase_set_timeout(tc, 120);
	add_all(tc, echo_of_every_size);
	add_all(tc, bodies_of_every_size);
	add_all(tc, reply_goes_where_it_is_wanted);
	add_all(tc, many_at_once);
	add_all(tc, more_calls_than_may_be_open);
	add_all(tc, late_replies_overtake);
	add_both(tc, calls_wait_for_the_hello_in_order);
	add_all(tc, failures_have_words);
	add_all(tc, too_long_a_request_is_refused_here);
	add_all(tc, cancel_before_and_after_it_went_out);
	add_all(tc, a_late_payload_touches_nothing);
	add_all(tc, timeouts);
	add_both(tc, either_end_may_call);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
