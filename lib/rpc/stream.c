/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream's life: opened, accepted or refused, over. The messages are stream_io.c's.
 *
 * It is over for an end when it has ended and heard that the other end got that, the other end has ended, and
 * all messages were taken both ways. The end that opened then asks for one more answer before it closes the
 * connection: once that is there, what the other end waits for has arrived as well.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "rpc/stream_impl.h"

#define ARGS_MAX 4096u
#define OPEN_TIME (10 * NS_PER_S)
#define LAST_TIME (5 * NS_PER_S)

/* ---- references ---- */

void stream_ref(struct rpc_stream *s)
{
	s->refs++;
}

void stream_unref(struct rpc_stream *s)
{
	if (--s->refs)
		return;
	env_undefer(s->e, &s->task);
	rpc_call_free(&s->open_call);
	rpc_call_free(&s->end_call);
	rpc_call_free(&s->last_call);
	rpc_conn_unref(s->conn);
	mem_free(s);
}

/* ---- callbacks ---- */

static void run_task(struct env_task *t)
{
	struct rpc_stream *s = container_of(t, struct rpc_stream, task);

	stream_ref(s);
	if (s->over && !s->freed && s->ops) {
		const struct rpc_stream_ops *ops = s->ops;

		s->ops = NULL;
		ops->on_closed(s->arg, &s->err);
	}
	stream_unref(s);
}

void stream_readable(struct rpc_stream *s)
{
	if (s->over || s->freed || !s->ops || s->told_readable)
		return;
	s->told_readable = true;
	s->ops->on_readable(s->arg);
}

void stream_drop_rx(struct rpc_stream *s)
{
	struct list *l;

	while ((l = list_pop(&s->rx)))
		rpc_reply(list_entry(l, struct rpc_req, link), HCI_E_CLOSED, NULL, NULL, NULL, 0, NULL, NULL);
	s->held = 0;
}

void stream_over(struct rpc_stream *s, const struct hci_error *err)
{
	if (s->over)
		return;
	s->over = true;
	s->open = false;
	s->err = *err;
	if (s->conn->stream == s)
		s->conn->stream = NULL;
	stream_drop_rx(s);
	/* Nobody else has a use for the connection; one that came in is closed by who opened it, or went already. */
	if (err->code && (s->opener || !s->open_req))
		rpc_conn_fail(s->conn, err);
	else if (s->opener)
		rpc_conn_shutdown(s->conn);
	env_defer(s->e, &s->task);
}

void rpc_stream_conn_gone(struct rpc_conn *c)
{
	struct hci_error err;

	if (!c->stream)
		return;
	rpc_conn_error(c, &err);
	if (!err.code)
		err_set(&err, HCI_E_CLOSED, "the connection was closed");
	stream_over(c->stream, &err);
}

/* ---- the orderly end ---- */

static void last_done(struct rpc_call *call)
{
	struct rpc_stream *s = container_of(call, struct rpc_stream, last_call);

	/* If the answer does not come, that is the other end's concern: we have everything. */
	stream_over(s, &(struct hci_error){ .code = 0 });
	stream_unref(s);
}

void stream_settle(struct rpc_stream *s)
{
	if (!s->open || s->over || !s->end_acked || s->in_flight || !s->peer_ended || !list_empty(&s->rx))
		return;
	if (!s->opener) {
		stream_over(s, &(struct hci_error){ .code = 0 });
	} else if (!s->saying_last) {
		s->saying_last = true;
		s->last_call.method = RPC_PING;
		s->last_call.timeout_ns = LAST_TIME;
		s->last_call.done = last_done;
		stream_ref(s);
		rpc_submit(s->conn, &s->last_call);
	}
}

/* ---- opening ---- */

static struct rpc_stream *stream_new(struct rpc_conn *conn, uint32_t window)
{
	struct rpc_stream *s = MEM_NEW(struct rpc_stream);

