/* SPDX-License-Identifier: Apache-2.0 */
/* hci/disk.h */
#include <errno.h>

#include "api/api_impl.h"

#include "api/tune.h"
#include "cluster/plan.h"

#define ADD_TIMEOUT 30000u

struct add_args {
	struct hci_disk_opts o;
	char uuid[HCI_UUID_STR];
};

struct same {
	const struct hci_disk_opts *o;
	bool found;
};

static bool same_path(void *arg, const struct rec_disk *d)
{
	struct same *s = arg;

	s->found = d->state != REC_DISK_REMOVED && !strcmp(d->node, s->o->node) && !strcmp(d->path, s->o->path);
	return !s->found;
}

static int put_new(hci_cluster *c, const struct hci_disk_opts *o, struct uuid *id, struct hci_error *err)
{
	struct rec_disk *r = MEM_NEW(struct rec_disk);
	char key[REC_KEY];
	uint8_t rnd[16];
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory", o->path);
	env_random(c->env, rnd, sizeof(rnd));
	uuid_from_random(&r->uuid, rnd);
	API_TEXT(r->node, o->node);
	API_TEXT(r->path, o->path);
	API_TEXT(r->pool, o->pool ? o->pool : "");
	API_TEXT(r->log, o->log ? o->log : "");
	r->log_size = o->log_size;
	r->log_wait_ns = o->log_wait_ms * NS_PER_MS;
	r->log_level = o->log_level;
	r->role = (enum rec_disk_role)o->role;
	r->class_ = (enum rec_disk_class)o->disk_class;
	r->state = REC_DISK_NEW;
	r->state_since = env_realtime(c->env);
	key_disk(key, &r->uuid);
	*id = r->uuid;
	rc = rec_disk_put(c->store, key, r, 0, 0, NULL, err);
	mem_free(r);
	return rc;
}

/* Its node could not take it: the record goes again, the cause stays in the error. */
static int give_up(hci_cluster *c, const struct uuid *id, const struct rec_disk *d, struct hci_error *err)
{
	char key[REC_KEY];
	int code = d->why < 0 ? d->why : HCI_E_IO;

	/* The words name the disk. */
	err_set(err, code, "node %s: %s%s", d->node, d->reason, code == HCI_E_NOTFOUND ? ": make it there first, with mkdir" : "");
	key_disk(key, id);
	(void)rec_delete(c->store, key, REC_REV_ANY, NULL, NULL);
	return code;
}

/*
 * A node whose certificate is of another authority has a heartbeat and formats disks, but no replica on it can be reached: what
 * is placed there has one copy fewer from the beginning. One that just does not answer is another matter.
 */
static int check_certificate(hci_cluster *c, const struct hci_disk_opts *o, struct hci_error *err)
{
	struct hci_error why = { 0 };
	struct rpc_conn *conn;
	int rc;

	if (!c->tls || !core_alive(c->core, o->node))
		return 0;
	conn = rpc_peers_get(core_peers(c->core), o->node, &why);
	rc = conn ? rpc_conn_wait(conn, &why) : why.code;
	if (conn)
		rpc_conn_unref(conn);
	if (rc != HCI_E_AUTH)
		return 0;
	return err_set(err, rc, "disk %s of node %s: it would be of no use, as this node and we do not take each other's certificates: %.250s",
		       o->path, o->node, why.message);
}

static int add_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct add_args *a = arg;
	struct same s = { .o = &a->o };
	uint64_t end;
	struct uuid id;
	int rc;

	if (!core_node(c->core, a->o.node))
		return api_none("node", "node", a->o.node, err);
	if (a->o.pool && !core_pool(c->core, a->o.pool))
		return err_set(err, HCI_E_NOTFOUND, "pool %s: there is none of this name: make it with hcictl pool create", a->o.pool);
	core_each_disk(c->core, same_path, &s);
	if (s.found)
		return err_set(err, HCI_E_EXISTS, "disk %s of node %s: it belongs to the cluster already", a->o.path,
			       a->o.node);
	rc = check_certificate(c, &a->o, err);
	if (!rc)
		rc = put_new(c, &a->o, &id, err);
	if (rc)
		return rc;
	uuid_print(&id, a->uuid);
	end = env_now(c->env) + (a->o.timeout_ms ? a->o.timeout_ms : ADD_TIMEOUT) * NS_PER_MS;
	for (;;) {
		const struct rec_disk *d = core_disk(c->core, &id);

		if (d && d->state == REC_DISK_ONLINE)
			return 0;
		if (d && d->state == REC_DISK_FAILED)
			return give_up(c, &id, d, err);
		if (env_now(c->env) >= end)
			return err_set(err, HCI_E_TIMEOUT,
				       "disk %s: node %s has not taken it yet: it stays \"new\" until the node service there runs",
				       a->o.path, a->o.node);
		fiber_cond_wait_until(c->env, core_changed(c->core), end);
	}
}

