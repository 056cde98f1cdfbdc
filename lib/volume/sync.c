/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The in-sync set in the store, and the lease that makes us the only one who may change it.
 *
 * Every change is a transaction on volsync/<uuid> that holds only if nobody changed it since; a new
 * writer raises the generation in that same record, so an old writer's change fails and it learns
 * that it is over. Memory follows the store: a position stops counting only after the transaction.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

void sync_fenced(struct vol *v, const char *why)
{
	if (v->fenced || v->closing)
		return;
	log_warn(env_log(v->e), "volume %s: this writer (generation %llu) is over: %s", v->rec.name,
		 (unsigned long long)v->gen, why);
	v->fenced = true;
	leg_stop_all(v);
	io_recheck(v);
	fiber_cond_signal(v->e, &v->changed);
	if (v->ready && v->opts.on_fenced)
		v->opts.on_fenced(v->opts.arg, v);
}

/* ---- the record ---- */

static struct rec_out *out_find(struct rec_volsync *s, const struct uuid *disk)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (uuid_eq(&s->out[i].disk, disk))
			return &s->out[i];
	return NULL;
}

static void out_remove(struct rec_volsync *s, const struct uuid *disk)
{
	struct rec_out *o = out_find(s, disk);

	if (o)
		*o = s->out[--s->n];
}

/*
 * Was it our own request, whose answer was lost, that changed the record? Then memory follows.
 * HCI_E_FENCED when another writer was there, HCI_E_AGAIN when the record is as it was.
 */
static int sync_read_back(struct vol *v, const char *key, const struct rec_volsync *want, const struct buf *enc,
			  struct hci_error *err)
{
	struct rec_volsync *seen = MEM_NEW(struct rec_volsync);
	struct buf b = BUF_INIT;
	uint64_t rev;
	int rc;

	if (!seen)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	rc = rec_volsync_get(v->x->store, key, seen, &rev, err);
	if (rc == HCI_E_NOTFOUND || (!rc && seen->generation != want->generation)) {
		sync_fenced(v, "a newer writer attached the volume, or it was deleted");
		rc = err_set(err, HCI_E_FENCED, "volume %s: a newer writer attached it", v->rec.name);
	} else if (!rc && rev == v->sync_rev) {
		rc = HCI_E_AGAIN;
	} else if (!rc) {
		v->sync_rev = rev;
		rc = rec_volsync_encode(seen, &b);
		if (!rc && (b.len != enc->len || memcmp(b.data, enc->data, b.len)))
			rc = err_set(err, HCI_E_INTERNAL, "volume %s: its in-sync record changed under its writer",
				     v->rec.name);
		if (!rc)
			*v->sync = *want;
	}
	buf_free(&b);
	mem_free(seen);
	return rc;
}

/* Writes the record if it is still as we know it; tries until the store answers. set_lock is held. */
static int sync_commit(struct vol *v, const struct rec_volsync *want, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	key_volsync(key, &v->rec.uuid);
	rc = rec_volsync_encode(want, &b);
	while (!rc) {
		struct store_cmp cmp = { STORE_CMP_MOD_REV, key, v->sync_rev };
		struct store_op op = { STORE_PUT, key, b.data, (uint32_t)b.len, 0 };

		rc = store_txn(v->x->store, &cmp, 1, &op, 1, &rev, err);
		if (!rc) {
			v->sync_rev = rev;
			*v->sync = *want;
			break;
		}
		if (rc == HCI_E_CONFLICT)
			rc = sync_read_back(v, key, want, &b, err);
		else if (rc != HCI_E_UNAVAILABLE && rc != HCI_E_TIMEOUT)
			break;
		if (!rc)
			break;
		if (rc != HCI_E_UNAVAILABLE && rc != HCI_E_TIMEOUT && rc != HCI_E_AGAIN)
			break;
		fiber_sleep(v->e, 200 * NS_PER_MS);
		rc = v->closing || v->abandoned || v->fenced ? HCI_E_CLOSED : 0;
	}
	buf_free(&b);
	return rc;
}

/* ---- leaving ---- */

