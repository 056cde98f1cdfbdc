/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte streams of the real env: reading ahead, corking, back-pressure, the end of a stream.
 * Knows of TLS only that real_tls.c stands between the user's bytes and the raw ones.
 *
 * The socket is watched edge-triggered for its whole life (no epoll_ctl after set-up): sock_rx and
 * sock_tx remember what epoll said until the socket says otherwise. The level-triggered callbacks
 * of env.h are made from these by the list of ready conns: a conn is on it while it has something
 * to tell.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/real_conn.h"

#define LOG_SUB "env"
#define CHUNKS_KEPT 64
#define OUT_IOV 16

/* ---- buffers ---- */

struct chunk *chunk_get(struct real *r)
{
	struct list *n = list_pop(&r->chunks);
	struct chunk *k;

	if (n) {
		r->nchunks--;
		k = list_entry(n, struct chunk, link);
	} else {
		k = mem_alloc(sizeof(*k) + CHUNK_DATA);
		if (!k)
			return NULL;
		list_init(&k->link);
	}
	k->head = k->tail = 0;
	return k;
}

void chunk_put(struct real *r, struct chunk *k)
{
	if (!k)
		return;
	if (r->nchunks >= CHUNKS_KEPT) {
		mem_free(k);
		return;
	}
	list_push_front(&r->chunks, &k->link);
	r->nchunks++;
}

static void drop_out(struct real_conn *c)
{
	struct list *n;

	while ((n = list_pop(&c->out)))
		chunk_put(conn_real(c), list_entry(n, struct chunk, link));
	c->out_len = 0;
}

/* ---- life ---- */

struct real_conn *conn_new(struct real *r, int fd, bool server)
{
	struct real_conn *c = MEM_NEW(struct real_conn);

	if (!c)
		return NULL;
	c->base.env = &r->env;
	c->fd = fd;
	c->server = server;
	list_init(&c->ready);
	list_init(&c->flush);
	list_init(&c->out);
	env_timer_init(&c->timer, NULL);
	list_push(&r->conns, &c->link);
	return c;
}

void conn_ready(struct real_conn *c)
{
	if (list_empty(&c->ready) && c->state != CONN_DEAD)
		list_push(&conn_real(c)->ready, &c->ready);
}

void conn_cork(struct real_conn *c)
{
	if (list_empty(&c->flush) && c->state != CONN_DEAD)
		list_push(&conn_real(c)->flush, &c->flush);
}

static void drop_socket(struct real_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	list_del(&c->flush);
	drop_out(c);
	chunk_put(conn_real(c), c->stage);
	c->stage = NULL;
}

void conn_bury(struct real_conn *c)
{
	struct real *r = conn_real(c);

	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	net_detach(c);
	env_timer_disarm(&r->env, &c->timer);
	drop_socket(c);
	list_del(&c->ready);
	list_del(&c->link);
	list_push(&r->graveyard, &c->link);
}

static void conn_free(struct real_conn *c)
{
	chunk_put(conn_real(c), c->rx);
	tls_drop(c);
	tls_unref(c->tls);
	mem_free(c);
}

void conn_fail(struct real_conn *c, int code, int os_errno, const char *fmt, ...)
{
	bool shaking = c->state == CONN_HANDSHAKE && c->ssl;
	va_list ap;

	if (c->state >= CONN_ENDED)
		return;
	c->err.code = code;
	c->err.os_errno = os_errno;
	va_start(ap, fmt);
	vsnprintf(c->err.message, sizeof(c->err.message), fmt, ap);
	va_end(ap);
	if (os_errno) {
		size_t n = strlen(c->err.message);

		snprintf(c->err.message + n, sizeof(c->err.message) - n, ": %s",
			 strerror(os_errno));
	}
	c->state = CONN_ENDED;
	env_timer_disarm(c->base.env, &c->timer);
	if (c->listener) {
		/* Nobody else learns of it. */
		log_warn(env_log(c->base.env), "listener on %s: %s", c->listener->addr,
			 c->err.message);
		net_detach(c);
		if (shaking)
			conn_linger(c); /* the peer is to get our alert */
		else
			conn_bury(c);
		return;
	}
	net_detach(c);
	if (shaking)
		conn_flush_socket(c); /* likewise, as far as it goes at once */
	conn_ready(c);
}

/* ---- raw bytes in ---- */

