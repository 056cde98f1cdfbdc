/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that nobody has attached heal as well: one node attaches such a volume for repair, lets the
 * writer's side do its work (lib/volume/resync.c), and lets go when all copies are whole, when somebody
 * wants the volume, or when there is nothing it can do now.
 */
#include "cluster/node_impl.h"
#include "cluster/report.h"

#define ROUND (2 * NS_PER_S)
#define RELOAD_EVERY (5 * NS_PER_S)
#define NO_PROGRESS (20 * NS_PER_S)
#define TRY_AGAIN (10 * NS_PER_S)
#define GRACE (1 * NS_PER_S)
#define REPAIRS 8u /* volumes at a time; what they copy together is the budget of lib/volume/sched.c */

/* Of the nodes that are alive, the one with the highest hash of (volume, name): so that not all rush at once. */
struct elect {
	struct node *n;
	const struct uuid *volume;
	uint64_t best, mine;
};

static uint64_t mix(const struct uuid *u, const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (unsigned i = 0; i < 16; i++)
		h = (h ^ u->b[i]) * UINT64_C(0x100000001b3);
	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	return h;
}

static bool elect_one(void *arg, const struct rec_node *r)
{
	struct elect *x = arg;
	uint64_t h = mix(x->volume, r->name);

	if (!strcmp(r->name, x->n->name))
		x->mine = h;
	if (core_alive(x->n->core, r->name))
		x->best = MAX(x->best, h);
	return true;
}

static bool elected(struct node *n, const struct uuid *volume)
{
	struct elect x = { .n = n, .volume = volume };

	core_each_node(n->core, elect_one, &x);
	return x.mine == x.best;
}

/* ---- who needs it ---- */

static bool disk_is_bad(struct node *n, const struct uuid *id)
{
	const struct rec_disk *d = core_disk(n->core, id);

	return !d || d->state == REC_DISK_FAILED || d->state == REC_DISK_OFFLINE || d->state == REC_DISK_REMOVED ||
	       d->state == REC_DISK_EVACUATING || !core_alive(n->core, d->node);
}

static bool any_bad_one(void *arg, const struct rec_disk *d)
{
	struct elect *x = arg;

	x->best |= disk_is_bad(x->n, &d->uuid);
	return !x->best;
}

static bool any_bad_disk(struct node *n)
{
	struct elect x = { .n = n };

	core_each_disk(n->core, any_bad_one, &x);
	return x.best;
}

static bool is_out(const struct rec_volsync *s, const struct uuid *disk)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (uuid_eq(&s->out[i].disk, disk))
			return true;
	return false;
}

/*
 * A copy that is being made, or one on a disk that is not there. *left: good copies of the segment that has the fewest,
 * as far as the map was looked at.
 */
static bool map_needs_repair(struct node *n, const struct rec_volume *v, const struct rec_volsync *out, bool look_for_bad,
			     unsigned *left)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint32_t nseg = (uint32_t)((v->size + v->segment_size - 1) / v->segment_size);
	bool found = false;
	char key[REC_KEY];

	*left = v->replicas;
	for (uint32_t c = 0; m && c * REC_VOLMAP_CHUNK < nseg; c++) {
		key_volmap(key, &v->uuid, c);
		if (rec_volmap_get(core_store(n->core), key, m, NULL, NULL))
			break;
		for (uint32_t i = 0; i < m->n; i++) {
			unsigned good = 0;

			for (uint32_t k = 0; k < m->seg[i].n; k++) {
				const struct rec_replica *r = &m->seg[i].r[k];
				bool bad = look_for_bad && disk_is_bad(n, &r->disk);

				found |= r->joining || bad;
				good += !r->joining && !bad && !is_out(out, &r->disk);
			}
			*left = MIN(*left, good);
		}
	}
	mem_free(m);
	return found;
}

/* Is it to have more or fewer copies, or some elsewhere? */
static bool moves(struct node *n, const struct uuid *volume)
{
	struct store_result r;
	char key[REC_KEY];
	bool yes;

	key_volmove(key, volume);
	if (store_get(core_store(n->core), key, &r, NULL))
		return false;
	yes = r.n == 1;
	store_result_free(&r);
	return yes;
}

/* Is there a record PREFIX<volume>/<disk> of a disk that is up? */
static bool disk_up_with(struct node *n, const char *what, const struct uuid *volume)
{
	struct store_result r;
	char prefix[REC_KEY], id[HCI_UUID_STR];
	struct uuid disk;
	bool yes = false;

	uuid_print(volume, id);
	snprintf(prefix, sizeof(prefix), "%s%s/", what, id);
	if (store_range(core_store(n->core), prefix, NULL, 0, &r, NULL))
		return false;
	for (size_t i = 0; i < r.n && !yes; i++) {
		const struct rec_disk *d = key_parse_uuid(r.kvs[i].key, prefix, &disk) ? core_disk(n->core, &disk) : NULL;

		yes = d && (d->state == REC_DISK_ONLINE || d->state == REC_DISK_EVACUATING) && core_alive(n->core, d->node);
	}
	store_result_free(&r);
	return yes;
}

