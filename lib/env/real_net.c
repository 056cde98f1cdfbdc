/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection set-up of the real env: looking names up, connecting, listening, accepting. Once a
 * stream is established it is real_conn.c's.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/real_conn.h"

#define LOG_SUB "env"
#define SHAKING_MAX 256
#define ACCEPTS 64 /* in one turn */
#define CONN_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct resolve {
	struct env_work work;
	struct addr addr;
	struct target target;
	struct real_conn *conn; /* NULL when it was closed meanwhile */
};

static void on_conn_event(struct source *s, uint32_t events)
{
	struct real_conn *c = container_of(s, struct real_conn, src);

	if (c->state == CONN_DEAD)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		c->sock_rx = c->rx_more = true;
		if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			c->hup = true;
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->sock_tx = true;
	conn_ready(c);
}

static void setup_late(struct env_timer *t)
{
	struct real_conn *c = container_of(t, struct real_conn, timer);

	if (c->base.env->now < c->deadline) { /* only another try */
		net_connecting(c);
		return;
	}
	if (c->state == CONN_HANDSHAKE)
		conn_fail(c, HCI_E_TIMEOUT, 0,
			  "connection with %s: no TLS handshake within 10 s: does the other side "
			  "speak TLS?",
			  c->addr);
	else
		conn_fail(c, HCI_E_TIMEOUT, 0,
			  "connection to %s: no answer within 10 s: is the host up, is a firewall "
			  "between?",
			  c->addr);
}

static void arm_setup(struct real_conn *c)
{
	env_timer_init(&c->timer, setup_late);
	c->deadline = c->base.env->now + CONN_SETUP_NS;
	env_timer_arm(c->base.env, &c->timer, c->deadline);
}

void net_detach(struct real_conn *c)
{
	if (c->resolve)
		c->resolve->conn = NULL;
	c->resolve = NULL;
	mem_free(c->target);
	c->target = NULL;
	if (c->listener) {
		c->listener->shaking--;
		if (c->listener->more)
			env_timer_arm(c->base.env, &c->listener->again, c->base.env->now);
	}
	c->listener = NULL;
}

void net_established(struct real_conn *c)
{
	struct real_listener *l = c->listener;

	env_timer_disarm(c->base.env, &c->timer);
	net_detach(c);
	c->state = CONN_OPEN;
	c->rx_more = true;
	conn_ready(c);
	if (!l) {
		c->ops->on_open(c->arg);
		return;
	}
	l->on_accept(l->arg, &c->base);
	if (!c->ops && c->state == CONN_OPEN) {
		log_error(env_log(c->base.env), "listener on %s: connection of %s was not taken",
			  l->addr, c->addr);
		real_conn_close(&c->base, true);
	}
}

/* The stream below TLS is there. */
static void transport_up(struct real_conn *c, struct real_tls *tls)
{
	struct hci_error err;

	c->opened = true;
	tune_path(c->fd);
	mem_free(c->target);
	c->target = NULL;
	if (!tls)
		net_established(c);
	else if (tls_start(c, tls, &err))
		conn_fail(c, err.code, 0, "%s", err.message);
	else
		tls_handshake(c);
}

/* ---- client ---- */

static void connect_failed(struct real_conn *c, int e)
{
	int code = e == ETIMEDOUT                              ? HCI_E_TIMEOUT
		   : e == EMFILE || e == ENFILE || e == ENOMEM ? HCI_E_SYS
							       : HCI_E_UNAVAILABLE;

	conn_fail(c, code, e, "connection to %s failed%s", c->addr,
		  e == ECONNREFUSED || e == ENOENT ? " (is the service running there?)" : "");
}

/* One attempt at the current address. 0: under way; else errno. */
static int try_connect(struct real_conn *c)
{
	struct target *t = c->target;
	const struct sockaddr *sa = (const struct sockaddr *)&t->ss[t->i];
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int e = 0;

	if (fd < 0)
		return errno;
	tune_socket(fd, sa->sa_family);
	if (connect(fd, sa, t->len[t->i]) && errno != EINPROGRESS) {
		e = errno;
		close(fd);
		if (e != EAGAIN) /* of a unix socket: its queue is full, try again soon */
			return e;
		env_timer_arm(c->base.env, &c->timer, c->base.env->now + 10 * NS_PER_MS);
		return 0;
	}
	c->fd = fd;
	e = -real_watch(conn_real(c), fd, CONN_EVENTS, &c->src);
	return e;
}

static void next_address(struct real_conn *c, int e)
{
	struct target *t = c->target;

	c->state = CONN_CONNECTING;
	for (;;) {
		if (c->fd >= 0)
			close(c->fd);
		c->fd = -1;
		if (e && ++t->i >= t->n) {
			connect_failed(c, e);
			return;
		}
		e = try_connect(c);
		if (!e)
			return;
	}
}

