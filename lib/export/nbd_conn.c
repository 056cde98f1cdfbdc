/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's connection: the handshake, STARTTLS, and the end. Requests are nbd_rx.c's, replies
 * nbd_tx.c's. A connection that has died stays until its last request has come back from the
 * backend.
 */
#include "base/mem.h"
#include "export/nbd_internal.h"

/* A client that sends options and reads no replies is not listened to past this. */
#define MAX_RAW (64u << 10)

static void pause_reading(struct nbd_conn *c, bool paused)
{
	if (c->paused != paused)
		env_conn_pause(c->conn, paused);
	c->paused = paused;
}

static void on_readable(void *arg)
{
	nbd_rx_pump(arg);
}

static void after_flush(struct nbd_conn *c);

static void on_writable(void *arg)
{
	nbd_tx_flush(arg);
	after_flush(arg);
}

static void on_open(void *arg)
{
	struct nbd_conn *c = arg;

	if (c->rx != NBD_RX_TLS)
		return;
	nbd_neg_tls_started(&c->neg);
	c->rx = NBD_RX_NEG;
	env_defer(c->server->env, &c->pump);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct nbd_conn *c = arg;

	nbd_conn_lost(c, c->rx == NBD_RX_TLS && err ? err->message : NULL);
}

static const struct env_conn_ops conn_ops = {
	.on_open = on_open,
	.on_readable = on_readable,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

static void pump_task(struct env_task *t)
{
	nbd_rx_pump(container_of(t, struct nbd_conn, pump));
}

static void flush_task(struct env_task *t)
{
	struct nbd_conn *c = container_of(t, struct nbd_conn, flush);

	nbd_tx_flush(c);
	after_flush(c);
}

static void handshake_timeout(struct env_timer *t)
{
	nbd_conn_kill(container_of(t, struct nbd_conn, timer), "the handshake took too long");
}

static void free_conn(struct nbd_conn *c)
{
	struct nbd_server *s = c->server;
	struct nbd_export *x = c->export;

	env_undefer(s->env, &c->pump);
	env_undefer(s->env, &c->flush);
	list_del(&c->link);
	list_del(&c->xlink);
	nbd_neg_fini(&c->neg);
	buf_free(&c->raw);
	mem_free(c);
	if (x)
		nbd_export_conn_gone(x);
	nbd_server_conn_gone(s);
}

static void end_task(struct env_task *t)
{
	struct nbd_conn *c = container_of(t, struct nbd_conn, end);

	if (nbd_conn_dead(c) && !c->nreqs)
		free_conn(c);
}

struct nbd_conn *nbd_conn_new(struct nbd_server *s, struct env_conn *ec)
{
	struct nbd_conn *c = mem_alloc(sizeof(*c));

	if (!c)
		return NULL;
	memset(c, 0, offsetof(struct nbd_conn, stage));
	c->server = s;
	c->conn = ec;
	list_init(&c->xlink);
	list_init(&c->reqs);
	list_init(&c->out);
	env_task_init(&c->pump, pump_task);
	env_task_init(&c->flush, flush_task);
	env_task_init(&c->end, end_task);
	env_timer_init(&c->timer, handshake_timeout);
	env_timer_arm(s->env, &c->timer, env_now(s->env) + s->o.handshake_ns);
	c->negotiating = true;
	s->nneg++;
	list_push(&s->conns, &c->link);
	s->nconns++;
	nbd_neg_init(&c->neg, &nbd_server_neg_ops, s, s->o.tls ? NBD_TLS_REQUIRE : NBD_TLS_OFF,
		     &c->raw);
	env_conn_set_ops(ec, &conn_ops, c);
	env_defer(s->env, &c->flush);
	env_defer(s->env, &c->pump);
	return c;
}

/* ---- the end ---- */

static void log_drop(struct nbd_conn *c, const char *why)
{
	struct nbd_server *s = c->server;
	uint64_t now = env_now(s->env);

	/* Strangers can make us say this: not more than once a second. */
	if (now < s->log_after) {
		s->log_dropped++;
		return;
	}
	s->log_after = now + NS_PER_S;
	log_warn(env_log(s->env),
		 "%s: client of export '%s' dropped: %s (and %u others since the last such line)",
		 nbd_server_addr(s), c->export ? c->export->name : "-", why, s->log_dropped);
	s->log_dropped = 0;
}

static void end_negotiation(struct nbd_conn *c)
{
	if (!c->negotiating)
		return;
	c->negotiating = false;
	c->server->nneg--;
	env_timer_disarm(c->server->env, &c->timer);
}

void nbd_conn_kill(struct nbd_conn *c, const char *why)
{
	struct nbd_req *r, *tmp;

	if (nbd_conn_dead(c))
		return;
	if (why)
		log_drop(c, why);
	end_negotiation(c);
	env_conn_close(c->conn, why != NULL);
	c->conn = NULL;
	c->rx = NBD_RX_STOP;
	c->cur = NULL;
	/* What is at the backend comes back by itself; nothing else is needed any more. */
	list_for_each_safe(r, tmp, &c->reqs, link) {
		if (!r->at_backend)
			nbd_req_free(r);
	}
	env_defer(c->server->env, &c->end);
}

void nbd_conn_lost(struct nbd_conn *c, const char *why)
{
	if (!nbd_conn_dead(c) && c->export && c->rx != NBD_RX_STOP)
		c->export->stats.cut = true;
	nbd_conn_kill(c, why);
}

void nbd_conn_finish(struct nbd_conn *c)
{
	if (nbd_conn_dead(c))
		return;
	c->rx = NBD_RX_STOP;
	if (c->cur) {
		struct nbd_req *r = c->cur;

		c->cur = NULL;
		nbd_req_free(r);
	}
	pause_reading(c, true);
	if (!c->nreqs && !c->raw.len)
		nbd_conn_kill(c, NULL);
}

void nbd_conn_req_gone(struct nbd_conn *c)
{
	if (nbd_conn_dead(c)) {
		if (!c->nreqs)
			env_defer(c->server->env, &c->end);
		return;
	}
	if (c->rx == NBD_RX_STOP) {
		/* From a turn of its own: the caller is still walking the connection. */
		env_defer(c->server->env, &c->flush);
		return;
	}
	if (!c->paused)
		return;
	pause_reading(c, false);
	env_defer(c->server->env, &c->pump);
}

/* ---- the handshake ---- */

static void start_tls(struct nbd_conn *c)
{
	struct hci_error err;

	c->tls_begun = true;
	if (env_conn_start_tls(c->conn, c->server->o.tls, true, &err))
		nbd_conn_kill(c, err.message);
}

/* What waited for the output to be gone. */
static void after_flush(struct nbd_conn *c)
{
	if (nbd_conn_dead(c) || c->raw.len || !list_empty(&c->out))
		return;
	if (c->rx == NBD_RX_TLS && !c->tls_begun) {
		start_tls(c);
		return;
	}
	if (c->rx == NBD_RX_STOP && !c->nreqs) {
		nbd_conn_kill(c, NULL);
		return;
	}
	if (c->rx != NBD_RX_NEG || !c->paused)
		return;
	pause_reading(c, false);
	env_defer(c->server->env, &c->pump);
}

static void enter_transmission(struct nbd_conn *c)
{
	struct nbd_export *x = c->neg.session.handle;

	end_negotiation(c);
	nbd_neg_fini(&c->neg);
	c->export = x;
	list_push(&x->conns, &c->xlink);
	x->nconns++;
	x->stats.conns_total++;
	x->stats.cut = false;
	metric_set(x->m[NBD_M_CONNS], x->nconns);
	c->rx = NBD_RX_HEAD;
	log_debug(env_log(c->server->env), "export %s: client connected (%u now)%s%s", x->name,
		  x->nconns, c->neg.tls ? ", certificate of " : "",
		  c->neg.tls ? env_conn_peer_name(c->conn) : "");
}

bool nbd_conn_negotiate(struct nbd_conn *c)
{
	enum nbd_neg_act act;
	size_t used;

	if (c->raw.len - c->raw_off > MAX_RAW) {
		pause_reading(c, true);
		return false;
	}
	act = nbd_neg_feed(&c->neg, c->stage + c->stage_off, c->stage_len, &used, &c->raw);
	c->stage_off += (uint32_t)used;
	c->stage_len -= (uint32_t)used;
	if (!c->stage_len)
		c->stage_off = 0;
	if (c->raw.len && !c->want_write)
		env_defer(c->server->env, &c->flush);
	switch (act) {
	case NBD_NEG_MORE:
		return true;
	case NBD_NEG_TLS:
		/* Plain bytes behind it would be taken for protected ones: an injection. */
		if (c->stage_len) {
			nbd_conn_kill(c, "plain bytes behind NBD_OPT_STARTTLS");
			return false;
		}
		c->rx = NBD_RX_TLS;
		return false;
	case NBD_NEG_TRANSMIT:
		enter_transmission(c);
		return true;
	case NBD_NEG_CLOSE:
		nbd_conn_finish(c);
		return false;
	case NBD_NEG_DROP:
		nbd_conn_kill(c, c->neg.why);
		return false;
	}
	return false;
}
