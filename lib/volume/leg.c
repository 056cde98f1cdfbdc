/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leg: one disk of the volume over rpc. Its fiber finds the node that serves the disk, opens the
 * slot with the writer's generation, and does so again whenever the leg is down. Does not decide who
 * is in the set (sync.c) nor copy anything (resync.c).
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#define OPEN_TIMEOUT (3 * NS_PER_S)
#define RETRY_MIN (100 * NS_PER_MS)
#define RETRY_MAX (1 * NS_PER_S)
#define IDLE_CHECK (500 * NS_PER_MS)
#define ROTTEN_EVERY (30 * NS_PER_S)

struct leg *leg_find(struct vol *v, const struct uuid *disk)
{
	for (uint32_t i = 0; i < v->nlegs; i++)
		if (uuid_eq(&v->legs[i]->disk, disk))
			return v->legs[i];
	return NULL;
}

/*
 * Whatever it is made for, it is out if the store says so. A disk may be so without having a copy: whoever replaced it died before
 * it was struck off the list. If it takes over from another it has to come back first, like any other.
 */
int leg_add(struct vol *v, const struct uuid *disk, struct leg **out)
{
	struct leg *l = leg_find(v, disk);
	const struct rec_out *o = rec_volsync_out(v->sync, disk);
	struct leg **legs;

	*out = l;
	if (l)
		return 0;
	if (v->nlegs == VOL_LEGS_MAX)
		return HCI_E_RANGE;
	legs = mem_realloc(v->legs, (v->nlegs + 1) * sizeof(*legs));
	if (!legs)
		return HCI_E_NOMEM;
	v->legs = legs;
	l = MEM_NEW(struct leg);
	if (!l)
		return HCI_E_NOMEM;
	l->load = sched_disk(v->sched, disk);
	if (!l->load) {
		mem_free(l);
		return HCI_E_NOMEM;
	}
	l->v = v;
	l->idx = (uint16_t)v->nlegs;
	l->disk = *disk;
	list_init(&l->ops);
	fiber_cond_init(&l->changed);
	l->down_since = env_now(v->e);
	l->out = o != NULL;
	l->left_seq = o ? o->left_seq : 0;
	since_seen(&l->out_for, env_now(v->e), env_realtime(v->e), o ? o->since : 0);
	v->legs[v->nlegs++] = l;
	*out = l;
	return 0;
}

void leg_free(struct leg *l)
{
	rpc_conn_unref(l->conn);
	sched_disk_put(l->load);
	mem_free(l);
}

/* Gives back every buffer lent to the leg: the requests end with HCI_E_CANCELLED soon. */
static void leg_cancel_ops(struct leg *l)
{
	struct leg_op *op, *tmp;

	list_for_each_safe(op, tmp, &l->ops, link)
		rpc_cancel(l->conn, &op->call);
}

/* Copies under way to it are void; they begin anew when it is back. */
static bool leg_drop_positions(struct leg *l)
{
	struct vol *v = l->v;
	bool in = false;

	for (uint32_t i = 0; i < v->nsegs; i++) {
		struct seg *s = &v->segs[i];

		for (unsigned k = 0; k < s->n; k++) {
			if (s->leg[k] != l->idx)
				continue;
			POS_MARK(v, "leg fails", s->pos[k]);
			if (s->pos[k] >= POS_PENDING)
				in = true;
			else
				s->pos[k] = POS_OUT;
		}
	}
	return in;
}

void leg_fail(struct leg *l, int status, const char *why)
{
	struct vol *v = l->v;

	if (l->state == LEG_DOWN)
		return;
	log_info(env_log(v->e), "volume %s: replica on disk of node %s is down: %s (%s)", v->rec.name, l->node, why,
		 hci_strerror(status));
	l->state = LEG_DOWN;
	l->last_status = status;
	l->down_since = env_now(v->e);
	l->retry_at = env_now(v->e) + RETRY_MIN;
	leg_cancel_ops(l);
	if (rpc_conn_ok(l->conn))
		leg_tell_close(l);
	if (leg_drop_positions(l))
		l->suspect = true;
	fiber_cond_signal(v->e, &l->changed);
	fiber_cond_signal(v->e, &v->changed);
	sync_check(v);
	io_recheck(v);
}

/* ---- connecting ---- */

static void take_token(struct leg *l, struct rd *r)
{
	uint32_t n;
	const void *p = rd_bin(r, &n);

	l->lends = !r->bad && n == sizeof(l->token);
	if (l->lends)
		memcpy(l->token, p, n);
}

