/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: which replica is asked, and what becomes of its answer. The order of requests is io.c's. */
#include "volume/io_impl.h"

#include "base/crc32c.h"

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

void read_run(struct piece *p)
{
	struct vol *v = p->v;
	int pos;

	/* A reader whose lease is over could be reading what another has written anew elsewhere. */
	if (env_now(v->e) >= v->lease_deadline && !vol_mutated(v->x, VOL_MUTATE_READ_PAST_LEASE)) {
		ENV_MARK(v->e, "read waits for the lease");
		piece_stall(p);
		return;
	}
	pos = read_pick(p);
	if (pos < 0) {
		ENV_MARK(v->e, "read finds no replica");
		p->tried = 0;
		piece_stall(p);
		return;
	}
	list_del(&p->stall);
	if (!leg_send(seg_leg(v, &v->segs[p->segment], (unsigned)pos), p, (uint8_t)pos))
		piece_stall(p);
}

int read_check(struct piece *p, const struct rpc_call *c, char *why, size_t cap)
{
	uint32_t sums[REPL_IO_MAX / HCI_BLOCK];

	if (c->reply_payload_len != p->len || !leg_reply_sums(c, p->len, sums)) {
		snprintf(why, cap, "answered %u bytes instead of %u, or without checksums", c->reply_payload_len,
			 (unsigned)p->len);
		return HCI_E_PROTO;
	}
	return block_sums_wrong(p->buf, (uint32_t)(p->len / HCI_BLOCK), sums) &&
			       !vol_mutated(p->v->x, VOL_MUTATE_NO_SUMS)
		       ? HCI_E_CORRUPT
		       : 0;
}

void read_answer(struct piece *p, struct leg *l, uint8_t pos, int status, const char *why)
{
	if (!status) {
		piece_finish(p, 0);
		return;
	}
	/* Not the leg's end: it is one block, and the others may have it. The buffer is lent until io_mended. */
	if (status == HCI_E_CORRUPT) {
		ENV_MARK(l->v->e, "read finds a damaged block");
		p->open_ops++;
		if (mend_piece(p, pos))
			return;
		p->open_ops--;
		status = HCI_E_NOMEM;
	}
	ENV_MARK(l->v->e, "read fails");
	p->tried |= (uint16_t)(1u << pos);
	leg_fail(l, status, why);
	read_run(p);
}

void io_mended(struct piece *p, int status)
{
	p->open_ops--;
	if (!piece_over(p))
		piece_finish(p, status);
}
