/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies that come, go and move because somebody wants it so, while the volume is in use: the number of replicas in
 * its record was changed, a disk is being evacuated, a move was asked for (volmove/<uuid>). There is no list of steps:
 * each segment is compared with what is wanted and the next step towards it done, so whoever is the writer goes on where
 * the last one stopped, and taking a wish back is enough to cancel it.
 *
 * A step is one transaction on the map: a copy is added as joining, and filled by resync.c like one that is rebuilt; or a
 * copy is removed, when without it as many in-sync copies are left as the volume is to have. What a removed copy held is
 * dropped from its disk as soon as no request of ours to it is under way.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

#define WINDOW 8u /* copies being added to one volume at the same time */
#define BATCH 16u /* steps in one transaction */
#define NO_PLACE_RETRY (5 * NS_PER_S)
#define NEW_LEG_GRACE (5 * NS_PER_S)
#define DROP_TIMEOUT (60 * NS_PER_S)

struct drop {
	struct list link;
	struct rpc_call call;
	struct rpc_conn *conn; /* NULL: not sent yet */
	struct leg *leg;
	uint32_t segment;
};

struct reconf {
	struct vol *v;
	struct store_watch *watch;
	bool look;              /* the records may have changed */
	bool have;              /* volmove is there */
	uint64_t rev;           /* its revision */
	struct rec_volmove rec; /* sorted by segment */
	struct list drops;
	uint64_t retry_at;      /* there was no place */
	char why[200];          /* said in the log */
};

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
	}
	mem_free(rec);
	r->look |= rc != 0;
	return rc;
}

static const struct rec_move *move_of(const struct vol *v, uint32_t segment, const struct uuid *from)
{
	const struct reconf *r = v->reconf;
	uint32_t lo = 0, hi = r->rec.n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (r->rec.m[mid].segment < segment)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < r->rec.n && r->rec.m[lo].segment == segment; lo++)
		if (uuid_eq(&r->rec.m[lo].from, from))
			return &r->rec.m[lo];
	return NULL;
}

static bool evacuating(const struct leg *l)
{
	const struct rec_disk *d = l->v->x->disk(l->v->x->arg, &l->disk);

	return d && d->state == REC_DISK_EVACUATING;
}

static bool is_leaving(struct vol *v, uint32_t segment, unsigned k)
{
	struct leg *l = seg_leg(v, &v->segs[segment], k);

	return l->evacuating || move_of(v, segment, &l->disk);
}

/* ---- the next step of one segment ---- */

enum step { STEP_NONE, STEP_WAIT, STEP_ADD, STEP_REMOVE };

struct todo {
	uint32_t segment;
	enum step step;
	int pos;          /* REMOVE: of which; ADD: instead of which, -1: one more */
	struct uuid disk; /* REMOVE: its disk; ADD: the new one */
	bool done;        /* in the map that was written */
};

/* A copy that holds everything and can be read now. */
static bool good(struct vol *v, const struct seg *s, unsigned k)
{
	struct leg *l = seg_leg(v, s, k);

	return s->pos[k] == POS_IN && l->state == LEG_UP && !l->suspect && !l->out;
}

/*
 * Which copy of too many can go now; -1: none yet. One that holds something goes only when as many good ones are left as
 * the volume is to have. While a copy is to leave, no other goes in its place.
 */
static int victim(struct vol *v, uint32_t segment, unsigned in, int leaving)
{
	struct seg *s = &v->segs[segment];
	int best = -1, best_score = -1;
	uint32_t best_load = 0;

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);
		bool leaves = is_leaving(v, segment, k);
		int score;

		if (s->leg[k] == LEG_NONE || (leaving >= 0 && !leaves) ||
		    (!s->joining[k] && in - good(v, s, k) < v->rec.replicas))
			continue;
		score = 2 * s->joining[k] + !good(v, s, k);
		if (score < best_score || (score == best_score && l->segments <= best_load))
			continue;
		best = (int)k;
		best_score = score;
		best_load = l->segments;
	}
	return best;
}

