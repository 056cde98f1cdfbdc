/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying: what was in flight when the last writer died (settle), what a replica missed while it was
 * away (resync), all that is allocated to a new one (rebuild). All three are "the regions written
 * after sequence number L", asked of the source and of the target; the target's own come along
 * because it may hold writes that were never acknowledged.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

uint32_t seg_best_source(struct vol *v, uint32_t segment, int not_pos)
{
	struct seg *s = &v->segs[segment];
	uint32_t best = UINT32_MAX;

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);

		if ((int)k == not_pos || s->pos[k] != POS_IN || l->state != LEG_UP)
			continue;
		if (best == UINT32_MAX || l->nops < seg_leg(v, s, best)->nops)
			best = k;
	}
	return best;
}

/* ---- lists of regions ---- */

static int region_cmp(const void *a, const void *b)
{
	const struct repl_region *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->region < y->region ? -1 : x->region > y->region;
}

/* The union of two lists; of a region in both the larger seq stays. from_a tells in reserved bits nothing: the
 * caller keeps track by the lists. Frees both. */
static int region_union(struct repl_region *a, size_t na, struct repl_region *b, size_t nb, struct repl_region **out,
			size_t *n)
{
	struct repl_region *u = NULL;
	size_t k = 0;

	if (na + nb) {
		u = mem_calloc(na + nb, sizeof(*u));
		if (!u) {
			mem_free(a);
			mem_free(b);
			return HCI_E_NOMEM;
		}
		if (na)
			memcpy(u, a, na * sizeof(*u));
		if (nb)
			memcpy(u + na, b, nb * sizeof(*u));
		qsort(u, na + nb, sizeof(*u), region_cmp);
		for (size_t i = 0; i < na + nb; i++) {
			if (k && !region_cmp(&u[k - 1], &u[i])) {
				if ((u[i].seq & REPL_SEQ_MASK) > (u[k - 1].seq & REPL_SEQ_MASK))
					u[k - 1].seq = u[i].seq;
			} else {
				u[k++] = u[i];
			}
		}
	}
	mem_free(a);
	mem_free(b);
	*out = u;
	*n = k;
	return 0;
}

/* Length of a region in bytes: the volume's last one may be cut by the segment's end, never by the volume's. */
static uint32_t region_len(const struct vol *v, uint32_t region)
{
	return (uint32_t)MIN((uint64_t)REPL_REGION, v->rec.segment_size - (uint64_t)region * REPL_REGION);
}

static bool all_zero(const uint8_t *p, uint32_t len)
{
	return p[0] == 0 && !memcmp(p, p + 1, len - 1);
}

/* One region from a leg to another; seq as the target shall remember it. */
static int copy_region(struct leg *from, struct leg *to, const struct repl_region *r, void *buf, uint64_t seq)
{
	uint64_t off = (uint64_t)r->region * REPL_REGION;
	uint32_t len = region_len(from->v, r->region);
	int rc = leg_read(from, r->segment, off, buf, len);

	if (rc)
		return rc;
	ENV_MARK(from->v->e, "region between two replicas");
	return leg_copy_in(to, r->segment, off, all_zero(buf, len) ? NULL : buf, len, seq);
}

/* ---- copying with several regions in flight ---- */

struct copy {
	struct vol *v;
	struct repl_region *regions;
	size_t n, next;
	unsigned pos;        /* the target's position, the same for all regions: one segment at a time */
	struct leg *to;
	uint32_t running;
	int status;
	struct fiber_cond done;
};

static bool copy_goes_on(const struct copy *c)
{
	return !c->status && c->next < c->n && !c->v->closing && !c->v->abandoned && !c->v->fenced;
}

/* Under the region's lock: no write is between the replicas while it is copied. */
static int copy_one(struct copy *c, const struct repl_region *r, void *buf)
{
	struct vol *v = c->v;
	struct piece *lock;
	uint32_t src;
	int rc;

	lock = io_lock(v, r->segment, (uint64_t)r->region * REPL_REGION, region_len(v, r->region));
	if (!lock)
		return HCI_E_NOMEM;
	src = seg_best_source(v, r->segment, (int)c->pos);
	if (src == UINT32_MAX) {
		rc = HCI_E_UNAVAILABLE;
	} else if (v->segs[r->segment].pos[c->pos] != POS_SYNCING || c->to->state != LEG_UP) {
		rc = HCI_E_UNAVAILABLE;
	} else {
		struct leg *from = seg_leg(v, &v->segs[r->segment], src);

		/* The region may have been written since it was listed. The newest number there is never
		 * understates what the target holds; too large a one costs a later resync one region. */
		rc = copy_region(from, c->to, r, buf, v->seq);
		ENV_MARK_STATE(v->e, "region copied:yes,no", rc != 0, 2);
	}
	io_unlock(lock);
	return rc;
}

