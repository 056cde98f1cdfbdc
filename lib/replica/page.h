/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page that survives a torn write: 4 KiB, written in turn to one of two places; each carries a
 * serial number and a CRC32C, the valid one with the larger serial counts. Superblock, checkpoint,
 * slot records and region tables are such pairs. Pure functions: no I/O here.
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

#endif
