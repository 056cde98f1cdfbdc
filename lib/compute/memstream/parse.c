/* SPDX-License-Identifier: Apache-2.0 */
/* The stream parser: see parse.h. A byte-wise automaton for headers; bodies are copied at once. */
#include "compute/memstream/parse.h"

#include <hci/error.h>

enum state {
	LOOK,   /* for a section of guest memory; everything is bytes */
	WORD,   /* 8 bytes: address and flags */
	IDLEN,  /* length of a block's name */
	ID,     /* the name */
	FILL,   /* of a zero record: the byte it is filled with */
	BODY,   /* of a page */
	XHEAD,  /* of an xbzrle record: a byte, be16 length */
	CHEAD,  /* of a compressed page: be32 length */
	SKIP,   /* bytes of no interest */
};

void parser_init(struct parser *p)
{
	*p = (struct parser){ .state = LOOK };
}

/* What the batch holds and no piece covers yet is one of this kind. */
static bool piece(struct parser *p, struct batch *b, uint8_t kind, uint64_t addr)
{
	uint32_t len = b->len - p->start;

	p->start = b->len;
	return batch_piece(b, kind, p->region, addr, len);
}

bool parser_cut(struct parser *p, struct batch *b)
{
	bool ok = piece(p, b, PIECE_BYTES, 0);

	p->whole = false;
	p->start = 0;
	return ok;
}

uint32_t parser_unsettled(const struct parser *p, const struct batch *b)
{
	return p->state == LOOK || p->state == SKIP ? 0 : b->len - p->start;
}

void parser_moved(struct parser *p)
{
	p->start = 0;
}

static void enter(struct parser *p, uint8_t state, uint32_t need)
{
	p->state = state;
	p->need = need;
	p->got = 0;
}

static void enter_word(struct parser *p)
{
	enter(p, WORD, 8);
	p->word = 0;
	p->whole = true;
}

static void enter_look(struct parser *p)
{
	enter(p, LOOK, 0);
	p->last = 0;
}

/*
 * Two things are looked for: the start of section "ram" (0x01, id, "\3ram", instance 0, version), which tells its id, and
 * the footer of any section (0x7e, id) with a part or the end of section "ram" behind it (0x02 or 0x03, id).
 */
static void look(struct parser *p, uint8_t c)
{
	unsigned __int128 w = p->last = p->last << 8 | c;
	uint64_t low = (uint64_t)w;

	if ((low & 0xffffffffffffff00u) == 0 && (uint32_t)(w >> 64) == 0x0372616du && low) {
		p->ram_id = (uint32_t)(w >> 96);
		p->known = true;
	} else if (p->known && (uint32_t)low == p->ram_id && ((uint8_t)(low >> 32) & 0xfe) == 2 &&
		   (uint8_t)(w >> 72) == 0x7e) {
		enter_word(p);
	}
}

/* The word is whole: what comes behind it? */
static bool word(struct parser *p, struct batch *b)
{
	uint64_t flags = p->word & RAM_FLAGS, kind = flags & ~(uint64_t)RAM_CONT;
	bool ok;

	if (kind == RAM_EOS || kind == RAM_FLUSH) {
		ok = piece(p, b, PIECE_BYTES, 0);
		if (kind == RAM_EOS)
			enter_look(p);
		else
			enter_word(p);
		return ok;
	}
	if (kind != RAM_ZERO && kind != RAM_PAGE && kind != RAM_XBZRLE && kind != RAM_COMPRESSED) {
		enter_look(p);
		return piece(p, b, PIECE_BYTES, 0);
	}
	if (!(flags & RAM_CONT)) {
		enter(p, IDLEN, 1);
		p->whole = false;
		return true;
	}
	if (kind == RAM_ZERO)
		enter(p, FILL, 1);
	else if (kind == RAM_PAGE)
		enter(p, BODY, MST_PAGE);
	else
		enter(p, kind == RAM_XBZRLE ? XHEAD : CHEAD, kind == RAM_XBZRLE ? 3 : 4);
	/* The word and what follows make one piece, unless it was cut: then the body at least shall be a page. */
	return p->whole || piece(p, b, PIECE_BYTES, 0);
}

