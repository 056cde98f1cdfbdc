/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rpc/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "env/sim.h"

/* ---- the server's methods ---- */

static void release(void *arg)
{
	struct world *w = arg;

	w->released++;
}

static void serve_echo(void *arg, struct rpc_req *req)
{
	struct world *w = arg;
	struct buf b = { .data = (uint8_t *)(uintptr_t)req->args.p,
			 .len = (size_t)(req->args.end - req->args.p) };

	w->served++;
	rpc_reply(req, 0, NULL, &b, req->payload, req->payload_len, release, w);
}

struct late {
	struct env_timer timer;
	struct rpc_req *req;
	struct world *w;
};

static void on_late(struct env_timer *t)
{
	struct late *l = container_of(t, struct late, timer);

	rpc_reply(l->req, 0, NULL, NULL, NULL, 0, NULL, NULL);
	mem_free(l);
}

static void serve_late(void *arg, struct rpc_req *req)
{
	struct world *w = arg;
	struct late *l = MEM_NEW(struct late);
	uint64_t ms = rd_u64(&req->args);

	w->served++;
	l->req = req;
	l->w = w;
	env_timer_init(&l->timer, on_late);
	env_timer_arm(w->e, &l->timer, env_now(w->e) + ms * NS_PER_MS);
}

static void serve_fail(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	w->served++;
	rpc_reply(req, (int)rd_i64(&req->args), "no luck", NULL, NULL, 0, NULL, NULL);
}

static void serve_hold(void *arg, struct rpc_req *req)
{
	struct world *w = arg;

	w->served++;
	w->nheld++;
	list_push(&w->held, &req->link);
}

struct made {
	struct rpc *r;
	void *p;
	uint32_t len;
};

static void made_free(void *arg)
{
	struct made *m = arg;

	rpc_buf_free(m->r, m->p, m->len);
	mem_free(m);
}

static void serve_make(void *arg, struct rpc_req *req)
{
	struct world *w = arg;
	struct made *m = MEM_NEW(struct made);

	w->served++;
	m->r = w->srv;
	m->len = rd_u32(&req->args);
	m->p = rpc_buf_alloc(w->srv, m->len);
	fill(m->p, m->len, m->len);
	rpc_reply(req, 0, NULL, NULL, m->p, m->len, made_free, m);
}

void world_release_held(struct world *w)
{
	struct list *l;

	while ((l = list_pop(&w->held))) {
		w->nheld--;
		rpc_reply(list_entry(l, struct rpc_req, link), 0, NULL, NULL, NULL, 0, NULL, NULL);
	}
}

void world_serve(struct world *w, struct rpc *r)
{
	ck_assert_int_eq(rpc_register(r, M_ECHO, serve_echo, w), 0);
	ck_assert_int_eq(rpc_register(r, M_LATE, serve_late, w), 0);
	ck_assert_int_eq(rpc_register(r, M_FAIL, serve_fail, w), 0);
	ck_assert_int_eq(rpc_register(r, M_HOLD, serve_hold, w), 0);
	ck_assert_int_eq(rpc_register(r, M_MAKE, serve_make, w), 0);
	ck_assert_int_eq(rpc_register(r, M_MAKE, serve_make, w), HCI_E_EXISTS);
	ck_assert_int_eq(rpc_register(r, 0x1000, serve_make, w), HCI_E_INVAL);
}

/* ---- the world ---- */

uint64_t world_late(const struct world *w)
{
	return w->kind == WORLD_SIM ? 0 : 3 * NS_PER_S;
}

static void on_conn_closed(void *arg, struct rpc_conn *c)
{
	struct world *w = arg;

	(void)c;
	w->closed++;
}

struct rpc_opts world_opts(struct world *w, const char *node)
{
	return (struct rpc_opts){ .node_name = node, .cluster = w->cluster, .features = 5 };
}

struct rpc *world_server(struct world *w, const struct rpc_opts *o)
{
	struct rpc *r = rpc_new(w->e, o);
	struct hci_error err;

	ck_assert_ptr_nonnull(r);
	ck_assert_msg(rpc_listen(r, w->kind != WORLD_SIM ? "tcp:127.0.0.1:0" : "tcp:n1:0", &err) ==
			      0,
		      "%s", err.message);
	return r;
}

struct rpc_conn *world_connect(struct world *w)
{
	struct hci_error err;
	struct rpc_conn *c = w->self ? rpc_peers_get(w->self, "srv", &err)
				     : rpc_connect(w->cli, w->addr, "srv", &err);

	ck_assert_msg(c, "%s", err.message);
	ck_assert_msg(rpc_conn_wait(c, &err) == 0, "%s", err.message);
	return c;
}

static int nobody(void *arg, const char *node, char *addr, size_t cap)
{
	(void)arg;
	(void)cap;
	addr[0] = '\0';
	ck_abort_msg("the address of %s was asked for", node);
	return 0;
}

