/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing, checking and choosing of page pairs. See page.h. */
#include "replica/page.h"

#include "base/crc32c.h"
#include "base/uuid.h"

static uint32_t page_crc(const void *page)
{
	static const uint32_t zero;
	const uint8_t *p = page;
	const size_t at = offsetof(struct page_hdr, crc);
	uint32_t crc = crc32c(0, p, at);

	crc = crc32c(crc, &zero, sizeof(zero));
	return crc32c(crc, p + at + sizeof(zero), HCI_BLOCK - at - sizeof(zero));
}

void page_seal(void *page, uint64_t magic, uint16_t version, uint64_t serial,
	       const struct uuid *disk)
{
	struct page_hdr *h = page;

	h->magic = magic;
	h->version = version;
	h->zero = 0;
	h->serial = serial;
	h->disk = *disk;
	h->crc = page_crc(page);
}

static bool all_zero(const void *page)
{
	const uint8_t *p = page;

	return p[0] == 0 && memcmp(p, p + 1, HCI_BLOCK - 1) == 0;
}

enum page_state page_check(const void *page, uint64_t magic, uint16_t version,
			   const struct uuid *disk)
{
	const struct page_hdr *h = page;

	if (all_zero(page))
		return PAGE_EMPTY;
	if (h->magic != magic || h->crc != page_crc(page))
		return PAGE_BAD;
	if (h->version != version)
		return PAGE_VERSION;
	if (disk && !uuid_eq(&h->disk, disk))
		return PAGE_BAD;
	return PAGE_VALID;
}

enum page_state page_pick(const void *pair, uint64_t magic, uint16_t version,
			  const struct uuid *disk, unsigned *which, bool *torn)
{
	const uint8_t *p = pair;
	enum page_state s[2];

	for (unsigned i = 0; i < 2; i++)
		s[i] = page_check(p + i * HCI_BLOCK, magic, version, disk);
	if (torn)
		*torn = s[0] == PAGE_BAD || s[1] == PAGE_BAD;
	if (s[0] == PAGE_VALID && s[1] == PAGE_VALID) {
		const struct page_hdr *a = pair;
		const struct page_hdr *b = (const void *)(p + HCI_BLOCK);

		*which = b->serial > a->serial;
		return PAGE_VALID;
	}
	for (unsigned i = 0; i < 2; i++) {
		*which = i;
		if (s[i] == PAGE_VALID)
			return PAGE_VALID;
	}
	if (s[0] == PAGE_VERSION || s[1] == PAGE_VERSION)
		return PAGE_VERSION;
	/* One empty, one bad: the very first write was torn. */
	return s[0] == PAGE_EMPTY || s[1] == PAGE_EMPTY ? PAGE_EMPTY : PAGE_BAD;
}
