/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of this node: opened (and formatted, when new) as the store says, served, watched. A disk
 * that fails is told to the store and tried again every few seconds: a cable that was plugged back in
 * needs no command. What a tombstone names is dropped (node_disk_gc.c).
 */
#include "base/crc32c.h"
#include "cluster/node_impl.h"

#define RETRY (3 * NS_PER_S)
#define STAT_EVERY (5 * NS_PER_S)
#define PROBE_EVERY (2 * NS_PER_S)

static struct node_disk *find(struct node *n, const struct uuid *u)
{
	struct node_disk *d;

	list_for_each(d, &n->disks, link)
		if (uuid_eq(&d->uuid, u))
			return d;
	return NULL;
}

/* ---- telling the store ---- */

/*
 * why: an HCI_E_*, or 0. Online: it was opened, and may be counted on from when the store says so. From then on it is a disk like any
 * other, and no longer one that may be formatted: its directory may be empty one day because nothing is mounted there.
 */
static int put_state(struct node *n, const struct uuid *u, enum rec_disk_state state, int why, const char *reason, uint64_t capacity)
{
	struct rec_disk *r = MEM_NEW(struct rec_disk);
	struct hci_error err = { 0 };
	bool open = state == REC_DISK_ONLINE;
	char key[REC_KEY];
	uint64_t rev;
	int rc = HCI_E_NOMEM;

	if (!r)
		return rc;
	key_disk(key, u);
	do {
		rc = rec_disk_get(core_store(n->core), key, r, &rev, &err);
		if (rc || r->state == REC_DISK_REMOVED)
			break;
		if (r->state == REC_DISK_EVACUATING && state == REC_DISK_ONLINE)
			state = REC_DISK_EVACUATING;
		if (r->state == state && r->why == why && !strcmp(r->reason, reason) && !(open && disk_keep_fresh(r)))
			break;
		if (open)
			r->replaces = (struct uuid){ 0 };
		if (r->state != state)
			r->state_since = env_realtime(n->e);
		r->state = state;
		if (capacity)
			r->capacity = capacity;
		r->why = why;
		snprintf(r->reason, sizeof(r->reason), "%s", reason);
		rc = rec_disk_put(core_store(n->core), key, r, rev, 0, NULL, &err);
	} while (rc == HCI_E_CONFLICT && !n->stopping);
	if (rc)
		log_warn(env_log(n->e), "node %s: state of disk %s not written: %s", n->name, r->path, err.message);
	mem_free(r);
	return rc;
}

static void put_stat(struct node_disk *d)
{
	struct rec_diskstat s = { 0 };
	const struct rec_diskstat *old = core_diskstat(d->node->core, &d->uuid);
	struct repl_disk_info info;
	char key[REC_KEY];

	repl_disk_info(d->disk, &info);
	d->stat_at = env_now(d->node->e) + STAT_EVERY;
	/* A percent either way matters to nobody; the store is spared. */
	if (!node_scrub_put(d, &s, old) && old && old->capacity == info.capacity && old->segments == info.segments &&
	    MAX(old->free, info.free) - MIN(old->free, info.free) < info.capacity / 100)
		return;
	s.capacity = info.capacity;
	s.free = info.free;
	s.segments = info.segments;
	s.at = env_realtime(d->node->e);
	key_diskstat(key, &d->uuid);
	(void)rec_diskstat_put(core_store(d->node->core), key, &s, REC_REV_ANY, 0, NULL, NULL);
}

/*
 * A disk without room is no failed one: what it holds can be read, its writers wait or are refused. Its record says so at once;
 * that there is room again, when it has been so for a while.
 */
