/* SPDX-License-Identifier: Apache-2.0 */
/* Beginnings and ends of connections: identity, versions, keep-alive, shutdown, peers. */
#include <stdio.h>

#include "base/mem.h"
#include "unit/harness.h"
#include "unit/rpc/raw.h"

/* ---- identity ---- */

static int try_connect(struct world *w, const struct rpc_opts *o, const char *expect,
		       struct hci_error *err)
{
	struct rpc *r = rpc_new(w->e, o);
	struct rpc_conn *c = rpc_connect(r, w->addr, expect, err);
	struct tcall *t = tcall_new(w, M_ECHO);
	int rc;

	ck_assert_ptr_nonnull(c);
	tcall_submit(c, t);
	rc = rpc_conn_wait(c, err);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, rc);
	ck_assert(!rc || !rpc_conn_ok(c));
	tcall_free(t);
	rpc_conn_unref(c);
	rpc_free(r);
	return rc;
}

BOTH(a_client_that_is_no_node)
{
	struct rpc_opts o = world_opts(w, "");
	struct hci_error err;

	ck_assert_int_eq(try_connect(w, &o, NULL, &err), 0);
	ck_assert_int_eq(try_connect(w, &o, "srv", &err), 0);
}

BOTH(another_node_than_expected)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct hci_error err;

	ck_assert_int_eq(try_connect(w, &o, "other", &err), HCI_E_AUTH);
	ck_assert_ptr_nonnull(strstr(err.message, "is node srv"));
	ck_assert_ptr_nonnull(strstr(err.message, "node other was expected"));
}

BOTH(another_cluster)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct hci_error err;

	o.cluster.b[0] ^= 1;
	ck_assert_int_eq(try_connect(w, &o, NULL, &err), HCI_E_AUTH);
	ck_assert_ptr_nonnull(strstr(err.message, "c0c1c1c1"));
	ck_assert_ptr_nonnull(strstr(err.message, "c1c1c1c1"));
	ck_assert_uint_eq(w->served, 0);
}

BOTH(a_version_too_new)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct hci_error err;

	o.version_min = 2;
	o.version_max = 3;
	ck_assert_int_eq(try_connect(w, &o, NULL, &err), HCI_E_VERSION);
	ck_assert_ptr_nonnull(strstr(err.message, "2 to 3"));
	ck_assert_ptr_nonnull(strstr(err.message, "1 to 1"));
	o.version_min = 1; /* speaks ours as well */
	ck_assert_int_eq(try_connect(w, &o, NULL, &err), 0);
}

/* The server, too, says which versions do not fit. */
BOTH(a_version_too_new_at_the_other_end)
{
	struct raw *r = raw_connect(w, w->addr);
	struct frame f = { .type = FRAME_HELLO, .version = 1 };
	struct buf b = BUF_INIT;

	pk_map(&b, 5);
	pk_kv_u64(&b, "min", 7);
	pk_kv_u64(&b, "max", 8);
	pk_kv_str(&b, "node", "raw");
	pk_kv_str(&b, "what is this", "to be skipped");
	pk_kv_uuid(&b, "cluster", &w->cluster);
	f.body_len = (uint32_t)b.len;
	ck_assert(raw_send_frame(r, &f, b.data, NULL));
	raw_expect_goodbye(r, HCI_E_VERSION,
			   "node raw speaks protocol versions 7 to 8, node srv speaks 1 to 1");
	buf_free(&b);
	raw_free(r);
}

BOTH(addresses_that_lead_nowhere)
{
	struct rpc_conn *c;
	struct hci_error err;
	struct raw *r;

	ck_assert_ptr_null(rpc_connect(w->cli, "nonsense", NULL, &err));
	ck_assert_int_lt(err.code, 0);
	/* Somebody was there, and is no more. */
	r = raw_listen(w);
	c = rpc_connect(w->cli, env_listener_addr(r->listener), "gone", &err);
	raw_free(r);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_lt(rpc_conn_wait(c, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.message, "gone"));
	rpc_conn_unref(c);
}