static int64_t take_rx(struct real_conn *c, void *buf, size_t len)
{
	struct chunk *k = c->rx;
	size_t n;

	if (!k)
		return 0;
	n = MIN(len, (size_t)(k->tail - k->head));
	memcpy(buf, k->data + k->head, n);
	k->head += (uint32_t)n;
	if (k->head == k->tail) {
		chunk_put(conn_real(c), k);
		c->rx = NULL;
	}
	return (int64_t)n;
}

/* From the socket into buf, and what comes after it into the read-ahead buffer: one system call. */
static int64_t read_socket(struct real_conn *c, void *buf, size_t len)
{
	struct chunk *k = chunk_get(conn_real(c));
	struct iovec v[2] = { { buf, len }, { k ? k->data : NULL, k ? CHUNK_DATA : 0 } };
	ssize_t n;

	do {
		n = readv(c->fd, v, k ? 2 : 1);
	} while (n < 0 && errno == EINTR);
	if (n > 0 && (size_t)n > len) {
		k->tail = (uint32_t)((size_t)n - len);
		c->rx = k;
	} else {
		int e = errno;

		chunk_put(conn_real(c), k);
		errno = e;
	}
	if (n < 0) {
		if (errno == EAGAIN)
			c->sock_rx = false;
		return -errno;
	}
	/* A short read has drained the socket, unless its end is still to be read: epoll(7). */
	if (!c->hup && (size_t)n < len + (k ? CHUNK_DATA : 0))
		c->sock_rx = false;
	if (!n)
		c->rx_eof = true;
	return MIN(n, (ssize_t)len);
}

int64_t conn_raw_read(struct real_conn *c, void *buf, size_t len)
{
	int64_t n = take_rx(c, buf, len), m;

	if ((size_t)n == len || (n && !c->sock_rx))
		return n;
	if (c->rx_eof)
		return n;
	if (!c->sock_rx || c->fd < 0)
		return -EAGAIN;
	m = read_socket(c, (char *)buf + n, len - (size_t)n);
	if (n)
		return m > 0 ? n + m : n; /* the end or the error comes again */
	return m;
}

static int64_t plain_recv(struct real_conn *c, void *buf, size_t len)
{
	int64_t n = conn_raw_read(c, buf, len);

	if (n > 0)
		return n;
	if (n == -EAGAIN) {
		c->rx_more = false;
		return HCI_E_AGAIN;
	}
	if (!n)
		conn_fail(c, HCI_E_CLOSED, 0, "connection with %s: closed by the other side",
			  c->addr);
	else
		conn_fail(c, n == -ETIMEDOUT ? HCI_E_TIMEOUT : HCI_E_CLOSED, (int)-n,
			  "connection with %s broke", c->addr);
	return n ? c->err.code : 0;
}

int64_t real_conn_recv(struct env_conn *cb, void *buf, size_t len)
{
	struct real_conn *c = conn_of(cb);
	int64_t n;

	if (c->state >= CONN_ENDED)
		return c->rx_eof && c->err.code == HCI_E_CLOSED ? 0 : c->err.code;
	if (c->state != CONN_OPEN || !len)
		return HCI_E_AGAIN;
	/* One that sends without pause shall not keep the others from their turn. */
	if (c->turn_bytes >= CONN_TURN_MAX) {
		conn_ready(c);
		return HCI_E_AGAIN;
	}
	n = c->ssl ? tls_recv(c, buf, len) : plain_recv(c, buf, len);
	if (n > 0)
		c->turn_bytes += (size_t)n;
	return n;
}

void real_conn_pause(struct env_conn *cb, bool paused)
{
	struct real_conn *c = conn_of(cb);

	if (c->paused && !paused)
		conn_ready(c);
	c->paused = paused;
}

/* ---- raw bytes out ---- */

int conn_raw_write(struct real_conn *c, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		struct chunk *k =
			list_empty(&c->out) ? NULL : list_entry(c->out.prev, struct chunk, link);
		size_t n;

		if (!k || k->tail == CHUNK_DATA) {
			k = chunk_get(conn_real(c));
			if (!k)
				return -ENOMEM;
			list_push(&c->out, &k->link);
		}
		n = MIN(len, (size_t)(CHUNK_DATA - k->tail));
		memcpy(k->data + k->tail, p, n);
		k->tail += (uint32_t)n;
		c->out_len += n;
		p += n;
		len -= n;
	}
	return 0;
}

