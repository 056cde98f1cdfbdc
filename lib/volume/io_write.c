/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes: sent to all that must have them, complete when rule 2 of docs/architecture.md says so; looked
 * at again when a leg or the set changed. The order of requests is io.c's.
 */
#include "volume/io_impl.h"

#include "base/crc32c.h"
#include "base/mem.h"

void write_check(struct piece *p)
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

			/* Not of the set, or it left meanwhile, and may have it: it must not be taken back as it is. */
			s->missed[i] |= s->pos[i] < POS_PENDING && p->wanted[i];
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

void write_run(struct piece *p)
{
	struct vol *v = p->v;

	p->seq = ++v->seq;
	list_push(&v->flight, &p->flight);
	env_timer_disarm(v->e, &v->stable_timer);
	vcache_write_begin(p);
	write_send(p);
	write_check(p);
}

/*
 * A replica got other data than the sums are of. Either its owner changed the buffer while it was being sent, and then
 * the replicas may have got different things: all get it anew from a copy that nobody changes. Or it was damaged on
 * the way; then it goes wrong with the copy as well, and the connection is not to be trusted.
 */
static void write_again(struct piece *p, struct leg *l, const char *why)
{
	struct vol *v = p->v;

	p->own = mem_alloc_aligned(p->len);
	if (!p->own) {
		leg_fail(l, HCI_E_NOMEM, "out of memory");
		return;
	}
	memcpy(p->own, p->buf, p->len);
	p->buf = p->own;
	block_sums(p->buf, (uint32_t)(p->len / HCI_BLOCK), p->sums);
	p->round++;
	log_warn(env_log(v->e), "volume %s: a write at %llu of segment %u is sent again: replica on node %s: %s",
		 v->rec.name, (unsigned long long)p->off, p->segment, l->node, why);
	memset(p->acked, 0, sizeof(p->acked));
	memset(p->nospace, 0, sizeof(p->nospace));
	write_send(p);
}

void write_answer(struct piece *p, struct leg *l, uint8_t pos, uint16_t round, int status, const char *why)
{
	/* Of before it was sent again: the answer that counts is to come. */
	if (round != p->round && (!status || status == HCI_E_CORRUPT || status == HCI_E_NOSPACE))
		return;
	if (seg_leg(p->v, &p->v->segs[p->segment], pos) != l &&
	    (!status || status == HCI_E_CORRUPT || status == HCI_E_NOSPACE)) {
		; /* the copy went elsewhere meanwhile: nobody waits for this one */
	} else if (!status) {
		p->acked[pos] = true;
		p->nospace[pos] = false;
	} else if (status == HCI_E_CORRUPT && !p->own) {
		write_again(p, l, why);
	} else if (status == HCI_E_NOSPACE) {
		struct seg *s = &p->v->segs[p->segment];

		POS_MARK(p->v, "write finds no space", s->pos[pos]);
		p->nospace[pos] = true;
		if (s->pos[pos] < POS_PENDING) /* a copy under way that does not fit */
			leg_fail(l, status, why);
	} else {
		POS_MARK(p->v, "write fails", p->v->segs[p->segment].pos[pos]);
		leg_fail(l, status, why);
	}
	write_check(p);
}

void write_retry(struct piece *p)
{
	struct vol *v = p->v;
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

void flight_recheck(struct vol *v)
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

/* Idle for a moment: tell the replicas that nothing is in flight, so that a crash now leaves nothing to settle. */
void stable_timer_fn(struct env_timer *t)
{
	struct vol *v = container_of(t, struct vol, stable_timer);

	/* What ended because the writer is over was not acknowledged: nothing is known to be stable. */
	if (v->fenced || v->abandoned || v->stable_told == v->seq || !list_empty(&v->flight))
		return;
	ENV_MARK(v->e, "stable is told");
	v->stable_told = v->seq;
	for (uint32_t i = 0; i < v->nlegs; i++)
		if (v->legs[i]->state == LEG_UP && !v->legs[i]->out)
			leg_tell_stable(v->legs[i], v->seq);
}
