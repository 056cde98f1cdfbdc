/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of every store: has checked (store_check.c) and copies what callers ask, parks their fibers, minds timeouts,
 * keeps the watches. What a request does is the driver's matter (driver.h).
 */
#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/fiber.h"
#include "store/driver.h"
#include "store/store_check.h"

#define DEFAULT_TIMEOUT (5 * NS_PER_S)
#define RANGE_MAX 1000u

struct store {
	struct env *env;
	const struct store_driver *ops;
	void *d;
	uint64_t timeout;
	uint64_t last_watch_id;
	struct list reqs; /* all that are not freed yet */
	struct list watches;
	struct fiber_cond idle; /* reqs became empty */
	struct metric *latency;
	bool closing;
};

struct store *store_new(struct env *e, const struct store_driver *ops, void *d)
{
	struct store *s = MEM_NEW(struct store);

	if (!s)
		return NULL;
	s->env = e;
	s->ops = ops;
	s->d = d;
	s->timeout = DEFAULT_TIMEOUT;
	list_init(&s->reqs);
	list_init(&s->watches);
	fiber_cond_init(&s->idle);
	if (env_metrics(e))
		s->latency =
			metrics_histogram(env_metrics(e), "hci_store_request_seconds",
					  "Time to answer a request to the metadata store.", "");
	return s;
}

static const char sqlite[] = "sqlite:";

bool store_present(const char *url)
{
	if (strncmp(url, sqlite, sizeof(sqlite) - 1) != 0 || !url[sizeof(sqlite) - 1])
		return true; /* opening tells */
	return access(url + sizeof(sqlite) - 1, F_OK) == 0 || errno != ENOENT;
}

int store_open(struct env *e, const char *url, struct store **out, struct hci_error *err)
{
	*out = NULL;
	if (strncmp(url, sqlite, sizeof(sqlite) - 1) == 0)
		return store_sqlite_open(e, url + sizeof(sqlite) - 1, out, err);
	return store_plugin_open(e, url, out, err);
}

struct env *store_env(struct store *s)
{
	return s->env;
}

void store_set_timeout(struct store *s, uint64_t ns)
{
	s->timeout = ns;
}

void store_kv_clear(struct store_kv *kv)
{
	mem_free(kv->key);
	mem_free(kv->value);
	kv->key = NULL;
	kv->value = NULL;
}

void store_result_free(struct store_result *r)
{
	for (size_t i = 0; i < r->n; i++)
		store_kv_clear(&r->kvs[i]);
	mem_free(r->kvs);
	*r = (struct store_result){ 0 };
}

/* ---- requests ---- */

static void req_free(struct store_req *r)
{
	struct store *s = r->store;

	for (size_t i = 0; r->cmps && i < r->ncmp; i++)
		mem_free((char *)r->cmps[i].key);
	for (size_t i = 0; r->ops && i < r->nop; i++) {
		mem_free((char *)r->ops[i].key);
		mem_free((void *)r->ops[i].value);
	}
	mem_free(r->cmps);
	mem_free(r->ops);
	mem_free(r->key);
	mem_free(r->after);
	store_result_free(&r->result);
	list_del(&r->all);
	if (s->closing && list_empty(&s->reqs))
		fiber_cond_signal(s->env, &s->idle);
	mem_free(r);
}

static struct store_req *req_new(struct store *s, enum store_req_kind kind)
{
	struct store_req *r = MEM_NEW(struct store_req);

	if (!r)
		return NULL;
	r->kind = kind;
	r->store = s;
	list_init(&r->link);
	list_push(&s->reqs, &r->all);
	return r;
}

static void req_timeout(struct env_timer *t)
{
	struct store_req *r = container_of(t, struct store_req, timer);

	r->left = true;
	fiber_wake(r->store->env, r->fiber);
}

void store_req_done(struct store_req *r)
{
	r->answered = true;
	if (r->fiber)
		fiber_wake(r->store->env, r->fiber);
	else
		req_free(r);
}

/* The driver still has the request: give the caller his answer and leave it behind. */
static int req_leave(struct store_req *r, struct hci_error *err)
{
	struct store *s = r->store;

	r->fiber = NULL;
	if (s->closing)
		return err_set(err, HCI_E_CLOSED,
			       "store (%s): closed while a request was under way", s->ops->name);
	return err_set(err, HCI_E_UNAVAILABLE,
		       "store (%s): no answer within %llu ms; check that its disk or server can be "
		       "reached, then retry",
		       s->ops->name, (unsigned long long)(s->timeout / NS_PER_MS));
}