void net_connecting(struct real_conn *c)
{
	socklen_t len = sizeof(int);
	int e = 0;

	if (c->fd < 0) { /* a unix socket whose queue was full */
		env_timer_arm(c->base.env, &c->timer, c->deadline);
		next_address(c, 0);
		return;
	}
	if (!c->sock_tx)
		return;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len))
		e = errno;
	if (e) {
		c->sock_rx = c->sock_tx = c->hup = false;
		next_address(c, e);
		return;
	}
	transport_up(c, c->tls);
}

static void resolve_run(struct env_work *w)
{
	struct resolve *q = container_of(w, struct resolve, work);

	q->target.n = addr_lookup(&q->addr, q->target.ss, q->target.len);
}

static void resolve_done(struct env_work *w)
{
	struct resolve *q = container_of(w, struct resolve, work);
	struct real_conn *c = q->conn;

	if (c) {
		c->resolve = NULL;
		*c->target = q->target;
		if (q->target.n <= 0)
			conn_fail(c, HCI_E_UNAVAILABLE, 0,
				  "connection to %s: the name cannot be looked up: %s", c->addr,
				  q->target.n ? gai_strerror(q->target.n) : "no address");
		else
			next_address(c, 0);
	}
	mem_free(q);
}

static int start_lookup(struct real_conn *c, const struct addr *a)
{
	struct resolve *q = MEM_NEW(struct resolve);

	if (!q)
		return -1;
	q->addr = *a;
	q->conn = c;
	q->work.run = resolve_run;
	q->work.done = resolve_done;
	c->resolve = q;
	c->state = CONN_RESOLVING;
	env_work(c->base.env, &q->work);
	return 0;
}

struct env_conn *real_connect(struct env *e, const char *addr, struct env_tls *tls,
			      const struct env_conn_ops *ops, void *arg, struct hci_error *err)
{
	struct real *r = real_of(e);
	struct real_conn *c;
	struct addr a;

	if (addr_parse(addr, &a, err))
		return NULL;
	if (!a.is_unix && !a.port) {
		err_set(err, HCI_E_INVAL, "address %.200s: port 0 cannot be connected to", addr);
		return NULL;
	}
	c = conn_new(r, -1, false);
	if (c)
		c->target = MEM_NEW(struct target);
	if (!c || !c->target) {
		if (c)
			conn_bury(c);
		err_set(err, HCI_E_NOMEM, "connection to %.200s: out of memory", addr);
		return NULL;
	}
	c->src.fn = on_conn_event;
	c->ops = ops;
	c->arg = arg;
	c->tls = tls ? container_of(tls, struct real_tls, base) : NULL;
	if (c->tls)
		tls_ref(c->tls);
	snprintf(c->addr, sizeof(c->addr), "%s", addr);
	c->state = CONN_CONNECTING;
	arm_setup(c);
	c->target->n = 1;
	if (addr_literal(&a, &c->target->ss[0], &c->target->len[0]))
		next_address(c, 0);
	else if (start_lookup(c, &a))
		conn_fail(c, HCI_E_NOMEM, 0, "connection to %s: out of memory", c->addr);
	return &c->base;
}

/* ---- server ---- */

static void accepted(struct real_listener *l, int fd, const struct sockaddr_storage *ss)
{
	struct real *r = real_of(l->base.env);
	struct real_conn *c = conn_new(r, fd, true);

	if (!c) {
		close(fd);
		return;
	}
	tune_socket(fd, ss->ss_family);
	c->src.fn = on_conn_event;
	addr_print(ss, c->addr, sizeof(c->addr));
	c->listener = l;
	l->shaking++;
	c->state = CONN_HANDSHAKE;
	c->sock_tx = true;
	arm_setup(c);
	if (real_watch(r, fd, CONN_EVENTS, &c->src))
		conn_fail(c, HCI_E_SYS, errno, "connection of %s", c->addr);
	else
		transport_up(c, l->tls);
}

static void accept_all(struct real_listener *l)
{
	struct env *e = l->base.env;
	struct sockaddr_storage ss;
	int i;

	l->more = false;
	for (i = 0; i < ACCEPTS && l->fd >= 0; i++) {
		socklen_t len = sizeof(ss);
		int fd;

		if (l->shaking >= SHAKING_MAX) {
			l->more = true; /* net_detach goes on */
			return;
		}
		memset(&ss, 0, sizeof(ss));
		fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			accepted(l, fd, &ss);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_warn(env_log(e),
				 "listener on %s: cannot accept: %s; trying again in 100 ms",
				 l->addr, strerror(errno));
			env_timer_arm(e, &l->again, e->now + 100 * NS_PER_MS);
			return;
		}
		/* ECONNABORTED and errors of the network that belong to the new connection:
		 * accept(2) */
	}
	if (l->fd >= 0)
		env_timer_arm(e, &l->again, e->now); /* the rest in the next turn */
}

