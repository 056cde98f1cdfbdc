/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning and the end of a writer: lease and generation, fencing the replicas, settling what the
 * last writer left in flight; draining and giving the lease back. The order is what makes it safe:
 *
 *   1. lease + generation in one transaction: no other writer can change the in-sync set any more;
 *   2. open the replicas with the new generation: an older writer's packets are refused from here on.
 *      One fenced in-sync replica a segment is enough, as every acknowledgement needed all of them;
 *   3. replicas of the set that do not answer leave it;
 *   4. regions after what all of them surely hold are made equal on all (settle.c);
 *   5. only then the first read or write.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"
#include "volume/vol_metrics.h"

#define ATTACH_WAIT (10 * NS_PER_S) /* for replicas */
#define DRAIN_WAIT (30 * NS_PER_S)
#define WANT_TTL (10 * NS_PER_S) /* who wants the volume says so again; who gave up or died must not keep it from being repaired */

uint64_t vol_size(const struct vol *v)
{
	return v->rec.size;
}

uint64_t vol_generation(const struct vol *v)
{
	return v->gen;
}

const struct rec_volume *vol_record(const struct vol *v)
{
	return &v->rec;
}

static void vol_free(struct vol *v)
{
	vol_metrics_end(v);
	io_fini(v);
	mend_fini(v);
	cache_detach(v->cache);
	for (uint32_t i = 0; i < v->nlegs; i++)
		leg_free(v->legs[i]);
	mem_free(v->reconf);
	mem_free(v->legs);
	mem_free(v->segs);
	mem_free(v->sync);
	stray_fini(v);
	sched_put(v->sched);
	mem_free(v);
}

static struct vol *vol_alloc(struct vol_ctx *x, const struct vol_attach_opts *o)
{
	struct vol *v = MEM_NEW(struct vol);

	if (!v)
		return NULL;
	v->sync = MEM_NEW(struct rec_volsync);
	v->sched = v->sync ? sched_get(x) : NULL;
	if (!v->sched) {
		mem_free(v->sync);
		mem_free(v);
		return NULL;
	}
	list_init(&v->heal_wait);
	list_init(&v->strays);
	v->x = x;
	v->e = x->env;
	v->opts = *o;
	v->lease_ttl = o->lease_ttl_ns ? o->lease_ttl_ns : VOL_LEASE_TTL;
	v->none = (struct leg){ .v = v, .idx = LEG_NONE, .state = LEG_DOWN, .load = &v->none_load };
	list_init(&v->none.ops);
	fiber_cond_init(&v->none.changed);
	io_init(v);
	list_init(&v->mend);
	fiber_mutex_init(&v->set_lock);
	fiber_cond_init(&v->changed);
	return v;
}

/* ---- the lease ---- */

#define LEASES 20u /* that may end before the attachment hangs on them, where the store is slow */

static int busy(const struct vol *v, const struct rec_volatt *a, struct hci_error *err)
{
	return err_set(err, HCI_E_BUSY,
		       "volume %s: attached by %s (generation %llu, %s): detach it there, or wait until its lease ends",
		       v->rec.name, a->holder, (unsigned long long)a->generation, rec_att_purpose_name(a->purpose));
}

void vol_want(struct vol_ctx *x, const struct uuid *id)
{
	char key[REC_KEY], text[HCI_UUID_STR];
	struct store_op op = { STORE_PUT, key, x->self, (uint32_t)strlen(x->self), 0 };
	struct store_cmp none = { STORE_CMP_MOD_REV, key, 0 };
	struct store_result there = { 0 };

	uuid_print(id, text);
	snprintf(key, sizeof(key), PREFIX_VOLWANT "%s", text);
	if (store_get(x->store, key, &there, NULL))
		return;
	if (!there.n && !store_lease_grant(x->store, WANT_TTL, &op.lease, NULL) &&
	    store_txn(x->store, &none, 1, &op, 1, NULL, NULL))
		(void)store_lease_revoke(x->store, op.lease, NULL);
	store_result_free(&there);
}

