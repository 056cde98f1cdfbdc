/* SPDX-License-Identifier: Apache-2.0 */
/* A batch's memory and its list of pieces. */
#include "compute/memstream/batch.h"

#include "base/mem.h"

void batch_free(struct batch *b)
{
	if (!b)
		return;
	mst_msg_free(b->mem);
	mem_free(b->pieces);
	mem_free(b->pages);
	mem_free(b->quick);
	mem_free(b->noted);
	mem_free(b->provider);
	mst_msg_free(b->msg);
	mem_free(b);
}

void batch_reset(struct batch *b)
{
	mst_msg_free(b->msg);
	b->msg = NULL;
	b->len = b->n_pieces = b->n_pages = b->wire = b->asked = 0;
	b->sent = b->received = false;
}

static bool grow(struct batch *b)
{
	uint32_t cap = b->cap_pieces ? b->cap_pieces * 2 : 256;
	struct piece *p = mem_realloc(b->pieces, cap * sizeof(*p));

	if (!p)
		return false;
	b->pieces = p;
	b->cap_pieces = cap;
	return true;
}

bool batch_piece(struct batch *b, uint8_t kind, uint32_t region, uint64_t addr, uint32_t len)
{
	struct piece *last = b->n_pieces ? &b->pieces[b->n_pieces - 1] : NULL;

	if (!len)
		return true;
	if (last && last->kind == kind && kind == PIECE_BYTES) {
		last->len += len;
		return true;
	}
	if (last && last->kind == kind && kind == PIECE_ZERO && last->region == region &&
	    addr == last->addr + (uint64_t)(last->len / ZERO_RECORD) * MST_PAGE) {
		last->len += len;
		return true;
	}
	if ((!b->pieces || b->n_pieces == b->cap_pieces) && !grow(b))
		return false;
	b->pieces[b->n_pieces++] = (struct piece){ .kind = kind, .region = region, .len = len, .addr = addr };
	return true;
}
