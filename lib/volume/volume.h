/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of a volume: attach under a lease, send writes to every in-sync replica, read
 * from one, take failed replicas out of the set, bring returned ones back, rebuild on spares.
 *
 * docs/architecture.md tells how; it keeps the rules 1-4, 6 and 7 of that page.
 * Everything here belongs to one loop.
 */
#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include <hci/types.h>

#include "env/env.h"
#include "rpc/rpc.h"
#include "store/records.h"
#include "store/store.h"

struct vol;
struct cache;

/* What a writer needs of the outside; one per opened cluster, outlives its volumes. */
struct vol_ctx {
	struct env *env;
	struct store *store;
	struct rpc_peers *peers;
	const char *self; /* who we are in lease records: node or client name */
	/*
	 * Choose a disk for one more copy of a segment: instead of `bad` (lost, or being evacuated), or, bad NULL, because the
	 * volume is to have more; given the disks that have copies and stay. 0 or HCI_E_NOPLACE.
	 * May park. NULL: volumes do not rebuild.
	 */
	int (*choose_spare)(void *arg, const struct rec_volume *v, uint32_t segment, const struct uuid *keep, size_t nkeep,
			    const struct uuid *bad, struct uuid *out, struct hci_error *err);
	/* Node that serves a disk and whether the disk is worth talking to; NULL when unknown. Must not park. */
	const struct rec_disk *(*disk)(void *arg, const struct uuid *disk);
	/* The pool, for what its volumes leave to it; NULL when unknown. Must not park. May be NULL itself. */
	const struct rec_pool *(*pool)(void *arg, const char *name);
	void *arg;
	struct vol_sched *sched; /* NULL at first; of lib/volume: what is copied when */
	struct cache *cache; /* the node's read cache, may be NULL; outlives the volumes attached while it is set */
	uint32_t mutate; /* 0. Tests break a rule on purpose with it, to see that it is noticed: VOL_MUTATE_* */
};

/* Acknowledges a write although a replica that missed it is still in the in-sync set. */
#define VOL_MUTATE_ACK_EARLY 1u
/* Records a leaving replica as having all writes so far, those in flight too. */
#define VOL_MUTATE_LEFT_LATE 2u
/* Does not settle what the last writer left in flight. */
#define VOL_MUTATE_NO_SETTLE 4u
/* Leaves one of eight regions out when it copies. */
#define VOL_MUTATE_SKIP_REGION 8u
/* Reads do not wait for the writes they overlap. */
#define VOL_MUTATE_READ_NO_WAIT 0x10u
/* Reads go on when the lease is over. */
#define VOL_MUTATE_READ_PAST_LEASE 0x20u
/* Changes the in-sync set without comparing its revision. */
#define VOL_MUTATE_NO_COMPARE 0x40u
/* Copies a region without the lock on its range. */
#define VOL_MUTATE_NO_LOCK 0x80u
/* A copy counts before it was filled. */
#define VOL_MUTATE_JOIN_EARLY 0x100u
/* Copies what the source wrote, not what the target did. */
#define VOL_MUTATE_SOURCE_ONLY 0x200u
/* Copies without waiting for the writes that are in flight. */
#define VOL_MUTATE_NO_FLIGHT_WAIT 0x400u
/* Tells as stable what is not complete. */
#define VOL_MUTATE_STABLE_EARLY 0x800u
/* Settling leaves one replica out. */
#define VOL_MUTATE_SETTLE_SKIPS 0x1000u
/* Attach keeps the replicas that do not answer in the set. */
#define VOL_MUTATE_KEEP_ABSENT 0x2000u
/* A new writer starts its numbers anew. */
#define VOL_MUTATE_SEQ_ANEW 0x4000u
/* Nobody heals. */
#define VOL_MUTATE_NO_HEAL 0x8000u
/* Takes a map for its own that a newer writer has changed. */
#define VOL_MUTATE_FOREIGN_MAP 0x100000u
/* A replica that came back without what it had acknowledged is trusted. */
#define VOL_MUTATE_TRUST_ALL 0x10000u
/* Takes a replica's region that has the source's number for equal, copied or not, when a copy is resumed. */
#define VOL_MUTATE_RESUME_BLIND 0x20000u
/* What is read is not compared with its checksums. */
#define VOL_MUTATE_NO_SUMS 0x40000u
/* A pull that was not answered soon counts as one that did not happen; it may yet. */
#define VOL_MUTATE_PULL_LATE 0x200000u