/* One try: 0, HCI_E_BUSY (err says who), HCI_E_CONFLICT (look again). */
static int take_lease_once(struct vol *v, struct hci_error *err)
{
	char attkey[REC_KEY], synckey[REC_KEY], wantkey[REC_KEY], id[HCI_UUID_STR];
	struct buf att = BUF_INIT, sync = BUF_INIT;
	struct rec_volatt other;
	uint64_t rev = 0;
	int rc;

	key_volatt(attkey, &v->rec.uuid);
	key_volsync(synckey, &v->rec.uuid);
	uuid_print(&v->rec.uuid, id);
	snprintf(wantkey, sizeof(wantkey), PREFIX_VOLWANT "%s", id);
	rc = rec_volatt_get(v->x->store, attkey, &other, NULL, err);
	if (!rc) {
		if (other.purpose == REC_ATT_REPAIR && v->opts.steal_repair)
			vol_want(v->x, &v->rec.uuid);
		return busy(v, &other, err);
	}
	if (rc != HCI_E_NOTFOUND)
		return rc;
	rc = rec_volsync_get(v->x->store, synckey, v->sync, &v->sync_rev, err);
	if (rc)
		return rc;
	v->gen = v->sync->generation + 1;
	if (v->gen > REPL_GEN_MAX)
		return err_set(err, HCI_E_RANGE, "volume %s: generations are used up", v->rec.name);
	v->sync->generation = v->gen;
	v->lease_deadline = env_now(v->e) + v->lease_ttl - v->lease_ttl / 10;
	rc = store_lease_grant(v->x->store, v->lease_ttl, &v->lease, err);
	if (rc)
		return rc;
	memset(&v->att, 0, sizeof(v->att));
	snprintf(v->att.holder, sizeof(v->att.holder), "%s", v->x->self);
	v->att.generation = v->gen;
	v->att.purpose = (enum rec_att_purpose)v->opts.purpose;
	if (v->opts.export_addr)
		snprintf(v->att.export_addr, sizeof(v->att.export_addr), "%s", v->opts.export_addr);
	rc = rec_volatt_encode(&v->att, &att);
	if (!rc)
		rc = rec_volsync_encode(v->sync, &sync);
	if (!rc) {
		struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, attkey, 0 },
					    { STORE_CMP_MOD_REV, synckey, v->sync_rev } };
		struct store_op ops[] = { { STORE_PUT, attkey, att.data, (uint32_t)att.len, v->lease },
					  { STORE_PUT, synckey, sync.data, (uint32_t)sync.len, 0 },
					  { STORE_DELETE, wantkey, NULL, 0, 0 } };

		rc = store_txn(v->x->store, cmps, 2, ops, v->opts.steal_repair ? 3 : 2, &rev, err);
	}
	buf_free(&att);
	buf_free(&sync);
	if (rc) {
		ENV_MARK(v->e, "attach does not get the lease");
		/* Also when the outcome is unknown: without its lease the attachment goes away. */
		(void)store_lease_revoke(v->x->store, v->lease, NULL);
		v->lease = 0;
		return rc;
	}
	v->sync_rev = rev;
	ENV_MARK(v->e, "attach has the lease");
	return 0;
}

static int take_lease(struct vol *v, struct hci_error *err)
{
	uint64_t deadline = env_now(v->e) + v->opts.wait_ns;
	unsigned late = LEASES;

	for (;;) {
		int rc = take_lease_once(v, err);

		if (rc == HCI_E_FENCED && --late)
			continue;
		if (rc != HCI_E_BUSY && rc != HCI_E_CONFLICT)
			return rc;
		if (rc == HCI_E_BUSY && env_now(v->e) >= deadline)
			return rc;
		fiber_sleep(v->e, 20 * NS_PER_MS);
	}
}

/* ---- the replicas ---- */

