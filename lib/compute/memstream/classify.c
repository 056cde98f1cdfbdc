/* SPDX-License-Identifier: Apache-2.0 */
/* From a batch to a plan: see classify.h. */
#include "compute/memstream/classify.h"

#include <hci/error.h>

#include "base/mem.h"
#include "compute/memstream/delta.h"
#include "compute/memstream/emit.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/mirror.h"
#include "compute/memstream/ops.h"
#include "compute/memstream/provider.h"

#define DELTA_SMALL 128 /* so few bytes are not worth asking whether the other side has the page */

struct classifier {
	uint32_t without;
	const struct mst_hash *hash;
	struct mst_provider providers[MST_PROVIDERS_MAX];
	uint32_t n_providers;
	struct worth worth[MST_PROVIDERS_MAX], worth_waiting[MST_PROVIDERS_MAX];
	uint32_t who[MST_PROVIDERS_MAX];
	struct mirror mirror;
	struct emit emit;
};

/* A page on its way through the classes. */
struct subject {
	const uint8_t *page;
	uint64_t key, quick;
	uint32_t batch;
	const uint32_t *number; /* by provider */
	uint16_t index;
	uint32_t own; /* slot with what was last sent for this place */
	bool hurry;
};

void mplan_reset(struct mplan *p)
{
	buf_reset(&p->ops);
	buf_reset(&p->lit);
	buf_reset(&p->delta);
	p->n_fresh = p->n_raw = 0;
	memset(p->pages, 0, sizeof(p->pages));
	memset(p->bytes, 0, sizeof(p->bytes));
	p->coming = 0;
	memset(p->from, 0, sizeof(p->from));
	p->refs = p->whole = false;
}

void mplan_free(struct mplan *p)
{
	buf_free(&p->ops);
	buf_free(&p->lit);
	buf_free(&p->delta);
}

struct classifier *classifier_new(const struct mst_opts *o, uint32_t cache_pages, const struct mst_provider *providers,
				  uint32_t n_providers)
{
	struct classifier *cl = MEM_NEW(struct classifier);

	if (!cl)
		return NULL;
	cl->without = o->without;
	cl->hash = o->hash;
	memcpy(cl->providers, providers, n_providers * sizeof(*providers));
	cl->n_providers = n_providers;
	for (uint32_t i = 0; i < n_providers; i++)
		cl->who[i] = providers[i].claim ? providers[i].join(providers[i].ctx) : 0;
	if (!mirror_init(&cl->mirror, cache_pages, (uint32_t)(o->cache / MST_PAGE))) {
		classifier_free(cl);
		return NULL;
	}
	return cl;
}

void classifier_free(struct classifier *cl)
{
	if (!cl)
		return;
	for (uint32_t i = 0; i < cl->n_providers; i++)
		if (cl->who[i])
			cl->providers[i].leave(cl->providers[i].ctx, cl->who[i], false);
	mirror_free(&cl->mirror);
	emit_free(&cl->emit);
	mem_free(cl);
}

bool batch_pages(struct batch *b, const struct mst_hash *hash)
{
	uint32_t at = 0;

	if (!b->pages) {
		b->pages = mem_calloc(BATCH_PAGES, sizeof(*b->pages));
		b->quick = mem_calloc(BATCH_PAGES, sizeof(*b->quick));
		b->noted = mem_calloc(BATCH_PAGES, 1);
		b->provider = mem_calloc(BATCH_PAGES, 1);
	}
	if (!b->pages || !b->quick || !b->noted || !b->provider)
		return false;
	memset(b->noted, 0, BATCH_PAGES);
	for (uint32_t i = 0; i < b->n_pieces; at += b->pieces[i++].len) {
		const struct piece *p = &b->pieces[i];

		if (p->kind != PIECE_PAGE && p->kind != PIECE_BODY)
			continue;
		b->pages[b->n_pages] = at + p->len - MST_PAGE;
		if (hash)
			b->quick[b->n_pages] = hash->quick(b->raw + b->pages[b->n_pages]);
		b->n_pages++;
	}
	return true;
}

static bool on(const struct classifier *cl, enum mst_class c)
{
	return !(cl->without & 1u << c);
}

/* Equal to a page that the other side keeps, of a message before or of this one. */
static bool same(struct classifier *cl, const struct subject *s, struct emit_page *out)
{
	uint32_t slot = on(cl, MST_SAME) ? mirror_by_content(&cl->mirror, s->quick, s->page) : MIRROR_NONE;
	const struct mirror_slot *m;

	if (slot == MIRROR_NONE)
		return false;
	m = &cl->mirror.s[slot];
	if (m->batch == s->batch + 1)
		*out = (struct emit_page){ .op = OP_LOCAL, .from = (uint32_t)s->index - m->local };
	else
		*out = (struct emit_page){ .op = OP_SLOT, .from = slot };
	mirror_warm(&cl->mirror, slot);
	return true;
}

