/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk's side of a volume: one local disk, its write log, its segment files, and the fence.
 *
 * Words
 *   slot     what one disk holds of one volume: a durable generation, a sequence number reached,
 *            and segments. Everything is created on first use.
 *   seq      the writer numbers the writes of a volume 1, 2, 3...; a slot remembers for each
 *            64 KiB region the seq that wrote it last. "What did a replica miss since L" is the
 *            regions with seq > L: one mechanism for resync, for rebuild (L = 0) and for what was
 *            in flight when a writer died (L = the stable seq). docs/architecture.md, "Sequence numbers".
 *   stable   all writes with seq <= stable are on every in-sync replica; the writer sends it along.
 *
 * A write is acknowledged once it is durable in the disk's log (one group commit for all volumes);
 * it moves to the segment file in the background. Reads look into the log first. Layout, recovery
 * rules and limits: docs/disk-format.md.
 *
 * Everything here belongs to one loop.
 */
#ifndef REPLICA_REPLICA_H
#define REPLICA_REPLICA_H

#include "env/env.h"

#define REPL_REGION (64u << 10)
#define REPL_IO_MAX (1u << 20)     /* bytes of one read or write */
#define REPL_GEN_MAX UINT64_C(0xffffffffffff)
/* In a region's entry: it was zeroed or discarded as a whole, there is nothing to copy but zeroes. */
#define REPL_SEQ_ZERO (UINT64_C(1) << 63)
/* It is as a copy (REPL_F_SETSEQ) of the whole region left it: nothing else was written to it since. */
#define REPL_SEQ_COPIED (UINT64_C(1) << 62)
#define REPL_SEQ_MASK (~(REPL_SEQ_ZERO | REPL_SEQ_COPIED))
/*
 * Each generation's numbers begin at its floor or above, and are below the next one's floor unless a writer gives out more than
 * 2^36. 0: there is no room for a floor.
 */
#define REPL_SEQ_BITS 36
static inline uint64_t repl_seq_floor(uint64_t generation)
{
	return generation < UINT64_C(1) << (62 - REPL_SEQ_BITS) ? generation << REPL_SEQ_BITS : 0;
}

struct repl_disk;
struct repl_slot;

struct repl_disk_opts {
	struct uuid uuid;        /* format: of the new disk; open: expected, or null for any */
	struct uuid cluster;
	uint64_t log_size;       /* format: bytes of the write log, 0: 256 MiB or 1/8 of the disk, whichever is less; on
				    another device at most 4 GiB, half of what is free in a directory */
	/* NULL: the log is on the disk itself. Else a directory or a block device of a faster one. open: where it is
	 * now; NULL: where it was when the disk was formatted. */
	const char *log_path;
	uint32_t log_level; /* open: percent of the log from which on it is moved to the segments also under load, 0: 50 */
	/* open: nobody waits for the log any more. One that is not needed (the disk was closed clean) is made anew,
	 * and if it is needed the answer is HCI_E_STATE instead of HCI_E_UNAVAILABLE. */
	bool log_renew;
	/* format: the disk of this UUID that is in the directory has lost its log, what it holds counts for nothing: it
	 * is wiped. Null: the directory must be empty. */
	struct uuid replaces;
	uint64_t reserve;        /* bytes of the file system to leave free, 0: 64 MiB */
	uint64_t sums_cache;     /* bytes of memory for checksums, 0: 32 MiB, for about 29 GiB of data */
	/* Called on the loop, once, when the disk fails (an I/O error it cannot pass by). Every request
	 * fails with HCI_E_IO from then on. */
	void (*on_failed)(void *arg, struct repl_disk *d, const struct hci_error *err);
	void *arg;
	uint32_t mutate; /* 0. Tests break a rule on purpose with it, to see that it is noticed: REPL_MUTATE_* */
};

