/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network: which cables are cut, who listens where, how connections come about and what
 * becomes of them when a node dies. Their bytes are sim_pipe.c's, their ends sim_conn.c's.
 */
#include "env/sim_net_impl.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#define SYN_TIMEOUT (10 * NS_PER_S)

struct sim_net *sim_net_new(struct sim *s)
{
	struct sim_net *net = sim_calloc(1, sizeof(*net));

	net->sim = s;
	list_init(&net->links);
	list_init(&net->blocked);
	list_init(&net->unacked);
	list_init(&net->names);
	return net;
}

void sim_net_free(struct sim_net *net)
{
	sim_names_free(net);
	free(net); /* the last nodes took the last links with them */
}

/* ---- links ---- */

/* Now and then a packet takes much longer. */
uint64_t sim_latency(struct sim_link *l)
{
	struct sim *s = l->net->sim;
	uint64_t ns = sim_range(s, s->o.net_min, s->o.net_max);

	if (l->near)
		return ns / 8;
	return sim_chance(s, 10) ? ns * 10 : ns;
}

static void syn_fire(struct sim_ev *ev);

static struct sim_link *link_new(struct sim_node *from, struct sim_node *to, unsigned port, bool tls)
{
	struct sim_link *l = sim_calloc(1, sizeof(*l));
	struct sim *s = from->sim;

	l->net = s->net;
	l->node[0] = from;
	l->node[1] = to;
	l->near = from->machine == to->machine;
	l->port = port;
	l->tls = tls;
	l->window = (uint64_t)65536 << sim_rand_below(s, 5);
	for (int k = 0; k < 2; k++)
		sim_pipe_init(&l->pipe[k], l, k);
	sim_ev_init(&l->syn, s, NULL, SIM_EV_CONNECT, syn_fire);
	list_push(&s->net->links, &l->all);
	return l;
}

void sim_link_unref(struct sim_link *l)
{
	if (--l->refs > 0)
		return;
	sim_ev_cancel(&l->syn);
	for (int k = 0; k < 2; k++)
		sim_pipe_fini(&l->pipe[k]);
	list_del(&l->all);
	free(l->path);
	free(l);
}

/* ---- listening ---- */

static struct sim_listener *listener_of(const struct env_listener *l)
{
	return container_of((struct env_listener *)(uintptr_t)l, struct sim_listener, base);
}

static struct sim_listener *find_listener(struct sim_node *n, unsigned port)
{
	struct sim_listener *l;

	list_for_each(l, &n->listeners, all) {
		if (l->port == port && !*l->path)
			return l;
	}
	return NULL;
}

/* "tcp:HOST:PORT" */
static int parse(const char *addr, char host[HCI_NAME_MAX], unsigned *port, struct hci_error *err)
{
	const char *h = addr, *colon;
	char *end;
	unsigned long n;

	if (strncmp(addr, "tcp:", 4) == 0)
		h += 4;
	colon = strrchr(h, ':');
	if (h == addr || !colon || colon == h || (size_t)(colon - h) >= HCI_NAME_MAX)
		return err_set(err, HCI_E_INVAL, "address \"%s\": not of the form tcp:NODE:PORT", addr);
	memcpy(host, h, (size_t)(colon - h));
	host[colon - h] = '\0';
	n = strtoul(colon + 1, &end, 10);
	if (end == colon + 1 || *end || n > 65535)
		return err_set(err, HCI_E_INVAL, "address \"%s\": the port must be 0 to 65535", addr);
	*port = (unsigned)n;
	return 0;
}

static const char *unix_path(const char *addr)
{
	return !strncmp(addr, "unix:/", 6) && strlen(addr + 5) < SIM_UNIX_MAX ? addr + 5 : NULL;
}

static struct sim_listener *listener_new(struct env *e, struct env_tls *tls, void (*on_accept)(void *arg, struct env_conn *c),
					 void *arg)
{
	struct sim_listener *l = sim_calloc(1, sizeof(*l));

	l->base.env = e;
	l->node = sim_node_of(e);
	l->tls = tls != NULL;
	l->on_accept = on_accept;
	l->arg = arg;
	list_push(&l->node->listeners, &l->all);
	return l;
}

