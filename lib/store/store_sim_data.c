/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in the simulated store: keys, revisions, history, leases, and what each request does to
 * them, all at once. Who asks and how that travels is store_sim.c's.
 */
#include "store/store_sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define HISTORY_MAX 50000u
#define EXPIRE_LATE (200 * NS_PER_MS) /* leases end a little late, never early */

/* ---- keys ---- */

/* Where key is, or belongs. */
static size_t position(const struct simstore *ss, const char *key)
{
	size_t lo = 0, hi = ss->nkv;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(ss->kv[mid]->key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct store_kv *find(const struct simstore *ss, const char *key)
{
	size_t at = position(ss, key);

	return at < ss->nkv && strcmp(ss->kv[at]->key, key) == 0 ? ss->kv[at] : NULL;
}

static void kv_free(struct store_kv *kv)
{
	free(kv->key);
	free(kv->value);
	free(kv);
}

static uint8_t *copy_value(const void *value, uint32_t len)
{
	uint8_t *v = sim_calloc(1, (size_t)len + 1);

	if (len > 0)
		memcpy(v, value, len);
	return v;
}

static void trim_history(struct simstore *ss, size_t n)
{
	if (n == 0)
		return;
	ss->compacted = ss->hist[n - 1].kv.mod_rev;
	for (size_t k = 0; k < n; k++) {
		free(ss->hist[k].kv.key);
		free(ss->hist[k].kv.value);
	}
	ss->nhist -= n;
	memmove(ss->hist, ss->hist + n, ss->nhist * sizeof(*ss->hist));
}

static void record(struct simstore *ss, const struct store_kv *kv, bool deleted)
{
	struct store_event *ev;

	if (ss->nhist == ss->hist_cap) {
		ss->hist_cap = MAX(ss->hist_cap * 2, (size_t)64);
		ss->hist = sim_realloc(ss->hist, ss->hist_cap * sizeof(*ss->hist));
	}
	ev = &ss->hist[ss->nhist++];
	ev->deleted = deleted;
	ev->kv = *kv;
	ev->kv.key = sim_strdup(kv->key);
	ev->kv.mod_rev = ss->rev + 1;
	if (deleted)
		ev->kv.value_len = 0;
	ev->kv.value = copy_value(kv->value, ev->kv.value_len);
}

static void put(struct simstore *ss, const char *key, const void *value, uint32_t len, uint64_t lease)
{
	size_t at = position(ss, key);
	struct store_kv *kv = find(ss, key);

	if (!kv) {
		if (ss->nkv == ss->kv_cap) {
			ss->kv_cap = MAX(ss->kv_cap * 2, (size_t)64);
			ss->kv = sim_realloc(ss->kv, ss->kv_cap * sizeof(struct store_kv *));
		}
		memmove(ss->kv + at + 1, ss->kv + at, (ss->nkv++ - at) * sizeof(struct store_kv *));
		kv = ss->kv[at] = sim_calloc(1, sizeof(*kv));
		kv->key = sim_strdup(key);
		kv->create_rev = ss->rev + 1;
	}
	free(kv->value);
	kv->value = copy_value(value, len);
	kv->value_len = len;
	kv->mod_rev = ss->rev + 1;
	kv->lease = lease;
	record(ss, kv, false);
}

static void delete_at(struct simstore *ss, size_t at)
{
	struct store_kv *kv = ss->kv[at];

	record(ss, kv, true);
	memmove(ss->kv + at, ss->kv + at + 1, (--ss->nkv - at) * sizeof(struct store_kv *));
	kv_free(kv);
}

/* After changes: the revision is taken if there were any. */
static bool commit(struct simstore *ss)
{
	if (ss->nhist == 0 || ss->hist[ss->nhist - 1].kv.mod_rev <= ss->rev)
		return false;
	ss->rev++;
	if (ss->nhist > HISTORY_MAX)
		trim_history(ss, simdata_after(ss, ss->hist[HISTORY_MAX / 2].kv.mod_rev));
	simstore_changed(ss);
	return true;
}

size_t simdata_after(const struct simstore *ss, uint64_t rev)
{
	size_t lo = 0, hi = ss->nhist;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (ss->hist[mid].kv.mod_rev <= rev)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* ---- leases ---- */

static struct simstore_lease *lease_find(struct simstore *ss, uint64_t id)
{
	struct simstore_lease *l;

	list_for_each(l, &ss->leases, link) {
		if (l->id == id)
			return l;
	}
	return NULL;
}

static void lease_free(struct simstore_lease *l)
{
	sim_ev_cancel(&l->expire);
	list_del(&l->link);
	free(l);
}

static void lease_end(struct simstore_lease *l)
{
	struct simstore *ss = l->ss;

	for (size_t k = 0; k < ss->nkv;) {
		if (ss->kv[k]->lease == l->id)
			delete_at(ss, k);
		else
			k++;
	}
	lease_free(l);
	commit(ss);
}

static void lease_fire(struct sim_ev *ev)
{
	lease_end(container_of(ev, struct simstore_lease, expire));
}

static void lease_renew(struct simstore_lease *l)
{
	sim_ev_in(&l->expire, l->ttl + sim_rand_below(l->ss->sim, EXPIRE_LATE));
}

static void grant(struct simstore *ss, struct store_req *req)
{
	struct simstore_lease *l = sim_calloc(1, sizeof(*l));

	l->ss = ss;
	l->id = ++ss->last_lease;
	l->ttl = req->ttl_ns;
	sim_ev_init(&l->expire, ss->sim, NULL, SIM_EV_STORE, lease_fire);
	list_push(&ss->leases, &l->link);
	lease_renew(l);
	req->lease = l->id;
}

/* ---- reading ---- */

static bool copy_kv(struct store_kv *to, const struct store_kv *from)
{
	*to = *from;
	to->key = mem_strdup(from->key);
	to->value = mem_alloc((size_t)from->value_len + 1);
	if (to->value)
		memcpy(to->value, from->value, from->value_len);
	return to->key && to->value;
}

static void answer(struct simstore *ss, struct store_req *req, size_t from, size_t n)
{
	struct store_result *r = &req->result;

	r->revision = ss->rev;
	if (n == 0)
		return;
	r->kvs = mem_calloc(n, sizeof(*r->kvs));
	while (r->kvs && r->n < n) {
		if (!copy_kv(&r->kvs[r->n], ss->kv[from + r->n]))
			break;
		r->n++;
	}
	if (r->n < n) {
		if (r->kvs)
			store_kv_clear(&r->kvs[r->n]);
		store_result_free(r);
		req->code = HCI_E_NOMEM;
	}
}

static void range(struct simstore *ss, struct store_req *req)
{
	size_t from = position(ss, req->key), n = 0;

	if (req->after && strcmp(req->after, req->key) >= 0) {
		from = position(ss, req->after);
		if (from < ss->nkv && strcmp(ss->kv[from]->key, req->after) == 0)
			from++;
	}
	while (from + n < ss->nkv && n < req->limit && store_key_matches(ss->kv[from + n]->key, req->key))
		n++;
	answer(ss, req, from, n);
	req->result.more = req->code == 0 && n == req->limit && from + n < ss->nkv &&
			   store_key_matches(ss->kv[from + n]->key, req->key);
}

/* ---- transactions ---- */

static bool holds(struct simstore *ss, const struct store_cmp *c)
{
	const struct store_kv *kv = find(ss, c->key);

	if (c->kind == STORE_CMP_EXISTS)
		return kv != NULL;
	return (kv ? kv->mod_rev : 0) == c->rev;
}

static void do_op(struct simstore *ss, const struct store_op *op)
{
	size_t at = position(ss, op->key);

	switch (op->kind) {
	case STORE_PUT:
		put(ss, op->key, op->value, op->value_len, op->lease);
		break;
	case STORE_DELETE:
		if (find(ss, op->key))
			delete_at(ss, at);
		break;
	case STORE_DELETE_PREFIX:
		while (at < ss->nkv && store_key_matches(ss->kv[at]->key, op->key))
			delete_at(ss, at);
		break;
	}
}

static int txn(struct simstore *ss, struct store_req *req)
{
	for (size_t k = 0; k < req->ncmp; k++) {
		if (!holds(ss, &req->cmps[k]))
			return HCI_E_CONFLICT;
	}
	for (size_t k = 0; k < req->nop; k++) {
		if (req->ops[k].kind == STORE_PUT && req->ops[k].lease && !lease_find(ss, req->ops[k].lease))
			return HCI_E_FENCED;
	}
	for (size_t k = 0; k < req->nop; k++)
		do_op(ss, &req->ops[k]);
	commit(ss);
	req->revision = ss->rev;
	return 0;
}

void simdata_apply(struct simstore *ss, struct store_req *req)
{
	struct simstore_lease *l;
	size_t at;

	req->code = 0;
	switch (req->kind) {
	case STORE_REQ_GET:
		at = position(ss, req->key);
		answer(ss, req, at, find(ss, req->key) ? 1 : 0);
		break;
	case STORE_REQ_RANGE:
		range(ss, req);
		break;
	case STORE_REQ_TXN:
		req->code = txn(ss, req);
		break;
	case STORE_REQ_GRANT:
		grant(ss, req);
		break;
	case STORE_REQ_KEEPALIVE:
		l = lease_find(ss, req->lease);
		if (l)
			lease_renew(l);
		else
			req->code = HCI_E_NOTFOUND;
		break;
	case STORE_REQ_REVOKE:
		l = lease_find(ss, req->lease);
		if (l)
			lease_end(l);
		break;
	}
	sim_fold(ss->sim, (uint64_t)(uint32_t)req->code << 32 ^ (uint64_t)req->kind << 56 ^ ss->rev);
}

/* ---- the whole ---- */

void simdata_init(struct simstore *ss)
{
	list_init(&ss->leases);
}

void simdata_free(struct simstore *ss)
{
	while (!list_empty(&ss->leases))
		lease_free(list_first(&ss->leases, struct simstore_lease, link));
	for (size_t k = 0; k < ss->nkv; k++)
		kv_free(ss->kv[k]);
	trim_history(ss, ss->nhist);
	free(ss->kv);
	free(ss->hist);
}

void simstore_compact(struct simstore *ss)
{
	trim_history(ss, ss->nhist);
	simstore_changed(ss);
}

uint64_t simstore_revision(const struct simstore *ss)
{
	return ss->rev;
}

const void *simstore_peek(const struct simstore *ss, const char *key, uint32_t *len)
{
	const struct store_kv *kv = find(ss, key);

	if (!kv)
		return NULL;
	*len = kv->value_len;
	return kv->value;
}

void simstore_put(struct simstore *ss, const char *key, const void *value, uint32_t len)
{
	put(ss, key, value, len, 0);
	commit(ss);
}

void simstore_dump(const struct simstore *ss)
{
	for (size_t k = 0; k < ss->nkv; k++)
		fprintf(stderr, "%s = %u bytes, revision %llu, lease %llu\n", ss->kv[k]->key, ss->kv[k]->value_len,
			(unsigned long long)ss->kv[k]->mod_rev, (unsigned long long)ss->kv[k]->lease);
}
