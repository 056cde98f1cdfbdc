/* SPDX-License-Identifier: Apache-2.0 */
/* A fiber a volume: looks at its status ten times a second and keeps the job record. */
#include "cluster/report.h"

#include "cluster/core_impl.h"

struct core_report {
	struct core *c;
	struct vol *v;
	bool stop, ended, have_job;
	struct core_job job;
	uint64_t start_ns, start_copied;
	uint64_t idle_ns, idle_copied; /* when there was last nothing under way */
	struct fiber_cond cond;
};

static void job_start(struct core_report *r)
{
	char id[HCI_NAME_MAX];
	struct hci_error err;

	if (core_job_create(r->c, "resync", vol_record(r->v)->name, core_self(r->c), NULL, id, &err) ||
	    core_job_begin(r->c, id, &r->job, &err)) {
		log_info(env_log(r->c->o.env), "volume %s: its resync has no job record yet: %s", vol_record(r->v)->name,
			 err.message);
		return;
	}
	snprintf(r->job.rec->unit, sizeof(r->job.rec->unit), "bytes");
	r->have_job = true;
	r->start_ns = r->idle_ns;
	r->start_copied = r->idle_copied;
}

static void job_stop(struct core_report *r, const struct vol_status *st)
{
	uint64_t bytes = st->resync_copied - r->start_copied, ns = env_now(r->c->o.env) - r->start_ns;
	bool whole = !st->segments_degraded && !st->out;
	char text[160];

	r->job.rec->total = r->job.rec->done = bytes;
	snprintf(text, sizeof(text), "{\"bytes\":%llu,\"ms\":%llu,\"degraded_segments\":%u}", (unsigned long long)bytes,
		 (unsigned long long)(ns / NS_PER_MS), st->segments_degraded);
	core_job_end(&r->job, whole || !r->stop ? 0 : HCI_E_CANCELLED, text);
	r->have_job = false;
	r->idle_ns = env_now(r->c->o.env);
	r->idle_copied = st->resync_copied;
}

static void report_fiber(void *arg)
{
	struct core_report *r = arg;
	struct env *e = r->c->o.env;
	struct vol_status st;

	r->idle_ns = env_now(e);
	while (!r->stop) {
		vol_status(r->v, &st);
		/* What began and ended since the last look is a job as well. */
		if (!r->have_job && (st.resync_total || st.resync_copied != r->idle_copied))
			job_start(r);
		if (r->have_job && st.resync_total)
			(void)core_job_progress(&r->job, st.resync_done, st.resync_total, "copying");
		vol_status(r->v, &st); /* the store parked us */
		if (r->have_job && !st.resync_total)
			job_stop(r, &st);
		/* A record that could not be made is made at the next look. */
		if (!r->have_job && !st.resync_total && st.resync_copied == r->idle_copied)
			r->idle_ns = env_now(e);
		if (!r->stop)
			fiber_cond_wait_until(e, &r->cond, env_now(e) + 100 * NS_PER_MS);
	}
	vol_status(r->v, &st);
	/* A short repair is over, and the volume let go, before the next look. */
	if (!r->have_job && st.resync_copied != r->idle_copied)
		job_start(r);
	vol_status(r->v, &st);
	if (r->have_job)
		job_stop(r, &st);
	r->ended = true;
	fiber_cond_signal(e, &r->cond);
}

struct core_report *core_report_start(struct core *c, struct vol *v)
{
	struct core_report *r = MEM_NEW(struct core_report);

	if (!r)
		return NULL;
	r->c = c;
	r->v = v;
	fiber_cond_init(&r->cond);
	if (fiber_spawn(c->o.env, report_fiber, r, "volume-report")) {
		mem_free(r);
		return NULL;
	}
	return r;
}

void core_report_stop(struct core_report *r)
{
	if (!r)
		return;
	r->stop = true;
	fiber_cond_signal(r->c->o.env, &r->cond);
	while (!r->ended)
		fiber_cond_wait(r->c->o.env, &r->cond);
	mem_free(r);
}
