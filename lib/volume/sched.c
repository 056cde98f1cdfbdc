/* SPDX-License-Identifier: Apache-2.0 */
/* Which copy goes next: see sched.h. */
#include "volume/volume_impl.h"

#include "base/mem.h"

#define COPIES_MAX 64u

/* ---- the scheduler of a cluster ---- */

static void timer_fn(struct env_timer *t)
{
	sched_kick(container_of(t, struct vol_sched, timer));
}

static void tick_fn(struct env_timer *t)
{
	struct vol_sched *s = container_of(t, struct vol_sched, tick);

	if (list_empty(&s->jobs))
		return;
	pace_tick(&s->pace, env_now(s->e));
	env_timer_arm(s->e, t, env_now(s->e) + PACE_TICK);
	sched_kick(s);
}

struct vol_sched *sched_get(struct vol_ctx *x)
{
	struct vol_sched *s = x->sched;

	if (!s) {
		s = x->sched = MEM_NEW(struct vol_sched);
		if (!s)
			return NULL;
		s->e = x->env;
		s->x = x;
		list_init(&s->disks);
		list_init(&s->jobs);
		list_init(&s->waiting);
		env_timer_init(&s->timer, timer_fn);
		env_timer_init(&s->tick, tick_fn);
		pace_init(&s->pace, env_now(s->e));
	}
	s->vols++;
	return s;
}

static void bufs_free(struct vol_sched *s)
{
	while (s->bufs) {
		void *b = s->bufs;

		s->bufs = *(void **)b;
		mem_free_aligned(b);
	}
}

void sched_put(struct vol_sched *s)
{
	if (!s || --s->vols)
		return;
	env_timer_disarm(s->e, &s->timer);
	env_timer_disarm(s->e, &s->tick);
	bufs_free(s);
	s->x->sched = NULL;
	mem_free(s);
}

void *sched_buf(struct vol_sched *s)
{
	void *b = s->bufs;

	if (!b)
		return mem_alloc_aligned(COPY_MAX);
	s->bufs = *(void **)b;
	return b;
}

void sched_buf_put(struct vol_sched *s, void *b)
{
	if (!b)
		return;
	*(void **)b = s->bufs;
	s->bufs = b;
}

/* ---- disks ---- */

struct disk_load *sched_disk(struct vol_sched *s, const struct uuid *disk)
{
	struct disk_load *d;

	list_for_each(d, &s->disks, link)
		if (uuid_eq(&d->disk, disk)) {
			d->refs++;
			return d;
		}
	d = MEM_NEW(struct disk_load);
	if (!d)
		return NULL;
	d->disk = *disk;
	d->refs = 1;
	list_push(&s->disks, &d->link);
	return d;
}

void sched_disk_put(struct disk_load *d)
{
	if (!d || --d->refs)
		return;
	list_del(&d->link);
	mem_free(d);
}

/* ---- admission ---- */

static unsigned clamp_left(unsigned left)
{
	return MIN(left, 7u);
}

bool sched_admit(struct vol *v, unsigned left)
{
	struct vol_sched *s = v->sched;
	bool more_endangered = false;

	left = clamp_left(left);
	for (unsigned k = left + 1; k < ARRAY_SIZE(s->admitted); k++)
		more_endangered |= s->admitted[k] != 0;
	if (s->njobs < (more_endangered ? SCHED_JOBS_URGENT : SCHED_JOBS)) {
		s->njobs++;
		s->admitted[left]++;
		return true;
	}
	v->heal_left = left;
	if (list_empty(&v->heal_wait))
		list_push(&s->waiting, &v->heal_wait);
	return false;
}

void sched_forget(struct vol *v)
{
	list_del(&v->heal_wait);
}

void sched_release(struct vol *v, unsigned left)
{
	struct vol_sched *s = v->sched;
	struct vol *w, *best = NULL;

	s->njobs--;
	s->admitted[clamp_left(left)]--;
	list_for_each(w, &s->waiting, heal_wait)
		if (!best || w->heal_left < best->heal_left)
			best = w;
	if (best) {
		list_del(&best->heal_wait);
		fiber_cond_signal(s->e, &best->changed);
	}
}

/* ---- copies ---- */

struct run {
	struct vol_sched *s;
	struct copy_job *j;
	size_t first;
	uint32_t n;
	uint64_t len, began;
};

static bool job_over(const struct copy_job *j)
{
	const struct vol *v = j->v;

	return j->status || v->closing || v->abandoned || v->fenced;
}