static bool segments_served(const struct vol *v, uint32_t *missing)
{
	for (uint32_t i = 0; i < v->nsegs; i++)
		if (seg_best_source((struct vol *)v, i, -1) == UINT32_MAX) {
			*missing = i;
			return false;
		}
	return true;
}

static bool all_tried(const struct vol *v)
{
	for (uint32_t i = 0; i < v->nlegs; i++)
		if (v->legs[i]->used && v->legs[i]->state != LEG_UP && !v->legs[i]->tries)
			return false;
	return true;
}

static bool some_in_leg_down(const struct vol *v)
{
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];

		if (l->used && !l->out && l->state != LEG_UP && l->suspect)
			return true;
	}
	return false;
}

static void highest(struct vol *v, uint64_t *last, uint64_t *stable)
{
	*last = *stable = 0;
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];

		*last = MAX(*last, l->left_seq);
		if (l->state != LEG_UP)
			continue;
		*last = MAX(*last, l->at_open.last_seq);
		if (!l->out)
			*stable = MAX(*stable, l->at_open.stable_seq);
	}
	*last = MAX(*last, *stable);
}

/* Changes when a replica of the set comes up: it may lack what was settled while it was away. */
static uint64_t ups_of_set(const struct vol *v)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < v->nlegs; i++)
		if (v->legs[i]->used && !v->legs[i]->out)
			n += v->legs[i]->ups;
	return n;
}

/*
 * Why the first replica of the set that a segment has cannot be reached. That nodes do not take our certificate no later try
 * will change: its code is kept.
 */
static int not_reached(struct vol *v, uint32_t segment, struct hci_error *err)
{
	const char *why = "bring back a node or disk that holds it";
	int code = HCI_E_UNAVAILABLE;
	struct seg *s = &v->segs[segment];

	for (unsigned k = s->n; k-- > 0;) {
		struct leg *l = seg_leg(v, s, k);

		if (l->out || s->joining[k] || !l->why[0] || (code == HCI_E_AUTH && l->last_status != HCI_E_AUTH))
			continue;
		why = l->why;
		code = l->last_status == HCI_E_AUTH ? HCI_E_AUTH : HCI_E_UNAVAILABLE;
	}
	return err_set(err, code, "volume %s: no in-sync replica of segment %u can be reached: %s", v->rec.name, segment, why);
}

/* Waits for replicas, takes those that do not answer out of the set, makes the rest equal. */
static int gather(struct vol *v, struct hci_error *err)
{
	uint64_t deadline = env_now(v->e) + MAX(v->opts.wait_ns, ATTACH_WAIT), last, stable, ups;
	uint32_t missing = 0;
	int rc = 0;

	for (;;) {
		while (!v->fenced && !(all_tried(v) && segments_served(v, &missing))) {
			if (!fiber_cond_wait_until(v->e, &v->changed, deadline) && env_now(v->e) >= deadline)
				return not_reached(v, missing, err);
		}
		if (v->fenced)
			return err_set(err, HCI_E_FENCED, "volume %s: another writer took it meanwhile", v->rec.name);
		highest(v, &last, &stable);
		if (some_in_leg_down(v) && !vol_mutated(v->x, VOL_MUTATE_KEEP_ABSENT)) {
			ENV_MARK(v->e, "attach without some replicas");
			rc = sync_leave_now(v, stable, err);
			if (rc)
				return rc;
			if (some_in_leg_down(v))
				fiber_sleep(v->e, 20 * NS_PER_MS);
			continue;
		}
		highest(v, &last, &stable);
		v->seq = vol_mutated(v->x, VOL_MUTATE_SEQ_ANEW) ? 0 : last;
		ups = ups_of_set(v);
		ENV_MARK(v->e, "settling begins");
		rc = resync_settle(v, err);
		ENV_MARK_STATE(v->e, "settled:yes,no", rc != 0, 2);
		if (!rc && ((!some_in_leg_down(v) && ups == ups_of_set(v)) || vol_mutated(v->x, VOL_MUTATE_KEEP_ABSENT))) {
			if (!vol_mutated(v->x, VOL_MUTATE_SEQ_ANEW))
				v->seq = MAX(v->seq + VOL_SEQ_GAP, vol_seq_floor(v->gen));
			return 0;
		}
		ENV_MARK(v->e, "settling again");
		if (!rc)
			continue;
		if (env_now(v->e) >= deadline)
			return rc;
		fiber_sleep(v->e, 20 * NS_PER_MS);
	}
}

