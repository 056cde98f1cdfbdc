/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server's address and its table of exports: who is found under which name, who may
 * connect, opening and closing. Owns exports and the connections in the handshake.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "export/nbd_internal.h"

/* ---- what the handshake asks ---- */

static void describe(const struct nbd_export *x, struct nbd_neg_export *out)
{
	out->handle = (void *)x;
	out->name = x->name;
	out->description = x->description;
	out->size = x->size;
	out->flags = x->flags;
}

static struct nbd_export *find_name(struct nbd_server *s, const char *name, size_t len)
{
	struct nbd_export *x;

	list_for_each(x, &s->exports, link) {
		if (strlen(x->name) == len && !memcmp(x->name, name, len))
			return x;
	}
	return NULL;
}

static struct nbd_export *find_export(struct nbd_server *s, const char *name, size_t len)
{
	struct nbd_export *x = find_name(s, name, len);

	/* "the default export": the only one there is. */
	if (!x && !len && s->nexports == 1)
		x = list_first(&s->exports, struct nbd_export, link);
	return x;
}

static uint32_t neg_find(void *arg, const char *name, size_t len, bool go,
			 struct nbd_neg_export *out, char *msg, size_t cap)
{
	struct nbd_server *s = arg;
	struct nbd_export *x = find_export(s, len ? name : "", len);

	if (!x) {
		snprintf(msg, cap, "no export of that name: NBD_OPT_LIST tells which there are");
		return s->closing ? NBD_REP_ERR_SHUTDOWN : NBD_REP_ERR_UNKNOWN;
	}
	if (go && x->nconns >= x->max_conns) {
		snprintf(msg, cap, "export %.64s: %u connections are open already", x->name,
			 x->nconns);
		return NBD_REP_ERR_POLICY;
	}
	describe(x, out);
	return 0;
}

static bool neg_list(void *arg, unsigned i, struct nbd_neg_export *out)
{
	struct nbd_server *s = arg;
	struct nbd_export *x;

	list_for_each(x, &s->exports, link) {
		if (i-- == 0) {
			describe(x, out);
			return true;
		}
	}
	return false;
}

const struct nbd_neg_ops nbd_server_neg_ops = { neg_find, neg_list };

/* ---- connections ---- */

static void drop_oldest_handshake(struct nbd_server *s)
{
	struct nbd_conn *c;

	list_for_each(c, &s->conns, link) {
		if (c->negotiating) {
			nbd_conn_kill(c, "too many handshakes at once");
			return;
		}
	}
}

static void on_accept(void *arg, struct env_conn *ec)
{
	struct nbd_server *s = arg;

	/* An honest handshake takes milliseconds: those who fill the room are the ones to go. */
	if (s->nneg >= MAX(s->o.max_conns / 4, 1u))
		drop_oldest_handshake(s);
	if (s->closing || s->nconns >= s->o.max_conns || !nbd_conn_new(s, ec))
		env_conn_close(ec, true);
}

void nbd_server_conn_gone(struct nbd_server *s)
{
	s->nconns--;
	nbd_server_maybe_end(s);
}

/* ---- exports ---- */

static const char *const metric_names[NBD_METRICS][3] = {
	[NBD_M_READS] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"read\"" },
	[NBD_M_WRITES] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"write\"" },
	[NBD_M_FLUSHES] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"flush\"" },
	[NBD_M_TRIMS] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"trim\"" },
	[NBD_M_ZEROES] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"zero\"" },
	[NBD_M_STATUS] = { "hci_nbd_requests_total", "NBD requests taken", "op=\"status\"" },
	[NBD_M_READ_BYTES] = { "hci_nbd_bytes_total", "Payload of NBD requests", "op=\"read\"" },
	[NBD_M_WRITE_BYTES] = { "hci_nbd_bytes_total", "Payload of NBD requests", "op=\"write\"" },
	[NBD_M_ERRORS] = { "hci_nbd_errors_total", "NBD requests answered with an error", "" },
	[NBD_M_CONNS] = { "hci_nbd_connections", "Clients in transmission", "" },
	[NBD_M_HELD] = { "hci_nbd_held", "1 while requests are parked", "" },
	[NBD_M_LATENCY] = { "hci_nbd_latency_seconds", "From a request's header to its reply", "" },
};

static void add_metrics(struct nbd_export *x)
{
	struct metrics *m = env_metrics(x->server->env);
	struct buf labels = BUF_INIT;

	for (int i = 0; m && i < NBD_METRICS; i++) {
		const char *const *d = metric_names[i];
		const char *l;

		buf_reset(&labels);
		buf_printf(&labels, "export=\"%s\"%s%s", x->name, d[2][0] ? "," : "", d[2]);
		l = labels.failed ? NULL : (const char *)labels.data;
		if (!l)
			continue;
		if (i == NBD_M_LATENCY)
			x->m[i] = metrics_histogram(m, d[0], d[1], l);
		else if (i == NBD_M_CONNS || i == NBD_M_HELD)
			x->m[i] = metrics_gauge(m, d[0], d[1], l);
		else
			x->m[i] = metrics_counter(m, d[0], d[1], l);
	}
	buf_free(&labels);
	metric_set(x->m[NBD_M_HELD], x->held != 0);
}

