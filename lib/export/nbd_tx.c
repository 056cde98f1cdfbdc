/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies on their way out. Owns the order of what is sent and where sending stopped; payload goes
 * out of the request's own buffer. Many replies of one turn of the loop leave in one call.
 */
#include "export/nbd_internal.h"

#define BATCH 64

void nbd_tx_queue(struct nbd_req *r)
{
	struct nbd_conn *c = r->conn;
	struct nbd_export *x = c->export;

	x->stats.requests++;
	if (x->m[NBD_M_LATENCY])
		metric_observe_ns(x->m[NBD_M_LATENCY], env_now(c->server->env) - r->born);
	/* It was parked or waiting if it fails for the export's end: r->out is free again here. */
	if (r->parked) {
		r->parked = false;
		x->stats.parked--;
		list_del(&r->out);
	}
	if (!list_empty(&r->range))
		nbd_range_leave(x, r);
	list_push(&c->out, &r->out);
	if (!c->want_write)
		env_defer(c->server->env, &c->flush);
}

void nbd_tx_done(struct nbd_req *r)
{
	if (r->h.type == NBD_CMD_READ && r->conn->neg.session.structured)
		r->head_len = nbd_put_none(r->reply, &r->h);
	else
		r->head_len = nbd_put_simple(r->reply, &r->h, 0);
	r->data = NULL;
	r->data_len = 0;
	nbd_tx_queue(r);
}

void nbd_tx_error(struct nbd_req *r, int nbd_errno, const char *why)
{
	struct nbd_export *x = r->conn->export;

	x->stats.errors++;
	metric_add(x->m[NBD_M_ERRORS], 1);
	if (r->conn->neg.session.structured)
		r->head_len = nbd_put_error(r->reply, &r->h, (uint32_t)nbd_errno, why);
	else
		r->head_len = nbd_put_simple(r->reply, &r->h, (uint32_t)nbd_errno);
	r->data = NULL;
	r->data_len = 0;
	nbd_tx_queue(r);
}

/* Adds the part of p[0, len) that lies behind *skip bytes. */
static int gather(struct iovec *iov, int n, const void *p, size_t len, size_t *skip)
{
	size_t k = MIN(*skip, len);

	*skip -= k;
	if (len == k)
		return n;
	iov[n].iov_base = (uint8_t *)p + k;
	iov[n].iov_len = len - k;
	return n + 1;
}

/* False: the connection is dead or takes no more now. */
static bool send_some(struct nbd_conn *c, const struct iovec *iov, int n, size_t *sent)
{
	int64_t k = env_conn_send(c->conn, iov, n);

	if (k == HCI_E_AGAIN) {
		c->want_write = true;
		return false;
	}
	if (k < 0) {
		nbd_conn_kill(c, NULL);
		return false;
	}
	*sent = (size_t)k;
	return true;
}

static bool flush_raw(struct nbd_conn *c)
{
	while (c->raw_off < c->raw.len) {
		struct iovec iov = { c->raw.data + c->raw_off, c->raw.len - c->raw_off };
		size_t sent;

		if (!send_some(c, &iov, 1, &sent))
			return false;
		c->raw_off += sent;
	}
	c->raw_off = 0;
	buf_reset(&c->raw);
	return true;
}

static bool flush_replies(struct nbd_conn *c)
{
	struct iovec iov[2 * BATCH];
	size_t skip = c->out_off, sent;
	struct nbd_req *r;
	int n = 0;

	list_for_each(r, &c->out, out) {
		if (n > 2 * BATCH - 2)
			break;
		n = gather(iov, n, r->reply, r->head_len, &skip);
		n = gather(iov, n, r->data, r->data_len, &skip);
	}
	if (!send_some(c, iov, n, &sent))
		return false;
	c->out_off += sent;
	while (!list_empty(&c->out)) {
		r = list_first(&c->out, struct nbd_req, out);
		if (c->out_off < r->head_len + r->data_len)
			break;
		c->out_off -= r->head_len + r->data_len;
		nbd_req_free(r);
		if (nbd_conn_dead(c))
			return false;
	}
	return true;
}

void nbd_tx_flush(struct nbd_conn *c)
{
	c->want_write = false;
	if (nbd_conn_dead(c) || !flush_raw(c))
		return;
	while (!list_empty(&c->out))
		if (!flush_replies(c))
			return;
}
