/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this floor share. Words:
 *   chunk    one content: a buffer in memory, a slot on the SSD, or both
 *   map      one address (volume, block) that has that content; a chunk has one or more
 *   slot     a place on the SSD
 *   claim    a map as it is written down: "this block had this content after all writes up to stamp"
 *   doubtful a map from before the attachment, not proven yet
 *
 * Who owns what: tab.c the arrays, policy.c who stays, room.c how one goes; vol.c attachments; read.c and write.c
 * the way of requests; peek.c what is kept, for others; admit.c the way from memory to the SSD; ssd.c the device and its failures; persist.c
 * what outlives the process, format.c its layout; cache.c the whole.
 */
#ifndef CACHE_IMPL_H
#define CACHE_IMPL_H

#include "base/list.h"
#include "cache/cache.h"
#include "cache/format.h"
#include "cache/hash.h"
#include "cache/tab.h"
#include "env/fiber.h"

#define LOG_SUB "cache"

#define CACHE_WRITES 256u                   /* blocks on their way to the SSD, also half of memory at most */
#define CACHE_PATIENCE (250 * NS_PER_MS)    /* with a read of the SSD */
#define CACHE_ERRORS_MAX 32u                /* after so many the SSD is passed by for good */
#define CACHE_VOLS_MAX 65535u
#define CACHE_TICKETS 4096u

/* A volume that something is kept of, for as long as the cache is open. */
struct known_vol {
	struct uuid volume;
	uint16_t id;
	struct cache_vol *owner; /* the attachment; NULL: all its maps are doubtful */
	uint64_t maps, doubtful; /* how many, and of these */
};

/* One attachment; cut off when there is a later one. */
struct cache_vol {
	struct cache *c;
	struct known_vol *v;
	uint64_t seq, stamp_max;
};

/* Writes of a part of a block, by a hash of its address: was one the only one? */
struct cache_ticket {
	uint32_t begun, inflight;
};

/* One I/O to the SSD. */
struct ssd_io {
	struct env_io io;
	struct list link;      /* in cache.reads or cache.writes */
	struct cache *c;
	uint32_t chunk, other; /* other: the candidate that a new chunk is compared with */
	void *buf;
	uint64_t begun;
	/* of a cached read; NULL: nobody waits (any more) */
	struct cache_read *r;
	uint8_t *dst;
	uint32_t skip, n;
};

struct cache {
	struct env *e;
	struct cache_opts o;
	char path[512];
	struct tab t;
	struct list free_bufs;     /* in the buffers themselves */
	uint32_t bufs, bufs_max, nfree_bufs;
	struct fp_key *key;
	struct known_vol **vols;
	uint32_t nvols;
	struct cache_ticket *tickets;

	/* the SSD */
	struct env_file *file;
	struct cache_geo geo;
	struct uuid id;            /* of this formatting */
	uint64_t wr;               /* slots written so far, over all lives */
	bool ssd_off, ssd_stalled;
	bool said_error, said_corrupt, said_stall;
	struct list reads, writes; /* struct ssd_io under way */
	uint32_t nreads, nwrites, ncompares; /* reads: also those to compare */
	struct env_timer patience, gauges;
	struct list done;          /* struct cache_read served from memory */
	struct env_task done_task;

	/* what is written down */
	uint64_t *dirty;           /* bit per page of claims */
	uint32_t flush_at, refresh_at;
	bool refresh;
	bool closing, flusher;
	struct fiber_cond changed;

	uint64_t miss_ns;          /* mean time of a miss, ns, over the last dozens */
	struct cache_info st;
	struct metric *m_hit_ram, *m_hit_ssd, *m_miss, *m_fill, *m_admit, *m_share, *m_evict, *m_error, *m_corrupt, *m_saved;
	struct metric *m_ram, *m_ssd;
};

/* What is current has all writes up to this one. */
static inline uint64_t cache_stamp(const struct cache_vol *cv)
{
	return MIN(cv->seq, cv->stamp_max);
}

static inline bool cache_live(const struct cache_vol *cv)
{
	return cv->v->owner == cv;
}

/* Bits of chunk.touched: the 4 KiB parts of [from, to) of a block. */
static inline uint16_t cache_parts(uint32_t from, uint32_t to)
{
	uint32_t a = from / HCI_BLOCK, b = (to + HCI_BLOCK - 1) / HCI_BLOCK;

	return (uint16_t)(((UINT32_C(1) << b) - 1) & ~((UINT32_C(1) << a) - 1));
}

static inline bool cache_ssd_ok(const struct cache *c)
{
	return c->file && !c->ssd_off && !c->ssd_stalled;
}

/* room.c: tab.h with its consequences: dirty pages, counts, what is free when nothing holds it any more. */
void cache_unmap(struct cache *c, uint32_t m);
bool cache_map(struct cache *c, struct cache_vol *cv, uint64_t block, uint32_t k); /* false: no room */
void cache_drop_chunk(struct cache *c, uint32_t k);  /* all its maps */
void cache_chunk_check(struct cache *c, uint32_t k); /* nothing holds it: it goes */
void cache_dirty(struct cache *c, uint32_t m);       /* the page with its claim is to be written */
/* A buffer of one block, with room made for it; NULL when the bound does not allow it. */
void *cache_buf_get(struct cache *c);
void cache_buf_put(struct cache *c, void *buf);

/* ssd.c */
int ssd_open(struct cache *c, struct hci_error *err); /* parks; 0 also when the SSD is passed by */
void ssd_close(struct cache *c);                      /* parks */
/* For chunk k, which is pinned until ssd_io_end(). NULL: no memory. */
struct ssd_io *ssd_io_new(struct cache *c, uint32_t k);
void ssd_read(struct ssd_io *s, uint32_t slot, void (*done)(struct env_io *));
void ssd_write(struct ssd_io *s, uint32_t slot, void (*done)(struct env_io *));
/* After a read: is it what was put there? What is not is counted, and dropped. */
bool ssd_good(struct ssd_io *s);
void ssd_io_end(struct ssd_io *s);                    /* frees it, not its buffer */
void ssd_error(struct cache *c, const char *what, int64_t result);
void ssd_init(struct cache *c);

/* read.c: a part of it came, or will not. */
void cache_read_part(struct cache_read *r, bool ok);
void cache_done_task(struct env_task *t);

/* admit.c: from memory to the SSD, or to an equal block that is there. */
void cache_admit(struct cache *c, uint32_t k);

/* persist.c */
int cache_load(struct cache *c);            /* parks; HCI_E_NOMEM or 0 */
int cache_flush_start(struct cache *c);
void cache_flush_end(struct cache *c);      /* parks; the last time */

/* peek.c: numbers of blocks, ascending from then on. HCI_E_NOMEM. */
int cache_sort(uint64_t *v, size_t n);

/* vol.c */
struct known_vol *cache_known(struct cache *c, const struct uuid *volume); /* made when it is new; NULL: no room */

#endif
