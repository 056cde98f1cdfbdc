/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a batch to a plan of its message: each page is zero, the same as another, a reference, a change or new. Owns the
 * encoder's half of the mirrored page cache. Which page the other side keeps in which slot is decided here alone and told
 * to it, so that both halves are the same without any rule in common.
 */
#ifndef MEMSTREAM_CLASSIFY_H
#define MEMSTREAM_CLASSIFY_H

#include "base/buf.h"
#include "compute/memstream/aside.h"
#include "compute/memstream/batch.h"

#define BATCH_PAGES (MST_BATCH_MAX / MST_PAGE)

/* What goes into a message, in the order of its sections. Pages lie in the batch. */
struct mplan {
	struct buf ops, lit, delta;
	const uint8_t *fresh[BATCH_PAGES], *raw[BATCH_PAGES];
	uint32_t n_fresh, n_raw;
	uint32_t pages[MST_CLASSES]; /* of MST_OTHER the bytes */
	uint64_t bytes[MST_CLASSES]; /* before packing */
	uint32_t coming;             /* references to pages that another stream brings */
	uint32_t from[MST_KINDS];    /* references, by the provider's kind */
	enum aside_step step;        /* how much is to be done */
	bool hurry;                  /* no references that wait */
	bool whole;                  /* the bytes go as they are: nothing else of it matters */
	bool refs;                   /* some page is a reference: the batch is kept */
};

struct classifier;

/* providers: those in use, by their index in the decoder's hello; the others have no lookup. NULL: no memory. */
struct classifier *classifier_new(const struct mst_opts *o, uint32_t cache_pages, const struct mst_provider *providers,
				  uint32_t n_providers);
void classifier_free(struct classifier *cl);

/* What can be done before the batch's turn: finds its pages, and hashes them if told to. False: no memory. */
bool batch_pages(struct batch *b, const struct mst_hash *hash);
/* In the order of the batches. 0 or HCI_E_NOMEM. */
int classify(struct classifier *cl, struct batch *b, struct mplan *p);
/* The other side has this batch now. May run beside classify(). */
void classifier_acked(struct classifier *cl, const struct batch *b);
/* The other side could not use this reference. May run beside classify(). */
void classifier_refused(struct classifier *cl, const struct batch *b, uint32_t page);
void mplan_reset(struct mplan *p);
void mplan_free(struct mplan *p);

#endif
