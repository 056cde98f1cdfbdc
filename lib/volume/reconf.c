/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies that come, go and move because somebody wants it so, while the volume is in use: the number of replicas in
 * its record was changed, a disk is being evacuated, a move was asked for (volmove/<uuid>). There is no list of steps:
 * each segment is compared with what is wanted and the next step towards it done, so whoever is the writer goes on where
 * the last one stopped, and taking a wish back is enough to cancel it.
 *
 * A step is one transaction on the map: a copy is added as joining, and filled by resync.c like one that is rebuilt; or a
 * copy is removed, when without it as many in-sync copies are left as the volume is to have. What a removed copy held is
 * dropped from its disk (reconf_drop.c). Which step is next: reconf_step.c.
 */
#include "volume/reconf.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

#define WINDOW 8u /* copies being added to one volume at the same time */
#define BATCH 16u /* steps in one transaction */
#define NO_PLACE_RETRY (5 * NS_PER_S)
#define NEW_LEG_GRACE (5 * NS_PER_S)

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

/* ---- what is wanted ---- */

static int by_segment(const void *x, const void *y)
{
	const struct rec_move *a = x, *b = y;

	return a->segment < b->segment ? -1 : a->segment > b->segment;
}

static int read_wanted(struct reconf *r, struct hci_error *err)
{
	struct vol *v = r->v;
	struct rec_volume *rec = MEM_NEW(struct rec_volume);
	char key[REC_KEY];
	int rc;

	if (!rec)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	r->look = false;
	/* First the moves: who changes the number of replicas writes both at once. */
	key_volmove(key, &v->rec.uuid);
	rc = rec_volmove_get(v->x->store, key, &r->rec, &r->rev, err);
	r->have = !rc;
	if (rc) {
		r->rec.n = 0;
		rc = rc == HCI_E_NOTFOUND ? 0 : rc;
	}
	qsort(r->rec.m, r->rec.n, sizeof(r->rec.m[0]), by_segment);
	key_volume(key, &v->rec.uuid);
	if (!rc)
		rc = rec_volume_get(v->x->store, key, rec, NULL, err);
	if (!rc) {
		v->rec.replicas = rec->replicas;
		memcpy(v->rec.policy, rec->policy, sizeof(v->rec.policy));
		settings_take(v, rec);
	}
	mem_free(rec);
	r->look |= rc != 0;
	return rc;
}

/* ---- doing it ---- */

struct batch {
	struct todo t[BATCH];
	uint32_t n;
};

static void change_add(struct vol *v, struct rec_segment *r, struct todo *t, int instead_of)
{
	const struct seg *s = &v->segs[t->segment];
	const struct uuid *leaves = instead_of < 0 ? NULL : &seg_leg(v, s, (unsigned)instead_of)->disk;

	if (r->n == REC_COPIES_MAX || !map_takes(v, r, &t->disk, leaves))
		return;
	r->r[r->n].disk = t->disk;
	r->r[r->n++].joining = true;
	t->done = true;
}

static void change_remove(struct rec_segment *r, struct todo *t)
{
	for (unsigned i = 0; i < r->n && r->n > 1; i++) {
		if (!uuid_eq(&r->r[i].disk, &t->disk))
			continue;
		memmove(&r->r[i], &r->r[i + 1], (r->n - i - 1) * sizeof(r->r[0]));
		memset(&r->r[--r->n], 0, sizeof(r->r[0]));
		t->done = true;
		return;
	}
}

/* What was decided before the lock was taken may be wrong by now: it is decided again. */
static bool change(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg)
{
	struct batch *b = arg;
	struct todo now;
	bool changed = false;

	for (uint32_t i = 0; i < b->n; i++) {
		struct todo *t = &b->t[i];

		if (t->segment != segment || segment >= v->nsegs)
			continue;
		reconf_judge(v, segment, &now);
		if (now.step != t->step || now.pos != t->pos ||
		    (t->step == STEP_REMOVE && !uuid_eq(&now.disk, &t->disk)))
			continue;
		if (t->step == STEP_ADD)
			change_add(v, r, t, now.pos);
		else
			change_remove(r, t);
		changed |= t->done;
	}
	return changed;
}

