/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on the cache's SSD: docs/cache-format.md. Pure functions: no I/O here. Whatever is read is a stranger's
 * until a page's checksum, identity and every number in it were looked at.
 */
#ifndef CACHE_FORMAT_H
#define CACHE_FORMAT_H

#include <hci/error.h>

#include "base/uuid.h"
#include "cache/hash.h"
#include "replica/page.h"

#define CACHE_VERSION 1
#define CACHE_CLAIMS_OFF 65536u  /* where the pages of claims begin */
#define CACHE_PAGE_CLAIMS 72u
#define CACHE_BLOCK_BITS 40      /* block numbers are below 2^40 */

/* Where things are, given size and block. */
struct cache_geo {
	uint32_t block;
	uint32_t slots;
	uint32_t claims, pages; /* pages of CACHE_PAGE_CLAIMS */
	uint64_t data_off, size;
};
/* False: too small or too large. */
bool cache_geo_of(uint64_t size, uint32_t block, struct cache_geo *g);

struct cache_super {
	struct uuid id;      /* drawn when it was formatted */
	struct uuid cluster;
	uint64_t size, created;
	uint32_t block;
	uint8_t seed[FP_SEED];
};

struct claim {
	struct uuid volume;
	uint64_t block, stamp;
	uint64_t fp;
	uint64_t wr;   /* the slot was the wr-th to be written: of two claims for a slot with other content the later holds */
	uint32_t slot;
};

/* page: HCI_BLOCK bytes */
void cache_super_encode(const struct cache_super *s, void *page);
/* pair: two pages. 0; HCI_E_NOTFOUND: never written; HCI_E_CORRUPT; HCI_E_VERSION. */
int cache_super_decode(const void *pair, struct cache_super *s);

/* Claims of page number `index`; a claim with the null volume is none. */
void claims_encode(const struct uuid *id, uint32_t index, const struct claim c[CACHE_PAGE_CLAIMS], void *page);
/* How many claims make sense; the others are null. 0 also for a page that is torn, rotten, or not of this cache. */
unsigned claims_decode(const void *page, const struct uuid *id, uint32_t index, const struct cache_geo *g,
		       struct claim c[CACHE_PAGE_CLAIMS]);

#endif