static int parse_open(const struct rpc_call *c, struct leg *l)
{
	struct rd r = c->reply;
	uint32_t n = rd_map(&r);

	memset(&l->at_open, 0, sizeof(l->at_open));
	l->lends = false;
	while (n--) {
		struct rd_key k = rd_key(&r);

		if (rd_is(k, "handle"))
			l->handle = rd_u32(&r);
		else if (rd_is(k, "gen"))
			l->at_open.generation = rd_u64(&r);
		else if (rd_is(k, "last"))
			l->at_open.last_seq = rd_u64(&r);
		else if (rd_is(k, "stable"))
			l->at_open.stable_seq = rd_u64(&r);
		else if (rd_is(k, "token"))
			take_token(l, &r);
		else
			rd_skip(&r);
	}
	return r.bad ? HCI_E_PROTO : 0;
}

static int leg_open_once(struct leg *l, struct hci_error *err)
{
	struct vol *v = l->v;
	const struct rec_disk *d = v->x->disk(v->x->arg, &l->disk);
	struct rpc_call c = { .method = REPL_RPC_OPEN, .timeout_ns = OPEN_TIMEOUT };
	struct rpc_conn *conn;
	int rc;

	if (!d)
		return err_set(err, HCI_E_UNAVAILABLE, "disk is not known to the cluster");
	if (d->state == REC_DISK_FAILED || d->state == REC_DISK_OFFLINE || d->state == REC_DISK_REMOVED)
		return err_set(err, HCI_E_UNAVAILABLE, "disk %s of node %s is %s", d->path, d->node,
			       rec_disk_state_name(d->state));
	snprintf(l->node, sizeof(l->node), "%s", d->node);
	l->local = !strcmp(l->node, v->x->self);
	/* All requests to one replica keep their order on one stream; volumes and disks spread over several. */
	conn = rpc_peers_lane(v->x->peers, l->node, v->rec.uuid.b[15] ^ l->disk.b[15], err);
	if (!conn)
		return err->code == HCI_E_AUTH ? HCI_E_AUTH : HCI_E_UNAVAILABLE;
	rc = rpc_conn_wait(conn, err);
	if (rc) {
		rpc_conn_unref(conn);
		return rc;
	}
	pk_map(&c.body, 5);
	pk_kv_uuid(&c.body, "disk", &l->disk);
	pk_kv_uuid(&c.body, "volume", &v->rec.uuid);
	pk_kv_u64(&c.body, "gen", v->gen);
	pk_kv_u64(&c.body, "segsize", v->rec.segment_size);
	pk_kv_bool(&c.body, "ro", false);
	rc = rpc_call_wait(conn, &c);
	if (rc)
		err_copy(err, &c.err, rc);
	else
		rc = parse_open(&c, l);
	rpc_call_free(&c);
	if (rc) {
		rpc_conn_unref(conn);
		return rc;
	}
	rpc_conn_unref(l->conn);
	l->conn = conn;
	return 0;
}

/*
 * A replica that is in the set must hold what it acknowledged. One that does not (a wiped disk, a medium that
 * lies about flushes) is as stale as an empty one.
 */
static bool leg_trustworthy(const struct leg *l)
{
	return l->at_open.last_seq >= l->acked_max || vol_mutated(l->v->x, VOL_MUTATE_TRUST_ALL);
}

/*
 * It left the set, and comes back without what it had acknowledged before: it cannot be taken back as it is. What it
 * surely holds it knows itself (list_missed).
 */
static void leg_lost_its_end(struct leg *l)
{
	struct vol *v = l->v;

	log_warn(env_log(v->e),
		 "volume %s: disk on node %s came back without the last writes that it had acknowledged (has %llu, acknowledged %llu): "
		 "it gets them anew",
		 v->rec.name, l->node, (unsigned long long)l->at_open.last_seq, (unsigned long long)l->acked_max);
	ENV_MARK(v->e, "replica lost its log's end");
	l->acked_max = 0;
	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++)
			v->segs[i].missed[k] |= v->segs[i].leg[k] == l->idx;
}