static void on_listener_event(struct source *s, uint32_t events)
{
	(void)events;
	accept_all(container_of(s, struct real_listener, src));
}

static void accept_again(struct env_timer *t)
{
	accept_all(container_of(t, struct real_listener, again));
}

/* A unix socket whose owner is gone may be replaced, one that answers may not. */
static bool stale_socket(const struct sockaddr_storage *ss, socklen_t len, const char *path)
{
	struct stat st;
	bool dead;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	dead = connect(fd, (const struct sockaddr *)ss, len) && errno == ECONNREFUSED;
	close(fd);
	return dead;
}

static int bind_socket(struct real_listener *l, const struct addr *a, struct sockaddr_storage *ss,
		       socklen_t len)
{
	int one = 1;

	l->fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -errno;
	if (!a->is_unix)
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l->fd, (struct sockaddr *)ss, len)) {
		if (errno != EADDRINUSE || !a->is_unix || !stale_socket(ss, len, a->path))
			return -errno;
		unlink(a->path);
		if (bind(l->fd, (struct sockaddr *)ss, len))
			return -errno;
	}
	if (a->is_unix)
		memcpy(l->unlink, a->path, sizeof(l->unlink));
	if (listen(l->fd, 256))
		return -errno;
	len = sizeof(*ss);
	if (getsockname(l->fd, (struct sockaddr *)ss, &len))
		return -errno;
	addr_print(ss, l->addr, sizeof(l->addr));
	return real_watch(real_of(l->base.env), l->fd, EPOLLIN | EPOLLET, &l->src);
}

static void listener_free(struct env_task *t)
{
	mem_free(container_of(t, struct real_listener, gone));
}

struct env_listener *real_listen(struct env *e, const char *addr, struct env_tls *tls,
				 void (*on_accept)(void *arg, struct env_conn *c), void *arg,
				 struct hci_error *err)
{
	struct real_listener *l;
	struct sockaddr_storage ss;
	struct stat st;
	struct addr a;
	socklen_t len;
	int r;

	if (addr_parse(addr, &a, err))
		return NULL;
	if (!addr_literal(&a, &ss, &len)) {
		err_set(err, HCI_E_INVAL,
			"address %.200s: to listen, write the host as a number (0.0.0.0: all)",
			addr);
		return NULL;
	}
	l = MEM_NEW(struct real_listener);
	if (!l) {
		err_set(err, HCI_E_NOMEM, "listener on %.200s: out of memory", addr);
		return NULL;
	}
	l->base.env = e;
	l->src.fn = on_listener_event;
	l->on_accept = on_accept;
	l->arg = arg;
	env_timer_init(&l->again, accept_again);
	env_task_init(&l->gone, listener_free);
	list_push(&real_of(e)->listeners, &l->link);
	if (tls) {
		l->tls = container_of(tls, struct real_tls, base);
		tls_ref(l->tls);
	}
	r = bind_socket(l, &a, &ss, len);
	if (!r)
		return &l->base;
	if (r == -EADDRINUSE && a.is_unix && !lstat(a.path, &st) && !S_ISSOCK(st.st_mode)) {
		err_set(err, HCI_E_EXISTS, "cannot listen on %.200s: a file that is no socket is there: give another path", addr);
		real_listener_close(&l->base);
		return NULL;
	}
	err_sys(err, r == -EADDRINUSE ? HCI_E_BUSY : HCI_E_SYS, -r, "cannot listen on %.200s%s",
		addr,
		r == -EADDRINUSE ? " (another program does: stop it or take another address)" : "");
	real_listener_close(&l->base);
	return NULL;
}

const char *real_listener_addr(const struct env_listener *l)
{
	return container_of(l, const struct real_listener, base)->addr;
}

void real_listener_close(struct env_listener *lb)
{
	struct real_listener *l = container_of(lb, struct real_listener, base);
	struct real *r = real_of(lb->env);
	struct real_conn *c, *tmp;

	list_for_each_safe(c, tmp, &r->conns, link) {
		if (c->listener == l)
			conn_bury(c);
	}
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	if (l->unlink[0])
		unlink(l->unlink);
	tls_unref(l->tls);
	env_timer_disarm(lb->env, &l->again);
	list_del(&l->link);
	/* An event for it may be at hand already, or it is in accept_all() right now. */
	env_defer(lb->env, &l->gone);
}