static void sent(struct real_conn *c, size_t n)
{
	c->out_len -= n;
	while (n) {
		struct chunk *k = list_first(&c->out, struct chunk, link);
		size_t m = MIN(n, (size_t)(k->tail - k->head));

		k->head += (uint32_t)m;
		n -= m;
		if (k->head == k->tail) {
			list_del(&k->link);
			chunk_put(conn_real(c), k);
		}
	}
}

/*
 * Sending failed. What the peer sent before it went may say why (a TLS alert above all), so the end
 * is left for reading to find; only when nobody reads it is told now.
 */
static void send_broke(struct real_conn *c, int e)
{
	c->tx_dead = true;
	c->sock_rx = c->rx_more = c->hup = true;
	drop_out(c);
	if (c->state == CONN_LINGERING)
		conn_bury(c);
	else if (c->paused)
		conn_fail(c, HCI_E_CLOSED, e, "connection with %s broke", c->addr);
	else
		conn_ready(c);
}

static ssize_t send_iov(struct real_conn *c, struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = v, .msg_iovlen = (size_t)n };
	ssize_t r;

	do {
		r = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		c->sock_tx = false;
	return r;
}

void conn_flush_socket(struct real_conn *c)
{
	while (c->out_len && c->sock_tx && !c->tx_dead && c->fd >= 0) {
		struct iovec v[OUT_IOV];
		struct chunk *k;
		ssize_t n;
		int i = 0;

		list_for_each(k, &c->out, link) {
			v[i].iov_base = k->data + k->head;
			v[i].iov_len = k->tail - k->head;
			if (++i == OUT_IOV)
				break;
		}
		n = send_iov(c, v, i);
		if (n < 0) {
			if (errno != EAGAIN)
				send_broke(c, errno);
			return;
		}
		sent(c, (size_t)n);
	}
}

static int64_t plain_send(struct real_conn *c, const struct iovec *iov, int n, size_t total,
			  size_t room)
{
	size_t took = 0;
	int i;

	if (total >= CONN_DIRECT && c->sock_tx) {
		conn_flush_socket(c);
		if (!c->out_len && c->sock_tx && !c->tx_dead) {
			ssize_t r = send_iov(c, (struct iovec *)(uintptr_t)iov, MIN(n, 1024));

			if (r > 0)
				return r;
			if (r < 0 && errno != EAGAIN) {
				send_broke(c, errno);
				return HCI_E_CLOSED;
			}
		}
	}
	for (i = 0; i < n && took < room; i++) {
		size_t len = MIN(iov[i].iov_len, room - took);

		if (conn_raw_write(c, iov[i].iov_base, len)) {
			/* Some of it is queued: the stream cannot go on from here. */
			conn_fail(c, HCI_E_NOMEM, 0, "connection with %s: out of memory", c->addr);
			return HCI_E_NOMEM;
		}
		took += len;
	}
	return (int64_t)took;
}

static size_t unsent(const struct real_conn *c)
{
	return c->out_len + (c->stage ? c->stage->tail : 0);
}

int64_t real_conn_send(struct env_conn *cb, const struct iovec *iov, int n)
{
	struct real_conn *c = conn_of(cb);
	size_t total = 0;
	int64_t r;
	int i;

	if (c->state >= CONN_ENDED)
		return c->err.code;
	if (c->tx_dead)
		return HCI_E_CLOSED;
	for (i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (!total)
		return 0;
	if (unsent(c) >= CONN_OUT_MAX)
		conn_flush_socket(c);
	if (c->state != CONN_OPEN || unsent(c) >= CONN_OUT_MAX) {
		c->want_writable = true;
		return HCI_E_AGAIN;
	}
	r = c->ssl ? tls_send(c, iov, n, CONN_OUT_MAX - unsent(c))
		   : plain_send(c, iov, n, total, CONN_OUT_MAX - unsent(c));
	if (r > 0)
		conn_cork(c);
	return r;
}

/* ---- close ---- */

static void linger_late(struct env_timer *t)
{
	conn_bury(container_of(t, struct real_conn, timer));
}

/* Sends what is left, then our end, then waits for the peer's: closing a socket that has unread
 * bytes, or gets some, would send a reset, which may overtake what we sent (RFC 2525, 2.17). */
static void linger_on(struct real_conn *c)
{
	char sink[16384];
	unsigned i;

	conn_flush_socket(c);
	if (c->state == CONN_DEAD)
		return;
	if (!c->out_len && !c->told) {
		c->told = true; /* here: shutdown was called */
		shutdown(c->fd, SHUT_WR);
		env_timer_arm(c->base.env, &c->timer, c->base.env->now + CONN_LINGER_NS);
	}
	for (i = 0; i < 64 && c->sock_rx; i++) {
		ssize_t n = recv(c->fd, sink, sizeof(sink), 0);

		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->sock_rx = false;
		} else {
			c->rx_eof = true;
			c->sock_rx = false;
		}
	}
	if (c->rx_eof && !c->out_len)
		conn_bury(c);
	else if (c->sock_rx)
		conn_ready(c);
}

