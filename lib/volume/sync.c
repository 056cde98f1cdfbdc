/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The in-sync set in the store.
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
	ENV_MARK(v->e, "writer is fenced");
	v->fenced = true;
	leg_stop_all(v);
	io_recheck(v);
	fiber_cond_signal(v->e, &v->changed);
	if (v->ready && v->opts.on_fenced)
		v->opts.on_fenced(v->opts.arg, v);
}

/* ---- the record ---- */

static void out_remove(struct rec_volsync *s, const struct uuid *disk)
{
	struct rec_out *o;

	/* A disk that was forgotten, came back and left again may be there twice. */
	while ((o = rec_volsync_out(s, disk)))
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
	ENV_MARK(v->e, "set changed under the writer");
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

		ENV_MARK(v->e, "set change begins");
		rc = store_txn(v->x->store, &cmp, vol_mutated(v->x, VOL_MUTATE_NO_COMPARE) ? 0 : 1, &op, 1, &rev, err);
		ENV_MARK_STATE(v->e, "set change ends:done,unknown,refused",
			       !rc ? 0 : rc == HCI_E_CONFLICT ? 2 : 1, 3);
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
			ENV_MARK_STATE(v->e, "leaves the set:in,not yet in", s->pos[k] != POS_IN, 2);
			s->pos[k] = POS_OUT;
			/* Before the volume is settled others may hold what the last writer left in flight, and it not. */
			s->missed[k] = l->lost_writes || !v->ready;
		}
	}
	if (l->lost_writes) /* and is known to */
		l->acked_max = 0;
	l->lost_writes = false;
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
			since_seen(&l->out_for, env_now(v->e), 0, 0);
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
		ENV_MARK_STATE(v->e, "rejoined:yes,no", rc != 0, 2);
		if (!rc) {
			l->out = false;
			/* It failed meanwhile: it is in the set, so it has to leave like any other. */
			l->suspect = l->state != LEG_UP;
			/* Perhaps nobody writes now, and a writer's death would have all that was copied settled again. */
			if (l->state == LEG_UP)
				leg_tell_stable(l, io_stable(v));
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
