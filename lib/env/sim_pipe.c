/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a simulated connection: bytes in a ring, cut into chunks that arrive in order, each
 * after its own latency, sometimes in pieces. While the cable is cut they wait, as TCP sends again;
 * after a heal they go on, and when it takes too long the connection breaks (TCP_USER_TIMEOUT,
 * RFC 5482).
 */
#include "env/sim_net_impl.h"

#include "base/crc32c.h"

#include <stdlib.h>

#define USER_TIMEOUT (20 * NS_PER_S)

static void deliver(struct sim_ev *ev);

void sim_pipe_init(struct sim_pipe *p, struct sim_link *l, int side)
{
	p->link = l;
	p->side = side;
	list_init(&p->blocked_link);
	list_init(&p->unacked_link);
	sim_ev_init(&p->ev, l->net->sim, NULL, SIM_EV_DELIVER, deliver);
}

void sim_pipe_fini(struct sim_pipe *p)
{
	sim_ev_cancel(&p->ev);
	list_del(&p->blocked_link);
	list_del(&p->unacked_link);
	free(p->ring);
	free(p->chunk);
}

static struct sim_node *sender(const struct sim_pipe *p)
{
	return p->link->node[p->side];
}

static struct sim_node *receiver(const struct sim_pipe *p)
{
	return p->link->node[!p->side];
}

/* ---- the ring ---- */

static void ring_copy(struct sim_pipe *p, uint64_t at, void *buf, uint64_t len, bool in)
{
	uint64_t pos = at & (p->cap - 1), first = MIN(len, p->cap - pos);
	uint8_t *b = buf;

	if (in) {
		memcpy(p->ring + pos, b, first);
		memcpy(p->ring, b + first, len - first);
	} else {
		memcpy(b, p->ring + pos, first);
		memcpy(b + first, p->ring, len - first);
	}
}

static void ring_reserve(struct sim_pipe *p, uint64_t more)
{
	uint64_t have = p->sent - p->read, cap = MAX(p->cap, 4096u);
	uint8_t *ring;

	if (have + more <= p->cap)
		return;
	while (cap < have + more)
		cap *= 2;
	ring = sim_calloc(1, cap);
	if (have > 0) {
		uint64_t pos = p->read & (p->cap - 1), first = MIN(have, p->cap - pos);
		uint64_t to = p->read & (cap - 1), part = MIN(first, cap - to);

		/* the old ring's two stretches, each of which may wrap in the new one */
		memcpy(ring + to, p->ring + pos, part);
		memcpy(ring, p->ring + pos + part, first - part);
		to = (p->read + first) & (cap - 1);
		part = MIN(have - first, cap - to);
		memcpy(ring + to, p->ring, part);
		memcpy(ring, p->ring + part, have - first - part);
	}
	free(p->ring);
	p->ring = ring;
	p->cap = cap;
}

/* ---- chunks ---- */

static struct sim_chunk *chunk_at(struct sim_pipe *p, uint32_t k)
{
	return &p->chunk[(p->first + k) & (p->chunk_cap - 1)];
}

static struct sim_chunk *chunk_push(struct sim_pipe *p)
{
	if (p->nchunk == p->chunk_cap) {
		uint32_t cap = MAX(p->chunk_cap * 2, 8u);
		struct sim_chunk *c = sim_calloc(cap, sizeof(*c));

		for (uint32_t k = 0; k < p->nchunk; k++)
			c[k] = *chunk_at(p, k);
		free(p->chunk);
		p->chunk = c;
		p->chunk_cap = cap;
		p->first = 0;
	}
	return chunk_at(p, p->nchunk++);
}

static void chunk_pop(struct sim_pipe *p)
{
	p->first = (p->first + 1) & (p->chunk_cap - 1);
	p->nchunk--;
}

static void schedule(struct sim_pipe *p)
{
	if (p->nchunk > 0 && !p->blocked)
		sim_ev_at(&p->ev, chunk_at(p, 0)->time);
}

static void enqueue(struct sim_pipe *p, enum sim_mark mark, uint64_t bytes)
{
	struct sim *s = p->link->net->sim;
	struct sim_chunk *c = p->nchunk ? chunk_at(p, p->nchunk - 1) : NULL;

	/* Sends of one turn leave together. */
	if (mark == MARK_DATA && c && c->mark == MARK_DATA && c->sent_at == s->events) {
		c->end = p->sent;
		return;
	}
	c = chunk_push(p);
	p->last = MAX(p->last + 1, s->now + sim_latency(p->link) + bytes); /* 1 GB/s */
	*c = (struct sim_chunk){ p->sent, p->last, s->events, mark };
	if (p->nchunk == 1)
		schedule(p);
}

void sim_pipe_mark(struct sim_pipe *p, enum sim_mark mark)
{
	if (p->fin_sent)
		return;
	p->fin_sent = mark == MARK_FIN;
	enqueue(p, mark, 0);
}

uint64_t sim_pipe_send(struct sim_pipe *p, const struct iovec *iov, int niov)
{
	uint64_t used = p->sent - p->acked, room, taken = 0;

	room = used < p->link->window ? p->link->window - used : 0;
	for (int k = 0; k < niov && room > 0; k++) {
		uint64_t len = MIN(iov[k].iov_len, room);

		ring_reserve(p, len);
		ring_copy(p, p->sent, iov[k].iov_base, len, true);
		p->sent += len;
		taken += len;
		room -= len;
	}
	if (taken > 0)
		enqueue(p, MARK_DATA, taken);
	return taken;
}