/* ---- silence ---- */

BOTH(no_hello)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct raw *r = raw_listen(w);
	struct hci_error err;
	struct rpc_conn *c;
	struct rpc *cli;

	o.connect_timeout_ns = 100 * NS_PER_MS;
	cli = rpc_new(w->e, &o);
	c = rpc_connect(cli, env_listener_addr(r->listener), NULL, &err);
	ck_assert_int_eq(rpc_conn_wait(c, &err), HCI_E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(err.message, "no hello within 100 ms"));
	rpc_conn_unref(c);
	rpc_free(cli);
	raw_free(r);
}

BOTH(a_silent_peer_is_given_up)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct raw *r = raw_listen(w);
	struct hci_error err;
	struct rpc_conn *c;
	struct rpc *cli;
	struct tcall *t = tcall_new(w, M_ECHO);
	struct frame f;
	uint64_t start;

	o.ping_interval_ns = 50 * NS_PER_MS;
	cli = rpc_new(w->e, &o);
	c = rpc_connect(cli, env_listener_addr(r->listener), NULL, &err);
	raw_accept(r);
	ck_assert(raw_hello(w, r, "raw"));
	ck_assert_int_eq(rpc_conn_wait(c, &err), 0);
	start = env_now(w->e);
	tcall_submit(c, t);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, HCI_E_TIMEOUT);
	ck_assert_uint_ge(env_now(w->e) - start, 140 * NS_PER_MS);
	ck_assert_uint_le(env_now(w->e) - start, 1000 * NS_PER_MS + world_late(w));
	ck_assert(raw_expect(r, FRAME_PING, &f, NULL));
	ck_assert(raw_expect(r, FRAME_GOODBYE, &f, NULL));
	tcall_free(t);
	rpc_conn_unref(c);
	rpc_free(cli);
	raw_free(r);
}

BOTH(idle_connections_stay)
{
	struct rpc_opts o = world_opts(w, "cli");
	struct hci_error err;
	struct rpc_conn *c;
	struct rpc *cli;

	o.ping_interval_ns = 30 * NS_PER_MS;
	cli = rpc_new(w->e, &o);
	c = rpc_connect(cli, w->addr, NULL, &err);
	ck_assert_int_eq(rpc_conn_wait(c, &err), 0);
	fiber_sleep(w->e, 600 * NS_PER_MS);
	ck_assert(rpc_conn_ok(c));
	check_echo(w, c, 1);
	rpc_conn_unref(c);
	rpc_free(cli);
}

/* ---- ends ---- */

BOTH(shutdown_ends_open_calls)
{
	struct rpc_conn *c = world_connect(w);
	struct tcall *t[5];
	struct hci_error err;

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = tcall_new(w, M_HOLD);
		tcall_submit(c, t[i]);
	}
	while (w->nheld < ARRAY_SIZE(t))
		fiber_sleep(w->e, NS_PER_MS);
	rpc_conn_shutdown(c);
	rpc_conn_shutdown(c);
	ck_assert(!rpc_conn_ok(c));
	ck_assert_int_eq(rpc_conn_error(c, &err), HCI_E_CLOSED);
	ck_assert_int_eq(rpc_conn_wait(c, &err), HCI_E_CLOSED);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		ck_assert_uint_eq(t[i]->done, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		tcall_wait(t[i]);
		ck_assert_int_eq(t[i]->call.status, HCI_E_CLOSED);
	}
	/* Also one that comes too late is done exactly once. */
	tcall_submit(c, t[0]);
	rpc_cancel(c, &t[0]->call);
	tcall_wait(t[0]);
	ck_assert_int_eq(t[0]->call.status, HCI_E_CLOSED);
	for (unsigned i = 0; i < 100 && !w->closed; i++)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	ck_assert_uint_eq(w->closed, 1);
	world_release_held(w); /* replies to nobody */
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		tcall_free(t[i]);
	rpc_conn_unref(c);
}