static void run_fiber(void *arg)
{
	struct run *r = arg;
	struct copy_job *j = r->j;
	struct vol_sched *s = r->s;
	struct vol *v = j->v;
	int rc = copy_run(j, j->regions + r->first, r->n);

	j->to->load->copies--;
	j->to->load->filling--;
	if (--s->running == 0)
		pace_running(&s->pace, false, env_now(s->e));
	s->inflight -= r->len;
	if (!rc)
		pace_copied(&s->pace, env_now(s->e) - r->began);
	if (rc && !j->status)
		j->status = rc;
	mem_free(r);
	if (--j->running == 0 && (j->next == j->n || job_over(j)))
		fiber_cond_signal(v->e, &v->changed);
	sched_kick(s);
	vol_fiber_end(v);
}

/* Regions behind each other from the job's next on, at most so many bytes of them. */
static uint32_t run_regions(const struct copy_job *j, uint64_t bytes)
{
	uint32_t n = 1, max = (uint32_t)MAX(MIN(bytes, (uint64_t)COPY_MAX) / REPL_REGION, 1u);

	while (n < max && j->next + n < j->n && j->regions[j->next + n].region == j->regions[j->next].region + n)
		n++;
	return n;
}

static struct copy_job *pick(struct vol_sched *s)
{
	struct copy_job *j, *best = NULL;
	unsigned left, least = 0;

	list_for_each(j, &s->jobs, link) {
		if (j->next == j->n || job_over(j) || j->to->load->filling >= SCHED_DISK_COPIES)
			continue;
		left = seg_copies_left(j->v, j->segment);
		if (!best || left < least || (left == least && j->to->load->copies < best->to->load->copies)) {
			best = j;
			least = left;
		}
	}
	return best;
}

static bool start_run(struct vol_sched *s, struct copy_job *j, uint32_t n)
{
	struct run *r = MEM_NEW(struct run);

	if (!r)
		return false;
	r->s = s;
	r->j = j;
	r->first = j->next;
	r->n = n;
	r->len = (uint64_t)n * REPL_REGION;
	r->began = env_now(s->e);
	if (fiber_spawn(s->e, run_fiber, r, "volume-copy")) {
		mem_free(r);
		return false;
	}
	j->v->fibers++;
	j->next += n;
	j->running++;
	j->to->load->copies++;
	j->to->load->filling++;
	if (s->running++ == 0)
		pace_running(&s->pace, true, env_now(s->e));
	s->inflight += r->len;
	return true;
}

void sched_kick(struct vol_sched *s)
{
	while (s->running < COPIES_MAX && (!s->running || s->inflight < s->pace.window)) {
		struct copy_job *j = pick(s);
		uint64_t now = env_now(s->e);
		uint32_t n;

		if (!j)
			return;
		if (now < s->pace.next_at) {
			if (!env_timer_armed(&s->timer))
				env_timer_arm(s->e, &s->timer, s->pace.next_at);
			return;
		}
		n = run_regions(j, s->pace.window);
		if (s->running && s->inflight + (uint64_t)n * REPL_REGION > s->pace.window)
			return;
		if (!start_run(s, j, n)) {
			/* Short of memory: the others go on; alone, the job gives up and is tried anew. */
			if (!j->running) {
				j->status = HCI_E_NOMEM;
				fiber_cond_signal(s->e, &j->v->changed);
			}
			return;
		}
		s->pace.next_at = MAX(s->pace.next_at, now + s->pace.gap);
	}
}

void sched_sample(struct vol *v, const struct vol_io *io, uint64_t ns)
{
	if (!io->status)
		pace_sample(&v->sched->pace, io->op != VOL_READ, io->op == VOL_ZERO ? 0 : io->len, ns,
			    v->rebuild_impact, env_now(v->e));
}

int sched_run(struct copy_job *j)
{
	struct vol *v = j->v;

	if (!j->n)
		return 0;
	list_push(&v->sched->jobs, &j->link);
	if (!env_timer_armed(&v->sched->tick))
		env_timer_arm(v->e, &v->sched->tick, env_now(v->e) + PACE_TICK);
	sched_kick(v->sched);
	while (j->running || (j->next < j->n && !job_over(j)))
		fiber_cond_wait(v->e, &v->changed);
	list_del(&j->link);
	sched_kick(v->sched);
	return j->status ? j->status : j->next < j->n ? HCI_E_CLOSED : 0;
}