static bool in_directory(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n] || n == 1);
}

static int check_log(const struct hci_disk_opts *o, struct hci_error *err)
{
	if (o->log && (o->log[0] != '/' || strlen(o->log) >= REC_PATH_MAX - 64))
		return err_set(err, HCI_E_INVAL, "disk %s: its log %.100s: the path must be absolute and shorter than %u bytes",
			       o->path, o->log, REC_PATH_MAX - 64);
	if (o->log && in_directory(o->log, o->path))
		return err_set(err, HCI_E_INVAL,
			       "disk %s: its log %s is in its own directory, which gains nothing: leave it out, or name a directory or "
			       "partition of a faster device",
			       o->path, o->log);
	if (o->log_size && (o->log_size < 4 * MiB || o->log_size > 64 * GiB))
		return err_set(err, HCI_E_RANGE, "disk %s: a log has 4 MiB to 64 GiB, not %llu bytes", o->path,
			       (unsigned long long)o->log_size);
	if (o->log_level > 90)
		return err_set(err, HCI_E_RANGE, "disk %s: log level %u%% is more than 90", o->path, o->log_level);
	return 0;
}

int hci_disk_add(hci_cluster *c, const struct hci_disk_opts *opts, char uuid[HCI_UUID_STR], struct hci_error *err)
{
	static const struct hci_disk_opts defaults = HCI_DISK_OPTS_INIT;
	struct add_args a;
	int rc;

	if (!c)
		return api_null("c", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_disk_opts, pool),
		       "hci_disk_opts", err);
	if (rc)
		return rc;
	if (!a.o.node || !a.o.path)
		return err_set(err, HCI_E_INVAL, "disk: %s is missing", a.o.node ? "path" : "node");
	if (a.o.path[0] != '/' || strlen(a.o.path) >= REC_PATH_MAX - 64)
		return err_set(err, HCI_E_INVAL, "disk %.100s: the path must be absolute and shorter than %u bytes", a.o.path,
			       REC_PATH_MAX - 64);
	if (a.o.role < HCI_DISK_DATA || a.o.role > HCI_DISK_SPARE || a.o.disk_class < HCI_DISK_HDD ||
	    a.o.disk_class > HCI_DISK_NVME)
		return err_set(err, HCI_E_INVAL, "disk %s: role %d or class %d is not known", a.o.path, a.o.role,
			       a.o.disk_class);
	rc = check_log(&a.o, err);
	if (!rc)
		rc = name_check(a.o.node, "node", err);
	if (!rc && a.o.pool)
		rc = name_check(a.o.pool, "pool", err);
	if (!rc)
		rc = api_call_fresh(c, add_on_loop, &a, err);
	if (!rc && uuid)
		memcpy(uuid, a.uuid, HCI_UUID_STR);
	return rc;
}

/* ---- by UUID or the beginning of one ---- */

struct find {
	const char *prefix;
	struct uuid id;
	unsigned n;
};

static bool find_one(void *arg, const struct rec_disk *d)
{
	struct find *f = arg;
	char id[HCI_UUID_STR];

	uuid_print(&d->uuid, id);
	if (d->state != REC_DISK_REMOVED && !strncmp(id, f->prefix, strlen(f->prefix))) {
		f->id = d->uuid;
		f->n++;
	}
	return true;
}

int api_disk_prefix(const char *uuid, struct hci_error *err)
{
	if (strlen(uuid) < 4 || strlen(uuid) > 36 || strspn(uuid, "0123456789abcdef-") != strlen(uuid))
		return err_set(err, HCI_E_INVAL, "disk %.40s: give the UUID or at least its first 4 characters", uuid);
	return 0;
}

