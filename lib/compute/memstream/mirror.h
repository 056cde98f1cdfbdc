/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder's half of the page cache: which page the other side keeps in which slot, and its content. Found by where a
 * page lies (for deltas) and by what is in it (for repeats).
 *
 * What goes when it is full: pages that were sent once, oldest first; one that was sent again, or served as a repeat,
 * is passed over some times (clock with a small count), as what was changed twice will be changed again.
 *
 * It begins with some of its slots, and takes one more whenever a page comes again that had to go: a guest that changes more than fits
 * would find nothing here, pass after pass. Whether one had to go a filter knows, which may be wrong and so let it grow too early.
 */
#ifndef MEMSTREAM_MIRROR_H
#define MEMSTREAM_MIRROR_H

#include "compute/memstream/slots.h"

#define MIRROR_NONE UINT32_MAX

struct mirror_slot {
	uint64_t key, quick;
	uint32_t next_key, next_quick; /* chains */
	uint32_t batch;                /* that wrote it last, plus one; 0: free */
	uint16_t local;                /* which page of it */
	uint8_t warm;
};

struct mirror {
	struct slots slots;
	struct mirror_slot *s;
	uint32_t *by_key, *by_quick, mask;
	uint32_t used, hand;
	uint32_t room;  /* slots that it may use by now */
	uint64_t *gone; /* filter of the places whose page had to go; NULL while none had to, or if it does not grow */
};

/* n: slots at most; room: to begin with. False: no memory. */
bool mirror_init(struct mirror *m, uint32_t n, uint32_t room);
void mirror_free(struct mirror *m);

static inline uint64_t mirror_key(uint32_t region, uint64_t addr)
{
	return (addr / HCI_BLOCK + (uint64_t)region * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
}

/* The slot with the page last sent for this place; MIRROR_NONE. */
uint32_t mirror_by_key(const struct mirror *m, uint64_t key);
/* A slot with just these bytes. */
uint32_t mirror_by_content(const struct mirror *m, uint64_t quick, const void *page);
/* Was used again: shall stay. */
void mirror_warm(struct mirror *m, uint32_t slot);
/* Puts a page: into `slot`, or (MIRROR_NONE) one that is free or the least worth. MIRROR_NONE: there is none, or no memory. */
uint32_t mirror_put(struct mirror *m, uint32_t slot, uint64_t key, uint64_t quick, const void *page, uint32_t batch,
		    uint16_t local);

#endif
