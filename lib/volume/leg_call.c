/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a leg: a piece's, a copy's, lists of regions, and things to say that nobody waits for. */
#include "volume/volume_impl.h"

#include "base/mem.h"

static void op_done(struct rpc_call *call)
{
	io_op_done(container_of(call, struct leg_op, call));
}

static void pack_io(struct buf *b, const struct leg *l, uint32_t segment, uint64_t off, uint64_t len)
{
	pk_u64(b, l->handle);
	pk_u64(b, segment);
	pk_u64(b, off);
	pk_u64(b, len);
}

static void pack_seq(struct buf *b, uint64_t seq, uint64_t stable, uint64_t flags)
{
	pk_u64(b, seq);
	pk_u64(b, stable);
	pk_u64(b, flags);
}

static struct leg_op *op_new(struct leg *l, struct piece *p, uint8_t pos)
{
	struct vol *v = l->v;
	struct list *n = list_pop(&v->free_ops);
	struct leg_op *op = n ? list_entry(n, struct leg_op, link) : mem_alloc(sizeof(*op));

	if (!op)
		return NULL;
	memset(&op->call, 0, sizeof(op->call));
	list_init(&op->link);
	op->leg = l;
	op->piece = p;
	op->pos = pos;
	op->round = p->round;
	op->seq = p->seq;
	op->call.done = op_done;
	op->call.timeout_ns = v->rec.write_timeout_ns;
	return op;
}

static bool op_submit(struct leg_op *op)
{
	struct leg *l = op->leg;

	if (op->call.body.failed) {
		rpc_call_free(&op->call);
		list_push(&l->v->free_ops, &op->link);
		return false;
	}
	op->piece->open_ops++;
	l->nops++;
	l->load->ops++;
	list_push(&l->ops, &op->link);
	rpc_submit(l->conn, &op->call);
	return true;
}

struct leg_op *leg_send_read(struct leg *l, struct piece *p, uint8_t pos, void *into)
{
	struct leg_op *op = op_new(l, p, pos);

	if (!op)
		return NULL;
	op->sent_at = env_now(l->v->e);
	op->call.method = REPL_RPC_READ;
	op->call.reply_buf = into;
	op->call.reply_cap = (uint32_t)p->len;
	pk_array(&op->call.body, 5);
	pack_io(&op->call.body, l, p->segment, p->off, p->len);
	pk_u64(&op->call.body, 0);
	return op_submit(op) ? op : NULL;
}

bool leg_send(struct leg *l, struct piece *p, uint8_t pos)
{
	struct vol *v = l->v;
	struct leg_op *op = op_new(l, p, pos);
	struct buf *b;

	if (!op)
		return false;
	b = &op->call.body;
	pk_array(b, p->op == VOL_WRITE ? 8 : 7);
	pack_io(b, l, p->segment, p->off, p->len);
	v->stable_told = io_stable(v);
	/* One that is out does not hold all that is stable: settle.c. */
	pack_seq(b, p->seq, l->out ? 0 : v->stable_told, 0);
	l->stable_told = v->stable_told;
	op->call.method = p->op == VOL_WRITE ? REPL_RPC_WRITE : REPL_RPC_ZERO;
	if (p->op == VOL_WRITE) {
		pk_bin(b, p->sums, (size_t)(p->len / HCI_BLOCK) * sizeof(p->sums[0]));
		op->call.payload = p->buf;
		op->call.payload_len = (uint32_t)p->len;
	}
	return op_submit(op);
}

/* One request from a fiber; the leg may go down meanwhile. */
static int leg_call(struct leg *l, struct rpc_call *c)
{
	struct vol *v = l->v;
	struct rpc_conn *conn;
	int status;

	if (l->state != LEG_UP || c->body.failed)
		return c->body.failed ? HCI_E_NOMEM : HCI_E_UNAVAILABLE;
	if (!c->timeout_ns)
		c->timeout_ns = v->rec.write_timeout_ns;
	conn = rpc_conn_ref(l->conn);
	status = rpc_call_wait(conn, c);
	rpc_conn_unref(conn);
	return status;
}

bool leg_reply_sums(const struct rpc_call *c, uint64_t len, uint32_t *sums)
{
	struct rd r = c->reply;
	uint32_t n = 0;
	const void *p = rd_array(&r) ? rd_bin(&r, &n) : NULL;

	if (!p || r.bad || n != len / HCI_BLOCK * sizeof(sums[0]))
		return false;
	memcpy(sums, p, n);
	return true;
}

