/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions, each done at most once however often it is sent.
 *
 * A connection that breaks leaves open whether the transaction was done, and it may even be done later: the member may have
 * passed it on. Sending it again would then do it twice, or find its compares broken by itself. So each transaction that
 * changes something also writes a guard key of this client, a *slot*, and compares its mod_revision with the one we
 * know (R). Every write to a slot is such a compare-and-swap, so exactly one of these follows R:
 *
 *   - the transaction was done: the slot has its nonce, its mod_revision is the transaction's revision;
 *   - sent for at least the second time, its compares did not hold and the slot was still at R: the slot gets the nonce marked
 *     as void, in the failure branch. It will not be done any more;
 *   - nobody waits for it any more (deadline over): the slot is *dirty* and is voided before this client's next request
 *     (session.c). So what has failed with HCI_E_UNAVAILABLE does not happen behind the back of whoever reads again.
 *
 * An answer that says "slot not at R" comes with the slot's content and tells which it was. Slots hang on a lease of the
 * client (its session): if that ends they go, and since they can only be written with it, what was sent before fails.
 *
 * Deletes of what is not there change nothing and take no revision. A transaction of deletes only therefore writes
 * its slot only if one of the keys is there; when it is sent again it always does.
 */
#include <stdio.h>
#include <string.h>

#include "etcd.h"

#define VOID_BIT (UINT64_C(1) << 63)

static const struct hci_store_cmp *cmp_at(const struct hci_store_request *q, uint32_t i)
{
	return (const void *)((const char *)q->cmps + (size_t)i * q->cmp_stride);
}

static const struct hci_store_op *op_at(const struct hci_store_request *q, uint32_t i)
{
	return (const void *)((const char *)q->ops + (size_t)i * q->op_stride);
}

static bool only_deletes(const struct hci_store_request *q)
{
	for (uint32_t i = 0; i < q->nops; i++)
		if (op_at(q, i)->kind == HCI_STORE_PUT)
			return false;
	return true;
}

static bool has_lease(const struct hci_store_request *q)
{
	for (uint32_t i = 0; i < q->nops; i++)
		if (op_at(q, i)->kind == HCI_STORE_PUT && op_at(q, i)->lease)
			return true;
	return false;
}

/* ---- the request ---- */

static void put_slot(struct etcd *e, const struct call *c, struct buf *b, unsigned branch, const struct key *slot,
		     uint64_t mark)
{
	uint64_t v = c->nonce | mark;

	txn_put(b, branch, slot, &v, sizeof(v), e->session);
}

static void put_ops(struct etcd *e, const struct hci_store_request *q, struct buf *b, unsigned branch)
{
	for (uint32_t i = 0; i < q->nops; i++) {
		const struct hci_store_op *op = op_at(q, i);
		struct key k, end;

		key_set(&k, e->cfg.prefix, op->key);
		if (op->kind == HCI_STORE_PUT) {
			txn_put(b, branch, &k, op->value, op->value_len, op->lease);
			continue;
		}
		key_end(&end, &k);
		txn_delete(b, branch, &k, op->kind == HCI_STORE_DELETE_PREFIX ? &end : NULL);
	}
}

/* In a transaction of its own, whose compares hold when there is nothing to delete. */
static void put_deletes(struct etcd *e, const struct call *c, struct buf *b, const struct key *slot)
{
	const struct hci_store_request *q = c->rq;
	struct txn_sub sub = txn_begin(b, TXN_SUCCESS);

	for (uint32_t i = 0; i < q->nops; i++) {
		const struct hci_store_op *op = op_at(q, i);
		struct key k, end;

		key_set(&k, e->cfg.prefix, op->key);
		key_end(&end, &k);
		txn_cmp_absent(b, &k, op->kind == HCI_STORE_DELETE_PREFIX ? &end : NULL);
	}
	put_slot(e, c, b, TXN_FAILURE, slot, 0);
	put_ops(e, q, b, TXN_FAILURE);
	txn_end(b, sub);
}

static void build_txn(struct etcd *e, struct call *c, struct buf *b)
{
	const struct hci_store_request *q = c->rq;
	struct txn_sub sub;
	struct key k, slot;

	for (uint32_t i = 0; i < q->ncmps; i++) {
		key_set(&k, e->cfg.prefix, cmp_at(q, i)->key);
		if (cmp_at(q, i)->kind == HCI_STORE_CMP_EXISTS)
			txn_cmp_there(b, &k);
		else
			txn_cmp_mod(b, &k, cmp_at(q, i)->rev);
	}
	if (!q->nops)
		return; /* reads only: no slot, may be sent as often as one likes */
	slot_key(e, c->slot, &slot);
	txn_cmp_mod(b, &slot, c->slot_rev);
	if (!c->unsure && only_deletes(q)) {
		put_deletes(e, c, b, &slot);
	} else {
		put_slot(e, c, b, TXN_SUCCESS, &slot, 0);
		put_ops(e, q, b, TXN_SUCCESS);
	}
	txn_get(b, TXN_FAILURE, &slot);
	if (!c->unsure)
		return;
	sub = txn_begin(b, TXN_FAILURE);
	txn_cmp_mod(b, &slot, c->slot_rev);
	put_slot(e, c, b, TXN_SUCCESS, &slot, VOID_BIT);
	txn_end(b, sub);
}

