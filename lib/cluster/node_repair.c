/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that nobody has attached heal as well: one node attaches such a volume for repair, lets the
 * writer's side do its work (lib/volume/resync.c), and lets go when all copies are whole, when somebody
 * wants the volume, or when there is nothing it can do now.
 *
 * Which volumes to look at is heard from the store's watch: those of which a record changed. All of them only when
 * disks or nodes were lost or came back, and now and then: in a cluster of ten thousand volumes nobody asks for each all the time.
 */
#include "cluster/node_repair.h"
#include "cluster/report.h"

#define ROUND (2 * NS_PER_S)
#define ALL_EVERY (300 * NS_PER_S)
#define HINTS_MAX 256u /* with more, all are looked at */
#define RELOAD_EVERY (5 * NS_PER_S)
#define NO_PROGRESS (20 * NS_PER_S)
#define TRY_AGAIN (10 * NS_PER_S)
#define GRACE (1 * NS_PER_S)
#define REPAIRS 8u /* volumes at a time; what they copy together is the budget of lib/volume/sched.c */

/* ---- doing it ---- */

static bool wanted(struct node *n, const struct uuid *volume)
{
	struct store_result r;
	char key[REC_KEY], id[HCI_UUID_STR];
	bool yes;

	uuid_print(volume, id);
	snprintf(key, sizeof(key), "volwant/%s", id);
	if (store_get(core_store(n->core), key, &r, NULL))
		return false;
	yes = r.n == 1;
	store_result_free(&r);
	return yes;
}

/* False: there was nothing it could do now. */
static bool repair(struct node *n, const struct rec_volume *rec)
{
	struct vol_attach_opts o = { .purpose = REC_ATT_REPAIR };
	struct core_report *rep;
	struct vol_status st;
	struct hci_error err;
	uint64_t moved_at, moved = 0, now_moved, reload_at;
	bool useful = true;
	struct vol *v;

	if (vol_attach(core_vol_ctx(n->core), &rec->uuid, &o, &v, &err)) {
		log_debug(env_log(n->e), "node %s: volume %s not repaired now: %s", n->name, rec->name, err.message);
		return false;
	}
	rep = core_report_start(n->core, v);
	moved_at = env_now(n->e);
	reload_at = moved_at + RELOAD_EVERY;
	while (!n->stopping) {
		struct vol_settings t;
		uint64_t patience;

		fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + 100 * NS_PER_MS);
		if (env_now(n->e) >= reload_at) { /* a repair may take hours, and its pace be changed meanwhile */
			(void)vol_reload(v, NULL);
			reload_at = env_now(n->e) + RELOAD_EVERY;
		}
		vol_settings_now(v, &t);
		patience = MAX(NO_PROGRESS, t.rebuild_delay_ns < 60 * NS_PER_S ? 2 * t.rebuild_delay_ns : 0);
		vol_status(v, &st);
		if (!st.segments_degraded && !st.out && !st.unsettled && !st.dropping && !st.strays &&
		    st.scrubs_heard && !st.mending)
			break;
		now_moved = st.resync_copied + st.copies_added + st.copies_removed + st.mended_blocks;
		if (now_moved != moved) {
			moved = now_moved;
			moved_at = env_now(n->e);
		}
		useful = env_now(n->e) - moved_at <= patience;
		if (!useful || wanted(n, &rec->uuid))
			break;
	}
	core_report_stop(rep);
	vol_detach(v);
	return useful;
}

/* ---- several at a time, the most endangered first ---- */

/* A volume that is being repaired, or was in vain and rests. */
struct task {
	struct list link;
	struct repairs *r;
	struct rec_volume rec;
	unsigned left;
	bool bad, running;
	uint64_t until; /* rests */
};

/* A volume of which a record changed. */
struct hint {
	struct list link;
	struct uuid volume;
};

struct repairs {
	struct node *n;
	struct core_watcher watcher;
	struct list tasks, hints;
	uint32_t running, nhints;
	bool all; /* look at all volumes, hints or not */
	uint64_t all_at, health;
};

