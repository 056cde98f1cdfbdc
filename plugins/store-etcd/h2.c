/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC streams on nghttp2: see h2.h. */
#include "h2.h"

#include <hci/error.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define STREAM_WINDOW (4 << 20)
#define CONNECTION_WINDOW (64 << 20)
#define READ_CHUNK (64 << 10)
#define READS_A_STEP 64

struct stream {
	TAILQ_ENTRY(stream) link;
	struct h2 *h;
	int32_t id;
	const struct stream_ops *ops; /* NULL: cancelled, nobody listens */
	void *arg;
	struct buf tx, rx;
	size_t sent;
	bool end;
	int http, grpc; /* grpc: -2 until it is known */
	char text[200];
};

struct h2 {
	struct net *net;
	nghttp2_session *ng;
	TAILQ_HEAD(, stream) streams;
	const char *authority;
	bool tls;
	bool goaway; /* the server takes no more streams */
	const uint8_t *out; /* what nghttp2 has given us and the connection did not take yet */
	size_t out_n;
	uint8_t chunk[READ_CHUNK];
};

/* ---- what nghttp2 calls ---- */

static void stream_free(struct stream *s)
{
	TAILQ_REMOVE(&s->h->streams, s, link);
	buf_free(&s->tx);
	buf_free(&s->rx);
	free(s);
}

static void got_message(void *arg, const void *p, size_t n)
{
	struct stream *s = arg;

	if (s->ops)
		s->ops->message(s->arg, p, n);
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(ng, id);

	(void)flags;
	(void)arg;
	if (!s || !s->ops || s->http != 200)
		return 0;
	if (!grpc_feed(&s->rx, p, n, got_message, s)) {
		snprintf(s->text, sizeof(s->text), s->rx.oom ? "out of memory for its answer" : "its answer is no gRPC");
		s->grpc = GRPC_LOST;
		return nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	}
	return 0;
}

/* grpc-message is percent-encoded (PROTOCOL-HTTP2.md, "Responses"). */
static void take_text(char *out, size_t cap, const uint8_t *p, size_t n)
{
	size_t o = 0;

	for (size_t i = 0; i < n && o + 1 < cap; i++) {
		char hex[3] = "", *rest = hex;
		unsigned c = p[i];

		if (c == '%' && i + 2 < n) {
			memcpy(hex, p + i + 1, 2);
			c = (unsigned)strtoul(hex, &rest, 16);
			i += 2;
		}
		out[o++] = (char)(c < 0x20 || c == 0x7f ? ' ' : c);
	}
	out[o] = '\0';
}

static bool is(const uint8_t *p, size_t n, const char *name)
{
	return n == strlen(name) && memcmp(p, name, n) == 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t nn, const uint8_t *v,
		     size_t vn, uint8_t flags, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

	(void)flags;
	(void)arg;
	if (!s)
		return 0;
	if (is(name, nn, ":status"))
		s->http = vn == 3 ? atoi((const char *)v) : 0; /* nghttp2 ends values with a NUL */
	else if (is(name, nn, "grpc-status"))
		s->grpc = vn && vn < 3 ? atoi((const char *)v) : GRPC_UNKNOWN;
	else if (is(name, nn, "grpc-message"))
		take_text(s->text, sizeof(s->text), v, vn);
	return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
	struct stream *s = nghttp2_session_get_stream_user_data(ng, id);
	int status;

	(void)arg;
	if (!s)
		return 0;
	status = s->grpc == -2 ? GRPC_LOST : s->grpc;
	if (s->grpc == -2 && s->http && s->http != 200)
		snprintf(s->text, sizeof(s->text), "HTTP status %d: is it etcd?", s->http);
	else if (s->grpc == -2)
		snprintf(s->text, sizeof(s->text), "the stream was ended: %s", nghttp2_http2_strerror(code));
	if (s->ops)
		s->ops->closed(s->arg, status, s->text);
	stream_free(s);
	return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *arg)
{
	(void)ng;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		((struct h2 *)arg)->goaway = true;
	return 0;
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *out, size_t cap, uint32_t *flags,
			 nghttp2_data_source *source, void *arg)
{
	struct stream *s = source->ptr;
	size_t n = s->tx.n - s->sent < cap ? s->tx.n - s->sent : cap;

	(void)ng;
	(void)id;
	(void)arg;
	memcpy(out, s->tx.p + s->sent, n);
	s->sent += n;
	if (s->sent == s->tx.n) {
		if (s->end)
			*flags |= NGHTTP2_DATA_FLAG_EOF;
		else if (n == 0)
			return NGHTTP2_ERR_DEFERRED; /* stays open, has nothing more to say */
	}
	return (ssize_t)n;
}