/* Takes requests of older generations. */
#define REPL_MUTATE_NO_FENCE 1u
/* Acknowledges writes whose batch is not synced. */
#define REPL_MUTATE_LOG_UNSYNCED 2u
/* Recovery takes a batch whose data are not whole. */
#define REPL_MUTATE_TORN_BATCH 4u
/* The log's tail moves before the segment files are synced. */
#define REPL_MUTATE_FILES_UNSYNCED 8u
/* Recovery takes leftovers of an older epoch for batches. */
#define REPL_MUTATE_OLD_EPOCH 0x10u
/* What recovery found is served before it is synced. */
#define REPL_MUTATE_RECOVERY_UNSYNCED 0x20u
/* Forgets the number of one write in eight. */
#define REPL_MUTATE_SEQ_FORGOTTEN 0x40u
/* Admits a writer before its generation is durable. */
#define REPL_MUTATE_FENCE_UNSYNCED 0x80u
/* Data that pass the log are not synced before their entry. */
#define REPL_MUTATE_DIRECT_UNSYNCED 0x100u
/* They are written over those that count. */
#define REPL_MUTATE_DIRECT_IN_PLACE 0x200u
/* A pass punches out what such a write is being written over. */
#define REPL_MUTATE_DIRECT_PUNCHED 0x2000u
/* They are written over what a read from before is still reading. */
#define REPL_MUTATE_DIRECT_UNDER_READS 0x4000u
/* They are written while a drop of the segment is in the log. */
#define REPL_MUTATE_DIRECT_AFTER_DROP 0x400u
/* Recovery ends at a damaged batch and does not look behind it. */
#define REPL_MUTATE_ROT_ENDS 0x800u
/* Recovery takes a torn batch for a damaged one when something whole is behind it. */
#define REPL_MUTATE_ROT_UNPROVEN 0x1000u
/* A generation comes into one copy of the volume's record only. */
#define REPL_MUTATE_RECORD_ONCE 0x8000u
/* Of a damaged table and damaged checksums the older copies are believed. */
#define REPL_MUTATE_ROT_HIDES 0x10000u
/* Of a damaged checkpoint the older copy is believed. */
#define REPL_MUTATE_CKPT_OLDER 0x20000u
/* Of a damaged table that the log touches the older copy's numbers are believed. */
#define REPL_MUTATE_NUMBERS_OLDER 0x40000u
/* A log on another device that is needed and does not come back is made anew, empty. */
#define REPL_MUTATE_LOG_RENEWED 0x80000u

/* From a fiber. The directory must be empty (lost+found aside), a device for the log all zeroes at its beginning, or
 * HCI_E_EXISTS. */
int repl_disk_format(struct env *e, const char *path, const struct repl_disk_opts *o, struct hci_error *err);
/* From a fiber. Recovers: replays the log. HCI_E_VERSION, HCI_E_CORRUPT, HCI_E_NOTFOUND (not a disk of libhci), HCI_E_AUTH
 * (of another cluster) leave it unchanged. Holds a lock: a disk is open once.
 * With a log on another device: HCI_E_UNAVAILABLE (it is not there, cannot be read, or what is there is another disk's:
 * nothing is lost if it comes back), HCI_E_STATE (it is older than the disk or damaged: what the disk holds is not the
 * newest, and must not be served as if it were). */
int repl_disk_open(struct env *e, const char *path, const struct repl_disk_opts *o, struct repl_disk **out,
		   struct hci_error *err);
/* From a fiber: drains what is submitted, moves the log to its place, leaves a clean disk. abandon: do neither (it failed). */
void repl_disk_close(struct repl_disk *d, bool abandon);

struct repl_disk_info {
	struct uuid uuid;
	char path[256];
	bool failed;
	bool full;
	bool log_external;
	char log_path[320]; /* the file or device */
	uint64_t capacity, free, log_size, log_used;
	uint64_t segments;
	uint32_t log_level; /* percent */
};
void repl_disk_info(const struct repl_disk *d, struct repl_disk_info *out);
/* Changes repl_disk_opts.log_level while it is open. */
void repl_disk_set_level(struct repl_disk *d, uint32_t log_level);

/* ---- how much it is used (load.c) ---- */

#define REPL_HOT_MAX 32u

/* Numbers a second, averaged over about a minute, of what users asked for: no copies, no scrub. */
struct repl_hot {
	struct uuid volume;
	uint32_t segment;
	uint64_t ops, bytes;
};
struct repl_load {
	uint64_t ops, bytes;
	uint32_t nhot;
	struct repl_hot hot[REPL_HOT_MAX]; /* the most used segments, most first */
};
/* Takes the average on; one caller, every few seconds. A segment that is new here has the average since it came. */
void repl_load_take(struct repl_disk *d, struct repl_load *out);
/* One figure for both: what a medium does in the time of a small request, 128 KiB, counts as one more. */
static inline uint64_t repl_load_of(uint64_t ops, uint64_t bytes)
{
	return ops + bytes / (128u << 10);
}

