/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: which replica is asked, and what becomes of its answer. The order of requests is io.c's.
 *
 * A replica that has not answered after read_timeout is not given up: another one is asked as well, and the
 * first answer wins (a hedged request, Dean and Barroso, The Tail at Scale, CACM 2013). The two must never share a
 * buffer, as the loser's answer may be on its way: the first one's goes to the caller's buffer, the second one's to
 * a buffer of the piece, and is copied when the first request is over. A read ends when no request of it is open.
 */
#include "volume/io_impl.h"

#include "base/crc32c.h"
#include "base/mem.h"

#define LOCAL_FAVOUR 4u                /* our own node is asked until it would take so many times as long */
#define LATENCY_LEAST (20 * NS_PER_US)
#define LATENCY_HALVES (2 * NS_PER_S)  /* what a disk was like is forgotten, so that it is tried again */

/* ---- which replica ---- */

/* How long a read would take there, roughly: what is before it times what one took lately. */
static uint64_t read_cost(const struct leg *l, uint64_t now)
{
	const struct disk_load *d = l->load;
	uint64_t lat = d->lat >> MIN((now - d->lat_at) / LATENCY_HALVES, UINT64_C(20));
	uint64_t cost = (d->ops + d->copies + 1) * MAX(lat, LATENCY_LEAST);

	return l->local ? cost / LOCAL_FAVOUR : cost;
}

static void read_took(struct leg *l, uint64_t ns, uint64_t now)
{
	struct disk_load *d = l->load;
	uint64_t lat = d->lat >> MIN((now - d->lat_at) / LATENCY_HALVES, UINT64_C(20));

	d->lat = lat + ns / 8 - lat / 8;
	d->lat_at = now;
}

static int read_pick(struct piece *p)
{
	struct vol *v = p->v;
	struct seg *s = &v->segs[p->segment];
	uint64_t now = env_now(v->e), least = 0;
	int best = -1;

	for (unsigned i = 0; i < s->n; i++) {
		struct leg *l = seg_leg(v, s, i);
		uint64_t cost;

		if (s->pos[i] != POS_IN || l->state != LEG_UP || (p->tried & (1u << i)))
			continue;
		cost = read_cost(l, now);
		if (best < 0 || cost < least) {
			best = (int)i;
			least = cost;
		}
	}
	return best;
}

/* ---- a second one ---- */

static bool hedge(struct piece *p)
{
	struct vol *v = p->v;
	int pos;

	if (!p->asked[0] || p->spare)
		return true; /* the second one is at it */
	p->tried |= (uint16_t)(1u << p->asked[0]->pos);
	pos = env_now(v->e) < v->lease_deadline ? read_pick(p) : -1;
	if (pos < 0)
		return false;
	p->spare = mem_alloc_aligned((size_t)p->len);
	if (!p->spare)
		return false;
	p->asked[1] = leg_send_read(seg_leg(v, &v->segs[p->segment], (unsigned)pos), p, (uint8_t)pos, p->spare);
	if (!p->asked[1]) {
		mem_free_aligned(p->spare);
		p->spare = NULL;
		return false;
	}
	ENV_MARK(v->e, "read asks a second replica");
	v->st.reads_hedged++;
	metric_add(v->m_hedged, 1);
	return true;
}

void hedge_timer_fn(struct env_timer *t)
{
	struct vol *v = container_of(t, struct vol, hedge_timer);
	uint64_t now = env_now(v->e);

	while (!list_empty(&v->reads)) {
		struct piece *p = list_first(&v->reads, struct piece, flight);

		if (p->sent_at + v->read_timeout > now) {
			env_timer_arm(v->e, t, p->sent_at + v->read_timeout);
			return;
		}
		list_del(&p->flight);
		/* None to ask now: perhaps one comes back while the first still does not answer. */
		if (!hedge(p)) {
			p->sent_at = now;
			list_push(&v->reads, &p->flight);
		}
	}
}

/* ---- asking, and answers ---- */

static void read_wait(struct piece *p)
{
	list_del(&p->flight);
	piece_stall(p);
}