static void copy_fiber(void *arg)
{
	struct copy *c = arg;
	struct vol *v = c->v;
	void *buf = mem_alloc_aligned(REPL_REGION);

	if (!buf)
		c->status = HCI_E_NOMEM;
	while (copy_goes_on(c)) {
		struct repl_region r = c->regions[c->next++];
		int rc = v->x->mutate & VOL_MUTATE_SKIP_REGION && r.region % 8 == 3 ? 0 : copy_one(c, &r, buf);

		if (rc && !c->status)
			c->status = rc;
		if (!rc) {
			v->st.resync_done += region_len(v, r.region);
			v->st.resync_copied += region_len(v, r.region);
			metric_add(v->m_resync, region_len(v, r.region));
		}
	}
	mem_free_aligned(buf);
	c->running--;
	fiber_cond_signal(v->e, &c->done);
	vol_fiber_end(v);
}

static int copy_run(struct copy *c)
{
	struct vol *v = c->v;
	size_t want = MIN((size_t)VOL_COPIERS, c->n);

	fiber_cond_init(&c->done);
	for (size_t i = 0; i < want; i++) {
		c->running++;
		v->fibers++;
		if (fiber_spawn(v->e, copy_fiber, c, "volume-copy")) {
			c->running--;
			v->fibers--;
			if (!i)
				return HCI_E_NOMEM;
			break;
		}
	}
	while (c->running)
		fiber_cond_wait(v->e, &c->done);
	if (!c->status && c->next < c->n)
		return HCI_E_CLOSED;
	return c->status;
}

/* ---- one position ---- */

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

/* Until every write of the segment that was in flight at the call is complete. */
static void wait_flight(struct vol *v, uint32_t segment)
{
	uint64_t upto = vol_mutated(v->x, VOL_MUTATE_NO_FLIGHT_WAIT) ? 0 : v->seq;

	v->waiting_stable++;
	while (!over(v) && io_in_flight(v, segment, upto))
		fiber_cond_wait(v->e, &v->changed);
	v->waiting_stable--;
}

/* The regions that the position must get: what source or target wrote after L. */
static int list_missed(struct vol *v, uint32_t segment, unsigned pos, struct repl_region **out, size_t *n)
{
	struct seg *s = &v->segs[segment];
	struct leg *l = seg_leg(v, s, pos);
	uint64_t since = s->joining[pos] ? 0 : l->left_seq;
	struct repl_region *a = NULL, *b = NULL;
	size_t na = 0, nb = 0;
	uint32_t src = seg_best_source(v, segment, (int)pos);
	int rc;

	if (src == UINT32_MAX)
		return HCI_E_UNAVAILABLE;
	rc = leg_regions(seg_leg(v, s, src), since, segment, &a, &na);
	if (!rc && !vol_mutated(v->x, VOL_MUTATE_SOURCE_ONLY))
		rc = leg_regions(l, since, segment, &b, &nb);
	if (rc) {
		mem_free(a);
		return rc;
	}
	return region_union(a, na, b, nb, out, n);
}

static int sync_pos(struct vol *v, uint32_t segment, unsigned pos)
{
	struct seg *s = &v->segs[segment];
	struct copy c = { .v = v, .pos = pos, .to = seg_leg(v, s, pos) };
	int rc;

	/*
	 * It left because a write waited for it, but the others failed as well before they could go on without it:
	 * it holds all that was ever acknowledged here, and they can leave in its place.
	 */
	if (!s->joining[pos] && !s->missed[pos]) {
		ENV_MARK(v->e, "taken back as it is");
		io_readmit(v, segment, pos);
		return s->pos[pos] == POS_SYNCED ? 0 : HCI_E_UNAVAILABLE;
	}
	ENV_MARK_STATE(v->e, "resync of a position begins:returned,new", s->joining[pos], 2);
	io_sync_begin(v, segment, pos);
	wait_flight(v, segment);
	if (over(v) || v->segs[segment].pos[pos] != POS_SYNCING)
		return HCI_E_UNAVAILABLE;
	rc = vol_mutated(v->x, VOL_MUTATE_JOIN_EARLY) ? 0 : list_missed(v, segment, pos, &c.regions, &c.n);
	if (!rc) {
		for (size_t i = 0; i < c.n; i++)
			v->st.resync_total += region_len(v, c.regions[i].region);
		rc = c.n ? copy_run(&c) : 0;
	}
	mem_free(c.regions);
	s = &v->segs[segment];
	POS_MARK(v, "resync of a position ends", s->pos[pos]);
	if (!rc && s->pos[pos] == POS_SYNCING && c.to->state == LEG_UP)
		s->pos[pos] = POS_SYNCED;
	else if (s->pos[pos] == POS_SYNCING)
		s->pos[pos] = POS_OUT;
	return !rc && s->pos[pos] != POS_SYNCED ? HCI_E_UNAVAILABLE : rc;
}

