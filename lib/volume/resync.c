/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who needs a copy: what a replica missed while it was away (resync), all that is allocated to a new one
 * (rebuild). Both are "the regions written after sequence number L", asked of the source and of the target; the
 * target's own come along because it may hold writes that were never acknowledged.
 *
 * Each position that lacks something is a job in a fiber of its own, as many at a time as the cluster's
 * scheduler admits (sched.h). This file finds them, and takes what is whole into the set.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

/* Of a disk that left before we attached: a clock that was set meanwhile has it rebuilt no earlier. Shorter than a repair is patient. */
#define CLOCK_GRACE (10 * NS_PER_S)
#define HEAL_PAUSE (20 * NS_PER_MS)
#define JOIN_EVERY (500 * NS_PER_MS) /* copies that are whole wait so long for others of their chunk */

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

/* ---- one position ---- */

/* Until every write of the segment that was in flight at the call is complete. */
static void wait_flight(struct vol *v, uint32_t segment)
{
	uint64_t upto = vol_mutated(v->x, VOL_MUTATE_NO_FLIGHT_WAIT) ? 0 : v->seq;

	v->waiting_stable++;
	while (!over(v) && io_in_flight(v, segment, upto))
		fiber_cond_wait(v->e, &v->changed);
	v->waiting_stable--;
}

/*
 * Once more the last region, of a new copy: what comes behind the others in the target's log says that they were durable, so
 * that damage there is not taken for the log's end. (One that returns is not told what is stable until it has all: leg_send.)
 */
static int copy_proof(struct copy_job *j)
{
	const struct repl_region *last = &j->regions[j->n - 1];
	int rc = copy_run(j, last, 1);

	if (!rc) { /* is counted already */
		j->v->st.resync_done -= region_len(j->v, last->region);
		j->v->st.resync_copied -= region_len(j->v, last->region);
	}
	return rc;
}

static int sync_pos(struct copy_job *j)
{
	struct vol *v = j->v;
	struct seg *s = &v->segs[j->segment];
	int rc;

	/*
	 * It left because a write waited for it, but the others failed as well before they could go on without it:
	 * it holds all that was ever acknowledged here, and they can leave in its place.
	 */
	if (s->dropping || seg_leg(v, s, j->pos) != j->to)
		return HCI_E_BUSY;
	if (!s->joining[j->pos] && !s->missed[j->pos]) {
		ENV_MARK(v->e, "taken back as it is");
		io_readmit(v, j->segment, j->pos);
		return s->pos[j->pos] == POS_SYNCED ? 0 : HCI_E_UNAVAILABLE;
	}
	ENV_MARK_STATE(v->e, "resync of a position begins:returned,new", s->joining[j->pos], 2);
	io_sync_begin(v, j->segment, j->pos);
	wait_flight(v, j->segment);
	if (over(v) || v->segs[j->segment].pos[j->pos] != POS_SYNCING || seg_leg(v, &v->segs[j->segment], j->pos) != j->to)
		return HCI_E_UNAVAILABLE;
	rc = vol_mutated(v->x, VOL_MUTATE_JOIN_EARLY) ? 0 : list_missed(v, j->segment, j->pos, &j->regions, &j->n);
	if (!rc && vol_mutated(v->x, VOL_MUTATE_SKIP_REGION)) {
		size_t n = 0;

		for (size_t i = 0; i < j->n; i++)
			if (j->regions[i].region % 8 != 3)
				j->regions[n++] = j->regions[i];
		j->n = n;
	}
	if (!rc) {
		for (size_t i = 0; i < j->n; i++)
			v->st.resync_total += region_len(v, j->regions[i].region);
		rc = sched_run(j);
	}
	if (!rc && j->n && v->segs[j->segment].joining[j->pos] && v->segs[j->segment].pos[j->pos] == POS_SYNCING)
		rc = copy_proof(j);
	mem_free(j->regions);
	s = &v->segs[j->segment];
	ENV_MARK_STATE(v->e, "resync of a position ends:out,not out", s->pos[j->pos] != POS_OUT, 2);
	if (seg_leg(v, s, j->pos) != j->to)
		return HCI_E_UNAVAILABLE;
	if (!rc && s->pos[j->pos] == POS_SYNCING && j->to->state == LEG_UP)
		s->pos[j->pos] = POS_SYNCED;
	else if (s->pos[j->pos] == POS_SYNCING)
		s->pos[j->pos] = POS_OUT;
	return !rc && s->pos[j->pos] != POS_SYNCED ? HCI_E_UNAVAILABLE : rc;
}

