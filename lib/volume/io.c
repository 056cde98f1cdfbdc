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
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#define STALL_RETRY (500 * NS_PER_MS)
#define STABLE_AFTER (200 * NS_PER_MS)

static void piece_run(struct piece *p);

static bool overlap(const struct piece *a, const struct piece *b)
{
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

static bool conflict(const struct piece *a, const struct piece *b)
{
	if (a->kind == PIECE_IO && b->kind == PIECE_IO && a->op == VOL_READ && b->op == VOL_READ)
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
		if (conflict(q, p))
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
	memset(p, 0, sizeof(*p));
	list_init(&p->seg_link);
	list_init(&p->flight);
	list_init(&p->stall);
	p->v = v;
	return p;
}

static void piece_free(struct piece *p)
{
	list_push(&p->v->free_pieces, &p->seg_link);
}

uint64_t io_stable(const struct vol *v)
{
	if (list_empty(&v->flight))
		return v->seq;
	return list_entry(v->flight.next, struct piece, flight)->seq - 1;
}

static void io_complete(struct vol_io *io)
{
	struct vol *v = io->vol;

	v->open_ios--;
	v->st.inflight--;
	if (io->op == VOL_READ)
		metric_observe_ns(v->m_read, env_now(v->e) - io->priv[1]);
	else if (io->op != VOL_FLUSH)
		metric_observe_ns(v->m_write, env_now(v->e) - io->priv[1]);
	io->done(io);
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

	for (unsigned i = 0; i < s->n; i++)
		s->missed[i] |= !p->acked[i];
}

static void piece_finish(struct piece *p, int status)
{
	struct vol *v = p->v;
	struct vol_io *io = p->io;

	if (p->op != VOL_READ && !status)
		note_missed(p);
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
static bool piece_over(struct piece *p)
{
	struct vol *v = p->v;

	if (!v->fenced && !v->abandoned)
		return false;
	if (!p->open_ops)
		piece_finish(p, v->abandoned ? HCI_E_CLOSED : HCI_E_FENCED);
	return true;
}

static void piece_stall(struct piece *p)
{
	struct vol *v = p->v;

	if (list_empty(&p->stall)) {
		list_push(&v->stalled, &p->stall);
		v->st.write_waits++;
	}
	if (!env_timer_armed(&v->stall_timer))
		env_timer_arm(v->e, &v->stall_timer, env_now(v->e) + STALL_RETRY);
}

/* ---- reads ---- */

static int read_pick(struct piece *p)
{
	struct vol *v = p->v;
	struct seg *s = &v->segs[p->segment];
	int best = -1;

	for (unsigned i = 0; i < s->n; i++) {
		struct leg *l = seg_leg(v, s, i);

		if (s->pos[i] != POS_IN || l->state != LEG_UP || (p->tried & (1u << i)))
			continue;
		if (best < 0) {
			best = (int)i;
			continue;
		}
		struct leg *b = seg_leg(v, s, (unsigned)best);
		bool l_local = !strcmp(l->node, v->x->self), b_local = !strcmp(b->node, v->x->self);

		if (l_local != b_local ? l_local : l->nops < b->nops)
			best = (int)i;
	}
	return best;
}

static void read_run(struct piece *p)
{
	struct vol *v = p->v;
	int pos;

	/* A reader whose lease is over could be reading what another has written anew elsewhere. */
	if (env_now(v->e) >= v->lease_deadline) {
		piece_stall(p);
		return;
	}
	pos = read_pick(p);
	if (pos < 0) {
		p->tried = 0;
		piece_stall(p);
		return;
	}
	list_del(&p->stall);
	if (!leg_send(seg_leg(v, &v->segs[p->segment], (unsigned)pos), p, (uint8_t)pos))
		piece_stall(p);
}

/* ---- writes ---- */

static void write_check(struct piece *p)
{
	struct vol *v = p->v;
	struct seg *s = &v->segs[p->segment];
	unsigned in_acked = 0, in_refused = 0, in_waiting = 0, syncing_waiting = 0;

	/* The buffer is lent to every leg that it was sent to; a leg that fails gives it back at once. */
	if (piece_over(p) || p->open_ops)
		return;
	for (unsigned i = 0; i < s->n; i++) {
		bool in = s->pos[i] >= POS_PENDING;

		if (s->pos[i] == POS_OUT)
			continue;
		if (p->acked[i])
			in_acked += s->pos[i] == POS_IN;
		else if (in && p->nospace[i])
			in_refused++;
		else if (in && v->x->mutate & VOL_MUTATE_ACK_EARLY && seg_leg(v, s, i)->state != LEG_UP)
			continue;
		else if (in)
			in_waiting++;
		else if (p->wanted[i])
			syncing_waiting++;
	}
	if (in_waiting || syncing_waiting || (!in_acked && !in_refused))
		return;
	if (!in_refused) {
		piece_finish(p, 0);
		return;
	}
	if (v->rec.on_full == REC_FULL_WAIT) {
		piece_stall(p);
		return;
	}
	if (!in_acked) { /* refused by the whole set: nothing changed there, and must not where it was taken */
		for (unsigned i = 0; i < s->n; i++) {
			struct leg *l = seg_leg(v, s, i);

			if (!p->acked[i] || s->pos[i] == POS_OUT)
				continue;
			l->lost_writes = s->pos[i] == POS_PENDING; /* what it has too much counts as all wrong */
			leg_fail(l, HCI_E_NOSPACE, "it took a write that all others had no room for");
		}
		piece_finish(p, HCI_E_NOSPACE);
		return;
	}
	/* Some took it: those that did not are stale from here on. */
	for (unsigned i = 0; i < s->n; i++)
		if (s->pos[i] >= POS_PENDING && !p->acked[i])
			leg_fail(seg_leg(v, s, i), HCI_E_NOSPACE, "the disk is full");
}

static void write_send(struct piece *p)
{
	struct vol *v = p->v;
	struct seg *s = &v->segs[p->segment];

	for (unsigned i = 0; i < s->n; i++) {
		struct leg *l = seg_leg(v, s, i);

		if (s->pos[i] == POS_OUT)
			continue;
		p->wanted[i] = true;
		if (l->state != LEG_UP)
			continue; /* sent when it is back, or it leaves the set */
		if (!leg_send(l, p, (uint8_t)i))
			leg_fail(l, HCI_E_NOMEM, "out of memory");
	}
}

static void write_run(struct piece *p)
{
	struct vol *v = p->v;

	p->seq = ++v->seq;
	list_push(&v->flight, &p->flight);
	env_timer_disarm(v->e, &v->stable_timer);
	write_send(p);
	write_check(p);
}

static void piece_run(struct piece *p)
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

/* ---- answers ---- */

void io_op_done(struct leg_op *op)
{
	struct piece *p = op->piece;
	struct leg *l = op->leg;
	struct vol *v = l->v;
	uint8_t pos = op->pos;
	int status = op->call.status;
	uint32_t got = op->call.reply_payload_len;
	char why[160] = "";

	if (status)
		snprintf(why, sizeof(why), "%.150s", op->call.err.message);
	list_del(&op->link);
	l->nops--;
	p->open_ops--;
	rpc_call_free(&op->call);
	list_push(&v->free_ops, &op->link);

	if (!status && p->op != VOL_READ && op->seq > l->acked_max)
		l->acked_max = op->seq;
	if (status == HCI_E_FENCED)
		sync_fenced(v, why);
	if (piece_over(p))
		return;
	if (p->op == VOL_READ) {
		if (!status && got != p->len) {
			status = HCI_E_PROTO;
			snprintf(why, sizeof(why), "answered %u bytes instead of %u", got, (unsigned)p->len);
		}
		if (!status) {
			piece_finish(p, 0);
			return;
		}
		p->tried |= (uint16_t)(1u << pos);
		leg_fail(l, status, why);
		read_run(p);
		return;
	}
	if (!status) {
		p->acked[pos] = true;
		p->nospace[pos] = false;
	} else if (status == HCI_E_NOSPACE) {
		struct seg *s = &v->segs[p->segment];

		p->nospace[pos] = true;
		if (s->pos[pos] < POS_PENDING) /* a copy under way that does not fit */
			leg_fail(l, status, why);
	} else {
		leg_fail(l, status, why);
	}
	write_check(p);
}

/* ---- after a change ---- */

static void flight_recheck(struct vol *v)
{
	struct piece *p, *tmp;
	uint64_t last = v->seq;

	/* write_check finishes p at most; what that starts goes to the end with a larger seq. */
	list_for_each_safe(p, tmp, &v->flight, flight) {
		bool end = p->seq >= last;

		write_check(p);
		if (end)
			break;
	}
}

void io_recheck(struct vol *v)
{
	v->recheck = true;
	env_defer(v->e, &v->kick);
}

void io_leg_up(struct leg *l)
{
	struct vol *v = l->v;
	struct piece *p, *tmp;

	list_for_each_safe(p, tmp, &v->flight, flight) {
		struct seg *s = &v->segs[p->segment];

		for (unsigned i = 0; i < s->n; i++) {
			if (seg_leg(v, s, i) != l || p->acked[i] || !p->wanted[i] || s->pos[i] == POS_OUT)
				continue;
			if (!leg_send(l, p, (uint8_t)i)) {
				leg_fail(l, HCI_E_NOMEM, "out of memory");
				return;
			}
		}
	}
	env_defer(v->e, &v->kick);
}

void io_readmit(struct vol *v, uint32_t segment, unsigned pos)
{
	struct seg *s = &v->segs[segment];
	struct leg *l = seg_leg(v, s, pos);
	struct piece *p;

	s->pos[pos] = POS_SYNCED;
	list_for_each(p, &s->pieces, seg_link) {
		if (!p->seq)
			continue; /* a read, or not begun */
		p->wanted[pos] = true;
		p->acked[pos] = p->nospace[pos] = false;
		if (l->state == LEG_UP && !leg_send(l, p, (uint8_t)pos))
			leg_fail(l, HCI_E_NOMEM, "out of memory");
	}
}

bool io_in_flight(struct vol *v, uint32_t segment, uint64_t seq)
{
	struct piece *p;

	list_for_each(p, &v->segs[segment].pieces, seg_link)
		if (p->seq && p->seq <= seq)
			return true;
	return false;
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
		/* Refused for space: ask those again that said no. */
		struct seg *s = &v->segs[p->segment];

		for (unsigned i = 0; i < s->n; i++) {
			struct leg *l = seg_leg(v, s, i);

			if (!p->nospace[i] || s->pos[i] == POS_OUT)
				continue;
			p->nospace[i] = false;
			if (l->state == LEG_UP && !leg_send(l, p, (uint8_t)i))
				leg_fail(l, HCI_E_NOMEM, "out of memory");
		}
		write_check(p);
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

/* Idle for a moment: tell the replicas that nothing is in flight, so that a crash now leaves nothing to settle. */
static void stable_timer_fn(struct env_timer *t)
{
	struct vol *v = container_of(t, struct vol, stable_timer);

	/* What ended because the writer is over was not acknowledged: nothing is known to be stable. */
	if (v->fenced || v->abandoned || v->stable_told == v->seq || !list_empty(&v->flight))
		return;
	v->stable_told = v->seq;
	for (uint32_t i = 0; i < v->nlegs; i++)
		if (v->legs[i]->state == LEG_UP && !v->legs[i]->out)
			leg_tell_stable(v->legs[i], v->seq);
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
		list_push(&pieces, &p->stall);
		io->priv[0]++;
		off += n;
		left -= n;
	}
	if (left) {
		struct list *n;

		while ((n = list_pop(&pieces)))
			piece_free(list_entry(n, struct piece, stall));
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
	list_init(&v->failed_ios);
	list_init(&v->free_pieces);
	list_init(&v->free_ops);
	env_task_init(&v->kick, kick_fn);
	env_timer_init(&v->stall_timer, stall_timer_fn);
	env_timer_init(&v->stable_timer, stable_timer_fn);
}

void io_fini(struct vol *v)
{
	struct list *n;

	env_undefer(v->e, &v->kick);
	env_timer_disarm(v->e, &v->stall_timer);
	env_timer_disarm(v->e, &v->stable_timer);
	while ((n = list_pop(&v->free_pieces)))
		mem_free(list_entry(n, struct piece, seg_link));
	while ((n = list_pop(&v->free_ops)))
		mem_free(list_entry(n, struct leg_op, link));
}