static struct env_listener *listen_unix(struct sim_listener *l, const char *path, struct hci_error *err)
{
	if (!sim_name_take(l, path)) {
		err_set(err, HCI_E_BUSY, "address \"unix:%s\": in use", path);
		list_del(&l->all);
		free(l);
		return NULL;
	}
	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(l->addr, sizeof(l->addr), "unix:%s", path);
	return &l->base;
}

static struct env_listener *node_listen(struct env *e, const char *addr, struct env_tls *tls,
					void (*on_accept)(void *arg, struct env_conn *c), void *arg,
					struct hci_error *err)
{
	struct sim_node *n = sim_node_of(e);
	char host[HCI_NAME_MAX];
	struct sim_listener *l;
	unsigned port;

	if (unix_path(addr))
		return listen_unix(listener_new(e, tls, on_accept, arg), unix_path(addr), err);
	if (parse(addr, host, &port, err))
		return NULL;
	while (port == 0 || (port == n->next_port && find_listener(n, port)))
		port = n->next_port++;
	if (find_listener(n, port)) {
		err_set(err, HCI_E_BUSY, "address \"%s\": port %u is in use on node %s", addr, port, n->name);
		return NULL;
	}
	l = listener_new(e, tls, on_accept, arg);
	l->port = port;
	snprintf(l->addr, sizeof(l->addr), "tcp:%s:%u", n->name, port);
	return &l->base;
}

static const char *listener_addr(const struct env_listener *l)
{
	return listener_of(l)->addr;
}

static void listener_drop(struct sim_listener *l, bool closed)
{
	if (*l->path)
		sim_name_leave(l, closed);
	list_del(&l->all);
	free(l);
}

static void listener_close(struct env_listener *base)
{
	listener_drop(listener_of(base), true);
}

/* ---- connecting ---- */

/* Nobody answers: the kernel sends its SYN again after 1, 2, 4 s (RFC 6298 5.5). */
static void syn_again(struct sim_link *l)
{
	uint64_t waited = l->net->sim->now - l->syn_since;

	if (waited >= SYN_TIMEOUT) {
		sim_conn_fail(l->end[0], 0, HCI_E_TIMEOUT, "no answer");
		return;
	}
	l->syn_wait = l->syn_wait ? l->syn_wait * 2 : NS_PER_S;
	sim_ev_in(&l->syn, MIN(l->syn_wait, SYN_TIMEOUT - waited));
}

static void accept_link(struct sim_link *l, struct sim_listener *li)
{
	struct sim_node *n = li->node;
	struct sim_conn *c = sim_conn_new(n, l, 1);
	struct sim_enter en;

	c->open = true;
	l->accepted = true;
	sim_pipe_mark(&l->pipe[1], MARK_OPEN);
	en = sim_enter(n);
	li->on_accept(li->arg, &c->base);
	sim_leave(n, en);
}

static void syn_fire(struct sim_ev *ev)
{
	struct sim_link *l = container_of(ev, struct sim_link, syn);
	struct sim_net *net = l->net;
	struct sim_node *to = l->node[1];
	struct sim_listener *li;

	if (l->path) {
		li = sim_name_listener(l->node[0], l->path);
		if (li) {
			l->node[1] = li->node;
			accept_link(l, li);
		} else {
			sim_conn_fail(l->end[0], sim_latency(l), HCI_E_UNAVAILABLE, "nobody listens at the socket");
		}
		return;
	}
	if (!to->powered && l->syn_wait == 0 && sim_chance(net->sim, 500)) {
		sim_conn_fail(l->end[0], sim_latency(l), HCI_E_UNAVAILABLE, "no route to host");
		return;
	}
	if (!to->powered || sim_is_cut(net, l->node[0], to) || sim_is_cut(net, to, l->node[0])) {
		syn_again(l);
		return;
	}
	li = find_listener(to, l->port);
	if (!li)
		sim_conn_fail(l->end[0], sim_latency(l), HCI_E_UNAVAILABLE, "connection refused");
	else if (li->tls != l->tls)
		sim_conn_fail(l->end[0], sim_latency(l), HCI_E_AUTH, "only one side speaks TLS");
	else
		accept_link(l, li);
}

