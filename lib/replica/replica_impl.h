/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this floor share. Words:
 *   vol     what the disk holds of one volume; a struct repl_slot is one opening of it
 *   seg     one segment: two files and, in memory, its region tables and index
 *   node    the index of one region: which of its 16 blocks are in the log, and where
 *   frame   4 KiB of memory with a block that is in the log, so that it need not be read back
 *   sums    a page of checksums, of 62 regions; in memory while it is of use
 *   pass    one round of write-back: data, region tables, slot records, then the log's tail
 *
 * Who owns what: log.c the queue and the batches, direct.c writes that pass the log, index.c nodes and frames, segment.c files and
 * region tables, sums.c the checksums, read.c reads, writeback.c the passes (wb_take.c what they take, wb_data.c their
 * data), throttle.c the pace of writers, recover.c the way
 * back from the medium, slot.c openings and the fence, drop.c forgetting, space.c what is left,
 * logfile.c where the log is, disk.c the rest.
 */
#ifndef REPLICA_IMPL_H
#define REPLICA_IMPL_H

#include "base/list.h"
#include "env/env.h"
#include "env/fiber.h"
#include "env/mark.h"
#include "replica/log_format.h"
#include "replica/page.h"
#include "replica/replica.h"

#define LOG_SUB "replica"

#define REGION_BLOCKS (REPL_REGION / HCI_BLOCK)
#define MAP_REGIONS 256u               /* regions of one page of a region table */
#define SUM_REGIONS 62u                /* regions of one page of checksums */
#define SUM_BLOCKS (SUM_REGIONS * REGION_BLOCKS)
#define RING_OFF ((uint64_t)PAGE_PAIR) /* the log file begins with the checkpoint's pair */
#define LOG_SIZE_MIN (4 * MiB)
#define LOG_SIZE_MAX (64 * GiB)
#define CTL_RESERVE 64u /* blocks of the log kept for FENCE and DROP */
#define BATCHES 4u
#define IDLE_NS (200 * NS_PER_MS)
#define VOL_BUCKETS 256u
#define OPEN_SEGS_MAX 256u /* segments with open files */

/* A block's place: 0 none, LOC_ZERO to be zeroed, LOC_FILE in the segment file (direct.c), else its block in the
 * ring + 1. */
#define LOC_ZERO 0x80000000u
#define LOC_FILE 0x80000001u
static inline bool loc_is_data(uint32_t loc)
{
	return loc && loc < LOC_ZERO;
}

/* ---- on disk ---- */

#define SUPER_MAGIC UINT64_C(0x4b53494449434843) /* "CHCIDISK" */
#define CKPT_MAGIC UINT64_C(0x54504b4349434843)  /* "CHCICKPT" */
#define META_MAGIC UINT64_C(0x4154454d49434843)  /* "CHCIMETA" */
#define MAP_MAGIC UINT64_C(0x50414d5249434843)   /* "CHCIRMAP" */
#define SUM_MAGIC UINT64_C(0x534d555349434843)   /* "CHCISUMS" */
#define SCRUB_MAGIC UINT64_C(0x4252435349434843) /* "CHCISCRB" */
#define SCRUB_VERSION 1u
#define SUPER_VERSION 4u
#define CKPT_VERSION 1u
#define META_VERSION 1u
#define MAP_VERSION 1u
#define SUM_VERSION 1u

#define SUPER_CLEAN 1u   /* all is in the segments: the log is not needed */
#define SUPER_EXT_LOG 2u /* the log is on another device, at log_path */

struct super_page {
	struct page_hdr h;
	struct uuid cluster;
	uint64_t log_size; /* bytes of the ring */
	uint64_t epoch;    /* times opened */
	uint64_t created;  /* ns since 1970 */
	uint32_t flags;
	uint32_t block, region;
	uint32_t zero;
	uint64_t lsn;         /* with CLEAN: of the next batch */
	char log_path[256];   /* with EXT_LOG: a directory or a device, as given when formatted */
	uint64_t log_key;     /* random: see struct logf_hdr */
};

struct ckpt_page {
	struct page_hdr h;
	uint64_t tail_lsn, min_epoch;
	uint64_t tail_block; /* of the ring */
	uint64_t epoch;      /* of the last opening: never below the superblock's unless this is an old copy */
};

