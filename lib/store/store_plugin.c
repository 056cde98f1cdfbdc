/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Store drivers that are plugins (include/hci/plugin_store.h): finds one by the URL's scheme, hands it requests, brings
 * its answers and events from its threads to the loop. What it says is checked like input from a stranger.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/fiber.h"
#include "policy/policy.h"
#include "store/driver.h"

#define LOG_SUB "store"
#define ANSWER_KVS_MAX 1000u
#define CHANGE_EVENTS_MAX (1u << 20)
#define TEXT_MAX 300

struct sp {
	struct env *env;
	struct store *store;
	struct hci_store_ops ops;
	struct hci_store_host host;
	void *instance;
	const char *url;     /* during open */
	unsigned batches;    /* of events, posted and not run yet; atomic */
	struct env_task no_memory;
	uint64_t no_memory_rev; /* not 0: the task is posted; atomic */
	int open_code;
	struct hci_error open_err;
};

/* A request as the plugin sees it. */
struct sp_req {
	struct hci_store_request q;
	struct store_req *r;
	struct hci_store_cmp *cmps;
	struct hci_store_op *ops;
};

struct sp_batch {
	struct env_task task;
	struct sp *p;
	uint64_t watch, revision;
	struct store_event *ev;
	size_t n;
	bool lost;
};

/* ---- what the plugin says, on its threads ---- */

