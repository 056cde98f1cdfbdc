/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's end: bytes of QEMU's socket to the encoder, its messages to the stream; and what comes back. The stream
 * is ended when the decoder has told that all was taken, or when the other side's QEMU has closed: then what is left is for nobody.
 */
#include "compute/memory_path_impl.h"

/* ---- out ---- */

static void release(void *arg)
{
	mst_msg_free(arg);
}

/* False: it is over. */
static bool healthy(struct memory_path *p)
{
	struct hci_error err;

	if (!mst_enc_status(p->enc, &err))
		return true;
	memory_path_fail(p, &err);
	return false;
}

static void send_all(struct memory_path *p)
{
	struct hci_error err;
	int rc = 0;

	while (!rc && memory_path_may_send(p) && rpc_stream_room_for(p->s, MST_MSG_MAX)) {
		struct mst_msg *m = mst_enc_next(p->enc);

		if (!m)
			return;
		memory_path_sent(p, m->len);
		rc = rpc_stream_send_lent(p->s, m->data, m->len, release, m);
	}
	/* The encoder will not say it again. Of a stream that is over we are told. */
	if (rc == HCI_E_NOMEM) {
		err_set(&err, rc, "memory stream: out of memory for a message");
		memory_path_fail(p, &err);
	}
}

/* What was read goes to the encoder, which may take less than it has room for. False: not all, or it is over. */
static bool feed(struct memory_path *p)
{
	struct hci_error err;
	int64_t n;

	while (p->fed < p->have) {
		n = mst_enc_feed(p->enc, p->buf + p->fed, p->have - p->fed, &err);
		if (n < 0)
			memory_path_fail(p, &err);
		if (n <= 0)
			return false;
		p->fed += (uint32_t)n;
	}
	if (p->at_end && p->have != UINT32_MAX) {
		p->have = p->fed = UINT32_MAX; /* once */
		if (mst_enc_finish(p->enc, &err)) {
			memory_path_fail(p, &err);
			return false;
		}
	}
	return true;
}

static void pump(struct memory_path *p)
{
	bool all;

	if (!p->s || !p->enc || p->opening)
		return;
	all = feed(p);
	if (!p->s)
		return;
	send_all(p);
	if (!p->s || !healthy(p))
		return;
	if (mst_enc_done(p->enc)) {
		if (!p->all_there)
			memory_path_crossed(p);
		p->all_there = true;
		rpc_stream_end(p->s);
		return;
	}
	if (all && p->paused && mst_enc_room(p->enc))
		memory_path_pause(p, false);
}

void memory_path_hurry(struct memory_path *p)
{
	if (!p->enc)
		return;
	mst_enc_hurry(p->enc);
	pump(p);
}

static void run_task(struct env_task *t)
{
	struct memory_path *p = container_of(t, struct memory_path, task);

	atomic_store(&p->posted, false);
	pump(p);
}

/* ---- QEMU's socket ---- */

static void sock_end(struct memory_path *p)
{
	if (!p->sock)
		return;
	env_conn_close(p->sock, false);
	p->sock = NULL;
	p->at_end = true;
	memory_path_ended(p);
	pump(p);
}

/* Into the encoder's own memory if it has room for a good deal. */
static int64_t receive(struct memory_path *p, bool *direct, struct hci_error *err)
{
	size_t len;
	void *to = mst_enc_space(p->enc, &len);
	int64_t n = env_conn_recv(p->sock, to ? to : p->buf, to ? MIN(len, MEMORY_READ) : MEMORY_READ);

	*direct = to != NULL;
	if (to)
		mst_enc_filled(p->enc, n > 0 ? (size_t)n : 0, err);
	return n;
}

static bool read_some(struct memory_path *p, uint32_t *turn)
{
	struct hci_error err = { 0 };
	bool direct;
	int64_t n;

	if (!feed(p) || !mst_enc_room(p->enc)) {
		memory_path_pause(p, true);
		return false;
	}
	n = receive(p, &direct, &err);
	if (err.code) {
		memory_path_fail(p, &err);
		return false;
	}
	if (n == HCI_E_AGAIN) {
		/* Workers look at the clock themselves. */
		if (!p->o.codec.workers && mst_enc_flush(p->enc, &err))
			memory_path_fail(p, &err);
		return false;
	}
	if (n <= 0) {
		sock_end(p);
		return false;
	}
	memory_path_crossed(p);
	p->have = direct ? 0 : (uint32_t)n;
	p->fed = 0;
	*turn += (uint32_t)n;
	return *turn < MEMORY_TURN;
}

