/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request at work: turns any byte range into whole blocks for the backend and the result into a
 * reply. Owns the steps of a request; where they run is nbd_hold.c's, when is nbd_range.c's.
 *
 * A write that is not aligned takes up to five steps: read the first block into scratch and patch
 * the edge, the same with the last, then the whole. WRITE patches its own buffer, which holds the
 * payload in place, and so writes everything at once; WRITE_ZEROES writes the patched edge blocks
 * themselves and zeroes what is between. All steps can be run again from the first.
 */
#include "base/mem.h"
#include "export/nbd_internal.h"

static struct nbd_export *export_of(struct nbd_req *r)
{
	return r->conn->export;
}

static uint64_t end_of(const struct nbd_req *r)
{
	return r->h.off + r->h.len;
}

/* ---- steps ---- */

static bool prepare_main(struct nbd_req *r)
{
	bool zero = r->h.type != NBD_CMD_WRITE && r->h.type != NBD_CMD_READ;
	uint64_t a = r->a, b = r->b;

	if (zero && r->head)
		a += HCI_BLOCK;
	if (zero && r->tail)
		b -= HCI_BLOCK;
	if (a >= b)
		return false;
	r->io.op = zero ? NBD_IO_ZERO : r->h.type == NBD_CMD_READ ? NBD_IO_READ : NBD_IO_WRITE;
	r->io.flags = r->h.type == NBD_CMD_WRITE_ZEROES && r->h.flags & NBD_CMD_NO_HOLE
			      ? NBD_IO_NOHOLE
			      : 0;
	r->io.buf = zero ? NULL : r->buf;
	r->io.off = a;
	r->io.len = b - a;
	return true;
}

/* Sets r->io up for the step; false: there is nothing to do in it. */
static bool prepare(struct nbd_req *r)
{
	bool at_head = r->step == NBD_HEAD_READ || r->step == NBD_HEAD_WRITE;
	bool write = r->step == NBD_HEAD_WRITE || r->step == NBD_TAIL_WRITE;

	if (r->step == NBD_MAIN)
		return prepare_main(r);
	if (at_head ? !r->head : !r->tail)
		return false;
	if (write && r->h.type == NBD_CMD_WRITE)
		return false;
	r->io.op = write ? NBD_IO_WRITE : NBD_IO_READ;
	r->io.flags = 0;
	r->io.buf = r->scratch;
	r->io.off = at_head ? r->a : r->b - HCI_BLOCK;
	r->io.len = HCI_BLOCK;
	return true;
}

/* The block at r->io.off was read into scratch: what lies outside the request stays, the rest is
 * new. */
static void patch(struct nbd_req *r)
{
	uint64_t at = r->io.off;
	size_t from = r->h.off > at ? r->h.off - at : 0;
	size_t to = end_of(r) < at + HCI_BLOCK ? end_of(r) - at : HCI_BLOCK;
	uint8_t *old = r->scratch;

	if (r->h.type == NBD_CMD_WRITE) {
		uint8_t *dst = (uint8_t *)r->buf + (at - r->a);

		memcpy(dst, old, from);
		memcpy(dst + to, old + to, HCI_BLOCK - to);
	} else {
		memset(old + from, 0, to - from);
	}
}

static void finish(struct nbd_req *r);

static void run(struct nbd_req *r)
{
	while (r->step < NBD_END && !prepare(r))
		r->step++;
	if (r->step == NBD_END)
		finish(r);
	else
		nbd_export_dispatch(export_of(r), r);
}

void nbd_exec_restart(struct nbd_req *r)
{
	if (r->h.type == NBD_CMD_BLOCK_STATUS || r->h.type == NBD_CMD_FLUSH) {
		nbd_export_dispatch(export_of(r), r);
		return;
	}
	r->step = r->h.type == NBD_CMD_READ ? NBD_MAIN : NBD_HEAD_READ;
	run(r);
}

void nbd_exec_io_done(struct nbd_req *r, int status)
{
	const char *why = NULL;
	int e = nbd_error_of(status, &why);

	if (nbd_conn_dead(r->conn)) {
		nbd_req_free(r);
		return;
	}
	if (e) {
		if (!nbd_export_retry(export_of(r), r, status))
			nbd_tx_error(r, e, why);
		return;
	}
	if (r->h.type == NBD_CMD_FLUSH) {
		nbd_tx_done(r);
		return;
	}
	if (r->step == NBD_HEAD_READ || r->step == NBD_TAIL_READ)
		patch(r);
	r->step++;
	run(r);
}

/* ---- the ends ---- */

