/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a request: split into pieces by segment, ordered against overlapping pieces, sent to
 * the legs, completed when every position that must have it has it.
 *
 * A write is complete when each position that is in the in-sync set, or is being brought into it,
 * has acknowledged, and at least one in-sync position did. A position leaves that condition only
 * when the store says that it is out (sync.c): that is rule 2 of docs/architecture.md. Reads that overlap a write
 * in flight wait for it, so no reader sees a write that could still vanish.
 */
#include "volume/io_impl.h"

#include "base/crc32c.h"
#include "base/mem.h"

#define STALL_RETRY (500 * NS_PER_MS)
/* Sooner than a replica that is idle writes its log back (replica/in_memory.h, IDLE_NS): so its records have it. */
#define STABLE_AFTER (100 * NS_PER_MS)

static bool overlap(const struct piece *a, const struct piece *b)
{
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

/* A lock keeps writes away only: the copies that are read from do not change under it. */
static bool reads(const struct piece *p)
{
	return p->kind == PIECE_LOCK || p->op == VOL_READ;
}

static bool conflict(const struct piece *a, const struct piece *b)
{
	if (reads(a) && reads(b))
		return false;
	return overlap(a, b);
}

/* May p go, given what came before it in its segment? */
static bool piece_clear(const struct piece *p)
{
	struct seg *s = &p->v->segs[p->segment];
	struct piece *q;

	list_for_each(q, &s->pieces, seg_link) {
		if (q == p)
			return true;
		if (conflict(q, p) && !(p->op == VOL_READ && vol_mutated(p->v->x, VOL_MUTATE_READ_NO_WAIT)))
			return false;
	}
	return true;
}

static struct piece *piece_new(struct vol *v)
{
	struct list *n = list_pop(&v->free_pieces);
	struct piece *p = n ? list_entry(n, struct piece, seg_link) : mem_alloc(sizeof(*p));

	if (!p)
		return NULL;
	memset(p, 0, offsetof(struct piece, sums));
	list_init(&p->seg_link);
	list_init(&p->flight);
	list_init(&p->stall);
	p->v = v;
	return p;
}

static void piece_free(struct piece *p)
{
	mem_free_aligned(p->own);
	mem_free_aligned(p->spare);
	p->own = p->spare = NULL;
	list_push(&p->v->free_pieces, &p->seg_link);
}

uint64_t io_stable(const struct vol *v)
{
	if (list_empty(&v->flight) || vol_mutated(v->x, VOL_MUTATE_STABLE_EARLY))
		return v->seq;
	return list_entry(v->flight.next, struct piece, flight)->seq - 1;
}

static void io_complete(struct vol_io *io)
{
	struct vol *v = io->vol;

	v->open_ios--;
	v->st.inflight--;
	if (io->op != VOL_FLUSH) {
		uint64_t took = env_now(v->e) - io->priv[1];

		metric_observe_ns(io->op == VOL_READ ? v->m_read : v->m_write, took);
		sched_sample(v, io, took);
	}
	if (v->written && io->op == VOL_WRITE && !io->status)
		v->written(v->written_arg, io->off, io->buf, io->len);
	io->done(io);
}

void vol_watch_writes(struct vol *v, vol_written_fn *fn, void *arg)
{
	v->written = fn;
	v->written_arg = arg;
}

/* Pieces behind p in its segment may be clear now. */
static void piece_leave_segment(struct piece *p)
{
	struct seg *s = &p->v->segs[p->segment];
	struct piece *q, *tmp;
	struct list ready;

	list_del(&p->seg_link);
	if (list_empty(&s->pieces))
		return;
	list_init(&ready);
	list_for_each_safe(q, tmp, &s->pieces, seg_link) {
		if (!q->active && overlap(p, q) && piece_clear(q)) {
			q->active = true;
			list_push(&ready, &q->stall);
		}
	}
	while (!list_empty(&ready)) {
		q = list_entry(list_pop(&ready), struct piece, stall);
		piece_run(q);
	}
}

/* Replicas that are out miss what is acknowledged now. */
static void note_missed(const struct piece *p)
{
	struct seg *s = &p->v->segs[p->segment];

	for (unsigned i = 0; i < s->n; i++) {
		if (!p->acked[i] && !s->missed[i])
			ENV_MARK(p->v->e, "acknowledged without one");
		s->missed[i] |= !p->acked[i];
	}
}

void piece_finish(struct piece *p, int status)
{
	struct vol *v = p->v;
	struct vol_io *io = p->io;

	if (p->op != VOL_READ && !status)
		note_missed(p);
	vcache_end(p, status);
	list_del(&p->flight);
	list_del(&p->stall);
	if (list_empty(&v->flight) && v->stable_told != v->seq && !env_timer_armed(&v->stable_timer))
		env_timer_arm(v->e, &v->stable_timer, env_now(v->e) + STABLE_AFTER);
	piece_leave_segment(p);
	piece_free(p);
	if (status && !io->status)
		io->status = status;
	if (--io->priv[0] == 0)
		io_complete(io);
	if (!v->open_ios || v->waiting_stable)
		fiber_cond_signal(v->e, &v->changed);
}

/* The volume is over: a piece ends as soon as no leg holds its buffer any more. */
bool piece_over(struct piece *p)
{
	struct vol *v = p->v;

	if (!v->fenced && !v->abandoned)
		return false;
	if (!p->open_ops)
		piece_finish(p, v->abandoned ? HCI_E_CLOSED : HCI_E_FENCED);
	return true;
}

void piece_stall(struct piece *p)
{
	struct vol *v = p->v;

	if (list_empty(&p->stall)) {
		list_push(&v->stalled, &p->stall);
		v->st.write_waits++;
	}
	if (!env_timer_armed(&v->stall_timer))
		env_timer_arm(v->e, &v->stall_timer, env_now(v->e) + STALL_RETRY);
}

void piece_run(struct piece *p)
{
	list_init(&p->stall);
	if (p->kind == PIECE_LOCK) {
		fiber_wake(p->v->e, p->fiber);
		return;
	}
	if (p->v->fenced || p->v->abandoned) {
		piece_stall(p); /* fails when the kick comes round: never from inside a submit */
		io_recheck(p->v);
		return;
	}
	if (p->op == VOL_READ)
		read_run(p);
	else
		write_run(p);
}

static void piece_start(struct piece *p)
{
	struct seg *s = &p->v->segs[p->segment];

	list_push(&s->pieces, &p->seg_link);
	p->active = piece_clear(p);
	if (p->active)
		piece_run(p);
}

void piece_again(struct piece *p, uint64_t off, uint64_t len)
{
	piece_leave_segment(p);
	mem_free_aligned(p->spare);
	p->spare = NULL;
	p->off = off;
	p->len = len;
	p->tried = 0;
	p->answered = 0;
	p->damaged = false;
	piece_start(p);
}

/* ---- answers ---- */

void io_op_done(struct leg_op *op)
{
	struct piece *p = op->piece;
	struct leg *l = op->leg;
	struct vol *v = l->v;
	uint16_t round = op->round;
	uint8_t pos = op->pos;
	int status = op->call.status;
	char why[320];

	why[0] = '\0';
	if (status)
		snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, op->call.err.message);
	list_del(&op->link);
	l->nops--;
	l->load->ops--;
	p->open_ops--;
	if (p->op == VOL_READ)
		status = read_op_end(p, op, status, why, sizeof(why));
	rpc_call_free(&op->call);
	list_push(&v->free_ops, &op->link);

	if (!status && p->op != VOL_READ && op->seq > l->acked_max)
		l->acked_max = op->seq;
	if (status == HCI_E_FENCED)
		sync_fenced(v, why);
	if (piece_over(p))
		return;
	if (p->op == VOL_READ)
		read_answer(p, l, pos, status, why);
	else
		write_answer(p, l, pos, round, status, why);
}