static void job_fiber(void *arg)
{
	struct copy_job *j = arg;
	struct vol *v = j->v;
	struct leg *l = j->to;
	int rc = over(v) ? HCI_E_CLOSED : sync_pos(j);

	v->segs[j->segment].busy &= (uint8_t)~(1u << j->pos);
	l->load->jobs--;
	v->heal_jobs--;
	sched_release(v, j->left);
	if (rc && !over(v)) {
		log_debug(env_log(v->e), "volume %s: copy of segment %u to the disk on node %s stopped: %s", v->rec.name,
			  j->segment, l->node, hci_strerror(rc));
		if (l->state == LEG_UP)
			l->heal_at = env_now(v->e) + NS_PER_S;
	}
	mem_free(j);
	vol_fiber_end(v);
}

static bool job_start(struct vol *v, uint32_t segment, unsigned pos, unsigned left)
{
	struct seg *s = &v->segs[segment];
	struct copy_job *j = MEM_NEW(struct copy_job);

	if (!j)
		return false;
	list_init(&j->link);
	j->v = v;
	j->to = seg_leg(v, s, pos);
	j->segment = segment;
	j->pos = pos;
	j->left = left;
	if (fiber_spawn(v->e, job_fiber, j, "volume-sync")) {
		mem_free(j);
		return false;
	}
	s->busy |= (uint8_t)(1u << pos);
	j->to->load->jobs++;
	v->heal_jobs++;
	v->fibers++;
	return true;
}

/* ---- which positions ---- */

static bool leg_usable(const struct leg *l)
{
	return l->state == LEG_UP && !l->suspect && env_now(l->v->e) >= l->heal_at;
}

unsigned seg_copies_left(struct vol *v, uint32_t segment)
{
	struct seg *s = &v->segs[segment];
	unsigned n = 0;

	for (unsigned k = 0; k < s->n; k++)
		n += s->pos[k] >= POS_SYNCED && seg_leg(v, s, k)->state == LEG_UP;
	return n;
}

static bool pos_needs_copy(struct vol *v, uint32_t segment, unsigned k)
{
	struct seg *s = &v->segs[segment];
	struct leg *l = seg_leg(v, s, k);

	if (s->pos[k] != POS_OUT || s->busy >> k & 1 || s->dropping || !leg_usable(l))
		return false;
	/* The new copies of a disk that is itself out come after those that it has. */
	if (s->joining[k] ? l->out : !l->out)
		return false;
	return seg_best_source(v, segment, (int)k) != UINT32_MAX || (!s->joining[k] && !s->missed[k]);
}

struct cand {
	uint32_t segment;
	uint8_t pos, left;
	uint16_t turn; /* of its disk: the first of each before the second of any */
};

static bool cand_before(const struct cand *a, const struct cand *b)
{
	return a->left != b->left ? a->left < b->left : a->turn < b->turn;
}

static int cand_cmp(const void *x, const void *y)
{
	const struct cand *a = x, *b = y;

	if (cand_before(a, b) || cand_before(b, a))
		return cand_before(a, b) ? -1 : 1;
	return a->segment < b->segment ? -1 : a->segment > b->segment;
}

/* The most endangered positions, spread over the disks that are to be filled. */
static unsigned candidates(struct vol *v, struct cand *c, unsigned max)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < v->nlegs; i++)
		v->legs[i]->turn = MIN(v->legs[i]->load->jobs, 1000u);
	for (uint32_t i = 0; i < v->nsegs; i++) {
		/* Those being made count: the second new copy of a segment comes after the first ones of all. */
		unsigned left = seg_copies_left(v, i) + (unsigned)__builtin_popcount(v->segs[i].busy);

		for (unsigned k = 0; k < v->segs[i].n; k++) {
			struct cand x = { .segment = i, .pos = (uint8_t)k }, *worst = c;

			if (!pos_needs_copy(v, i, k))
				continue;
			x.left = (uint8_t)left++;
			x.turn = seg_leg(v, &v->segs[i], k)->turn;
			for (unsigned m = 1; n == max && m < n; m++)
				if (cand_before(worst, &c[m]))
					worst = &c[m];
			if (n == max && !cand_before(&x, worst))
				continue;
			*(n == max ? worst : &c[n++]) = x;
			seg_leg(v, &v->segs[i], k)->turn++;
		}
	}
	if (n)
		qsort(c, n, sizeof(*c), cand_cmp);
	return n;
}

static void start_jobs(struct vol *v)
{
	struct cand c[SCHED_JOBS];
	unsigned n = candidates(v, c, ARRAY_SIZE(c));

	sched_forget(v);
	for (unsigned i = 0; i < n && sched_admit(v, c[i].left); i++)
		if (!job_start(v, c[i].segment, c[i].pos, c[i].left)) {
			sched_release(v, c[i].left);
			return;
		}
}

