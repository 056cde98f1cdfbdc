/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection sends, from bytes to requests. Small things are read ahead into a stage; the
 * payload of large writes goes from the socket into the request's aligned buffer. Owns the limits:
 * past them nothing is read, so that a flood stays in the client's own socket.
 */
#include "export/nbd_internal.h"

/* Payload from which on reading ahead costs more, in copying, than the system call it saves. */
#define BIG (32u << 10)
/* Of one turn: others want to be served too. */
#define TURN (4 * MiB)

enum got { GOT_SOME, GOT_LESS, GOT_NONE };

/* Bytes into buf; GOT_LESS: the socket is empty now. */
static enum got receive(struct nbd_conn *c, void *buf, size_t len, size_t *n)
{
	int64_t k = env_conn_recv(c->conn, buf, len);

	*n = 0;
	if (k == HCI_E_AGAIN)
		return GOT_NONE;
	if (k <= 0) {
		nbd_conn_lost(c, NULL);
		return GOT_NONE;
	}
	*n = (size_t)k;
	return *n < len ? GOT_LESS : GOT_SOME;
}

/* Fills the stage up to `want` bytes; false: no more for now. */
static bool fill(struct nbd_conn *c, uint32_t want, size_t *total)
{
	size_t n;

	if (c->stage_off) {
		memmove(c->stage, c->stage + c->stage_off, c->stage_len);
		c->stage_off = 0;
	}
	receive(c, c->stage + c->stage_len, want - c->stage_len, &n);
	c->stage_len += (uint32_t)n;
	*total += n;
	return n != 0;
}

static void consume(struct nbd_conn *c, uint32_t n)
{
	c->stage_off += n;
	c->stage_len -= n;
	if (!c->stage_len)
		c->stage_off = 0;
}

/* ---- steps: true to go on, false to wait ---- */

/* Answers the request with c->error. */
static bool refuse(struct nbd_conn *c)
{
	struct nbd_request h = c->h;
	struct nbd_req *r;

	/* An answer needs no buffer. */
	h.type = NBD_CMD_FLUSH;
	r = nbd_req_new(c, &h);
	if (!r) {
		nbd_conn_kill(c, "no memory for an answer");
		return false;
	}
	r->h = c->h;
	c->rx = NBD_RX_HEAD;
	nbd_tx_error(r, c->error, c->why);
	return true;
}

static bool step_head(struct nbd_conn *c)
{
	c->why = NULL;
	if (!nbd_request_parse(c->stage + c->stage_off, &c->h)) {
		nbd_conn_kill(c, "wrong request magic");
		return false;
	}
	consume(c, NBD_REQUEST_SIZE);
	c->error = nbd_request_check(&c->h, &c->neg.session, &c->why);
	if (c->error == NBD_FATAL) {
		nbd_conn_kill(c, c->why);
		return false;
	}
	if (c->h.type == NBD_CMD_DISC) {
		c->export->stats.cut = false;
		nbd_conn_finish(c);
		return false;
	}
	c->rx_done = 0;
	c->rx = c->error && c->h.type == NBD_CMD_WRITE ? NBD_RX_SKIP : NBD_RX_ROOM;
	return true;
}

static bool has_room(const struct nbd_conn *c, size_t bytes)
{
	const struct nbd_server_opts *o = &c->server->o;

	return c->nreqs < o->max_requests && (!c->bytes || c->bytes + bytes <= o->max_bytes);
}

static bool step_room(struct nbd_conn *c)
{
	struct nbd_req *r;

	if (!has_room(c, c->error ? 0 : nbd_req_bytes(&c->h))) {
		c->paused = true;
		env_conn_pause(c->conn, true);
		return false;
	}
	if (c->error)
		return refuse(c);
	r = nbd_req_new(c, &c->h);
	if (!r) {
		c->error = NBD_ENOMEM;
		c->why = "no memory for the request";
		if (c->h.type == NBD_CMD_WRITE)
			c->rx = NBD_RX_SKIP;
		return true;
	}
	c->big = c->h.type == NBD_CMD_WRITE && c->h.len >= BIG;
	if (c->h.type == NBD_CMD_WRITE && c->h.len) {
		c->cur = r;
		c->rx = NBD_RX_DATA;
		return true;
	}
	c->rx = NBD_RX_HEAD;
	nbd_exec_start(r);
	return true;
}

static bool step_data(struct nbd_conn *c, size_t *total)
{
	struct nbd_req *r = c->cur;
	uint8_t *dst = (uint8_t *)r->buf + r->h.off % HCI_BLOCK + c->rx_done;
	size_t left = r->h.len - c->rx_done, n = MIN(left, (size_t)c->stage_len);

	if (n) {
		memcpy(dst, c->stage + c->stage_off, n);
		consume(c, (uint32_t)n);
	} else if (left >= BIG || c->big) {
		receive(c, dst, left, &n);
		*total += n;
		if (!n)
			return false;
	} else {
		return fill(c, NBD_STAGE, total);
	}
	c->rx_done += (uint32_t)n;
	if (c->rx_done == r->h.len) {
		c->cur = NULL;
		c->rx = NBD_RX_HEAD;
		nbd_exec_start(r);
	}
	return true;
}

static bool step_skip(struct nbd_conn *c, size_t *total)
{
	uint32_t n = MIN(c->h.len - c->rx_done, c->stage_len);

	c->rx_done += n;
	consume(c, n);
	if (c->rx_done < c->h.len)
		return fill(c, NBD_STAGE, total);
	c->rx = NBD_RX_ROOM;
	return true;
}

static bool step(struct nbd_conn *c, size_t *total)
{
	switch (c->rx) {
	case NBD_RX_NEG:
		return c->stage_len ? nbd_conn_negotiate(c) : fill(c, NBD_STAGE, total);
	case NBD_RX_HEAD:
		if (c->stage_len >= NBD_REQUEST_SIZE)
			return step_head(c);
		return fill(c, c->big ? NBD_REQUEST_SIZE : NBD_STAGE, total);
	case NBD_RX_ROOM:
		return step_room(c);
	case NBD_RX_DATA:
		return step_data(c, total);
	case NBD_RX_SKIP:
		return step_skip(c, total);
	case NBD_RX_TLS:
	case NBD_RX_STOP:
		break;
	}
	return false;
}

void nbd_rx_pump(struct nbd_conn *c)
{
	size_t total = 0;

	while (!nbd_conn_dead(c) && !c->paused) {
		if (!step(c, &total))
			return;
		if (total > TURN) {
			/* Bytes of the stage do not make the socket readable: come back by
			 * ourselves. */
			if (!nbd_conn_dead(c))
				env_defer(c->server->env, &c->pump);
			return;
		}
	}
}
