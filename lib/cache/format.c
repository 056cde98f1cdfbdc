/* SPDX-License-Identifier: Apache-2.0 */
/* See format.h. */
#include "cache/format.h"

#define SUPER_MAGIC UINT64_C(0x3148434143494843) /* "CHICACH1" */
#define CLAIM_MAGIC UINT64_C(0x314d4c4343494843) /* "CHICCLM1" */

struct super_page {
	struct page_hdr h; /* serial 1; disk: the cache's id */
	struct uuid cluster;
	uint64_t size, created;
	uint32_t block, zero;
	uint8_t seed[FP_SEED];
};

struct claim_rec {
	struct uuid volume;
	uint64_t block, stamp, fp, wr;
	uint32_t slot, zero;
};

struct claim_page {
	struct page_hdr h; /* serial: number of the page */
	struct claim_rec rec[CACHE_PAGE_CLAIMS];
};
_Static_assert(sizeof(struct claim_rec) == 56, "on disk");
_Static_assert(sizeof(struct claim_page) <= HCI_BLOCK, "on disk");

bool cache_geo_of(uint64_t size, uint32_t block, struct cache_geo *g)
{
	uint64_t slots, claims, pages, data;

	if (block < HCI_BLOCK || block > 65536 || block & (block - 1) || size > UINT64_C(1) << 44)
		return false;
	if (size < CACHE_CLAIMS_OFF + 65536 + 2 * (uint64_t)block)
		return false;
	/* Half as many claims more than slots, as a slot may have several: see docs/cache-format.md. */
	slots = (size - CACHE_CLAIMS_OFF) / block;
	for (;;) {
		claims = slots + slots / 2;
		pages = (claims + CACHE_PAGE_CLAIMS - 1) / CACHE_PAGE_CLAIMS;
		data = ROUND_UP(CACHE_CLAIMS_OFF + pages * HCI_BLOCK, 65536);
		if (data + slots * block <= size)
			break;
		slots -= MAX((data + slots * block - size) / block, (uint64_t)1);
	}
	if (!slots || pages * CACHE_PAGE_CLAIMS > UINT32_MAX / 2)
		return false;
	*g = (struct cache_geo){ .block = block, .slots = (uint32_t)slots, .pages = (uint32_t)pages, .size = size,
				 .claims = (uint32_t)(pages * CACHE_PAGE_CLAIMS), .data_off = data };
	return true;
}

void cache_super_encode(const struct cache_super *s, void *page)
{
	struct super_page *p = page;

	memset(page, 0, HCI_BLOCK);
	p->cluster = s->cluster;
	p->size = s->size;
	p->created = s->created;
	p->block = s->block;
	memcpy(p->seed, s->seed, sizeof(p->seed));
	page_seal(page, SUPER_MAGIC, CACHE_VERSION, 1, &s->id);
}

/* Nothing, or the first page that was torn as it was written: whatever else is there is somebody's. */
static bool blank(const uint8_t *page)
{
	uint64_t magic;

	memcpy(&magic, page, sizeof(magic));
	return magic == SUPER_MAGIC || (!page[0] && !memcmp(page, page + 1, HCI_BLOCK - 1));
}

int cache_super_decode(const void *pair, struct cache_super *s)
{
	const struct super_page *p;
	struct cache_geo g;
	unsigned which;

	switch (page_pick(pair, SUPER_MAGIC, CACHE_VERSION, NULL, &which, NULL)) {
	case PAGE_VALID:
		break;
	case PAGE_EMPTY:
		return blank(pair) && blank((const uint8_t *)pair + HCI_BLOCK) ? HCI_E_NOTFOUND : HCI_E_CORRUPT;
	case PAGE_VERSION:
		return HCI_E_VERSION;
	default:
		return HCI_E_CORRUPT;
	}
	p = (const void *)((const uint8_t *)pair + which * HCI_BLOCK);
	if (!cache_geo_of(p->size, p->block, &g))
		return HCI_E_CORRUPT;
	*s = (struct cache_super){ .id = p->h.disk, .cluster = p->cluster, .size = p->size, .created = p->created,
				   .block = p->block };
	memcpy(s->seed, p->seed, sizeof(s->seed));
	return 0;
}

void claims_encode(const struct uuid *id, uint32_t index, const struct claim c[CACHE_PAGE_CLAIMS], void *page)
{
	struct claim_page *p = page;

	memset(page, 0, HCI_BLOCK);
	for (unsigned i = 0; i < CACHE_PAGE_CLAIMS; i++)
		if (!uuid_is_null(&c[i].volume))
			p->rec[i] = (struct claim_rec){ .volume = c[i].volume, .block = c[i].block, .stamp = c[i].stamp,
							.fp = c[i].fp, .wr = c[i].wr, .slot = c[i].slot };
	page_seal(page, CLAIM_MAGIC, CACHE_VERSION, index, id);
}

unsigned claims_decode(const void *page, const struct uuid *id, uint32_t index, const struct cache_geo *g,
		       struct claim c[CACHE_PAGE_CLAIMS])
{
	const struct claim_page *p = page;
	unsigned n = 0;

	memset(c, 0, CACHE_PAGE_CLAIMS * sizeof(*c));
	if (page_check(page, CLAIM_MAGIC, CACHE_VERSION, id) != PAGE_VALID || p->h.serial != index)
		return 0;
	for (unsigned i = 0; i < CACHE_PAGE_CLAIMS; i++) {
		const struct claim_rec *r = &p->rec[i];

		if (uuid_is_null(&r->volume) || r->slot >= g->slots || r->block >> CACHE_BLOCK_BITS ||
		    r->stamp >> 62)
			continue;
		c[i] = (struct claim){ .volume = r->volume, .block = r->block, .stamp = r->stamp, .fp = r->fp,
				       .wr = r->wr, .slot = r->slot };
		n++;
	}
	return n;
}
