/* SPDX-License-Identifier: Apache-2.0 */
/* See relay.h. Owns the socket, the stream and the bytes between them, of which there is at most one message each way. */
#include "rpc/relay.h"

#include "base/err.h"
#include "base/mem.h"

#define CHUNK (256u << 10) /* read from the socket at a time */
#define TURN (1u << 20)    /* ... and before others have their turn */

struct rpc_relay {
	struct env *e;
	struct rpc_relay_opts o;
	struct env_conn *sock; /* NULL: ended */
	struct rpc_stream *s;  /* NULL: over */
	bool opening;          /* in: not accepted, out: not open yet */
	bool paused, blocked;  /* the stream has no room; the socket has none */
	uint32_t off;          /* of the message at the head, that the socket has taken */
	uint64_t from_socket, to_socket;
};

/* ---- socket to stream ---- */

static void pause_sock(struct rpc_relay *y, bool paused)
{
	if (y->paused == paused || !y->sock)
		return;
	y->paused = paused;
	env_conn_pause(y->sock, paused);
}

/* Whatever ended it: the other side sees what it would have seen on the socket itself, an end. */
static void sock_over(struct rpc_relay *y)
{
	if (!y->sock)
		return;
	env_conn_close(y->sock, false);
	y->sock = NULL;
	if (y->s && !y->opening)
		rpc_stream_end(y->s);
}

/* A short message in a long buffer would hold more memory than the window counts. */
static int send_some(struct rpc_relay *y, uint8_t *buf, uint32_t cap, uint32_t len)
{
	uint8_t *small = len <= cap / 4 ? rpc_stream_buf(y->s, len) : NULL;

	if (!small)
		return rpc_stream_send(y->s, buf, cap, len);
	memcpy(small, buf, len);
	rpc_stream_buf_free(y->s, buf, cap);
	return rpc_stream_send(y->s, small, len, len);
}

static void fail(struct rpc_relay *y, int code, const char *why)
{
	struct hci_error err;

	err_set(&err, code, "%s", why);
	if (y->sock)
		env_conn_close(y->sock, true);
	y->sock = NULL;
	rpc_stream_close(y->s, &err);
	y->s = NULL;
	y->o.on_over(y->o.arg, y, &err);
}

/* False: nothing more can be read for now, or ever. */
static bool read_some(struct rpc_relay *y, uint32_t *turn)
{
	uint32_t room = rpc_stream_room(y->s);
	uint32_t cap = MIN(room, CHUNK);
	uint8_t *buf;
	int64_t n;
	int rc;

	if (!room) {
		pause_sock(y, true);
		return false;
	}
	buf = rpc_stream_buf(y->s, cap);
	if (!buf) {
		fail(y, HCI_E_NOMEM, "out of memory for a relayed socket");
		return false;
	}
	n = env_conn_recv(y->sock, buf, cap);
	if (n <= 0) {
		rpc_stream_buf_free(y->s, buf, cap);
		if (n != HCI_E_AGAIN)
			sock_over(y);
		return false;
	}
	y->from_socket += (uint64_t)n;
	if (y->o.before)
		y->o.before(y->o.arg, false);
	rc = send_some(y, buf, cap, (uint32_t)n);
	if (rc == HCI_E_NOMEM)
		fail(y, rc, "out of memory for a relayed socket");
	*turn += (uint32_t)n;
	return !rc && *turn < TURN;
}

static void sock_readable(void *arg)
{
	struct rpc_relay *y = arg;
	uint32_t turn = 0;

	if (y->opening || !y->s || !y->sock)
		return;
	while (read_some(y, &turn))
		;
}

/* ---- stream to socket ---- */

static void write_all(struct rpc_relay *y)
{
	struct rpc_stream_message m;

	while (y->s && !y->blocked && rpc_stream_next(y->s, &m)) {
		struct iovec v = { (void *)(uintptr_t)(m.data + y->off), m.len - y->off };
		int64_t n = v.iov_len; /* without a socket it goes nowhere */

		if (y->sock) {
			if (y->o.before)
				y->o.before(y->o.arg, true);
			n = env_conn_send(y->sock, &v, 1);
		}
		if (n == HCI_E_AGAIN) {
			y->blocked = true;
			return;
		}
		if (n < 0) {
			sock_over(y);
			continue;
		}
		y->to_socket += (uint64_t)n;
		y->off += (uint32_t)n;
		if (y->off == m.len) {
			y->off = 0;
			rpc_stream_taken(y->s);
		}
	}
	if (!y->s || !rpc_stream_at_end(y->s))
		return;
	if (y->sock && y->o.keep) {
		pause_sock(y, true);
		rpc_stream_end(y->s);
	} else {
		sock_over(y);
	}
}

