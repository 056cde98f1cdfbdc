/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read cache on the reading node: blocks of volumes in memory and on an SSD in front of the replicas.
 *
 * One struct cache a node, on its loop; one struct cache_vol an attached volume. The cache knows nothing of
 * replicas: lib/volume tells it what is read and written, and asks it first. What it hands out is what the
 * volume reads at that moment, never anything older; docs/cache-format.md has the argument. It rests on
 * three things that the caller grants:
 *
 *   - a range is not written while a fill or a cached read of it is under way, and not filled while a write
 *     to it is (lib/volume orders overlapping requests);
 *   - each write has a number that no other write of the volume has, before or after, in any attachment;
 *   - replicas can tell the number that wrote each region last.
 *
 * No failure of the SSD is a failure of anybody's I/O: what cannot be served is a miss.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "base/uuid.h"
#include "env/env.h"

struct cache;
struct cache_vol;

#define CACHE_BLOCK_MIN 4096u
#define CACHE_BLOCK_MAX 65536u
#define CACHE_BLOCK 16384u           /* default */
#define CACHE_RAM (UINT64_C(64) << 20) /* default */
#define CACHE_SIZE_MIN (UINT64_C(1) << 20)
#define CACHE_SIZE_MAX (UINT64_C(16) << 40)

struct cache_opts {
	const char *path;    /* file or block device on the SSD; NULL: memory only */
	uint64_t size;       /* of the SSD tier, bytes; 0: all of a block device, or of a file that exists */
	uint64_t ram;        /* bound of the memory tier's blocks, bytes; 0: CACHE_RAM */
	uint32_t block;      /* 4096..65536, a power of two; 0: CACHE_BLOCK */
	struct uuid cluster; /* whose data may be in it */
	uint32_t mutate;     /* 0. Tests break a rule on purpose with it: CACHE_MUTATE_* */
};

/* A write leaves what is cached of its range as it is. */
#define CACHE_MUTATE_KEEP_OLD 1u
/* At attach everything that was kept counts as current. */
#define CACHE_MUTATE_TRUST 2u
/* What comes from the SSD is not compared with its fingerprint. */
#define CACHE_MUTATE_NO_CHECK 4u

/*
 * From a fiber. An SSD that cannot be opened, is too small or fails is passed by: the cache then works in memory
 * alone, and says so in the log. Refused: HCI_E_INVAL (options), HCI_E_EXISTS (the file holds something else),
 * HCI_E_STATE (the cache of another cluster), HCI_E_VERSION, HCI_E_BUSY (in use), HCI_E_NOMEM.
 */
int cache_open(struct env *e, const struct cache_opts *o, struct cache **out, struct hci_error *err);
/* From a fiber. Writes down what is cached, so that the next one begins warm. No volume may be attached. */
void cache_close(struct cache *c);

struct cache_info {
	uint32_t block;
	uint32_t ssd_failed;               /* passed by since it failed */
	uint64_t ram_max, ram_used;        /* bytes of blocks */
	uint64_t ssd_size, ssd_used;       /* bytes of blocks */
	uint64_t memory;                   /* bytes of the index */
	uint64_t blocks;                   /* addresses cached; more than places when places are shared */
	uint64_t hits_ram, hits_ssd, misses;
	uint64_t fills, admitted, shared, evicted, invalidated;
	uint64_t errors, corrupt;          /* of the SSD: I/O that failed or took too long; wrong content */
	uint64_t proven, outdated;         /* kept from before: current at the next attach, or not */
	uint64_t saved_ns;                 /* time that misses would have taken, less that of the hits */
};
void cache_info(const struct cache *c, struct cache_info *out);
uint32_t cache_block(const struct cache *c);

/* ---- volumes ---- */

/*
 * A volume is attached: seq is its last write's number, larger than those of all attachments before and smaller
 * than any to come; the stamps that this attachment leaves do not exceed stamp_max, which the next attachment's
 * first write does. An earlier attachment of the volume through this cache is over by this. NULL: no memory, not cached.
 */
struct cache_vol *cache_attach(struct cache *c, const struct uuid *volume, uint64_t seq, uint64_t stamp_max);
/* No request of it is under way. NULL is fine. */
void cache_detach(struct cache_vol *cv);

/*
 * What was kept from before the attachment is used once it is proven. cache_doubts lists its blocks, ascending;
 * mem_free(d->blocks). cache_prove: the last write of such a block, or of a region that it lies in, is number seq.
 * If what was kept is younger it is current from now on, else it goes. Writes of this attachment need not be told.
 */
struct cache_doubts {
	uint64_t *blocks; /* in units of cache_block() */
	size_t n;
	uint64_t since;   /* writes up to this one are in all of it */
};
int cache_doubts(struct cache_vol *cv, struct cache_doubts *d);
void cache_prove(struct cache_vol *cv, uint64_t block, uint64_t seq);

/* ---- reads ---- */

struct cache_read {
	void (*done)(struct cache_read *r); /* set by the caller */
	bool ok;                            /* set when done: buf is filled; false: read it elsewhere */
	/* of the cache */
	struct list link;
	struct cache *c;
	uint32_t left;
	bool failed, quiet; /* quiet: neither a hit nor a miss of anybody */
	uint64_t begun, bytes;
	uint8_t tier;
};

/* Would all of it be found now? */
bool cache_has(const struct cache_vol *cv, uint64_t off, uint64_t len);
/* False: a miss, counted. True: done() follows, never from inside. r and buf are the cache's until then. */
bool cache_read(struct cache_vol *cv, struct cache_read *r, void *buf, uint64_t off, uint64_t len);
/*
 * What was read elsewhere: blocks that are whole in it are taken (copied). [used, used_len): what was asked for, for
 * the admission policy. ns: how long it took.
 */
void cache_fill(struct cache_vol *cv, uint64_t off, uint64_t len, const void *data, uint64_t used, uint64_t used_len,
		uint64_t ns);

/* ---- what is kept, current or not ---- */

/*
 * For who can tell by himself whether it is what he wants (a migration, by its hash): blocks of a volume, attached here or not, as they
 * were at some time. Neither counts as a read nor changes what stays. list: the numbers of so many at most, in units of cache_block(), ascending;
 * mem_free(*out); HCI_E_NOMEM. peek, from a fiber: a whole block; HCI_E_NOTFOUND, also when the SSD cannot give it.
 */
int cache_list(const struct cache *c, const struct uuid *volume, size_t most, uint64_t **out, size_t *n);
int cache_peek(struct cache *c, const struct uuid *volume, uint64_t block, void *buf);

/* ---- writes ---- */

struct cache_write {
	uint32_t edge[2];   /* blocks at its ends that are written in part: what memory had of them */
	uint32_t ticket[2];
	bool had, hot;      /* some of it was cached, was on the SSD */
};

/* Before a write is sent anywhere: from here on the range is a miss. seq: its number. */
void cache_write_begin(struct cache_vol *cv, struct cache_write *w, uint64_t off, uint64_t len, uint64_t seq);
/* It is over. data NULL: zeroes, or it failed, or nobody knows: nothing is kept. */
void cache_write_end(struct cache_vol *cv, struct cache_write *w, uint64_t off, uint64_t len, const void *data);

#endif
