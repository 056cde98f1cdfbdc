/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading etcd's messages: see msg.h. The numbers are those of rpc.proto and kv.proto. */
#include "msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void key_set(struct key *k, const char *prefix, const char *rest)
{
	int n = snprintf(k->p, sizeof(k->p), "%s%s", prefix, rest);

	k->n = n < 0 ? 0 : (size_t)n < sizeof(k->p) ? (size_t)n : sizeof(k->p) - 1;
}

/* Our keys are printable, so there is always a next byte; the prefix is never empty. */
void key_end(struct key *end, const struct key *k)
{
	*end = *k;
	end->p[end->n - 1]++;
}

static void put_key(struct buf *b, unsigned field, const struct key *k)
{
	pb_bytes(b, field, k->p, k->n);
}

void msg_range(struct buf *b, const struct range_ask *a)
{
	put_key(b, 1, a->key);
	if (a->end)
		put_key(b, 2, a->end);
	if (a->limit)
		pb_uint(b, 3, a->limit);
	if (a->revision)
		pb_uint(b, 4, a->revision);
	if (a->serializable)
		pb_uint(b, 7, 1);
	if (a->count_only)
		pb_uint(b, 9, 1);
}

/* ---- transactions ---- */

enum { CMP_EQUAL = 0, CMP_GREATER = 1 };
enum { CMP_VERSION = 0, CMP_MOD = 2 };

static void compare(struct buf *b, unsigned result, unsigned target, const struct key *k, const struct key *end,
		    uint64_t value)
{
	size_t m = pb_begin(b, TXN_COMPARE);

	pb_uint(b, 1, result);
	pb_uint(b, 2, target);
	put_key(b, 3, k);
	pb_uint(b, target == CMP_MOD ? 6 : 4, value);
	if (end)
		put_key(b, 64, end);
	pb_end(b, m);
}

/* An absent key has mod_revision 0 and version 0. */
void txn_cmp_mod(struct buf *b, const struct key *k, uint64_t rev)
{
	compare(b, CMP_EQUAL, CMP_MOD, k, NULL, rev);
}

void txn_cmp_there(struct buf *b, const struct key *k)
{
	compare(b, CMP_GREATER, CMP_VERSION, k, NULL, 0);
}

/* Of a range it holds when it does for every key in it; what is there has a version of at least 1. */
void txn_cmp_absent(struct buf *b, const struct key *k, const struct key *end)
{
	compare(b, CMP_EQUAL, CMP_VERSION, k, end, 0);
}

void txn_get(struct buf *b, unsigned branch, const struct key *k)
{
	size_t op = pb_begin(b, branch), m = pb_begin(b, 1);

	put_key(b, 1, k);
	pb_end(b, m);
	pb_end(b, op);
}

void txn_put(struct buf *b, unsigned branch, const struct key *k, const void *value, size_t n, uint64_t lease)
{
	size_t op = pb_begin(b, branch), m = pb_begin(b, 2);

	put_key(b, 1, k);
	pb_bytes(b, 2, value, n);
	if (lease)
		pb_uint(b, 3, lease);
	pb_end(b, m);
	pb_end(b, op);
}

void txn_delete(struct buf *b, unsigned branch, const struct key *k, const struct key *end)
{
	size_t op = pb_begin(b, branch), m = pb_begin(b, 3);

	put_key(b, 1, k);
	if (end)
		put_key(b, 2, end);
	pb_end(b, m);
	pb_end(b, op);
}

struct txn_sub txn_begin(struct buf *b, unsigned branch)
{
	struct txn_sub s;

	s.op = pb_begin(b, branch);
	s.txn = pb_begin(b, 4);
	return s;
}

void txn_end(struct buf *b, struct txn_sub s)
{
	pb_end(b, s.txn);
	pb_end(b, s.op);
}

/* ---- answers ---- */

static bool read_header(struct pb_in in, struct hdr *h)
{
	struct pb_field f;

	while (pb_next(&in, &f)) {
		if (f.number == 1)
			h->cluster = f.v;
		else if (f.number == 3)
			h->revision = f.v;
	}
	return !in.bad;
}

bool msg_header(const void *p, size_t n, struct hdr *h)
{
	struct pb_in in = pb_of(p, n);
	struct pb_field f;
	bool ok = true;

	*h = (struct hdr){ 0 };
	while (ok && pb_next(&in, &f))
		if (f.number == 1 && f.sub.p)
			ok = read_header(f.sub, h);
	return ok && !in.bad;
}

bool msg_kv(struct pb_in in, size_t skip, struct hci_store_kv *kv)
{
	struct pb_field f;

	*kv = (struct hci_store_kv){ .value = "" };
	while (pb_next(&in, &f)) {
		size_t n = f.sub.p ? pb_len(&f.sub) : 0;

		if (n > UINT32_MAX)
			return false;
		if (f.number == 1 && f.sub.p && n >= skip) {
			kv->key = (const char *)f.sub.p + skip;
			kv->key_len = (uint32_t)(n - skip);
		} else if (f.number == 2) {
			kv->create_rev = f.v;
		} else if (f.number == 3) {
			kv->mod_rev = f.v;
		} else if (f.number == 5 && f.sub.p) {
			kv->value = f.sub.p;
			kv->value_len = (uint32_t)n;
		} else if (f.number == 6) {
			kv->lease = f.v;
		}
	}
	return !in.bad && kv->key;
}