struct meta_page {
	struct page_hdr h;
	struct uuid volume;
	uint64_t generation, segsize, last_seq, stable_seq;
	uint64_t lsn; /* all batches below it had been durable when this was written */
};

struct map_page {
	struct page_hdr h;
	struct uuid volume;
	uint32_t segment, first_region;
	uint32_t regions, zero;
	uint64_t seq[MAP_REGIONS];   /* with REPL_SEQ_ZERO and REPL_SEQ_COPIED */
	uint16_t valid[MAP_REGIONS]; /* bit per block: the segment file has it; without it, it is
					zeroes */
	uint8_t side[MAP_REGIONS / 8]; /* bit per region: it is in the second half of the file */
};

/* Behind the region tables in the same file, pairs as well. */
struct sum_page {
	struct page_hdr h;
	struct uuid volume;
	uint32_t segment, first_region;
	uint32_t regions, zero;
	uint64_t side;            /* bit per region, as in the region table, whose second witness this is */
	uint32_t sum[SUM_BLOCKS]; /* SUM_NONE: the block is not valid */
};
_Static_assert(sizeof(struct sum_page) <= HCI_BLOCK, "a page");
_Static_assert(sizeof(struct map_page) <= HCI_BLOCK && sizeof(struct super_page) <= HCI_BLOCK,
	       "a page");

/* ---- in memory ---- */

struct snap;

struct node {
	struct list dirty; /* disk.dirty, by lsn; in no list while a pass has it */
	struct seg *seg;
	struct snap *snap; /* the pass's copy */
	uint64_t lsn;      /* not larger than that of any of its blocks */
	uint32_t region;   /* of the segment */
	uint32_t live;     /* blocks with a place */
	uint32_t data;     /* of these, in the log */
	bool direct;       /* its side changed, which is not in the tables yet: the other one is to be punched */
	uint8_t part;      /* throttle.c: where it is counted */
	uint32_t loc[REGION_BLOCKS];
	uint32_t sum[REGION_BLOCKS]; /* of what is at loc */
	uint8_t *mem[REGION_BLOCKS];
};

struct mpage {
	uint64_t seq[MAP_REGIONS];
	uint16_t valid[MAP_REGIONS];
	uint8_t side[MAP_REGIONS / 8];
	struct node **nodes; /* MAP_REGIONS, or NULL: none */
	uint64_t serial;
	uint64_t dirty_lsn; /* the oldest batch whose effects are not in the page on disk */
	uint32_t nnodes;
	bool dirty;
	bool damaged, lost; /* one copy, both: found so when the disk was opened */
};

struct sums {
	struct list lru; /* disk.sums_lru, unless held or dirty */
	struct seg *seg;
	uint32_t page; /* of the segment's pages of sums */
	uint32_t holds;
	bool ready, dirty;
	bool in_pass;
	struct list waiting; /* reads */
	struct fiber_cond loaded;
	struct env_io io;
	uint8_t *pair; /* while it is loaded */
	int err;       /* the load failed */
	uint32_t sum[SUM_BLOCKS];
};

#define SERIAL_UNKNOWN UINT64_MAX

struct seg {
	struct repl_disk *d;
	struct vol *vol;
	struct mpage **pages;
	struct sums **sums;    /* NULL: not in memory */
	uint64_t *sums_serial; /* on disk; 0: never written */
	uint32_t no, npages, nsums;
	uint32_t refs;       /* reads, waiting reads, the pass; not the vol's own */
	uint32_t inflight;   /* ops in batches */
	bool real;           /* something was ever applied to it */
	bool on_disk;        /* its files exist, durably */
	bool dead;           /* dropped */
	bool broken;         /* recovery found but half of its files */
	bool dirty, touched; /* in disk.dirty_segs; in the pass's list of files to sync */
	uint32_t resv;       /* blocks reserved for its files until they exist */
	struct env_file *data, *map;
	struct list dirty_link, touched_link;
	struct list lru;     /* disk.open_segs */
	struct list waiting; /* reads that need the file */
	struct list opening; /* disk.to_open */
	struct list dying;   /* disk.dying_segs */
	struct list written; /* direct.c: struct direct_io that wait for the file's next sync */
	bool syncing;        /* direct.c */
};