void read_run(struct piece *p)
{
	struct vol *v = p->v;
	int pos;

	/* A reader whose lease is over could be reading what another has written anew elsewhere. */
	if (env_now(v->e) >= v->lease_deadline && !vol_mutated(v->x, VOL_MUTATE_READ_PAST_LEASE)) {
		ENV_MARK(v->e, "read waits for the lease");
		read_wait(p);
		return;
	}
	if (vcache_read(p))
		return;
	pos = read_pick(p);
	if (pos < 0) {
		ENV_MARK(v->e, "read finds no replica");
		p->tried = 0;
		read_wait(p);
		return;
	}
	list_del(&p->stall);
	p->asked[0] = leg_send_read(seg_leg(v, &v->segs[p->segment], (unsigned)pos), p, (uint8_t)pos, p->buf);
	if (!p->asked[0]) {
		read_wait(p);
		return;
	}
	p->sent_at = env_now(v->e);
	list_del(&p->flight);
	list_push(&v->reads, &p->flight);
	if (!env_timer_armed(&v->hedge_timer))
		env_timer_arm(v->e, &v->hedge_timer, p->sent_at + v->read_timeout);
}

/* Its data, and the sums that they should have. */
static int read_check(const struct piece *p, const struct rpc_call *c, char *why, size_t cap)
{
	uint32_t sums[REPL_IO_MAX / HCI_BLOCK];

	if (c->reply_payload_len != p->len || !leg_reply_sums(c, p->len, sums)) {
		snprintf(why, cap, "answered %u bytes instead of %u, or without checksums", c->reply_payload_len,
			 (unsigned)p->len);
		return HCI_E_PROTO;
	}
	return block_sums_wrong(c->reply_buf, (uint32_t)(p->len / HCI_BLOCK), sums) &&
			       !vol_mutated(p->v->x, VOL_MUTATE_NO_SUMS)
		       ? HCI_E_CORRUPT
		       : 0;
}

int read_op_end(struct piece *p, struct leg_op *op, int status, char *why, size_t cap)
{
	uint64_t now = env_now(p->v->e);
	unsigned which = op == p->asked[1];

	p->asked[which] = NULL;
	if (p->answered) {
		if (!which) /* it was too slow: at least so long does it take */
			read_took(op->leg, MAX(now - op->sent_at, op->leg->load->lat) * 8, now);
		return HCI_E_CANCELLED;
	}
	if (status)
		return status;
	status = read_check(p, &op->call, why, cap);
	if (status == HCI_E_PROTO)
		return status;
	p->damaged = status == HCI_E_CORRUPT;
	read_took(op->leg, now - op->sent_at, now);
	op->leg->load->reads++;
	p->answered = (uint8_t)(1 + which);
	p->answered_by = op->pos;
	return status;
}

void read_answer(struct piece *p, struct leg *l, uint8_t pos, int status, const char *why)
{
	if (p->answered) {
		struct leg_op *other = p->asked[0] ? p->asked[0] : p->asked[1];

		if (other) {
			rpc_cancel(other->leg->conn, &other->call);
			return; /* it ends soon, and the read with it */
		}
		/* Not the leg's end: it is one block, and the others may have it. The buffer is lent until io_mended. */
		if (p->damaged) {
			ENV_MARK(l->v->e, "read finds a damaged block");
			p->open_ops++;
			if (mend_piece(p, p->answered_by))
				return;
			p->open_ops--;
			piece_finish(p, HCI_E_NOMEM);
			return;
		}
		if (p->answered == 2)
			memcpy(p->buf, p->spare, (size_t)p->len);
		vcache_fill(p);
		piece_finish(p, 0);
		return;
	}
	ENV_MARK(l->v->e, "read fails");
	p->tried |= (uint16_t)(1u << pos);
	leg_fail(l, status, why);
	if (p->open_ops)
		return;
	mem_free_aligned(p->spare);
	p->spare = NULL;
	read_run(p);
}

void io_mended(struct piece *p, int status)
{
	p->open_ops--;
	if (piece_over(p))
		return;
	if (!status)
		vcache_fill(p);
	/* What nobody has may be in the part that was not asked for. */
	if (!status || !vcache_narrow(p))
		piece_finish(p, status);
}
