/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies that the target fetches by itself (PULL): the writer names the range, the source's node and its own opening
 * there, and holds the lock on the range until we answer; the data come from the source's node to ours (LEND) and never
 * pass the writer.
 *
 * Why this is as safe as a copy through the writer: the source lends what a READ of the writer's own opening would
 * give: once a newer writer was admitted there, or the opening was replaced or closed, it lends nothing. Nor of a segment
 * that this opening has dropped: the writer reads none of those any more, but we may ask for it after it gave us up. Here
 * the data are a WRITE of the writer's handle, in turn with its others: fenced and void like those. Both compare as ever: the
 * disk checks each block against the sum that the source has for it before it takes it. When we have answered, nothing is
 * written any more: an answer of the source that comes later is dropped.
 */
#include <stdio.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "env/mark.h"
#include "replica/service.h"

#define PULLS_MAX 64u /* at a time, 1 MiB of memory each; the others wait for their turn */
#define PATIENCE_MAX (60 * NS_PER_S)

struct pull {
	struct list link; /* in service.pulls or pulls_waiting */
	struct env_timer patience_ends; /* while it waits */
	struct repl_service *s;
	struct handle *h;
	struct rpc_req *req;
	struct rpc_conn *conn; /* to the source, while it is asked */
	struct rpc_call call;
	struct lane_item item;
	struct repl_op op; /* of the part under way */
	uint64_t off, seq, patience;
	uint32_t segment, len, at, flags;
	enum lane_class class_;
	char node[HCI_NAME_MAX];
	uint8_t token[REPL_TOKEN];
	uint32_t sums[REPL_IO_MAX / HCI_BLOCK];
};

static void start_next(struct repl_service *s);

static void pull_end(struct pull *p, int status, const char *message)
{
	struct repl_service *s = p->s;

	svc_handle_put(p->h);
	svc_reply(p->req, status, message);
	rpc_call_free(&p->call);
	list_del(&p->link);
	mem_free(p);
	s->npulls--;
	start_next(s);
	svc_end(s);
}

/* ---- to our disk ---- */

static bool zeroes(const uint8_t *p, const uint32_t *sums, uint32_t len)
{
	for (uint32_t i = 0; i < len / HCI_BLOCK; i++)
		if (sums[i] != SUM_ZEROES)
			return false;
	return p[0] == 0 && !memcmp(p, p + 1, len - 1);
}

uint32_t repl_copy_part(const void *data, const uint32_t *sums, uint32_t len, bool *zero)
{
	const uint8_t *p = data;
	uint32_t n = MIN(REPL_REGION, len), more;

	*zero = zeroes(p, sums, n);
	for (; n < len; n += more) {
		more = MIN(REPL_REGION, len - n);
		if (zeroes(p + n, sums + n / HCI_BLOCK, more) != *zero)
			break;
	}
	return n;
}

static void put_part(struct pull *p);

static void part_done(struct repl_op *op)
{
	struct pull *p = container_of(op, struct pull, op);

	lane_end(&p->item);
	if (op->status) {
		ENV_MARK(p->s->e, "pulled data are refused");
		pull_end(p, op->status, svc_explain(op->status));
		return;
	}
	p->at += (uint32_t)op->len;
	if (p->at < p->len)
		put_part(p);
	else
		pull_end(p, 0, NULL);
}

static void part_go(struct lane_item *x)
{
	repl_submit(&container_of(x, struct pull, item)->op);
}

static void part_refuse(struct lane_item *x)
{
	pull_end(container_of(x, struct pull, item), HCI_E_NOTFOUND, "the disk was taken out of service");
}

static void put_part(struct pull *p)
{
	uint8_t *buf = (uint8_t *)p->call.reply_payload + p->at;
	uint32_t *sums = p->sums + p->at / HCI_BLOCK;
	bool zero;
	uint32_t n = repl_copy_part(buf, sums, p->len - p->at, &zero);

	if (!p->h->d) {
		pull_end(p, HCI_E_NOTFOUND, "the disk was taken out of service");
		return;
	}
	p->op = (struct repl_op){
		.kind = zero ? REPL_ZERO : REPL_WRITE,
		.flags = p->flags,
		.slot = p->h->slot,
		.segment = p->segment,
		.off = p->off + p->at,
		.len = n,
		.buf = zero ? NULL : buf,
		.sums = zero ? NULL : sums,
		.seq = p->seq,
		.done = part_done,
	};
	p->item.class_ = p->class_;
	p->item.go = part_go;
	p->item.refuse = part_refuse;
	lane_submit(p->h->lane, &p->item);
}

/* ---- from the source ---- */

static bool take_sums(struct pull *p)
{
	struct rd r = p->call.reply;
	uint32_t n = 0;
	const void *sums = rd_array(&r) ? rd_bin(&r, &n) : NULL;

	if (!sums || r.bad || n != p->len / HCI_BLOCK * sizeof(p->sums[0]) || p->call.reply_payload_len != p->len)
		return false;
	memcpy(p->sums, sums, n);
	return true;
}