struct vol {
	struct list link;  /* disk.vols[]; none once it is gone */
	struct list dying; /* disk.dying_vols */
	struct repl_disk *d;
	struct uuid uuid;
	uint64_t gen;     /* durable; 0: not yet */
	uint64_t max_gen; /* admitted, perhaps not yet durable */
	uint64_t opening; /* number of the last opening for writing */
	uint64_t segsize;
	uint64_t last, stable;
	struct seg **segs; /* ascending */
	uint32_t nsegs, cap;
	struct list pending; /* writes submitted and not yet durable, in order */
	uint32_t refs;       /* openings, control entries */
	uint32_t drops;      /* DROP entries in batches */
	bool gone;           /* dropped as a whole */
	bool dir;            /* its directory and record exist, durably */
	bool meta_dirty;
	uint64_t meta_serial, meta_pass;
	uint64_t batch_lsn; /* the batch that batch_idx is about */
	uint32_t batch_idx;
};

struct repl_slot {
	struct repl_disk *d;
	struct vol *vol;
	uint64_t gen, opening;
	bool ro;
};

#define OP_FENCE 100
#define OP_DROP 101

/* In repl_op.priv. */
struct op_priv {
	struct list pend;    /* vol.pending */
	struct list waiters; /* reads behind this write */
	struct vol *vol;
	struct seg *seg;
	uint64_t resv;     /* blocks */
	uint32_t promised; /* nodes */
	uint32_t left;     /* parts of a read under way, + 1 while it is being started */
	uint32_t phase;
	int err;
	bool data; /* in vol.pending */
	uint8_t direct, side; /* direct.c: DIRECT_* */
	bool own_sums; /* made by read.c */
};
_Static_assert(sizeof(struct op_priv) <= sizeof(((struct repl_op *)0)->priv), "fits");

static inline struct op_priv *op_priv(struct repl_op *op)
{
	return (struct op_priv *)op->priv;
}

enum { DIRECT_UNTRIED, DIRECT_RUNS, DIRECT_DONE, DIRECT_NOT };

struct direct_io {
	struct list link; /* in seg.written or with */
	struct list with; /* of one that syncs its file: the others that this makes durable */
	struct env_io io;
	struct repl_op *op;
};

/* A control entry: the fiber that made it waits. */
struct ctl {
	struct repl_op op;
	struct fiber *fiber;
	bool done;
};

struct batch {
	struct list link;
	struct repl_disk *d;
	struct env_io io;
	struct list ops;
	struct logf_batch *f;
	uint8_t *hdr;
	uint32_t pos, blocks; /* in the ring */
	bool done;
	int niov;
	struct iovec iov[LOGF_ENTRIES_MAX + 1];
};

struct ring {
	uint32_t blocks; /* of the ring */
	uint32_t head;   /* where the next batch goes, if it fits */
	uint32_t tail;   /* pos of tail_lsn, or head when there is none */
	uint64_t next_lsn, tail_lsn;
	uint64_t applied;                     /* last lsn in the index */
	uint64_t epoch, min_epoch, first_lsn; /* first_lsn: of this opening */
	uint64_t ckpt_serial;
	uint64_t must_lsn; /* recovery must come to this one, or the log is not all there */
	uint32_t *pos; /* by lsn, a ring of pos_cap (a power of two) */
	uint32_t pos_cap;
};

#define THROTTLE_PARTS 64u
#define THROTTLE_NO_PART 255u
struct throttle {
	uint32_t work[THROTTLE_PARTS]; /* blocks of regions in disk.dirty whose oldest lies in this part of the ring */
	uint64_t speed;                /* of write-back, blocks a second; 0: not known yet */
	uint64_t blocks;               /* that the pass under way writes */
	uint64_t steps, done;          /* of it, for its progress */
	uint64_t pass_start;
	bool learn;    /* the pass says something about the speed */
	bool steady;   /* writers were held back, and the log has not been nearly empty since */
	uint64_t freed, freed_at; /* while steady: blocks of the ring a second; when it was reckoned last */
	uint64_t next; /* when the next batch may go */
	struct env_timer timer;
};