static void free_export(struct nbd_export *x)
{
	struct metrics *m = env_metrics(x->server->env);

	for (int i = 0; m && i < NBD_METRICS; i++)
		if (x->m[i])
			metrics_remove(m, x->m[i]);
	env_undefer(x->server->env, &x->told);
	env_undefer(x->server->env, &x->told_write);
	env_undefer(x->server->env, &x->end);
	env_timer_disarm(x->server->env, &x->end_timer);
	list_del(&x->link);
	mem_free(x->name);
	mem_free(x->description);
	mem_free(x);
}

static void end_task(struct env_task *t)
{
	struct nbd_export *x = container_of(t, struct nbd_export, end);
	struct nbd_server *s = x->server;
	void (*done)(void *) = x->on_closed;
	void *arg = x->closed_arg;

	if (x->nconns || x->inflight)
		return;
	free_export(x);
	s->nalive--;
	if (done)
		done(arg);
	nbd_server_maybe_end(s);
}

static void end_timeout(struct env_timer *t)
{
	struct nbd_export *x = container_of(t, struct nbd_export, end_timer);
	struct nbd_conn *c, *tmp;

	list_for_each_safe(c, tmp, &x->conns, xlink)
		nbd_conn_kill(c, "it took no reply while the export was closed");
}

uint16_t nbd_export_flags(const struct nbd_backend *b, bool read_only)
{
	/* Every acknowledged write is durable and all connections share the backend: several may be
	 * used. */
	uint16_t f =
		NBD_TX_HAS_FLAGS | NBD_TX_FLUSH | NBD_TX_FUA | NBD_TX_CACHE | NBD_TX_MULTI_CONN;

	if (read_only)
		return f | NBD_TX_READ_ONLY;
	f |= NBD_TX_WRITE_ZEROES;
	/* Not known yet: volumes can, and where the real one cannot, both are hints that may go
	 * nowhere. */
	if (!b || b->trim_granularity)
		f |= NBD_TX_TRIM;
	if (!b || b->fast_zero)
		f |= NBD_TX_FAST_ZERO;
	return f;
}

static int check_opts(struct nbd_server *s, const struct nbd_export_opts *o, struct hci_error *err)
{
	uint64_t size = o->backend ? o->backend->size : o->size;
	const char *name = o->name ? o->name : "";

	if (s->closing)
		return err_set(err, HCI_E_STATE, "export %s: its server is being closed", name);
	if (strlen(name) > 255)
		return err_set(err, HCI_E_INVAL, "export: a name of %zu bytes: at most 255",
			       strlen(name));
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == '"' || *p == '\\' || *p == 127)
			return err_set(err, HCI_E_INVAL,
				       "export: control characters, quotes and backslashes "
				       "cannot be in a name: rename it");
	if (!size || size % HCI_BLOCK || size > INT64_MAX)
		return err_set(err, HCI_E_INVAL,
			       "export %s: %llu bytes: not a positive multiple of %u", name,
			       (unsigned long long)size, HCI_BLOCK);
	if (find_name(s, name, strlen(name)))
		return err_set(err, HCI_E_EXISTS,
			       "export %s: %s has one of that name: choose another", name,
			       nbd_server_addr(s));
	return 0;
}

struct nbd_export *nbd_export_add(struct nbd_server *s, const struct nbd_export_opts *o,
				  struct hci_error *err)
{
	struct nbd_export *x;

	if (check_opts(s, o, err))
		return NULL;
	x = MEM_NEW(struct nbd_export);
	if (!x)
		goto nomem;
	x->server = s;
	list_init(&x->link);
	list_init(&x->conns);
	list_init(&x->ranges);
	env_task_init(&x->end, end_task);
	env_timer_init(&x->end_timer, end_timeout);
	nbd_hold_init(x, o);
	x->name = mem_strdup(o->name ? o->name : "");
	x->description = o->description ? mem_strdup(o->description) : NULL;
	if (!x->name || (o->description && !x->description)) {
		mem_free(x->name);
		mem_free(x->description);
		mem_free(x);
		goto nomem;
	}
	x->has_backend = o->backend != NULL;
	if (o->backend)
		x->backend = *o->backend;
	x->size = o->backend ? o->backend->size : o->size;
	x->read_only = o->read_only;
	x->flags = nbd_export_flags(o->backend, o->read_only);
	x->max_conns = o->max_conns ? o->max_conns : 16;
	list_push(&s->exports, &x->link);
	s->nexports++;
	s->nalive++;
	add_metrics(x);
	return x;
nomem:
	err_set(err, HCI_E_NOMEM, "export %s: out of memory", o->name ? o->name : "");
	return NULL;
}