/* ---- what is whole joins the set ---- */

/* Every copy that the store counts with the disk is up to date. */
static bool leg_is_whole(struct leg *l)
{
	struct vol *v = l->v;

	for (uint32_t i = 0; i < v->nsegs; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++)
			if (v->segs[i].leg[k] == l->idx && !v->segs[i].joining[k] && v->segs[i].pos[k] != POS_SYNCED)
				return false;
	return true;
}

static bool rejoin(struct leg *l)
{
	struct vol *v = l->v;
	struct hci_error err = { 0 };

	if (!l->out || !l->used || !leg_usable(l) || !leg_is_whole(l))
		return false;
	if (sync_rejoin(l, &err)) {
		log_debug(env_log(v->e), "volume %s: disk on node %s stays out: %s", v->rec.name, l->node, err.message);
		if (l->state == LEG_UP && !over(v))
			l->heal_at = env_now(v->e) + NS_PER_S;
		return false;
	}
	log_info(env_log(v->e), "volume %s: disk on node %s is in sync again", v->rec.name, l->node);
	return true;
}

/* New copies that are whole, in the chunks from first on: told to the store. */
static bool join_chunk(struct vol *v, uint32_t chunk)
{
	uint32_t first = chunk * REC_VOLMAP_CHUNK, end = MIN(first + REC_VOLMAP_CHUNK, v->nsegs), n = 0;
	struct hci_error err = { 0 };

	for (uint32_t i = first; i < end; i++)
		for (unsigned k = 0; k < v->segs[i].n; k++) {
			struct leg *l = seg_leg(v, &v->segs[i], k);

			n += v->segs[i].joining[k] && v->segs[i].pos[k] == POS_SYNCED && !l->out && leg_usable(l);
		}
	if (!n)
		return false;
	if (!sync_joined(v, chunk, &err))
		return true;
	log_warn(env_log(v->e), "volume %s: rebuilt copies not recorded yet: %s", v->rec.name, err.message);
	return false; /* after a pause again */
}

static bool join_all(struct vol *v)
{
	uint32_t chunks = (v->nsegs + REC_VOLMAP_CHUNK - 1) / REC_VOLMAP_CHUNK;
	bool did = false;

	for (uint32_t i = 0; i < v->nlegs && !over(v); i++)
		did |= rejoin(v->legs[i]);
	if (v->heal_jobs && env_now(v->e) < v->join_at)
		return did;
	v->join_at = env_now(v->e) + JOIN_EVERY;
	for (uint32_t c = 0; c < chunks && !over(v); c++)
		did |= join_chunk(v, c);
	return did;
}

/* ---- disks that are gone for good ---- */

static uint64_t rebuild_due(const struct leg *l)
{
	return l->down_since + settings_rebuild_delay(l->v);
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
	if (l->out && since_over(&l->out_for, env_now(v->e), settings_rebuild_delay(v), CLOCK_GRACE))
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
	l->homeless = !total && left;
	if (!left && !over(v)) {
		l->used = false;
	} else if (!total && left) {
		l->replace_at = env_now(v->e) + 5 * NS_PER_S;
		log_warn(env_log(v->e), "volume %s: no disk can take over from the disk on node %s: %s", v->rec.name,
			 l->node, err.message);
	}
}

/* ---- the fiber that heals ---- */

static bool heal_once(struct vol *v)
{
	struct hci_error err;
	bool did = false;

	for (uint32_t i = 0; i < v->nlegs && !over(v); i++) {
		if (needs_replacing(v->legs[i])) {
			replace_leg(v->legs[i]);
			did = true;
		}
	}
	if (!over(v))
		start_jobs(v);
	if (!over(v))
		did |= join_all(v);
	if (!over(v) && !v->heal_jobs)
		stray_run(v);
	if (!over(v) && sync_has_unused(v))
		did |= !sync_forget_unused(v, &err);
	return did;
}

static void heal_fiber(void *arg)
{
	struct vol *v = arg;
	struct env *e = v->e;

	while (!over(v)) {
		settings_refresh(v);
		if (!vol_mutated(v->x, VOL_MUTATE_NO_HEAL) && heal_once(v))
			continue;
		if (!v->heal_jobs)
			v->st.resync_total = v->st.resync_done = 0;
		fiber_cond_wait_until(e, &v->changed, env_now(e) + 500 * NS_PER_MS);
		if (!over(v))
			fiber_sleep(e, HEAL_PAUSE); /* changed is signalled often under load */
	}
	sched_forget(v);
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