/* ---- the fiber that heals ---- */

/* A whole leg that was out: all its segments, then back into the set. */
static void heal_leg(struct leg *l)
{
	struct vol *v = l->v;
	struct hci_error err = { 0 };
	uint64_t before = v->st.resync_copied;
	int rc = 0;

	log_info(env_log(v->e), "volume %s: disk on node %s is back, copying what it missed since write %llu",
		 v->rec.name, l->node, (unsigned long long)l->left_seq);
	for (uint32_t i = 0; !rc && i < v->nsegs && !over(v); i++)
		for (unsigned k = 0; !rc && k < v->segs[i].n; k++)
			if (v->segs[i].leg[k] == l->idx && !v->segs[i].joining[k] && v->segs[i].pos[k] == POS_OUT)
				rc = sync_pos(v, i, k);
	if (!rc && !over(v))
		rc = sync_rejoin(l, &err);
	if (rc)
		log_debug(env_log(v->e), "volume %s: resync of disk on node %s stopped: %s", v->rec.name, l->node,
			  hci_strerror(rc));
	else
		log_info(env_log(v->e), "volume %s: disk on node %s is in sync, %llu KiB were copied", v->rec.name,
			 l->node, (unsigned long long)((v->st.resync_copied - before) / KiB));
	if (rc && l->state == LEG_UP && !over(v))
		l->heal_at = env_now(v->e) + NS_PER_S;
}

static bool leg_usable(const struct leg *l)
{
	return l->state == LEG_UP && !l->suspect && env_now(l->v->e) >= l->heal_at;
}

/* New copies of segments in one chunk whose disk is up: copy, then tell the store. */
static uint32_t heal_joining(struct vol *v, uint32_t chunk)
{
	uint32_t first = chunk * REC_VOLMAP_CHUNK, end = MIN(first + REC_VOLMAP_CHUNK, v->nsegs), n = 0;
	struct hci_error err = { 0 };

	for (uint32_t i = first; i < end && !over(v); i++) {
		for (unsigned k = 0; k < v->segs[i].n; k++) {
			struct seg *s = &v->segs[i];
			struct leg *l = seg_leg(v, s, k);
			int rc;

			/* Copied before, when the store did not take it. */
			n += s->joining[k] && s->pos[k] == POS_SYNCED && !l->out && leg_usable(l);
			if (!s->joining[k] || s->pos[k] != POS_OUT || l->out || !leg_usable(l) ||
			    seg_best_source(v, i, (int)k) == UINT32_MAX)
				continue;
			rc = sync_pos(v, i, k);
			if (!rc)
				n++;
			else
				l->heal_at = env_now(v->e) + NS_PER_S;
		}
	}
	if (n && !over(v) && sync_joined(v, chunk, &err)) {
		log_warn(env_log(v->e), "volume %s: rebuilt copies not recorded yet: %s", v->rec.name, err.message);
		n = 0; /* after a pause again */
	}
	return n;
}

static uint64_t rebuild_due(const struct leg *l)
{
	return l->down_since + l->v->rec.rebuild_delay_ns;
}

/* A leg that is gone for good: other disks take its segments over. */
static bool needs_replacing(const struct leg *l)
{
	const struct vol *v = l->v;
	const struct rec_disk *d;

	if (!v->x->choose_spare || l->state == LEG_UP || !l->used || (l->suspect && !l->out) || !l->down_since)
		return false;
	if (env_now(v->e) < l->replace_at)
		return false;
	d = v->x->disk(v->x->arg, &l->disk);
	if (d && d->state == REC_DISK_REMOVED)
		return true;
	if (l->out && l->out_since + v->rec.rebuild_delay_ns <= env_realtime(v->e))
		return true;
	return env_now(v->e) >= rebuild_due(l);
}

