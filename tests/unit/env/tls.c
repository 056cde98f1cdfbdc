/* SPDX-License-Identifier: Apache-2.0 */
/* TLS streams: both names, much data, STARTTLS, and every certificate that is to be refused, at
 * both ends. */
#include <sys/stat.h>
#include <unistd.h>

#include "env/pki.h"
#include "unit/env/real.h"

#define TCP "tcp:127.0.0.1:0"

/* ---- certificates ---- */

static void issue(const char *ca, const char *name, int days, enum pki_usage usage)
{
	static const char *const addrs[] = { "127.0.0.1", "::1", "localhost", NULL };
	struct hci_error err = { 0 };
	int r = pki_issue_for(scratch_path(ca), name, scratch_path(name), days, addrs, usage, &err);

	ck_assert_msg(!r, "%s", err.message);
}

static void make_certs(void)
{
	ck_assert_int_eq(pki_create_ca(scratch_path("ca"), "test", NULL), 0);
	ck_assert_int_eq(pki_create_ca(scratch_path("ca2"), "other", NULL), 0);
	issue("ca", "alice", 30, PKI_BOTH);
	issue("ca", "bob", 30, PKI_BOTH);
	issue("ca", "expired", -2, PKI_BOTH);
	issue("ca", "onlyclient", 30, PKI_CLIENT);
	issue("ca", "onlyserver", 30, PKI_SERVER);
	issue("ca2", "mallory", 30, PKI_BOTH);
}

static struct env_tls *tls_of(struct env *e, const char *ca, const char *name, bool verify,
			      struct hci_error *err)
{
	char file[3][200];

	snprintf(file[0], sizeof(file[0]), "%s/ca.crt", scratch_path(ca));
	snprintf(file[1], sizeof(file[1]), "%s/node.crt", scratch_path(name));
	snprintf(file[2], sizeof(file[2]), "%s/node.key", scratch_path(name));
	return env_tls_new(e, file[0], file[1], file[2], verify, err);
}

static struct env_tls *tls(struct env *e, const char *ca, const char *name)
{
	struct hci_error err = { 0 };
	struct env_tls *t = tls_of(e, ca, name, true, &err);

	ck_assert_msg(t != NULL, "%s", err.message);
	return t;
}

/* The expired one with an env that does not look at its own: for the peer to refuse. */
static struct env_tls *tls_unchecked(struct env *e, const char *name);

/* ---- good ---- */

static void good_body(struct env *e)
{
	struct env_tls *ta = tls(e, "ca", "alice"), *tb = tls(e, "ca", "bob");
	struct server s;
	struct chan c, *a;
	char buf[16] = { 0 };

	server_start(&s, e, TCP, ta);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), tb), 0);
	a = server_accept(&s);
	env_tls_free(tb); /* streams that use it keep it */
	ck_assert_str_eq(env_conn_peer_name(c.conn), "alice");
	ck_assert_str_eq(env_conn_peer_name(a->conn), "bob");
	chan_send(&c, "hello", 5);
	ck_assert_int_eq(chan_recv(a, buf, 5), 5);
	ck_assert_str_eq(buf, "hello");
	chan_send(a, "world", 5);
	ck_assert_int_eq(chan_recv(&c, buf, 5), 5);
	ck_assert_str_eq(buf, "world");
	chan_send(&c, "last", 4);
	chan_close(&c);
	ck_assert_int_eq(chan_recv(a, buf, 5), 4);
	ck_assert_int_eq(chan_recv(a, buf, 5), 0);
	ck_assert_int_eq(chan_wait_closed(a), HCI_E_CLOSED);
	ck_assert_uint_eq(a->closed, 1);
	server_stop(&s);
	env_tls_free(ta);
}

START_TEST(both_sides_learn_the_others_name)
{
	make_certs();
	with_env(good_body);
}
END_TEST

/* ---- much ---- */

#define BULK ((size_t)32 << 20)

struct bulk {
	struct chan *ch;
	uint8_t *data;
	size_t step;
	unsigned *left;
	struct fiber_cond *cond;
};

static void bulk_over(struct bulk *b)
{
	--*b->left;
	fiber_cond_signal(b->ch->env, b->cond);
}

static void bulk_send(void *arg)
{
	struct bulk *b = arg;
	size_t off = 0, i = 0;

	while (off < BULK) {
		size_t n = MIN(BULK - off, b->step ? b->step : 1 + (i++ * 7919) % 300000);

		chan_send(b->ch, b->data + off, n);
		off += n;
	}
	bulk_over(b);
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
	bulk_over(b);
}