static int answer_error(struct store_req *r, struct hci_error *err)
{
	if (r->err.code == r->code && r->err.message[0])
		return err_copy(err, &r->err, r->code);
	switch (r->code) {
	case HCI_E_CONFLICT:
		return err_set(err, r->code,
			       "store: a key was changed by somebody else meanwhile; read again "
			       "and retry");
	case HCI_E_NOTFOUND:
		return err_set(err, r->code,
			       "store: lease %llu has expired or was revoked; take a new one",
			       (unsigned long long)r->lease);
	case HCI_E_FENCED:
		return err_set(err, r->code,
			       "store: the lease of the transaction has expired; take a new one");
	default:
		return err_set(err, r->code, "store (%s): request failed: %s", r->store->ops->name,
			       hci_strerror(r->code));
	}
}

/* Submits r and parks until the answer; *r is still there when it returns 0 or the driver's error.
 */
static int req_run(struct store_req *r, struct hci_error *err, bool *left)
{
	struct store *s = r->store;
	struct env *e = s->env;
	uint64_t start = env_now(e);

	*left = false;
	r->fiber = fiber_self(e);
	r->deadline = start + s->timeout;
	env_timer_init(&r->timer, req_timeout);
	env_timer_arm(e, &r->timer, r->deadline);
	s->ops->submit(s->d, r);
	while (!r->answered && !r->left)
		fiber_park(e);
	env_timer_disarm(e, &r->timer);
	metric_observe_ns(s->latency, env_now(e) - start);
	if (!r->answered) {
		*left = true;
		return req_leave(r, err);
	}
	return r->code ? answer_error(r, err) : 0;
}

static int out_of_memory(struct store_req *r, struct hci_error *err)
{
	if (r)
		req_free(r);
	return err_set(err, HCI_E_NOMEM, "store: out of memory for a request");
}

static int check_open(struct store *s, struct hci_error *err)
{
	if (s->closing)
		return err_set(err, HCI_E_CLOSED, "store (%s): is being closed", s->ops->name);
	return 0;
}

/* Runs and frees r; what is wanted of the answer goes to the pointers that are not NULL. */
static int req_finish(struct store_req *r, struct store_result *result, uint64_t *lease,
		      uint64_t *revision, struct hci_error *err)
{
	bool left;
	int rc = req_run(r, err, &left);

	if (left)
		return rc;
	if (rc == 0 && result) {
		*result = r->result;
		r->result = (struct store_result){ 0 };
	}
	if (rc == 0 && lease)
		*lease = r->lease;
	if (rc == 0 && revision)
		*revision = r->revision;
	req_free(r);
	return rc;
}

int store_get(struct store *s, const char *key, struct store_result *out, struct hci_error *err)
{
	struct store_req *r;
	int rc;

	*out = (struct store_result){ 0 };
	rc = check_open(s, err);
	if (!rc)
		rc = store_check_key(key, false, err);
	if (rc)
		return rc;
	r = req_new(s, STORE_REQ_GET);
	if (!r)
		return out_of_memory(r, err);
	r->key = mem_strdup(key);
	if (!r->key)
		return out_of_memory(r, err);
	return req_finish(r, out, NULL, NULL, err);
}

int store_range(struct store *s, const char *prefix, const char *after, uint32_t limit,
		struct store_result *out, struct hci_error *err)
{
	struct store_req *r;
	int rc;

	*out = (struct store_result){ 0 };
	rc = check_open(s, err);
	if (!rc)
		rc = store_check_key(prefix, true, err);
	if (!rc && after)
		rc = store_check_key(after, true, err);
	if (rc)
		return rc;
	r = req_new(s, STORE_REQ_RANGE);
	if (!r)
		return out_of_memory(r, err);
	r->key = mem_strdup(prefix);
	r->after = after ? mem_strdup(after) : NULL;
	r->limit = limit == 0 || limit > RANGE_MAX ? RANGE_MAX : limit;
	if (!r->key || (after && !r->after))
		return out_of_memory(r, err);
	return req_finish(r, out, NULL, NULL, err);
}

static bool copy_op(struct store_op *to, const struct store_op *from)
{
	void *value = NULL;

	to->kind = from->kind;
	to->key = mem_strdup(from->key);
	if (!to->key || from->kind != STORE_PUT)
		return to->key != NULL;
	to->lease = from->lease;
	to->value_len = from->value_len;
	value = mem_alloc(from->value_len ? from->value_len : 1);
	if (!value)
		return false;
	if (from->value_len)
		memcpy(value, from->value, from->value_len);
	to->value = value;
	return true;
}

static bool copy_txn(struct store_req *r, const struct store_cmp *cmps, size_t ncmp,
		     const struct store_op *ops, size_t nop)
{
	r->cmps = mem_calloc(ncmp ? ncmp : 1, sizeof(*cmps));
	r->ops = mem_calloc(nop ? nop : 1, sizeof(*ops));
	if (!r->cmps || !r->ops)
		return false;
	r->ncmp = ncmp;
	r->nop = nop;
	for (size_t i = 0; i < ncmp; i++) {
		r->cmps[i] = cmps[i];
		r->cmps[i].key = mem_strdup(cmps[i].key);
	}
	for (size_t i = 0; i < ncmp; i++)
		if (!r->cmps[i].key)
			return false;
	for (size_t i = 0; i < nop; i++)
		if (!copy_op(&r->ops[i], &ops[i]))
			return false;
	return true;
}