static void replace_leg(struct leg *l)
{
	struct vol *v = l->v;
	struct hci_error err = { 0 };
	uint32_t chunks = (v->nsegs + REC_VOLMAP_CHUNK - 1) / REC_VOLMAP_CHUNK, total = 0;
	bool left = false;

	l->replace_at = env_now(v->e) + NS_PER_S;
	for (uint32_t c = 0; c < chunks && !over(v); c++) {
		uint32_t moved = 0;
		int rc = sync_replace(v, c, l, &moved, &err);

		if (rc)
			log_warn(env_log(v->e), "volume %s: rebuild elsewhere: %s", v->rec.name, err.message);
		total += moved;
	}
	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++)
			left |= v->segs[i].leg[k] == l->idx;
	if (total)
		log_warn(env_log(v->e), "volume %s: %u segments of the disk on node %s are rebuilt elsewhere",
			 v->rec.name, total, l->node);
	if (!left && !over(v)) {
		l->used = false;
	} else if (!total && left) {
		l->replace_at = env_now(v->e) + 5 * NS_PER_S;
		log_warn(env_log(v->e), "volume %s: no disk can take over from the disk on node %s: %s", v->rec.name,
			 l->node, err.message);
	}
}

static bool heal_once(struct vol *v)
{
	struct hci_error err;
	uint32_t chunks = (v->nsegs + REC_VOLMAP_CHUNK - 1) / REC_VOLMAP_CHUNK;
	bool did = false;

	for (uint32_t i = 0; i < v->nlegs && !over(v); i++) {
		struct leg *l = v->legs[i];

		if (l->out && l->used && leg_usable(l)) {
			heal_leg(l);
			did = true;
		} else if (needs_replacing(l)) {
			replace_leg(l);
			did = true;
		}
	}
	for (uint32_t c = 0; c < chunks && !over(v); c++)
		did |= heal_joining(v, c) > 0;
	if (!over(v) && sync_has_unused(v))
		did |= !sync_forget_unused(v, &err);
	return did;
}

static void heal_fiber(void *arg)
{
	struct vol *v = arg;
	struct env *e = v->e;

	while (!over(v)) {
		if (!vol_mutated(v->x, VOL_MUTATE_NO_HEAL) && heal_once(v))
			continue;
		v->st.resync_total = v->st.resync_done = 0;
		fiber_cond_wait_until(e, &v->changed, env_now(e) + 500 * NS_PER_MS);
		if (!over(v))
			fiber_sleep(e, 20 * NS_PER_MS); /* changed is signalled often under load */
	}
	vol_fiber_end(v);
}

int resync_start(struct vol *v)
{
	int rc;

	v->fibers++;
	rc = fiber_spawn(v->e, heal_fiber, v, "volume-heal");
	if (rc)
		v->fibers--;
	return rc;
}

/* ---- settling at attach: nothing else runs on the volume ---- */

/* Everything after `stable` that some replica of the set holds: make all of them hold the same. */
static int settle_segment(struct vol *v, uint32_t segment, struct repl_region *all, size_t n, void *buf)
{
	struct seg *s = &v->segs[segment];
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		uint32_t src = seg_best_source(v, segment, -1);

		if (src == UINT32_MAX)
			return HCI_E_UNAVAILABLE;
		for (unsigned k = 0; !rc && k < s->n; k++)
			if (k != src && s->pos[k] == POS_IN && seg_leg(v, s, k)->state == LEG_UP &&
			    !(k == s->n - 1u && vol_mutated(v->x, VOL_MUTATE_SETTLE_SKIPS))) {
				rc = copy_region(seg_leg(v, s, src), seg_leg(v, s, k), &all[i], buf,
						 all[i].seq & REPL_SEQ_MASK);
				v->st.resync_copied += region_len(v, all[i].region);
			}
	}
	return rc;
}

int resync_settle(struct vol *v, uint64_t stable, struct hci_error *err)
{
	struct repl_region *all = NULL, *more;
	size_t n = 0, nmore;
	void *buf = mem_alloc_aligned(REPL_REGION);
	int rc = buf ? 0 : HCI_E_NOMEM;

	for (uint32_t i = 0; !rc && i < v->nlegs && !(v->x->mutate & VOL_MUTATE_NO_SETTLE); i++) {
		struct leg *l = v->legs[i];

		if (l->out || l->state != LEG_UP || l->at_open.last_seq <= stable)
			continue;
		rc = leg_regions(l, stable, UINT32_MAX, &more, &nmore);
		if (!rc)
			rc = region_union(all, n, more, nmore, &all, &n);
		else
			mem_free(all), all = NULL;
	}
	for (size_t i = 0; !rc && i < n;) {
		size_t k = i;

		while (k < n && all[k].segment == all[i].segment)
			k++;
		rc = settle_segment(v, all[i].segment, all + i, k - i, buf);
		i = k;
	}
	if (!rc && n)
		log_info(env_log(v->e), "volume %s: %zu regions that were in flight are settled", v->rec.name, n);
	mem_free(all);
	mem_free_aligned(buf);
	if (rc)
		err_set(err, rc, "volume %s: what the last writer left in flight could not be settled: %s", v->rec.name,
			hci_strerror(rc));
	return rc;
}