int leg_read(struct leg *l, uint32_t segment, uint64_t off, void *buf, uint32_t len, uint32_t flags, uint32_t *sums)
{
	struct rpc_call c = { .method = REPL_RPC_READ, .reply_buf = buf, .reply_cap = len };
	int status;

	pk_array(&c.body, 5);
	pack_io(&c.body, l, segment, off, len);
	pk_u64(&c.body, flags);
	l->v->segs[segment].users++;
	status = leg_call(l, &c);
	l->v->segs[segment].users--;
	if (!status && (c.reply_payload_len != len || !leg_reply_sums(&c, len, sums)))
		status = HCI_E_PROTO;
	rpc_call_free(&c);
	return status;
}

int leg_copy_in(struct leg *l, uint32_t segment, uint64_t off, const void *buf, uint32_t len, uint64_t seq,
		uint32_t flags, const uint32_t *sums)
{
	struct rpc_call c = { .method = buf ? REPL_RPC_WRITE : REPL_RPC_ZERO, .payload = buf };
	int status;

	c.payload_len = buf ? len : 0;
	pk_array(&c.body, buf ? 8 : 7);
	pack_io(&c.body, l, segment, off, len);
	pack_seq(&c.body, seq, 0, buf ? flags : flags & (REPL_F_SETSEQ | REPL_F_CLASS));
	if (buf)
		pk_bin(&c.body, sums, len / HCI_BLOCK * sizeof(sums[0]));
	l->v->segs[segment].users++;
	status = leg_call(l, &c);
	l->v->segs[segment].users--;
	/*
	 * Unknown whether it took effect, or will. It may have waited behind others there, so what we write next could
	 * come before it: the replica is opened anew, which makes it void.
	 */
	if (status == HCI_E_TIMEOUT || status == HCI_E_CANCELLED)
		leg_fail(l, status, "no answer to a copy");
	rpc_call_free(&c);
	return status;
}

int leg_pull(struct leg *l, struct leg *from, uint32_t segment, uint64_t off, uint32_t len, uint64_t seq, uint32_t flags)
{
	struct rpc_call c = { .method = REPL_RPC_PULL };
	struct vol *v = l->v;
	int status;

	pk_array(&c.body, 9);
	pack_io(&c.body, l, segment, off, len);
	pk_u64(&c.body, seq);
	pk_u64(&c.body, flags);
	/* A source that is slow for users is asked by us again; less than our own patience with the target. */
	pk_u64(&c.body, MAX(MIN(v->read_timeout, v->rec.write_timeout_ns / 2) / NS_PER_MS, 1u));
	pk_str(&c.body, from->node);
	pk_bin(&c.body, from->token, sizeof(from->token));
	if (vol_mutated(v->x, VOL_MUTATE_PULL_LATE))
		c.timeout_ns = 5 * NS_PER_MS;
	v->segs[segment].users++;
	status = leg_call(l, &c);
	v->segs[segment].users--;
	if ((status == HCI_E_TIMEOUT || status == HCI_E_CANCELLED) && !vol_mutated(v->x, VOL_MUTATE_PULL_LATE))
		leg_fail(l, status, "no answer to a copy"); /* as above */
	rpc_call_free(&c);
	return status;
}

/* Little-endian, as all of the wire format. */
static uint64_t get_le(const uint8_t *p, unsigned n)
{
	uint64_t x = 0;

	while (n--)
		x = x << 8 | p[n];
	return x;
}

#define REGIONS_PAGE 16384u

static bool comes_after(const struct repl_region *x, const struct repl_region *y)
{
	return x->segment != y->segment ? x->segment > y->segment : x->region > y->region;
}

int leg_regions(struct leg *l, uint64_t since, uint32_t segment, struct repl_region **out, size_t *n)
{
	struct repl_region cur = { 0 }, *a = NULL, *bigger;
	size_t have = 0;
	bool more = true;
	int status = 0;

	if (segment < l->v->nsegs)
		l->v->segs[segment].users++;
	while (more && !status) {
		struct rpc_call c = { .method = REPL_RPC_REGIONS, .reply_cap = REGIONS_PAGE * 16 };
		uint64_t count = 0;

		pk_array(&c.body, 7);
		pk_u64(&c.body, l->handle);
		pk_u64(&c.body, since);
		pk_u64(&c.body, segment);
		pk_u64(&c.body, cur.segment);
		pk_u64(&c.body, cur.region);
		pk_u64(&c.body, cur.seq);
		pk_u64(&c.body, REGIONS_PAGE);
		status = leg_call(l, &c);
		if (!status) {
			struct rd r = c.reply;

			if (rd_array(&r) < 2)
				r.bad = true;
			count = rd_u64(&r);
			more = rd_bool(&r);
			if (r.bad || c.reply_payload_len % 16 || count != c.reply_payload_len / 16 || (more && !count))
				status = HCI_E_PROTO;
		}
		if (!status && count) {
			bigger = mem_realloc(a, (have + count) * sizeof(*a));
			if (!bigger)
				status = HCI_E_NOMEM;
			else
				a = bigger;
		}
		for (uint64_t i = 0; !status && i < count; i++) {
			const uint8_t *q = (const uint8_t *)c.reply_payload + i * 16;

			a[have].segment = (uint32_t)get_le(q, 4);
			a[have].region = (uint32_t)get_le(q + 4, 4);
			a[have].seq = get_le(q + 8, 8);
			/* Ascending: so it ends, and can be searched. */
			if ((segment != UINT32_MAX && a[have].segment != segment) || (have && !comes_after(&a[have], &cur)) ||
			    a[have].segment >= l->v->nsegs ||
			    a[have].region >= l->v->rec.segment_size / REPL_REGION)
				status = HCI_E_PROTO;
			cur = a[have++];
		}
		rpc_call_free(&c);
	}
	if (segment < l->v->nsegs)
		l->v->segs[segment].users--;
	if (status) {
		mem_free(a);
		return status;
	}
	*out = a;
	*n = have;
	return 0;
}

