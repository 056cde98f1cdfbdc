/* SPDX-License-Identifier: Apache-2.0 */
/* Plain streams of the real env: connecting, order, back-pressure, pausing, every way to end. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "env/real_conn.h"
#include "unit/env/real.h"

#define TCP "tcp:127.0.0.1:0"

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 131 + (i >> 8) * 7 + seed);
}

/* ---- hello ---- */

static void hello(struct env *e, const char *addr)
{
	struct server s;
	struct chan c, *a;
	char buf[16] = { 0 };

	server_start(&s, e, addr, NULL);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	chan_send(&c, "hello", 5);
	ck_assert_int_eq(chan_recv(a, buf, 5), 5);
	ck_assert_str_eq(buf, "hello");
	chan_send(a, "world", 5);
	ck_assert_int_eq(chan_recv(&c, buf, 5), 5);
	ck_assert_str_eq(buf, "world");
	ck_assert_str_eq(env_conn_peer_name(c.conn), "");
	chan_send(&c, "last", 4);
	chan_close(&c); /* what was taken is still sent */
	ck_assert_int_eq(chan_recv(a, buf, 5), 4);
	ck_assert_int_eq(chan_recv(a, buf, 5), 0);
	ck_assert_int_eq(chan_wait_closed(a), HCI_E_CLOSED);
	ck_assert_uint_eq(a->closed, 1);
	server_stop(&s);
}

static void hello_tcp(struct env *e)
{
	hello(e, TCP);
}

static void hello_tcp6(struct env *e)
{
	hello(e, "tcp:[::1]:0");
}

static void hello_unix(struct env *e)
{
	char addr[200];

	snprintf(addr, sizeof(addr), "unix:%s", scratch_path("sock"));
	hello(e, addr);
	ck_assert_int_ne(access(scratch_path("sock"), F_OK), 0); /* unlinked */
}

START_TEST(hello_over_each_family)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	with_env(hello_tcp);
	with_env(hello_unix);
	if (fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof(a)))
		with_env(hello_tcp6);
	close(fd);
}
END_TEST

/* ---- names ---- */

static void names_body(struct env *e)
{
	struct server s;
	struct chan c;
	char addr[100];

	server_start(&s, e, TCP, NULL);
	snprintf(addr, sizeof(addr), "tcp:localhost%s", strrchr(env_listener_addr(s.l), ':'));
	ck_assert_int_eq(chan_connect(&c, e, addr, NULL), 0);
	server_accept(&s);
	chan_close(&c);
	ck_assert_int_eq(chan_connect(&c, e, "tcp:no.such.host.invalid:1", NULL),
			 HCI_E_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(c.err.message, "no.such.host.invalid"));
	chan_close(&c);
	/* Closed while the name is being looked up. */
	chan_init(&c, e);
	c.conn = env_connect(e, "tcp:no.such.host.invalid:1", NULL, &chan_ops, &c, NULL);
	chan_close(&c);
	fiber_sleep(e, 20 * NS_PER_MS);
	ck_assert_uint_eq(c.closed, 0);
	server_stop(&s);
}

START_TEST(names_are_looked_up)
{
	with_env(names_body);
}
END_TEST

/* ---- wrong addresses, nobody there ---- */

static void wrong_body(struct env *e)
{
	static const char *const bad[] = {
		"",
		"tcp:",
		"tcp:host",
		"tcp::1",
		"tcp:1.2.3.4:70000",
		"tcp:1.2.3.4:x",
		"udp:1.2:3",
		"unix:rel",
		"tcp:1.2.3.4:",
		"tcp:::1:80",
		"tcp:1.2.3.4:0",
	};
	struct hci_error err;
	struct server s;
	struct chan c;
	char addr[200];
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		err.code = 0;
		ck_assert_ptr_null(env_connect(e, bad[i], NULL, &chan_ops, &c, &err));
		ck_assert_int_eq(err.code, HCI_E_INVAL);
	}
	memset(addr, 'x', sizeof(addr));
	memcpy(addr, "unix:/", 6);
	addr[199] = '\0';
	ck_assert_ptr_null(env_connect(e, addr, NULL, &chan_ops, &c, &err));
	ck_assert_int_eq(err.code, HCI_E_INVAL);
	ck_assert_ptr_null(env_listen(e, "tcp:somewhere:1", NULL, NULL, NULL, &err));
	ck_assert_int_eq(err.code, HCI_E_INVAL);

	server_start(&s, e, TCP, NULL);
	ck_assert_ptr_null(env_listen(e, env_listener_addr(s.l), NULL, NULL, NULL, &err));
	ck_assert_int_eq(err.code, HCI_E_BUSY);
	snprintf(addr, sizeof(addr), "%s", env_listener_addr(s.l));
	server_stop(&s);
	ck_assert_int_eq(chan_connect(&c, e, addr, NULL), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(c.err.os_errno, ECONNREFUSED);
	ck_assert_uint_eq(c.closed, 1);
	chan_close(&c);
	snprintf(addr, sizeof(addr), "unix:%s", scratch_path("nobody"));
	ck_assert_int_eq(chan_connect(&c, e, addr, NULL), HCI_E_UNAVAILABLE);
	chan_close(&c);
}

