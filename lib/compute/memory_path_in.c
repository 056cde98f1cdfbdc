/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end: the encoder's messages to the decoder, its bytes to QEMU's socket; and back what the decoder and QEMU
 * have to say. When QEMU closes before the end, as it does when it fails, the stream is ended at once and the rest is thrown away.
 */
#include "compute/memory_path_impl.h"

static const struct rpc_stream_ops stream_ops;

/* ---- back ---- */

static int send_back(struct memory_path *p, uint8_t kind, const void *data, uint32_t len)
{
	uint8_t *b = rpc_stream_buf(p->s, len + 1);

	if (!b)
		return HCI_E_NOMEM;
	b[0] = kind;
	memcpy(b + 1, data, len);
	return rpc_stream_send(p->s, b, len + 1, len + 1);
}

static int say(struct memory_path *p)
{
	struct mst_msg *m;
	int rc = 0;

	while (!rc && rpc_stream_room_for(p->s, RPC_STREAM_MESSAGE_MAX) && (m = mst_dec_next(p->dec))) {
		rc = m->len < RPC_STREAM_MESSAGE_MAX ? send_back(p, MEMORY_CODEC, m->data, m->len) : HCI_E_RANGE;
		mst_msg_free(m);
	}
	return rc == HCI_E_AGAIN || rc == HCI_E_STATE ? 0 : rc;
}

/* ---- to QEMU ---- */

static void end(struct memory_path *p)
{
	if (p->sock)
		env_conn_close(p->sock, false);
	p->sock = NULL;
	rpc_stream_end(p->s);
}

static int write_all(struct memory_path *p, struct hci_error *err)
{
	const void *data;
	int64_t n = 0;

	while (!p->blocked && (n = mst_dec_out(p->dec, &data, err)) > 0) {
		struct iovec v = { (void *)(uintptr_t)data, (size_t)n };
		int64_t took = n; /* without a socket it goes nowhere */

		if (p->sock)
			took = env_conn_send(p->sock, &v, 1);
		if (took == HCI_E_AGAIN) {
			p->blocked = true;
			break;
		}
		if (took < 0) {
			end(p);
			continue;
		}
		mst_dec_consume(p->dec, (size_t)took);
	}
	return n < 0 ? (int)n : 0;
}

static void pump(struct memory_path *p)
{
	struct hci_error err = { 0 };
	int rc;

	if (!p->s || !p->dec || p->opening)
		return;
	rc = write_all(p, &err);
	if (!rc) {
		rc = say(p);
		if (rc)
			err_set(&err, rc, "memory stream: what the decoder says cannot be sent");
	}
	if (!rc)
		rc = mst_dec_status(p->dec, &err);
	if (rc)
		memory_path_fail(p, &err);
	else if (mst_dec_done(p->dec) && rpc_stream_room_for(p->s, RPC_STREAM_MESSAGE_MAX))
		end(p);
}

static void run_task(struct env_task *t)
{
	struct memory_path *p = container_of(t, struct memory_path, task);

	atomic_store(&p->posted, false);
	pump(p);
}

static void take_all(struct memory_path *p)
{
	struct rpc_stream_message m;
	struct hci_error err;

	while (p->s && rpc_stream_next(p->s, &m)) {
		if (mst_dec_take(p->dec, m.data, m.len, &err)) {
			memory_path_fail(p, &err);
			return;
		}
		rpc_stream_taken(p->s);
	}
	pump(p);
	/* The source gave up without an error of its own: QEMU sees an end, as it would on a socket. */
	if (p->s && rpc_stream_at_end(p->s))
		end(p);
}

/* ---- QEMU's socket ---- */

static bool read_some(struct memory_path *p, uint32_t *turn)
{
	uint32_t room = rpc_stream_room_for(p->s, 4096);
	int64_t n;

	if (!room) {
		memory_path_pause(p, true);
		return false;
	}
	n = env_conn_recv(p->sock, p->buf, MIN(room - 1, MEMORY_READ));
	if (n == HCI_E_AGAIN)
		return false;
	if (n <= 0) {
		end(p);
		return false;
	}
	*turn += (uint32_t)n;
	if (send_back(p, MEMORY_BYTES, p->buf, (uint32_t)n)) {
		memory_path_fail(p, &(struct hci_error){ .code = HCI_E_NOMEM, .message = "memory stream: out of memory" });
		return false;
	}
	return *turn < MEMORY_TURN;
}

static void sock_readable(void *arg)
{
	struct memory_path *p = arg;
	uint32_t turn = 0;

	if (p->opening || !p->s || !p->sock)
		return;
	while (read_some(p, &turn))
		;
}

static void sock_writable(void *arg)
{
	struct memory_path *p = arg;

	p->blocked = false;
	pump(p);
}

static void sock_open(void *arg)
{
	struct memory_path *p = arg;

	p->opening = false;
	rpc_stream_accept(p->s, 0, &stream_ops, p);
	pump(p);
}

static void sock_closed(void *arg, const struct hci_error *err)
{
	struct memory_path *p = arg;

	p->blocked = false;
	if (!p->s || !p->sock)
		return;
	if (p->opening) {
		memory_path_fail(p, err);
		return;
	}
	end(p);
	pump(p);
}

static const struct env_conn_ops sock_ops = { sock_open, sock_readable, sock_writable, sock_closed };

/* ---- the stream ---- */

static void stream_open(void *arg)
{
	(void)arg; /* the other end's */
}

static void stream_readable(void *arg)
{
	take_all(arg);
}

static void stream_writable(void *arg)
{
	memory_path_pause(arg, false);
	pump(arg);
}

static void stream_closed(void *arg, const struct hci_error *err)
{
	memory_path_closed(arg, err);
}

static const struct rpc_stream_ops stream_ops = { stream_open, stream_readable, stream_writable, stream_closed };

struct memory_path *memory_path_in(struct env *e, struct rpc_stream *s, const char *addr, const struct memory_path_opts *o)
{
	struct memory_path *p = memory_path_new(e, o, run_task);
	struct hci_error err;

	if (!p || mst_dec_new(&p->dec, &p->o.codec, &err)) {
		rpc_stream_refuse(s, HCI_E_NOMEM, "out of memory for a memory stream");
		if (p)
			memory_path_drop(p);
		return NULL;
	}
	p->s = s;
	p->sock = env_connect(e, addr, NULL, &sock_ops, p, &err);
	if (!p->sock) {
		rpc_stream_refuse(s, err.code, err.message);
		p->s = NULL;
		memory_path_drop(p);
		return NULL;
	}
	return p;
}