#define ROTTEN_PAGE 512u
#define ROTTEN_PAGES 16u /* twice what a disk remembers */

/* One reply's worth; *n: how many. */
static int ask_rotten(struct leg *l, uint32_t *n)
{
	struct vol *v = l->v;
	struct rpc_call c = { .method = REPL_RPC_ROTTEN };
	struct rd r;
	int status;

	pk_array(&c.body, 1);
	pk_u64(&c.body, l->handle);
	status = leg_call(l, &c);
	r = c.reply;
	*n = status ? 0 : rd_array(&r) / 2;
	if (!status && (r.bad || *n > ROTTEN_PAGE))
		status = HCI_E_PROTO;
	for (uint32_t i = 0; !status && i < *n; i++) {
		uint32_t segment = rd_u32(&r), region = rd_u32(&r);

		if (r.bad)
			status = HCI_E_PROTO;
		else if (segment < v->nsegs && region < v->rec.segment_size / REPL_REGION)
			mend_queue(v, segment, region, l); /* beyond the volume nobody reads it */
	}
	rpc_call_free(&c);
	return status;
}

int leg_rotten(struct leg *l)
{
	for (unsigned page = 0; page < ROTTEN_PAGES; page++) {
		uint32_t n;
		int status;

		/* What it tells it forgets: no more than there is room to remember. */
		if (!mend_has_room(l->v, ROTTEN_PAGE))
			return HCI_E_AGAIN;
		status = ask_rotten(l, &n);
		if (status || n < ROTTEN_PAGE)
			return status;
	}
	return HCI_E_AGAIN;
}

/* ---- things to say that nobody waits for ---- */

int leg_next_segment(struct leg *l, uint32_t *segment)
{
	struct rpc_call c = { .method = REPL_RPC_REGIONS, .reply_cap = 16 };
	uint64_t count = 0;
	int status;

	/* One entry, after the last region of the segment before. */
	pk_array(&c.body, 7);
	pk_u64(&c.body, l->handle);
	pk_u64(&c.body, 0);
	pk_u64(&c.body, UINT32_MAX);
	pk_u64(&c.body, *segment ? *segment - 1 : 0);
	pk_u64(&c.body, *segment ? UINT32_MAX - 1 : 0);
	pk_u64(&c.body, *segment != 0);
	pk_u64(&c.body, 1);
	status = leg_call(l, &c);
	if (!status) {
		struct rd r = c.reply;

		if (rd_array(&r) < 2)
			r.bad = true;
		count = rd_u64(&r);
		if (r.bad || count > 1 || count * 16 != c.reply_payload_len)
			status = HCI_E_PROTO;
	}
	if (!status && !count)
		status = HCI_E_NOTFOUND;
	if (!status) {
		uint32_t found = (uint32_t)get_le(c.reply_payload, 4);

		if (found < *segment)
			status = HCI_E_PROTO;
		*segment = found;
	}
	rpc_call_free(&c);
	return status;
}

static void tell_done(struct rpc_call *c)
{
	rpc_call_free(c);
	mem_free(c);
}

static void leg_tell(struct leg *l, uint32_t method, unsigned nargs, uint64_t arg)
{
	struct rpc_call *c = MEM_NEW(struct rpc_call);

	if (!c)
		return; /* untold costs the other side a longer settling, or a handle until the connection ends */
	c->method = method;
	c->done = tell_done;
	c->timeout_ns = 2 * NS_PER_S;
	pk_array(&c->body, nargs);
	pk_u64(&c->body, l->handle);
	if (nargs > 1)
		pk_u64(&c->body, arg);
	rpc_submit(l->conn, c);
}

void leg_tell_stable(struct leg *l, uint64_t stable)
{
	l->stable_told = stable;
	leg_tell(l, REPL_RPC_STABLE, 2, stable);
}

void leg_tell_close(struct leg *l)
{
	leg_tell(l, REPL_RPC_CLOSE, 1, 0);
}