struct scrub {
	struct list rotten;
	uint32_t nrotten;
	bool loaded, asked, fast;
	uint64_t period, rate;
	uint64_t started, finished, done, total, corrupt, passes, serial, saved_at;
	struct uuid at_volume; /* where it is */
	uint32_t at_segment, at_region;
	struct fiber_cond changed;
};

struct repl_disk {
	struct env *e;
	char path[256];
	struct uuid uuid, cluster;
	void (*on_failed)(void *arg, struct repl_disk *d, const struct hci_error *err);
	void *arg;
	uint64_t reserve;
	uint32_t mutate;

	struct env_file *lock, *logf;
	char *log_path; /* of the file or device that is open as logf */
	struct super_page *super; /* also the buffer it is written from */
	bool failed, closing, stop;
	struct hci_error fail_err;

	/* log.c */
	struct ring log;
	struct list queue, inflight, free_batches;
	struct batch *batches[BATCHES];
	struct env_task kick_task, finish_task, fail_task;
	struct list finished;
	uint8_t *prev_hdr; /* logf_own() of the newest batch, which the next one carries along */
	uint32_t prev_bytes;
	uint64_t drop_lsn; /* of the last DROP that was applied */
	struct list free_directs;
	uint32_t ndirect;
	bool early;        /* a record of a slot is wanted on disk before its time */
	uint64_t open_ops; /* requests, and control calls under way */
	struct throttle throttle;
	unsigned level;    /* percent of the log from which on it is written back under load, and writers are held back */
	bool log_waits;    /* the head of the queue waits for room in the log */
	uint64_t last_io;
	struct fiber_cond drained;

	/* index.c */
	struct list dirty;
	struct list free_nodes;
	uint64_t nfree_nodes, promised, nnodes;
	void **node_slabs;
	uint32_t nslabs;
	void *free_frames;
	void **frame_slabs;
	uint32_t nframe_slabs, frame_slabs_max;
	uint64_t frames_used;

	/* slot.c, segment.c, drop.c */
	struct list vols[VOL_BUCKETS];
	uint64_t nsegs;
	struct list dirty_segs, open_segs, to_open, dying_segs, dying_vols;
	uint32_t nopen;
	struct fiber_mutex open_lock;
	struct fiber_cond opener;
	uint32_t fibers;
	struct fiber_cond fibers_end;

	struct scrub scrub;

	/* sums.c */
	struct list sums_lru;
	uint32_t nsums, sums_max;

	/* read.c */
	struct list free_reads;
	uint32_t readers[2], phase;
	struct fiber_cond readers_gone;

	/* space.c */
	uint64_t fs_free, fs_total, statfs_at;
	uint64_t resv; /* blocks: of regions in the index that are not in the segment file */
	uint64_t resv_pending; /* blocks: admitted, not in the index */
	bool full;             /* write-back found no room */
	bool short_of_space;   /* a write was refused */

	/* writeback.c */
	struct fiber_mutex wb_lock;
	struct fiber_cond wb;
	struct wb *pass;
	bool drain;
	uint64_t passes;

	struct metric *m_writes, *m_reads, *m_batches, *m_wb, *m_log, *m_paced;
	struct metric *m_write_ns;
	struct metric *m_corrupt, *m_sums_read;
};

/* disk.c */
/* Declares the disk failed, once; returns HCI_E_IO. what: of which file, for the message. */
int disk_fail(struct repl_disk *d, int os_errno, const char *what);
int super_write(struct repl_disk *d, uint32_t flags);
char *disk_path(struct repl_disk *d, const char *name); /* mem_free */
/* An error of the disk as a whole; returns its code. */
int disk_sys_error(const struct repl_disk *d, int rc, const char *what, struct hci_error *err);

/* A control call is in here: closing waits for its end. */
void disk_enter(struct repl_disk *d);
void disk_leave(struct repl_disk *d);

/* logfile.c */
/* How large the log will be; log: o->log_path, NULL for one in `disk`. */
int logfile_size(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t *size, struct hci_error *err);
/* Makes it, empty: the first batch will be number lsn. */
int logfile_make(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t size, uint64_t epoch,
		 uint64_t lsn, struct hci_error *err);