static void tell_full(struct node_disk *d, enum rec_disk_state state)
{
	struct node *n = d->node;
	const struct rec_disk *r = core_disk(n->core, &d->uuid);
	struct repl_disk_info info;
	char text[REC_TEXT_MAX];

	repl_disk_info(d->disk, &info);
	metric_set(d->m_full, info.full);
	if (info.full == d->full_told || state != REC_DISK_ONLINE || !r || (!info.full && env_now(n->e) < d->stat_at))
		return;
	snprintf(text, sizeof(text),
		 "full: writes to volumes with segments here wait, or fail, as the volume says: add disks to pool %s and balance it, or "
		 "delete something",
		 r->pool);
	if (info.full)
		log_warn(env_log(n->e), "node %s: disk %s is full: writes to it are refused", n->name, d->path);
	if (info.full)
		put_stat(d); /* what is free, too */
	if (d->disk && !d->failed && !put_state(n, &d->uuid, REC_DISK_ONLINE, info.full ? HCI_E_NOSPACE : 0, info.full ? text : "", 0))
		d->full_told = info.full;
}

static void metric_begin(struct node_disk *d)
{
	char label[64], id[HCI_UUID_STR];

	if (d->m_full || !env_metrics(d->node->e))
		return;
	uuid_print(&d->uuid, id);
	snprintf(label, sizeof(label), "disk=\"%s\"", id);
	d->m_full = metrics_gauge(env_metrics(d->node->e), "hci_disk_full", "1: a disk has no room, and refuses writes.", label);
}

static void metric_end(struct node_disk *d)
{
	if (d->m_full)
		metrics_remove(env_metrics(d->node->e), d->m_full);
	d->m_full = NULL;
}

/* ---- opening and closing ---- */

static void failed_task(struct env_task *t)
{
	struct node_disk *d = container_of(t, struct node_disk, fail_task);

	fiber_cond_signal(d->node->e, &d->node->wake);
}

static void on_failed(void *arg, struct repl_disk *disk, const struct hci_error *err)
{
	struct node_disk *d = arg;

	(void)disk;
	d->failed = true;
	d->fail_err = *err;
	env_defer(d->node->e, &d->fail_task);
}

static void close_disk(struct node_disk *d, bool abandon)
{
	struct repl_disk *disk = d->disk;

	if (!disk)
		return;
	d->disk = NULL;
	metric_end(d);
	repl_service_remove(d->node->service, disk);
	repl_disk_close(disk, abandon);
	env_undefer(d->node->e, &d->fail_task);
}

/* What the last power loss took is not what a replica promises. */
static int check_medium(struct node_disk *d, const struct rec_disk *r, struct hci_error *err)
{
	const char *paths[] = { d->path, r->log[0] ? r->log : NULL };
	struct env_fs fs;

	for (unsigned i = 0; i < ARRAY_SIZE(paths) && !d->node->o.ram_disks; i++)
		if (paths[i] && !env_fs_of(d->node->e, paths[i], &fs) && fs.in_ram)
			return err_set(err, HCI_E_INVAL,
				       "cannot format disk %s: %s is in memory (a tmpfs), and what it holds ends with the power: give a "
				       "directory on a disk",
				       d->path, i ? "its log" : "it");
	return 0;
}

static bool has(struct node *n, const char *dir, const char *name)
{
	char **names = NULL;
	bool found = false;

	if (env_listdir(n->e, dir, &names))
		return false;
	for (unsigned i = 0; names[i]; i++) {
		found |= !strcmp(names[i], name);
		mem_free(names[i]);
	}
	mem_free(names);
	return found;
}

/*
 * One that takes the place of another is formatted where that was, perhaps days later, when there is a new device for its log.
 * What a wipe leaves in any case is the lock: without it the file system is not mounted.
 */
static int check_place(struct node_disk *d, const struct rec_disk *r, struct hci_error *err)
{
	if (uuid_is_null(&r->replaces) || d->keep.opened || has(d->node, d->path, "lock"))
		return 0;
	return err_set(err, HCI_E_NOTFOUND,
		       "cannot format disk %s: nothing of the disk that was there is in the directory: is it mounted? If that is lost: hcictl disk "
		       "remove, then disk add",
		       d->path);
}