static void sock_writable(void *arg)
{
	struct rpc_relay *y = arg;

	y->blocked = false;
	write_all(y);
}

/* ---- ends ---- */

static void over(struct rpc_relay *y, const struct hci_error *err)
{
	if (y->o.keep)
		pause_sock(y, true);
	else if (y->sock)
		env_conn_close(y->sock, err->code != 0);
	if (!y->o.keep)
		y->sock = NULL;
	y->o.on_over(y->o.arg, y, err);
}

static void sock_closed(void *arg, const struct hci_error *err)
{
	struct rpc_relay *y = arg;

	if (!y->opening || !y->s) {
		y->blocked = false;
		sock_over(y);
		write_all(y); /* which the stream's end may wait for */
		return;
	}
	env_conn_close(y->sock, true);
	y->sock = NULL;
	if (rpc_stream_is_offer(y->s))
		rpc_stream_refuse(y->s, err->code, err->message);
	else
		rpc_stream_close(y->s, err);
	y->s = NULL;
	y->o.on_over(y->o.arg, y, err);
}

static void stream_open(void *arg)
{
	struct rpc_relay *y = arg;

	y->opening = false;
	pause_sock(y, false);
}

static void stream_readable_(void *arg)
{
	write_all(arg);
}

static void stream_writable(void *arg)
{
	pause_sock(arg, false);
}

static void stream_closed(void *arg, const struct hci_error *err)
{
	struct rpc_relay *y = arg;

	rpc_stream_close(y->s, NULL);
	y->s = NULL;
	over(y, err);
}

static const struct rpc_stream_ops stream_ops = {
	.on_open = stream_open,
	.on_readable = stream_readable_,
	.on_writable = stream_writable,
	.on_closed = stream_closed,
};

static void sock_open(void *arg)
{
	struct rpc_relay *y = arg;

	y->opening = false;
	rpc_stream_accept(y->s, 0, &stream_ops, y);
	rpc_stream_pace(y->s, y->o.pace_ns);
}

static const struct env_conn_ops sock_ops = {
	.on_open = sock_open,
	.on_readable = sock_readable,
	.on_writable = sock_writable,
	.on_closed = sock_closed,
};

/* ---- making ---- */

static struct rpc_relay *relay_new(struct env *e, const struct rpc_relay_opts *o)
{
	struct rpc_relay *y = MEM_NEW(struct rpc_relay);

	if (!y)
		return NULL;
	y->e = e;
	y->o = *o;
	y->opening = true;
	return y;
}

struct rpc_relay *rpc_relay_out(struct env *e, struct env_conn *sock, struct rpc_conn *conn, const struct rpc_stream_opts *so,
				const struct rpc_relay_opts *o, struct hci_error *err)
{
	struct rpc_relay *y = relay_new(e, o);

	if (y)
		y->s = rpc_stream_open(conn, so, &stream_ops, y, err);
	else
		rpc_conn_unref(conn);
	if (!y || !y->s) {
		env_conn_close(sock, true);
		mem_free(y);
		if (!y)
			err_set(err, HCI_E_NOMEM, "out of memory for a relayed socket");
		return NULL;
	}
	rpc_stream_pace(y->s, o->pace_ns);
	y->sock = sock;
	env_conn_set_ops(sock, &sock_ops, y);
	pause_sock(y, true);
	return y;
}

struct rpc_relay *rpc_relay_in(struct env *e, struct rpc_stream *s, const char *addr, const struct rpc_relay_opts *o)
{
	struct rpc_relay *y = relay_new(e, o);
	struct hci_error err;

	if (!y) {
		rpc_stream_refuse(s, HCI_E_NOMEM, "out of memory for a relayed socket");
		return NULL;
	}
	y->s = s;
	y->sock = env_connect(e, addr, NULL, &sock_ops, y, &err);
	if (!y->sock) {
		rpc_stream_refuse(s, err.code, err.message);
		mem_free(y);
		return NULL;
	}
	return y;
}

void rpc_relay_stat(const struct rpc_relay *y, struct rpc_relay_stat *out)
{
	*out = (struct rpc_relay_stat){ .from_socket = y->from_socket, .to_socket = y->to_socket };
	if (y->s) {
		out->rate = rpc_stream_rate(y->s);
		out->in_flight = rpc_stream_in_flight(y->s);
	}
}

void rpc_relay_free(struct rpc_relay *y, const struct hci_error *why)
{
	if (!y)
		return;
	if (y->sock)
		env_conn_close(y->sock, true);
	if (y->s && rpc_stream_is_offer(y->s))
		rpc_stream_refuse(y->s, why ? why->code : HCI_E_CANCELLED, why ? why->message : "given up");
	else
		rpc_stream_close(y->s, why);
	mem_free(y);
}