static void count_legs(struct vol *v)
{
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];
		const struct rec_disk *d = v->x->disk(v->x->arg, &l->disk);

		l->segments = 0;
		l->evacuating = d && d->state == REC_DISK_EVACUATING;
		if (d && !l->node[0]) /* not opened yet */
			snprintf(l->node, sizeof(l->node), "%s", d->node);
	}
	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++)
			seg_leg(v, &v->segs[i], k)->segments++;
}

static bool batch_run(struct reconf *r, struct batch *b)
{
	struct vol *v = r->v;
	struct hci_error err = { 0 };
	bool did = false;
	int rc;

	rc = sync_map_change(v, b->t[0].segment / REC_VOLMAP_CHUNK, change, b, &err);
	for (uint32_t i = 0; !rc && i < b->n; i++) {
		struct todo *t = &b->t[i];
		int k = map_pos(v, &v->segs[t->segment], &t->disk);
		struct leg *l = leg_find(v, &t->disk);

		if (!t->done || (t->step == STEP_ADD) != (k >= 0))
			continue; /* the transaction did not take effect */
		did = true;
		v->st.copies_added += t->step == STEP_ADD;
		v->st.copies_removed += t->step == STEP_REMOVE;
		if (t->step == STEP_REMOVE && l)
			reconf_drop_later(r, t->segment, l);
	}
	count_legs(v);
	/* A disk that has no copy any more is not waited for; resync.c takes it off the list of those that are out. */
	for (uint32_t i = 0; did && i < v->nlegs; i++)
		if (!v->legs[i]->segments)
			v->legs[i]->used = false;
	if (rc)
		log_debug(env_log(v->e), "volume %s: copies not changed now: %s", v->rec.name, err.message);
	return did;
}

static uint32_t joining_now(const struct vol *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++) {
			const struct leg *l = seg_leg((struct vol *)v, &v->segs[i], k);

			n += v->segs[i].joining[k] &&
			     (l->state == LEG_UP || env_now(v->e) < l->down_since + NEW_LEG_GRACE);
		}
	return n;
}

static void no_place(struct reconf *r, const struct hci_error *err)
{
	r->retry_at = env_now(r->v->e) + NO_PLACE_RETRY;
	if (strncmp(r->why, err->message, sizeof(r->why) - 1)) {
		snprintf(r->why, sizeof(r->why), "%.*s", (int)sizeof(r->why) - 1, err->message);
		log_warn(env_log(r->v->e), "volume %s: a copy cannot be made elsewhere now: %s", r->v->rec.name, err->message);
	}
}

/* Looks at all segments; true when something was changed. */
static bool settle(struct reconf *r)
{
	struct vol *v = r->v;
	uint32_t left = 0, adding;
	struct hci_error err = { 0 };
	bool did = false;
	struct batch *b = MEM_NEW(struct batch);

	if (!b)
		return false;
	count_legs(v);
	adding = joining_now(v);
	for (uint32_t i = 0; i < v->nsegs && !over(v); i++) {
		struct todo t;

		reconf_judge(v, i, &t);
		left += t.step != STEP_NONE;
		if (t.step == STEP_ADD && adding < WINDOW && env_now(v->e) >= r->retry_at) {
			int rc = reconf_home(v, &t, &err);

			if (rc && rc != HCI_E_STATE)
				no_place(r, &err);
			if (rc)
				continue;
			adding++;
		} else if (t.step != STEP_REMOVE) {
			continue;
		}
		if (b->n && (b->n == BATCH || b->t[0].segment / REC_VOLMAP_CHUNK != i / REC_VOLMAP_CHUNK)) {
			did |= batch_run(r, b);
			b->n = 0;
		}
		b->t[b->n++] = t;
	}
	if (b->n && !over(v))
		did |= batch_run(r, b);
	mem_free(b);
	v->st.unsettled = left;
	return did;
}