/* Two directories of one file system share its room and its end: nobody forbids it, and it is no two disks. */
static void say_shared(struct node_disk *d, char out[REC_TEXT_MAX])
{
	struct node *n = d->node;
	struct node_disk *other;
	struct env_fs fs;

	out[0] = '\0';
	if (env_fs_of(n->e, d->path, &fs))
		return;
	d->fs = fs.id;
	if (d->log[0] && !env_fs_of(n->e, d->log, &fs) && fs.id == d->fs) {
		snprintf(out, REC_TEXT_MAX, "its write log is on the same file system as the disk itself, which makes it slower");
		log_warn(env_log(n->e), "node %s: disk %s: %s", n->name, d->path, out);
		return;
	}
	list_for_each(other, &n->disks, link) {
		if (other == d || !other->disk || other->fs != d->fs)
			continue;
		snprintf(out, REC_TEXT_MAX, "on the same file system as disk %.128s: its room counts twice", other->path);
		log_warn(env_log(n->e), "node %s: disk %s: %s", n->name, d->path, out);
		return;
	}
}

static int try_open(struct node_disk *d, const struct rec_disk *r, enum rec_disk_state *then, struct hci_error *err)
{
	struct node *n = d->node;
	struct disk_keep_how how = {
		.env = n->e, .store = core_store(n->core), .rec = r, .stopping = &n->stopping,
		.base = { .cluster = core_cluster(n->core)->uuid, .on_failed = on_failed, .arg = d },
	};
	int rc = disk_keep_fresh(r) ? check_medium(d, r, err) : 0;

	if (!rc)
		rc = check_place(d, r, err);
	*then = REC_DISK_FAILED;
	d->failed = false;
	d->scrub_period = d->scrub_rate = d->scrub_asked = 0; /* the new opening knows none of it */
	d->log_level = r->log_level;
	d->rot_told = true; /* by an earlier life, perhaps */
	d->gc_at = d->rot_at = 0;
	if (!rc)
		rc = disk_keep_open(&d->keep, &how, &d->disk, then, err);
	if (rc)
		return rc;
	rc = repl_service_add(n->service, d->disk);
	if (rc) {
		err_set(err, rc, "disk %s: it cannot be served", d->path);
		*then = REC_DISK_FAILED;
		repl_disk_close(d->disk, false);
		d->disk = NULL;
	}
	return rc;
}

static void not_open(struct node_disk *d, int rc, enum rec_disk_state then, struct hci_error *err)
{
	struct node *n = d->node;
	const struct rec_disk *r = core_disk(n->core, &d->uuid);
	char id[HCI_UUID_STR];

	uuid_print(&d->uuid, id);
	/* Tried again every few seconds: told when there is something new. */
	if (d->refused != crc32c(0, err->message, strlen(err->message)))
		log_warn(env_log(n->e), "node %s: disk %s (%s) cannot be opened: %s", n->name, d->path, id, err->message);
	d->refused = crc32c(0, err->message, strlen(err->message));
	d->retry_at = env_now(n->e) + RETRY;
	/* Why it failed says more than that it cannot be opened now for the same cause. */
	if (then == REC_DISK_FAILED && d->fail_err.code == rc && r && r->state == REC_DISK_FAILED)
		return;
	if (then != REC_DISK_REMOVED)
		(void)put_state(n, &d->uuid, then, rc, err->message, 0);
}

static void is_open(struct node_disk *d)
{
	struct node *n = d->node;
	struct repl_disk_info info;
	char id[HCI_UUID_STR], shared[REC_TEXT_MAX];

	uuid_print(&d->uuid, id);
	repl_disk_info(d->disk, &info);
	snprintf(d->log, sizeof(d->log), "%s", info.log_external ? info.log_path : "");
	d->refused = 0;
	d->full_told = false;
	d->fail_err.code = 0;
	metric_begin(d);
	log_info(env_log(n->e), "node %s: disk %s (%s) is online", n->name, d->path, id);
	/* First how full it is: who sees it online may place on it at once. */
	put_stat(d);
	say_shared(d, shared);
	(void)put_state(n, &d->uuid, REC_DISK_ONLINE, 0, shared, info.capacity);
}