/* A copy that is moved away goes before the one in its place is filled. */
#define VOL_MUTATE_REMOVE_EARLY 0x400000u
/* What all know to be stable is taken for what each of them holds: one may have lost the end of its log. */
#define VOL_MUTATE_SETTLE_HIGH 0x800000u
/* A disk that lost its log is given up without asking who counts on it (disk_keep.c). */
#define VOL_MUTATE_GIVE_UP_NEEDED 0x1000000u

/* ---- creation and removal: metadata only, from a fiber ---- */

/* Places every segment (through place_segments) and writes the records in a crash-safe order: a volume
 * that is not ready after ten minutes is removed by the node service. */
struct vol_create {
	const char *name, *pool, *policy;
	uint64_t size, segment_size; /* segment_size 0: 256 MiB */
	uint32_t replicas;
	uint32_t on_full;            /* enum rec_on_full */
	uint64_t write_timeout_ns;   /* 0: 5 s */
	uint64_t rebuild_delay_ns;   /* 0: the pool's, or 10 min */
	uint64_t read_timeout_ns;    /* 0: 500 ms */
	uint32_t rebuild_impact;     /* percent, 0: the pool's, or 200 */
	uint64_t lease_ns;           /* of attachments that ask for none, 0: 6 s */
	/* Fills nseg * replicas disk UUIDs, segment after segment. */
	int (*place)(void *arg, const struct vol_create *c, const struct uuid *volume, uint32_t first_segment, uint32_t nseg,
		     struct uuid *out, struct hci_error *err);
	void *arg;
};
int vol_create(struct vol_ctx *x, const struct vol_create *c, struct uuid *id, struct hci_error *err);
/* Grows (never shrinks); an attached writer sees it at vol_reload. */
int vol_resize(struct vol_ctx *x, const struct uuid *id, uint64_t size, const struct vol_create *place, struct hci_error *err);
/* Refused with HCI_E_BUSY while attached. The replicas give their space back when their nodes see it. */
int vol_delete(struct vol_ctx *x, const struct uuid *id, struct hci_error *err);
int vol_lookup(struct vol_ctx *x, const char *name, struct uuid *id, struct rec_volume *out, struct hci_error *err);

/* ---- attach ---- */

struct vol_attach_opts {
	uint32_t purpose;      /* enum rec_attach_purpose */
	uint64_t lease_ttl_ns; /* 0: as the volume's record says, or 6 s */
	uint64_t wait_ns;      /* how long to wait for a previous writer's lease to end; 0: not at all (HCI_E_BUSY) */
	const char *export_addr; /* for the record, may be NULL */
	bool steal_repair;     /* ask a repair attachment to go; the default for users */
	/* Called once on the loop when the lease is lost or a newer writer fenced us: all I/O fails with HCI_E_FENCED from then on. */
	void (*on_fenced)(void *arg, struct vol *v);
	void *arg;
};

/*
 * From a fiber. Takes the lease and a new generation, fences the replicas, settles what the previous writer
 * left in flight, and returns a volume ready for I/O. HCI_E_BUSY: somebody has it (the message names who);
 * HCI_E_UNAVAILABLE: no in-sync replica of some segment can be reached.
 */
int vol_attach(struct vol_ctx *x, const struct uuid *id, const struct vol_attach_opts *o, struct vol **out,
	       struct hci_error *err);
/* From a fiber: waits for what is in flight, for 30 seconds at most, tells the replicas what is stable, gives the lease back. */
void vol_detach(struct vol *v);
/*
 * Requests end with HCI_E_CLOSED from now on, those that are open soon after: every buffer lent is given back. What was written
 * and not acknowledged is there or not, as after a crash; the next writer makes the replicas equal. vol_detach() is still to come,
 * and waits for nothing. Does not park.
 */
void vol_abandon(struct vol *v);
/* Read the records again: size, map, and what may change while it is attached (settings.c). From a fiber. */
int vol_reload(struct vol *v, struct hci_error *err);

/* What is in force for a volume: its own, else its pool's (may be NULL), else the default. */
struct vol_settings {
	uint64_t read_timeout_ns, write_timeout_ns, rebuild_delay_ns, lease_ns;
	uint32_t rebuild_impact;
};
void vol_settings(const struct rec_volume *r, const struct rec_pool *p, struct vol_settings *out);
void vol_settings_now(const struct vol *v, struct vol_settings *out); /* what an attached one goes by now */

uint64_t vol_size(const struct vol *v);
uint64_t vol_generation(const struct vol *v);
const struct rec_volume *vol_record(const struct vol *v);

/* ---- I/O ---- */

