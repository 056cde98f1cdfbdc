/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache's index in memory, without I/O: chunks, the maps that lead to them, free slots, and who goes when room
 * is needed (policy.c). Everything is in a few arrays of fixed size, taken once; links are 32-bit numbers.
 */
#ifndef CACHE_TAB_H
#define CACHE_TAB_H

#include "base/base.h"

#define TAB_NONE UINT32_MAX

#define CH_USED 1u
#define CH_WRITING 2u /* on its way to the SSD: buf stays */
#define CH_RAMREF 4u  /* read while in memory, since it came or was last spared */
#define CH_HASHED 8u  /* in the table of fingerprints */
#define CH_IN_RAM 16u /* in the queue of memory */
#define CH_IN_MAIN 32u

struct chunk {
	uint8_t *buf;     /* NULL: not in memory */
	uint64_t fp, wr;  /* when it has a slot */
	uint32_t maps;    /* the first */
	uint32_t ram_prev, ram_next;
	uint32_t main_prev, main_next;
	uint32_t fp_next;
	uint32_t slot;    /* TAB_NONE: not on the SSD */
	uint16_t touched; /* bit per sixteenth of a block (of 4 KiB at least) that was read since it came */
	uint16_t pins;    /* I/O that needs it: it stays, also without maps */
	uint8_t freq;     /* 0..3 */
	uint8_t flags;
	uint16_t zero;
};

#define MAP_DOUBT 1u

struct map {
	uint64_t block : 40, vol : 16, flags : 8;
	uint64_t stamp; /* of a doubtful one */
	uint32_t chunk; /* TAB_NONE: free */
	uint32_t hnext, sprev, snext;
};

struct queue {
	uint32_t head, tail, n; /* in at the head, out at the tail */
};

struct ghost {
	uint32_t tag, when;
};

struct tab {
	struct chunk *chunks;
	struct map *maps;
	uint32_t *mhash, *fhash, *slots; /* slots: the chunk of each; of a free one the next free */
	struct ghost *ghosts;
	uint32_t nchunks, nmaps, nslots;
	uint32_t mmask, fmask, gmask;
	uint32_t free_chunk, free_map, free_slot, slots_free, maps_used, map_hand, ghost_now;
	struct queue ram, main;
	uint64_t bytes;
	bool loading; /* slots tell only whose they are; until tab_slots_free() */
};

/* slots 0: memory only. ram: blocks. False: no memory. */
bool tab_init(struct tab *t, uint32_t slots, uint32_t maps, uint32_t ram);
void tab_fini(struct tab *t);

uint32_t tab_map_find(const struct tab *t, uint16_t vol, uint64_t block);
/* TAB_NONE: none is free. */
uint32_t tab_map_add(struct tab *t, uint16_t vol, uint64_t block, uint32_t chunk);
/* The same with the number of the map, which is free. Before the first use of the table. */
void tab_map_put(struct tab *t, uint32_t m, uint16_t vol, uint64_t block, uint32_t chunk);
void tab_map_del(struct tab *t, uint32_t m);
void tab_map_move(struct tab *t, uint32_t m, uint32_t chunk); /* to another chunk */
/* After tab_map_put: makes the rest free. */
void tab_maps_free(struct tab *t);

uint32_t tab_chunk_new(struct tab *t); /* TAB_NONE: none is free */
void tab_chunk_del(struct tab *t, uint32_t k);  /* no maps, no buffer; gives the slot back */
void tab_fp_add(struct tab *t, uint32_t k);
void tab_fp_del(struct tab *t, uint32_t k);
uint32_t tab_fp_find(const struct tab *t, uint64_t fp);
uint32_t tab_slot_new(struct tab *t, uint32_t k);
void tab_slot_put(struct tab *t, uint32_t k); /* gives the chunk's back */
void tab_slots_free(struct tab *t); /* after loading: those without a chunk are free */

/* ---- policy.c ---- */

void policy_ram_in(struct tab *t, uint32_t k);
void policy_ram_out(struct tab *t, uint32_t k);
void policy_main_in(struct tab *t, uint32_t k);
void policy_main_out(struct tab *t, uint32_t k);
/* It was read: parts is the bits of touched. True: this was a second look, it is worth a place on the SSD. */
bool policy_hit(struct tab *t, uint32_t k, uint16_t parts);
/* Whose buffer goes next; TAB_NONE: all are needed. Still in the queue. */
uint32_t policy_ram_victim(struct tab *t);
/* Who leaves the SSD next; TAB_NONE: all are needed. Still in the queue. */
uint32_t policy_main_victim(struct tab *t);
/* It left without ever having been on the SSD. */
void policy_ghost_add(struct tab *t, uint16_t vol, uint64_t block);
/* Did it leave lately? Forgets it. */
bool policy_ghost_take(struct tab *t, uint16_t vol, uint64_t block);

#endif