void sim_pipe_ack(struct sim_pipe *p)
{
	struct sim_net *net = p->link->net;
	struct sim_conn *src = p->link->end[p->side];

	if (sim_is_cut(net, receiver(p), sender(p))) {
		if (list_empty(&p->unacked_link))
			list_push(&net->unacked, &p->unacked_link);
		return;
	}
	list_del(&p->unacked_link);
	p->acked = p->read;
	if (src && src->want_write && p->sent - p->acked <= p->link->window / 2)
		sim_conn_room(src);
}

uint64_t sim_pipe_recv(struct sim_pipe *p, void *buf, uint64_t len)
{
	uint64_t n = MIN(len, p->arrived - p->read);

	if (n == 0)
		return 0;
	ring_copy(p, p->read, buf, n, false);
	sim_fold(p->link->net->sim, (uint64_t)crc32c(0, buf, (size_t)n) << 32 | (uint32_t)n);
	p->read += n;
	sim_pipe_ack(p);
	return n;
}

void sim_pipe_cut_off(struct sim_pipe *p, uint64_t at)
{
	at = MAX(at, p->arrived);
	while (p->nchunk > 0) {
		struct sim_chunk *c = chunk_at(p, p->nchunk - 1);
		uint64_t begin = p->nchunk > 1 ? chunk_at(p, p->nchunk - 2)->end : p->arrived;

		if (c->mark == MARK_DATA && begin < at) {
			c->end = MIN(c->end, at);
			break;
		}
		if (c->mark == MARK_OPEN)
			break;
		p->nchunk--;
	}
	p->sent = MIN(p->sent, at);
	p->fin_sent = false;
}

/* ---- arrival ---- */

/* Nobody there to receive: the answer is a reset, if it gets through. */
static bool is_blocked(const struct sim_pipe *p)
{
	const struct sim_net *net = p->link->net;

	return sim_is_cut(net, sender(p), receiver(p)) || !receiver(p)->powered ||
	       (!p->link->end[!p->side] && sim_is_cut(net, receiver(p), sender(p)));
}

static void block(struct sim_pipe *p)
{
	struct sim *s = p->link->net->sim;
	struct sim_conn *src = p->link->end[p->side];

	if (!p->blocked) {
		p->blocked = true;
		p->blocked_since = s->now;
		list_push(&p->link->net->blocked, &p->blocked_link);
		sim_ev_in(&p->ev, USER_TIMEOUT);
	} else {
		sim_pipe_cut_off(p, 0);
		if (src)
			sim_conn_fail(src, 0, HCI_E_TIMEOUT, "no answer from the other node's machine");
	}
}

static void unblock(struct sim_pipe *p)
{
	p->blocked = false;
	list_del(&p->blocked_link);
}

void sim_pipe_kick(struct sim_pipe *p)
{
	struct sim *s = p->link->net->sim;

	if (!p->blocked || is_blocked(p))
		return;
	/* The timer of the next retransmission has backed off meanwhile. */
	unblock(p);
	sim_ev_in(&p->ev, sim_latency(p->link) + sim_rand_below(s, MIN(s->now - p->blocked_since, NS_PER_S) + 1));
}

/* Arrives now: whole chunks, of the last perhaps only a part. True: something for the reader. */
static bool arrive(struct sim_pipe *p)
{
	struct sim *s = p->link->net->sim;
	bool any = false;

	while (p->nchunk > 0) {
		struct sim_chunk *c = chunk_at(p, 0);

		if (c->time > s->now)
			break;
		if (c->mark == MARK_OPEN) {
			if (any)
				break;
			chunk_pop(p);
			if (p->link->end[!p->side])
				sim_conn_opened(p->link->end[!p->side]);
			return false;
		}
		if (c->mark == MARK_DATA && c->end - p->arrived > 1 && sim_chance(s, 60)) {
			p->arrived += 1 + sim_rand_below(s, c->end - p->arrived - 1);
			c->time = s->now + sim_range(s, 1000, s->o.net_min + 1000);
			p->last = MAX(p->last, c->time);
			return true;
		}
		p->arrived = c->end;
		if (c->mark == MARK_FIN)
			p->fin_arrived = true;
		chunk_pop(p);
		any = true;
	}
	return any;
}

static void deliver(struct sim_ev *ev)
{
	struct sim_pipe *p = container_of(ev, struct sim_pipe, ev);
	struct sim_link *l = p->link;
	struct sim_conn *dst = l->end[!p->side];
	bool any;

	if (is_blocked(p)) {
		block(p);
		return;
	}
	if (p->blocked)
		unblock(p);
	l->refs++; /* callbacks may close both ends */
	any = arrive(p);
	dst = l->end[!p->side];
	if (any && dst) {
		sim_conn_readable(dst);
	} else if (any) {
		p->read = p->acked = p->arrived;
		if (!p->fin_arrived && l->end[p->side])
			sim_conn_fail(l->end[p->side], sim_latency(l), HCI_E_CLOSED, "connection reset by peer");
	}
	/* Chunk times never decrease but for a piece that was held back: keep the order. */
	if (p->nchunk > 0 && !sim_ev_queued(&p->ev) && l->refs > 1)
		schedule(p);
	sim_link_unref(l);
}