enum vol_io_op {
	VOL_READ,
	VOL_WRITE,
	VOL_ZERO,  /* reads as zeroes afterwards; space is given back where whole 64 KiB go, unless NOHOLE */
	VOL_FLUSH, /* every acknowledged write is durable anyway: done when what was submitted before is */
};
#define VOL_F_NOHOLE 1u

struct vol_io {
	/* set by the caller, kept until done */
	enum vol_io_op op;
	uint32_t flags;
	struct vol *vol;
	void *buf;         /* aligned to HCI_BLOCK: WRITE lent until done, READ filled in */
	uint64_t off, len; /* bytes, multiples of HCI_BLOCK, inside the volume; len at most 64 MiB (ZERO: any) */
	void (*done)(struct vol_io *);
	/* set when done */
	int status;        /* 0, HCI_E_FENCED, NOSPACE (on_full fail), IO, RANGE, ALIGN, CLOSED, NOMEM, CORRUPT (a read) */
	/* of the volume */
	struct list link;
	uint64_t priv[8];
};

/* On the loop, for each WRITE that is done, before its done(): what the volume has there from now on. NULL: nobody looks. */
typedef void vol_written_fn(void *arg, uint64_t off, const void *data, uint64_t len);
void vol_watch_writes(struct vol *v, vol_written_fn *fn, void *arg);

/* Exactly one done(), never from inside. WRITE done with 0: durable on every in-sync replica. */
void vol_submit(struct vol_io *io);
/* From a fiber. */
int vol_rw(struct vol *v, enum vol_io_op op, void *buf, uint64_t off, uint64_t len);

/* Allocation, for NBD block status: describes [off, ...) in runs; each run true = data, false = hole that reads
 * as zeroes. Granularity 64 KiB. From a fiber. Returns the number of runs (>= 1) or HCI_E_*. */
struct vol_extent {
	uint64_t len;
	uint32_t data;
	uint32_t reserved;
};
int vol_extents(struct vol *v, uint64_t off, uint64_t len, struct vol_extent *out, uint32_t max, struct hci_error *err);

/* ---- health ---- */

struct vol_status {
	uint64_t generation, seq, stable;
	uint32_t segments, segments_degraded; /* with fewer in-sync copies than wanted */
	uint32_t out;                         /* disks out of the set */
	uint32_t unsettled;                   /* segments with copies that have to come, go or move; at least 1 until that is known */
	uint32_t strays;                      /* disks that are online and hold old copies, to be dropped */
	uint32_t dropping;                    /* copies that went and whose space is not given back yet */
	uint64_t copies_added, copies_removed; /* for the sake of that, since attach */
	uint64_t resync_done, resync_total;   /* bytes of the copy under way, 0/0 when there is none */
	uint64_t resync_copied;               /* bytes copied since attach */
	uint64_t resync_pulled;               /* of these: fetched by the target, not carried by us */
	uint64_t resync_skipped;              /* bytes that an interrupted copy had brought over already */
	uint64_t inflight;
	uint64_t reads, writes, read_bytes, write_bytes, write_waits;
	uint64_t mended_blocks;               /* that a replica had damaged, repaired in place */
	uint64_t lost_blocks;                 /* that were read and are damaged on every replica of the set */
	uint32_t mending;                     /* regions with damaged blocks that are to be repaired */
	uint64_t reads_hedged; /* asked of a second replica, as the first had not answered in time */
	bool scrubs_heard;                    /* every replica that is up has told what its scrub found */
};
void vol_status(const struct vol *v, struct vol_status *out);

/* Ask all replicas at once what their scrubs have found, instead of within half a minute. */
void vol_ask_scrubs(struct vol *v);

/*
 * What one given replica holds, as it is now: from a fiber, any process, no lease; other fibers may read at the same time. All
 * zeroes where nobody has written yet. For comparing copies, and whoever can tell by himself whether it is what he wants.
 */
struct vol_reader;
int vol_reader_open(struct vol_ctx *x, const struct uuid *id, const struct uuid *disk, struct vol_reader **out,
		    struct hci_error *err);
int vol_reader_read(struct vol_reader *r, uint32_t segment, uint64_t off, void *buf, uint32_t len, struct hci_error *err);
void vol_reader_close(struct vol_reader *r); /* NULL is fine */
/* All three at once. */
int vol_peek(struct vol_ctx *x, const struct uuid *id, const struct uuid *disk, uint32_t segment, uint64_t off, void *buf,
	     uint32_t len, struct hci_error *err);

#endif
