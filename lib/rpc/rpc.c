/* SPDX-License-Identifier: Apache-2.0 */
/* struct rpc: the identity of this end, the methods, the listeners. Not the connections. */
#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rpc/impl.h"

#define LOG_SUB "rpc"

#define METHODS_PAGE 256u

struct listener {
	struct list link;
	struct rpc *rpc;
	struct env_listener *l;
};

static void serve_ping(void *arg, struct rpc_req *req)
{
	(void)arg;
	rpc_reply(req, 0, NULL, NULL, NULL, 0, NULL, NULL);
}

static void set_defaults(struct rpc *r)
{
	struct rpc_opts *o = &r->o;

	o->node_name = r->node_name;
	if (!o->connect_timeout_ns)
		o->connect_timeout_ns = 5 * NS_PER_S;
	if (!o->ping_interval_ns)
		o->ping_interval_ns = 2 * NS_PER_S;
	if (!o->version_min)
		o->version_min = RPC_VERSION;
	if (!o->version_max)
		o->version_max = MAX(RPC_VERSION, o->version_min);
}

static void make_metrics(struct rpc *r)
{
	struct metrics *m = env_metrics(r->env);

	if (!m)
		return;
	r->m_calls = metrics_counter(m, "hci_rpc_calls_total", "Requests made to other nodes.", "");
	r->m_requests = metrics_counter(m, "hci_rpc_requests_total", "Requests served.", "");
	r->m_conns = metrics_gauge(m, "hci_rpc_connections",
				   "Connections that got past their hello.", "");
	r->m_failed = metrics_counter(
		m, "hci_rpc_failures_total",
		"Connections that ended for another reason than an orderly close.", "");
	r->m_tx = metrics_counter(m, "hci_rpc_sent_bytes_total", "Bytes of frames sent.", "");
	r->m_rx =
		metrics_counter(m, "hci_rpc_received_bytes_total", "Bytes of frames received.", "");
}

struct rpc *rpc_new(struct env *e, const struct rpc_opts *o)
{
	struct rpc *r = MEM_NEW(struct rpc);

	if (!r)
		return NULL;
	r->env = e;
	r->o = *o;
	strncpy(r->node_name, o->node_name ? o->node_name : "", sizeof(r->node_name) - 1);
	list_init(&r->conns);
	list_init(&r->listeners);
	set_defaults(r);
	r->pool = rpc_pool_new(sizeof(struct req));
	if (!r->pool || rpc_register(r, RPC_PING, serve_ping, NULL) < 0 ||
	    rpc_stream_register(r) < 0) {
		rpc_free(r);
		return NULL;
	}
	make_metrics(r);
	return r;
}

static void listener_free(struct listener *l)
{
	list_del(&l->link);
	if (l->l)
		env_listener_close(l->l);
	mem_free(l);
}

void rpc_free(struct rpc *r)
{
	if (!r)
		return;
	r->closing = true;
	while (!list_empty(&r->listeners))
		listener_free(list_first(&r->listeners, struct listener, link));
	while (!list_empty(&r->conns))
		rpc_conn_dispose(list_first(&r->conns, struct rpc_conn, link));
	for (size_t i = 0; i < ARRAY_SIZE(r->methods.page); i++)
		mem_free(r->methods.page[i]);
	rpc_pool_unref(r->pool);
	mem_free(r);
}

struct env *rpc_env(struct rpc *r)
{
	return r->env;
}

void *rpc_buf_alloc(struct rpc *r, uint32_t len)
{
	return len && len <= RPC_PAYLOAD_MAX ? rpc_pool_payload(r->pool, len) : NULL;
}

void rpc_buf_free(struct rpc *r, void *p, uint32_t len)
{
	rpc_pool_payload_put(r->pool, p, len);
}

const struct rpc_method_entry *rpc_method(const struct rpc *r, uint32_t method)
{
	uint32_t page = method / METHODS_PAGE;
	const struct rpc_method_entry *m;

	if (page >= ARRAY_SIZE(r->methods.page) || !r->methods.page[page])
		return NULL;
	m = &r->methods.page[page][method % METHODS_PAGE];
	return m->fn ? m : NULL;
}

int rpc_register(struct rpc *r, uint32_t method, void (*handler)(void *arg, struct rpc_req *req),
		 void *arg)
{
	uint32_t page = method / METHODS_PAGE;
	struct rpc_method_entry *m;

	if (page >= ARRAY_SIZE(r->methods.page) || !handler)
		return HCI_E_INVAL;
	if (rpc_method(r, method))
		return HCI_E_EXISTS;
	if (!r->methods.page[page]) {
		r->methods.page[page] = mem_calloc(METHODS_PAGE, sizeof(*m));
		if (!r->methods.page[page])
			return HCI_E_NOMEM;
	}
	m = &r->methods.page[page][method % METHODS_PAGE];
	m->fn = handler;
	m->arg = arg;
	return 0;
}

static void on_accept(void *arg, struct env_conn *io)
{
	struct rpc *r = ((struct listener *)arg)->rpc;

	if (r->inbound >= RPC_CONNS_MAX) {
		log_warn(env_log(r->env),
			 "node %s: a connection was refused: %u are open, which is the limit",
			 r->node_name, r->inbound);
		env_conn_close(io, true);
		return;
	}
	if (rpc_conn_accept(r, io) < 0)
		log_warn(env_log(r->env), "node %s: a connection was refused: out of memory",
			 r->node_name);
}

int rpc_listen(struct rpc *r, const char *addr, struct hci_error *err)
{
	struct listener *l = MEM_NEW(struct listener);
	const char *real;

	if (!l)
		return err_set(err, HCI_E_NOMEM, "listening on %s: out of memory", addr);
	l->rpc = r;
	list_push(&r->listeners, &l->link);
	l->l = env_listen(r->env, addr, r->o.tls, on_accept, l, err);
	if (!l->l) {
		listener_free(l);
		return err ? err->code : HCI_E_SYS;
	}
	real = env_listener_addr(l->l);
	strncpy(r->listen_addr, real, sizeof(r->listen_addr) - 1);
	return 0;
}

const char *rpc_listen_addr(struct rpc *r)
{
	return r->listen_addr;
}

void rpc_on_conn_closed(struct rpc *r, void (*fn)(void *arg, struct rpc_conn *c), void *arg)
{
	if (r->nhooks == ARRAY_SIZE(r->hooks)) {
		log_error(
			env_log(r->env),
			"more than %u functions want to hear of closed connections: one is ignored",
			r->nhooks);
		return;
	}
	r->hooks[r->nhooks].fn = fn;
	r->hooks[r->nhooks++].arg = arg;
}

void rpc_forget(struct rpc *r, void *arg)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(r->methods.page); i++) {
		for (size_t k = 0; r->methods.page[i] && k < METHODS_PAGE; k++) {
			if (r->methods.page[i][k].arg == arg)
				r->methods.page[i][k].fn = NULL;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(r->services); i++) {
		if (r->services[i].arg == arg)
			r->services[i].fn = NULL;
	}
	for (unsigned i = 0; i < r->nhooks; i++) {
		if (r->hooks[i].arg != arg)
			r->hooks[n++] = r->hooks[i];
	}
	r->nhooks = n;
}