/* What is there already before what has to be waited for. */
static bool reference(struct classifier *cl, const struct subject *s, struct emit_page *out, uint8_t *strong)
{
	int found = MST_HAS_NOT;

	if (!on(cl, MST_REF))
		return false;
	for (uint32_t i = 0; i < cl->n_providers && found != MST_HAS; i++) {
		const struct mst_provider *p = &cl->providers[i];
		uint64_t token;
		int has = p->lookup && !worth_pausing(&cl->worth[i]) ? p->lookup(p->ctx, s->quick, s->number[i], &token) :
								       MST_HAS_NOT;

		if (has == MST_HAS_NOT || (has == MST_COMES && (found || s->hurry || worth_pausing(&cl->worth_waiting[i]))))
			continue;
		found = has;
		*out = (struct emit_page){ .op = OP_REF, .provider = (uint8_t)(i | (has == MST_COMES ? REF_COMES : 0)),
					   .token = token, .strong = strong };
	}
	if (!found)
		return false;
	worth_referred(found == MST_HAS ? &cl->worth[out->provider] : &cl->worth_waiting[out->provider & ~REF_COMES]);
	cl->hash->strong(s->page, strong);
	return true;
}

/* The page goes in full: the others need not send it. */
static void claim(struct classifier *cl, const struct subject *s)
{
	for (uint32_t i = 0; i < cl->n_providers; i++)
		if (cl->providers[i].claim)
			cl->providers[i].claim(cl->providers[i].ctx, s->quick, cl->who[i], s->number[i]);
}

/* Changes of what was last sent for the place. Returns their length, 0: none, or too many. */
static unsigned delta(struct classifier *cl, const struct subject *s, struct emit_page *out, uint8_t *changes)
{
	const struct mirror_slot *m;
	unsigned n;

	if (s->own == MIRROR_NONE || !on(cl, MST_DELTA))
		return 0;
	m = &cl->mirror.s[s->own];
	n = delta_make(slots_get(&cl->mirror.slots, s->own), s->page, changes);
	if (m->batch == s->batch + 1)
		*out = (struct emit_page){ .op = OP_DLOCAL, .from = (uint32_t)s->index - m->local };
	else
		*out = (struct emit_page){ .op = OP_DSLOT, .from = s->own };
	return n;
}

/* Both sides keep the page. In the place of its last version, if there is one. */
static void keep(struct classifier *cl, const struct subject *s, struct emit_page *out)
{
	uint32_t own = s->own, slot;

	slot = mirror_put(&cl->mirror, own, s->key, s->quick, s->page, s->batch, s->index);
	if (slot == MIRROR_NONE)
		return;
	if (own != MIRROR_NONE)
		mirror_warm(&cl->mirror, slot);
	if ((out->op & OP_KIND) == OP_DSLOT) {
		out->op |= OP_BACK;
		return;
	}
	out->op |= OP_STORE;
	out->store = slot;
}

static enum mst_class as_it_is(const struct subject *s, struct mplan *p, struct emit_page *out)
{
	*out = (struct emit_page){ .op = OP_RAW };
	p->raw[p->n_raw++] = s->page;
	return MST_RAW;
}

/* Which class, its instruction and what goes into the sections. */
static enum mst_class choose(struct classifier *cl, const struct subject *s, struct mplan *p, struct emit_page *out,
			     uint8_t *strong)
{
	uint8_t changes[DELTA_MAX + 16];
	struct emit_page d;
	unsigned n;

	if (same(cl, s, out))
		return MST_SAME;
	n = delta(cl, s, &d, changes);
	if (p->step == ASIDE_FULL && (!n || n > DELTA_SMALL) && reference(cl, s, out, strong)) {
		p->refs = true;
		p->coming += out->provider >= REF_COMES;
		p->from[cl->providers[out->provider & ~REF_COMES].kind]++;
		return MST_REF;
	}
	if (n) {
		*out = d;
		buf_append(&p->delta, changes, n);
		p->bytes[MST_DELTA] += n;
		return MST_DELTA;
	}
	if (p->step != ASIDE_FULL)
		return as_it_is(s, p, out);
	claim(cl, s);
	if (on(cl, MST_RAW) && mst_looks_random(s->page))
		return as_it_is(s, p, out);
	*out = (struct emit_page){ .op = OP_FRESH };
	p->fresh[p->n_fresh++] = s->page;
	p->bytes[MST_NEW] += MST_PAGE;
	return MST_NEW;
}

/*
 * What can be had again for a few bytes, a repeat or a reference, is kept for its own place only while there is room, or if
 * that has a slot already: else a guest larger than the cache would drive out what it changes before that comes again.
 */