/* ---- the answer ---- */

/* The client's session is gone, and the slot with it. */
static void start_over(struct etcd *e, struct call *c)
{
	session_lost(e, c->session);
	slot_give(e, c, 0, false);
	if (c->unsure)
		call_fail(e, c, HCI_E_UNAVAILABLE,
			  "cut off for longer than its session lasts: the transaction may have been done; read again");
	else
		call_again(e, c);
}

static void end_with(struct etcd *e, struct call *c, int code, uint64_t revision, uint64_t slot_rev)
{
	if (c->slot >= 0)
		slot_give(e, c, slot_rev, false);
	call_end(e, c, &(struct hci_store_answer){ .code = code, .revision = revision });
}

/* Done, and only now: the answer to this very request says so. */
static void succeeded(struct etcd *e, struct call *c, const struct txn_answer *a)
{
	uint64_t slot_rev = a->h.revision;
	bool nothing = false;

	if (c->rq->nops && !c->unsure && only_deletes(c->rq)) {
		if (a->nop != 1 || !msg_op_txn(a->op[0], &nothing)) {
			call_nonsense(e, c);
			return;
		}
		if (nothing)
			slot_rev = c->slot_rev;
	}
	end_with(e, c, 0, a->h.revision, slot_rev);
}

/* Its compares do not hold, that of the slot among them: what has become of the slot? */
static void not_now(struct etcd *e, struct call *c, const struct txn_answer *a)
{
	struct hci_store_kv kv;
	uint64_t v = 0, rev;
	size_t n;

	if (!c->rq->nops) {
		end_with(e, c, HCI_E_CONFLICT, 0, 0);
		return;
	}
	if (a->nop < 1 || !msg_op_get(a->op[0], &kv, &n)) {
		call_nonsense(e, c);
		return;
	}
	rev = n ? kv.mod_rev : 0;
	if (n && kv.value_len == sizeof(v))
		memcpy(&v, kv.value, sizeof(v));
	if (rev == c->slot_rev) /* at R: it was not done; sent again, it has just been voided */
		end_with(e, c, HCI_E_CONFLICT, 0, c->unsure ? a->h.revision : rev);
	else if (v == c->nonce)
		end_with(e, c, 0, rev, rev);
	else if (v == (c->nonce | VOID_BIT))
		end_with(e, c, HCI_E_CONFLICT, 0, rev);
	else
		start_over(e, c);
}

static void done_txn(struct etcd *e, struct call *c)
{
	struct txn_answer a;

	if (!msg_txn_answer(pb_of(c->resp.p, c->resp.n), &a) || !a.h.revision)
		call_nonsense(e, c);
	else if (a.succeeded)
		succeeded(e, c, &a);
	else
		not_now(e, c, &a);
}

/* The lease that is gone may be one of the transaction's, or ours that the slots hang on. */
static bool error_txn(struct etcd *e, struct call *c, int status, const char *text)
{
	(void)status;
	if (!strstr(text, "lease not found"))
		return false;
	if (!has_lease(c->rq)) {
		start_over(e, c);
		return true;
	}
	call_again(e, c);
	c->ask_session = true;
	session_ask(e);
	return true;
}

/*
 * If our lease lives, it is another one that is gone. That was in the branch of success: the slot was at R, so the
 * transaction has not been done; and it never will, for lease numbers do not come again. (What else was sent of it may
 * still void the slot; so that is done first, if it was sent more than once.)
 */
void txn_session_says(struct etcd *e, bool lives)
{
	struct call *c, *next;

	for (c = TAILQ_FIRST(&e->waiting); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->ask_session)
			continue;
		c->ask_session = false;
		if (!lives) {
			start_over(e, c);
			continue;
		}
		slot_give(e, c, c->slot_rev, c->unsure);
		call_end(e, c, &(struct hci_store_answer){ .code = HCI_E_FENCED });
	}
}

static void end_txn(struct etcd *e, struct call *c, int code, bool unknown)
{
	(void)code;
	(void)unknown;
	if (c->slot >= 0)
		slot_give(e, c, c->slot_rev, c->attempts > 0);
}

const struct call_kind kind_txn = {
	.path = "/etcdserverpb.KV/Txn",
	.clean = true,
	.session = true,
	.build = build_txn,
	.done = done_txn,
	.error = error_txn,
	.end = end_txn,
};