START_TEST(wrong_addresses_and_nobody_there)
{
	with_env(wrong_body);
}
END_TEST

static void stale_body(struct env *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct hci_error err;
	struct server s;
	char addr[200];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	/* A socket whose owner died is taken over, one that is in use is not, nor is a file. */
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", scratch_path("stale"));
	snprintf(addr, sizeof(addr), "unix:%s", un.sun_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
	server_start(&s, e, addr, NULL);
	ck_assert_ptr_null(env_listen(e, addr, NULL, NULL, NULL, &err));
	ck_assert_int_eq(err.code, HCI_E_BUSY);
	ck_assert_int_eq(access(un.sun_path, F_OK), 0);
	server_stop(&s);
	ck_assert_int_eq(env_write_file(e, un.sun_path, "precious", 8), 0);
	ck_assert_ptr_null(env_listen(e, addr, NULL, NULL, NULL, &err));
	ck_assert_int_eq(access(un.sun_path, F_OK), 0);
}

START_TEST(a_stale_unix_socket_is_replaced_nothing_else)
{
	with_env(stale_body);
}
END_TEST

/* ---- much, both ways ---- */

#define BULK ((size_t)48 << 20)

struct bulk {
	struct chan *ch;
	uint8_t *data;
	size_t step;
	unsigned *left;
	struct fiber_cond *cond;
};

static void bulk_send(void *arg)
{
	struct bulk *b = arg;
	size_t off = 0, i = 0;

	while (off < BULK) {
		size_t n = MIN(BULK - off, b->step ? b->step : 1 + (i++ * 7919) % 300000);

		chan_send(b->ch, b->data + off, n);
		off += n;
	}
	--*b->left;
	fiber_cond_signal(b->ch->env, b->cond);
}

static void bulk_recv(void *arg)
{
	struct bulk *b = arg;
	uint8_t *got = malloc(1 << 20);
	size_t off = 0, i = 0;

	while (off < BULK) {
		size_t n = MIN(BULK - off, b->step ? b->step : 1 + (i++ * 104729) % 1000000);

		ck_assert_int_eq(chan_recv(b->ch, got, n), (int64_t)n);
		ck_assert_int_eq(memcmp(got, b->data + off, n), 0);
		off += n;
	}
	free(got);
	--*b->left;
	fiber_cond_signal(b->ch->env, b->cond);
}

static void bulk_both_ways(struct env *e, const char *addr, size_t step)
{
	struct server s;
	struct chan c, *a;
	struct fiber_cond cond;
	unsigned left = 4;
	uint8_t *data = malloc(BULK);
	struct bulk b[2];

	fill(data, BULK, 5);
	fiber_cond_init(&cond);
	server_start(&s, e, addr, NULL);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	b[0] = (struct bulk){ &c, data, step, &left, &cond };
	b[1] = (struct bulk){ a, data, step, &left, &cond };
	fiber_spawn(e, bulk_send, &b[0], "send");
	fiber_spawn(e, bulk_send, &b[1], "send");
	fiber_spawn(e, bulk_recv, &b[0], "recv");
	fiber_spawn(e, bulk_recv, &b[1], "recv");
	while (left)
		fiber_cond_wait(e, &cond);
	chan_close(&c);
	server_stop(&s);
	free(data);
}

static void bulk_odd(struct env *e)
{
	bulk_both_ways(e, TCP, 0);
}

static void bulk_small(struct env *e)
{
	char addr[200];

	snprintf(addr, sizeof(addr), "unix:%s", scratch_path("bulk"));
	bulk_both_ways(e, addr, 4133);
}

START_TEST(much_data_both_ways_at_once)
{
	with_env(bulk_odd);
	with_env(bulk_small);
}
END_TEST

/* ---- back-pressure ---- */

static void pressure_body(struct env *e)
{
	struct server s;
	struct chan c, *a;
	uint8_t *data = calloc(1, 1 << 20), *back = malloc(1 << 20);
	struct iovec v = { data, 1 << 20 };
	uint64_t sent = 0, got = 0;
	int64_t n;
	unsigned turns;

	server_start(&s, e, TCP, NULL);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	env_conn_pause(a->conn, true);
	/* Nobody reads: it must say AGAIN for good after some megabytes of sockets' and our
	 * buffers. */
	for (turns = 0; turns < 50; turns++) {
		while ((n = env_conn_send(c.conn, &v, 1)) > 0)
			sent += (uint64_t)n;
		ck_assert_int_eq(n, HCI_E_AGAIN);
		ck_assert_uint_lt(sent, 64 << 20);
		fiber_sleep(e, NS_PER_MS);
	}
	c.writable = false;
	fiber_sleep(e, 5 * NS_PER_MS);
	ck_assert(!c.writable);
	while (got < sent) {
		n = chan_recv(a, back, MIN(sent - got, 1 << 20));
		ck_assert_int_gt(n, 0);
		got += (uint64_t)n;
	}
	fiber_sleep(e, NS_PER_MS);
	ck_assert(c.writable);
	/* Paused for good: no callback, though there is something. */
	chan_send(&c, data, 10);
	env_conn_pause(a->conn, true);
	a->readable = false;
	fiber_sleep(e, 5 * NS_PER_MS);
	ck_assert(!a->readable);
	env_conn_pause(a->conn, false);
	fiber_sleep(e, NS_PER_MS);
	ck_assert(a->readable);
	chan_close(&c);
	server_stop(&s);
	free(data);
	free(back);
}

START_TEST(a_peer_that_does_not_read_holds_us_back)
{
	with_env(pressure_body);
}
END_TEST

/* ---- ends ---- */

static void ends_body(struct env *e)
{
	struct server s;
	struct chan c, *a;
	uint8_t *big = calloc(1, 8 << 20);
	char buf[16];

	server_start(&s, e, TCP, NULL);
	/* Abort: the other side sees it break or end, once. */
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	env_conn_close(c.conn, true);
	ck_assert_int_eq(chan_wait_closed(a), HCI_E_CLOSED);
	ck_assert_int_eq(chan_try_send(a, "x", 1), HCI_E_CLOSED);
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(a->closed, 1);
	/* Sending to one that is gone, without reading: an error, and no signal. */
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	env_conn_close(a->conn, true);
	a->conn = NULL;
	fiber_sleep(e, 2 * NS_PER_MS);
	while (chan_try_send(&c, big, 1 << 20) > 0)
		;
	ck_assert_int_eq(chan_wait_closed(&c), HCI_E_CLOSED);
	ck_assert_uint_eq(c.closed, 1);
	chan_close(&c);
	/* Megabytes queued at close still arrive; and the closer reads nothing of what it is sent.
	 */
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	chan_send(a, "unread", 6);
	chan_send(&c, big, 4 << 20);
	chan_close(&c);
	ck_assert_int_eq(chan_recv(a, big, 8 << 20), 4 << 20);
	ck_assert_int_eq(chan_recv(a, buf, 1), 0);
	server_stop(&s);
	free(big);
}

START_TEST(every_way_to_end)
{
	with_env(ends_body);
}
END_TEST

/* Closing from within each callback. */
struct closer {
	struct env *env;
	struct env_conn *conn;
	int at;
	unsigned opens, reads, writes, closes;
};

static void closer_do(struct closer *c, int at)
{
	if (c->at == at && c->conn) {
		env_conn_close(c->conn, at & 1);
		c->conn = NULL;
	}
}

static void closer_open(void *arg)
{
	struct closer *c = arg;
	char x = 1;
	struct iovec v = { &x, 1 };

	c->opens++;
	if (c->at != 0)
		env_conn_send(c->conn, &v, 1);
	closer_do(c, 0);
}

static void closer_readable(void *arg)
{
	struct closer *c = arg;
	char b[8];

	c->reads++;
	ck_assert_ptr_nonnull(c->conn);
	closer_do(c, 1);
	if (c->conn)
		while (env_conn_recv(c->conn, b, sizeof(b)) > 0)
			;
	closer_do(c, 2);
}

static void closer_writable(void *arg)
{
	struct closer *c = arg;

	c->writes++;
}

static void closer_closed(void *arg, const struct hci_error *err)
{
	struct closer *c = arg;

	(void)err;
	c->closes++;
	closer_do(c, 3);
}

static const struct env_conn_ops closer_ops = { closer_open, closer_readable, closer_writable,
						closer_closed };

static void closers_body(struct env *e)
{
	int at;

	for (at = 0; at < 4; at++) {
		struct closer c = { .env = e, .at = at };
		struct server s;
		struct chan *a;

		server_start(&s, e, TCP, NULL);
		c.conn = env_connect(e, env_listener_addr(s.l), NULL, &closer_ops, &c, NULL);
		a = server_accept(&s);
		chan_try_send(a, "hello", 5);
		fiber_sleep(e, 2 * NS_PER_MS);
		env_conn_close(a->conn, false);
		a->conn = NULL;
		fiber_sleep(e, 2 * NS_PER_MS);
		ck_assert_uint_eq(c.opens, 1);
		ck_assert_uint_eq(c.closes, at == 3);
		ck_assert_ptr_null(c.conn);
		server_stop(&s);
	}
}

START_TEST(closing_within_callbacks)
{
	with_env(closers_body);
}
END_TEST

static void left_open_body(struct env *e)
{
	struct server s;
	struct chan c[4];
	unsigned i;

	server_start(&s, e, TCP, NULL);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(chan_connect(&c[i], e, env_listener_addr(s.l), NULL), 0);
	fiber_sleep(e, 2 * NS_PER_MS);
	for (i = 0; i < 4; i++)
		chan_close(&c[i]); /* still lingering when the env ends */
	server_stop(&s);
}

START_TEST(an_end_with_streams_lingering)
{
	with_env(left_open_body);
}
END_TEST

static void crowd_body(struct env *e)
{
	struct server s;
	struct chan c[60];
	char b[4];
	unsigned i, round;

	server_start(&s, e, TCP, NULL);
	for (i = 0; i < 60; i++) {
		chan_init(&c[i], e);
		c[i].conn = env_connect(e, env_listener_addr(s.l), NULL, &chan_ops, &c[i], NULL);
	}
	for (i = 0; i < 60; i++)
		server_accept(&s);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 60; i++)
			chan_send(s.accepted[i], "ping", 4);
		for (i = 0; i < 60; i++)
			ck_assert_int_eq(chan_recv(&c[i], b, 4), 4);
	}
	for (i = 0; i < 60; i++)
		chan_close(&c[i]);
	server_stop(&s);
}