void kv_list_free(struct kv_list *l)
{
	free(l->kv);
	*l = (struct kv_list){ 0 };
}

static bool add_kv(struct kv_list *l, const struct hci_store_kv *kv)
{
	struct hci_store_kv *p;

	if (l->n == l->cap) {
		p = realloc(l->kv, (l->cap ? l->cap * 2 : 16) * sizeof(*p));
		if (!p)
			return false;
		l->kv = p;
		l->cap = l->cap ? l->cap * 2 : 16;
	}
	l->kv[l->n++] = *kv;
	return true;
}

bool msg_range_answer(struct pb_in in, size_t skip, struct hdr *h, struct kv_list *l, bool *more, bool *nomem)
{
	struct hci_store_kv kv;
	struct pb_field f;

	*more = *nomem = false;
	while (pb_next(&in, &f)) {
		if (f.number == 1 && f.sub.p && !read_header(f.sub, h))
			return false;
		if (f.number == 2 && f.sub.p) {
			if (!msg_kv(f.sub, skip, &kv))
				return false;
			if (!add_kv(l, &kv)) {
				*nomem = true;
				return false;
			}
		}
		if (f.number == 3)
			*more = f.v != 0;
	}
	return !in.bad;
}

bool msg_txn_answer(struct pb_in in, struct txn_answer *a)
{
	struct pb_field f;

	a->h = (struct hdr){ 0 };
	a->succeeded = false;
	a->nop = 0;
	while (pb_next(&in, &f)) {
		if (f.number == 1 && f.sub.p && !read_header(f.sub, &a->h))
			return false;
		if (f.number == 2)
			a->succeeded = f.v != 0;
		if (f.number == 3 && f.sub.p) {
			if (a->nop == sizeof(a->op) / sizeof(*a->op))
				return false;
			a->op[a->nop++] = f.sub;
		}
	}
	return !in.bad;
}

/* The field of a ResponseOp that is there must be the one that belongs to what was asked. */
static bool op_field(struct pb_in op, unsigned number, struct pb_in *out)
{
	struct pb_field f;

	if (!pb_next(&op, &f) || f.number != number || !f.sub.p)
		return false;
	*out = f.sub;
	return true;
}

bool msg_op_get(struct pb_in op, struct hci_store_kv *kv, size_t *n)
{
	struct pb_in in;
	struct pb_field f;

	*n = 0;
	if (!op_field(op, 1, &in))
		return false;
	while (pb_next(&in, &f)) {
		if (f.number != 2 || !f.sub.p)
			continue;
		if (*n || !msg_kv(f.sub, 0, kv))
			return false;
		*n = 1;
	}
	return !in.bad;
}

bool msg_op_txn(struct pb_in op, bool *succeeded)
{
	struct pb_in in;
	struct pb_field f;

	*succeeded = false;
	if (!op_field(op, 4, &in))
		return false;
	while (pb_next(&in, &f))
		if (f.number == 2)
			*succeeded = f.v != 0;
	return !in.bad;
}

bool msg_number(const void *p, size_t n, unsigned field, uint64_t *out)
{
	struct pb_in in = pb_of(p, n);
	struct pb_field f;

	*out = 0;
	while (pb_next(&in, &f))
		if (f.number == field)
			*out = f.v;
	return !in.bad;
}

bool msg_watch_answer(const void *p, size_t n, struct watch_answer *a)
{
	struct pb_in in = pb_of(p, n);
	struct pb_field f;

	*a = (struct watch_answer){ .events = in };
	while (pb_next(&in, &f)) {
		if (f.number == 1 && f.sub.p && !read_header(f.sub, &a->h))
			return false;
		if (f.number == 3)
			a->created = f.v != 0;
		if (f.number == 4)
			a->canceled = f.v != 0;
		if (f.number == 5)
			a->compact_revision = f.v;
		if (f.number == 6 && f.sub.p)
			snprintf(a->reason, sizeof(a->reason), "%.*s",
				 (int)(pb_len(&f.sub) < 150 ? pb_len(&f.sub) : 150), (const char *)f.sub.p);
	}
	return !in.bad;
}

static bool read_event(struct pb_in in, size_t skip, struct hci_store_event *ev)
{
	struct pb_field f;
	bool kv = false;

	*ev = (struct hci_store_event){ 0 };
	while (pb_next(&in, &f)) {
		if (f.number == 1)
			ev->deleted = f.v == 1;
		if (f.number == 2 && f.sub.p)
			kv = msg_kv(f.sub, skip, &ev->kv);
	}
	return !in.bad && kv;
}

bool msg_watch_event(struct watch_answer *a, size_t skip, struct hci_store_event *ev)
{
	struct pb_field f;

	while (pb_next(&a->events, &f)) {
		if (f.number != 11 || !f.sub.p)
			continue;
		if (read_event(f.sub, skip, ev))
			return true;
		a->events.bad = true;
	}
	return false;
}