static void judge(struct vol *v, uint32_t segment, struct todo *t)
{
	struct seg *s = &v->segs[segment];
	unsigned n = 0, in = 0;
	int leaving = -1;

	memset(t, 0, sizeof(*t));
	t->segment = segment;
	t->pos = -1;
	for (unsigned k = 0; k < s->n; k++) {
		if (s->leg[k] == LEG_NONE)
			continue;
		n++;
		in += good(v, s, k);
		if (is_leaving(v, segment, k))
			leaving = (int)k;
	}
	if (n == v->rec.replicas && leaving < 0)
		return;
	t->step = STEP_WAIT;
	if (n > v->rec.replicas) {
		t->pos = victim(v, segment, in, leaving);
		if (t->pos >= 0) {
			t->step = STEP_REMOVE;
			t->disk = seg_leg(v, s, (unsigned)t->pos)->disk;
		}
	} else if (in && n < REC_COPIES_MAX) {
		t->pos = n < v->rec.replicas ? -1 : leaving;
		t->step = STEP_ADD;
	}
}

/* ---- where a new copy goes ---- */

static bool same_node(struct vol *v, const struct rec_disk *d, const struct uuid *other)
{
	const struct rec_disk *o = v->x->disk(v->x->arg, other);

	return o && !strcmp(o->node, d->node);
}

/* Where the copy was asked to go, if that can be. */
static bool asked_for(struct vol *v, const struct rec_move *m, const struct uuid *keep, size_t nkeep)
{
	const struct rec_disk *d = v->x->disk(v->x->arg, &m->to);
	/* Not to where it would have to leave again at once. */
	bool fine = d && d->state == REC_DISK_ONLINE && !strcmp(d->pool, v->rec.pool) && !move_of(v, m->segment, &m->to);

	for (size_t i = 0; fine && i < nkeep; i++)
		fine = !uuid_eq(&keep[i], &m->to) && !same_node(v, d, &keep[i]);
	return fine;
}

/* May park. HCI_E_NOPLACE, or HCI_E_STATE: it was asked to go where it cannot. */
static int find_home(struct vol *v, struct todo *t, struct hci_error *err)
{
	struct uuid keep[SEG_POS_MAX], bad = { 0 };
	struct seg *s = &v->segs[t->segment];
	const struct rec_move *m = NULL;
	size_t nkeep = 0;
	int rc;

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);

		if (s->leg[k] == LEG_NONE)
			continue;
		if ((int)k != t->pos)
			keep[nkeep++] = l->disk;
		else
			bad = l->disk;
	}
	if (t->pos >= 0)
		m = move_of(v, t->segment, &bad);
	if (m) {
		t->disk = m->to;
		return asked_for(v, m, keep, nkeep) ? 0 : HCI_E_STATE; /* prune() takes it off the list */
	}
	if (!v->x->choose_spare)
		return err_set(err, HCI_E_NOPLACE, "volume %s: nobody chooses disks here", v->rec.name);
	rc = v->x->choose_spare(v->x->arg, &v->rec, t->segment, keep, nkeep, t->pos >= 0 ? &bad : NULL, &t->disk, err);
	for (size_t i = 0; !rc && i < nkeep; i++)
		if (uuid_eq(&keep[i], &t->disk))
			rc = err_set(err, HCI_E_NOPLACE, "volume %s: segment %u: the disk chosen has a copy", v->rec.name,
				     t->segment);
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
		judge(v, segment, &now);
		if (now.step != t->step || (t->step == STEP_REMOVE && !uuid_eq(&now.disk, &t->disk)))
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
		v->legs[i]->segments = 0;
		v->legs[i]->evacuating = evacuating(v->legs[i]);
	}
	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++)
			seg_leg(v, &v->segs[i], k)->segments++;
}

