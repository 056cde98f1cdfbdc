/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, writes and region lists over rpc. The payload of a write is handed to the disk as it came
 * in, that of a read is filled by the disk and sent as it is: no copy here.
 */
#include "base/mem.h"
#include "replica/service.h"

struct svc_io {
	struct list link;
	struct lane_item item;
	struct repl_op op;
	struct repl_service *s;
	struct handle *h;
	struct rpc_req *req;
	void *buf; /* of a read */
	uint32_t sums[REPL_IO_MAX / HCI_BLOCK];
};

struct lent {
	struct repl_service *s;
	void *buf;
	uint32_t len;
};

const char *svc_explain(int status)
{
	switch (status) {
	case HCI_E_FENCED:
		return "a newer writer of the volume was admitted here";
	case HCI_E_CLOSED:
		return "the handle was replaced by a later opening, or its slot or the segment was dropped";
	case HCI_E_IO:
		return "the disk failed";
	case HCI_E_NOSPACE:
		return "the disk is full";
	case HCI_E_RANGE:
		return "past the end of the segment, or longer than 1 MiB";
	case HCI_E_ALIGN:
		return "not a multiple of 4096 bytes";
	case HCI_E_CORRUPT:
		return "the data do not have the checksums that came with them";
	case HCI_E_READONLY:
		return "the handle was opened for reading";
	default:
		return NULL;
	}
}

void svc_io_fini(struct repl_service *s)
{
	struct list *l;

	while ((l = list_pop(&s->free_ios)))
		mem_free(list_entry(l, struct svc_io, link));
}

/* The io itself is what a reply's payload is released with: it lives until that was sent. */
static void io_free(void *arg)
{
	struct svc_io *io = arg;
	struct repl_service *s = io->s;

	if (io->buf)
		rpc_buf_free(s->rpc, io->buf, (uint32_t)io->op.len);
	io->buf = NULL;
	list_push_front(&s->free_ios, &io->link);
	svc_end(s);
}

static void reply_data(struct svc_io *io)
{
	uint32_t len = (uint32_t)io->op.len;
	struct buf b = BUF_INIT;

	pk_array(&b, 1);
	pk_bin(&b, io->sums, len / HCI_BLOCK * sizeof(io->sums[0]));
	if (b.failed) {
		svc_reply(io->req, HCI_E_NOMEM, "out of memory for a reply");
		io_free(io);
	} else {
		rpc_reply(io->req, 0, NULL, &b, io->buf, len, io_free, io);
	}
	buf_free(&b);
}

static void op_done(struct repl_op *op)
{
	struct svc_io *io = container_of(op, struct svc_io, op);

	lane_end(&io->item);
	svc_handle_put(io->h);
	/* What is damaged goes out as well: it is the other end that compares, and finds which blocks. */
	if (op->kind == REPL_READ && (op->status == 0 || op->status == HCI_E_CORRUPT)) {
		reply_data(io);
		return;
	}
	rpc_reply(io->req, op->status, svc_explain(op->status), NULL, NULL, 0, NULL, NULL);
	io_free(io);
}

static struct svc_io *io_new(struct repl_service *s, struct handle *h, struct rpc_req *req,
			     enum repl_op_kind kind)
{
	struct list *l = list_pop(&s->free_ios);
	struct svc_io *io = l ? list_entry(l, struct svc_io, link) : mem_alloc(sizeof(*io));

	if (!io)
		return NULL;
	list_init(&io->link);
	io->s = s;
	io->h = h;
	io->req = req;
	io->buf = NULL;
	io->op.kind = kind;
	io->op.flags = 0;
	io->op.slot = h->slot;
	io->op.seq = io->op.stable = 0;
	io->op.buf = NULL;
	io->op.sums = NULL;
	io->op.done = op_done;
	return io;
}

static void io_go(struct lane_item *x)
{
	repl_submit(&container_of(x, struct svc_io, item)->op);
}

static void io_refuse(struct lane_item *x)
{
	struct svc_io *io = container_of(x, struct svc_io, item);

	svc_handle_put(io->h);
	svc_reply(io->req, HCI_E_NOTFOUND, "the disk was taken out of service");
	io_free(io);
}

static void io_submit(struct svc_io *io, enum lane_class c)
{
	io->s->open++;
	io->h->ops++;
	io->item.class_ = c;
	io->item.go = io_go;
	io->item.refuse = io_refuse;
	lane_submit(io->h->lane, &io->item);
}

