/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rpc/raw.h"

#include "base/crc32c.h"
#include "base/mem.h"

static void wake(struct raw *r)
{
	struct fiber *f = r->waiter;

	r->waiter = NULL;
	if (f)
		fiber_wake(r->e, f);
}

static void park(struct raw *r)
{
	r->waiter = fiber_self(r->e);
	fiber_park(r->e);
	r->waiter = NULL;
}

static void on_open(void *arg)
{
	struct raw *r = arg;

	r->open = true;
	wake(r);
}

static void on_readable(void *arg)
{
	struct raw *r = arg;
	char tmp[65536];
	int64_t n;

	while (!r->hold && (n = env_conn_recv(r->io, tmp, sizeof(tmp))) != HCI_E_AGAIN) {
		if (n <= 0) {
			r->over = true;
			break;
		}
		buf_append(&r->in, tmp, (size_t)n);
	}
	wake(r);
}

static void on_writable(void *arg)
{
	struct raw *r = arg;

	r->writable = true;
	wake(r);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct raw *r = arg;

	(void)err;
	r->over = true;
	wake(r);
}

static const struct env_conn_ops ops = { on_open, on_readable, on_writable, on_closed };

static struct raw *raw_new(struct world *w)
{
	struct raw *r = MEM_NEW(struct raw);

	r->e = w->e;
	return r;
}

struct raw *raw_connect(struct world *w, const char *addr)
{
	struct raw *r = raw_new(w);

	r->io = env_connect(w->e, addr, NULL, &ops, r, NULL);
	ck_assert_ptr_nonnull(r->io);
	while (!r->open && !r->over)
		park(r);
	ck_assert(r->open);
	return r;
}

static void on_accept(void *arg, struct env_conn *io)
{
	struct raw *r = arg;

	if (r->io) {
		env_conn_close(io, true);
		return;
	}
	r->io = io;
	r->open = true;
	env_conn_set_ops(io, &ops, r);
	wake(r);
}

struct raw *raw_listen(struct world *w)
{
	struct raw *r = raw_new(w);
	struct hci_error err;

	r->listener = env_listen(w->e, w->kind == WORLD_REAL ? "tcp:127.0.0.1:0" : "tcp:n1:0", NULL,
				 on_accept, r, &err);
	ck_assert_msg(r->listener, "%s", err.message);
	return r;
}

void raw_accept(struct raw *r)
{
	while (!r->open)
		park(r);
}

void raw_close(struct raw *r, bool abort_now)
{
	if (r->io)
		env_conn_close(r->io, abort_now);
	r->io = NULL;
	r->open = false;
	r->over = false;
	r->at = 0;
	buf_free(&r->in);
}

void raw_free(struct raw *r)
{
	raw_close(r, false);
	if (r->listener)
		env_listener_close(r->listener);
	mem_free(r);
}

void raw_hold(struct raw *r, bool hold)
{
	r->hold = hold;
	env_conn_pause(r->io, hold);
}

bool raw_send(struct raw *r, const void *p, size_t n)
{
	const char *s = p;

	while (n && !r->over) {
		struct iovec iov = { (void *)(uintptr_t)s, n };
		int64_t k;

		r->writable = false;
		k = env_conn_send(r->io, &iov, 1);
		if (k == HCI_E_AGAIN) {
			while (!r->writable && !r->over)
				park(r);
			continue;
		}
		if (k <= 0)
			return false;
		s += k;
		n -= (size_t)k;
	}
	return !r->over;
}

bool raw_send_frame(struct raw *r, const struct frame *f, const void *body, const void *payload)
{
	uint8_t hdr[FRAME_HDR];
	struct frame g = *f;

	if (body)
		g.body_crc = crc32c(0, body, g.body_len);
	rpc_frame_encode(&g, hdr);
	return raw_send(r, hdr, sizeof(hdr)) && (!body || raw_send(r, body, g.body_len)) &&
	       (!payload || raw_send(r, payload, g.payload_len));
}

bool raw_hello(struct world *w, struct raw *r, const char *node)
{
	struct frame f = { .type = FRAME_HELLO, .version = 1 };
	struct buf b = BUF_INIT;
	bool ok;

	pk_map(&b, 4);
	pk_kv_u64(&b, "min", 1);
	pk_kv_u64(&b, "max", 1);
	pk_kv_str(&b, "node", node);
	pk_kv_uuid(&b, "cluster", &w->cluster);
	f.body_len = (uint32_t)b.len;
	ok = raw_send_frame(r, &f, b.data, NULL);
	buf_free(&b);
	return ok;
}

bool raw_request(struct raw *r, uint32_t method, uint64_t id, const struct buf *body)
{
	struct frame f = { .type = FRAME_REQUEST, .version = 1, .method = method, .id = id };

	if (body)
		f.body_len = (uint32_t)body->len;
	return raw_send_frame(r, &f, body ? body->data : NULL, NULL);
}

bool raw_read(struct raw *r, void *p, size_t n)
{
	while (r->in.len - r->at < n && !r->over)
		park(r);
	if (r->in.len - r->at < n)
		return false;
	memcpy(p, r->in.data + r->at, n);
	r->at += n;
	return true;
}

bool raw_next(struct raw *r, struct frame *f, struct buf *body)
{
	uint8_t hdr[FRAME_HDR];
	struct hci_error err;
	uint8_t *data;
	size_t n;
	bool ok;

	if (!raw_read(r, hdr, sizeof(hdr)))
		return false;
	ck_assert_msg(rpc_frame_parse(hdr, f, &err) == 0, "%s", err.message);
	n = (size_t)f->body_len + f->payload_len;
	data = mem_alloc(n + 1);
	ok = raw_read(r, data, n);
	if (ok)
		ck_assert_uint_eq(crc32c(0, data, f->body_len), f->body_crc);
	if (ok && body) {
		buf_reset(body);
		buf_append(body, data, n);
	}
	mem_free(data);
	return ok;
}

bool raw_expect(struct raw *r, uint8_t type, struct frame *f, struct buf *body)
{
	while (raw_next(r, f, body))
		if (f->type == type)
			return true;
	return false;
}

void raw_expect_goodbye(struct raw *r, int code, const char *text)
{
	struct buf body = BUF_INIT;
	struct frame f;
	uint8_t c;

	ck_assert(raw_expect(r, FRAME_GOODBYE, &f, &body));
	ck_assert_int_eq(f.status, code);
	buf_append(&body, "", 1);
	ck_assert_msg(strstr((char *)body.data + 1, text) || strstr((char *)body.data + 3, text),
		      "%s", body.data + 1);
	ck_assert(!raw_read(r, &c, 1));
	buf_free(&body);
}

static uint32_t piece(unsigned i)
{
	return i % 3 ? 65536 - i * 37 % 60000 : 1 + i % 50;
}

void raw_pump(void *arg)
{
	struct raw_pump *p = arg;
	uint8_t *b = mem_alloc(65536);

	p->ok = true;
	for (unsigned i = 0; i < p->n && p->ok; i++) {
		fill(b, piece(i), p->seed + i);
		p->ok = raw_send(p->r, b, piece(i));
	}
	mem_free(b);
	p->done = true;
}

bool raw_arrives(struct raw *r, unsigned n, unsigned seed)
{
	uint8_t *b = mem_alloc(65536);
	bool ok = true;

	for (unsigned i = 0; i < n && ok; i++)
		ok = raw_read(r, b, piece(i)) && filled(b, piece(i), seed + i);
	mem_free(b);
	return ok;
}