BOTH(the_server_goes_away)
{
	struct rpc_opts o = world_opts(w, "srv2");
	struct rpc *srv = world_server(w, &o);
	struct tcall *t = tcall_new(w, M_HOLD), *u = tcall_new(w, M_ECHO);
	struct hci_error err;
	struct rpc_conn *c;

	world_serve(w, srv);
	c = rpc_connect(w->cli, rpc_listen_addr(srv), "srv2", &err);
	tcall_submit(c, t);
	while (!w->nheld)
		fiber_sleep(w->e, NS_PER_MS);
	tcall_submit(c, u);
	rpc_free(srv);
	tcall_wait(t);
	tcall_wait(u);
	ck_assert_int_eq(t->call.status, HCI_E_CLOSED);
	ck_assert_ptr_nonnull(strstr(t->call.err.message, "node srv2"));
	ck_assert_ptr_nonnull(strstr(t->call.err.message, "shut it down"));
	world_release_held(w); /* to a connection whose rpc is no more */
	tcall_free(t);
	tcall_free(u);
	rpc_conn_unref(c);
}

/* rpc_free completes what is open before it returns; what was lent comes back. */
BOTH(free_with_calls_open)
{
	struct rpc_opts o = world_opts(w, "cli2");
	struct rpc *cli = rpc_new(w->e, &o);
	struct rpc_conn *c = rpc_connect(cli, w->addr, NULL, NULL);
	struct tcall *t = tcall_new(w, M_HOLD), *early = tcall_new(w, M_HOLD);
	struct rpc_conn *d;

	tcall_submit(c, t);
	while (!w->nheld)
		fiber_sleep(w->e, NS_PER_MS);
	d = rpc_connect(cli, w->addr, NULL, NULL);
	tcall_submit(d, early); /* still connecting */
	rpc_free(cli);
	ck_assert_uint_eq(t->done, 1);
	ck_assert_uint_eq(early->done, 1);
	ck_assert_int_eq(t->call.status, HCI_E_CLOSED);
	/* The handles may be given back after. */
	ck_assert(!rpc_conn_ok(c));
	tcall_submit(d, t);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, HCI_E_CLOSED);
	rpc_conn_unref(c);
	rpc_conn_unref(d);
	tcall_free(t);
	tcall_free(early);
}

/* Payloads of replies that never got out are given back, once each. */
BOTH(lent_payloads_come_back)
{
	struct raw *r = raw_connect(w, w->addr);
	struct frame f = {
		.type = FRAME_REQUEST, .version = 1, .method = M_ECHO, .payload_len = 1 << 20
	};
	uint8_t *data = mem_zalloc(f.payload_len);

	ck_assert(raw_hello(w, r, "raw"));
	raw_hold(r, true);
	for (f.id = 1; f.id <= 20; f.id++)
		ck_assert(raw_send_frame(r, &f, NULL, data));
	while (w->served < 20)
		fiber_sleep(w->e, NS_PER_MS);
	ck_assert_uint_lt(w->released, 20);
	raw_close(r, true);
	for (unsigned i = 0; i < 200 && w->released < 20; i++)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	ck_assert_uint_eq(w->released, 20);
	mem_free(data);
	raw_free(r);
}

/* ---- peers ---- */

struct book {
	struct world *w;
	char addr[160];
	unsigned asked;
};

static int resolve(void *arg, const char *node, char *addr, size_t cap)
{
	struct book *b = arg;

	b->asked++;
	if (strcmp(node, "unknown") == 0)
		return HCI_E_NOTFOUND;
	snprintf(addr, cap, "%s", b->addr);
	return 0;
}

