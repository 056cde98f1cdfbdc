/* SPDX-License-Identifier: Apache-2.0 */
/* The random load: see workload.h. */
#include "sim/workload.h"

#include "base/mem.h"
#include "sim/try.h"

/* Attachments come and go while the fiber that made them sleeps: this is one of them. */
struct run {
	struct env *env;
	struct wl_writer *w;
	void *handle;
	uint32_t session;
	bool stop;
	unsigned busy;
	struct fiber_cond idle;
};

struct lane {
	struct wl_io io;
	struct run *run;
	struct env_timer timer;
	uint64_t id; /* of the write or the read in the history */
	bool reader; /* when all writes wait, somebody still reads */
	uint64_t block, n;
};

void wl_init(struct workload *wl, struct sim *s, uint64_t nblocks, uint64_t seed, const struct wl_ops *ops)
{
	memset(wl, 0, sizeof(*wl));
	wl->sim = s;
	wl->history = history_new(nblocks, seed);
	wl->nblocks = nblocks;
	wl->ops = ops;
	wl->depth = 8;
	wl->max_blocks = 8;
	wl->think_ns = 20 * NS_PER_MS;
}

void wl_free(struct workload *wl)
{
	history_free(wl->history);
}

/* ---- lanes ---- */

static bool ends(const struct run *r)
{
	return r->stop || r->w->wl->stop || r->w->wl->ops->over(r->handle) ||
	       history_violation(r->w->wl->history) != NULL;
}

static void lane_rest(struct lane *l)
{
	struct workload *wl = l->run->w->wl;

	env_timer_arm(l->run->env, &l->timer,
		      env_now(l->run->env) + sim_rand_below(wl->sim, 2 * wl->think_ns + 1));
}

static void lane_done(struct wl_io *io)
{
	struct lane *l = container_of(io, struct lane, io);
	struct workload *wl = l->run->w->wl;
	bool ok = io->status == 0;

	if (io->op == WL_READ)
		history_read_end(wl->history, l->id, ok ? io->buf : NULL);
	else if (io->op != WL_FLUSH)
		history_write_end(wl->history, l->id, ok);
	wl->failed += !ok;
	wl->reads += ok && io->op == WL_READ;
	wl->writes += ok && (io->op == WL_WRITE || io->op == WL_ZERO);
	lane_rest(l);
}

static void choose_op(struct lane *l)
{
	struct workload *wl = l->run->w->wl;
	uint64_t what = l->reader ? 0 : sim_rand_below(wl->sim, 100);
	uint64_t writes = 90 - wl->zeroes;

	l->io.op = what < 36 ? WL_READ : what < writes ? WL_WRITE : what < 97 ? WL_ZERO : WL_FLUSH;
	/* Half of the requests crowd on a few blocks, so that they meet. */
	l->n = 1 + sim_rand_below(wl->sim, wl->max_blocks);
	l->block = sim_rand_below(wl->sim, sim_rand(wl->sim) & 1 ? MIN(wl->nblocks, (uint64_t)32) : wl->nblocks);
	l->n = MIN(l->n, wl->nblocks - l->block);
}

static void lane_start(struct lane *l)
{
	struct run *r = l->run;
	struct workload *wl = r->w->wl;
	struct history *h = wl->history;

	choose_op(l);
	l->io.off = l->block * HCI_BLOCK;
	l->io.len = l->n * HCI_BLOCK;
	l->io.status = 0;
	switch (l->io.op) {
	case WL_READ:
		l->id = history_read_begin(h, r->session, l->block, l->n);
		memset(l->io.buf, 0xdb, l->io.len);
		break;
	case WL_WRITE:
	case WL_ZERO:
		l->id = history_write_begin(h, r->session, l->block, l->n, l->io.op == WL_ZERO);
		if (l->io.op == WL_WRITE)
			history_fill(h, l->id, l->block, l->n, l->io.buf);
		break;
	case WL_FLUSH:
		l->io.off = l->io.len = 0;
		break;
	}
	wl->ops->submit(r->handle, &l->io);
}