/* Would every segment that l serves still have a copy that is in the set, up, and stays? */
static bool can_leave(const struct leg *l)
{
	struct vol *v = l->v;

	for (uint32_t i = 0; i < v->nsegs; i++) {
		struct seg *s = &v->segs[i];
		bool mine = false, other = false;

		for (unsigned k = 0; k < s->n; k++) {
			struct leg *o = seg_leg(v, s, k);

			if (s->pos[k] < POS_PENDING)
				continue;
			if (o == l)
				mine = true;
			else if (s->pos[k] == POS_IN && o->state == LEG_UP && !o->suspect && !o->leaving)
				other = true;
		}
		if (mine && !other)
			return false;
	}
	return true;
}

static uint32_t choose_leaving(struct vol *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->nlegs; i++)
		v->legs[i]->leaving = false;
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];

		if (l->suspect && l->state != LEG_UP && !l->out && l->used && v->sync->n + n < REC_OUT_MAX &&
		    can_leave(l)) {
			l->leaving = true;
			n++;
		}
	}
	return n;
}

static void leg_is_out(struct leg *l)
{
	struct vol *v = l->v;

	l->out = true;
	l->suspect = false;
	for (uint32_t i = 0; i < v->nsegs; i++) {
		struct seg *s = &v->segs[i];

		for (unsigned k = 0; k < s->n; k++) {
			if (s->leg[k] != l->idx)
				continue;
			s->pos[k] = POS_OUT;
			/* Before the volume is settled others may hold what the last writer left in flight, and it not. */
			s->missed[k] = l->lost_writes || !v->ready;
		}
	}
	l->lost_writes = false;
	l->acked_max = 0;
}

/* Takes all suspect legs that can go out of the set, durably. set_lock is held. */
static int leave_locked(struct vol *v, uint64_t stable, struct hci_error *err)
{
	struct rec_volsync *want;
	int rc = 0;

	want = MEM_NEW(struct rec_volsync);
	if (!want)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	if (choose_leaving(v)) {
		*want = *v->sync;
		for (uint32_t i = 0; i < v->nlegs; i++) {
			struct leg *l = v->legs[i];
			struct rec_out *o;

			if (!l->leaving)
				continue;
			o = &want->out[want->n++];
			o->disk = l->disk;
			o->left_seq = l->lost_writes ? 0 : stable;
			o->since = env_realtime(v->e);
			o->syncing = false;
			l->left_seq = o->left_seq;
			l->out_since = o->since;
		}
		rc = sync_commit(v, want, err);
		for (uint32_t i = 0; i < v->nlegs; i++) {
			struct leg *l = v->legs[i];

			if (l->leaving && !rc) {
				log_warn(env_log(v->e), "volume %s: disk on node %s left the in-sync set at write %llu",
					 v->rec.name, l->node, (unsigned long long)l->left_seq);
				leg_is_out(l);
				/* It may have come back meanwhile: the copying begins with a new opening. */
				if (l->state == LEG_UP)
					leg_fail(l, HCI_E_STATE, "left the set");
			}
			l->leaving = false;
		}
	}
	mem_free(want);
	return rc;
}

int sync_leave_now(struct vol *v, uint64_t stable, struct hci_error *err)
{
	int rc;

	fiber_mutex_lock(v->e, &v->set_lock);
	rc = leave_locked(v, stable, err);
	fiber_mutex_unlock(v->e, &v->set_lock);
	return rc;
}

static void leave_fiber(void *arg)
{
	struct vol *v = arg;
	struct hci_error err;

	fiber_mutex_lock(v->e, &v->set_lock);
	v->set_fiber = false;
	if (!v->closing && !v->abandoned && !v->fenced && leave_locked(v, v->x->mutate & VOL_MUTATE_LEFT_LATE ? v->seq : io_stable(v), &err))
		log_warn(env_log(v->e), "volume %s: writes wait, the in-sync set cannot be changed: %s", v->rec.name,
			 err.message);
	fiber_mutex_unlock(v->e, &v->set_lock);
	io_recheck(v);
	vol_fiber_end(v);
}

