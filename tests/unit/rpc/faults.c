/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that crash and networks that break, in the simulator; and memory that runs out. */
#include "base/mem.h"
#include "env/sim.h"
#include "unit/harness.h"
#include "unit/rpc/world.h"

#define NODES 3u
#ifdef __SANITIZE_THREAD__
#define STORMS 2 /* there is one thread in here */
#else
#define STORMS 10
#endif

struct node {
	struct sim_node *sim;
	struct env *e;
	struct rpc *r;
	struct rpc_peers *peers;
	unsigned me;
};

/* What the outside knows; survives crashes, so it is not in any node's memory. */
struct cluster {
	struct sim *s;
	struct node n[NODES];
	uint64_t ok, failed, wrong;
};

struct agent {
	struct cluster *c;
	struct node *n;
};

static int resolve(void *arg, const char *node, char *addr, size_t cap)
{
	(void)arg;
	snprintf(addr, cap, "tcp:%s:7000", node);
	return 0;
}

static void serve_double(void *arg, struct rpc_req *req)
{
	struct buf b = BUF_INIT;

	(void)arg;
	pk_u64(&b, 2 * rd_u64(&req->args));
	rpc_reply(req, 0, NULL, &b, req->payload, req->payload_len, NULL, NULL);
	buf_free(&b);
}

static void ask(struct agent *a, uint64_t round)
{
	struct cluster *c = a->c;
	unsigned other = (a->n->me + 1 + (unsigned)sim_rand_below(c->s, NODES - 1)) % NODES;
	uint32_t size = (uint32_t)sim_rand_below(c->s, 3) * 10000;
	struct rpc_call call = { .method = 0x301, .timeout_ns = 2 * NS_PER_S, .payload_len = size };
	struct rpc_conn *conn;
	struct hci_error err;
	uint8_t *data;
	int rc;

	conn = rpc_peers_get(a->n->peers, sim_node_name(c->n[other].sim), &err);
	if (!conn) {
		c->failed++;
		return;
	}
	data = mem_alloc(size + 1);
	fill(data, size, (unsigned)round);
	call.payload = data;
	pk_u64(&call.body, round);
	rc = rpc_call_wait(conn, &call);
	if (rc) {
		c->failed++;
	} else if (rd_u64(&call.reply) != 2 * round || call.reply_payload_len != size ||
		   !filled(call.reply_payload, size, (unsigned)round)) {
		c->wrong++;
	} else {
		c->ok++;
	}
	rpc_call_free(&call);
	mem_free(data);
	rpc_conn_unref(conn);
}

static void agent_main(void *arg)
{
	struct agent *a = arg;

	for (uint64_t round = 1;; round++) {
		ask(a, round);
		fiber_sleep(a->n->e, sim_rand_below(a->c->s, 100 * NS_PER_MS));
	}
}

static void boot(struct env *e, void *arg)
{
	struct agent *who = arg;
	struct node *n = who->n;
	struct rpc_opts o = { .node_name = sim_node_name(n->sim),
			      .ping_interval_ns = 500 * NS_PER_MS };
	struct hci_error err;

	n->e = e;
	n->r = rpc_new(e, &o);
	n->peers = rpc_peers_new(n->r, resolve, n);
	ck_assert_int_eq(rpc_register(n->r, 0x301, serve_double, n), 0);
	ck_assert_msg(rpc_listen(n->r, "tcp:0.0.0.0:7000", &err) == 0, "%s", err.message);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(fiber_spawn(e, agent_main, who, "agent"), 0);
}

static void fault(struct cluster *c, struct agent *agents)
{
	unsigned a = (unsigned)sim_rand_below(c->s, NODES), b = (a + 1) % NODES;

	switch (sim_rand_below(c->s, 6)) {
	case 0:
		if (sim_node_up(c->n[a].sim))
			sim_node_crash(c->n[a].sim);
		break;
	case 1:
		sim_net_cut(c->s, c->n[a].sim, c->n[b].sim, true);
		break;
	case 2:
		sim_net_isolate(c->s, c->n[a].sim, true);
		break;
	case 3:
		sim_net_reset_conns(c->s, c->n[a].sim, c->n[b].sim);
		break;
	default:
		sim_net_heal(c->s);
		for (unsigned i = 0; i < NODES; i++)
			if (!sim_node_up(c->n[i].sim))
				sim_node_boot(c->n[i].sim, boot, &agents[i]);
		break;
	}
}

