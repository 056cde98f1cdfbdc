/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A data message's instructions: read and checked in one go (by any worker), carried out in another (in the order of the
 * messages, since slots are read). After the first nothing can reach outside of the message's own buffers.
 */
#include <hci/error.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "compute/memstream/dec_impl.h"
#include "compute/memstream/delta.h"
#include "compute/memstream/ops.h"

struct reading {
	struct job *j;
	const uint8_t *p, *end;
	uint64_t out, lit, fresh, raw; /* used so far; pages of the last two */
	uint32_t pages, slots;
	uint64_t next_slot, next_store;
};

static bool more(void **array, uint32_t *cap, uint32_t n, size_t size)
{
	void *p;

	if (n < *cap)
		return true;
	p = mem_realloc(*array, (*cap ? *cap * 2 : 64) * size);
	if (!p)
		return false;
	*array = p;
	*cap = *cap ? *cap * 2 : 64;
	return true;
}

/* A run of slots: a signed number from the expected one. */
static bool slot_run(struct reading *r, uint64_t *expected, uint32_t n, uint32_t *first)
{
	uint64_t v, slot;

	if (!get_varint(&r->p, r->end, &v))
		return false;
	slot = *expected + (uint64_t)unfold(v);
	if (slot >= r->slots || n > r->slots - slot)
		return false;
	*first = (uint32_t)slot;
	*expected = slot + n;
	return true;
}

static int read_refs(struct reading *r, struct step *s)
{
	struct job *j = r->j;
	uint8_t provider;
	bool comes;

	if (r->p == r->end)
		return HCI_E_PROTO;
	comes = *r->p & REF_COMES;
	provider = *r->p++ & ~REF_COMES;
	if (provider >= MST_PROVIDERS_MAX || (uint64_t)(r->end - r->p) < s->n * (8ull + MST_STRONG))
		return HCI_E_PROTO;
	s->from = j->n_refs;
	for (uint32_t i = 0; i < s->n; i++, r->p += 8 + MST_STRONG) {
		struct ref *ref;

		if (!more((void **)&j->refs, &j->cap_refs, j->n_refs, sizeof(*ref)))
			return HCI_E_NOMEM;
		ref = &j->refs[j->n_refs++];
		*ref = (struct ref){ .page = (uint16_t)(r->pages + i), .provider = provider, .comes = comes,
				      .token = get64(r->p) };
		memcpy(ref->strong, r->p + 8, MST_STRONG);
	}
	return 0;
}

/* What the kinds of pages have of their own. */
static int read_source(struct reading *r, struct step *s)
{
	uint64_t v;

	switch (s->op & OP_KIND) {
	case OP_FRESH:
		r->fresh += s->n;
		return 0;
	case OP_RAW:
		r->raw += s->n;
		return 0;
	case OP_NULL:
		return 0;
	case OP_SLOT:
	case OP_DSLOT:
		return slot_run(r, &r->next_slot, s->n, &s->from) ? 0 : HCI_E_PROTO;
	case OP_LOCAL:
	case OP_DLOCAL:
		if (!get_varint(&r->p, r->end, &v) || !v || v > r->pages)
			return HCI_E_PROTO;
		s->from = (uint32_t)v;
		return 0;
	case OP_REF:
		return read_refs(r, s);
	default:
		return HCI_E_PROTO;
	}
}

static int read_pages(struct reading *r, struct step *s)
{
	int rc;

	if (s->n > BATCH_PAGES - r->pages || (s->op & OP_STORE && s->op & OP_BACK) ||
	    (s->op & OP_BACK && (s->op & OP_KIND) != OP_DSLOT) || s->op & 0x80)
		return HCI_E_PROTO;
	if (s->op & OP_STORE && !slot_run(r, &r->next_store, s->n, &s->store))
		return HCI_E_PROTO;
	rc = read_source(r, s);
	if (rc)
		return rc;
	if (s->op & OP_BACK)
		s->store = s->from;
	r->pages += s->n;
	r->out += (uint64_t)s->n * (s->op & OP_HEAD ? PAGE_RECORD : MST_PAGE);
	return 0;
}

static int read_step(struct reading *r, struct step *s)
{
	uint64_t n;

	s->op = *r->p++;
	if (!get_varint(&r->p, r->end, &n))
		return HCI_E_PROTO;
	if (s->op == OP_JUMP) {
		s->jump = unfold(n);
		return 0;
	}
	if (!n || n > MST_BATCH_MAX)
		return HCI_E_PROTO;
	s->n = (uint32_t)n;
	if (s->op == OP_BYTES) {
		r->lit += n;
		r->out += n;
		return 0;
	}
	if (s->op == OP_ZEROES) {
		r->out += n * ZERO_RECORD;
		return 0;
	}
	return read_pages(r, s);
}