START_TEST(many_streams_at_once)
{
	with_env(crowd_body);
}
END_TEST

/* ---- out of descriptors ---- */

static void descriptors_body(struct env *e)
{
	struct rlimit old, low;
	struct server s;
	struct chan c, d;
	int last = dup(0);

	getrlimit(RLIMIT_NOFILE, &old);
	server_start(&s, e, TCP, NULL);
	close(last);
	/* Room for the client's socket, none for the accepted one. */
	low = (struct rlimit){ (rlim_t)last + 2, old.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	ck_assert_ptr_null(server_accept_within(&s, 20 * NS_PER_MS));
	ck_assert_int_eq(chan_connect(&d, e, env_listener_addr(s.l), NULL), HCI_E_SYS);
	ck_assert_int_eq(d.err.os_errno, EMFILE);
	chan_close(&d);
	setrlimit(RLIMIT_NOFILE, &old);
	server_accept(&s); /* tried again by itself */
	chan_close(&c);
	server_stop(&s);
}

START_TEST(out_of_descriptors_is_got_over)
{
	with_env(descriptors_body);
}
END_TEST

/* ---- out of memory ---- */

static bool exchange(struct env *e, struct env_listener **l, struct server *s)
{
	struct chan c, *a;
	uint8_t *big = malloc(300000), *back = malloc(300000);
	struct hci_error err;
	bool ok = false;

	memset(big, 3, 300000);
	chan_init(&c, e);
	c.conn = env_connect(e, env_listener_addr(*l), NULL, &chan_ops, &c, &err);
	if (!c.conn) {
		ck_assert_int_eq(err.code, HCI_E_NOMEM);
		goto out;
	}
	while (!c.opened && !c.closed)
		fiber_cond_wait(e, &c.cond);
	a = c.closed ? NULL : server_accept_within(s, 50 * NS_PER_MS);
	if (a && chan_try_send(&c, big, 1000) > 0 && chan_try_send(&c, big, 300000 - 1000) > 0 &&
	    chan_try_send(a, big, 20000) > 0)
		ok = chan_recv(a, back, 300000) == 300000 && chan_recv(&c, back, 20000) == 20000;
	ck_assert_uint_le(c.closed, 1);
	chan_close(&c);
out:
	free(big);
	free(back);
	return ok;
}

static void oom_body(struct env *e)
{
	struct server s;
	uint64_t n, made = 0;
	unsigned good = 0, bad = 0;

	server_start(&s, e, TCP, NULL);
	for (n = 1; n < 40; n++) {
		mem_fail_nth(n);
		if (exchange(e, &s.l, &s))
			good++;
		else
			bad++;
		fiber_sleep(e, NS_PER_MS);
		made = mem_fail_nth(0);
		if (made < n)
			break;
	}
	ck_assert_uint_lt(made, n);
	ck_assert_uint_gt(bad, 0);
	ck_assert(exchange(e, &s.l, &s));
	server_stop(&s);
}

START_TEST(out_of_memory_at_every_point_of_an_exchange)
{
	with_env(oom_body);
}
END_TEST

/* ---- congestion control ---- */

static void congestion_of(const struct chan *ch, char name[16])
{
	socklen_t len = 15;

	memset(name, 0, 16);
	ck_assert_int_eq(getsockopt(conn_of(ch->conn)->fd, IPPROTO_TCP, TCP_CONGESTION, name, &len), 0);
}

static void unpaced(struct env *e)
{
	static const char *const addr[] = { "tcp:127.0.0.1:0", "tcp:[::1]:0" };
	struct server s;
	struct chan c, *a;
	char name[16];

	for (unsigned i = 0; i < 2; i++) {
		server_start(&s, e, addr[i], NULL);
		ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
		a = server_accept(&s);
		congestion_of(&c, name);
		ck_assert_str_ne(name, "bbr");
		congestion_of(a, name);
		ck_assert_str_ne(name, "bbr");
		/* Whatever the host's default: one that was bbr does not stay so. */
		if (!setsockopt(conn_of(a->conn)->fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3)) {
			tune_path(conn_of(a->conn)->fd);
			congestion_of(a, name);
			ck_assert_str_ne(name, "bbr");
		}
		chan_close(&c);
		server_stop(&s);
	}
}

START_TEST(nothing_is_paced_within_a_host)
{
	with_env(unpaced);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_conn");
	TCase *t = tcase_create("conn");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, scratch_remove);
	tcase_add_test(t, hello_over_each_family);
	tcase_add_test(t, names_are_looked_up);
	tcase_add_test(t, wrong_addresses_and_nobody_there);
	tcase_add_test(t, a_stale_unix_socket_is_replaced_nothing_else);
	tcase_add_test(t, much_data_both_ways_at_once);
	tcase_add_test(t, a_peer_that_does_not_read_holds_us_back);
	tcase_add_test(t, every_way_to_end);
	tcase_add_test(t, closing_within_callbacks);
	tcase_add_test(t, an_end_with_streams_lingering);
	tcase_add_test(t, many_streams_at_once);
	tcase_add_test(t, out_of_descriptors_is_got_over);
	tcase_add_test(t, out_of_memory_at_every_point_of_an_exchange);
	tcase_add_test(t, nothing_is_paced_within_a_host);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