int store_txn(struct store *s, const struct store_cmp *cmps, size_t ncmp,
	      const struct store_op *ops, size_t nop, uint64_t *revision, struct hci_error *err)
{
	struct store_req *r;
	int rc = check_open(s, err);

	if (!rc)
		rc = store_check_txn(cmps, ncmp, ops, nop, err);
	if (rc)
		return rc;
	r = req_new(s, STORE_REQ_TXN);
	if (!r || !copy_txn(r, cmps, ncmp, ops, nop))
		return out_of_memory(r, err);
	return req_finish(r, NULL, NULL, revision, err);
}

static int lease_request(struct store *s, enum store_req_kind kind, uint64_t ttl_ns, uint64_t lease,
			 uint64_t *out, struct hci_error *err)
{
	struct store_req *r;
	int rc = check_open(s, err);

	if (rc)
		return rc;
	r = req_new(s, kind);
	if (!r)
		return out_of_memory(r, err);
	r->ttl_ns = ttl_ns;
	r->lease = lease;
	return req_finish(r, NULL, out, NULL, err);
}

int store_lease_grant(struct store *s, uint64_t ttl_ns, uint64_t *lease, struct hci_error *err)
{
	if (ttl_ns < NS_PER_MS || ttl_ns > STORE_TTL_MAX)
		return err_set(err, HCI_E_RANGE,
			       "store lease of %llu ns: allowed is 1 ms to 366 days",
			       (unsigned long long)ttl_ns);
	return lease_request(s, STORE_REQ_GRANT, ttl_ns, 0, lease, err);
}

int store_lease_keepalive(struct store *s, uint64_t lease, struct hci_error *err)
{
	return lease_request(s, STORE_REQ_KEEPALIVE, 0, lease, NULL, err);
}

int store_lease_revoke(struct store *s, uint64_t lease, struct hci_error *err)
{
	return lease_request(s, STORE_REQ_REVOKE, 0, lease, NULL, err);
}

/* ---- watches ---- */

static void watch_free(struct store_watch *w)
{
	list_del(&w->link);
	mem_free(w->prefix);
	mem_free(w);
}

struct store_watch *store_watch(struct store *s, const char *prefix, uint64_t after_rev,
				void (*fn)(void *arg, const struct store_event *ev, size_t n,
					   uint64_t revision),
				void *arg)
{
	struct store_watch *w;

	if (s->closing || store_check_key(prefix, true, NULL))
		return NULL;
	w = MEM_NEW(struct store_watch);
	if (!w)
		return NULL;
	list_push(&s->watches, &w->link);
	w->store = s;
	w->id = ++s->last_watch_id;
	w->rev = after_rev;
	w->fn = fn;
	w->arg = arg;
	w->prefix = mem_strdup(prefix);
	if (!w->prefix || s->ops->watch(s->d, w)) {
		watch_free(w);
		return NULL;
	}
	return w;
}

void store_watch_close(struct store_watch *w)
{
	if (!w)
		return;
	w->store->ops->unwatch(w->store->d, w);
	watch_free(w);
}

struct store_watch *store_watch_find(struct store *s, uint64_t id)
{
	struct store_watch *w;

	list_for_each(w, &s->watches, link)
		if (w->id == id)
			return w;
	return NULL;
}

void store_watch_deliver(struct store_watch *w, const struct store_event *ev, size_t n,
			 uint64_t revision)
{
	if (ev && (n == 0 || revision <= w->rev))
		return;
	w->rev = revision;
	w->fn(w->arg, ev, ev ? n : 0, revision);
}

void store_watch_lose_all(struct store *s, uint64_t revision)
{
	for (uint64_t id = 1; id <= s->last_watch_id; id++) {
		struct store_watch *w = store_watch_find(s, id);

		if (w)
			store_watch_deliver(w, NULL, 0, MAX(w->rev, revision));
	}
}

void store_watch_progress(struct store_watch *w, uint64_t revision)
{
	if (revision > w->rev)
		w->rev = revision;
}

/* ---- the end ---- */

void store_close(struct store *s)
{
	struct store_req *r;

	if (!s)
		return;
	s->closing = true;
	while (!list_empty(&s->watches))
		store_watch_close(list_first(&s->watches, struct store_watch, link));
	list_for_each(r, &s->reqs, all) {
		r->left = true;
		if (r->fiber)
			fiber_wake(s->env, r->fiber);
	}
	s->ops->close(s->d);
	while (!list_empty(&s->reqs))
		fiber_cond_wait(s->env, &s->idle);
	mem_free(s);
}