/*
 * Gathering may have taken longer than the lease, with the store out of reach: another writer may be there
 * by now. It is told apart before anybody is told that the volume is attached.
 */
static int still_ours(struct vol *v, struct hci_error *err)
{
	uint64_t deadline = env_now(v->e) + ATTACH_WAIT;

	while (!v->fenced && env_now(v->e) >= v->lease_deadline) {
		if (env_now(v->e) >= deadline)
			return err_set(err, HCI_E_UNAVAILABLE,
				       "volume %s: its lease ended while it was attached, and the store does not renew it",
				       v->rec.name);
		fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + 20 * NS_PER_MS);
	}
	return v->fenced ? err_set(err, HCI_E_FENCED, "volume %s: another writer took it meanwhile", v->rec.name) : 0;
}

/* ---- the end ---- */

static void fibers_end(struct vol *v)
{
	v->closing = true;
	reconf_stop(v);
	leg_stop_all(v);
	fiber_cond_signal(v->e, &v->changed);
	for (;;) {
		bool ops = false;

		for (uint32_t i = 0; i < v->nlegs; i++)
			ops |= v->legs[i]->nops != 0;
		if (!v->fibers && !ops && !v->open_ios)
			return;
		fiber_cond_signal(v->e, &v->changed);
		fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + 10 * NS_PER_MS);
	}
}

static void release_lease(struct vol *v)
{
	if (!v->lease)
		return;
	ENV_MARK(v->e, "lease is given back");
	/* The key goes with its lease. If the store does not answer, both go when the time is over. */
	if (store_lease_revoke(v->x->store, v->lease, NULL))
		log_info(env_log(v->e), "volume %s: lease not given back, it ends by itself", v->rec.name);
	v->lease = 0;
}

void vol_detach(struct vol *v)
{
	uint64_t deadline = env_now(v->e) + DRAIN_WAIT;

	ENV_MARK(v->e, "detach begins");
	v->draining = true;
	while (v->open_ios && !v->fenced && !v->abandoned && env_now(v->e) < deadline)
		fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + 50 * NS_PER_MS);
	if (v->open_ios && !v->fenced && !v->abandoned) {
		log_warn(env_log(v->e), "volume %s: %llu requests could not be finished before the detach", v->rec.name,
			 (unsigned long long)v->open_ios);
		v->abandoned = true;
		io_recheck(v);
	}
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];

		if (l->state != LEG_UP || v->fenced)
			continue;
		if (!l->out && !v->abandoned)
			leg_tell_stable(l, io_stable(v));
		leg_tell_close(l);
	}
	fibers_end(v);
	release_lease(v);
	vol_free(v);
}

void vol_abandon(struct vol *v)
{
	if (v->abandoned)
		return;
	log_warn(env_log(v->e), "volume %s: abandoned with %llu requests open", v->rec.name, (unsigned long long)v->open_ios);
	v->abandoned = true;
	for (uint32_t i = 0; i < v->nlegs; i++)
		if (v->legs[i]->state == LEG_UP && !v->fenced)
			leg_tell_close(v->legs[i]);
	leg_stop_all(v);
	io_recheck(v);
}

/* ---- attach ---- */

int vol_attach(struct vol_ctx *x, const struct uuid *id, const struct vol_attach_opts *o, struct vol **out,
	       struct hci_error *err)
{
	struct vol *v = vol_alloc(x, o);
	char key[REC_KEY];
	int rc;