/* n disks have a UUID that begins so. */
static int not_one(const char *prefix, unsigned n, struct hci_error *err)
{
	return err_set(err, HCI_E_NOTFOUND, "disk %s: %s", prefix,
		       n ? "several begin like this: give more of the UUID" :
			   "there is none of this UUID: hcictl disk list shows those there are");
}

int api_disk_find(hci_cluster *c, const char *prefix, struct uuid *out, struct hci_error *err)
{
	struct find f = { .prefix = prefix };

	core_each_disk(c->core, find_one, &f);
	if (f.n != 1)
		return not_one(prefix, f.n, err);
	*out = f.id;
	return 0;
}

/* A disk that works may go when nothing is on it. */
static int check_empty(hci_cluster *c, const struct rec_disk *r, struct hci_error *err)
{
	uint64_t copies = 0;
	int rc;

	if (r->state == REC_DISK_ONLINE && core_alive(c->core, r->node))
		return err_set(err, HCI_E_STATE,
			       "disk %s of node %s: it is online: empty it first with hcictl disk evacuate, or wait until it has failed",
			       r->path, r->node);
	if (r->state != REC_DISK_EVACUATING)
		return 0;
	rc = plan_count_copies(c->core, &r->uuid, 1, &copies, err);
	if (!rc && copies)
		rc = err_set(err, HCI_E_BUSY, "disk %s of node %s: it still has %llu copies: wait for the end of its evacuation",
			     r->path, r->node, (unsigned long long)copies);
	return rc;
}

static int remove_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct uuid id;
	struct rec_disk *r;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	rc = api_disk_find(c, arg, &id, err);
	if (rc)
		return rc;
	r = MEM_NEW(struct rec_disk);
	if (!r)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory", (const char *)arg);
	key_disk(key, &id);
	rc = rec_disk_get(c->store, key, r, &rev, err);
	if (!rc)
		rc = check_empty(c, r, err);
	if (!rc) {
		r->state = REC_DISK_REMOVED;
		r->state_since = env_realtime(c->env);
		API_TEXT(r->reason, "removed by hand");
		rc = rec_disk_put(c->store, key, r, rev, 0, NULL, err);
	}
	mem_free(r);
	return rc;
}

int hci_disk_remove(hci_cluster *c, const char *uuid, struct hci_error *err)
{
	int rc;

	if (!c || !uuid)
		return api_null(c ? "uuid" : "c", err);
	rc = api_disk_prefix(uuid, err);
	return rc ? rc : api_call_fresh(c, remove_on_loop, (void *)(uintptr_t)uuid, err);
}

/* ---- scrub ---- */

#define SCRUB_MAX 1024u
#define SCRUB_RATE_MIN 65536u /* a region a second */

struct scrub_args {
	const char *prefix; /* NULL: all */
	struct hci_scrub_opts o;
	struct uuid *ids;
	uint32_t n;
};

static bool scrub_collect(void *arg, const struct rec_disk *d)
{
	struct scrub_args *a = arg;
	char id[HCI_UUID_STR];

	uuid_print(&d->uuid, id);
	if (d->state != REC_DISK_REMOVED && (!a->prefix || !strncmp(id, a->prefix, strlen(a->prefix))) && a->n < SCRUB_MAX)
		a->ids[a->n++] = d->uuid;
	return true;
}

static int scrub_one(hci_cluster *c, const struct uuid *id, const struct hci_scrub_opts *o, struct hci_error *err)
{
	struct rec_disk *r = MEM_NEW(struct rec_disk);
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "disk: out of memory");
	key_disk(key, id);
	do {
		rc = rec_disk_get(c->store, key, r, &rev, err);
		if (rc)
			break;
		if (o->start)
			r->scrub_asked = MAX(env_realtime(c->env), r->scrub_asked + 1);
		if (o->rate)
			r->scrub_rate = o->rate;
		if (o->period_ms)
			r->scrub_period_ns = o->period_ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : o->period_ms * NS_PER_MS;
		rc = rec_disk_put(c->store, key, r, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	mem_free(r);
	return rc;
}

static int scrub_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct scrub_args *a = arg;
	int rc = 0;

	a->ids = mem_calloc(SCRUB_MAX, sizeof(*a->ids));
	if (!a->ids)
		return err_set(err, HCI_E_NOMEM, "disks: out of memory");
	core_each_disk(c->core, scrub_collect, a);
	if (a->prefix && a->n != 1)
		rc = not_one(a->prefix, a->n, err);
	for (uint32_t i = 0; i < a->n && !rc; i++)
		rc = scrub_one(c, &a->ids[i], &a->o, err);
	mem_free(a->ids);
	return rc;
}

