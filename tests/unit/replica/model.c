/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/replica/model.h"

#include <stdlib.h>

#include "unit/harness.h"

struct model *model_new(void)
{
	struct model *m = calloc(1, sizeof(*m));

	for (unsigned v = 0; v < VOLS; v++)
		m->gen[v] = 1;
	return m;
}

void model_free(struct model *m)
{
	for (unsigned v = 0; v < VOLS; v++)
		for (unsigned s = 0; s < SEGS; s++)
			for (unsigned b = 0; b < BLOCKS; b++)
				free(m->b[v][s][b].e);
	free(m);
}

void fill_block(uint8_t *p, uint64_t id, uint32_t block)
{
	uint64_t *w = (uint64_t *)(void *)p;

	for (unsigned i = 0; i < HCI_BLOCK / 8; i++)
		w[i] = id ? id * UINT64_C(0x9e3779b97f4a7c15) + i + ((uint64_t)block << 32) : 0;
	w[0] = id;
}

uint64_t block_id(const uint8_t *p, uint32_t block)
{
	static __thread uint64_t want[HCI_BLOCK / 8];
	uint64_t id;

	memcpy(&id, p, sizeof(id));
	fill_block((uint8_t *)want, id, block);
	ck_assert_msg(memcmp(p, want, HCI_BLOCK) == 0, "block %u: torn, or of another place",
		      block);
	return id;
}

static void push(struct mblock *b, uint64_t id)
{
	if (b->n == b->cap) {
		b->cap = b->cap ? b->cap * 2 : 8;
		b->e = realloc(b->e, b->cap * sizeof(b->e[0]));
	}
	b->e[b->n].id = id;
	b->e[b->n++].state = CHANGE_OPEN;
}

void model_ask(struct model *m, unsigned v, unsigned s, uint32_t first, uint32_t n, uint64_t id,
	       uint64_t seq)
{
	for (uint32_t b = first; b < first + n; b++) {
		struct mregion *r = &m->r[v][s][b / 16];

		push(&m->b[v][s][b], id);
		r->asked = MAX(r->asked, seq);
	}
	m->asked_last[v] = MAX(m->asked_last[v], seq);
}

static void end_one(struct mblock *b, uint64_t id, bool ok)
{
	for (uint32_t i = 0; i < b->n; i++) {
		if (b->e[i].id != id || b->e[i].state != CHANGE_OPEN)
			continue;
		b->e[i].state = ok ? CHANGE_DONE : CHANGE_FAILED;
		return;
	}
	ck_abort_msg("a change ended that was not asked for");
}

void model_end(struct model *m, unsigned v, unsigned s, uint32_t first, uint32_t n, uint64_t id,
	       uint64_t seq, bool ok)
{
	for (uint32_t b = first; b < first + n; b++) {
		struct mregion *r = &m->r[v][s][b / 16];

		end_one(&m->b[v][s][b], id, ok);
		if (ok)
			r->acked = MAX(r->acked, seq);
	}
	if (ok)
		m->acked_last[v] = MAX(m->acked_last[v], seq);
}

uint32_t model_now(const struct model *m, unsigned v, unsigned s, uint32_t block)
{
	return m->b[v][s][block].n;
}

void model_check(struct model *m, unsigned v, unsigned s, uint32_t block, uint64_t id,
		 uint32_t since)
{
	const struct mblock *b = &m->b[v][s][block];
	uint64_t last = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		if (i >= since && b->e[i].state != CHANGE_FAILED && b->e[i].id == id)
			return;
		if (i < since && b->e[i].state != CHANGE_FAILED)
			last = b->e[i].id;
	}
	ck_assert_msg(id == last, "vol %u seg %u block %u: read %llu, expected %llu", v, s, block,
		      (unsigned long long)id, (unsigned long long)last);
}

void model_settle(struct model *m, unsigned v, unsigned s, uint32_t block, uint64_t id)
{
	struct mblock *b = &m->b[v][s][block];
	uint32_t from = 0;
	bool ok = false;

	for (uint32_t i = 0; i < b->n; i++) {
		if (b->e[i].state == CHANGE_DONE)
			from = i;
	}
	/* What was acknowledged last, or something asked for after it. */
	if (b->n == 0 || b->e[from].state != CHANGE_DONE)
		ok = id == 0;
	for (uint32_t i = from; i < b->n; i++)
		ok |= b->e[i].state != CHANGE_FAILED && b->e[i].id == id;
	ck_assert_msg(
		ok, "vol %u seg %u block %u: found %llu after the crash, acknowledged was %llu", v,
		s, block, (unsigned long long)id, (unsigned long long)(b->n ? b->e[from].id : 0));
	b->n = 0;
	push(b, id);
	b->e[0].state = CHANGE_DONE;
}

void model_settle_last(struct model *m, unsigned v, uint64_t last)
{
	ck_assert_uint_ge(last, m->acked_last[v]);
	if (last != repl_seq_floor(m->gen[v])) /* above all before: the record and a table were torn */
		ck_assert_uint_le(last, m->asked_last[v]);
	m->asked_last[v] = MAX(m->asked_last[v], last);
}

void model_settle_regions(struct model *m, unsigned v, unsigned s, const uint64_t seq[REGIONS])
{
	uint64_t least = UINT64_MAX, most = 0;

	for (unsigned i = 0; i < REGIONS; i++) {
		struct mregion *r = &m->r[v][s][i];
		uint64_t q = seq[i] & REPL_SEQ_MASK;

		ck_assert_msg(q >= r->acked && q <= MAX(r->asked, m->asked_last[v]),
			      "vol %u seg %u region %u: seq %llu not in [%llu, %llu]", v, s, i, (unsigned long long)q,
			      (unsigned long long)r->acked, (unsigned long long)r->asked);
		least = MIN(least, q);
		if (q > r->asked)
			most = MAX(most, q);
		r->acked = r->asked = q;
	}
	/* That of a torn table's page: then no region of it is told to be older. */
	ck_assert_msg(most <= least, "vol %u seg %u: a region has seq %llu that nobody gave it, another %llu", v, s,
		      (unsigned long long)most, (unsigned long long)least);
}

void model_dropped(struct model *m, unsigned v, unsigned s)
{
	for (unsigned r = 0; r < REGIONS; r++)
		m->r[v][s][r].acked = m->r[v][s][r].asked = 0;
}