void sync_check(struct vol *v)
{
	bool any = false;

	if (!v->ready || v->set_fiber || v->closing || v->abandoned || v->fenced)
		return;
	for (uint32_t i = 0; i < v->nlegs && !any; i++) {
		struct leg *l = v->legs[i];

		any = l->suspect && l->state != LEG_UP && !l->out && l->used && can_leave(l);
	}
	if (!any)
		return;
	v->set_fiber = true;
	v->fibers++;
	if (fiber_spawn(v->e, leave_fiber, v, "volume-leave")) {
		v->set_fiber = false;
		v->fibers--;
	}
}

/* ---- coming back ---- */

/* All positions of the leg that the store counts with the leg: from one state to another; false if one is not in `from`. */
static bool move_positions(struct leg *l, enum pos_state from, enum pos_state to)
{
	struct vol *v = l->v;
	bool all = true;

	for (int apply = 0; apply < 2 && all; apply++) {
		for (uint32_t i = 0; i < v->nsegs; i++) {
			struct seg *s = &v->segs[i];

			for (unsigned k = 0; k < s->n; k++) {
				if (s->leg[k] != l->idx || s->joining[k])
					continue;
				if (apply)
					s->pos[k] = (uint8_t)to;
				else
					all &= s->pos[k] == (uint8_t)from;
			}
		}
	}
	return all;
}

int sync_rejoin(struct leg *l, struct hci_error *err)
{
	struct vol *v = l->v;
	struct rec_volsync *want;
	int rc = 0;

	want = MEM_NEW(struct rec_volsync);
	if (!want)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	fiber_mutex_lock(v->e, &v->set_lock);
	*want = *v->sync;
	out_remove(want, &l->disk);
	/* One that went down and came back while others were copied has to begin anew. */
	if (l->state != LEG_UP || !move_positions(l, POS_SYNCED, POS_PENDING))
		rc = err_set(err, HCI_E_UNAVAILABLE, "volume %s: node %s went away", v->rec.name, l->node);
	if (!rc) {
		rc = sync_commit(v, want, err);
		(void)move_positions(l, POS_PENDING, rc ? POS_OUT : POS_IN);
		if (!rc) {
			l->out = false;
			/* It failed meanwhile: it is in the set, so it has to leave like any other. */
			l->suspect = l->state != LEG_UP;
		}
	}
	fiber_mutex_unlock(v->e, &v->set_lock);
	mem_free(want);
	sync_check(v);
	io_recheck(v);
	return rc;
}

static bool unused(const struct vol *v, const struct rec_out *o)
{
	struct leg *l = leg_find((struct vol *)v, &o->disk);

	return !l || !l->used;
}

bool sync_has_unused(const struct vol *v)
{
	for (uint32_t i = 0; i < v->sync->n; i++)
		if (unused(v, &v->sync->out[i]))
			return true;
	return false;
}

int sync_forget_unused(struct vol *v, struct hci_error *err)
{
	struct rec_volsync *want = MEM_NEW(struct rec_volsync);
	int rc;

	if (!want)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	fiber_mutex_lock(v->e, &v->set_lock);
	*want = *v->sync;
	for (uint32_t i = 0; i < want->n;)
		if (unused(v, &want->out[i]))
			want->out[i] = want->out[--want->n];
		else
			i++;
	rc = sync_commit(v, want, err);
	for (uint32_t i = 0; !rc && i < v->nlegs; i++)
		if (!v->legs[i]->used)
			v->legs[i]->out = v->legs[i]->suspect = false;
	fiber_mutex_unlock(v->e, &v->set_lock);
	mem_free(want);
	return rc;
}

/* ---- the map: replicas that move ---- */

typedef bool map_change_fn(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg);

/*
 * Reads a chunk of the map, lets fn change it, writes it back if it and the generation are unchanged.
 * set_lock is held by the caller.
 */
static int map_change(struct vol *v, uint32_t chunk, map_change_fn *fn, void *arg, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct buf b = BUF_INIT;
	char key[REC_KEY], synckey[REC_KEY];
	uint64_t rev;
	bool changed = false;
	int rc;

	if (!m)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volmap(key, &v->rec.uuid, chunk);
	key_volsync(synckey, &v->rec.uuid);
	rc = rec_volmap_get(v->x->store, key, m, &rev, err);
	for (uint32_t i = 0; !rc && i < m->n; i++)
		changed |= fn(v, chunk * REC_VOLMAP_CHUNK + i, &m->seg[i], arg);
	if (!rc && changed) {
		rc = rec_volmap_encode(m, &b);
		if (!rc) {
			struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, key, rev },
						    { STORE_CMP_MOD_REV, synckey, v->sync_rev } };
			struct store_op op = { STORE_PUT, key, b.data, (uint32_t)b.len, 0 };

			rc = store_txn(v->x->store, cmps, 2, &op, 1, NULL, err);
		}
	}
	buf_free(&b);
	mem_free(m);
	return rc;
}