static void look_at(struct repairs *r, const struct uuid *volume)
{
	struct hint *h;

	if (r->all)
		return;
	list_for_each(h, &r->hints, link)
		if (uuid_eq(&h->volume, volume))
			return;
	h = r->nhints < HINTS_MAX ? MEM_NEW(struct hint) : NULL;
	if (!h) {
		r->all = true;
		return;
	}
	h->volume = *volume;
	list_push(&r->hints, &h->link);
	r->nhints++;
}

static bool next_hint(struct repairs *r, struct uuid *volume)
{
	struct list *l = list_pop(&r->hints);

	if (!l)
		return false;
	*volume = list_entry(l, struct hint, link)->volume;
	mem_free(list_entry(l, struct hint, link));
	r->nhints--;
	return true;
}

/* What repair_needed() reads: keys that begin with one of these and the volume's id. */
static void on_record(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	static const char *const of_volumes[] = { PREFIX_VOLUME, PREFIX_VOLATT, PREFIX_VOLSYNC, PREFIX_VOLMAP,
						  PREFIX_VOLMOVE, "stray/", PREFIX_VOLROT };
	struct repairs *r = container_of(w, struct repairs, watcher);
	char id[HCI_UUID_STR];
	struct uuid volume;

	(void)value;
	(void)len;
	(void)revision;
	if (!key) { /* it cannot be told what changed */
		r->all = true;
		return;
	}
	for (size_t i = 0; i < sizeof(of_volumes) / sizeof(of_volumes[0]); i++) {
		size_t n = strlen(of_volumes[i]);

		if (strncmp(key, of_volumes[i], n))
			continue;
		snprintf(id, sizeof(id), "%s", key + n);
		if (uuid_parse(id, &volume) && repair_elected(r->n, &volume))
			look_at(r, &volume);
		return;
	}
}

/* Those that have rested, or were repaired, are looked at again. */
static void end_rests(struct repairs *r)
{
	struct task *t, *tmp;

	list_for_each_safe(t, tmp, &r->tasks, link) {
		if (t->running || env_now(r->n->e) < t->until)
			continue;
		list_del(&t->link);
		look_at(r, &t->rec.uuid);
		mem_free(t);
	}
}

static bool known(const struct repairs *r, const struct uuid *volume)
{
	const struct task *t;

	list_for_each(t, &r->tasks, link)
		if (uuid_eq(&t->rec.uuid, volume))
			return true;
	return false;
}

/* A writer that only stalled renews its lease as soon as it runs again: it must not find a repair in its place. */
static bool still_free(struct node *n, const struct task *t)
{
	uint64_t end = env_now(n->e) + GRACE;
	unsigned left;

	while (!n->stopping && env_now(n->e) < end)
		fiber_cond_wait_until(n->e, &n->wake, end);
	return !n->stopping && repair_needed(n, &t->rec, t->bad, &left) > 0;
}

static void task_fiber(void *arg)
{
	struct task *t = arg;
	struct repairs *r = t->r;
	struct node *n = r->n;

	t->until = !still_free(n, t) || repair(n, &t->rec) ? 0 : env_now(n->e) + TRY_AGAIN;
	t->running = false;
	r->running--;
	fiber_cond_signal(n->e, &n->wake);
	node_fiber_end(n);
}

static void task_start(struct repairs *r, struct task *t)
{
	t->running = true;
	r->running++;
	r->n->fibers++;
	list_push(&r->tasks, &t->link);
	if (fiber_spawn(r->n->e, task_fiber, t, "node-repair-one")) {
		t->running = false;
		r->running--;
		node_fiber_end(r->n);
	}
}

/* Its creator died half-way: nobody can have used it, so it goes. Volumes are created in seconds. */
#define CREATING_MAX (600 * NS_PER_S)

static void drop_unfinished(struct node *n, const struct rec_volume *v)
{
	struct hci_error err;

	if (v->state != REC_VOLUME_CREATING || env_realtime(n->e) < v->created + CREATING_MAX)
		return;
	if (vol_delete(core_vol_ctx(n->core), &v->uuid, &err))
		log_warn(env_log(n->e), "node %s: unfinished volume %s stays: %s", n->name, v->name, err.message);
	else
		log_info(env_log(n->e), "node %s: volume %s was never finished and is removed", n->name, v->name);
}