void conn_linger(struct real_conn *c)
{
	c->state = CONN_LINGERING;
	c->ops = NULL;
	c->told = false;
	c->sock_rx = true;
	env_timer_init(&c->timer, linger_late);
	env_timer_arm(c->base.env, &c->timer, c->base.env->now + CONN_FLUSH_NS);
	conn_ready(c);
}

void real_conn_close(struct env_conn *cb, bool abort_now)
{
	struct real_conn *c = conn_of(cb);
	struct linger reset = { 1, 0 };

	c->ops = NULL;
	if (abort_now && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (abort_now || c->fd < 0 || c->tx_dead || !c->opened) {
		conn_bury(c);
		return;
	}
	env_timer_disarm(c->base.env, &c->timer);
	if (c->ssl)
		tls_shutdown(c);
	conn_linger(c);
}

/* ---- turns of the loop ---- */

static void tell_end(struct real_conn *c)
{
	if (c->told || !c->ops)
		return;
	c->told = true;
	c->ops->on_closed(c->arg, &c->err);
}

static void tell_open(struct real_conn *c)
{
	if (c->out_len)
		conn_cork(c);
	if (c->want_writable && unsent(c) <= CONN_OUT_MAX / 2 && !c->tx_dead) {
		c->want_writable = false;
		if (c->ops->on_writable)
			c->ops->on_writable(c->arg);
	}
	if (c->state != CONN_OPEN || !c->ops || !c->rx_more || c->paused)
		return;
	c->turn_bytes = 0;
	c->ops->on_readable(c->arg);
	if (c->state == CONN_OPEN && c->rx_more && !c->paused)
		conn_ready(c);
}

static void dispatch(struct real_conn *c)
{
	switch (c->state) {
	case CONN_RESOLVING:
	case CONN_DEAD:
		break;
	case CONN_CONNECTING:
		net_connecting(c);
		break;
	case CONN_HANDSHAKE:
		tls_handshake(c);
		break;
	case CONN_OPEN:
		if (c->ops)
			tell_open(c);
		break;
	case CONN_ENDED:
		if (c->out_len)
			conn_cork(c);
		tell_end(c);
		break;
	case CONN_LINGERING:
		linger_on(c);
		break;
	}
}

bool net_run(struct real *r)
{
	struct list now, *n;

	list_init(&now);
	list_splice(&now, &r->ready);
	while ((n = list_pop(&now)))
		dispatch(list_entry(n, struct real_conn, ready));
	return !list_empty(&r->ready);
}

void net_flush(struct real *r)
{
	struct list *n;

	while ((n = list_pop(&r->flush))) {
		struct real_conn *c = list_entry(n, struct real_conn, flush);

		if (c->stage && tls_flush(c))
			continue;
		conn_flush_socket(c);
		if (c->want_writable && unsent(c) <= CONN_OUT_MAX / 2)
			conn_ready(c);
		if (c->state == CONN_LINGERING && !c->out_len)
			conn_ready(c);
	}
}

void net_bury(struct real *r)
{
	struct list *n;

	while ((n = list_pop(&r->graveyard)))
		conn_free(list_entry(n, struct real_conn, link));
}

void net_init(struct real *r)
{
	list_init(&r->conns);
	list_init(&r->listeners);
	list_init(&r->ready);
	list_init(&r->flush);
	list_init(&r->graveyard);
	list_init(&r->chunks);
}

void net_fini(struct real *r)
{
	struct list *n;

	net_flush(r);
	while (!list_empty(&r->conns))
		conn_bury(list_first(&r->conns, struct real_conn, link));
	net_bury(r);
	while ((n = list_pop(&r->chunks)))
		mem_free(list_entry(n, struct chunk, link));
}

void real_conn_set_ops(struct env_conn *cb, const struct env_conn_ops *ops, void *arg)
{
	struct real_conn *c = conn_of(cb);

	c->ops = ops;
	c->arg = arg;
	conn_ready(c);
}

const char *real_conn_peer_name(const struct env_conn *cb)
{
	return container_of(cb, const struct real_conn, base)->peer_name;
}
