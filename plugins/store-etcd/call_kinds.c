/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that are simple: reading, leases, learning the store's revision. Transactions are in txn.c. */
#include <stdlib.h>
#include <string.h>

#include "etcd.h"

#define PAGE_KEYS 250u               /* of one request; a value may have 1 MiB */
#define ANSWER_BYTES (32u << 20)     /* of one answer, which then says that there is more */
#define LEASE_SLACK_S 1              /* see build_grant() */

/* ---- get and range ---- */

static void build_get(struct etcd *e, struct call *c, struct buf *b)
{
	struct key k;

	key_set(&k, e->cfg.prefix, c->rq->key);
	msg_range(b, &(struct range_ask){ .key = &k });
}

/* The next page: after the last key that we have, else after what was asked. */
static void build_range(struct etcd *e, struct call *c, struct buf *b)
{
	uint64_t want = c->rq->limit - c->kvs.n;
	struct key first, end;
	char after[HCI_STORE_KEY_MAX + 1] = "";

	if (c->kvs.n) {
		const struct hci_store_kv *kv = &c->kvs.kv[c->kvs.n - 1];

		memcpy(after, kv->key, kv->key_len < HCI_STORE_KEY_MAX ? kv->key_len : HCI_STORE_KEY_MAX);
	} else if (c->rq->after) {
		memcpy(after, c->rq->after, strnlen(c->rq->after, HCI_STORE_KEY_MAX));
	}
	key_set(&first, e->cfg.prefix, c->rq->key);
	key_end(&end, &first);
	if (strcmp(after, c->rq->key) >= 0 && after[0]) {
		key_set(&first, e->cfg.prefix, after);
		first.n++; /* and a NUL: the very next key */
	}
	msg_range(b, &(struct range_ask){ .key = &first, .end = &end, .limit = want < PAGE_KEYS ? want : PAGE_KEYS });
}

/* Keeps the page: the keys of the answer point into it. */
static bool keep_page(struct call *c)
{
	struct buf *p = realloc(c->pages, (c->npages + 1) * sizeof(*p));

	if (!p)
		return false;
	c->pages = p;
	c->pages[c->npages++] = c->resp;
	c->bytes += c->resp.n;
	c->resp = (struct buf){ 0 };
	return true;
}

/*
 * Pages are of different moments. The answer's revision is that of the first: nothing up to it is missing, and of what came
 * after it a watch tells.
 */
static void done_range(struct etcd *e, struct call *c)
{
	struct hci_store_answer a = { .kv_stride = sizeof(struct hci_store_kv) };
	bool more, nomem = !keep_page(c), good = false;
	struct hdr h = { 0 };

	if (!nomem)
		good = msg_range_answer(pb_of(c->pages[c->npages - 1].p, c->pages[c->npages - 1].n), strlen(e->cfg.prefix), &h,
					&c->kvs, &more, &nomem);
	if (nomem) {
		call_fail(e, c, HCI_E_NOMEM, "out of memory for an answer");
		return;
	}
	if (!good || !h.revision || (c->rq->kind == HCI_STORE_REQ_GET && (more || c->kvs.n > 1)) || c->kvs.n > 1000) {
		call_nonsense(e, c);
		return;
	}
	c->first_rev = c->first_rev ? c->first_rev : h.revision;
	if (more && c->kvs.n < c->rq->limit && c->bytes < ANSWER_BYTES) {
		call_again(e, c);
		return;
	}
	a.revision = c->first_rev;
	a.kvs = c->kvs.kv;
	a.nkvs = (uint32_t)c->kvs.n;
	a.more = more;
	call_end(e, c, &a);
}

static const struct call_kind kind_get = { .path = "/etcdserverpb.KV/Range", .clean = true, .build = build_get, .done = done_range };
static const struct call_kind kind_range = { .path = "/etcdserverpb.KV/Range", .clean = true, .build = build_range, .done = done_range };

/* ---- leases ---- */

/*
 * etcd counts whole seconds, and raises what is less than its election timeout and a half. It gets a second more than was
 * asked: a member that was the leader answers renewals until it notices that it is not any more, up to its election timeout,
 * while the new leader counts from its own start (etcd issue 15247). Whoever holds the lease counts from before it asked, so
 * it believes in the end first.
 */