/* ---- scrub: reads everything and compares it with its checksums (scrub.c) ---- */

/* period: from the beginning of a pass to that of the next; 0: a week, UINT64_MAX: only when asked. rate: bytes a second at
 * most, 0: 32 MiB; a pass that is not asked for goes slower, so as to take half the period. */
void repl_scrub_set(struct repl_disk *d, uint64_t period_ns, uint64_t rate);
void repl_scrub_start(struct repl_disk *d); /* a pass from the beginning, now, at the full rate */

struct repl_scrub_info {
	bool known;   /* not yet in the first moment after the opening */
	bool running;
	uint64_t started, finished; /* ns since 1970: of this pass or the last one; start of the last that came to its end */
	uint64_t done, total;       /* bytes of this pass or the last one */
	uint64_t corrupt;           /* blocks that it found damaged */
	uint32_t rotten;            /* regions that no writer has taken for repair yet */
	uint64_t passes;            /* that came to their end since the disk was opened */
};
void repl_scrub_info(const struct repl_disk *d, struct repl_scrub_info *out);
bool repl_has_rotten(struct repl_disk *d, const struct uuid *volume);

/* ---- fence ---- */

struct repl_slot_state {
	uint64_t generation;
	uint64_t last_seq;   /* highest seq that is durable here */
	uint64_t stable_seq; /* highest stable that a writer told us */
};

/*
 * From a fiber. Admits the writer of this generation and durably refuses every older one from now on
 * (also after a crash). generation < the slot's: HCI_E_FENCED. Requests of an older opening that are
 * not yet acknowledged fail with HCI_E_FENCED, or are durable before this returns.
 * segment_size: of the volume; a slot remembers it and refuses another.
 */
int repl_slot_open(struct repl_disk *d, const struct uuid *volume, uint64_t generation, uint64_t segment_size,
		   struct repl_slot **out, struct repl_slot_state *state, struct hci_error *err);
/* Of a reader without a lease (inspection, comparing replicas): never fences, refuses writes. */
int repl_slot_open_ro(struct repl_disk *d, const struct uuid *volume, struct repl_slot **out,
		      struct repl_slot_state *state, struct hci_error *err);
void repl_slot_put(struct repl_slot *s); /* no request of it may be open */

/* ---- I/O ---- */

enum repl_op_kind {
	REPL_READ,
	REPL_WRITE,
	REPL_ZERO,    /* reads as zeroes afterwards, space given back where whole regions go */
	REPL_STABLE,  /* only tells stable; not durable by itself */
};

/* A copy made by the writer: the regions' seq becomes exactly op->seq instead of the larger of both, and those
 * that are covered as a whole are marked REPL_SEQ_COPIED. */
#define REPL_F_SETSEQ 1u
/* A READ whose sums the caller gets: compared here too, what does not fit is counted, and the status is HCI_E_CORRUPT. */
#define REPL_F_VERIFY 2u
/* A WRITE whose sums need not fit: a block that no replica has any more is copied with the sum that it should have, so
 * that it goes on being found out. */
#define REPL_F_ASIS 4u
/* On the wire only: the class of a READ, WRITE or ZERO (lane.h). A WRITE or ZERO that is no copy has none. */
#define REPL_F_CLASS_SHIFT 8
#define REPL_F_CLASS (0xffu << REPL_F_CLASS_SHIFT)
#define REPL_F_COPY (1u << REPL_F_CLASS_SHIFT)
/* Of the disk itself: does not count as somebody's request when it makes way for them. */
#define REPL_F_BACKGROUND 8u
/* Of a READ on behalf of an opening that somebody else asks for, who may come when its owner has given up and gone on:
 * HCI_E_CLOSED for segments that the opening has dropped, which read as zeroes, or as what is there of a later copy. */
#define REPL_F_LENT 0x10u