static bool change_joined(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg)
{
	struct seg *s = &v->segs[segment];
	bool changed = false;

	(void)arg;
	if (segment >= v->nsegs)
		return false;
	for (unsigned k = 0; k < s->n && k < r->n; k++) {
		struct leg *l = seg_leg(v, s, k);

		if (s->joining[k] && s->pos[k] == POS_SYNCED && l->state == LEG_UP && !l->out && r->r[k].joining &&
		    uuid_eq(&r->r[k].disk, &l->disk)) {
			r->r[k].joining = false;
			s->pos[k] = POS_PENDING;
			changed = true;
		}
	}
	return changed;
}

int sync_joined(struct vol *v, uint32_t chunk, struct hci_error *err)
{
	int rc;

	fiber_mutex_lock(v->e, &v->set_lock);
	rc = map_change(v, chunk, change_joined, NULL, err);
	/* Whatever the answer was, the store tells who joined. Until it does those stay pending: no write without them. */
	do {
		rc = map_refresh(v, chunk, err);
		if (rc)
			fiber_sleep(v->e, 200 * NS_PER_MS);
	} while (rc && !v->closing && !v->abandoned && !v->fenced);
	fiber_mutex_unlock(v->e, &v->set_lock);
	sync_check(v);
	io_recheck(v);
	return rc;
}

struct replace {
	struct leg *bad;
	struct leg **to; /* per segment of the chunk: the leg that takes over, NULL: unchanged */
};

static bool change_replace(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg)
{
	struct replace *x = arg;
	struct leg *to = x->to[segment % REC_VOLMAP_CHUNK];
	bool changed = false;

	if (!to)
		return false;
	(void)v;
	for (unsigned k = 0; k < r->n; k++) {
		if (!uuid_eq(&r->r[k].disk, &x->bad->disk))
			continue;
		r->r[k].disk = to->disk;
		r->r[k].joining = true;
		changed = true;
	}
	return changed;
}

/* Asks the policy for a new home of one segment's copy; NULL when there is none now. */
static struct leg *choose_home(struct vol *v, uint32_t segment, struct leg *bad, struct hci_error *err)
{
	struct uuid keep[REC_REPLICAS_MAX], home;
	struct seg *s = &v->segs[segment];
	struct leg *to = NULL;
	size_t nkeep = 0;

	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != bad->idx)
			keep[nkeep++] = seg_leg(v, s, k)->disk;
	if (v->x->choose_spare(v->x->arg, &v->rec, segment, keep, nkeep, &bad->disk, &home, err))
		return NULL;
	for (size_t i = 0; i < nkeep; i++)
		if (uuid_eq(&keep[i], &home))
			return NULL;
	if (uuid_eq(&home, &bad->disk) || leg_add(v, &home, &to))
		return NULL;
	return to;
}

int sync_replace(struct vol *v, uint32_t chunk, struct leg *bad, uint32_t *moved, struct hci_error *err)
{
	struct replace x = { .bad = bad };
	uint32_t first = chunk * REC_VOLMAP_CHUNK, n = MIN(REC_VOLMAP_CHUNK, v->nsegs - first);
	uint32_t n_moved = 0;
	int rc = 0;

	x.to = mem_calloc(REC_VOLMAP_CHUNK, sizeof(*x.to));
	if (!x.to)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	for (uint32_t i = 0; i < n; i++) {
		/* choose_home parks, and the array of segments may move meanwhile: index anew each time. */
		for (unsigned k = 0; k < v->segs[first + i].n; k++)
			if (v->segs[first + i].leg[k] == bad->idx && v->segs[first + i].pos[k] == POS_OUT &&
			    !v->closing && !x.to[i])
				x.to[i] = choose_home(v, first + i, bad, err);
		n_moved += x.to[i] != NULL;
	}
	if (n_moved) {
		fiber_mutex_lock(v->e, &v->set_lock);
		rc = map_change(v, chunk, change_replace, &x, err);
		if (!rc || rc == HCI_E_UNAVAILABLE || rc == HCI_E_TIMEOUT || rc == HCI_E_CONFLICT)
			rc = map_refresh(v, chunk, err);
		fiber_mutex_unlock(v->e, &v->set_lock);
		io_recheck(v);
	}
	*moved = n_moved;
	mem_free(x.to);
	return rc;
}

