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

/* ---- stamped ---- */

_Static_assert(PAGE_STAMPS_AT % 2 == 0 && PAGE_STAMPS_AT + PAGE_SECTORS * 2 <= HCI_BLOCK - 2, "not where a stamp is");

static uint8_t *stamp_at(void *page, unsigned sector)
{
	return (uint8_t *)page + (sector + 1) * PAGE_SECTOR - sizeof(uint16_t);
}

static uint16_t stamp_of(const void *page, unsigned sector)
{
	uint16_t v;

	memcpy(&v, (const uint8_t *)page + (sector + 1) * PAGE_SECTOR - sizeof(v), sizeof(v));
	return v;
}

void page_seal_stamped(void *page, uint64_t magic, uint16_t version, uint64_t serial, const struct uuid *disk)
{
	uint8_t *kept = (uint8_t *)page + PAGE_STAMPS_AT;
	uint16_t stamp = (uint16_t)serial;

	for (unsigned i = 0; i < PAGE_SECTORS; i++) {
		memcpy(kept + i * sizeof(stamp), stamp_at(page, i), sizeof(stamp));
		memcpy(stamp_at(page, i), &stamp, sizeof(stamp));
	}
	page_seal(page, magic, version, serial, disk);
}

void page_unstamp(void *page)
{
	uint8_t *kept = (uint8_t *)page + PAGE_STAMPS_AT;

	for (unsigned i = 0; i < PAGE_SECTORS; i++) {
		memcpy(stamp_at(page, i), kept + i * sizeof(uint16_t), sizeof(uint16_t));
		memset(kept + i * sizeof(uint16_t), 0, sizeof(uint16_t));
	}
}

/* Serial numbers go up by one, into the two places in turn: a place has the one before what is in the other, or the one after it. */
enum page_damage page_damage(const void *pair, enum page_state picked, unsigned which, bool torn)
{
	const uint8_t *p = pair;
	unsigned before = 0, after = 0;
	uint64_t serial = 0;

	if (!torn)
		return PAGE_WHOLE;
	if (picked == PAGE_VALID)
		serial = ((const struct page_hdr *)(const void *)(p + which * HCI_BLOCK))->serial;
	else if (picked == PAGE_EMPTY)
		which = all_zero(p) ? 0 : 1;
	else
		return PAGE_ROTTEN;
	p += !which * HCI_BLOCK;
	for (unsigned i = 0; i < PAGE_SECTORS; i++) {
		before += stamp_of(p, i) == (uint16_t)(serial ? serial - 1 : 0);
		after += stamp_of(p, i) == (uint16_t)(serial + 1);
	}
	if (before + after != PAGE_SECTORS || after == PAGE_SECTORS || (picked == PAGE_EMPTY && !after))
		return PAGE_ROTTEN;
	return after ? PAGE_TORN : PAGE_OLDER;
}
