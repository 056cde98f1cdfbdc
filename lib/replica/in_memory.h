/* SPDX-License-Identifier: Apache-2.0 */
/* What an open disk is in memory, from a block's place to the disk. The words are explained in replica_impl.h. */
#ifndef REPLICA_IN_MEMORY_H
#define REPLICA_IN_MEMORY_H

#include "base/list.h"
#include "env/env.h"
#include "env/fiber.h"
#include "replica/log_format.h"
#include "replica/on_disk.h"
#include "replica/replica.h"

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
	bool renewed;      /* by a write that passed the log, since the pass took its copy */
	bool both;         /* both sides are allocated: only of direct ones, and not known after recovery */
	bool recovered;    /* a pass that was cut off may have put blocks and their sums on the disk, though the table does not tell */
	uint8_t part;      /* throttle.c: where it is counted */
	uint64_t reads;    /* how many had begun when its side changed: they may be reading the other one */
	uint64_t kept;     /* number of the pass that must not punch the other side: it is being written */
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
	enum page_damage damage; /* found when the disk was opened */
	bool lost;               /* then: both copies */
	bool again;              /* the other place has to be written, too, after the next write */
};

struct sums {
	struct list lru; /* disk.sums_lru, unless held or dirty */
	struct seg *seg;
	uint32_t page; /* of the segment's pages of sums */
	uint32_t holds;
	bool ready, dirty;
	bool again; /* as of a table */
	bool in_pass;
	struct list waiting; /* reads */
	struct fiber_cond loaded;
	struct env_io io;
	uint8_t *pair;     /* while it is loaded */
	uint8_t *check;    /* a region, while what it says is compared with the blocks */
	uint32_t check_at; /* that region, of the page's */
	int err;           /* the load failed */
	uint32_t sum[SUM_BLOCKS];
};

#define SERIAL_UNKNOWN UINT64_MAX

struct seg_load { /* load.c */
	uint64_t ops, bytes;         /* since it was looked at last */
	uint64_t avg_ops, avg_bytes; /* thousandths of a request a second; bytes a second */
	uint32_t age_ms;             /* how long it has been looked at, up to what is averaged over */
};

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
	bool unsure;         /* the tables' file has writes that may not be durable: of a process that died, of a pass that failed */
	uint32_t resv;       /* blocks reserved for its files until they exist */
	struct env_file *data, *map;
	struct list dirty_link, touched_link;
	struct list lru;     /* disk.open_segs */
	struct list waiting; /* reads that need the file */
	struct list opening; /* disk.to_open */
	struct list dying;   /* disk.dying_segs */
	struct list written; /* direct.c: struct direct_io that wait for the file's next sync */
	bool syncing;        /* direct.c */
	struct seg_load load;
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
	uint64_t meta_gen[2]; /* what the copies of the record say; 0: nothing */
	bool meta_damaged;    /* a copy of it was found so */
	uint64_t meta_last;   /* the last number that it told when the disk was opened */
	uint64_t batch_lsn; /* the batch that batch_idx is about */
	uint32_t batch_idx;
};

struct repl_slot {
	struct repl_disk *d;
	struct vol *vol;
	uint64_t gen, opening;
	bool ro;
	uint32_t *dropped, ndropped; /* segments that repl_slot_drop() was asked to drop */
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
	bool reuse;    /* direct.c: its place is allocated */
	uint64_t began; /* read.c: its number */
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
	uint64_t epoch, min_epoch, first_lsn; /* first_lsn: of this opening; 0: recovery is not over */
	uint64_t ckpt_serial;
	uint64_t must_lsn; /* recovery must come to this one, or the log is not all there */
	uint32_t *pos; /* by lsn, a ring of pos_cap (a power of two) */
	uint32_t pos_cap;
};

#define THROTTLE_PARTS 64u
#define THROTTLE_NO_PART 255u
struct throttle {
	uint32_t work[THROTTLE_PARTS]; /* blocks of regions in disk.dirty whose oldest lies in this part of the ring; or that do themselves */
	uint64_t speed;                /* of write-back, blocks a second; 0: not known yet */
	uint64_t blocks;               /* that the pass under way writes */
	uint64_t steps, done;          /* of it, for its progress */
	uint64_t pass_start;
	uint32_t again, again_part;    /* blocks that came to regions which the pass has; no older than where it began */
	bool learn;    /* the pass says something about the speed */
	bool steady;   /* writers were held back, and the log has not been nearly empty since */
	uint64_t freed, freed_at; /* while steady: blocks of the ring a second; when it was reckoned last */
	uint64_t steady_at; /* since when */
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
	uint64_t load_at; /* load.c: taken last */
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
	struct list free_reads, reading; /* the latter in the order of their beginning */
	uint64_t reads_begun;
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

	struct metric *m_writes, *m_reads, *m_batches, *m_wb, *m_log, *m_level, *m_paced;
	struct metric *m_write_ns;
	struct metric *m_corrupt, *m_sums_read;
};

#endif
