/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's session: a lease, the guard keys (slots) that hang on it, and the settling of those whose transaction
 * nobody waits for any more. txn.c says what they are for.
 */
#include <stdio.h>
#include <string.h>

#include "etcd.h"

#define SESSION_TTL_S 60
#define SESSION_RENEW (10 * SEC) /* also notices a connection that has died silently */
#define VOID_MARK (UINT64_C(1) << 63)

void slot_key(const struct etcd *e, int slot, struct key *k)
{
	char rest[40];

	snprintf(rest, sizeof(rest), "%016llx/%d", (unsigned long long)e->session, slot);
	key_set(k, e->cfg.guard, rest);
}

bool slot_take(struct etcd *e, struct call *c)
{
	if (!c->rq->nops)
		return true;
	if (c->slot >= 0 && c->session == e->session)
		return true;
	if (c->slot >= 0 && c->unsure) {
		c->slot = -1;
		call_fail(e, c, HCI_E_UNAVAILABLE,
			  "cut off for longer than its session lasts: the transaction may have been done; read again");
		return false;
	}
	for (int i = 0; i < SLOTS_MAX; i++) {
		if (e->slots[i].state != SLOT_FREE)
			continue;
		e->slots[i].state = SLOT_BUSY;
		c->slot = i;
		c->session = e->session;
		c->slot_rev = e->slots[i].rev;
		c->nonce = ++e->nonce;
		return true;
	}
	return false;
}

void slot_give(struct etcd *e, struct call *c, uint64_t rev, bool dirty)
{
	if (c->slot >= 0 && c->session == e->session) {
		e->slots[c->slot].rev = rev;
		e->slots[c->slot].state = dirty ? SLOT_DIRTY : SLOT_FREE;
		e->ndirty += dirty;
	}
	c->slot = -1;
}

void session_lost(struct etcd *e, uint64_t session)
{
	if (!session || session != e->session)
		return;
	e->session = 0;
	e->ndirty = 0;
	memset(e->slots, 0, sizeof(e->slots));
	say(e, HCI_LOG_WARN, "the session has expired, a new one begins");
}

/* ---- the lease ---- */

static void build_grant(struct etcd *e, struct call *c, struct buf *b)
{
	(void)e;
	if (!c->lease)
		c->lease = random_id();
	pb_uint(b, 1, SESSION_TTL_S);
	pb_uint(b, 2, c->lease);
}

static void granted(struct etcd *e, struct call *c)
{
	e->session = c->lease;
	e->session_at = now_ns() + SESSION_RENEW;
	e->ndirty = 0;
	memset(e->slots, 0, sizeof(e->slots));
	call_end(e, c, &(struct hci_store_answer){ 0 });
}

static bool error_grant(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	if (!strstr(text, "lease already exists"))
		return false;
	if (c->unsure) {
		granted(e, c);
	} else {
		c->lease = 0;
		call_again(e, c);
	}
	return true;
}

static void end_session_call(struct etcd *e, struct call *c, int code, bool unknown)
{
	(void)code;
	(void)unknown;
	if (e->session_call == c)
		e->session_call = NULL;
}

static void build_keep(struct etcd *e, struct call *c, struct buf *b)
{
	(void)e;
	pb_uint(b, 1, c->lease);
}

static void done_keep(struct etcd *e, struct call *c)
{
	bool asked = c->nonce, lives;
	uint64_t ttl, lease = c->lease;

	if (!msg_number(c->resp.p, c->resp.n, 3, &ttl)) {
		call_nonsense(e, c);
		return;
	}
	lives = (int64_t)ttl > 0;
	call_end(e, c, &(struct hci_store_answer){ 0 });
	e->session_at = now_ns() + SESSION_RENEW;
	if (asked) {
		e->asked = false;
		txn_session_says(e, lives);
	}
	if (!lives)
		session_lost(e, lease);
}

static const struct call_kind kind_session_grant = {
	.path = "/etcdserverpb.Lease/LeaseGrant",
	.build = build_grant,
	.done = granted,
	.error = error_grant,
	.end = end_session_call,
};
static const struct call_kind kind_session_keep = {
	.path = "/etcdserverpb.Lease/LeaseKeepAlive",
	.build = build_keep,
	.done = done_keep,
	.end = end_session_call,
};