static struct env_conn *node_connect(struct env *e, const char *addr, struct env_tls *tls,
				     const struct env_conn_ops *ops, void *arg, struct hci_error *err)
{
	struct sim_node *n = sim_node_of(e), *to = NULL;
	struct sim *s = n->sim;
	const char *path = unix_path(addr);
	char host[HCI_NAME_MAX] = "";
	struct sim_conn *c;
	struct sim_link *l;
	unsigned port = 0;

	if (!path && parse(addr, host, &port, err))
		return NULL;
	for (unsigned k = 0; k < s->nnodes; k++) {
		if (strcmp(s->nodes[k]->name, host) == 0)
			to = s->nodes[k];
	}
	l = link_new(n, to ? to : n, port, tls != NULL);
	if (path)
		l->path = sim_strdup(path);
	else if (!to)
		l->port = UINT32_MAX; /* a name that does not resolve: refused */
	c = sim_conn_new(n, l, 0);
	c->ops = ops;
	c->arg = arg;
	l->syn_since = s->now;
	sim_ev_in(&l->syn, sim_latency(l) * (tls ? 3 : 1));
	return &c->base;
}

/* ---- faults ---- */

static void kick(struct sim_net *net)
{
	struct sim_pipe *p, *tmp;

	list_for_each_safe(p, tmp, &net->blocked, blocked_link)
		sim_pipe_kick(p);
	list_for_each_safe(p, tmp, &net->unacked, unacked_link)
		sim_pipe_ack(p);
}

void sim_net_cut(struct sim *s, struct sim_node *from, struct sim_node *to, bool cut)
{
	sim_fold(s, SIM_EV_FAULT | (uint64_t)cut << 8 | (uint64_t)from->index << 32 | (uint64_t)to->index << 48);
	s->net->cut[from->machine->index][to->machine->index] = cut && from->machine != to->machine;
	if (!cut)
		kick(s->net);
}

void sim_net_isolate(struct sim *s, struct sim_node *n, bool cut)
{
	for (unsigned k = 0; k < s->nnodes; k++) {
		sim_net_cut(s, n, s->nodes[k], cut);
		sim_net_cut(s, s->nodes[k], n, cut);
	}
}

void sim_net_heal(struct sim *s)
{
	memset(s->net->cut, 0, sizeof(s->net->cut));
	kick(s->net);
}

void sim_net_reset_conns(struct sim *s, struct sim_node *a, struct sim_node *b)
{
	struct sim_link *l;

	list_for_each(l, &s->net->links, all) {
		bool forth = l->node[0] == a && l->node[1] == b, back = l->node[0] == b && l->node[1] == a;

		if (!(forth || back) || !l->accepted)
			continue;
		for (int k = 0; k < 2; k++) {
			sim_pipe_cut_off(&l->pipe[k], 0);
			if (l->end[k])
				sim_conn_fail(l->end[k], sim_latency(l), HCI_E_CLOSED, "connection reset by peer");
		}
	}
}

void sim_net_node_gone(struct sim_node *n, bool power_loss)
{
	while (!list_empty(&n->conns)) {
		struct sim_conn *c = list_first(&n->conns, struct sim_conn, all);
		struct sim_pipe *out = &c->link->pipe[c->side];

		/* What the program had still in its own buffers goes with it. */
		if (!power_loss && sim_chance(n->sim, 300))
			sim_pipe_cut_off(out, sim_range(n->sim, out->arrived, out->sent));
		sim_conn_detach(c, false, power_loss);
	}
	while (!list_empty(&n->listeners))
		listener_drop(list_first(&n->listeners, struct sim_listener, all), false);
}

void sim_net_node_powered(struct sim_node *n)
{
	kick(n->sim->net);
}

void sim_env_net_ops(struct env_ops *o)
{
	o->connect = node_connect;
	o->listen = node_listen;
	o->listener_addr = listener_addr;
	o->listener_close = listener_close;
	sim_conn_ops(o);
}