void nbd_export_close(struct nbd_export *x, void (*done)(void *arg), void *arg)
{
	struct nbd_server *s = x->server;
	struct nbd_conn *c, *tmp;

	if (x->closing)
		return;
	x->closing = true;
	x->on_closed = done;
	x->closed_arg = arg;
	/* Off the list at once: nobody finds it any more, its name is free. */
	list_del(&x->link);
	s->nexports--;
	/* Handshakes that have named it (a context was selected) must not find its memory reused.
	 */
	list_for_each(c, &s->conns, link) {
		if (c->negotiating && c->neg.meta_handle == x)
			c->neg.meta_handle = NULL;
	}
	nbd_export_fail_held(x, HCI_E_CLOSED);
	list_for_each_safe(c, tmp, &x->conns, xlink)
		nbd_conn_finish(c);
	env_timer_arm(s->env, &x->end_timer, env_now(s->env) + NBD_CLOSE_NS);
	env_defer(s->env, &x->end);
}

struct waiter {
	bool over;
	struct fiber_cond cond;
	struct env *env;
};

static void wake_waiter(void *arg)
{
	struct waiter *w = arg;

	w->over = true;
	fiber_cond_signal(w->env, &w->cond);
}

void nbd_export_close_wait(struct nbd_export *x)
{
	struct waiter w = { .env = x->server->env };

	fiber_cond_init(&w.cond);
	nbd_export_close(x, wake_waiter, &w);
	while (!w.over)
		fiber_cond_wait(w.env, &w.cond);
}

void nbd_export_drop(struct nbd_export *x)
{
	struct nbd_conn *c, *tmp;

	list_for_each_safe(c, tmp, &x->conns, xlink)
		nbd_conn_kill(c, NULL);
}

void nbd_export_conn_gone(struct nbd_export *x)
{
	x->nconns--;
	metric_set(x->m[NBD_M_CONNS], x->nconns);
	if (x->closing)
		env_defer(x->server->env, &x->end);
}

void nbd_export_stats(const struct nbd_export *x, struct nbd_stats *out)
{
	*out = x->stats;
	out->conns = x->nconns;
	out->inflight = x->inflight;
	out->held = x->held & NBD_HELD_ALL;
	out->writes_held = x->held & NBD_HELD_WRITES;
}

/* ---- server ---- */

static void server_end_task(struct env_task *t)
{
	struct nbd_server *s = container_of(t, struct nbd_server, end);
	void (*done)(void *) = s->on_closed;
	void *arg = s->closed_arg;

	nbd_pool_drain(&s->pool);
	env_undefer(s->env, &s->end);
	mem_free(s);
	if (done)
		done(arg);
}

void nbd_server_maybe_end(struct nbd_server *s)
{
	if (s->closing && !s->nconns && !s->nalive)
		env_defer(s->env, &s->end);
}

struct nbd_server *nbd_server_open(struct env *e, const struct nbd_server_opts *o,
				   struct hci_error *err)
{
	struct nbd_server *s = MEM_NEW(struct nbd_server);

	if (!s) {
		err_set(err, HCI_E_NOMEM, "NBD server %s: out of memory", o->addr);
		return NULL;
	}
	s->env = e;
	s->o = *o;
	s->o.max_conns = o->max_conns ? o->max_conns : 256;
	s->o.handshake_ns = o->handshake_ns ? o->handshake_ns : 10 * NS_PER_S;
	s->o.max_requests = o->max_requests ? o->max_requests : 128;
	s->o.max_bytes = o->max_bytes ? o->max_bytes : 64 * MiB;
	list_init(&s->exports);
	list_init(&s->conns);
	env_task_init(&s->end, server_end_task);
	/* Plain at first even with TLS: NBD_OPT_STARTTLS upgrades. */
	s->listener = env_listen(e, o->addr, NULL, on_accept, s, err);
	if (!s->listener) {
		err_prefix(err, "NBD server");
		mem_free(s);
		return NULL;
	}
	s->o.addr = env_listener_addr(s->listener);
	return s;
}

const char *nbd_server_addr(const struct nbd_server *s)
{
	return s->o.addr;
}

void nbd_server_close(struct nbd_server *s, void (*done)(void *arg), void *arg)
{
	struct nbd_conn *c, *tmp;
	struct nbd_export *x, *xtmp;

	if (s->closing)
		return;
	s->closing = true;
	s->on_closed = done;
	s->closed_arg = arg;
	list_for_each_safe(x, xtmp, &s->exports, link)
		nbd_export_close(x, NULL, NULL);
	list_for_each_safe(c, tmp, &s->conns, link) {
		if (c->negotiating)
			nbd_conn_kill(c, NULL);
	}
	env_listener_close(s->listener);
	s->listener = NULL;
	s->o.addr = "(closed)";
	nbd_server_maybe_end(s);
}
