/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open cluster on its loop: identity, rpc, and the mirror of the small records. One watch over the
 * whole store feeds the mirror and everybody who registered with core_watch(). When the watch loses its
 * place the tables are read again and watchers are told with key == NULL: look at everything.
 */
#include "cluster/core_impl.h"
#include "store/store_move.h"
#include "volume/vol_metrics.h"

/* ---- tables: sorted by key ---- */

static size_t table_pos(const struct table *t, const char *key, bool *found)
{
	size_t lo = 0, hi = t->n;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(t->ents[mid].key, key);

		if (!c) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const void *table_get(const struct table *t, const char *key)
{
	bool found;
	size_t i = table_pos(t, key, &found);

	return found ? t->ents[i].rec : NULL;
}

static void ent_free(struct ent *x)
{
	mem_free(x->key);
	mem_free(x->rec);
}

static void table_delete(struct table *t, const char *key, uint64_t rev)
{
	bool found;
	size_t i = table_pos(t, key, &found);

	if (!found || t->ents[i].mod_rev > rev)
		return;
	ent_free(&t->ents[i]);
	memmove(&t->ents[i], &t->ents[i + 1], (t->n - i - 1) * sizeof(*t->ents));
	t->n--;
}

static int table_put(struct table *t, const char *key, const void *value, size_t len, uint64_t rev, struct hci_error *err)
{
	bool found;
	size_t i = table_pos(t, key, &found);
	void *rec;
	int rc;

	if (found && t->ents[i].mod_rev >= rev)
		return 0;
	rec = mem_alloc(rec_size(t->type));
	if (!rec)
		return err_set(err, HCI_E_NOMEM, "%s: out of memory", key);
	rc = rec_decode(t->type, value, len, rec, err);
	if (rc) {
		mem_free(rec);
		return rc;
	}
	if (found) {
		mem_free(t->ents[i].rec);
	} else {
		struct ent *e;

		if (t->n == t->cap) {
			size_t cap = t->cap ? t->cap * 2 : 16;

			e = mem_realloc(t->ents, cap * sizeof(*e));
			if (!e) {
				mem_free(rec);
				return err_set(err, HCI_E_NOMEM, "%s: out of memory", key);
			}
			t->ents = e;
			t->cap = cap;
		}
		e = &t->ents[i];
		char *k = mem_strdup(key);

		if (!k) {
			mem_free(rec);
			return err_set(err, HCI_E_NOMEM, "%s: out of memory", key);
		}
		memmove(e + 1, e, (t->n - i) * sizeof(*e));
		e->key = k;
		t->n++;
	}
	t->ents[i].rec = rec;
	t->ents[i].mod_rev = rev;
	return 0;
}

static void table_clear(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		ent_free(&t->ents[i]);
	mem_free(t->ents);
	t->ents = NULL;
	t->n = t->cap = 0;
}

static struct table *table_of(struct core *c, const char *key)
{
	for (unsigned i = 0; i < TABLES; i++)
		if (!strncmp(key, c->tables[i].prefix, strlen(c->tables[i].prefix)))
			return &c->tables[i];
	return NULL;
}

static int read_all(struct core *c, struct table *t, uint64_t *rev, struct hci_error *err)
{
	struct store_result r;
	char *after = NULL;
	bool more = true;
	int rc = 0;

	*rev = 0;
	while (more && !rc) {
		rc = store_range(c->o.store, t->prefix, after, 500, &r, err);
		if (rc)
			break;
		more = r.more;
		if (!*rev)
			*rev = r.revision;
		mem_free(after);
		after = NULL;
		for (size_t i = 0; i < r.n && !rc; i++)
			rc = table_put(t, r.kvs[i].key, r.kvs[i].value, r.kvs[i].value_len, r.kvs[i].mod_rev, err);
		if (more && r.n)
			after = mem_strdup(r.kvs[r.n - 1].key);
		if (more && !after && !rc)
			rc = err_set(err, HCI_E_NOMEM, "out of memory");
		store_result_free(&r);
	}
	mem_free(after);
	return rc;
}

/*
 * Until all of it is there the table is what it was, however long the store is away: who sees none of his disks would take them
 * for removed. What the watch tells meanwhile goes to both; a key that was deleted may come in a page of before, so then all is read once more.
 */
static int table_load(struct core *c, struct table *t, uint64_t *rev, struct hci_error *err)
{
	struct reading l = { .of = t, .now = { .prefix = t->prefix, .type = t->type } };
	int rc;

	c->reading = &l;
	do {
		table_clear(&l.now);
		l.again = false;
		rc = read_all(c, &l.now, rev, err);
	} while (!rc && l.again && !c->closing);
	c->reading = NULL;
	table_clear(rc ? &l.now : t);
	if (!rc)
		*t = l.now;
	return rc;
}

/* ---- the watch ---- */

static void tell(struct core *c, const char *key, const void *value, size_t len, uint64_t rev)
{
	struct core_watcher *w, *tmp;

	list_for_each_safe(w, tmp, &c->watchers, link)
		w->fn(w, key, value, len, rev);
	fiber_cond_signal(c->o.env, &c->changed);
}

static void reload_fiber(void *arg)
{
	struct core *c = arg;
	struct hci_error err;
	uint64_t rev;

	for (unsigned i = 0; i < TABLES && !c->closing;) {
		if (!i)
			c->lost = false;
		if (table_load(c, &c->tables[i], &rev, &err)) {
			log_warn(env_log(c->o.env), "cluster records cannot be read again yet: %s", err.message);
			fiber_sleep(c->o.env, 500 * NS_PER_MS);
		} else {
			i = c->lost ? 0 : i + 1; /* lost once more: those that were read lack what came between */
		}
	}
	c->reloading = false;
	if (!c->closing)
		tell(c, NULL, NULL, 0, 0);
	fiber_cond_signal(c->o.env, &c->changed);
}

/* Without a fiber: with the next that is heard. */
static void reload(struct core *c)
{
	if (c->reloading || c->closing)
		return;
	c->reloading = true;
	if (fiber_spawn(c->o.env, reload_fiber, c, "core-reload"))
		c->reloading = false;
}

static int take_event(struct core *c, struct table *t, const struct store_event *ev, uint64_t revision, struct hci_error *err)
{
	const struct store_kv *kv = &ev->kv;
	struct reading *l = c->reading && c->reading->of == t ? c->reading : NULL;

	if (l)
		l->again |= ev->deleted || table_put(&l->now, kv->key, kv->value, kv->value_len, revision, err);
	if (!ev->deleted)
		return table_put(t, kv->key, kv->value, kv->value_len, revision, err);
	table_delete(t, kv->key, revision);
	return 0;
}

static void on_events(void *arg, const struct store_event *ev, size_t n, uint64_t revision)
{
	struct core *c = arg;
	struct hci_error err;

	c->seen = revision;
	c->lost |= !ev;
	if (c->lost)
		reload(c);
	if (!ev)
		vol_metrics_forget(c->o.env, NULL);
	for (size_t i = 0; ev && i < n; i++) {
		const struct store_kv *kv = &ev[i].kv;
		struct table *t = table_of(c, kv->key);
		const char *job = key_tail(kv->key, PREFIX_JOB);

		if (t && take_event(c, t, &ev[i], revision, &err))
			log_warn(env_log(c->o.env), "%s is left as it was: %s", kv->key, err.message);
		if (job)
			core_job_changed(c, job, ev[i].deleted ? NULL : kv->value, kv->value_len, revision);
		if (ev[i].deleted && !strncmp(kv->key, PREFIX_VOLNAME, strlen(PREFIX_VOLNAME)))
			vol_metrics_forget(c->o.env, kv->key + strlen(PREFIX_VOLNAME));
		tell(c, kv->key, ev[i].deleted ? NULL : kv->value, kv->value_len, revision);
	}
}

int core_catch_up(struct core *c, struct hci_error *err)
{
	uint64_t end = env_now(c->o.env) + NS_PER_S;
	struct store_result r;
	uint64_t rev;
	int rc = store_get(c->o.store, KEY_CLUSTER, &r, err);

	if (rc)
		return rc;
	rev = r.revision;
	store_result_free(&r);
	while ((c->seen < rev || c->reloading) && env_now(c->o.env) < end)
		fiber_cond_wait_until(c->o.env, &c->changed, end);
	return 0;
}

void core_watch(struct core *c, struct core_watcher *w)
{
	list_push(&c->watchers, &w->link);
}

void core_unwatch(struct core *c, struct core_watcher *w)
{
	(void)c;
	list_del(&w->link);
}

/* ---- looking things up ---- */

#define LOOKUP(fn, type, table, keyfn, argtype)                  \
	const struct type *fn(struct core *c, argtype id)        \
	{                                                        \
		char key[REC_KEY];                               \
		keyfn(key, id);                                  \
		return table_get(&c->tables[table], key);        \
	}

LOOKUP(core_node, rec_node, T_NODE, key_node, const char *)
LOOKUP(core_alive, rec_alive, T_ALIVE, key_alive, const char *)
LOOKUP(core_disk, rec_disk, T_DISK, key_disk, const struct uuid *)
LOOKUP(core_diskstat, rec_diskstat, T_DISKSTAT, key_diskstat, const struct uuid *)
LOOKUP(core_pool, rec_pool, T_POOL, key_pool, const char *)
LOOKUP(core_policy, rec_policy, T_POLICY, key_policy, const char *)

#define EACH(fn, type, id)                                                                  \
	void fn(struct core *c, bool (*f)(void *arg, const struct type *r), void *arg)     \
	{                                                                                   \
		struct table *t = &c->tables[id];                                           \
		for (size_t i = 0; i < t->n; i++)                                           \
			if (!f(arg, t->ents[i].rec))                                        \
				return;                                                     \
	}

EACH(core_each_node, rec_node, T_NODE)
EACH(core_each_disk, rec_disk, T_DISK)
EACH(core_each_pool, rec_pool, T_POOL)
EACH(core_each_policy, rec_policy, T_POLICY)

struct fiber_cond *core_changed(struct core *c)
{
	return &c->changed;
}

struct env *core_env(struct core *c)
{
	return c->o.env;
}

struct store *core_store(struct core *c)
{
	return c->o.store;
}

struct rpc *core_rpc(struct core *c)
{
	return c->rpc;
}

struct rpc_peers *core_peers(struct core *c)
{
	return c->peers;
}

struct vol_ctx *core_vol_ctx(struct core *c)
{
	return &c->vol_ctx;
}

const char *core_self(const struct core *c)
{
	return c->self;
}

const struct rec_cluster *core_cluster(const struct core *c)
{
	return &c->cluster;
}

/* ---- open and close ---- */

static int resolve(void *arg, const char *node, char *addr, size_t cap)
{
	struct core *c = arg;
	const struct rec_alive *a = core_alive(c, node);
	const struct rec_node *n = core_node(c, node);
	const char *s = a ? a->addr : n ? n->addr : NULL;

	if (!s || !*s || strlen(s) >= cap)
		return HCI_E_NOTFOUND;
	memcpy(addr, s, strlen(s) + 1);
	return 0;
}

static const struct rec_disk *ctx_disk(void *arg, const struct uuid *id)
{
	struct core *c = arg;
	const struct rec_disk *d = core_disk(c, id);

	/* A node without a heartbeat may still answer: its state is told, not its absence hidden. */
	return d;
}

static const struct rec_pool *ctx_pool(void *arg, const char *name)
{
	return core_pool(arg, name);
}

static int open_records(struct core *c, struct hci_error *err)
{
	uint64_t rev, first = 0;
	int rc = store_check_moved(c->o.store, c->o.store_url ? c->o.store_url : "", err);

	if (rc)
		return rc;
	rc = rec_cluster_get(c->o.store, KEY_CLUSTER, &c->cluster, NULL, err);
	if (rc == HCI_E_NOTFOUND)
		return err_set(err, rc, "store %s: holds no cluster: make one with hci_cluster_create() or hcictl cluster create", c->o.store_url ? c->o.store_url : "");
	for (unsigned i = 0; i < TABLES && !rc; i++) {
		rc = table_load(c, &c->tables[i], &rev, err);
		if (!i)
			first = rev;
	}
	if (rc)
		return rc;
	c->seen = first;
	c->watch = store_watch(c->o.store, "", first, on_events, c);
	return c->watch ? 0 : err_set(err, HCI_E_NOMEM, "cluster: out of memory");
}

static int open_rpc(struct core *c, struct hci_error *err)
{
	struct rpc_opts o = { .node_name = c->self, .cluster = c->cluster.uuid, .tls = c->o.tls };

	c->rpc = rpc_new(c->o.env, &o);
	c->peers = c->rpc ? rpc_peers_new(c->rpc, resolve, c) : NULL;
	return c->peers ? 0 : err_set(err, HCI_E_NOMEM, "cluster: out of memory");
}

int core_open(const struct core_opts *o, struct core **out, struct hci_error *err)
{
	static const struct {
		const char *prefix;
		const struct rec_type *type;
	} kinds[TABLES] = {
		[T_NODE] = { PREFIX_NODE, &rec_node_type },         [T_ALIVE] = { PREFIX_ALIVE, &rec_alive_type },
		[T_DISK] = { PREFIX_DISK, &rec_disk_type },         [T_DISKSTAT] = { PREFIX_DISKSTAT, &rec_diskstat_type },
		[T_POOL] = { PREFIX_POOL, &rec_pool_type },         [T_POLICY] = { PREFIX_POLICY, &rec_policy_type },
	};
	struct core *c = MEM_NEW(struct core);
	int rc;

	*out = NULL;
	if (!c)
		return err_set(err, HCI_E_NOMEM, "cluster: out of memory");
	c->o = *o;
	snprintf(c->self, sizeof(c->self), "%s", o->self);
	list_init(&c->watchers);
	list_init(&c->jobs);
	list_init(&c->policies);
	fiber_cond_init(&c->changed);
	fiber_mutex_init(&c->policy_lock);
	for (unsigned i = 0; i < TABLES; i++) {
		c->tables[i].prefix = kinds[i].prefix;
		c->tables[i].type = kinds[i].type;
	}
	rc = open_records(c, err);
	if (!rc)
		rc = open_rpc(c, err);
	if (rc) {
		core_close(c);
		return rc;
	}
	c->vol_ctx = (struct vol_ctx){
		.env = o->env,
		.store = o->store,
		.peers = c->peers,
		.self = c->self,
		.choose_spare = core_choose_spare,
		.disk = ctx_disk,
		.pool = ctx_pool,
		.arg = c,
	};
	*out = c;
	return 0;
}

void core_close(struct core *c)
{
	if (!c)
		return;
	c->closing = true;
	core_cache_close(c);
	if (c->watch)
		store_watch_close(c->watch);
	while (c->reloading)
		fiber_sleep(c->o.env, 5 * NS_PER_MS);
	if (c->peers)
		rpc_peers_free(c->peers);
	if (c->rpc)
		rpc_free(c->rpc);
	core_policies_free(c);
	for (unsigned i = 0; i < TABLES; i++)
		table_clear(&c->tables[i]);
	mem_free(c);
}
