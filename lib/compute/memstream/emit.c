/* SPDX-License-Identifier: Apache-2.0 */
/* Writing instructions: see emit.h. */
#include "compute/memstream/emit.h"

#include "compute/memstream/ops.h"
#include "compute/memstream/wire.h"

void emit_begin(struct emit *e, struct buf *ops)
{
	struct buf refs = e->refs;

	buf_reset(&refs);
	*e = (struct emit){ .ops = ops, .refs = refs };
}

void emit_free(struct emit *e)
{
	buf_free(&e->refs);
}

static void number(struct emit *e, uint64_t v)
{
	uint8_t b[10];

	buf_append(e->ops, b, put_varint(b, v));
}

static void op(struct emit *e, uint8_t code, uint64_t n)
{
	buf_append(e->ops, &code, 1);
	number(e, n);
}

/* Writes the run at hand. */
static void flush(struct emit *e)
{
	unsigned kind = e->op & OP_KIND;

	if (!e->n)
		return;
	op(e, e->op, e->n);
	if (e->op & OP_STORE) {
		number(e, fold((int64_t)e->store - (int64_t)e->next_store));
		e->next_store = (uint64_t)e->store + e->n;
	}
	if (kind == OP_SLOT || kind == OP_DSLOT) {
		number(e, fold((int64_t)e->from - (int64_t)e->next_slot));
		e->next_slot = (uint64_t)e->from + e->n;
	} else if (kind == OP_LOCAL || kind == OP_DLOCAL) {
		number(e, e->from);
	} else if (kind == OP_REF) {
		buf_append(e->ops, &e->provider, 1);
		buf_append(e->ops, e->refs.data, e->refs.len);
		e->ops->failed |= e->refs.failed;
		buf_reset(&e->refs);
	}
	e->n = 0;
}

void emit_bytes(struct emit *e, uint32_t n)
{
	flush(e);
	op(e, OP_BYTES, n);
}

static void jump(struct emit *e, uint64_t addr)
{
	if (addr == e->next)
		return;
	flush(e);
	op(e, OP_JUMP, fold((int64_t)(addr - e->next) / (int64_t)MST_PAGE));
	e->next = addr;
}

void emit_zeroes(struct emit *e, uint64_t addr, uint32_t n)
{
	jump(e, addr);
	flush(e);
	op(e, OP_ZEROES, n);
	e->next += (uint64_t)n * MST_PAGE;
}

static bool goes_on(const struct emit *e, const struct emit_page *p)
{
	unsigned kind = p->op & OP_KIND;

	if (!e->n || e->op != p->op || (p->op & OP_STORE && p->store != e->store + e->n))
		return false;
	if (kind == OP_SLOT || kind == OP_DSLOT)
		return p->from == e->from + e->n;
	if (kind == OP_LOCAL || kind == OP_DLOCAL)
		return p->from == e->from;
	return kind != OP_REF || p->provider == e->provider;
}

void emit_page(struct emit *e, uint64_t addr, const struct emit_page *p)
{
	jump(e, addr);
	if (!goes_on(e, p)) {
		flush(e);
		e->op = p->op;
		e->from = p->from;
		e->store = p->store;
		e->provider = p->provider;
	}
	e->n++;
	e->next += MST_PAGE;
	if ((p->op & OP_KIND) == OP_REF) {
		uint8_t token[8];

		put64(token, p->token);
		buf_append(&e->refs, token, sizeof(token));
		buf_append(&e->refs, p->strong, MST_STRONG);
	}
}

bool emit_end(struct emit *e)
{
	flush(e);
	return !e->ops->failed;
}