struct repl_op {
	/* set by the caller, kept until done */
	enum repl_op_kind kind;
	uint32_t flags;
	struct repl_slot *slot;
	uint32_t segment;
	uint64_t off, len;     /* in the segment, multiples of HCI_BLOCK; ZERO may span the whole segment */
	void *buf;             /* aligned to HCI_BLOCK; WRITE: read until done; READ: filled in */
	/* A block_sum() for each block. WRITE: the writer's, compared before anything is done, kept until done; NULL: made
	 * here. READ: filled in with what the blocks should have, and the caller compares, also one in the same
	 * process; NULL: compared here. */
	uint32_t *sums;
	uint64_t seq, stable;
	void (*done)(struct repl_op *);
	/* set when done */
	/* 0, HCI_E_FENCED, IO, NOSPACE, RANGE, ALIGN, CLOSED, or CORRUPT: sums do not fit. A READ has filled in buf and
	 * sums then, a WRITE has changed nothing. */
	int status;
	/* of the disk */
	struct list link;
	uint64_t priv[24];
};

/* Exactly one done(), never from inside. Overlapping requests take effect in the order of submission;
 * done WRITE and ZERO are durable. What a READ returned stays so. */
void repl_submit(struct repl_op *op);

/* Of data that are being copied, with sums that they may or may not fit: how many bytes from the beginning on, whole
 * regions but for the end, are all zeroes or all not. */
uint32_t repl_copy_part(const void *data, const uint32_t *sums, uint32_t len, bool *zero);

/* ---- what is here ---- */

struct repl_region {
	uint32_t segment, region;
	uint64_t seq; /* with REPL_SEQ_ZERO and REPL_SEQ_COPIED */
};
/*
 * Regions of a slot with seq > since, ordered by (segment, region), beginning after *cursor (start with
 * segment 0, region 0 and seq 0 in *cursor; it is moved on). At most max; returns how many: 0 = no more.
 * only_segment: UINT32_MAX for all. Never parks.
 */
uint32_t repl_regions(struct repl_slot *s, uint64_t since, uint32_t only_segment, struct repl_region *cursor,
		      struct repl_region *out, uint32_t max);

/* Regions of the slot with blocks that the scrub found damaged; they are the caller's to repair, and no longer listed. */
uint32_t repl_rotten(struct repl_slot *s, struct repl_region *out, uint32_t max);

struct repl_held {
	struct uuid volume;
	uint64_t generation, segments, bytes;
};
/* All slots of the disk. mem_free(*out). */
int repl_held(struct repl_disk *d, struct repl_held **out, size_t *n);
/* Segments of a slot that exist here, ascending. mem_free(*out). */
int repl_segments(struct repl_disk *d, const struct uuid *volume, uint32_t **out, size_t *n);

/* From a fiber, durable when it returns: forget one segment, or with UINT32_MAX the whole slot, and give
 * the space back. generation is checked like a writer's: an older one is refused. */
int repl_drop(struct repl_disk *d, const struct uuid *volume, uint32_t segment, uint64_t generation, struct hci_error *err);

/*
 * A writer's drop of one segment that moved elsewhere. Takes effect in the order of its other requests; once the
 * slot was opened anew it is refused (HCI_E_CLOSED), however late it comes: what was copied to the segment since stays.
 * The slot and its generation stay, even if this was its last segment: they are what keeps an older writer out.
 */
int repl_slot_drop(struct repl_slot *s, uint32_t segment, struct hci_error *err);

/* ---- the service: these calls over rpc (replica_service.c) ---- */

struct rpc;
struct rpc_peers;
struct repl_service;

struct repl_service *repl_service_new(struct env *e, struct rpc *r);
void repl_service_free(struct repl_service *s);
/* How to reach other nodes, to fetch copies from there (PULL); lives until the service has ended. Without it the writer
 * carries them. */
void repl_service_peers(struct repl_service *s, struct rpc_peers *p);
/* Of disks that are added from now on: how many copies go at a time while users have requests; 0: 2. */
void repl_service_share(struct repl_service *s, uint32_t busy);
/* The service serves requests for this disk from now on (until removed: open requests fail with HCI_E_NOTFOUND). */
int repl_service_add(struct repl_service *s, struct repl_disk *d);
void repl_service_remove(struct repl_service *s, struct repl_disk *d);

#endif