/* Its number, or of LEND the token of one of another connection. */
static struct handle *take_handle(struct repl_service *s, struct rpc_req *req)
{
	const void *token;
	uint32_t n;

	if (req->method != REPL_RPC_LEND)
		return svc_handle(req->conn, rd_u64(&req->args));
	token = rd_bin(&req->args, &n);
	return req->args.bad ? NULL : svc_lent(s, token, n);
}

/* [handle, segment, off, len, ...]: NULL when it was answered already. */
static struct svc_io *begin(struct repl_service *s, struct rpc_req *req, enum repl_op_kind kind, uint32_t fields)
{
	struct rd *r = &req->args;
	bool bad = rd_array(r) < fields;
	struct handle *h = take_handle(s, req);
	uint32_t segment = rd_u32(r);
	uint64_t off = rd_u64(r), len = rd_u64(r);
	struct svc_io *io;

	if (bad || r->bad) {
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return NULL;
	}
	if (!h) {
		svc_reply(req, HCI_E_NOTFOUND,
			  "no such handle on this connection: open the slot first");
		return NULL;
	}
	if (kind != REPL_ZERO && (len == 0 || len > REPL_IO_MAX)) {
		svc_reply(req, HCI_E_RANGE, "the length is not 1 byte to 1 MiB");
		return NULL;
	}
	io = io_new(s, h, req, kind);
	if (!io) {
		svc_reply(req, HCI_E_NOMEM, "out of memory for a request");
		return NULL;
	}
	io->op.segment = segment;
	io->op.off = off;
	io->op.len = len;
	return io;
}

static void give_up(struct svc_io *io, int status, const char *message)
{
	svc_reply(io->req, status, message);
	list_push_front(&io->s->free_ios, &io->link);
}

enum lane_class svc_class(uint32_t *flags)
{
	uint32_t c = (*flags & REPL_F_CLASS) >> REPL_F_CLASS_SHIFT;

	*flags &= ~REPL_F_CLASS;
	return c < LANE_CLASSES ? (enum lane_class)c : LANE_CLASSES;
}