/* Into `found`, the most endangered first, if it is ours and needs it. */
static void consider(struct repairs *r, const struct rec_volume *v, bool bad, struct list *found)
{
	struct node *n = r->n;
	struct task *t, *at;
	unsigned left;
	int need;

	if (!repair_elected(n, &v->uuid))
		return;
	drop_unfinished(n, v);
	if (known(r, &v->uuid))
		return;
	need = repair_needed(n, v, bad, &left);
	t = need > 0 ? MEM_NEW(struct task) : NULL;
	if (need < 0 || (need && !t))
		look_at(r, &v->uuid);
	if (!t)
		return;
	t->r = r;
	t->rec = *v;
	t->left = left;
	t->bad = bad;
	list_for_each(at, found, link)
		if (at->left > left)
			break;
	list_insert_(&t->link, at->link.prev, &at->link);
}

static void consider_all(struct repairs *r, bool bad, struct list *found)
{
	struct rec_list vols;

	r->all = false; /* before it is read: what changes meanwhile is heard */
	if (rec_volume_list(core_store(r->n->core), PREFIX_VOLUME, &vols, NULL)) {
		r->all = true;
		return;
	}
	r->all_at = env_now(r->n->e) + ALL_EVERY;
	for (size_t i = 0; i < vols.n && !r->n->stopping; i++)
		consider(r, REC_AT(&vols, i, struct rec_volume), bad, found);
	rec_list_free(&vols);
}

static void consider_hints(struct repairs *r, bool bad, struct list *found)
{
	uint32_t most = r->nhints; /* one that cannot be looked at now is put back */
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct uuid volume;

	while (v && most-- && !r->n->stopping && next_hint(r, &volume)) {
		char key[REC_KEY];
		int rc;

		key_volume(key, &volume);
		rc = rec_volume_get(core_store(r->n->core), key, v, NULL, NULL);
		if (!rc)
			consider(r, v, bad, found);
		else if (rc != HCI_E_NOTFOUND)
			look_at(r, &volume);
	}
	mem_free(v);
}

/* Of those that need it and are ours, as many as may be at work; the rest in a later round. */
static void round_of(struct repairs *r)
{
	struct node *n = r->n;
	bool bad = repair_any_bad_disk(n);
	uint64_t health = repair_health(n);
	struct list found, *l;

	list_init(&found);
	end_rests(r);
	r->all |= health != r->health || env_now(n->e) >= r->all_at;
	r->health = health;
	if (r->all)
		consider_all(r, bad, &found);
	else
		consider_hints(r, bad, &found);
	while ((l = list_pop(&found))) {
		struct task *t = list_entry(l, struct task, link);

		if (r->running < REPAIRS && !n->stopping) {
			task_start(r, t);
		} else {
			look_at(r, &t->rec.uuid);
			mem_free(t);
		}
	}
}

static void repair_fiber(void *arg)
{
	struct node *n = arg;
	struct repairs r = { .n = n, .all = true, .watcher = { .fn = on_record } };
	struct uuid volume;
	struct list *l;

	list_init(&r.tasks);
	list_init(&r.hints);
	core_watch(n->core, &r.watcher);
	while (!n->stopping) {
		uint64_t next = env_now(n->e) + ROUND;

		while (!n->stopping && env_now(n->e) < next)
			fiber_cond_wait_until(n->e, &n->wake, next);
		if (!n->stopping && r.running < REPAIRS)
			round_of(&r);
	}
	while (r.running)
		fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + 100 * NS_PER_MS);
	core_unwatch(n->core, &r.watcher);
	while (next_hint(&r, &volume))
		;
	while ((l = list_pop(&r.tasks)))
		mem_free(list_entry(l, struct task, link));
	node_fiber_end(n);
}

int node_repair_start(struct node *n)
{
	return node_fiber(n, repair_fiber, "node-repair");
}