/* ---- the lease ---- */

/* Does the store still have our generation? True as well when it does not answer: then nothing is known. */
static bool still_ours(struct vol *v)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	char key[REC_KEY];
	int rc;

	key_volsync(key, &v->rec.uuid);
	rc = s ? rec_volsync_get(v->x->store, key, s, NULL, NULL) : HCI_E_NOMEM;
	if (!rc)
		rc = s->generation == v->gen ? 0 : HCI_E_FENCED;
	mem_free(s);
	return rc != HCI_E_FENCED && rc != HCI_E_NOTFOUND;
}

/* Our lease ended in the store, but nobody came: take a new one under the same generation. */
static int lease_again(struct vol *v, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	char key[REC_KEY], synckey[REC_KEY];
	uint64_t lease;
	int rc;

	rc = store_lease_grant(v->x->store, v->lease_ttl, &lease, err);
	if (rc)
		return rc;
	key_volatt(key, &v->rec.uuid);
	key_volsync(synckey, &v->rec.uuid);
	rc = rec_volatt_encode(&v->att, &b);
	if (!rc) {
		struct store_cmp cmps[2];
		struct store_op op = { STORE_PUT, key, b.data, (uint32_t)b.len, lease };

		fiber_mutex_lock(v->e, &v->set_lock);
		cmps[0] = (struct store_cmp){ STORE_CMP_MOD_REV, key, 0 };
		cmps[1] = (struct store_cmp){ STORE_CMP_MOD_REV, synckey, v->sync_rev };
		rc = store_txn(v->x->store, cmps, 2, &op, 1, NULL, err);
		fiber_mutex_unlock(v->e, &v->set_lock);
	}
	buf_free(&b);
	/* An attempt before whose answer was lost leaves the same: only another's generation ends us. */
	if (rc == HCI_E_CONFLICT && still_ours(v))
		rc = err_set(err, HCI_E_AGAIN, "the attachment is still in the store");
	if (!rc)
		v->lease = lease;
	else
		(void)store_lease_revoke(v->x->store, lease, NULL);
	return rc;
}

static void lease_fiber(void *arg)
{
	struct vol *v = arg;
	struct env *e = v->e;
	struct hci_error err;

	while (!v->closing && !v->abandoned && !v->fenced) {
		uint64_t before, wake = env_now(e) + v->lease_ttl / 4;
		int rc;

		while (!v->closing && !v->abandoned && !v->fenced && env_now(e) < wake)
			fiber_cond_wait_until(e, &v->changed, wake);
		if (v->closing || v->abandoned || v->fenced)
			break;
		before = env_now(e);
		rc = store_lease_keepalive(v->x->store, v->lease, &err);
		if (rc == HCI_E_NOTFOUND) {
			rc = lease_again(v, &err);
			if (rc == HCI_E_CONFLICT) {
				sync_fenced(v, "its lease ended and another writer took the volume");
				break;
			}
		}
		if (!rc) {
			bool late = before >= v->lease_deadline;

			/* A tenth is left for clocks that run apart. */
			v->lease_deadline = before + v->lease_ttl - v->lease_ttl / 10;
			if (late)
				io_recheck(v); /* reads waited */
		} else {
			log_warn(env_log(e), "volume %s: lease not renewed: %s", v->rec.name, err.message);
		}
	}
	vol_fiber_end(v);
}

int sync_start_lease(struct vol *v)
{
	int rc;

	v->fibers++;
	rc = fiber_spawn(v->e, lease_fiber, v, "volume-lease");
	if (rc)
		v->fibers--;
	return rc;
}