static void bulk(struct env *e, size_t step)
{
	struct env_tls *t = tls(e, "ca", "alice");
	struct fiber_cond cond;
	struct server s;
	struct chan c, *a;
	unsigned left = 4;
	uint8_t *data = malloc(BULK);
	struct bulk b[2];
	size_t i;

	for (i = 0; i < BULK; i++)
		data[i] = (uint8_t)(i * 131 + (i >> 8) * 7);
	fiber_cond_init(&cond);
	server_start(&s, e, TCP, t);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), t), 0);
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
	env_tls_free(t);
	free(data);
}

static void bulk_odd(struct env *e)
{
	bulk(e, 0);
}

static void bulk_small(struct env *e)
{
	bulk(e, 4160);
}

START_TEST(much_data_both_ways_at_once)
{
	make_certs();
	with_env(bulk_odd);
	with_env(bulk_small);
}
END_TEST

/* ---- refused certificates ---- */

static char logged[4096];

static void log_line(void *arg, int level, const char *sub, const char *line)
{
	(void)arg;
	(void)level;
	(void)sub;
	strncat(logged, line, sizeof(logged) - strlen(logged) - 2);
	strcat(logged, "\n");
}

static const struct log logger = { LOG_INFO, log_line, NULL };

/* A client whose certificate the server refuses: TLS 1.3 lets it open, its first read says AUTH. */
static void client_refused(struct env *e, struct env_tls *st, struct env_tls *ct, const char *why)
{
	struct server s;
	struct chan c;
	int r;

	logged[0] = '\0';
	server_start(&s, e, TCP, st);
	r = chan_connect(&c, e, env_listener_addr(s.l), ct);
	if (!r) {
		chan_try_send(&c, "secret", 6);
		r = chan_wait_closed(&c);
	}
	ck_assert_msg(r == HCI_E_AUTH, "client: %d %s", r, c.err.message);
	ck_assert_msg(strstr(c.err.message, "refused our certificate") != NULL, "%s",
		      c.err.message);
	ck_assert_uint_eq(c.closed, 1);
	chan_close(&c);
	ck_assert_ptr_null(server_accept_within(&s, 20 * NS_PER_MS));
	ck_assert_msg(strstr(logged, why) != NULL, "the server logged: %s", logged);
	server_stop(&s);
	env_tls_free(st);
	env_tls_free(ct);
}

/* A server whose certificate the client refuses. */
static void server_refused(struct env *e, struct env_tls *st, struct env_tls *ct, const char *why)
{
	struct server s;
	struct chan c;

	logged[0] = '\0';
	server_start(&s, e, TCP, st);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), ct), HCI_E_AUTH);
	ck_assert_msg(strstr(c.err.message, why) != NULL, "%s", c.err.message);
	chan_close(&c);
	ck_assert_ptr_null(server_accept_within(&s, 20 * NS_PER_MS));
	ck_assert_msg(strstr(logged, "refused our certificate") != NULL, "the server logged: %s",
		      logged);
	server_stop(&s);
	env_tls_free(st);
	env_tls_free(ct);
}

static void refused_body(struct env *e)
{
	client_refused(e, tls(e, "ca", "alice"), tls_unchecked(e, "mallory"),
		       "certificate is refused");
	client_refused(e, tls(e, "ca", "alice"), tls_unchecked(e, "expired"), "has expired");
	client_refused(e, tls(e, "ca", "alice"), tls(e, "ca", "onlyserver"), "purpose");
	server_refused(e, tls_unchecked(e, "mallory"), tls(e, "ca", "alice"),
		       "certificate is refused");
	server_refused(e, tls_unchecked(e, "expired"), tls(e, "ca", "alice"), "has expired");
	server_refused(e, tls(e, "ca", "onlyclient"), tls(e, "ca", "alice"), "purpose");
	/* Each trusts its own CA only. */
	server_refused(e, tls(e, "ca", "alice"), tls(e, "ca2", "mallory"),
		       "certificate is refused");
}

START_TEST(wrong_certificates_are_refused_with_a_reason_at_both_ends)
{
	unsigned fds;

	make_certs();
	fds = count_fds();
	with_env_log(refused_body, logger);
	ck_assert_uint_eq(count_fds(), fds);
}
END_TEST

/* ---- not TLS ---- */