static void drop_later(struct reconf *r, uint32_t segment, struct leg *l)
{
	struct drop *d = MEM_NEW(struct drop);

	if (!d)
		return; /* the space stays taken until the disk is looked over */
	d->leg = l;
	d->segment = segment;
	r->v->st.dropping++;
	list_push(&r->drops, &d->link);
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
			drop_later(r, t->segment, l);
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

		judge(v, i, &t);
		left += t.step != STEP_NONE;
		if (t.step == STEP_ADD && adding < WINDOW && env_now(v->e) >= r->retry_at) {
			int rc = find_home(v, &t, &err);

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

/* Neither under way nor possible: the copy is not there any more, or the new place is no good. */
static bool move_is_over(struct vol *v, const struct rec_move *m)
{
	struct uuid keep[SEG_POS_MAX];
	unsigned n = 0;
	struct seg *s;
	size_t nkeep = 0;

	if (m->segment >= v->nsegs || map_pos(v, &v->segs[m->segment], &m->from) < 0)
		return true;
	s = &v->segs[m->segment];
	for (unsigned k = 0; k < s->n; k++)
		n += s->leg[k] != LEG_NONE;
	if (map_pos(v, s, &m->to) >= 0)
		return n <= v->rec.replicas; /* it had one there before */
	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != LEG_NONE && !uuid_eq(&seg_leg(v, s, k)->disk, &m->from))
			keep[nkeep++] = seg_leg(v, s, k)->disk;
	return !asked_for(v, m, keep, nkeep);
}

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
		if (!move_is_over(v, &r->rec.m[i]))
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

/* ---- dropping what copies that went have left ---- */

static bool in_use(struct vol *v, const struct drop *d)
{
	const struct leg_op *op;

	if (v->segs[d->segment].users)
		return true;
	list_for_each(op, &d->leg->ops, link)
		if (op->piece->segment == d->segment)
			return true;
	return false;
}

static void drop_free(struct drop *d)
{
	d->leg->v->st.dropping--;
	list_del(&d->link);
	rpc_conn_unref(d->conn);
	mem_free(d);
}

static void drop_done(struct rpc_call *c)
{
	struct drop *d = container_of(c, struct drop, call);
	struct leg *l = d->leg;
	struct vol *v = l->v;

	v->segs[d->segment].dropping--;
	if (c->status)
		log_info(env_log(v->e), "volume %s: segment %u still takes space on a disk of node %s: %s", v->rec.name,
			 d->segment, l->node, c->err.message);
	/* It may still come about there: not after the next opening. */
	if (c->status == HCI_E_TIMEOUT && l->conn == d->conn)
		leg_fail(l, c->status, "no answer to a drop");
	rpc_call_free(c);
	drop_free(d);
	vol_fiber_end(v);
}

/* A copy may have been made there again: then it is not to be dropped any more. A disk that is away is left alone. */
static void drops_run(struct reconf *r)
{
	struct vol *v = r->v;
	struct drop *d, *tmp;

	list_for_each_safe(d, tmp, &r->drops, link) {
		if (d->conn)
			continue;
		if (d->leg->state != LEG_UP || map_pos(v, &v->segs[d->segment], &d->leg->disk) >= 0) {
			drop_free(d);
			continue;
		}
		if (in_use(v, d))
			continue;
		d->conn = rpc_conn_ref(d->leg->conn);
		d->call.method = REPL_RPC_DROP;
		d->call.timeout_ns = DROP_TIMEOUT;
		d->call.done = drop_done;
		pk_map(&d->call.body, 2);
		pk_kv_u64(&d->call.body, "handle", d->leg->handle);
		pk_kv_u64(&d->call.body, "segment", d->segment);
		v->segs[d->segment].dropping++;
		v->fibers++; /* the volume's end waits for it */
		rpc_submit(d->conn, &d->call);
	}
}

/* ---- the fiber ---- */

static bool anything_wanted(struct vol *v)
{
	bool evac = false;

	for (uint32_t i = 0; i < v->nlegs && !evac; i++)
		evac = v->legs[i]->used && evacuating(v->legs[i]);
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
			if (!over(v) && !did)
				prune(r);
		}
		if (!over(v))
			drops_run(r);
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
	struct drop *d, *tmp;

	if (!r)
		return;
	if (r->watch)
		store_watch_close(r->watch);
	r->watch = NULL;
	list_for_each_safe(d, tmp, &r->drops, link)
		if (d->conn)
			rpc_cancel(d->conn, &d->call);
		else
			drop_free(d);
}