static bool all_zero(const uint8_t *p, size_t len)
{
	/* The first bytes decide in nearly all blocks that hold anything. */
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static void finish_read(struct nbd_req *r)
{
	struct nbd_export *x = export_of(r);
	const uint8_t *data = (uint8_t *)r->buf + (r->h.off - r->a);

	x->stats.read_bytes += r->h.len;
	metric_add(x->m[NBD_M_READ_BYTES], r->h.len);
	if (!r->conn->neg.session.structured) {
		r->head_len = nbd_put_simple(r->reply, &r->h, 0);
	} else if (r->h.flags & NBD_CMD_DF || !all_zero(data, r->h.len)) {
		r->head_len = nbd_put_data(r->reply, &r->h);
	} else {
		r->head_len = nbd_put_hole(r->reply, &r->h);
		nbd_tx_queue(r);
		return;
	}
	r->data = data;
	r->data_len = r->h.len;
	nbd_tx_queue(r);
}

static void finish(struct nbd_req *r)
{
	struct nbd_export *x = export_of(r);

	if (r->h.type == NBD_CMD_READ) {
		finish_read(r);
		return;
	}
	if (r->h.type == NBD_CMD_WRITE) {
		x->stats.write_bytes += r->h.len;
		metric_add(x->m[NBD_M_WRITE_BYTES], r->h.len);
	}
	nbd_tx_done(r);
}

/* Cuts what came back to the request, merges neighbours, and turns it into the wire's form in
 * place. */
void nbd_exec_query_done(struct nbd_req *r, int result)
{
	const struct nbd_extent *in = r->buf;
	uint64_t at = r->a, end = end_of(r);
	uint8_t *out = r->buf;
	uint32_t n = 0, last = UINT32_MAX;
	const char *why = NULL;

	if (nbd_conn_dead(r->conn)) {
		nbd_req_free(r);
		return;
	}
	if (result <= 0) {
		if (!nbd_export_retry(export_of(r), r, result))
			nbd_tx_error(r, nbd_error_of(result ? result : HCI_E_IO, &why), why);
		return;
	}
	for (int i = 0; i < result && at < end; i++) {
		struct nbd_extent e = in[i]; /* 16 bytes in, 8 out: the writer never overtakes */
		uint64_t from = MAX(at, r->h.off), to = MIN(at + e.len, end);
		uint32_t state = e.data ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO;

		at += e.len;
		if (to <= from)
			continue;
		if (state == last) {
			nbd_put32(out + 8 * (n - 1),
				  nbd_get32(out + 8 * (n - 1)) + (uint32_t)(to - from));
			continue;
		}
		nbd_put32(out + 8 * n, (uint32_t)(to - from));
		nbd_put32(out + 8 * n + 4, state);
		last = state;
		n++;
	}
	if (r->h.flags & NBD_CMD_REQ_ONE)
		n = MIN(n, 1u);
	if (!n) {
		nbd_tx_error(r, NBD_EIO, "the volume gave no allocation map");
		return;
	}
	r->head_len = nbd_put_status(r->reply, &r->h, n);
	r->data = out;
	r->data_len = 8 * n;
	nbd_tx_queue(r);
}

/* ---- starting ---- */

static void blocks(struct nbd_req *r)
{
	r->a = ROUND_DOWN(r->h.off, HCI_BLOCK);
	r->b = ROUND_UP(end_of(r), HCI_BLOCK);
}

static void start_write(struct nbd_req *r)
{
	struct nbd_export *x = export_of(r);

	r->head = r->h.off != r->a || (end_of(r) != r->b && r->b - r->a == HCI_BLOCK);
	r->tail = end_of(r) != r->b && r->b - r->a > HCI_BLOCK;
	r->rmw = r->head || r->tail;
	if (r->rmw) {
		x->stats.rmw++;
		r->scratch = nbd_pool_get(&x->server->pool, HCI_BLOCK);
		if (!r->scratch) {
			nbd_tx_error(r, NBD_ENOMEM, "no memory for a block");
			return;
		}
	}
	if (nbd_range_enter(x, r))
		nbd_exec_restart(r);
}

/* A hint: only what gives space back is worth doing ("MAY round offset up and length down"). */
static void start_trim(struct nbd_req *r)
{
	uint64_t g = MAX(export_of(r)->backend.trim_granularity, HCI_BLOCK);
	uint64_t a = ROUND_UP(r->h.off, g), b = end_of(r);

	if (b != export_of(r)->size)
		b = ROUND_DOWN(b, g);
	if (a >= b) {
		nbd_tx_done(r);
		return;
	}
	r->a = a;
	r->b = b;
	if (nbd_range_enter(export_of(r), r))
		nbd_exec_restart(r);
}

static void start_zero(struct nbd_req *r)
{
	struct nbd_export *x = export_of(r);
	uint64_t g = MAX(x->backend.trim_granularity, HCI_BLOCK), end = end_of(r);

	/* Fast is what needs no write: holes, in whole runs. */
	if (r->h.flags & NBD_CMD_FAST_ZERO &&
	    (r->h.flags & NBD_CMD_NO_HOLE || !x->backend.fast_zero || r->h.off % g ||
	     (end % g && end != x->size))) {
		nbd_tx_error(r, NBD_ENOTSUP, "zeroing this range is no faster than writing it");
		return;
	}
	blocks(r);
	start_write(r);
}

static void start_status(struct nbd_req *r)
{
	blocks(r);
	/* REQ_ONE may lose the first run to the alignment only when runs are smaller than a block:
	 * they are not. */
	r->query.off = r->a;
	r->query.len = r->b - r->a;
	r->query.max = r->h.flags & NBD_CMD_REQ_ONE ? 1 : NBD_MAX_EXTENTS;
	r->query.out = r->buf;
	nbd_export_dispatch(export_of(r), r);
}

static void count(struct nbd_req *r)
{
	struct nbd_stats *s = &export_of(r)->stats;
	struct metric **m = export_of(r)->m;

	switch (r->h.type) {
	case NBD_CMD_READ:
		s->reads++;
		metric_add(m[NBD_M_READS], 1);
		break;
	case NBD_CMD_WRITE:
		s->writes++;
		metric_add(m[NBD_M_WRITES], 1);
		break;
	case NBD_CMD_FLUSH:
		s->flushes++;
		metric_add(m[NBD_M_FLUSHES], 1);
		break;
	case NBD_CMD_TRIM:
		s->trims++;
		metric_add(m[NBD_M_TRIMS], 1);
		break;
	case NBD_CMD_WRITE_ZEROES:
		s->zeroes++;
		metric_add(m[NBD_M_ZEROES], 1);
		break;
	case NBD_CMD_BLOCK_STATUS:
		s->queries++;
		metric_add(m[NBD_M_STATUS], 1);
		break;
	}
}

void nbd_exec_start(struct nbd_req *r)
{
	count(r);
	if (r->h.type == NBD_CMD_FLUSH) {
		r->io.op = NBD_IO_FLUSH;
		r->io.flags = 0;
		r->io.buf = NULL;
		r->io.off = r->io.len = 0;
		nbd_export_dispatch(export_of(r), r);
		return;
	}
	/* There is no cache to warm yet; and nothing to do for no bytes. */
	if (r->h.type == NBD_CMD_CACHE || !r->h.len) {
		nbd_tx_done(r);
		return;
	}
	switch (r->h.type) {
	case NBD_CMD_READ:
		blocks(r);
		nbd_exec_restart(r);
		break;
	case NBD_CMD_WRITE:
		blocks(r);
		start_write(r);
		break;
	case NBD_CMD_TRIM:
		start_trim(r);
		break;
	case NBD_CMD_WRITE_ZEROES:
		start_zero(r);
		break;
	case NBD_CMD_BLOCK_STATUS:
		start_status(r);
		break;
	}
}

/* ---- making and freeing ---- */

size_t nbd_req_bytes(const struct nbd_request *h)
{
	if (h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE)
		return h->len ? ROUND_UP(h->off + h->len, HCI_BLOCK) - ROUND_DOWN(h->off, HCI_BLOCK)
			      : 0;
	if (h->type == NBD_CMD_BLOCK_STATUS)
		return sizeof(struct nbd_extent) *
		       (h->flags & NBD_CMD_REQ_ONE ? 1 : NBD_MAX_EXTENTS);
	return 0;
}

struct nbd_req *nbd_req_new(struct nbd_conn *c, const struct nbd_request *h)
{
	struct nbd_req *r = mem_alloc(sizeof(*r));

	if (!r)
		return NULL;
	/* Not the reply's bytes and the backend's room: this runs for every request. */
	memset(r, 0, offsetof(struct nbd_req, io));
	r->head_len = r->data_len = 0;
	r->data = NULL;
	r->h = *h;
	r->conn = c;
	r->buf_size = nbd_req_bytes(h);
	list_init(&r->out);
	list_init(&r->range);
	if (r->buf_size) {
		r->buf = nbd_pool_get(&c->server->pool, r->buf_size);
		if (!r->buf) {
			mem_free(r);
			return NULL;
		}
	}
	list_push(&c->reqs, &r->link);
	c->nreqs++;
	c->bytes += r->buf_size;
	r->born = env_now(c->server->env);
	return r;
}

void nbd_req_free(struct nbd_req *r)
{
	struct nbd_conn *c = r->conn;
	struct nbd_export *x = c->export;

	if (!list_empty(&r->range))
		nbd_range_leave(x, r);
	if (r->parked)
		x->stats.parked--;
	list_del(&r->out);
	list_del(&r->link);
	nbd_pool_put(&c->server->pool, r->buf, r->buf_size);
	nbd_pool_put(&c->server->pool, r->scratch, HCI_BLOCK);
	c->nreqs--;
	c->bytes -= r->buf_size;
	mem_free(r);
	nbd_conn_req_gone(c);
}