BOTH(peers_share_a_connection)
{
	struct book b = { .w = w };
	struct rpc_peers *p = rpc_peers_new(w->cli, resolve, &b);
	struct rpc_conn *c, *d;
	struct hci_error err;

	snprintf(b.addr, sizeof(b.addr), "%s", w->addr);
	ck_assert_ptr_null(rpc_peers_get(p, "unknown", &err));
	ck_assert_int_eq(err.code, HCI_E_NOTFOUND);
	c = rpc_peers_get(p, "srv", &err);
	d = rpc_peers_get(p, "srv", &err);
	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_eq(c, d);
	check_echo(w, c, 100);
	rpc_conn_unref(c);
	rpc_conn_unref(d);
	d = rpc_peers_get(p, "srv", &err); /* kept, though nobody used it */
	ck_assert_ptr_eq(c, d);
	rpc_conn_unref(d);
	ck_assert_uint_eq(b.asked, 2);
	rpc_peers_free(p);
}

BOTH(peers_have_lanes)
{
	struct book b = { .w = w };
	struct rpc_peers *p = rpc_peers_new(w->cli, resolve, &b);
	struct rpc_conn *c, *d, *e;
	struct hci_error err;

	snprintf(b.addr, sizeof(b.addr), "%s", w->addr);
	c = rpc_peers_get(p, "srv", &err);
	d = rpc_peers_lane(p, "srv", 1, &err);
	e = rpc_peers_lane(p, "srv", 1 + RPC_LANES, &err);
	ck_assert(c && d && e);
	ck_assert_ptr_ne(c, d);
	ck_assert_ptr_eq(d, e);
	for (unsigned i = 0; i < 2 * RPC_BULK_LANES; i++) { /* copies share none with anybody */
		struct rpc_conn *bulk = rpc_peers_bulk(p, "srv", i, &err);

		ck_assert_ptr_nonnull(bulk);
		for (unsigned k = 0; k < RPC_LANES; k++) {
			struct rpc_conn *user = rpc_peers_lane(p, "srv", k, &err);

			ck_assert_ptr_ne(bulk, user);
			rpc_conn_unref(user);
		}
		check_echo(w, bulk, 100);
		rpc_conn_unref(bulk);
	}
	check_echo(w, c, 100);
	rpc_conn_shutdown(c); /* the end of one is not the end of the other */
	check_echo(w, d, 100);
	rpc_conn_unref(c);
	rpc_conn_unref(d);
	rpc_conn_unref(e);
	rpc_peers_free(p);
}

BOTH(peers_back_off)
{
	struct book b = { .w = w };
	struct rpc_peers *p = rpc_peers_new(w->cli, resolve, &b);
	struct raw *r = raw_listen(w);
	uint64_t start = env_now(w->e), wait[4];
	struct rpc_conn *c;
	struct hci_error err;

	snprintf(b.addr, sizeof(b.addr), "%s", env_listener_addr(r->listener));
	raw_free(r); /* nobody listens there now */
	for (unsigned i = 0; i < ARRAY_SIZE(wait); i++) {
		while (!(c = rpc_peers_get(p, "srv", &err))) {
			ck_assert_int_eq(err.code, HCI_E_UNAVAILABLE);
			fiber_sleep(w->e, NS_PER_MS);
		}
		wait[i] = env_now(w->e) - start;
		ck_assert_int_lt(rpc_conn_wait(c, &err), 0);
		start = env_now(w->e);
		rpc_conn_unref(c);
	}
	for (unsigned i = 1; i < ARRAY_SIZE(wait); i++) {
		ck_assert_uint_ge(wait[i], (45u << (i - 1)) * NS_PER_MS);
		ck_assert_uint_le(wait[i], (75u << (i - 1)) * NS_PER_MS + 100 * NS_PER_MS + world_late(w));
	}
	/* The message carries the reason of the last attempt. */
	ck_assert_ptr_null(rpc_peers_get(p, "srv", &err));
	ck_assert_ptr_nonnull(strstr(err.message, "next attempt"));
	/* It comes up: the next attempt gets through. */
	snprintf(b.addr, sizeof(b.addr), "%s", w->addr);
	while (!(c = rpc_peers_get(p, "srv", &err)))
		fiber_sleep(w->e, 5 * NS_PER_MS);
	check_echo(w, c, 4096);
	rpc_conn_unref(c);
	rpc_peers_free(p);
}