/* Opens the log that belongs to d->super, as replica.h says of repl_disk_open(). */
int logfile_open(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err);

/* log.c */
int log_init(struct repl_disk *d);
void log_fini(struct repl_disk *d);
void log_kick(struct repl_disk *d);
void log_remember(struct repl_disk *d, const struct logf_hdr *h); /* of the newest batch */
void log_fail_all(struct repl_disk *d);
void op_init(struct repl_op *op);
void op_finish(struct repl_disk *d, struct repl_op *op, int status);
/* more: blocks of the file system that it takes besides. */
int log_admit(struct repl_disk *d, struct repl_op *op, uint32_t more);
void log_unadmit(struct repl_disk *d, struct op_priv *p);
/* From a fiber: appends a control entry and waits until it is durable and applied. */
int log_control(struct repl_disk *d, struct ctl *c);

/* direct.c */
/* Takes the op at the head of the queue, if it can pass the log; it comes back to the head of the queue with
 * DIRECT_DONE, or DIRECT_NOT. */
bool direct_take(struct repl_disk *d, struct repl_op *op);
bool direct_blocks(const struct repl_op *op); /* it has to wait for one on its way */
void direct_forget(struct seg *s); /* it was dropped: what was written for the queue is of no use, it takes the usual way */
void direct_opened(struct repl_op *op); /* the files it waited for are open, or cannot be */
void direct_fini(struct repl_disk *d);

/* throttle.c */
void throttle_init(struct repl_disk *d);
void throttle_fini(struct repl_disk *d);
uint32_t throttle_level(const struct repl_disk *d);   /* in blocks */
unsigned throttle_urgency(const struct repl_disk *d); /* of write-back, 0..100 */
/* A node comes to disk.dirty, leaves it. */
void throttle_list(struct repl_disk *d, struct node *n);
void throttle_unlist(struct repl_disk *d, struct node *n);
/* A pass begins; will write so many blocks, a step each; finds more steps to do; does some; is over. */
void throttle_pass_begin(struct repl_disk *d);
void throttle_pass_takes(struct repl_disk *d, uint64_t blocks);
void throttle_steps(struct repl_disk *d, uint32_t more);
void throttle_progress(struct repl_disk *d, uint32_t steps);
void throttle_pass_end(struct repl_disk *d, bool ok);
/* How many blocks the next batch may have; 0: none yet, log_kick() is called when it is time. */
uint32_t throttle_budget(struct repl_disk *d);
void throttle_freed(struct repl_disk *d, uint32_t blocks); /* the tail has moved over them */
bool throttle_steady(const struct repl_disk *d); /* write-back goes on below the level */
void throttle_took(struct repl_disk *d, uint32_t blocks);

/* ring.c: places in the log */
bool ring_place(const struct ring *r, uint32_t blocks, uint32_t keep, uint32_t *pos);
int ring_reserve(struct ring *r); /* memory for one more; HCI_E_NOMEM */
void ring_take(struct ring *r, uint32_t pos, uint32_t blocks); /* the next lsn is there */
void ring_release(struct ring *r, uint64_t tail_lsn);
uint32_t ring_pos_of(const struct ring *r, uint64_t lsn); /* head for next_lsn */
uint32_t ring_used(const struct ring *r);
static inline uint64_t ring_off(uint32_t block)
{
	return RING_OFF + (uint64_t)block * HCI_BLOCK;
}

/* index.c */
bool index_promise(struct repl_disk *d, uint32_t n);
void index_unpromise(struct repl_disk *d, uint32_t n);
struct node *index_node(const struct seg *s, uint32_t region);
/* Room in the tables for the regions of [block, block + n). */
int seg_prepare(struct seg *s, uint32_t block, uint32_t n);
/* n blocks are in the ring from pos on; data NULL: not in memory (recovery). */
int index_write(struct seg *s, uint32_t block, uint32_t n, uint32_t pos, const uint8_t *data,
		const uint32_t *sums, uint64_t lsn);