/* ---- after a change ---- */

void io_recheck(struct vol *v)
{
	v->recheck = true;
	env_defer(v->e, &v->kick);
}

static void stalled_retry(struct vol *v)
{
	struct list todo;
	struct piece *p;

	list_init(&todo);
	list_splice(&todo, &v->stalled);
	while (!list_empty(&todo)) {
		p = list_entry(list_pop(&todo), struct piece, stall);
		if (piece_over(p))
			continue;
		if (p->op == VOL_READ) {
			read_run(p);
			continue;
		}
		write_retry(p);
	}
}

static void kick_fn(struct env_task *t)
{
	struct vol *v = container_of(t, struct vol, kick);
	struct list *n;

	while ((n = list_pop(&v->failed_ios)))
		io_complete(list_entry(n, struct vol_io, link));
	if (v->recheck) {
		v->recheck = false;
		flight_recheck(v);
	}
	stalled_retry(v);
	fiber_cond_signal(v->e, &v->changed);
}

static void stall_timer_fn(struct env_timer *t)
{
	struct vol *v = container_of(t, struct vol, stall_timer);

	sync_check(v);
	stalled_retry(v);
}

/* ---- for copying ---- */

void io_sync_begin(struct vol *v, uint32_t segment, unsigned pos)
{
	struct seg *s = &v->segs[segment];
	struct piece *p;

	list_for_each(p, &s->pieces, seg_link)
		p->wanted[pos] = p->acked[pos] = p->nospace[pos] = false;
	s->pos[pos] = POS_SYNCING;
}

struct piece *io_lock(struct vol *v, uint32_t segment, uint64_t off, uint64_t len)
{
	struct piece *p = piece_new(v);

	if (!p)
		return NULL;
	p->kind = PIECE_LOCK;
	p->segment = segment;
	p->off = off;
	p->len = len;
	if (vol_mutated(v->x, VOL_MUTATE_NO_LOCK))
		p->off = p->len = 0; /* overlaps nothing */
	p->fiber = fiber_self(v->e);
	list_push(&v->segs[segment].pieces, &p->seg_link);
	p->active = piece_clear(p);
	while (!p->active)
		fiber_park(v->e);
	return p;
}