/* The name of a block ended: as word(), but the header is bytes. */
static bool named(struct parser *p, struct batch *b)
{
	uint64_t kind = p->word & RAM_FLAGS & ~(uint64_t)RAM_CONT;
	bool ok = piece(p, b, PIECE_BYTES, 0);

	p->region = (uint32_t)(p->id_hash ^ p->id_hash >> 32) | 1u;
	if (kind == RAM_ZERO)
		enter(p, FILL, 1);
	else if (kind == RAM_PAGE)
		enter(p, BODY, MST_PAGE);
	else
		enter(p, kind == RAM_XBZRLE ? XHEAD : CHEAD, kind == RAM_XBZRLE ? 3 : 4);
	return ok;
}

/* A state that wanted bytes has them all; c is the last. */
static bool complete(struct parser *p, struct batch *b, uint8_t c)
{
	uint64_t addr = p->word & ~(uint64_t)RAM_FLAGS;
	bool ok = true;

	switch (p->state) {
	case WORD:
		return word(p, b);
	case IDLEN:
		p->id_hash = 0xcbf29ce484222325u; /* FNV-1a */
		enter(p, ID, c);
		return c ? true : named(p, b);
	case ID:
		return named(p, b);
	case FILL:
		ok = piece(p, b, p->whole && !c ? PIECE_ZERO : PIECE_BYTES, addr);
		break;
	case XHEAD:
		enter(p, SKIP, (uint32_t)p->word & 0xffff);
		if (p->need)
			return true;
		ok = piece(p, b, PIECE_BYTES, 0);
		break;
	case CHEAD:
		/* Larger than a page cannot be: we are not where we thought. */
		if ((uint32_t)p->word > 2 * MST_PAGE) {
			enter_look(p);
			return piece(p, b, PIECE_BYTES, 0);
		}
		enter(p, SKIP, (uint32_t)p->word);
		if (p->need)
			return true;
		ok = piece(p, b, PIECE_BYTES, 0);
		break;
	case SKIP:
		ok = piece(p, b, PIECE_BYTES, 0);
		break;
	default: /* BODY */
		if (p->whole)
			ok = piece(p, b, PIECE_PAGE, addr);
		else if (b->len - p->start == MST_PAGE)
			ok = piece(p, b, PIECE_BODY, addr);
		else
			ok = piece(p, b, PIECE_BYTES, 0);
	}
	enter_word(p);
	return ok;
}

/* One byte of a header, which is in the batch already. */
static bool header_byte(struct parser *p, struct batch *b, uint8_t c)
{
	if (p->state == ID)
		p->id_hash = (p->id_hash ^ c) * 0x100000001b3u;
	else if (p->state == WORD || p->state == XHEAD || p->state == CHEAD)
		p->word = p->word << 8 | c;
	return ++p->got < p->need || complete(p, b, c);
}

/* A page that would not fit whole is left for the next batch. */
static bool page_must_wait(const struct parser *p, const struct batch *b)
{
	if (p->state == WORD && !p->got)
		return b->cap - b->len < PAGE_RECORD + 1;
	return p->state == BODY && !p->got && b->cap - b->len < MST_PAGE;
}

int64_t parser_feed(struct parser *p, const uint8_t *data, size_t len, struct batch *b, bool *full)
{
	size_t i = 0;

	*full = false;
	while (i < len) {
		if (b->len == b->cap || page_must_wait(p, b)) {
			*full = true;
			break;
		}
		if (p->state == BODY || p->state == SKIP) {
			uint32_t n = (uint32_t)MIN(MIN(len - i, (size_t)(p->need - p->got)), (size_t)(b->cap - b->len));

			if (data + i != b->raw + b->len)
				memcpy(b->raw + b->len, data + i, n);
			b->len += n;
			i += n;
			p->got += n;
			if (p->got == p->need && !complete(p, b, 0))
				return HCI_E_NOMEM;
			continue;
		}
		b->raw[b->len++] = data[i];
		if (p->state == LOOK)
			look(p, data[i]);
		else if (!header_byte(p, b, data[i]))
			return HCI_E_NOMEM;
		i++;
		if (p->state == WORD && !p->got && p->start < b->len && !piece(p, b, PIECE_BYTES, 0))
			return HCI_E_NOMEM;
	}
	return (int64_t)i;
}