void svc_read(void *arg, struct rpc_req *req)
{
	struct repl_service *s = arg;
	struct svc_io *io = begin(s, req, REPL_READ, 5);
	enum lane_class c;

	if (!io)
		return;
	io->op.flags = rd_u32(&req->args);
	c = svc_class(&io->op.flags);
	if (req->args.bad || io->op.flags & ~REPL_F_VERIFY || c == LANE_CLASSES) {
		give_up(io, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	if (req->method == REPL_RPC_LEND)
		io->op.flags |= REPL_F_LENT;
	io->op.sums = io->sums;
	io->buf = io->op.buf = rpc_buf_alloc(s->rpc, (uint32_t)io->op.len);
	if (!io->buf)
		give_up(io, HCI_E_NOMEM, "out of memory for a read");
	else
		io_submit(io, c);
}

/* The writer's sums, one for each block; not aligned where they are. */
static bool take_sums(struct svc_io *io, struct rd *r)
{
	uint32_t len;
	const void *p = rd_bin(r, &len);

	if (r->bad || len != io->op.len / HCI_BLOCK * sizeof(io->sums[0]))
		return false;
	memcpy(io->sums, p, len);
	io->op.sums = io->sums;
	return true;
}

static void change(struct repl_service *s, struct rpc_req *req, enum repl_op_kind kind)
{
	struct rd *r = &req->args;
	uint32_t flags = kind == REPL_WRITE ? REPL_F_SETSEQ | REPL_F_ASIS : REPL_F_SETSEQ;
	struct svc_io *io = begin(s, req, kind, kind == REPL_WRITE ? 8 : 7);
	enum lane_class c;
	bool bad;

	if (!io)
		return;
	io->op.seq = rd_u64(r);
	io->op.stable = rd_u64(r);
	io->op.flags = rd_u32(r);
	io->op.buf = req->payload;
	c = svc_class(&io->op.flags);
	/* What is not a copy keeps its place among the writes. */
	bad = r->bad || io->op.flags & ~flags || c == LANE_CLASSES || (c && !(io->op.flags & REPL_F_SETSEQ));
	if (!bad && kind == REPL_WRITE)
		bad = !take_sums(io, r);
	if (bad)
		give_up(io, HCI_E_PROTO, "the body is not what the method takes");
	else if (kind == REPL_WRITE && req->payload_len != io->op.len)
		give_up(io, HCI_E_PROTO, "the payload is not as long as the body says");
	else
		io_submit(io, c);
}

void svc_write(void *arg, struct rpc_req *req)
{
	change(arg, req, REPL_WRITE);
}

void svc_zero(void *arg, struct rpc_req *req)
{
	change(arg, req, REPL_ZERO);
}

void svc_stable(void *arg, struct rpc_req *req)
{
	struct repl_service *s = arg;
	struct rd *r = &req->args;
	bool bad = rd_array(r) < 2;
	struct handle *h = svc_handle(req->conn, rd_u64(r));
	uint64_t stable = rd_u64(r);
	struct svc_io *io;

	if (bad || r->bad) {
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	io = h ? io_new(s, h, req, REPL_STABLE) : NULL;
	if (!io) {
		svc_reply(req, h ? HCI_E_NOMEM : HCI_E_NOTFOUND,
			  "no such handle, or out of memory");
		return;
	}
	io->op.segment = 0;
	io->op.off = io->op.len = 0;
	io->op.stable = stable;
	io_submit(io, LANE_USER);
}

/* ---- regions ---- */

#define ENTRY 16u

static void lent_free(void *arg)
{
	struct lent *x = arg;
	struct repl_service *s = x->s;

	rpc_buf_free(s->rpc, x->buf, x->len);
	mem_free(x);
	svc_end(s);
}

/* Each entry is struct repl_region as it lies in memory of a little-endian machine. */
_Static_assert(sizeof(struct repl_region) == ENTRY && offsetof(struct repl_region, region) == 4 &&
		       offsetof(struct repl_region, seq) == 8,
	       "on the wire");

static void send_regions(struct repl_service *s, struct rpc_req *req, struct lent *x, uint32_t n,
			 uint32_t max)
{
	struct buf b = BUF_INIT;

	pk_array(&b, 2);
	pk_u64(&b, n);
	pk_bool(&b, n == max);
	s->open++;
	rpc_reply(req, b.failed ? HCI_E_NOMEM : 0, NULL, b.failed ? NULL : &b, x->buf,
		  b.failed ? 0 : n * ENTRY, lent_free, x);
	buf_free(&b);
}

void svc_regions(void *arg, struct rpc_req *req)
{
	struct repl_service *s = arg;
	struct rd *r = &req->args;
	bool bad = rd_array(r) < 7;
	struct handle *h = svc_handle(req->conn, rd_u64(r));
	uint64_t since = rd_u64(r);
	uint32_t only = rd_u32(r), max;
	struct repl_region cursor = { 0 };
	struct lent *x;

	cursor.segment = rd_u32(r);
	cursor.region = rd_u32(r);
	cursor.seq = rd_u64(r);
	max = rd_u32(r);
	max = MIN(max, REGIONS_MAX);
	if (bad || r->bad || max == 0) {
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	if (!h) {
		svc_reply(req, HCI_E_NOTFOUND,
			  "no such handle on this connection: open the slot first");
		return;
	}
	x = MEM_NEW(struct lent);
	if (x) {
		x->s = s;
		x->len = max * ENTRY;
		x->buf = rpc_buf_alloc(s->rpc, x->len);
	}
	if (!x || !x->buf) {
		mem_free(x);
		svc_reply(req, HCI_E_NOMEM, "out of memory for a list of regions");
		return;
	}
	send_regions(s, req, x, repl_regions(h->slot, since, only, &cursor, x->buf, max), max);
}

/* In the body: there are few, if any. */
void svc_rotten(void *arg, struct rpc_req *req)
{
	struct repl_region *r = mem_alloc(ROTTEN_MAX * sizeof(*r));
	bool bad = rd_array(&req->args) < 1;
	struct handle *h = svc_handle(req->conn, rd_u64(&req->args));
	struct buf b = BUF_INIT;
	uint32_t n;

	(void)arg;
	if (bad || req->args.bad || !h || !r) {
		svc_reply(req, bad || req->args.bad ? HCI_E_PROTO : !h ? HCI_E_NOTFOUND : HCI_E_NOMEM,
			  "no such handle on this connection, or out of memory");
		mem_free(r);
		return;
	}
	n = repl_rotten(h->slot, r, ROTTEN_MAX);
	pk_array(&b, 2 * n);
	for (uint32_t i = 0; i < n; i++) {
		pk_u64(&b, r[i].segment);
		pk_u64(&b, r[i].region);
	}
	rpc_reply(req, b.failed ? HCI_E_NOMEM : 0, NULL, b.failed ? NULL : &b, NULL, 0, NULL, NULL);
	buf_free(&b);
	mem_free(r);
}