void io_unlock(struct piece *p)
{
	piece_leave_segment(p);
	piece_free(p);
}

/* ---- requests ---- */

static int io_check(const struct vol *v, const struct vol_io *io)
{
	if (v->fenced)
		return HCI_E_FENCED;
	if (v->draining || v->closing || v->abandoned || !v->ready)
		return HCI_E_CLOSED;
	if (io->op == VOL_FLUSH)
		return 0;
	if (io->off % HCI_BLOCK || io->len % HCI_BLOCK || !io->len)
		return HCI_E_ALIGN;
	if (io->op != VOL_ZERO && ((uintptr_t)io->buf % HCI_BLOCK || !io->buf))
		return HCI_E_ALIGN;
	if (io->off > v->rec.size || io->len > v->rec.size - io->off)
		return HCI_E_RANGE;
	if (io->op != VOL_ZERO && io->len > 64 * MiB)
		return HCI_E_RANGE;
	return 0;
}

static void io_fail(struct vol_io *io, int status)
{
	struct vol *v = io->vol;

	io->status = status;
	list_push(&v->failed_ios, &io->link);
	env_defer(v->e, &v->kick);
}

static void io_count(struct vol *v, const struct vol_io *io)
{
	if (io->op == VOL_READ) {
		v->st.reads++;
		v->st.read_bytes += io->len;
	} else if (io->op == VOL_WRITE || io->op == VOL_ZERO) {
		v->st.writes++;
		v->st.write_bytes += io->len;
	}
}

void vol_submit(struct vol_io *io)
{
	struct vol *v = io->vol;
	uint64_t off = io->off, left = io->len, ss = v->rec.segment_size;
	struct list pieces;
	int status;

	io->status = 0;
	io->priv[1] = env_now(v->e);
	list_init(&io->link);
	v->open_ios++;
	v->st.inflight++;
	status = io_check(v, io);
	/* A flush has nothing to wait for: what was acknowledged is durable, and only that does it promise. */
	if (status || io->op == VOL_FLUSH) {
		io_fail(io, status);
		return;
	}
	io_count(v, io);
	list_init(&pieces);
	io->priv[0] = 0;
	while (left) {
		uint64_t in = off % ss, n = MIN(left, ss - in);
		struct piece *p = piece_new(v);

		if (io->op != VOL_ZERO)
			n = MIN(n, (uint64_t)REPL_IO_MAX);
		if (!p)
			break;
		p->io = io;
		p->op = io->op;
		p->segment = (uint32_t)(off / ss);
		p->off = in;
		p->len = n;
		p->buf = io->op == VOL_ZERO ? NULL : (uint8_t *)io->buf + (off - io->off);
		if (io->op == VOL_WRITE)
			block_sums(p->buf, (uint32_t)(n / HCI_BLOCK), p->sums);
		vcache_widen(p);
		list_push(&pieces, &p->stall);
		io->priv[0]++;
		off += n;
		left -= n;
	}
	if (left) {
		struct list *n;

		while ((n = list_pop(&pieces))) {
			vcache_end(list_entry(n, struct piece, stall), HCI_E_NOMEM);
			piece_free(list_entry(n, struct piece, stall));
		}
		io_fail(io, HCI_E_NOMEM);
		return;
	}
	while (!list_empty(&pieces))
		piece_start(list_entry(list_pop(&pieces), struct piece, stall));
}

struct rw {
	struct vol_io io;
	struct fiber *f;
	bool done;
};

static void rw_done(struct vol_io *io)
{
	struct rw *w = container_of(io, struct rw, io);

	w->done = true;
	fiber_wake(io->vol->e, w->f);
}

int vol_rw(struct vol *v, enum vol_io_op op, void *buf, uint64_t off, uint64_t len)
{
	struct rw w = { .io = { .op = op, .vol = v, .buf = buf, .off = off, .len = len, .done = rw_done } };

	w.f = fiber_self(v->e);
	vol_submit(&w.io);
	while (!w.done)
		fiber_park(v->e);
	return w.io.status;
}

void io_init(struct vol *v)
{
	list_init(&v->flight);
	list_init(&v->stalled);
	list_init(&v->reads);
	list_init(&v->failed_ios);
	list_init(&v->free_pieces);
	list_init(&v->free_ops);
	env_task_init(&v->kick, kick_fn);
	env_timer_init(&v->stall_timer, stall_timer_fn);
	env_timer_init(&v->stable_timer, stable_timer_fn);
	env_timer_init(&v->hedge_timer, hedge_timer_fn);
}

void io_fini(struct vol *v)
{
	struct list *n;

	env_undefer(v->e, &v->kick);
	env_timer_disarm(v->e, &v->stall_timer);
	env_timer_disarm(v->e, &v->stable_timer);
	env_timer_disarm(v->e, &v->hedge_timer);
	while ((n = list_pop(&v->free_pieces)))
		mem_free(list_entry(n, struct piece, seg_link));
	while ((n = list_pop(&v->free_ops)))
		mem_free(list_entry(n, struct leg_op, link));
}