int job_compile(struct job *j, uint32_t slots)
{
	struct reading r = { .j = j, .p = j->plain, .end = j->plain + j->d.ops, .slots = slots };

	while (r.p < r.end) {
		struct step s = { 0 };
		int rc = read_step(&r, &s);

		if (rc)
			return rc;
		if (r.out > j->d.out)
			return HCI_E_PROTO;
		if (!more((void **)&j->steps, &j->cap_steps, j->n_steps, sizeof(s)))
			return HCI_E_NOMEM;
		j->steps[j->n_steps++] = s;
	}
	j->n_pages = r.pages;
	if (r.out != j->d.out || r.lit != j->d.lit || r.fresh * MST_PAGE != j->d.fresh || r.raw * MST_PAGE != j->d.raw)
		return HCI_E_PROTO;
	return 0;
}

struct run {
	const uint8_t *lit, *delta, *delta_end, *fresh, *raw;
	uint8_t *out;
	uint64_t next;
	uint32_t page;
};

/* A record's word, the highest byte first. */
static void put_word(struct run *r, uint64_t flags)
{
	uint64_t v = __builtin_bswap64(r->next | flags);

	memcpy(r->out, &v, sizeof(v));
	r->out += sizeof(v);
}

/* The i-th page of a step, to where out points. */
static bool make_page(struct job *j, struct run *r, const struct step *s, uint32_t i, const struct slots *slots)
{
	const uint8_t *from = NULL;

	switch (s->op & OP_KIND) {
	case OP_FRESH:
		from = r->fresh;
		r->fresh += MST_PAGE;
		break;
	case OP_RAW:
		from = r->raw;
		r->raw += MST_PAGE;
		break;
	case OP_NULL:
		memset(r->out, 0, MST_PAGE);
		return true;
	case OP_SLOT:
	case OP_DSLOT:
		from = slots_get(slots, s->from + i);
		break;
	case OP_REF:
		from = j->content + (size_t)(s->from + i) * MST_PAGE;
		break;
	default:
		from = j->out + j->page_at[r->page - s->from];
	}
	if (!from)
		return false;
	memcpy(r->out, from, MST_PAGE);
	if ((s->op & OP_KIND) == OP_DSLOT || (s->op & OP_KIND) == OP_DLOCAL)
		return delta_apply(r->out, &r->delta, r->delta_end);
	return true;
}

static bool run_step(struct job *j, struct run *r, const struct step *s, const struct slots *slots)
{
	if (s->op == OP_JUMP) {
		r->next += (uint64_t)s->jump * MST_PAGE;
		return true;
	}
	if (s->op == OP_BYTES) {
		memcpy(r->out, r->lit, s->n);
		r->lit += s->n;
		r->out += s->n;
		return true;
	}
	for (uint32_t i = 0; i < s->n; i++, r->next += MST_PAGE) {
		if (s->op == OP_ZEROES) {
			put_word(r, RAM_ZERO | RAM_CONT);
			*r->out++ = 0;
			continue;
		}
		if (s->op & OP_HEAD)
			put_word(r, RAM_PAGE | RAM_CONT);
		j->page_at[r->page] = (uint32_t)(r->out - j->out);
		j->page_op[r->page] = s->op;
		j->page_slot[r->page] = s->op & (OP_STORE | OP_BACK) ? s->store + i : UINT32_MAX;
		if (!make_page(j, r, s, i, slots))
			return false;
		r->page++;
		r->out += MST_PAGE;
	}
	return true;
}

bool job_is_made(struct job *j)
{
	if (j->n_steps == 1 && j->steps[0].op == OP_BYTES)
		j->made = j->plain + j->d.ops;
	return j->made;
}

int job_run(struct job *j, const struct slots *slots)
{
	const uint8_t *p = j->plain + j->d.ops;
	struct run r = { .lit = p, .delta = p + j->d.lit, .delta_end = p + j->d.lit + j->d.delta,
			 .fresh = p + j->d.lit + j->d.delta, .raw = j->d.raw_at, .out = j->out };

	for (uint32_t i = 0; i < j->n_steps && !j->made; i++)
		if (!run_step(j, &r, &j->steps[i], slots))
			return HCI_E_PROTO;
	if (r.delta != r.delta_end)
		return HCI_E_PROTO;
	if (crc32c(0, j->made ? j->made : j->out, j->d.out) != j->d.crc)
		return HCI_E_CORRUPT;
	j->made = j->made ? j->made : j->out;
	return 0;
}

bool job_store(struct job *j, struct slots *slots)
{
	for (uint32_t i = 0; i < j->n_pages; i++) {
		uint8_t *to;

		if (j->page_slot[i] == UINT32_MAX)
			continue;
		to = slots_put(slots, j->page_slot[i]);
		if (!to)
			return false;
		memcpy(to, j->out + j->page_at[i], MST_PAGE);
	}
	return true;
}