/* Whole regions that are in the segment file, on that side. */
int index_direct(struct seg *s, uint32_t block, uint32_t n, unsigned side, const uint32_t *sums, uint64_t lsn);
int index_zero(struct seg *s, uint32_t block, uint32_t n, uint64_t lsn);
void index_seq(struct seg *s, uint32_t block, uint32_t n, bool zero, uint64_t seq, bool set);
void index_valid(struct seg *s, uint32_t region, uint16_t mask);
void index_page_dirty(struct seg *s, struct mpage *p, uint64_t lsn);
/* Blocks of the file system that a write of these would newly take. */
uint32_t index_new_blocks(const struct seg *s, uint32_t block, uint32_t n);
void index_forget_seg(struct seg *s); /* all nodes, but for those that the pass has */
void index_node_done(struct node *n, uint64_t lsn,
		     struct list *before);                    /* the pass is over for it */
void index_node_requeue(struct node *n, struct list *before); /* the pass failed */
void index_trim(struct repl_disk *d);                         /* gives memory back when idle */
void index_fini(struct repl_disk *d);
void frame_put(struct repl_disk *d, uint8_t *f);
static inline uint16_t seg_valid(const struct seg *s, uint32_t region)
{
	const struct mpage *p = s->pages[region / MAP_REGIONS];

	return p ? p->valid[region % MAP_REGIONS] : 0;
}

static inline unsigned seg_side(const struct seg *s, uint32_t region)
{
	const struct mpage *p = s->pages[region / MAP_REGIONS];
	unsigned i = region % MAP_REGIONS;

	return p ? p->side[i / 8] >> (i % 8) & 1u : 0;
}
static inline uint64_t seg_place(const struct seg *s, unsigned side, uint64_t off)
{
	return (side ? s->vol->segsize : 0) + off;
}
/* Where a block is in the segment file. */
static inline uint64_t seg_off(const struct seg *s, uint32_t block)
{
	return seg_place(s, seg_side(s, block / REGION_BLOCKS), (uint64_t)block * HCI_BLOCK);
}

/* sums.c */
static inline uint32_t sums_page(uint32_t region)
{
	return region / SUM_REGIONS;
}
/* Of a block of the segment; its page must be in memory. */
static inline uint32_t *sums_at(const struct seg *s, uint32_t block)
{
	struct sums *x = s->sums[block / SUM_BLOCKS];

	return &x->sum[block % SUM_BLOCKS];
}
static inline bool sums_ready(const struct seg *s, uint32_t page)
{
	return s->sums[page] && s->sums[page]->ready;
}
static inline uint64_t sums_off(const struct seg *s, uint32_t page)
{
	return ((uint64_t)s->npages + page) * PAGE_PAIR;
}
/* The files are open. Starts to bring a page in, if it is not there; NULL: no memory. */
struct sums *sums_want(struct seg *s, uint32_t page);
/* The read goes on when the page is there. */
void sums_wait_read(struct sums *x, struct repl_op *op);
void sums_touch(struct sums *x);
/* From a fiber, which holds it: until it is there. -errno. */
int sums_wait(struct sums *x);
void sums_hold(struct sums *x);
void sums_put(struct sums *x);
void sums_trim(struct repl_disk *d); /* down to what is allowed */
void sums_fill_page(const struct sums *x, struct sum_page *out);
void sums_free_seg(struct seg *s);
/* What the pair says, SUM_LOST where it says nothing of a valid block. True: something is wrong with it. */
bool sums_parse(const struct seg *s, uint32_t page, const uint8_t *pair, uint32_t *out, uint64_t *serial, uint64_t *side);

/* segment.c */
struct seg *seg_find(const struct vol *v, uint32_t no);
struct seg *seg_get(struct vol *v, uint32_t no); /* made if need be; NULL: no memory */
void seg_real(struct seg *s);
void seg_dirty(struct seg *s);
void seg_unref(struct seg *s);
void seg_free(struct repl_disk *d, struct seg *s); /* from a fiber: closes its files */
int seg_open_files(struct seg *s, bool create);    /* from a fiber; -errno */
void seg_want_file(struct seg *s, struct repl_op *op);
void seg_opener(void *disk); /* a fiber */
void seg_close_some(struct repl_disk *d, uint32_t keep);
char *seg_path(const struct seg *s, const char *suffix);
static inline uint32_t seg_blocks(const struct seg *s)
{
	return (uint32_t)(s->vol->segsize / HCI_BLOCK);
}
uint32_t seg_files_blocks(uint64_t segsize);
static inline uint64_t seg_map_bytes(const struct seg *s)
{
	return ((uint64_t)s->npages + s->nsums) * PAGE_PAIR;
}

