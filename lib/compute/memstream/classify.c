/* SPDX-License-Identifier: Apache-2.0 */
/* From a batch to a plan: see classify.h. */
#include "compute/memstream/classify.h"

#include <hci/error.h>

#include "base/mem.h"
#include "compute/memstream/ops.h"

struct classifier {
	uint32_t without;
};

void mplan_reset(struct mplan *p)
{
	buf_reset(&p->ops);
	buf_reset(&p->lit);
	buf_reset(&p->delta);
	p->n_fresh = p->n_raw = 0;
	memset(p->pages, 0, sizeof(p->pages));
	memset(p->bytes, 0, sizeof(p->bytes));
	p->refs = false;
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

	(void)cache_pages;
	(void)providers;
	(void)n_providers;
	if (cl)
		cl->without = o->without;
	return cl;
}

void classifier_free(struct classifier *cl)
{
	mem_free(cl);
}

bool batch_hash(struct batch *b, const struct mst_opts *o)
{
	(void)b;
	(void)o;
	return true;
}

int classify(struct classifier *cl, struct batch *b, struct mplan *p)
{
	uint8_t op[11] = { OP_BYTES };

	(void)cl;
	buf_append(&p->ops, op, 1 + put_varint(op + 1, b->len));
	buf_append(&p->lit, b->raw, b->len);
	p->pages[MST_OTHER] += b->len;
	p->bytes[MST_OTHER] += b->len;
	return p->ops.failed || p->lit.failed ? HCI_E_NOMEM : 0;
}

void classifier_acked(struct classifier *cl, const struct batch *b)
{
	(void)cl;
	(void)b;
}