/* ---- the record of moves ---- */

/* Takes out what is over; the record goes when nothing at all is left to do. */
static void prune(struct reconf *r)
{
	struct vol *v = r->v;
	struct rec_volmove *m;
	struct hci_error err = { 0 };
	char key[REC_KEY];
	int rc;

	if (!r->have)
		return;
	m = MEM_NEW(struct rec_volmove);
	if (!m)
		return;
	for (uint32_t i = 0; i < r->rec.n; i++)
		if (!reconf_move_is_over(v, &r->rec.m[i]))
			m->m[m->n++] = r->rec.m[i];
	key_volmove(key, &v->rec.uuid);
	if (!m->n && !v->st.unsettled)
		rc = rec_delete(v->x->store, key, r->rev, NULL, &err);
	else if (m->n < r->rec.n)
		rc = rec_volmove_put(v->x->store, key, m, r->rev, 0, NULL, &err);
	else
		rc = HCI_E_AGAIN;
	if (rc != HCI_E_AGAIN)
		r->look = true; /* whatever came of it: read what is there */
	mem_free(m);
}

static void on_change(void *arg, const struct store_event *ev, size_t n, uint64_t revision)
{
	struct reconf *r = arg;

	(void)ev;
	(void)n;
	(void)revision;
	r->look = true;
	fiber_cond_signal(r->v->e, &r->v->changed);
}

/* ---- the fiber ---- */

static bool anything_wanted(struct vol *v)
{
	bool evac = false;

	for (uint32_t i = 0; i < v->nlegs && !evac; i++)
		evac = v->legs[i]->used && reconf_evacuating(v->legs[i]);
	return evac || v->reconf->have || v->st.unsettled;
}

static void reconf_fiber(void *arg)
{
	struct vol *v = arg;
	struct reconf *r = v->reconf;
	struct env *e = v->e;
	struct hci_error err = { 0 };

	while (!over(v)) {
		bool did = false;

		if (r->look && read_wanted(r, &err))
			log_debug(env_log(e), "volume %s: %s", v->rec.name, err.message);
		if (!over(v) && !r->look && anything_wanted(v)) {
			did = settle(r);
			/* At once: a copy may come to where one has just left by a move, and must not go because of that. */
			if (!over(v))
				prune(r);
		}
		if (!over(v))
			reconf_drops_run(r);
		if (did) {
			fiber_sleep(e, NS_PER_MS); /* others want the lock too */
			continue;
		}
		fiber_cond_wait_until(e, &v->changed, env_now(e) + 500 * NS_PER_MS);
		if (!over(v)) /* changed is signalled often under load; looking at a large map takes its time */
			fiber_sleep(e, 20 * NS_PER_MS + v->nsegs * NS_PER_US);
	}
	vol_fiber_end(v);
}

int reconf_start(struct vol *v, struct hci_error *err)
{
	struct reconf *r = MEM_NEW(struct reconf);
	char key[REC_KEY];
	int rc = HCI_E_NOMEM;

	if (!r)
		return err_set(err, rc, "volume %s: out of memory", v->rec.name);
	r->v = v;
	r->look = true;
	list_init(&r->drops);
	v->reconf = r;
	v->st.unsettled = 1;
	key_volmove(key, &v->rec.uuid);
	r->watch = store_watch(v->x->store, key, v->sync_rev, on_change, r);
	if (r->watch) {
		v->fibers++;
		rc = fiber_spawn(v->e, reconf_fiber, v, "volume-reconf");
		if (rc)
			v->fibers--;
	}
	return rc ? err_set(err, rc, "volume %s: out of memory", v->rec.name) : 0;
}

void reconf_stop(struct vol *v)
{
	struct reconf *r = v->reconf;

	if (!r)
		return;
	if (r->watch)
		store_watch_close(r->watch);
	r->watch = NULL;
	reconf_drops_end(r);
}