static void open_disk(struct node_disk *d)
{
	const struct rec_disk *now = core_disk(d->node->core, &d->uuid);
	struct rec_disk *r = now ? MEM_NEW(struct rec_disk) : NULL;
	enum rec_disk_state then;
	struct hci_error err = { 0 };
	int rc;

	if (!r)
		return;
	*r = *now;
	rc = try_open(d, r, &then, &err);
	mem_free(r);
	if (rc)
		not_open(d, rc, then, &err);
	else
		is_open(d);
}

/* ---- what each disk is asked for now and then ---- */

static void probe_fiber(void *arg)
{
	struct node_disk *d = arg;
	struct node *n = d->node;
	struct hci_error err = { 0 };
	char *log = mem_strdup(d->log);

	if (log && disk_keep_probe(n->e, d->path, log, &err) && d->disk && !d->failed) {
		d->fail_err = err;
		d->failed = true;
	}
	mem_free(log);
	d->probing = false;
	node_fiber_end(n);
}

static void probe(struct node_disk *d)
{
	if (d->probing || env_now(d->node->e) < d->probe_at)
		return;
	d->probe_at = env_now(d->node->e) + PROBE_EVERY;
	d->probing = true;
	d->node->fibers++;
	if (fiber_spawn(d->node->e, probe_fiber, d, "node-probe")) {
		d->probing = false;
		d->node->fibers--;
	}
}

/* ---- the loop ---- */

struct wanted {
	struct node *n;
	struct uuid *ids;
	enum rec_disk_state *states;
	size_t cnt, cap;
	bool all; /* there was memory for all of them */
};

static bool wanted_grow(struct wanted *w)
{
	size_t cap = w->cap ? w->cap * 2 : 16;
	void *p;

	if (w->cnt < w->cap)
		return true;
	p = mem_realloc(w->ids, cap * sizeof(*w->ids));
	if (!p)
		return false;
	w->ids = p;
	p = mem_realloc(w->states, cap * sizeof(*w->states));
	if (!p)
		return false;
	w->states = p;
	w->cap = cap;
	return true;
}

static bool collect(void *arg, const struct rec_disk *r)
{
	struct wanted *w = arg;
	struct node_disk *d;

	if (strcmp(r->node, w->n->name) || r->state == REC_DISK_REMOVED)
		return true;
	d = find(w->n, &r->uuid);
	if (!d) {
		d = MEM_NEW(struct node_disk);
		if (!d)
			goto no_memory;
		d->uuid = r->uuid;
		snprintf(d->path, sizeof(d->path), "%s", r->path);
		d->node = w->n;
		env_task_init(&d->fail_task, failed_task);
		list_push(&w->n->disks, &d->link);
	}
	if (!wanted_grow(w))
		goto no_memory;
	w->ids[w->cnt] = r->uuid;
	w->states[w->cnt++] = r->state;
	return true;
no_memory:
	w->all = false;
	return false;
}

/* What may be set while the disk is in use; how long it waits for its log is looked up when that is away. */
static void take_settings(struct node_disk *d)
{
	const struct rec_disk *r = core_disk(d->node->core, &d->uuid);

	if (!r || r->log_level == d->log_level)
		return;
	d->log_level = r->log_level;
	repl_disk_set_level(d->disk, r->log_level);
}

