/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on a cache's SSD: a superblock pair, then a page of claims, from the input. Once as it is, and once with the
 * checksums and identities made right, so that the numbers behind them are reached. What decodes makes sense and
 * encodes to what decodes to the same.
 */
#include <stdlib.h>

#include "cache/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_super(const uint8_t *pair, struct cache_super *s, struct cache_geo *g)
{
	uint8_t page[2 * HCI_BLOCK] = { 0 };
	struct cache_super again;

	memset(s, 0, sizeof(*s));
	if (cache_super_decode(pair, s)) {
		if (!cache_geo_of(8 << 20, 16384, g))
			abort();
		return;
	}
	if (!cache_geo_of(s->size, s->block, g) || g->data_off + (uint64_t)g->slots * g->block > s->size)
		abort();
	cache_super_encode(s, page);
	if (cache_super_decode(page, &again) || memcmp(s->seed, again.seed, sizeof(s->seed)) || s->size != again.size ||
	    s->block != again.block || !uuid_eq(&s->id, &again.id) || !uuid_eq(&s->cluster, &again.cluster))
		abort();
}

static void check_claims(const uint8_t *page, const struct uuid *id, uint32_t index, const struct cache_geo *g)
{
	struct claim c[CACHE_PAGE_CLAIMS], again[CACHE_PAGE_CLAIMS];
	uint8_t out[HCI_BLOCK];
	unsigned n = claims_decode(page, id, index, g, c), found = 0;

	for (unsigned i = 0; i < CACHE_PAGE_CLAIMS; i++) {
		if (uuid_is_null(&c[i].volume))
			continue;
		found++;
		if (c[i].slot >= g->slots || c[i].block >> CACHE_BLOCK_BITS || c[i].stamp >> 62)
			abort();
	}
	if (found != n)
		abort();
	claims_encode(id, index, c, out);
	if (claims_decode(out, id, index, g, again) != n || memcmp(c, again, sizeof(c)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t pages[3 * HCI_BLOCK];
	struct cache_super s;
	struct cache_geo g;
	uint64_t magic;

	memset(pages, 0, sizeof(pages));
	memcpy(pages, data, size < sizeof(pages) ? size : sizeof(pages));
	check_super(pages, &s, &g);
	check_claims(pages + 2 * HCI_BLOCK, &s.id, 0, &g);
	/* The same with everything in order but the numbers. */
	cache_super_encode(&s, pages + HCI_BLOCK);
	memcpy(&magic, pages + HCI_BLOCK, sizeof(magic));
	page_seal(pages, magic, CACHE_VERSION, 1, &s.id);
	check_super(pages, &s, &g);
	claims_encode(&s.id, 5, (struct claim[CACHE_PAGE_CLAIMS]){ { { { 0 } }, 0, 0, 0, 0, 0 } }, pages);
	memcpy(&magic, pages, sizeof(magic));
	page_seal(pages + 2 * HCI_BLOCK, magic, CACHE_VERSION, 5, &s.id);
	check_claims(pages + 2 * HCI_BLOCK, &s.id, 5, &g);
	return 0;
}