	if (!s)
		return NULL;
	s->refs = 1;
	s->conn = conn;
	s->e = conn->env;
	s->window = window ? MIN(MAX(window, RPC_STREAM_WINDOW_MIN), RPC_STREAM_WINDOW_MAX) : RPC_STREAM_WINDOW;
	list_init(&s->rx);
	env_task_init(&s->task, run_task);
	conn->stream = s;
	return s;
}

static int take_window(struct rpc_stream *s, uint64_t window, struct hci_error *err)
{
	if (window < RPC_STREAM_WINDOW_MIN || window > RPC_STREAM_WINDOW_MAX)
		return err_set(err, HCI_E_PROTO, "a stream's window of %llu bytes is not in %u..%u", (unsigned long long)window,
			       RPC_STREAM_WINDOW_MIN, RPC_STREAM_WINDOW_MAX);
	s->peer_window = window;
	return 0;
}

static uint64_t read_window(struct rd *r)
{
	uint32_t n = rd_map(r);
	uint64_t window = 0;

	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "window"))
			window = rd_u64(r);
		else
			rd_skip(r);
	}
	return r->bad ? 0 : window;
}

static void open_done(struct rpc_call *call)
{
	struct rpc_stream *s = container_of(call, struct rpc_stream, open_call);
	struct hci_error err;

	if (call->status)
		stream_over(s, &call->err);
	else if (!s->over && take_window(s, read_window(&call->reply), &err))
		stream_over(s, &err);
	if (!s->over) {
		s->open = true;
		if (!s->freed)
			s->ops->on_open(s->arg);
	}
	stream_unref(s);
}

struct rpc_stream *rpc_stream_open(struct rpc_conn *conn, const struct rpc_stream_opts *o,
				   const struct rpc_stream_ops *ops, void *arg, struct hci_error *err)
{
	struct rpc_stream *s = conn->stream || conn->loop ? NULL : stream_new(conn, o->window);

	if (!s) {
		if (conn->stream || conn->loop)
			err_set(err, HCI_E_STATE, "a stream needs a connection of its own, to another node");
		else
			err_set(err, HCI_E_NOMEM, "out of memory for a stream");
		rpc_conn_unref(conn);
		return NULL;
	}
	s->opener = true;
	s->ops = ops;
	s->arg = arg;
	pk_map(&s->open_call.body, 3);
	pk_kv_str(&s->open_call.body, "service", o->service);
	pk_kv_u64(&s->open_call.body, "window", s->window);
	pk_str(&s->open_call.body, "args");
	pk_bin(&s->open_call.body, o->args ? o->args->data : NULL, o->args ? o->args->len : 0);
	s->open_call.method = RPC_STREAM_OPEN;
	s->open_call.timeout_ns = o->timeout_ns ? o->timeout_ns : OPEN_TIME;
	s->open_call.done = open_done;
	stream_ref(s);
	rpc_submit(conn, &s->open_call);
	return s;
}

/* ---- serving ---- */

struct opening {
	char service[RPC_STREAM_SERVICE_MAX];
	uint64_t window;
	const void *args;
	uint32_t nargs;
};

static int read_opening(struct rd *r, struct opening *o)
{
	uint32_t n = rd_map(r);

	memset(o, 0, sizeof(*o));
	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "service"))
			rd_strcpy(r, o->service, sizeof(o->service));
		else if (rd_is(k, "window"))
			o->window = rd_u64(r);
		else if (rd_is(k, "args"))
			o->args = rd_bin(r, &o->nargs);
		else
			rd_skip(r);
	}
	return r->bad || o->nargs > ARGS_MAX ? HCI_E_PROTO : 0;
}

static const struct rpc_service *find_service(const struct rpc *r, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->services); i++)
		if (r->services[i].fn && !strcmp(r->services[i].name, name))
			return &r->services[i];
	return NULL;
}