static void lane_fire(struct env_timer *t)
{
	struct lane *l = container_of(t, struct lane, timer);
	struct run *r = l->run;

	if (!ends(r)) {
		lane_start(l);
		return;
	}
	mem_free_aligned(l->io.buf);
	mem_free(l);
	if (--r->busy == 0)
		fiber_cond_signal(r->env, &r->idle);
}

static void lane_new(struct run *r)
{
	struct lane *l = TRY_PTR(MEM_NEW(struct lane));

	l->run = r;
	l->reader = r->busy % 3 == 2;
	l->io.done = lane_done;
	l->io.buf = TRY_PTR(mem_alloc_aligned((size_t)r->w->wl->max_blocks * HCI_BLOCK));
	env_timer_init(&l->timer, lane_fire);
	r->busy++;
	lane_rest(l);
}

/* ---- a writer ---- */

static void hold(struct run *r)
{
	struct workload *wl = r->w->wl;
	uint64_t end = UINT64_MAX;

	if (wl->hold_max)
		end = env_now(r->env) + wl->hold_min + sim_rand_below(wl->sim, wl->hold_max - wl->hold_min + 1);
	for (unsigned k = 0; k < wl->depth; k++)
		lane_new(r);
	while (!ends(r) && env_now(r->env) < end)
		fiber_sleep(r->env, 50 * NS_PER_MS);
	r->stop = true;
	while (r->busy > 0)
		fiber_cond_wait(r->env, &r->idle);
}

void wl_writer_run(struct env *e, struct wl_writer *w)
{
	struct workload *wl = w->wl;
	struct run *r = TRY_PTR(MEM_NEW(struct run));

	fiber_cond_init(&r->idle);
	r->env = e;
	r->w = w;
	while (!wl->stop && !history_violation(wl->history)) {
		if (wl->ops->attach(e, w->arg, &r->handle)) {
			fiber_sleep(e, sim_rand_below(wl->sim, 500 * NS_PER_MS));
			continue;
		}
		wl->attaches++;
		w->session = r->session = history_session(wl->history);
		w->handle = r->handle;
		w->attached = true;
		r->stop = false;
		hold(r);
		wl->ops->detach(r->handle);
		w->attached = false;
		fiber_sleep(e, sim_rand_below(wl->sim, NS_PER_S));
	}
	mem_free(r);
}

void wl_writer_crashed(struct wl_writer *w)
{
	if (w->session)
		history_crash(w->wl->history, w->session);
	w->session = 0;
	w->attached = false;
}

/* ---- reading it all ---- */

struct waiting {
	struct wl_io io;
	struct env *env;
	struct fiber *fiber;
	bool done;
};

static void wait_done(struct wl_io *io)
{
	struct waiting *w = container_of(io, struct waiting, io);

	w->done = true;
	fiber_wake(w->env, w->fiber);
}

int wl_verify(struct env *e, struct workload *wl, void *handle, bool may_be_lost)
{
	struct waiting w = { .env = e, .fiber = fiber_self(e) };
	uint32_t session = history_session(wl->history);
	int rc = 0;

	w.io.buf = TRY_PTR(mem_alloc_aligned(64 * HCI_BLOCK));
	w.io.done = wait_done;
	for (uint64_t b = 0; b < wl->nblocks && rc == 0; b += 64) {
		uint64_t n = MIN(wl->nblocks - b, (uint64_t)64);
		uint64_t id = history_read_begin(wl->history, session, b, n);

		w.io.op = WL_READ;
		w.io.off = b * HCI_BLOCK;
		w.io.len = n * HCI_BLOCK;
		w.done = false;
		wl->ops->submit(handle, &w.io);
		while (!w.done)
			fiber_park(e);
		rc = w.io.status;
		history_read_end(wl->history, id, rc ? NULL : w.io.buf);
		if (rc == HCI_E_CORRUPT && may_be_lost)
			rc = 0;
	}
	mem_free_aligned(w.io.buf);
	return rc;
}
