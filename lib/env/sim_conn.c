/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of simulated connections: the calls of env.h and the callbacks, each from an event of its
 * own so that none ever comes from inside a call. The bytes themselves are sim_pipe.c's.
 */
#include "env/sim_net_impl.h"

#include "base/err.h"

#include <stdlib.h>

static struct sim_conn *conn_of(const struct env_conn *c)
{
	return container_of((struct env_conn *)(uintptr_t)c, struct sim_conn, base);
}

static struct sim_pipe *inward(const struct sim_conn *c)
{
	return &c->link->pipe[!c->side];
}

static struct sim_pipe *outward(const struct sim_conn *c)
{
	return &c->link->pipe[c->side];
}

static bool has_input(const struct sim_conn *c)
{
	const struct sim_pipe *p = inward(c);

	return p->arrived > p->read || p->fin_arrived;
}

static bool may_read(const struct sim_conn *c)
{
	return c->open && c->ops && !c->paused && !c->handshaking && !c->dead && has_input(c);
}

static void poll_again(struct sim_conn *c)
{
	if (may_read(c) && !sim_ev_queued(&c->readable))
		sim_ev_in(&c->readable, sim_range(c->node->sim, 100, 5000));
}

void sim_conn_readable(struct sim_conn *c)
{
	struct sim_link *l = c->link;
	int side = c->side;
	struct sim_node *n = c->node;
	struct sim_enter en;

	if (!may_read(c))
		return;
	l->refs++;
	en = sim_enter(n);
	c->ops->on_readable(c->arg);
	sim_leave(n, en);
	if (l->end[side] == c)
		poll_again(c);
	sim_link_unref(l);
}

static void readable_fire(struct sim_ev *ev)
{
	sim_conn_readable(container_of(ev, struct sim_conn, readable));
}

static void writable_fire(struct sim_ev *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, writable);
	struct sim_node *n = c->node;
	struct sim_enter en;

	if (!c->open || c->dead || !c->want_write || !c->ops)
		return;
	c->want_write = false;
	en = sim_enter(n);
	c->ops->on_writable(c->arg);
	sim_leave(n, en);
}

void sim_conn_room(struct sim_conn *c)
{
	if (c->want_write && !sim_ev_queued(&c->writable))
		sim_ev_in(&c->writable, c->open ? sim_latency(c->link) : 0);
}

void sim_conn_opened(struct sim_conn *c)
{
	struct sim_node *n = c->node;
	struct sim_enter en;

	if (c->dead)
		return;
	c->open = true;
	c->handshaking = false;
	if (c->want_write)
		sim_ev_in(&c->writable, 0);
	poll_again(c);
	en = sim_enter(n);
	c->ops->on_open(c->arg);
	sim_leave(n, en);
}

static void opened_fire(struct sim_ev *ev)
{
	sim_conn_opened(container_of(ev, struct sim_conn, opened));
}

static void closed_fire(struct sim_ev *ev)
{
	struct sim_conn *c = container_of(ev, struct sim_conn, closed);
	struct sim_node *n = c->node;
	struct hci_error err = c->err;
	struct sim_enter en;

	c->dead = true;
	if (c->told || !c->ops)
		return;
	c->told = true;
	en = sim_enter(n);
	c->ops->on_closed(c->arg, &err);
	sim_leave(n, en);
}

void sim_conn_fail(struct sim_conn *c, uint64_t delay, int code, const char *why)
{
	if (c->told || sim_ev_queued(&c->closed))
		return;
	err_set(&c->err, code, "connection to node %s: %s", c->link->node[!c->side]->name, why);
	if (delay == 0)
		c->dead = true;
	sim_ev_in(&c->closed, delay);
}

struct sim_conn *sim_conn_new(struct sim_node *n, struct sim_link *l, int side)
{
	struct sim_conn *c = sim_calloc(1, sizeof(*c));

	c->base.env = &n->env->env;
	c->node = n;
	c->link = l;
	c->side = side;
	l->end[side] = c;
	l->refs++;
	list_push(&n->conns, &c->all);
	sim_ev_init(&c->readable, n->sim, n, SIM_EV_READABLE, readable_fire);
	sim_ev_init(&c->writable, n->sim, n, SIM_EV_WRITABLE, writable_fire);
	sim_ev_init(&c->closed, n->sim, n, SIM_EV_CLOSED, closed_fire);
	sim_ev_init(&c->opened, n->sim, n, SIM_EV_OPEN, opened_fire);
	return c;
}

/*
 * silent: the machine lost power, nobody says goodbye. Otherwise its kernel sends what was taken and a
 * FIN, or, as Linux does when unread input is left, a reset, which is not sent again if it is lost.
 */
