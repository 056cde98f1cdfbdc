/* SPDX-License-Identifier: Apache-2.0 */
/* Over TLS: the name in the hello is the name in the certificate. */
#include <stdlib.h>
#include <unistd.h>

#include "env/pki.h"
#include "unit/harness.h"
#include "unit/rpc/world.h"

static char dir[] = "/tmp/hci-rpc-tls.XXXXXX";

static void make_pki(void)
{
	static const char *const addrs[] = { "127.0.0.1", NULL };
	char out[100];
	struct hci_error err;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_msg(pki_create_ca(dir, "test", &err) == 0, "%s", err.message);
	for (int i = 0; i < 2; i++) {
		snprintf(out, sizeof(out), "%s/%s", dir, i ? "cli" : "srv");
		ck_assert_msg(pki_issue(dir, i ? "cli" : "srv", out, 2, addrs, &err) == 0, "%s",
			      err.message);
	}
}

static void remove_pki(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ck_assert_int_eq(system(cmd), 0);
}

static struct env_tls *tls_of(struct world *w, const char *node)
{
	char ca[100], crt[100], key[100];
	struct hci_error err;
	struct env_tls *t;

	snprintf(ca, sizeof(ca), "%s/%s/ca.crt", dir, node);
	snprintf(crt, sizeof(crt), "%s/%s/node.crt", dir, node);
	snprintf(key, sizeof(key), "%s/%s/node.key", dir, node);
	t = env_tls_new(w->e, ca, crt, key, true, &err);
	ck_assert_msg(t, "%s", err.message);
	return t;
}

struct ends {
	struct env_tls *st, *ct;
	struct rpc *srv, *cli;
	const char *addr;
};

/* A client whose certificate says cert and whose hello says node. */
static struct ends ends_open(struct world *w, const char *cert, const char *node)
{
	struct rpc_opts so = world_opts(w, "srv"), co = world_opts(w, node);
	struct ends x;

	so.tls = x.st = tls_of(w, "srv");
	co.tls = x.ct = tls_of(w, cert);
	x.srv = world_server(w, &so);
	world_serve(w, x.srv);
	x.cli = rpc_new(w->e, &co);
	x.addr = rpc_listen_addr(x.srv);
	return x;
}

static void ends_close(struct ends *x)
{
	rpc_free(x->cli);
	rpc_free(x->srv);
	env_tls_free(x->st);
	env_tls_free(x->ct);
}

static void echoes_body(struct world *w)
{
	struct ends x = ends_open(w, "cli", "cli");
	struct hci_error err;
	struct rpc_conn *c = rpc_connect(x.cli, x.addr, "srv", &err);

	ck_assert_msg(rpc_conn_wait(c, &err) == 0, "%s", err.message);
	for (uint32_t n = 0; n <= RPC_PAYLOAD_MAX; n = n * 3 + 1)
		check_echo(w, c, n);
	check_echo(w, c, RPC_PAYLOAD_MAX);
	rpc_conn_unref(c);
	ends_close(&x);
}

START_TEST(echoes)
{
	world_run(WORLD_REAL, echoes_body);
}
END_TEST

static void liar_body(struct world *w)
{
	struct ends x = ends_open(w, "cli", "somebody");
	struct tcall *t = tcall_new(w, M_ECHO);
	struct hci_error err;
	struct rpc_conn *c = rpc_connect(x.cli, x.addr, "srv", &err);

	tcall_submit(c, t);
	tcall_wait(t);
	ck_assert_int_eq(t->call.status, HCI_E_AUTH);
	ck_assert_ptr_nonnull(
		strstr(t->call.err.message, "it is node somebody, its certificate says cli"));
	ck_assert_uint_eq(w->served, 0);
	tcall_free(t);
	rpc_conn_unref(c);
	ends_close(&x);
}

START_TEST(another_name_than_in_the_certificate)
{
	world_run(WORLD_REAL, liar_body);
}
END_TEST

/* One side without TLS: an error soon, no hang. */
static void plain_body(struct world *w)
{
	struct ends x = ends_open(w, "cli", "cli");
	struct hci_error err;
	struct rpc_conn *c = rpc_connect(w->cli, x.addr, "srv", &err), *d;

	ck_assert_int_lt(rpc_conn_wait(c, &err), 0);
	ck_assert_msg(strstr(err.message, "if it wants TLS"), "%s", err.message);
	rpc_conn_unref(c);
	d = rpc_connect(x.cli, w->addr, "srv", &err);
	ck_assert_int_lt(rpc_conn_wait(d, &err), 0);
	ck_assert_msg(strstr(err.message, "does not speak TLS"), "%s", err.message);
	rpc_conn_unref(d);
	ends_close(&x);
}

START_TEST(tls_on_one_side_only)
{
	world_run(WORLD_REAL, plain_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("rpc over TLS");
	TCase *tc = tcase_create("tls");

	tcase_add_unchecked_fixture(tc, make_pki, remove_pki);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, echoes);
	tcase_add_test(tc, another_name_than_in_the_certificate);
	tcase_add_test(tc, tls_on_one_side_only);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