static void start(struct etcd *e, const struct call_kind *kind, uint64_t lease)
{
	struct call *c = call_new(e, kind, NULL);

	if (!c) {
		e->session_at = now_ns() + SEC;
		return; /* no memory: soon again */
	}
	c->lease = lease;
	c->nonce = e->asked;
	e->session_call = c;
	call_queue(e, c);
}

bool session_ready(struct etcd *e)
{
	if (!e->session && !e->session_call)
		start(e, &kind_session_grant, 0);
	return e->session != 0;
}

void session_ask(struct etcd *e)
{
	e->asked = true; /* what is under way was sent too early to tell */
	e->session_at = 0;
}

void session_step(struct etcd *e, uint64_t now)
{
	if (e->session && !e->session_call && now >= e->session_at)
		start(e, &kind_session_keep, e->session);
	else if (!e->session && e->asked) {
		e->asked = false;
		txn_session_says(e, false);
	}
}

uint64_t session_next_time(const struct etcd *e)
{
	return e->session && !e->session_call ? e->session_at : NEVER;
}

/* ---- settling ---- */

/* Each slot that is still where it was moves on, in a transaction of its own within this one; then we look. */
static void build_void(struct etcd *e, struct call *c, struct buf *b)
{
	uint64_t v = VOID_MARK;
	unsigned n = 0;

	c->nonce = 0; /* a bit a slot */
	c->session = e->session;
	for (int i = 0; i < SLOTS_MAX && n < VOIDS_MAX && e->session; i++) {
		struct txn_sub sub;
		struct key k;

		if (e->slots[i].state != SLOT_DIRTY)
			continue;
		slot_key(e, i, &k);
		sub = txn_begin(b, TXN_SUCCESS);
		txn_cmp_mod(b, &k, e->slots[i].rev);
		txn_put(b, TXN_SUCCESS, &k, &v, sizeof(v), e->session);
		txn_end(b, sub);
		txn_get(b, TXN_SUCCESS, &k);
		c->nonce |= UINT64_C(1) << i;
		n++;
	}
}

static void done_void(struct etcd *e, struct call *c)
{
	struct txn_answer a;
	struct hci_store_kv kv;
	size_t at = 1, n;

	if (!msg_txn_answer(pb_of(c->resp.p, c->resp.n), &a)) {
		call_nonsense(e, c);
		return;
	}
	for (int i = 0; i < SLOTS_MAX && c->session == e->session; i++) {
		if (!(c->nonce >> i & 1))
			continue;
		if (at >= a.nop || !msg_op_get(a.op[at], &kv, &n)) {
			call_nonsense(e, c);
			return;
		}
		at += 2;
		if (!n) {
			session_lost(e, c->session);
			break;
		}
		e->slots[i] = (struct slot){ kv.mod_rev, SLOT_FREE };
		e->ndirty--;
	}
	call_end(e, c, &(struct hci_store_answer){ 0 });
}

static bool error_void(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	if (!strstr(text, "lease not found"))
		return false;
	session_lost(e, c->session);
	call_end(e, c, &(struct hci_store_answer){ 0 });
	return true;
}

static void end_void(struct etcd *e, struct call *c, int code, bool unknown)
{
	(void)c;
	(void)code;
	(void)unknown;
	e->void_call = NULL;
}

static const struct call_kind kind_void = {
	.path = "/etcdserverpb.KV/Txn",
	.build = build_void,
	.done = done_void,
	.error = error_void,
	.end = end_void,
};

bool session_clean(struct etcd *e)
{
	if (!e->ndirty)
		return true;
	if (!e->void_call) {
		e->void_call = call_new(e, &kind_void, NULL);
		if (e->void_call)
			call_queue(e, e->void_call);
	}
	return false;
}

/* ---- the end ---- */

static void done_end(struct etcd *e, struct call *c)
{
	call_end(e, c, &(struct hci_store_answer){ 0 });
}

static bool error_end(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	(void)text;
	done_end(e, c);
	return true;
}

static const struct call_kind kind_session_end = {
	.path = "/etcdserverpb.Lease/LeaseRevoke",
	.build = build_keep,
	.done = done_end,
	.error = error_end,
	.end = end_session_call,
};

void session_end(struct etcd *e)
{
	if (e->session)
		start(e, &kind_session_end, e->session);
	e->session = 0;
}