static void on_open(void *arg, struct rpc_req *req)
{
	const struct rpc_service *v = NULL;
	struct hci_error err = { 0 };
	struct rpc_stream *s = NULL;
	struct opening o;
	struct rd args;

	if (read_opening(&req->args, &o)) {
		err_set(&err, HCI_E_PROTO, "the opening of a stream cannot be read");
	} else if (req->conn->stream || req->conn->loop) {
		err_set(&err, HCI_E_STATE, "the connection has a stream already");
	} else {
		v = find_service(arg, o.service);
		s = v ? stream_new(rpc_conn_ref(req->conn), 0) : NULL;
		if (!v) {
			err_set(&err, HCI_E_UNSUPPORTED, "nobody takes streams for \"%s\" here", o.service);
		} else if (!s) {
			rpc_conn_unref(req->conn);
			err_set(&err, HCI_E_NOMEM, "out of memory for a stream");
		} else if (take_window(s, o.window, &err)) {
			req->conn->stream = NULL;
			stream_unref(s);
		}
	}
	if (err.code) {
		rpc_reply(req, err.code, err.message, NULL, NULL, 0, NULL, NULL);
		return;
	}
	s->open_req = req;
	args = rd_init(o.args, o.nargs);
	v->fn(v->arg, s, &args);
}

void rpc_stream_accept(struct rpc_stream *s, uint32_t window, const struct rpc_stream_ops *ops, void *arg)
{
	struct rpc_req *req = s->open_req;
	struct buf b = BUF_INIT;

	s->ops = ops;
	s->arg = arg;
	s->open_req = NULL;
	if (window)
		s->window = MIN(MAX(window, RPC_STREAM_WINDOW_MIN), RPC_STREAM_WINDOW_MAX);
	pk_map(&b, 1);
	pk_kv_u64(&b, "window", s->window);
	s->open = !s->over;
	rpc_reply(req, 0, NULL, &b, NULL, 0, NULL, NULL);
	buf_free(&b);
	if (s->over)
		env_defer(s->e, &s->task);
}

void rpc_stream_refuse(struct rpc_stream *s, int code, const char *message)
{
	struct rpc_req *req = s->open_req;

	s->open_req = NULL;
	s->freed = true;
	s->over = true;
	if (s->conn->stream == s)
		s->conn->stream = NULL;
	rpc_reply(req, code, message, NULL, NULL, 0, NULL, NULL);
	stream_unref(s);
}

int rpc_stream_serve(struct rpc *r, const char *service, void (*fn)(void *arg, struct rpc_stream *s, struct rd *args),
		     void *arg)
{
	if (strlen(service) >= RPC_STREAM_SERVICE_MAX)
		return HCI_E_INVAL;
	if (find_service(r, service))
		return HCI_E_EXISTS;
	for (size_t i = 0; i < ARRAY_SIZE(r->services); i++) {
		struct rpc_service *v = &r->services[i];

		if (v->fn)
			continue;
		snprintf(v->name, sizeof(v->name), "%s", service);
		v->fn = fn;
		v->arg = arg;
		return 0;
	}
	return HCI_E_NOSPACE;
}

int rpc_stream_register(struct rpc *r)
{
	int rc = rpc_register(r, RPC_STREAM_OPEN, on_open, r);

	if (!rc)
		rc = rpc_register(r, RPC_STREAM_MESSAGE, stream_on_message, r);
	return rc ? rc : rpc_register(r, RPC_STREAM_END, stream_on_end, r);
}

bool rpc_stream_is_offer(const struct rpc_stream *s)
{
	return s->open_req;
}

const char *rpc_stream_peer(const struct rpc_stream *s)
{
	return rpc_conn_peer(s->conn);
}

void rpc_stream_close(struct rpc_stream *s, const struct hci_error *why)
{
	struct hci_error err = { .code = HCI_E_CLOSED };

	if (!s)
		return;
	if (why && why->code)
		err = *why;
	else
		err_set(&err, HCI_E_CLOSED, "the stream was closed");
	s->freed = true;
	if (!s->saying_last) /* then all was said, and the rest goes on by itself */
		stream_over(s, &err);
	stream_unref(s);
}
