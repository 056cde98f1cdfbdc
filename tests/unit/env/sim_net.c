/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "unit/env/sim_fixture.h"

/* A client on node a sends numbered bytes to a server on node b, which sends them back. */
struct end {
	struct env_conn *c;
	uint64_t sent, got, want;
	bool open, closed, echo, slow;
	int code;
};

static struct sim *sim;
static struct sim_node *a, *b;
static struct end client, server;
static int accepted;
static char port_7000[] = "tcp:b:7000", port_7001[] = "tcp:b:7001", nowhere[] = "tcp:nowhere:1";

static uint8_t byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 7 + pos / 251);
}

static void push(struct end *e)
{
	uint8_t buf[3000];

	while (e->sent < e->want) {
		size_t n = (size_t)MIN(sizeof(buf), e->want - e->sent);
		struct iovec v[2] = { { buf, n / 2 }, { buf + n / 2, n - n / 2 } };
		int64_t rc;

		for (size_t k = 0; k < n; k++)
			buf[k] = byte_at(e->sent + k);
		rc = env_conn_send(e->c, v, 2);
		if (rc == HCI_E_AGAIN || rc == HCI_E_CLOSED)
			return;
		ck_assert_int_gt(rc, 0);
		ck_assert_int_le(rc, (int64_t)n);
		e->sent += (uint64_t)rc;
	}
}

static void on_open(void *arg)
{
	struct end *e = arg;

	ck_assert(!e->open && !e->closed);
	e->open = true;
	push(e);
}

static void on_readable(void *arg)
{
	struct end *e = arg;
	uint8_t buf[5000];

	ck_assert(e->open && !e->closed);
	for (;;) {
		int64_t n = env_conn_recv(e->c, buf, sizeof(buf));

		if (n == HCI_E_AGAIN || n == 0)
			return;
		ck_assert_int_gt(n, 0);
		for (int64_t k = 0; k < n; k++) {
			if (buf[k] != byte_at(e->got + (uint64_t)k))
				ck_abort_msg("byte %llu is wrong", (unsigned long long)(e->got + (uint64_t)k));
		}
		e->got += (uint64_t)n;
		if (e->echo) {
			e->want = e->got;
			push(e);
		}
		if (e->slow)
			return; /* level-triggered: comes again */
	}
}

static void on_writable(void *arg)
{
	push(arg);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct end *e = arg;

	ck_assert(!e->closed);
	e->closed = true;
	e->code = err->code;
	ck_assert_int_ne(err->message[0], 0);
}

static const struct env_conn_ops ops = { on_open, on_readable, on_writable, on_closed };

static void on_accept(void *arg, struct env_conn *c)
{
	(void)arg;
	accepted++;
	server.c = c;
	server.open = true;
	env_conn_set_ops(c, &ops, &server);
}

static void serve(struct env *e, void *arg)
{
	struct hci_error err;

	(void)arg;
	ck_assert_ptr_nonnull(env_listen(e, "tcp:b:7000", NULL, on_accept, NULL, &err));
}

static void dial(struct env *e, void *arg)
{
	struct hci_error err;

	client.c = env_connect(e, arg, NULL, &ops, &client, &err);
	ck_assert_ptr_nonnull(client.c);
}

static void hang_up(struct env *e, void *arg)
{
	struct end *x = arg;

	(void)e;
	env_conn_close(x->c, false);
	x->c = NULL;
}

static void hang_up_hard(struct env *e, void *arg)
{
	struct end *x = arg;

	(void)e;
	env_conn_close(x->c, true);
	x->c = NULL;
}

static void world(uint64_t seed)
{
	sim = sim_of_seed(seed);
	a = sim_node_new(sim, "a");
	b = sim_node_new(sim, "b");
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	server.echo = true;
	accepted = 0;
	sim_node_call(b, serve, NULL);
}

START_TEST(echo)
{
	world((uint64_t)_i);
	client.want = 3000000;
	server.slow = _i % 2;
	client.slow = _i % 3 == 0;
	sim_node_call(a, dial, port_7000);
	sim_run(sim, 60 * NS_PER_S);
	ck_assert(client.open);
	ck_assert_int_eq(accepted, 1);
	ck_assert_uint_eq(server.got, client.want);
	ck_assert_uint_eq(client.got, client.want);
	ck_assert_str_eq(env_conn_peer_name(client.c), "");
	sim_node_call(a, hang_up, &client);
	sim_run(sim, NS_PER_S);
	ck_assert(server.closed);
	ck_assert_int_eq(server.code, HCI_E_CLOSED);
	sim_free(sim);
}
END_TEST

/* What was taken before a close arrives, and then the end. */
START_TEST(close_delivers)
{
	world((uint64_t)_i);
	server.echo = false;
	client.want = 50000;
	sim_node_call(a, dial, port_7000);
	while (client.sent < client.want)
		sim_run(sim, 1000);
	sim_node_call(a, hang_up, &client);
	sim_run(sim, NS_PER_S);
	ck_assert_uint_eq(server.got, client.sent);
	ck_assert(server.closed);
	sim_free(sim);
}
END_TEST

START_TEST(refused)
{
	world((uint64_t)_i);
	sim_node_call(a, dial, port_7001);
	sim_run(sim, NS_PER_S);
	ck_assert(client.closed);
	ck_assert_int_eq(client.code, HCI_E_UNAVAILABLE);
	sim_node_call(a, hang_up, &client);
	memset(&client, 0, sizeof(client));
	sim_node_call(a, dial, nowhere);
	sim_run(sim, NS_PER_S);
	ck_assert(client.closed);
	sim_free(sim);
}
END_TEST