static void leg_try(struct leg *l)
{
	struct vol *v = l->v;
	struct hci_error err = { 0 };
	int rc;

	l->state = LEG_OPENING;
	rc = leg_open_once(l, &err);
	if (v->closing || v->abandoned || v->fenced) {
		l->state = LEG_DOWN;
		return;
	}
	ENV_MARK_STATE(v->e, "leg opened:in,out,failed", rc ? 2 : l->out, 3);
	if (rc == HCI_E_FENCED) {
		l->state = LEG_DOWN;
		sync_fenced(v, err.message);
		return;
	}
	if (rc) {
		if (l->last_status != rc)
			log_debug(env_log(v->e), "volume %s: replica on node %s: %s", v->rec.name, l->node, err.message);
		l->state = LEG_DOWN;
		l->last_status = rc;
		snprintf(l->why, sizeof(l->why), "%.*s", (int)sizeof(l->why) - 1, err.message);
		if (!l->suspect && leg_drop_positions(l))
			l->suspect = true;
		sync_check(v);
		return;
	}
	if (!l->out && !leg_trustworthy(l)) {
		log_error(env_log(v->e),
			  "volume %s: disk on node %s came back without writes that it had acknowledged (has %llu, "
			  "acknowledged %llu): it is treated as empty; replace the disk",
			  v->rec.name, l->node, (unsigned long long)l->at_open.last_seq,
			  (unsigned long long)l->acked_max);
		ENV_MARK(v->e, "replica lost writes");
		l->lost_writes = true;
		l->suspect = true;
		l->state = LEG_DOWN;
		sync_check(v);
		return;
	}
	log_debug(env_log(v->e), "volume %s: replica on node %s is up, last %llu stable %llu", v->rec.name, l->node,
		  (unsigned long long)l->at_open.last_seq, (unsigned long long)l->at_open.stable_seq);
	if (l->out && l->at_open.last_seq < l->acked_max)
		leg_lost_its_end(l);
	l->state = LEG_UP;
	l->suspect = false;
	l->stable_told = 0;
	l->down_since = 0;
	l->homeless = false;
	l->last_status = 0;
	l->rotten_at = 0;
	l->rotten_heard = false;
	l->ups++;
	io_leg_up(l);
	sync_check(v); /* others may leave now that this one is there */
}

/*
 * What no request has met with: the connection is gone, or the node says that the disk has failed. What is stable it is told,
 * so that what it knows does not fall behind (it would be settled from there, settle.c): while others are written to, and
 * when it was opened anew while nobody writes.
 */
static void leg_check_idle(struct leg *l)
{
	struct vol *v = l->v;
	const struct rec_disk *d = l->v->x->disk(l->v->x->arg, &l->disk);

	if (v->ready && !v->draining && !l->out && l->stable_told < io_stable(v))
		leg_tell_stable(l, io_stable(v));
	if (!rpc_conn_ok(l->conn))
		leg_fail(l, HCI_E_CLOSED, "connection lost");
	else if (d && (d->state == REC_DISK_FAILED || d->state == REC_DISK_OFFLINE || d->state == REC_DISK_REMOVED))
		leg_fail(l, HCI_E_IO, "its node says that the disk has failed");
}

/* What it finds by itself; what others find while they read comes with their replies. */
static void leg_ask_rotten(struct leg *l)
{
	struct vol *v = l->v;
	int rc;

	if (l->state != LEG_UP || !v->ready || env_now(v->e) < l->rotten_at)
		return;
	l->rotten_at = env_now(v->e) + ROTTEN_EVERY;
	rc = leg_rotten(l);
	l->rotten_heard = !rc;
	if (rc == HCI_E_AGAIN)
		l->rotten_at = env_now(v->e) + NS_PER_S;
	/* The disk was closed, and perhaps opened again, between two looks at its state. */
	if (l->state == LEG_UP && (rc == HCI_E_NOTFOUND || rc == HCI_E_CLOSED || rc == HCI_E_IO))
		leg_fail(l, rc, "its opening is over");
	fiber_cond_signal(v->e, &v->changed);
}

static void leg_fiber(void *arg)
{
	struct leg *l = arg;
	struct vol *v = l->v;
	struct env *e = v->e;
	uint64_t backoff = RETRY_MIN;

	while (!v->closing && !v->abandoned && !v->fenced) {
		if (l->state == LEG_UP) {
			if (!fiber_cond_wait_until(e, &l->changed, env_now(e) + IDLE_CHECK) && l->state == LEG_UP)
				leg_check_idle(l);
			leg_ask_rotten(l);
			backoff = RETRY_MIN;
			continue;
		}
		if (env_now(e) < l->retry_at) {
			fiber_cond_wait_until(e, &l->changed, l->retry_at);
			continue;
		}
		leg_try(l);
		l->tries++;
		l->retry_at = env_now(e) + backoff;
		backoff = MIN(backoff * 2, RETRY_MAX);
		fiber_cond_signal(e, &v->changed);
	}
	l->running = false;
	vol_fiber_end(v);
}

int leg_start(struct leg *l)
{
	int rc;

	if (l->running)
		return 0;
	l->running = true;
	l->v->fibers++;
	rc = fiber_spawn(l->v->e, leg_fiber, l, "volume-leg");
	if (rc) {
		l->running = false;
		l->v->fibers--;
	}
	return rc;
}

void leg_stop_all(struct vol *v)
{
	for (uint32_t i = 0; i < v->nlegs; i++) {
		struct leg *l = v->legs[i];

		leg_cancel_ops(l);
		l->state = LEG_DOWN;
		fiber_cond_signal(v->e, &l->changed);
	}
}
