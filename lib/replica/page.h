/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page that survives a torn write: 4 KiB, written in turn to one of two places; each carries a
 * serial number and a CRC32C, the valid one with the larger serial counts. Superblock, checkpoint,
 * slot records and region tables are such pairs. Pure functions: no I/O here.
 *
 * Of a page with a damaged copy the other one may be the newest, or the one before, which is right for who has a log of what
 * came after it if the damage is a write that was cut off, and out of date if it is rot. Stamped pages tell: each sector ends with
 * the serial number, as NTFS's records do against torn writes. What was there is kept in the page.
 */
#ifndef REPLICA_PAGE_H
#define REPLICA_PAGE_H

#include "base/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "on-disk structures are little-endian");

#define PAGE_PAIR (2 * HCI_BLOCK)

struct page_hdr {
	uint64_t magic;
	uint32_t crc; /* of all 4096 bytes, with this field 0 */
	uint16_t version;
	uint16_t zero;
	uint64_t serial;
	struct uuid disk;
};
_Static_assert(sizeof(struct page_hdr) == 40, "on disk");

enum page_state {
	PAGE_VALID,
	PAGE_EMPTY,   /* never written: all zeroes */
	PAGE_BAD,     /* torn or rotten, or of another kind or disk */
	PAGE_VERSION, /* intact, of a version that we do not know */
};

void page_seal(void *page, uint64_t magic, uint16_t version, uint64_t serial,
	       const struct uuid *disk);
/* disk NULL: of any. */
enum page_state page_check(const void *page, uint64_t magic, uint16_t version,
			   const struct uuid *disk);
/*
 * The newer valid one of the two places at `pair`. *which is its index. When both are unusable:
 * EMPTY if one is empty (the first write was torn), VERSION if one is, else BAD. *torn (may be
 * NULL): the other place holds garbage.
 */
enum page_state page_pick(const void *pair, uint64_t magic, uint16_t version,
			  const struct uuid *disk, unsigned *which, bool *torn);

/* Stamped pages: these 16 bytes of theirs, and the last two of each sector, are not the caller's. */
#define PAGE_SECTOR 512u
#define PAGE_SECTORS (HCI_BLOCK / PAGE_SECTOR)
#define PAGE_STAMPS_AT 4064u
void page_seal_stamped(void *page, uint64_t magic, uint16_t version, uint64_t serial, const struct uuid *disk);
void page_unstamp(void *page); /* one that is valid; then its content is as it was before it was sealed */

enum page_damage {
	PAGE_WHOLE,  /* none */
	PAGE_OLDER,  /* what was picked is the newest: the copy before it rotted */
	PAGE_TORN,   /* the newest was being written over the copy before what was picked */
	PAGE_ROTTEN, /* perhaps the newest, and it had been written */
};
/* What page_pick() found of stamped pages. */
enum page_damage page_damage(const void *pair, enum page_state picked, unsigned which, bool torn);

#endif