static void build_grant(struct etcd *e, struct call *c, struct buf *b)
{
	(void)e;
	if (!c->lease)
		c->lease = random_id();
	pb_uint(b, 1, (c->rq->ttl_ns + SEC - 1) / SEC + LEASE_SLACK_S);
	pb_uint(b, 2, c->lease);
}

static void done_grant(struct etcd *e, struct call *c)
{
	uint64_t id;

	if (!msg_number(c->resp.p, c->resp.n, 2, &id) || id != c->lease)
		call_nonsense(e, c);
	else
		call_end(e, c, &(struct hci_store_answer){ .lease = id });
}

/* We chose its number, so when it is there and we have asked before, it is ours. */
static bool error_grant(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	if (!strstr(text, "lease already exists"))
		return false;
	if (c->unsure) {
		call_end(e, c, &(struct hci_store_answer){ .lease = c->lease });
	} else {
		c->lease = 0;
		call_again(e, c);
	}
	return true;
}

static void build_lease(struct etcd *e, struct call *c, struct buf *b)
{
	(void)e;
	pb_uint(b, 1, c->rq->lease);
}

static void done_keepalive(struct etcd *e, struct call *c)
{
	uint64_t ttl;

	if (!msg_number(c->resp.p, c->resp.n, 3, &ttl))
		call_nonsense(e, c);
	else
		call_end(e, c, &(struct hci_store_answer){ .code = (int64_t)ttl > 0 ? 0 : HCI_E_NOTFOUND });
}

static bool error_lease(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	if (!strstr(text, "lease not found"))
		return false;
	call_end(e, c,
		 &(struct hci_store_answer){ .code = c->rq->kind == HCI_STORE_REQ_REVOKE ? 0 : HCI_E_NOTFOUND });
	return true;
}

static void done_revoke(struct etcd *e, struct call *c)
{
	call_end(e, c, &(struct hci_store_answer){ 0 });
}

static const struct call_kind kind_grant = {
	.path = "/etcdserverpb.Lease/LeaseGrant", .build = build_grant, .done = done_grant, .error = error_grant,
};
static const struct call_kind kind_keepalive = {
	.path = "/etcdserverpb.Lease/LeaseKeepAlive", .build = build_lease, .done = done_keepalive, .error = error_lease,
};
static const struct call_kind kind_revoke = {
	.path = "/etcdserverpb.Lease/LeaseRevoke", .clean = true, .build = build_lease, .done = done_revoke, .error = error_lease,
};

const struct call_kind *kind_of(const struct hci_store_request *rq)
{
	switch (rq->kind) {
	case HCI_STORE_REQ_GET:
		return &kind_get;
	case HCI_STORE_REQ_RANGE:
		return &kind_range;
	case HCI_STORE_REQ_GRANT:
		return &kind_grant;
	case HCI_STORE_REQ_KEEPALIVE:
		return &kind_keepalive;
	case HCI_STORE_REQ_REVOKE:
		return &kind_revoke;
	default:
		return &kind_txn;
	}
}

/* ---- the revision, for a watch ---- */

static void build_revision(struct etcd *e, struct call *c, struct buf *b)
{
	struct key k;

	(void)c;
	key_set(&k, e->cfg.prefix, "");
	msg_range(b, &(struct range_ask){ .key = &k, .count_only = true });
}

static void done_revision(struct etcd *e, struct call *c)
{
	struct watch *w = c->watch;
	struct hdr h;

	if (!msg_header(c->resp.p, c->resp.n, &h) || !h.revision) {
		call_nonsense(e, c);
		return;
	}
	c->watch = NULL;
	call_end(e, c, &(struct hci_store_answer){ 0 });
	if (w)
		watch_checked(e, w, true, h.revision);
}

static void end_revision(struct etcd *e, struct call *c, int code, bool unknown)
{
	(void)unknown;
	if (c->watch && code)
		watch_checked(e, c->watch, false, 0);
}

const struct call_kind kind_revision = {
	.path = "/etcdserverpb.KV/Range", .build = build_revision, .done = done_revision, .end = end_revision,
};