/* vol.c */
struct vol *vol_find(struct repl_disk *d, const struct uuid *u);
struct vol *vol_new(struct repl_disk *d, const struct uuid *u, uint64_t segsize);
void vol_put(struct vol *v);
void vol_free(struct vol *v);
char *vol_path(const struct vol *v, const char *name);
int vol_write_meta(struct vol *v); /* from a fiber; -errno */
bool op_stale(const struct repl_op *op, int *status);
static inline bool vol_real(const struct vol *v)
{
	return v->gen > 0;
}

/* read.c */
void read_submit(struct repl_op *op);
void read_go(struct repl_op *op);
void read_behind(struct repl_op *op, struct list *last);
void readers_wait(struct repl_disk *d); /* until all reads of before are over; one at a time */
void read_fini(struct repl_disk *d);

/* drop.c */
void drop_apply(struct vol *v, uint32_t segment); /* in the order of the log */
int drop_unlink(struct repl_disk *d);             /* from a fiber, under wb_lock; -errno */
bool drop_blocks(const struct vol *v,
		 uint32_t segment); /* files of that name are still to be removed */
void seg_detach(struct seg *s);

/* space.c */
bool space_has(const struct repl_disk *d, uint64_t blocks);
int space_refresh(struct repl_disk *d); /* from a fiber */

/* writeback.c */
void wb_fiber(void *disk);
int wb_pass(struct repl_disk *d); /* under wb_lock; -errno */
int wb_take(struct repl_disk *d, struct wb *w, const struct list *end); /* the snapshots of a pass; -errno */
int wb_checkpoint(struct repl_disk *d, uint64_t tail_lsn);

/* wb_data.c */
struct snap {
	struct node *node;
	uint32_t loc[REGION_BLOCKS];
	uint32_t sum[REGION_BLOCKS];
	uint8_t *mem[REGION_BLOCKS];
	uint16_t written, filed,
		cleared; /* blocks that the pass put in the file, that were there, that are zeroes from now on */
	bool direct;     /* of the node */
};
struct wb {
	struct repl_disk *d;
	struct snap *snaps;
	uint32_t n, cap;
	struct list segs; /* touched */
	struct sums **sums; /* held by the pass */
	uint32_t nsums, sums_cap;
	uint64_t tail; /* what is older will be in the tables */
	uint32_t inflight;
	int err; /* -errno, the first */
	struct fiber_cond cond;
	struct list free_units, free_ios;
	uint32_t nunits;
};
int wb_write_data(struct wb *w); /* all snaps; -errno */
/* Submits and returns; wb_wait waits for all. */
int wb_io(struct wb *w, enum env_io_op op, struct env_file *f, void *buf, uint64_t len,
	  uint64_t off);
int wb_wait(struct wb *w);
struct sums *wb_sums(struct wb *w, struct seg *s, uint32_t page); /* brings it in and holds it; NULL: no memory */
struct wb *wb_new(struct repl_disk *d);
void wb_free(struct wb *w);

/* scrub.c */
void scrub_init(struct repl_disk *d);
void scrub_fini(struct repl_disk *d);
void scrub_fiber(void *disk);
void scrub_forget(struct repl_disk *d, const struct uuid *volume, uint32_t segment); /* LOGF_ALL: of all; it is dropped */
uint64_t seg_bytes(const struct seg *s); /* slot.c; regions are given room as a whole */

/* rebuild.c */
int rebuild_valid(struct seg *s, uint32_t page, bool lost); /* from a fiber: valid bits from the checksums; -errno */
void rebuild_seqs(struct vol *v); /* of damaged pages, when the log was applied */

/* recover.c */
int recover(struct repl_disk *d, struct hci_error *err); /* from a fiber */

#endif