static uint64_t storm(uint64_t seed, struct cluster *c)
{
	static const char *const names[NODES] = { "a", "b", "c" };
	struct sim_opts o = SIM_OPTS_INIT;
	struct agent agents[NODES];
	uint64_t before, digest;

	memset(c, 0, sizeof(*c));
	o.seed = seed;
	c->s = sim_new(&o);
	for (unsigned i = 0; i < NODES; i++) {
		agents[i] = (struct agent){ c, &c->n[i] };
		c->n[i].me = i;
		c->n[i].sim = sim_node_new(c->s, names[i]);
	}
	for (unsigned i = 0; i < NODES; i++)
		sim_node_call(c->n[i].sim, boot, &agents[i]);
	for (int i = 0; i < 60; i++) {
		sim_run(c->s, sim_rand_below(c->s, 3 * NS_PER_S));
		fault(c, agents);
	}
	/* When all is well again, all is well again within seconds. */
	sim_net_heal(c->s);
	for (unsigned i = 0; i < NODES; i++)
		if (!sim_node_up(c->n[i].sim))
			sim_node_boot(c->n[i].sim, boot, &agents[i]);
	sim_run(c->s, 10 * NS_PER_S);
	before = c->failed;
	sim_run(c->s, 5 * NS_PER_S);
	ck_assert_uint_eq(c->failed, before);
	digest = sim_digest(c->s);
	sim_free(c->s);
	return digest;
}

START_TEST(storms_of_faults)
{
	struct cluster c;
	uint64_t digest = storm((uint64_t)_i + 1, &c);

	ck_assert_uint_eq(c.wrong, 0);
	ck_assert_uint_gt(c.ok, 1000);
	ck_assert_uint_gt(c.failed, 0);
	if (_i < 2) {
		struct cluster again;

		ck_assert_uint_eq(storm((uint64_t)_i + 1, &again), digest);
		ck_assert_uint_eq(again.ok, c.ok);
	}
}
END_TEST

/* ---- memory ---- */

static void try_all(struct world *w, uint64_t n)
{
	struct tcall *t = tcall_new(w, M_ECHO), *big = tcall_new(w, M_ECHO),
		     *make = tcall_new(w, M_MAKE);
	uint8_t *data = mem_zalloc(20000);
	struct hci_error err = { 0 };
	struct rpc_conn *c;
	bool ok;

	t->call.payload = big->call.payload = data;
	t->call.payload_len = 5000;
	big->call.payload_len = 20000;
	buf_append(&big->call.body, data, 3000);
	tcall_arg(t, 5);
	tcall_arg(make, 9000);
	mem_fail_nth(n);
	c = rpc_connect(w->cli, w->addr, "srv", &err);
	if (!c) {
		ck_assert_int_eq(err.code, HCI_E_NOMEM);
	} else {
		tcall_submit(c, t);
		tcall_submit(c, big);
		tcall_wait(t);
		tcall_wait(big);
		ok = !t->call.status && !big->call.status;
		ck_assert(ok || t->call.err.message[0] || big->call.err.message[0]);
	}
	mem_fail_nth(0);
	/* Whatever broke, a new connection works. */
	if (c)
		rpc_conn_unref(c);
	c = world_connect(w);
	check_echo(w, c, 5000);
	rpc_conn_unref(c);
	mem_free(data);
	tcall_free(t);
	tcall_free(big);
	tcall_free(make);
}

static void no_memory_body(struct world *w)
{
	for (uint64_t n = 1; n < 60; n++)
		try_all(w, n);
}

START_TEST(memory_runs_out)
{
	world_run(_i, no_memory_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("rpc faults");
	TCase *tc = tcase_create("faults");

	tcase_set_timeout(tc, 200);
	tcase_add_loop_test(tc, storms_of_faults, 0, STORMS);
	add_both(tc, memory_runs_out);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