/* ---- streams ---- */

#define HEADER(n, v)                                                                                        \
	(nghttp2_nv)                                                                                        \
	{                                                                                                   \
		(uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE                  \
	}

struct stream *h2_open(struct h2 *h, const char *path, const char *token, struct buf *body, bool end,
		       const struct stream_ops *ops, void *arg)
{
	struct stream *s = calloc(1, sizeof(*s));
	nghttp2_nv nv[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", h->tls ? "https" : "http"),
		HEADER(":path", path),
		HEADER(":authority", h->authority),
		HEADER("content-type", "application/grpc"),
		HEADER("te", "trailers"),
		/* A member without a leader is to say so rather than let us wait (etcd, rpctypes/md.go). */
		HEADER("hasleader", "true"),
		HEADER("token", token ? token : ""),
	};
	nghttp2_data_provider data = { .source.ptr = s, .read_callback = read_body };
	uint8_t head[5] = { 0, (uint8_t)(body->n >> 24), (uint8_t)(body->n >> 16), (uint8_t)(body->n >> 8),
			    (uint8_t)body->n };

	if (s) {
		*s = (struct stream){ .h = h, .ops = ops, .arg = arg, .end = end, .grpc = -2 };
		buf_add(&s->tx, head, sizeof(head));
		buf_add(&s->tx, body->p, body->n);
		TAILQ_INSERT_TAIL(&h->streams, s, link);
		s->id = s->tx.oom || body->oom ? -1
					       : nghttp2_submit_request(h->ng, NULL, nv,
									sizeof(nv) / sizeof(*nv) - (token ? 0 : 1),
									&data, s);
	}
	buf_free(body);
	if (s && s->id < 0) {
		stream_free(s);
		s = NULL;
	}
	return s;
}

void h2_cancel(struct h2 *h, struct stream *s)
{
	s->ops = NULL;
	(void)nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
}

/* ---- the connection ---- */

struct h2 *h2_new(struct net *net, const char *authority, bool tls)
{
	nghttp2_settings_entry iv[] = { { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
					{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 } };
	struct h2 *h = calloc(1, sizeof(*h));
	nghttp2_session_callbacks *cb = NULL;

	if (!h || nghttp2_session_callbacks_new(&cb)) {
		free(h);
		return NULL;
	}
	h->net = net;
	h->authority = authority;
	h->tls = tls;
	TAILQ_INIT(&h->streams);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	if (nghttp2_session_client_new(&h->ng, cb, h) || nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, iv, 2) ||
	    nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)) {
		nghttp2_session_del(h->ng);
		free(h);
		h = NULL;
	}
	nghttp2_session_callbacks_del(cb);
	return h;
}

void h2_free(struct h2 *h, const char *why)
{
	struct stream *s;

	if (!h)
		return;
	while ((s = TAILQ_FIRST(&h->streams))) {
		const struct stream_ops *ops = s->ops;
		void *arg = s->arg;

		nghttp2_session_set_stream_user_data(h->ng, s->id, NULL);
		stream_free(s);
		if (ops)
			ops->closed(arg, GRPC_LOST, why);
	}
	nghttp2_session_del(h->ng);
	free(h);
}

static int protocol(struct h2 *h, ssize_t rc)
{
	fail(&h->net->why, HCI_E_PROTO, "HTTP/2: %s", nghttp2_strerror((int)rc));
	return -1;
}

int h2_flush(struct h2 *h)
{
	for (;;) {
		ssize_t n;

		if (!h->out_n) {
			n = nghttp2_session_mem_send(h->ng, &h->out);
			if (n < 0)
				return protocol(h, n);
			h->out_n = (size_t)n;
			if (!n)
				return 0;
		}
		n = net_write(h->net, h->out, h->out_n);
		if (n <= 0)
			return (int)n;
		h->out += n;
		h->out_n -= (size_t)n;
	}
}

int h2_step(struct h2 *h)
{
	int i;

	for (i = 0; i < READS_A_STEP; i++) {
		ssize_t n = net_read(h->net, h->chunk, sizeof(h->chunk)), rc;

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		rc = nghttp2_session_mem_recv(h->ng, h->chunk, (size_t)n);
		if (rc < 0)
			return protocol(h, rc);
	}
	if (h2_flush(h))
		return -1;
	if (h->goaway || (!nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng))) {
		fail(&h->net->why, HCI_E_UNAVAILABLE, "it ended the connection");
		return -1;
	}
	return i == READS_A_STEP;
}