int hci_disk_scrub(hci_cluster *c, const char *uuid, const struct hci_scrub_opts *opts, struct hci_error *err)
{
	static const struct hci_scrub_opts defaults = HCI_SCRUB_OPTS_INIT;
	struct scrub_args a = { .prefix = uuid };
	int rc;

	if (!c)
		return api_null("c", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_scrub_opts, period_ms), "hci_scrub_opts", err);
	if (rc)
		return rc;
	rc = uuid ? api_disk_prefix(uuid, err) : 0;
	if (rc)
		return rc;
	if (a.o.rate && a.o.rate < SCRUB_RATE_MIN)
		return err_set(err, HCI_E_RANGE, "scrub: %llu bytes a second would never end: give %u KiB or more",
			       (unsigned long long)a.o.rate, SCRUB_RATE_MIN >> 10);
	if (a.o.start > 1)
		return err_set(err, HCI_E_INVAL, "scrub: start is 0 or 1, not %u", a.o.start);
	return api_call_fresh(c, scrub_on_loop, &a, err);
}

/* ---- list ---- */

struct list_args {
	struct api_list l;
	hci_cluster *c;
	struct hci_error *err;
	int rc;
};

static bool list_one(void *arg, const struct rec_disk *d)
{
	struct list_args *a = arg;
	const struct rec_diskstat *st = core_diskstat(a->c->core, &d->uuid);
	struct hci_disk_info i = { 0 };

	if (d->state == REC_DISK_REMOVED)
		return true;
	uuid_print(&d->uuid, i.uuid);
	API_TEXT(i.node, d->node);
	API_TEXT(i.path, d->path);
	API_TEXT(i.pool, d->pool);
	snprintf(i.reason, sizeof(i.reason), "%.255s", d->reason);
	i.role = (int32_t)d->role;
	i.disk_class = (int32_t)d->class_;
	i.state = (int32_t)d->state;
	if (d->state == REC_DISK_ONLINE && !core_alive(a->c->core, d->node)) {
		i.state = HCI_DISK_OFFLINE;
		snprintf(i.reason, sizeof(i.reason), "node %s is down", d->node);
	}
	i.capacity = d->capacity;
	i.free = st ? st->free : d->capacity;
	i.segments = st ? st->segments : 0;
	i.state_since = d->state_since;
	API_TEXT(i.log, d->log);
	i.log_wait_ms = d->log_wait_ns ? (uint32_t)(d->log_wait_ns / NS_PER_MS) : TUNE_LOG_WAIT_MS;
	i.log_level = d->log_level ? d->log_level : TUNE_LOG_LEVEL;
	if (st) {
		i.scrub_started = st->scrub_started;
		i.scrub_finished = st->scrub_finished;
		i.scrub_done = st->scrub_done;
		i.scrub_total = st->scrub_total;
		i.scrub_corrupt = st->scrub_corrupt;
		i.scrub_waiting = st->scrub_waiting;
	}
	a->rc = api_list_add(&a->l, &i, sizeof(i), a->err);
	return !a->rc;
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct list_args *a = arg;

	a->c = c;
	a->err = err;
	core_each_disk(c->core, list_one, a);
	return a->rc;
}

static int by_place(const void *x, const void *y)
{
	const struct hci_disk_info *a = x, *b = y;
	int d = strcmp(a->node, b->node);

	return d ? d : strcmp(a->path, b->path);
}

int hci_disk_list(hci_cluster *c, struct hci_disk_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct list_args a = { 0 };
	int rc = api_list_call(c, list_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_disk_info), err);

	if (!rc && *n && info_size >= offsetof(struct hci_disk_info, pool))
		qsort(*out, *n, info_size, by_place);
	return rc;
}