/* One line, no more than fits. */
static void take_text(char *out, size_t cap, const char *text)
{
	snprintf(out, cap, "%s", text ? text : "");
	for (char *c = out; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
}

static void host_log(void *ctx, int32_t level, const char *line)
{
	struct sp *p = ctx;
	char text[TEXT_MAX];

	take_text(text, sizeof(text), line);
	if (level < LOG_ERROR || level > LOG_TRACE)
		level = LOG_INFO;
	log_at(env_log(p->env), (enum log_level)level, "%s", text);
}

static void host_fail(void *ctx, int32_t code, const char *message)
{
	struct sp *p = ctx;
	char text[TEXT_MAX];

	take_text(text, sizeof(text), message);
	p->open_code = err_set(&p->open_err, code < 0 ? code : HCI_E_PLUGIN, "%s", text);
}

static bool good_key(const char *key, uint32_t len)
{
	if (!key || !len || len > STORE_KEY_MAX)
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (key[i] < 0x21 || key[i] > 0x7e)
			return false;
	return true;
}

/* 0, HCI_E_PLUGIN (nonsense) or HCI_E_NOMEM. */
static int take_kv(struct store_kv *to, const struct hci_store_kv *from, bool value)
{
	uint32_t len = value ? from->value_len : 0;

	if (!good_key(from->key, from->key_len) || len > STORE_VALUE_MAX || (len && !from->value))
		return HCI_E_PLUGIN;
	*to = (struct store_kv){ .create_rev = from->create_rev, .mod_rev = from->mod_rev, .lease = from->lease };
	to->key = mem_alloc((size_t)from->key_len + 1);
	to->value = mem_alloc((size_t)len + 1);
	if (!to->key || !to->value) {
		store_kv_clear(to);
		return HCI_E_NOMEM;
	}
	memcpy(to->key, from->key, from->key_len);
	to->key[from->key_len] = '\0';
	if (len)
		memcpy(to->value, from->value, len);
	to->value_len = len;
	return 0;
}

/* Is it what was asked for? */
static bool key_fits(const struct store_req *r, const char *key)
{
	return r->kind == STORE_REQ_GET ? !strcmp(key, r->key)
					: store_key_matches(key, r->key) && (!r->after || strcmp(key, r->after) > 0);
}

static int take_kvs(struct store_req *r, const struct hci_store_answer *a)
{
	struct store_result *res = &r->result;
	uint32_t limit = r->kind == STORE_REQ_GET ? 1 : r->kind == STORE_REQ_RANGE ? r->limit : 0;
	int rc = 0;

	res->revision = a->revision;
	if (a->nkvs > MIN(limit, ANSWER_KVS_MAX) || (a->nkvs && (!a->kvs || a->kv_stride < sizeof(*a->kvs))))
		return HCI_E_PLUGIN;
	if (a->nkvs == 0)
		return a->more ? HCI_E_PLUGIN : 0; /* a caller would ask for ever */
	res->kvs = mem_calloc(a->nkvs, sizeof(*res->kvs));
	if (!res->kvs)
		return HCI_E_NOMEM;
	for (uint32_t i = 0; i < a->nkvs && !rc; i++) {
		rc = take_kv(&res->kvs[i], (const void *)((const char *)a->kvs + (size_t)i * a->kv_stride), true);
		if (rc)
			break;
		res->n++;
		if (!key_fits(r, res->kvs[i].key) || (i && strcmp(res->kvs[i - 1].key, res->kvs[i].key) >= 0))
			rc = HCI_E_PLUGIN;
	}
	res->more = !rc && a->more;
	return rc;
}

static int check_answer(struct store_req *r, const struct hci_store_answer *a)
{
	if (!a || a->size < sizeof(*a) || a->code > 0)
		return HCI_E_PLUGIN;
	if (a->code)
		return a->code;
	r->revision = a->revision;
	if (r->kind == STORE_REQ_GRANT) {
		r->lease = a->lease;
		return a->lease ? 0 : HCI_E_PLUGIN;
	}
	return take_kvs(r, a);
}

static void host_done(void *ctx, void *tag, const struct hci_store_answer *a)
{
	struct sp *p = ctx;
	struct sp_req *q = tag;
	struct store_req *r = q->r;
	char text[TEXT_MAX] = "";

	r->code = check_answer(r, a);
	if (r->code)
		store_result_free(&r->result);
	if (r->code && a && a->code == r->code)
		take_text(text, sizeof(text), a->message);
	else if (r->code == HCI_E_PLUGIN)
		snprintf(text, sizeof(text), "store: its plugin gave an answer that makes no sense: update the plugin");
	if (text[0])
		err_set(&r->err, r->code, "%s", text);
	env_post(p->env, &r->task);
}

static void batch_free(struct sp_batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		store_kv_clear(&b->ev[i].kv);
	mem_free(b->ev);
	mem_free(b);
}

static void batch_arrived(struct env_task *t)
{
	struct sp_batch *b = container_of(t, struct sp_batch, task);
	struct sp *p = b->p;
	struct store_watch *w = p->store ? store_watch_find(p->store, b->watch) : NULL;

	if (w)
		store_watch_deliver(w, b->lost ? NULL : b->ev, b->n, b->revision);
	batch_free(b);
	__atomic_sub_fetch(&p->batches, 1, __ATOMIC_RELAXED);
}

static bool take_events(struct sp_batch *b, const struct hci_store_change *ch)
{
	if (ch->nevents == 0 || ch->nevents > CHANGE_EVENTS_MAX || !ch->events || ch->event_stride < sizeof(*ch->events))
		return false;
	b->ev = mem_calloc(ch->nevents, sizeof(*b->ev));
	if (!b->ev)
		return false;
	for (uint32_t i = 0; i < ch->nevents; i++) {
		const struct hci_store_event *e =
			(const void *)((const char *)ch->events + (size_t)i * ch->event_stride);

		if (take_kv(&b->ev[i].kv, &e->kv, !e->deleted))
			return false;
		b->ev[i].deleted = e->deleted != 0;
		b->n++;
	}
	return true;
}

static void no_memory_arrived(struct env_task *t)
{
	struct sp *p = container_of(t, struct sp, no_memory);
	uint64_t rev = __atomic_exchange_n(&p->no_memory_rev, 0, __ATOMIC_ACQ_REL);

	if (p->store)
		store_watch_lose_all(p->store, rev);
	__atomic_sub_fetch(&p->batches, 1, __ATOMIC_RELAXED);
}

/* There is not even memory to say which watch missed something: all of them read again. */
static void missed_for_memory(struct sp *p, uint64_t rev)
{
	uint64_t was = __atomic_load_n(&p->no_memory_rev, __ATOMIC_RELAXED);

	rev = MAX(rev, 1);
	while (!__atomic_compare_exchange_n(&p->no_memory_rev, &was, MAX(was, rev), false, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED))
		;
	if (was)
		return; /* the task is on its way */
	__atomic_add_fetch(&p->batches, 1, __ATOMIC_RELAXED);
	env_post(p->env, &p->no_memory);
}

/* What cannot be told for lack of memory is a lost place: the watcher reads again. */
static void host_changed(void *ctx, uint64_t watch, const struct hci_store_change *ch)
{
	struct sp *p = ctx;
	struct sp_batch *b;

	if (!ch || ch->size < sizeof(*ch))
		return;
	b = MEM_NEW(struct sp_batch);
	if (!b) {
		missed_for_memory(p, ch->revision);
		return;
	}
	env_task_init(&b->task, batch_arrived);
	b->p = p;
	b->watch = watch;
	b->revision = ch->revision;
	b->lost = ch->lost || !take_events(b, ch);
	__atomic_add_fetch(&p->batches, 1, __ATOMIC_RELAXED);
	env_post(p->env, &b->task);
}

/* ---- the loop's side ---- */

static void req_free(struct sp_req *q)
{
	mem_free(q->cmps);
	mem_free(q->ops);
	mem_free(q);
}

static void req_answered(struct env_task *t)
{
	struct store_req *r = container_of(t, struct store_req, task);
	struct sp_req *q = (struct sp_req *)(uintptr_t)r->priv[0];

	if (q)
		req_free(q);
	store_req_done(r);
}

static bool copy_txn(struct sp_req *q, const struct store_req *r)
{
	q->cmps = mem_calloc(r->ncmp ? r->ncmp : 1, sizeof(*q->cmps));
	q->ops = mem_calloc(r->nop ? r->nop : 1, sizeof(*q->ops));
	if (!q->cmps || !q->ops)
		return false;
	for (size_t i = 0; i < r->ncmp; i++)
		q->cmps[i] = (struct hci_store_cmp){
			.key = r->cmps[i].key,
			.rev = r->cmps[i].rev,
			.kind = r->cmps[i].kind == STORE_CMP_EXISTS ? HCI_STORE_CMP_EXISTS : HCI_STORE_CMP_MOD_REV,
		};
	for (size_t i = 0; i < r->nop; i++)
		q->ops[i] = (struct hci_store_op){
			.key = r->ops[i].key,
			.value = r->ops[i].value,
			.value_len = r->ops[i].value_len,
			.kind = r->ops[i].kind == STORE_PUT      ? HCI_STORE_PUT
				: r->ops[i].kind == STORE_DELETE ? HCI_STORE_DELETE
								 : HCI_STORE_DELETE_PREFIX,
			.lease = r->ops[i].kind == STORE_PUT ? r->ops[i].lease : 0,
		};
	return true;
}

static uint32_t req_kind(enum store_req_kind k)
{
	static const uint32_t kinds[] = {
		[STORE_REQ_GET] = HCI_STORE_REQ_GET,
		[STORE_REQ_RANGE] = HCI_STORE_REQ_RANGE,
		[STORE_REQ_TXN] = HCI_STORE_REQ_TXN,
		[STORE_REQ_GRANT] = HCI_STORE_REQ_GRANT,
		[STORE_REQ_KEEPALIVE] = HCI_STORE_REQ_KEEPALIVE,
		[STORE_REQ_REVOKE] = HCI_STORE_REQ_REVOKE,
	};

	return kinds[k];
}

static void no_memory(struct sp *p, struct store_req *r)
{
	r->code = HCI_E_NOMEM;
	err_set(&r->err, HCI_E_NOMEM, "store: out of memory for a request");
	env_defer(p->env, &r->task);
}

static void sp_submit(void *d, struct store_req *r)
{
	struct sp *p = d;
	struct sp_req *q = MEM_NEW(struct sp_req);
	uint64_t now = env_now(p->env);

	env_task_init(&r->task, req_answered);
	r->priv[0] = (uint64_t)(uintptr_t)q;
	if (!q || (r->kind == STORE_REQ_TXN && !copy_txn(q, r))) {
		no_memory(p, r);
		return;
	}
	q->r = r;
	q->q = (struct hci_store_request){
		.size = sizeof(q->q),
		.kind = req_kind(r->kind),
		.tag = q,
		.timeout_ns = r->deadline > now ? r->deadline - now : 0,
		.key = r->key,
		.after = r->after,
		.cmps = q->cmps,
		.ops = q->ops,
		.cmp_stride = sizeof(*q->cmps),
		.op_stride = sizeof(*q->ops),
		.ncmps = (uint32_t)r->ncmp,
		.nops = (uint32_t)r->nop,
		.limit = r->limit,
		.ttl_ns = r->ttl_ns,
		.lease = r->lease,
	};
	if (p->ops.submit(p->instance, &q->q))
		no_memory(p, r);
}

static int sp_watch(void *d, struct store_watch *w)
{
	struct sp *p = d;

	return p->ops.watch(p->instance, w->id, w->prefix, w->rev) ? HCI_E_NOMEM : 0;
}

static void sp_unwatch(void *d, struct store_watch *w)
{
	struct sp *p = d;

	p->ops.unwatch(p->instance, w->id);
}

static void close_work(void *arg)
{
	struct sp *p = arg;

	p->ops.close(p->instance);
}

static void sp_close(void *d)
{
	struct sp *p = d;

	fiber_work(p->env, close_work, p);
	while (__atomic_load_n(&p->batches, __ATOMIC_RELAXED))
		fiber_sleep(p->env, NS_PER_MS);
	mem_free(p);
}

static const struct store_driver plugin_driver = {
	.name = "plugin",
	.submit = sp_submit,
	.watch = sp_watch,
	.unwatch = sp_unwatch,
	.close = sp_close,
};

/* ---- opening ---- */

/* "etcd" of "etcd://...": what may be in a file's name. 0: the URL has none. */
static size_t scheme_len(const char *url)
{
	size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return url[n] == ':' && n <= 32 ? n : 0;
}

static void open_work(void *arg)
{
	struct sp *p = arg;
	char name[64], path[4096];

	snprintf(name, sizeof(name), "store-%.*s", (int)scheme_len(p->url), p->url);
	plugin_shipped_path(name, path, sizeof(path));
	if (access(path, F_OK)) {
		p->open_code = err_set(&p->open_err, HCI_E_UNSUPPORTED,
				       "store \"%.200s\": no driver for this kind of URL: built in is sqlite:/path/of/file, and "
				       "there is no plugin %.200s",
				       p->url, path);
		return;
	}
	p->open_code = plugin_load_store(path, &p->ops, &p->open_err);
	if (p->open_code) {
		err_prefix(&p->open_err, "store %.200s", p->url);
		return;
	}
	p->host.ctx = p;
	if (p->ops.open(&p->host, p->url, &p->instance) && !p->open_code)
		p->open_code = err_set(&p->open_err, HCI_E_PLUGIN, "store %.200s: its plugin refuses it for no reason", p->url);
}

int store_plugin_open(struct env *e, const char *url, struct store **out, struct hci_error *err)
{
	struct sp *p;
	int rc;

	*out = NULL;
	if (!scheme_len(url))
		return err_set(err, HCI_E_UNSUPPORTED,
			       "store \"%.200s\": no URL of a store: write sqlite:/path/of/file or etcd://host:2379", url);
	p = MEM_NEW(struct sp);
	if (!p)
		return err_set(err, HCI_E_NOMEM, "store %.200s: out of memory", url);
	p->env = e;
	p->url = url;
	env_task_init(&p->no_memory, no_memory_arrived);
	p->host = (struct hci_store_host){ .size = sizeof(p->host),
					   .abi = HCI_PLUGIN_ABI,
					   .log = host_log,
					   .fail = host_fail,
					   .done = host_done,
					   .changed = host_changed };
	fiber_work(e, open_work, p);
	if (p->open_code) {
		rc = err_copy(err, &p->open_err, p->open_code);
		mem_free(p);
		return rc;
	}
	p->url = NULL;
	p->store = store_new(e, &plugin_driver, p);
	if (!p->store) {
		sp_close(p);
		return err_set(err, HCI_E_NOMEM, "store: out of memory");
	}
	*out = p->store;
	return 0;
}