START_TEST(down_node)
{
	world((uint64_t)_i);
	if (_i % 2)
		sim_node_power_loss(b);
	else
		sim_node_crash(b);
	sim_node_call(a, dial, port_7000);
	sim_run(sim, 30 * NS_PER_S);
	ck_assert(client.closed);
	ck_assert(client.code == HCI_E_UNAVAILABLE || client.code == HCI_E_TIMEOUT);
	sim_free(sim);
}
END_TEST

static void bad_address(struct env *e, void *arg)
{
	const char *bad[] = { "", "tcp:", "tcp:b", "tcp::1", "tcp:b:x", "tcp:b:70000", "unix:x" };
	struct hci_error err;

	(void)arg;
	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		ck_assert_ptr_null(env_connect(e, bad[k], NULL, &ops, &client, &err));
		ck_assert_int_eq(err.code, HCI_E_INVAL);
	}
	ck_assert_ptr_nonnull(env_listen(e, "tcp:b:0", NULL, on_accept, NULL, &err));
	ck_assert_ptr_null(env_listen(e, "tcp:b:7000", NULL, on_accept, NULL, &err));
	ck_assert_int_eq(err.code, HCI_E_BUSY);
}

START_TEST(addresses)
{
	world(1);
	sim_node_call(b, bad_address, NULL);
	sim_free(sim);
}
END_TEST

/* One way is cut: nothing gets there, until the heal; then all of it, in order. */
START_TEST(cut_and_heal)
{
	uint64_t before;

	world((uint64_t)_i);
	client.want = 20000;
	sim_node_call(a, dial, port_7000);
	sim_run(sim, NS_PER_S);
	ck_assert_uint_eq(client.got, 20000);
	if (_i % 3 == 0)
		sim_net_cut(sim, a, b, true);
	else if (_i % 3 == 1)
		sim_net_cut(sim, b, a, true);
	else
		sim_net_isolate(sim, b, true);
	client.want = 3000000;
	before = server.got;
	on_writable(&client);
	sim_run(sim, 5 * NS_PER_S);
	ck_assert_uint_eq(client.got, 20000);
	if (_i % 3 != 1)
		ck_assert_uint_eq(server.got, before);
	ck_assert_uint_lt(server.got, client.want); /* a window's worth at most */
	sim_net_heal(sim);
	sim_run(sim, 60 * NS_PER_S);
	ck_assert_uint_eq(server.got, client.want);
	ck_assert_uint_eq(client.got, client.want);
	ck_assert(!client.closed && !server.closed);
	sim_free(sim);
}
END_TEST

START_TEST(cut_for_long)
{
	world((uint64_t)_i);
	client.want = 20000;
	sim_node_call(a, dial, port_7000);
	sim_run(sim, NS_PER_S);
	sim_net_isolate(sim, b, true);
	client.want = 40000;
	on_writable(&client);
	sim_run(sim, 60 * NS_PER_S);
	ck_assert(client.closed);
	ck_assert_int_eq(client.code, HCI_E_TIMEOUT);
	sim_node_call(a, hang_up, &client);
	/* The server does not know, until it speaks. */
	ck_assert(!server.closed);
	sim_net_heal(sim);
	sim_run(sim, NS_PER_S);
	ck_assert_uint_eq(server.got, 20000);
	server.want += 10;
	on_writable(&server);
	sim_run(sim, NS_PER_S);
	ck_assert(server.closed);
	ck_assert_int_eq(server.code, HCI_E_CLOSED);
	sim_free(sim);
}
END_TEST

START_TEST(peer_dies)
{
	world((uint64_t)_i);
	client.want = 100000;
	sim_node_call(a, dial, port_7000);
	sim_run(sim, sim_rand_below(sim, 3 * NS_PER_MS));
	if (_i % 2) {
		sim_node_crash(b);
		sim_run(sim, 30 * NS_PER_S);
		ck_assert(client.closed);
	} else {
		sim_node_power_loss(b);
		client.want = 200000;
		sim_run(sim, 5 * NS_PER_S);
		sim_node_boot(b, serve, NULL);
		on_writable(&client);
		sim_run(sim, 30 * NS_PER_S);
		/* either it never got through before and was accepted by the second life, or it was reset */
		ck_assert(client.closed || client.got == client.want);
	}
	sim_node_call(a, hang_up, &client);
	sim_free(sim);
}
END_TEST

START_TEST(resets)
{
	world((uint64_t)_i);
	client.want = 2000000;
	sim_node_call(a, dial, port_7000);
	sim_run(sim, 2 * NS_PER_MS);
	if (_i % 2 && client.open) {
		sim_node_call(a, hang_up_hard, &client);
		sim_run(sim, NS_PER_S);
		ck_assert(server.closed);
	} else {
		sim_net_reset_conns(sim, b, a);
		sim_run(sim, NS_PER_S);
		ck_assert(client.closed == server.closed);
	}
	sim_free(sim);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_net");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, echo, 0, 12);
	tcase_add_loop_test(t, close_delivers, 0, 12);
	tcase_add_loop_test(t, refused, 0, 4);
	tcase_add_loop_test(t, down_node, 0, 12);
	tcase_add_test(t, addresses);
	tcase_add_loop_test(t, cut_and_heal, 0, 12);
	tcase_add_loop_test(t, cut_for_long, 0, 6);
	tcase_add_loop_test(t, peer_dies, 0, 40);
	tcase_add_loop_test(t, resets, 0, 12);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
