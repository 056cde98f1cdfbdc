/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a provider is worth asking. Owns two judgements, one at each side, both of which come round again: what was slow
 * or wrong a while ago need not be so now.
 *
 * Source: of the pages that were referred to, how many were asked for after all? When more than a quarter, nothing is
 * referred to for some thousand pages, for twice as many when it happens again at once. What is there and what another
 * stream brings are judged each by itself.
 * Destination: how long does a page take, on average? When longer than two milliseconds, a page over the link is quicker,
 * and only one in sixteen is read, to see whether it still takes so long.
 */
#ifndef MEMSTREAM_PROVIDER_H
#define MEMSTREAM_PROVIDER_H

#include "base/base.h"

struct worth {
	/* Source. used and pause are of who classifies, refused of who takes messages. */
	uint32_t used, refused_before, pause, pause_next;
	uint32_t refused; /* atomic */
	/* Destination, atomic. */
	uint64_t ns; /* a page takes, on average */
	uint32_t skipped;
};

/* Source: may the next page be no reference? Counts pages that may not. */
bool worth_pausing(struct worth *w);
static inline void worth_referred(struct worth *w)
{
	w->used++;
}
static inline void worth_refused(struct worth *w)
{
	__atomic_add_fetch(&w->refused, 1, __ATOMIC_RELAXED);
}

/* Destination: shall the next page be read? */
bool worth_reading(struct worth *w);
void worth_read(struct worth *w, uint64_t took_ns);

#endif