/* A node that was there for a while and restarts is called again at once. */
BOTH(peers_come_back)
{
	struct book b = { .w = w };
	struct rpc_peers *p = rpc_peers_new(w->cli, resolve, &b);
	struct rpc_conn *c;
	struct hci_error err;

	snprintf(b.addr, sizeof(b.addr), "%s", w->addr);
	c = rpc_peers_get(p, "srv", &err);
	ck_assert_int_eq(rpc_conn_wait(c, &err), 0);
	fiber_sleep(w->e, 2100 * NS_PER_MS);
	rpc_conn_shutdown(c);
	rpc_conn_unref(c);
	c = rpc_peers_get(p, "srv", &err);
	ck_assert_msg(c, "%s", err.message);
	check_echo(w, c, 1);
	rpc_conn_unref(c);
	rpc_peers_free(p);
}

/* A node that dies again and again: a lane used once between two deaths is not made to wait when others got through. */
BOTH(peers_follow_the_other_lanes)
{
	struct book b = { .w = w };
	struct rpc_peers *p = rpc_peers_new(w->cli, resolve, &b);
	struct rpc_conn *c, *d;
	struct hci_error err;

	snprintf(b.addr, sizeof(b.addr), "%s", w->addr);
	for (unsigned i = 0; i < 6; i++) { /* each lives short: the wait grows to its longest */
		while (!(c = rpc_peers_get(p, "srv", &err)))
			fiber_sleep(w->e, 5 * NS_PER_MS);
		ck_assert_int_eq(rpc_conn_wait(c, &err), 0);
		rpc_conn_shutdown(c);
		rpc_conn_unref(c);
	}
	ck_assert_ptr_null(rpc_peers_get(p, "srv", &err));
	fiber_sleep(w->e, NS_PER_MS);
	d = rpc_peers_lane(p, "srv", 1, &err);
	ck_assert_msg(d, "%s", err.message);
	ck_assert_ptr_null(rpc_peers_get(p, "srv", &err)); /* not there yet */
	ck_assert_int_eq(rpc_conn_wait(d, &err), 0);
	c = rpc_peers_get(p, "srv", &err);
	ck_assert_msg(c, "%s", err.message);
	check_echo(w, c, 100);
	rpc_conn_shutdown(c); /* after the other was made: that tells nothing of it */
	rpc_conn_unref(c);
	ck_assert_ptr_null(rpc_peers_get(p, "srv", &err));
	rpc_conn_unref(d);
	rpc_peers_free(p);
}

static Suite *suite(void)
{
	Suite *s = suite_create("rpc connections");
	TCase *tc = tcase_create("life");

	tcase_set_timeout(tc, 120);
	add_both(tc, a_client_that_is_no_node);
	add_both(tc, another_node_than_expected);
	add_both(tc, another_cluster);
	add_both(tc, a_version_too_new);
	add_both(tc, a_version_too_new_at_the_other_end);
	add_both(tc, addresses_that_lead_nowhere);
	add_both(tc, no_hello);
	add_both(tc, a_silent_peer_is_given_up);
	add_both(tc, idle_connections_stay);
	add_both(tc, shutdown_ends_open_calls);
	add_both(tc, the_server_goes_away);
	add_both(tc, free_with_calls_open);
	add_both(tc, lent_payloads_come_back);
	add_both(tc, peers_share_a_connection);
	add_both(tc, peers_have_lanes);
	add_both(tc, peers_back_off);
	add_both(tc, peers_come_back);
	add_both(tc, peers_follow_the_other_lanes);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