	*out = NULL;
	if (!v)
		return err_set(err, HCI_E_NOMEM, "volume: out of memory");
	key_volume(key, id);
	rc = rec_volume_get(x->store, key, &v->rec, NULL, err);
	if (!rc && v->rec.state != REC_VOLUME_READY)
		rc = err_set(err, HCI_E_STATE, "volume %s: it is %s", v->rec.name,
			     rec_volume_state_name(v->rec.state));
	if (rc) {
		vol_free(v);
		return rc;
	}
	settings_refresh(v);
	if (!o->lease_ttl_ns && v->rec.lease_ns)
		v->lease_ttl = v->rec.lease_ns;
	vol_metrics_begin(v);
	rc = take_lease(v, err);
	if (rc) {
		vol_free(v);
		return rc;
	}
	rc = map_load(v, map_segments(&v->rec), err);
	if (!rc)
		rc = lease_start(v);
	for (uint32_t i = 0; !rc && i < v->nlegs; i++)
		rc = leg_start(v->legs[i]);
	if (!rc)
		rc = gather(v, err);
	if (!rc)
		rc = still_ours(v, err);
	if (!rc)
		rc = resync_start(v);
	if (!rc)
		rc = reconf_start(v, err);
	if (rc) {
		fibers_end(v);
		release_lease(v);
		vol_free(v);
		return rc == HCI_E_NOMEM ? err_set(err, rc, "volume: out of memory") : rc;
	}
	ENV_MARK(v->e, "attached");
	v->stable_told = 0;
	vcache_attach(v);
	v->ready = true;
	mend_kick(v);
	sync_check(v);
	log_info(env_log(v->e), "volume %s: attached as generation %llu, at write %llu", v->rec.name,
		 (unsigned long long)v->gen, (unsigned long long)v->seq);
	*out = v;
	return 0;
}

int vol_reload(struct vol *v, struct hci_error *err)
{
	struct rec_volume *r = MEM_NEW(struct rec_volume);
	char key[REC_KEY];
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volume(key, &v->rec.uuid);
	rc = rec_volume_get(v->x->store, key, r, NULL, err);
	if (!rc) {
		settings_take(v, r);
		fiber_mutex_lock(v->e, &v->set_lock);
		if (r->size > v->rec.size) {
			rc = map_load(v, map_segments(r), err);
			if (!rc)
				v->rec.size = r->size;
		}
		for (uint32_t i = 0; !rc && i < v->nlegs; i++)
			rc = leg_start(v->legs[i]);
		fiber_mutex_unlock(v->e, &v->set_lock);
	}
	mem_free(r);
	return rc;
}

void vol_ask_scrubs(struct vol *v)
{
	for (uint32_t i = 0; i < v->nlegs; i++) {
		v->legs[i]->rotten_at = 0;
		v->legs[i]->rotten_heard = false;
		fiber_cond_signal(v->e, &v->legs[i]->changed);
	}
}

void vol_status(const struct vol *v, struct vol_status *out)
{
	*out = v->st;
	out->generation = v->gen;
	out->seq = v->seq;
	out->stable = io_stable(v);
	out->mending = v->nmend;
	out->scrubs_heard = true;
	for (uint32_t i = 0; i < v->nlegs; i++)
		out->scrubs_heard &= v->legs[i]->state != LEG_UP || v->legs[i]->rotten_heard;
	out->segments = v->nsegs;
	out->segments_degraded = 0;
	out->out = 0;
	for (uint32_t i = 0; i < v->nlegs; i++)
		out->out += v->legs[i]->used && v->legs[i]->out;
	for (uint32_t i = 0; i < v->nsegs; i++) {
		unsigned in = 0;

		for (unsigned k = 0; k < v->segs[i].n; k++)
			in += v->segs[i].pos[k] == POS_IN;
		out->segments_degraded += in < v->rec.replicas;
	}
}