void sim_conn_detach(struct sim_conn *c, bool abort_now, bool silent)
{
	struct sim_link *l = c->link;
	struct sim_pipe *in = inward(c), *out = outward(c);
	struct sim_conn *peer = l->end[!c->side];

	sim_ev_cancel(&c->readable);
	sim_ev_cancel(&c->writable);
	sim_ev_cancel(&c->closed);
	sim_ev_cancel(&c->opened);
	list_del(&c->all);
	l->end[c->side] = NULL;
	if (silent) {
		if (sim_chance(l->net->sim, 500) || sim_is_cut(l->net, c->node, l->node[!c->side]))
			sim_pipe_cut_off(out, 0);
	} else if (!c->dead && (abort_now || in->arrived > in->read)) {
		sim_pipe_cut_off(out, 0);
		if (peer && !sim_is_cut(l->net, c->node, peer->node))
			sim_conn_fail(peer, sim_latency(l), HCI_E_CLOSED, "connection reset by peer");
	} else if (!c->dead) {
		sim_pipe_mark(out, MARK_FIN);
	}
	in->read = in->acked = in->arrived;
	free(c);
	sim_link_unref(l);
}

/* ---- the calls ---- */

static void conn_set_ops(struct env_conn *base, const struct env_conn_ops *ops, void *arg)
{
	struct sim_conn *c = conn_of(base);

	c->ops = ops;
	c->arg = arg;
	poll_again(c);
}

static int64_t conn_recv(struct env_conn *base, void *buf, size_t len)
{
	struct sim_conn *c = conn_of(base);
	uint64_t n;

	if (c->dead)
		return HCI_E_CLOSED;
	if (!c->open || c->handshaking || len == 0)
		return HCI_E_AGAIN;
	n = sim_pipe_recv(inward(c), buf, len);
	if (n > 0)
		return (int64_t)n;
	if (!inward(c)->fin_arrived)
		return HCI_E_AGAIN;
	sim_conn_fail(c, 0, HCI_E_CLOSED, "closed by the other side");
	return 0;
}

static void reset_fire(void *arg)
{
	struct sim *s = arg;

	sim_net_reset_conns(s, s->reset_a, s->reset_b);
}

/* Later, as we are in the middle of a call of one of its ends. */
static void fail_send(struct sim_conn *c)
{
	struct sim *s = c->node->sim;

	s->reset_a = c->link->node[0];
	s->reset_b = c->link->node[1];
	sim_at(s, s->now, reset_fire, s);
}

static int64_t conn_send(struct env_conn *base, const struct iovec *iov, int n)
{
	struct sim_conn *c = conn_of(base);
	uint64_t taken;

	if (c->dead)
		return HCI_E_CLOSED;
	if (sim_fail_now(c->node->sim, SIM_FAIL_SEND))
		fail_send(c);
	taken = c->open && !c->handshaking ? sim_pipe_send(outward(c), iov, n) : 0;
	if (taken > 0)
		return (int64_t)taken;
	c->want_write = true;
	return HCI_E_AGAIN;
}

static void conn_pause(struct env_conn *base, bool paused)
{
	struct sim_conn *c = conn_of(base);

	c->paused = paused;
	poll_again(c);
}

static int conn_start_tls(struct env_conn *base, struct env_tls *tls, bool server, struct hci_error *err)
{
	struct sim_conn *c = conn_of(base);

	(void)tls;
	(void)server;
	if (c->dead)
		return err_set(err, HCI_E_CLOSED, "connection to node %s: closed before TLS began",
			       c->link->node[!c->side]->name);
	c->link->tls = true;
	c->handshaking = true;
	sim_ev_in(&c->opened, 2 * sim_latency(c->link));
	return 0;
}

static const char *conn_peer_name(const struct env_conn *base)
{
	const struct sim_conn *c = conn_of(base);

	return c->link->tls ? c->link->node[!c->side]->name : "";
}

static void conn_close(struct env_conn *base, bool abort_now)
{
	sim_conn_detach(conn_of(base), abort_now, false);
}

/* ---- TLS: a name and nothing else ---- */

static struct env_tls *tls_new(struct env *e, const char *ca_file, const char *cert_file, const char *key_file,
			       bool verify_peer, struct hci_error *err)
{
	struct env_tls *t = MEM_NEW(struct env_tls);

	(void)ca_file;
	(void)cert_file;
	(void)key_file;
	(void)verify_peer;
	if (!t)
		err_set(err, HCI_E_NOMEM, "TLS context: out of memory");
	else
		t->env = e;
	return t;
}

static void tls_free(struct env_tls *t)
{
	mem_free(t);
}

void sim_conn_ops(struct env_ops *o)
{
	o->conn_set_ops = conn_set_ops;
	o->conn_recv = conn_recv;
	o->conn_send = conn_send;
	o->conn_pause = conn_pause;
	o->conn_start_tls = conn_start_tls;
	o->conn_peer_name = conn_peer_name;
	o->conn_close = conn_close;
	o->tls_new = tls_new;
	o->tls_free = tls_free;
}