static void lent(struct rpc_call *call)
{
	struct pull *p = container_of(call, struct pull, call);
	char text[200];

	rpc_conn_unref(p->conn);
	p->conn = NULL;
	ENV_MARK_STATE(p->s->e, "source of a pull answers:yes,no", call->status != 0, 2);
	if (call->status || !take_sums(p)) {
		/* Always the same: it is not for us to judge the source, the writer tries it by itself. */
		snprintf(text, sizeof(text), "node %s does not lend the range: %.80s", p->node,
			 call->status ? call->err.message : "its answer is not what the method gives");
		pull_end(p, HCI_E_UNAVAILABLE, text);
		return;
	}
	put_part(p);
}

static void start(struct pull *p)
{
	struct repl_service *s = p->s;
	struct hci_error err = { 0 };
	struct buf *b = &p->call.body;

	list_push(&s->pulls, &p->link);
	s->npulls++;
	/* Neighbours on streams of their own. */
	p->conn = rpc_peers_bulk(s->peers, p->node, (unsigned)(p->off / REPL_IO_MAX), &err);
	pk_array(b, 5);
	pk_bin(b, p->token, sizeof(p->token));
	pk_u64(b, p->segment);
	pk_u64(b, p->off);
	pk_u64(b, p->len);
	pk_u64(b, (uint64_t)p->class_ << REPL_F_CLASS_SHIFT);
	if (!p->conn || b->failed) {
		rpc_conn_unref(p->conn);
		p->conn = NULL;
		pull_end(p, b->failed ? HCI_E_NOMEM : HCI_E_UNAVAILABLE, b->failed ? NULL : err.message);
		return;
	}
	p->call.method = REPL_RPC_LEND;
	p->call.reply_cap = p->len;
	p->call.timeout_ns = p->patience;
	p->call.done = lent;
	rpc_submit(p->conn, &p->call);
}

/* Those that end at once call this again: not from inside. */
static void start_next(struct repl_service *s)
{
	if (s->starting)
		return;
	s->starting = true;
	while (s->npulls < PULLS_MAX && !list_empty(&s->pulls_waiting)) {
		struct pull *p = list_entry(list_pop(&s->pulls_waiting), struct pull, link);

		env_timer_disarm(s->e, &p->patience_ends);
		start(p);
	}
	s->starting = false;
}

/*
 * Those before it are slow, perhaps for another disk's sake. Its writer would take our silence for a failure of this
 * disk, which users write to; told so it carries the data itself.
 */
static void waited(struct env_timer *t)
{
	struct pull *p = container_of(t, struct pull, patience_ends);

	ENV_MARK(p->s->e, "pull waits for too long");
	list_del(&p->link);
	p->s->npulls++;
	pull_end(p, HCI_E_UNAVAILABLE, "too many copies are fetched here at present");
}

/* ---- the request ---- */

/* [handle, segment, off, len, seq, flags, patience, node, token] */
static bool parse(struct pull *p, struct rd *r, uint64_t *handle)
{
	bool bad = rd_array(r) < 9;
	uint64_t len, patience;
	const void *token;
	uint32_t n;

	*handle = rd_u64(r);
	p->segment = rd_u32(r);
	p->off = rd_u64(r);
	len = rd_u64(r);
	p->seq = rd_u64(r);
	p->flags = rd_u32(r);
	patience = rd_u64(r);
	p->patience = MIN(patience, PATIENCE_MAX / NS_PER_MS) * NS_PER_MS;
	bad |= !rd_strcpy(r, p->node, sizeof(p->node));
	token = rd_bin(r, &n);
	p->class_ = svc_class(&p->flags);
	if (bad || r->bad || n != sizeof(p->token) || p->flags != REPL_F_SETSEQ || p->class_ == LANE_CLASSES || !p->patience)
		return false;
	if (!len || len > REPL_IO_MAX || len % HCI_BLOCK || p->off % HCI_BLOCK)
		return false;
	p->len = (uint32_t)len;
	memcpy(p->token, token, n);
	return true;
}

void svc_pull(void *arg, struct rpc_req *req)
{
	struct repl_service *s = arg;
	struct pull *p = s->peers ? MEM_NEW(struct pull) : NULL;
	uint64_t handle;

	if (!p) {
		svc_reply(req, s->peers ? HCI_E_NOMEM : HCI_E_UNSUPPORTED, "this node does not fetch copies");
		return;
	}
	if (!parse(p, &req->args, &handle)) {
		mem_free(p);
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	p->h = svc_handle(req->conn, handle);
	if (!p->h) {
		mem_free(p);
		svc_reply(req, HCI_E_NOTFOUND, "no such handle on this connection: open the slot first");
		return;
	}
	list_init(&p->link);
	list_init(&p->item.link);
	p->s = s;
	p->req = req;
	p->h->ops++;
	s->open++;
	list_push(&s->pulls_waiting, &p->link);
	env_timer_init(&p->patience_ends, waited);
	env_timer_arm(s->e, &p->patience_ends, env_now(s->e) + p->patience);
	start_next(s);
}

void svc_pulls_cancel(struct repl_service *s)
{
	struct pull *p;
	struct list *l;

	while ((l = list_pop(&s->pulls_waiting))) {
		p = list_entry(l, struct pull, link);
		env_timer_disarm(s->e, &p->patience_ends);
		s->npulls++;
		pull_end(p, HCI_E_CLOSED, "the service ends");
	}
	list_for_each(p, &s->pulls, link)
		if (p->conn)
			rpc_cancel(p->conn, &p->call); /* done soon */
}