/* Does a disk that is back hold copies of it that nobody counts on any more? */
static bool old_copies(struct node *n, const struct uuid *volume)
{
	return disk_up_with(n, "stray/", volume);
}

/* A scrub found damaged blocks, see node_scrub.c. */
static bool rotten(struct node *n, const struct uuid *volume)
{
	return disk_up_with(n, PREFIX_VOLROT, volume);
}

/* *left: how endangered it is, the fewer the more. */
static bool needs_repair(struct node *n, const struct rec_volume *v, bool bad_disks, unsigned *left)
{
	struct rec_volsync *s;
	struct rec_volatt a;
	char key[REC_KEY];
	bool need;

	if (v->state != REC_VOLUME_READY)
		return false;
	key_volatt(key, &v->uuid);
	if (rec_volatt_get(core_store(n->core), key, &a, NULL, NULL) != HCI_E_NOTFOUND)
		return false;
	s = MEM_NEW(struct rec_volsync);
	if (!s)
		return false;
	key_volsync(key, &v->uuid);
	need = !rec_volsync_get(core_store(n->core), key, s, NULL, NULL) && s->n;
	need |= map_needs_repair(n, v, s, bad_disks, left);
	mem_free(s);
	return need || moves(n, &v->uuid) || old_copies(n, &v->uuid) || rotten(n, &v->uuid);
}

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

struct repairs {
	struct node *n;
	struct list tasks;
	uint32_t running;
};

static bool known(struct repairs *r, const struct uuid *volume)
{
	struct task *t, *tmp;
	bool found = false;

	list_for_each_safe(t, tmp, &r->tasks, link) {
		if (!t->running && env_now(r->n->e) >= t->until) {
			list_del(&t->link);
			mem_free(t);
		} else {
			found |= uuid_eq(&t->rec.uuid, volume);
		}
	}
	return found;
}

/* A writer that only stalled renews its lease as soon as it runs again: it must not find a repair in its place. */
static bool still_free(struct node *n, const struct task *t)
{
	uint64_t end = env_now(n->e) + GRACE;
	unsigned left;

	while (!n->stopping && env_now(n->e) < end)
		fiber_cond_wait_until(n->e, &n->wake, end);
	return !n->stopping && needs_repair(n, &t->rec, t->bad, &left);
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

/* Of those that need it and are ours, as many as may be at work; the rest in a later round. */
static void round_of(struct repairs *r, struct rec_list *vols)
{
	struct node *n = r->n;
	bool bad = any_bad_disk(n);
	struct list found, *l;

	list_init(&found);
	for (size_t i = 0; i < vols->n && !n->stopping; i++) {
		struct rec_volume *v = REC_AT(vols, i, struct rec_volume);
		struct task *t, *at;
		unsigned left;

		if (!elected(n, &v->uuid))
			continue;
		drop_unfinished(n, v);
		if (known(r, &v->uuid) || !needs_repair(n, v, bad, &left) || !(t = MEM_NEW(struct task)))
			continue;
		t->r = r;
		t->rec = *v;
		t->left = left;
		t->bad = bad;
		list_for_each(at, &found, link)
			if (at->left > left)
				break;
		list_insert_(&t->link, at->link.prev, &at->link);
	}
	while ((l = list_pop(&found))) {
		struct task *t = list_entry(l, struct task, link);

		if (r->running < REPAIRS && !n->stopping)
			task_start(r, t);
		else
			mem_free(t);
	}
}

static void repair_fiber(void *arg)
{
	struct node *n = arg;
	struct repairs r = { .n = n };
	struct list *l;

	list_init(&r.tasks);
	while (!n->stopping) {
		struct rec_list vols;
		uint64_t next = env_now(n->e) + ROUND;

		while (!n->stopping && env_now(n->e) < next)
			fiber_cond_wait_until(n->e, &n->wake, next);
		if (n->stopping || r.running == REPAIRS || rec_volume_list(core_store(n->core), PREFIX_VOLUME, &vols, NULL))
			continue;
		round_of(&r, &vols);
		rec_list_free(&vols);
	}
	while (r.running)
		fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + 100 * NS_PER_MS);
	while ((l = list_pop(&r.tasks)))
		mem_free(list_entry(l, struct task, link));
	node_fiber_end(n);
}

int node_repair_start(struct node *n)
{
	return node_fiber(n, repair_fiber, "node-repair");
}