static void not_tls_body(struct env *e)
{
	struct env_tls *t = tls(e, "ca", "alice");
	struct server s;
	struct chan c, *a;
	char hello[64];

	/* A plain client at a TLS server. */
	logged[0] = '\0';
	server_start(&s, e, TCP, t);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	chan_send(&c, "GET / HTTP/1.0\r\n\r\n", 18);
	ck_assert_int_eq(chan_wait_closed(&c), HCI_E_CLOSED);
	chan_close(&c);
	ck_assert_msg(strstr(logged, "does not speak TLS") != NULL, "%s", logged);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	chan_send(&c, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_int_eq(chan_wait_closed(&c), HCI_E_CLOSED);
	chan_close(&c);
	ck_assert_ptr_null(server_accept_within(&s, 10 * NS_PER_MS));
	server_stop(&s);
	/* A TLS client at a plain server that answers, and at one that hangs up. */
	server_start(&s, e, TCP, NULL);
	chan_init(&c, e);
	c.conn = env_connect(e, env_listener_addr(s.l), t, &chan_ops, &c, NULL);
	a = server_accept(&s);
	chan_send(a, "220 welcome to this service\r\n", 29);
	while (!c.closed)
		fiber_cond_wait(e, &c.cond);
	ck_assert_int_eq(c.err.code, HCI_E_PROTO);
	ck_assert_uint_eq(c.opened, 0);
	chan_close(&c);
	chan_init(&c, e);
	c.conn = env_connect(e, env_listener_addr(s.l), t, &chan_ops, &c, NULL);
	a = server_accept(&s);
	ck_assert_int_eq(chan_recv(a, hello, sizeof(hello)), sizeof(hello));
	env_conn_close(a->conn, true);
	a->conn = NULL;
	while (!c.closed)
		fiber_cond_wait(e, &c.cond);
	ck_assert_int_eq(c.err.code, HCI_E_CLOSED);
	chan_close(&c);
	server_stop(&s);
	env_tls_free(t);
}

START_TEST(a_peer_that_does_not_speak_tls)
{
	make_certs();
	with_env_log(not_tls_body, logger);
}
END_TEST

/* ---- without a client certificate, STARTTLS ---- */

static void starttls_body(struct env *e)
{
	struct hci_error err;
	struct env_tls *ts = tls_of(e, "ca", "alice", false, &err), *tc = tls(e, "ca", "bob");
	struct server s;
	struct chan c, *a;
	char buf[16] = { 0 };

	server_start(&s, e, TCP, NULL);
	ck_assert_int_eq(chan_connect(&c, e, env_listener_addr(s.l), NULL), 0);
	a = server_accept(&s);
	chan_send(&c, "STARTTLS", 8);
	ck_assert_int_eq(chan_recv(a, buf, 8), 8);
	chan_send(a, "OK", 2);
	ck_assert_int_eq(env_conn_start_tls(a->conn, ts, true, &err), 0);
	ck_assert_int_eq(chan_recv(&c, buf, 2), 2);
	ck_assert_int_eq(env_conn_start_tls(c.conn, tc, false, &err), 0);
	ck_assert_int_eq(env_conn_start_tls(c.conn, tc, false, &err), HCI_E_STATE);
	while (a->opened < 2 || c.opened < 2)
		fiber_cond_wait(e, a->opened < 2 ? &a->cond : &c.cond);
	ck_assert_str_eq(env_conn_peer_name(a->conn), "bob");
	ck_assert_str_eq(env_conn_peer_name(c.conn), "alice");
	chan_send(&c, "ping", 4);
	ck_assert_int_eq(chan_recv(a, buf, 4), 4);
	chan_send(a, "pong", 4);
	ck_assert_int_eq(chan_recv(&c, buf, 4), 4);
	ck_assert_int_eq(memcmp(buf, "pong", 4), 0);
	chan_close(&c);
	server_stop(&s);
	env_tls_free(ts);
	env_tls_free(tc);
}

START_TEST(a_plain_stream_turns_into_tls)
{
	make_certs();
	with_env(starttls_body);
}
END_TEST

/* ---- the context itself ---- */

static void expect_refused(struct env *e, const char *ca, const char *name, const char *word)
{
	struct hci_error err = { 0 };

	ck_assert_ptr_null(tls_of(e, ca, name, true, &err));
	ck_assert_int_eq(err.code, HCI_E_AUTH);
	ck_assert_msg(strstr(err.message, word) != NULL, "%s", err.message);
}

static void context_body(struct env *e)
{
	static const mode_t open_modes[] = { 0644, 0604, 0620, 0602, 0660 };
	char path[200];

	expect_refused(e, "ca", "expired", "expired");
	expect_refused(e, "ca", "mallory", "is not of the CA");
	expect_refused(e, "ca", "nobody", "nobody/node.crt");
	expect_refused(e, "noca", "alice", "noca/ca.crt");
	/* A key that belongs to another certificate. */
	mkdir(scratch_path("mixed"), 0700);
	snprintf(path, sizeof(path), "cp %s/node.crt %s/node.crt", scratch_path("alice"),
		 scratch_path("mixed"));
	ck_assert_int_eq(system(path), 0);
	snprintf(path, sizeof(path), "cp %s/node.key %s/node.key", scratch_path("bob"),
		 scratch_path("mixed"));
	ck_assert_int_eq(system(path), 0);
	expect_refused(e, "ca", "mixed", "key");
	/* A key that others may read, or put another one into. */
	for (unsigned i = 0; i < ARRAY_SIZE(open_modes); i++) {
		ck_assert_int_eq(chmod(scratch_path("alice/node.key"), open_modes[i]), 0);
		expect_refused(e, "ca", "alice", "alice/node.key is open to others");
	}
	ck_assert_int_eq(chmod(scratch_path("alice/node.key"), 0400), 0);
	env_tls_free(tls(e, "ca", "alice"));
	if (!geteuid()) {
		ck_assert_int_eq(chmod(scratch_path("alice/node.key"), 0640), 0);
		env_tls_free(tls(e, "ca", "alice"));
		ck_assert_int_eq(chown(scratch_path("alice/node.key"), 65534, (gid_t)-1), 0);
		expect_refused(e, "ca", "alice", "open to others (mode 640)");
	}
	ck_assert_int_eq(env_write_file(e, scratch_path("mixed/node.crt"), "garbage", 7), 0);
	expect_refused(e, "ca", "mixed", "mixed/node.crt");
}

START_TEST(bad_files_are_named)
{
	make_certs();
	with_env(context_body);
}
END_TEST

/* Loads without our own checks: from a copy whose CA file holds both CAs, and whose dates are past
 * the check. */
#include "env/real_tls.h"

static struct env_tls *tls_unchecked(struct env *e, const char *name)
{
	struct env_tls *t = tls(e, "ca", "alice");
	struct real_tls *r = container_of(t, struct real_tls, base);
	char cert[200], key[200];

	snprintf(cert, sizeof(cert), "%s/node.crt", scratch_path(name));
	snprintf(key, sizeof(key), "%s/node.key", scratch_path(name));
	ck_assert_int_eq(SSL_CTX_use_certificate_chain_file(r->ctx, cert), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(r->ctx, key, SSL_FILETYPE_PEM), 1);
	return t;
}

/* ---- a peer that only connects ---- */

static void abrupt_body(struct env *e)
{
	struct env_tls *t = tls(e, "ca", "alice");
	struct server s;
	struct chan c[10], *a;
	unsigned i;
	char b;

	/* Gone in the middle of the handshake, and open when the listener goes. */
	server_start(&s, e, TCP, t);
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(chan_connect(&c[i], e, env_listener_addr(s.l), NULL), 0);
		if (i < 5) {
			chan_send(&c[i], "\x16\x03\x01\x02\x00\x01", 6);
			fiber_sleep(e, NS_PER_MS);
			env_conn_close(c[i].conn, i & 1);
		}
	}
	fiber_sleep(e, 2 * NS_PER_MS);
	server_stop(&s);
	for (i = 5; i < 10; i++) {
		ck_assert_int_eq(chan_wait_closed(&c[i]), HCI_E_CLOSED);
		chan_close(&c[i]);
	}
	/* Broken off in an established stream, without close_notify. */
	server_start(&s, e, TCP, t);
	ck_assert_int_eq(chan_connect(&c[0], e, env_listener_addr(s.l), t), 0);
	a = server_accept(&s);
	env_conn_close(c[0].conn, true);
	ck_assert_int_le(chan_recv(a, &b, 1), 0);
	ck_assert_int_eq(chan_wait_closed(a), HCI_E_CLOSED);
	ck_assert_uint_eq(a->closed, 1);
	server_stop(&s);
	env_tls_free(t);
}

START_TEST(abrupt_ends)
{
	make_certs();
	with_env(abrupt_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_tls");
	TCase *t = tcase_create("tls");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, scratch_remove);
	tcase_add_test(t, both_sides_learn_the_others_name);
	tcase_add_test(t, much_data_both_ways_at_once);
	tcase_add_test(t, wrong_certificates_are_refused_with_a_reason_at_both_ends);
	tcase_add_test(t, a_peer_that_does_not_speak_tls);
	tcase_add_test(t, a_plain_stream_turns_into_tls);
	tcase_add_test(t, bad_files_are_named);
	tcase_add_test(t, abrupt_ends);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