static void world_fiber(void *arg)
{
	struct world *w = arg;
	struct rpc_opts so, co;

	memset(&w->cluster, 0xc1, sizeof(w->cluster));
	list_init(&w->held);
	so = world_opts(w, "srv");
	co = world_opts(w, "cli");
	w->srv = world_server(w, &so);
	w->addr = rpc_listen_addr(w->srv);
	world_serve(w, w->srv);
	rpc_on_conn_closed(w->srv, on_conn_closed, w);
	w->cli = rpc_new(w->e, &co);
	if (w->kind == WORLD_LOOP)
		w->self = rpc_peers_new(w->srv, nobody, NULL);
	w->fn(w);
	world_release_held(w);
	rpc_peers_free(w->self);
	rpc_free(w->cli);
	rpc_free(w->srv);
	w->over = true;
	if (w->kind != WORLD_SIM)
		env_stop(w->e);
}

static void print_log(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%d %s: %s\n", level, subsystem, line);
}

static struct log world_log(void)
{
	struct log l = { .level = LOG_TRACE, .emit = getenv("HCI_TEST_LOG") ? print_log : NULL };

	return l;
}

static void run_real(struct world *w)
{
	struct env_real_opts o = { .log = world_log(), .workers = 1, .name = "rpctest" };
	struct hci_error err;

	w->e = env_real_new(&o, &err);
	ck_assert_msg(w->e, "%s", err.message);
	ck_assert_int_eq(fiber_spawn(w->e, world_fiber, w, "test"), 0);
	env_run(w->e);
	env_free(w->e);
}

static void boot(struct env *e, void *arg)
{
	struct world *w = arg;

	w->e = e;
	ck_assert_int_eq(fiber_spawn(e, world_fiber, w, "test"), 0);
}

static bool is_over(void *arg)
{
	return ((struct world *)arg)->over;
}

static void run_sim(struct world *w)
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct sim_node *n;
	struct sim *s;

	o.log = world_log();
	s = sim_new(&o);
	n = sim_node_new(s, "n1");
	sim_node_call(n, boot, w);
	ck_assert(sim_run_until(s, is_over, w, 3600 * NS_PER_S));
	sim_free(s);
}

void world_run(enum world_kind kind, void (*fn)(struct world *w))
{
	struct world w = { .fn = fn, .kind = kind };

	if (kind != WORLD_SIM)
		run_real(&w);
	else
		run_sim(&w);
}

/* ---- calls ---- */

void fill(void *p, size_t n, unsigned seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		b[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + seed * 131);
}

bool filled(const void *p, size_t n, unsigned seed)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i] != (uint8_t)(i * 31 + (i >> 8) * 7 + seed * 131))
			return false;
	return true;
}

static void tcall_done(struct rpc_call *call)
{
	struct tcall *t = container_of(call, struct tcall, call);

	ck_assert_uint_eq(t->done, 0);
	t->done++;
	if (t->order)
		t->at = (*t->order)++;
	if (t->waiter)
		fiber_wake(t->e, t->waiter);
}

struct tcall *tcall_new(struct world *w, uint32_t method)
{
	struct tcall *t = MEM_NEW(struct tcall);

	t->e = w->e;
	t->call.method = method;
	t->call.done = tcall_done;
	return t;
}

void tcall_arg(struct tcall *t, uint64_t v)
{
	pk_u64(&t->call.body, v);
}

void tcall_submit(struct rpc_conn *c, struct tcall *t)
{
	t->done = 0;
	rpc_submit(c, &t->call);
	ck_assert_uint_eq(t->done, 0); /* never from inside */
}

void tcall_wait(struct tcall *t)
{
	t->waiter = fiber_self(t->e);
	while (!t->done)
		fiber_park(t->e);
	t->waiter = NULL;
}

void tcall_free(struct tcall *t)
{
	rpc_call_free(&t->call);
	mem_free(t);
}

void check_echo(struct world *w, struct rpc_conn *c, uint32_t n)
{
	struct tcall *t = tcall_new(w, M_ECHO);
	uint8_t *out = n ? mem_alloc(n) : NULL;
	int rc;

	fill(out, n, n);
	t->call.payload = out;
	t->call.payload_len = n;
	tcall_arg(t, n);
	rc = rpc_call_wait(c, &t->call);
	ck_assert_msg(rc == 0, "%s", t->call.err.message);
	ck_assert_uint_eq(rd_u64(&t->call.reply), n);
	ck_assert(!t->call.reply.bad);
	ck_assert_uint_eq(t->call.reply_payload_len, n);
	ck_assert(filled(t->call.reply_payload, n, n));
	ck_assert_uint_eq((uintptr_t)t->call.reply_payload % HCI_BLOCK, 0);
	mem_free(out);
	tcall_free(t);
}