static bool worth_keeping(const struct classifier *cl, const struct subject *s, enum mst_class class, const struct emit_page *out)
{
	if (class != MST_SAME && class != MST_REF)
		return true;
	if (s->own == MIRROR_NONE)
		return cl->mirror.used < cl->mirror.room;
	return class == MST_REF || out->from != s->own;
}

static void one_page(struct classifier *cl, struct batch *b, const struct piece *piece, uint16_t index, struct mplan *p)
{
	struct subject s = { .page = b->raw + b->pages[index], .quick = b->quick[index], .batch = b->seq, .index = index,
			     .number = b->number, .hurry = p->hurry,
			     .key = mirror_key(piece->region, piece->addr) };
	struct emit_page out = { .op = OP_NULL };
	uint8_t strong[MST_STRONG];
	enum mst_class class = MST_ZERO;

	if (on(cl, MST_ZERO) && mst_is_zero(s.page)) {
		/* That it is. */
	} else if (p->step == ASIDE_PLAIN) {
		class = as_it_is(&s, p, &out);
	} else {
		s.own = mirror_by_key(&cl->mirror, s.key);
		class = choose(cl, &s, p, &out, strong);
		if (worth_keeping(cl, &s, class, &out))
			keep(cl, &s, &out);
	}
	if (piece->kind == PIECE_PAGE)
		out.op |= OP_HEAD;
	emit_page(&cl->emit, piece->addr, &out);
	b->noted[index] = p->step == ASIDE_FULL && (class == MST_NEW || class == MST_RAW);
	b->provider[index] = class == MST_REF ? out.provider : NO_PROVIDER;
	p->pages[class]++;
}

/* A plain batch without zeroes to be left out: nothing is to be said of its pages. */
static bool as_a_whole(const struct classifier *cl, struct batch *b, struct mplan *p)
{
	for (uint32_t i = 0; i < b->n_pages && on(cl, MST_ZERO); i++)
		if (mst_is_zero(b->raw + b->pages[i]))
			return false;
	for (uint32_t i = 0; i < b->n_pieces; i++)
		if (b->pieces[i].kind == PIECE_ZERO)
			p->pages[MST_ZERO] += b->pieces[i].len / ZERO_RECORD;
		else if (b->pieces[i].kind == PIECE_BYTES)
			p->pages[MST_OTHER] += b->pieces[i].len;
	p->pages[MST_RAW] = p->n_raw = b->n_pages;
	p->bytes[MST_OTHER] = 1; /* all that is not pages */
	return p->whole = true;
}

int classify(struct classifier *cl, struct batch *b, struct mplan *p)
{
	uint32_t at = 0;
	uint16_t index = 0;

	if (p->step == ASIDE_PLAIN && as_a_whole(cl, b, p))
		return 0;
	for (uint32_t i = 0; i < cl->n_providers; i++)
		b->number[i] = cl->providers[i].begin ? cl->providers[i].begin(cl->providers[i].ctx) : 0;
	emit_begin(&cl->emit, &p->ops);
	for (uint32_t i = 0; i < b->n_pieces; at += b->pieces[i++].len) {
		const struct piece *piece = &b->pieces[i];

		switch (piece->kind) {
		case PIECE_BYTES:
			emit_bytes(&cl->emit, piece->len);
			buf_append(&p->lit, b->raw + at, piece->len);
			p->pages[MST_OTHER] += piece->len;
			break;
		case PIECE_ZERO:
			emit_zeroes(&cl->emit, piece->addr, piece->len / ZERO_RECORD);
			p->pages[MST_ZERO] += piece->len / ZERO_RECORD;
			break;
		default:
			one_page(cl, b, piece, index++, p);
		}
	}
	if (!emit_end(&cl->emit) || p->lit.failed || p->delta.failed)
		return HCI_E_NOMEM;
	/* References hardly shrink; the other instructions are the price of whatever they are for. */
	p->bytes[MST_REF] = p->pages[MST_REF] * (8ull + MST_STRONG);
	p->bytes[MST_ZERO] = p->pages[MST_ZERO] / 16;
	p->bytes[MST_SAME] = p->pages[MST_SAME] * 2ull;
	p->bytes[MST_OTHER] = p->lit.len;
	return 0;
}

void classifier_acked(struct classifier *cl, const struct batch *b)
{
	for (uint32_t k = 0; k < cl->n_providers; k++) {
		const struct mst_provider *p = &cl->providers[k];

		for (uint32_t i = 0; p->note && i < b->n_pages; i++)
			if (b->noted[i])
				p->note(p->ctx, b->quick[i], NULL);
	}
}

void classifier_refused(struct classifier *cl, const struct batch *b, uint32_t page)
{
	uint8_t provider = b->provider[page];

	if (provider < cl->n_providers)
		worth_refused(&cl->worth[provider]);
	else if (provider != NO_PROVIDER)
		worth_refused(&cl->worth_waiting[provider & ~REF_COMES]);
}