static void disk_turn(struct node_disk *d, enum rec_disk_state state)
{
	struct node *n = d->node;
	uint64_t now = env_now(n->e);

	d->emptied = state == REC_DISK_EVACUATING;
	if (d->disk && d->failed) {
		log_error(env_log(n->e), "node %s: disk %s failed: %s", n->name, d->path, d->fail_err.message);
		close_disk(d, true);
		d->retry_at = now + RETRY;
		(void)put_state(n, &d->uuid, REC_DISK_FAILED, d->fail_err.code, d->fail_err.message, 0);
		return;
	}
	if (!d->disk) {
		if (now >= d->retry_at)
			open_disk(d);
		return;
	}
	if (state == REC_DISK_FAILED || state == REC_DISK_OFFLINE || state == REC_DISK_NEW) {
		(void)put_state(n, &d->uuid, REC_DISK_ONLINE, 0, "", 0);
		d->full_told = false;
	}
	probe(d);
	take_settings(d);
	node_scrub_turn(d);
	if (d->disk && !d->failed)
		tell_full(d, state);
	if (!d->disk || d->failed)
		return;
	if (now >= d->stat_at)
		put_stat(d);
	if (d->disk && !d->failed)
		node_load_turn(d);
	if (d->disk && !d->failed && now >= d->gc_at)
		node_disk_drop_deleted(d);
}

/* It is used by nobody any more. */
static void forget_load(struct node *n, const struct node_disk *d)
{
	char key[REC_KEY];

	key_diskload(key, &d->uuid);
	(void)rec_delete(core_store(n->core), key, REC_REV_ANY, NULL, NULL);
}

/*
 * The log of a disk that was evacuated and removed while it was open here: its file only takes room from other logs. That of a
 * disk that was away, or failed, stays for now: somebody may still count on what is in it (lib/volume/disk_logs.c).
 */
static void drop_log(struct node_disk *d)
{
	struct env *e = d->node->e;
	char id[HCI_UUID_STR], name[HCI_UUID_STR + 16];
	size_t len = strlen(d->log);
	int rc;

	uuid_print(&d->uuid, id);
	snprintf(name, sizeof(name), "/hci-%s.log", id);
	if (len < strlen(name) || strcmp(d->log + len - strlen(name), name))
		return; /* on the disk itself, or a device */
	rc = env_unlink(e, d->log);
	if (rc)
		log_warn(env_log(e), "node %s: the write log %s of a disk that was removed is still there: delete it", d->node->name,
			 d->log);
	else
		log_info(env_log(e), "node %s: the write log %s of a disk that was removed is deleted", d->node->name, d->log);
}

/* Does its record say that it was removed? Not so when it could not be read. */
static bool removed(const struct node_disk *d)
{
	const struct rec_disk *r = core_disk(d->node->core, &d->uuid);

	return r && r->state == REC_DISK_REMOVED;
}

static void disk_free(struct node_disk *d)
{
	mem_free(d->load);
	mem_free(d);
}

static void disk_fiber(void *arg)
{
	struct node *n = arg;
	struct wanted w = { .n = n };

	while (!n->stopping) {
		struct node_disk *d, *tmp;

		w.cnt = 0;
		w.all = true;
		core_each_disk(n->core, collect, &w);
		for (size_t i = 0; i < w.cnt && !n->stopping; i++) {
			d = find(n, &w.ids[i]);
			if (d)
				disk_turn(d, w.states[i]);
		}
		/* Removed from the cluster: no longer ours. */
		list_for_each_safe(d, tmp, &n->disks, link) {
			bool keep = !w.all, emptied = d->emptied && d->disk && !d->failed;

			for (size_t i = 0; i < w.cnt && !keep; i++)
				keep = uuid_eq(&w.ids[i], &d->uuid);
			if (keep || n->stopping || d->probing)
				continue;
			list_del(&d->link);
			close_disk(d, true);
			if (emptied && removed(d))
				drop_log(d);
			forget_load(n, d);
			disk_free(d);
			break; /* closing parked: the list may be another */
		}
		if (!n->stopping)
			fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + 500 * NS_PER_MS);
	}
	mem_free(w.ids);
	mem_free(w.states);
	node_fiber_end(n);
}

int node_disk_start(struct node *n)
{
	return node_fiber(n, disk_fiber, "node-disks");
}

void node_disk_stop(struct node *n)
{
	struct list *l;

	while ((l = list_pop(&n->disks))) {
		struct node_disk *d = list_entry(l, struct node_disk, link);

		close_disk(d, d->failed);
		disk_free(d);
	}
}