static void sock_readable(void *arg)
{
	struct memory_path *p = arg;
	uint32_t turn = 0;

	if (p->opening || !p->s || !p->sock || !p->enc)
		return;
	while (read_some(p, &turn))
		;
	pump(p);
}

/* ---- back ---- */

/* False: not now. */
static bool give_back(struct memory_path *p, const struct rpc_stream_message *m)
{
	uint32_t at = MAX(p->off, 1u);
	struct iovec v = { (void *)(uintptr_t)(m->data + at), m->len - at };
	int64_t n = v.iov_len;

	if (p->sock)
		n = env_conn_send(p->sock, &v, 1);
	if (n == HCI_E_AGAIN) {
		p->blocked = true;
		return false;
	}
	p->off = n < 0 ? m->len : at + (uint32_t)n;
	return true;
}

static void take_all(struct memory_path *p)
{
	struct rpc_stream_message m;
	struct hci_error err;

	while (p->s && !p->blocked && rpc_stream_next(p->s, &m)) {
		if (m.len < 2 || m.data[0] > MEMORY_CODEC) {
			err_set(&err, HCI_E_PROTO, "memory stream: a message of another kind");
			memory_path_fail(p, &err);
			return;
		}
		if (m.data[0] == MEMORY_CODEC) {
			if (mst_enc_take(p->enc, m.data + 1, m.len - 1, &err)) {
				memory_path_fail(p, &err);
				return;
			}
			p->off = m.len;
		} else if (!give_back(p, &m)) {
			return;
		}
		if (p->off == m.len) {
			p->off = 0;
			rpc_stream_taken(p->s);
		}
	}
	if (p->s && rpc_stream_at_end(p->s)) {
		if (p->sock)
			env_conn_close(p->sock, false);
		p->sock = NULL;
		memory_path_ended(p);
		rpc_stream_end(p->s);
	}
}

static void sock_writable(void *arg)
{
	struct memory_path *p = arg;

	p->blocked = false;
	take_all(p);
	pump(p);
}

static void sock_closed(void *arg, const struct hci_error *err)
{
	struct memory_path *p = arg;

	p->blocked = false;
	if (p->opening && p->s) {
		memory_path_fail(p, err);
		return;
	}
	sock_end(p);
	take_all(p);
}

static void sock_open(void *arg)
{
	(void)arg; /* it was accepted, so it is open */
}

static const struct env_conn_ops sock_ops = { sock_open, sock_readable, sock_writable, sock_closed };

/* ---- the stream ---- */

static void stream_open(void *arg)
{
	struct memory_path *p = arg;

	p->opening = false;
	memory_path_pause(p, false);
	pump(p);
}

static void stream_readable(void *arg)
{
	take_all(arg);
	pump(arg);
}

static void stream_writable(void *arg)
{
	pump(arg);
}

static void stream_closed(void *arg, const struct hci_error *err)
{
	memory_path_closed(arg, err);
}

static const struct rpc_stream_ops stream_ops = { stream_open, stream_readable, stream_writable, stream_closed };

struct memory_path *memory_path_out(struct env *e, struct env_conn *sock, struct rpc_conn *conn, const struct rpc_stream_opts *so,
				    const struct memory_path_opts *o, struct hci_error *err)
{
	struct memory_path *p = memory_path_new(e, o, run_task);
	int rc = p ? mst_enc_new(&p->enc, &p->o.codec, err) : err_set(err, HCI_E_NOMEM, "out of memory for a memory stream");

	if (!rc)
		p->s = rpc_stream_open(conn, so, &stream_ops, p, err);
	else
		rpc_conn_unref(conn);
	if (rc || !p->s) {
		env_conn_close(sock, true);
		if (p)
			memory_path_drop(p);
		return NULL;
	}
	p->sock = sock;
	env_conn_set_ops(sock, &sock_ops, p);
	memory_path_pause(p, true);
	return p;
}
