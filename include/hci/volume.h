/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/volume.h
 * Volumes: replicated virtual disks.
 *
 * A volume is attached by one writer at a time. Attached, it is read and written with plain calls
 * (hci_volume_pread and the like) or through a queue (hci/queue.h). Offsets and lengths are multiples of
 * hci_volume_block_size(); memory from hci_buffer_alloc() is not copied on the way.
 */
#ifndef HCI_VOLUME_H
#define HCI_VOLUME_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_VOLUME_FULL_WAIT 0 /**< writes to a full disk wait until there is space */
#define HCI_VOLUME_FULL_FAIL 1 /**< they fail with HCI_E_NOSPACE */

/** Options of hci_volume_create(). */
struct hci_volume_opts {
	uint32_t size;             /**< sizeof(struct hci_volume_opts) */
	uint32_t replicas;         /**< 1..5; 0: 2 */
	const char *name;          /**< required */
	const char *pool;          /**< required */
	const char *policy;        /**< placement; NULL: the pool's */
	uint64_t bytes;            /**< a multiple of 4096, up to 2^50; required */
	uint64_t segment_bytes;    /**< a power of two, 1 MiB..1 GiB; 0: 256 MiB */
	uint32_t on_full;          /**< HCI_VOLUME_FULL_* */
	uint32_t write_timeout_ms; /**< a replica that does not answer for so long leaves the in-sync set; 0: 5000 */
	uint64_t rebuild_delay_ms; /**< 0: the pool's, also when that changes */
	uint32_t read_timeout_ms;  /**< a replica that has not answered a read for so long: another one is asked as well, the first answer counts; 0: 500 */
	uint32_t rebuild_impact;   /**< percent of its undisturbed latency that a request may take while copies are made, 100..100000; 0: the pool's */
	uint32_t lease_ms;         /**< of attachments that ask for none themselves, 500..600000; 0: 6000; see hci_attach_opts */
	uint32_t reserved;         /**< 0 */
};
#define HCI_VOLUME_OPTS_INIT { (uint32_t)sizeof(struct hci_volume_opts), 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make a volume: thin, reads as zeros.
 *
 * @param c     the cluster
 * @param opts  see struct hci_volume_opts
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_EXISTS, HCI_E_NOTFOUND (pool or policy), HCI_E_NOPLACE (fewer nodes with disks than replicas),
 *   HCI_E_NOSPACE (larger than the pool could ever hold), HCI_E_PLUGIN, HCI_E_UNAVAILABLE, HCI_E_NOMEM.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_volume_create(hci_cluster *c, const struct hci_volume_opts *opts, struct hci_error *err);

/** Delete a volume that nobody has attached; its space is given back soon. A node that only repairs it is asked to let go, for up to
 * ten seconds. @return 0, HCI_E_NOTFOUND, HCI_E_BUSY. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_volume_delete(hci_cluster *c, const char *name, struct hci_error *err);

/** Grow a volume to @p bytes, also while it is attached. @return 0, HCI_E_NOTFOUND, HCI_E_INVAL (smaller than now), HCI_E_NOPLACE, HCI_E_NOSPACE. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_volume_resize(hci_cluster *c, const char *name, uint64_t bytes, struct hci_error *err);

/** Options of hci_volume_set(). */
struct hci_volume_set_opts {
	uint32_t size;      /**< sizeof(struct hci_volume_set_opts) */
	uint32_t replicas;  /**< 1..5; 0: as it is */
	const char *policy; /**< placement; "": the pool's; NULL: as it is */
};
#define HCI_VOLUME_SET_OPTS_INIT { (uint32_t)sizeof(struct hci_volume_set_opts), 0, NULL }

/**
 * Change how many replicas a volume has, and which policy places them, also while it is in use. Copies are made before others
 * go: at no time a segment has fewer in sync than the smaller number. With another policy the copies move to where it would place
 * a new volume.
 *
 * Cancelled, the volume is to have its former number and policy again: copies that came too many go at once, those that
 * are missing are made; what moved stays.
 *
 * @param c     the cluster
 * @param name  of the volume, or its UUID
 * @param opts  see struct hci_volume_set_opts
 * @param job   set to the job ("volume-set", in segments, then copies), hci_job_unref() it; NULL: wait for the end here
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_NOTFOUND (volume or policy), HCI_E_NOPLACE (not enough nodes with disks), HCI_E_BUSY (another such
 *   job is at it), HCI_E_STATE (being made or deleted), HCI_E_PLUGIN, HCI_E_UNAVAILABLE, HCI_E_NOMEM; when waiting the job's error.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_volume_set(hci_cluster *c, const char *name, const struct hci_volume_set_opts *opts, hci_job **job,
			   struct hci_error *err);

/** Options of hci_volume_tune(): what is left at its initial value stays as it is. */
struct hci_volume_tune_opts {
	uint32_t size;             /**< sizeof(struct hci_volume_tune_opts) */
	int32_t on_full;           /**< HCI_VOLUME_FULL_*; -1: as it is */
	uint64_t rebuild_delay_ms; /**< 0: as it is; UINT64_MAX: the pool's */
	uint32_t rebuild_impact;   /**< percent, 100..100000; 0: as it is; UINT32_MAX: the pool's */
	uint32_t read_timeout_ms;  /**< 1..600000; 0: as it is; UINT32_MAX: the default */
	uint32_t write_timeout_ms; /**< 100..600000; likewise */
	uint32_t lease_ms;         /**< 500..600000; likewise; attachments of from now on have it */
};
#define HCI_VOLUME_TUNE_OPTS_INIT { (uint32_t)sizeof(struct hci_volume_tune_opts), -1, 0, 0, 0, 0, 0 }

/**
 * Change how a volume is served, also while it is in use: who has it attached goes by it within seconds, but for the lease. What
 * hci_volume_set() does, which moves copies, is another thing.
 *
 * @param c     the cluster
 * @param name  of the volume, or its UUID
 * @param opts  see struct hci_volume_tune_opts
 * @param err   NULL, or filled in on failure
 * @return 0: recorded. HCI_E_INVAL, HCI_E_NOTFOUND, HCI_E_UNAVAILABLE, HCI_E_NOMEM.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_volume_tune(hci_cluster *c, const char *name, const struct hci_volume_tune_opts *opts, struct hci_error *err);

/** Options of hci_volume_move(). */
struct hci_volume_move_opts {
	uint32_t size;     /**< sizeof(struct hci_volume_move_opts) */
	uint32_t reserved; /**< 0 */
	const char *to;    /**< node */
	const char *from;  /**< node: only copies that are there go; NULL: of each segment one that may */
};
#define HCI_VOLUME_MOVE_OPTS_INIT { (uint32_t)sizeof(struct hci_volume_move_opts), 0, NULL, NULL }

/**
 * Take one copy of each segment of a volume to a node, also while the volume is in use: so that a VM that is to run there reads from
 * the node's own disks. A copy goes only after the new one is in sync. Segments that have a copy there already stay as they are, as do
 * those whose copies may not go without two meeting in one failure domain. It does not bind: a later rebuild, balance or policy
 * places copies as it likes.
 *
 * Cancelled, what has moved stays.
 *
 * @param c     the cluster
 * @param name  of the volume, or its UUID
 * @param opts  see struct hci_volume_move_opts
 * @param job   set to the job ("volume-move", in copies), hci_job_unref() it; NULL: wait for the end here
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_NOTFOUND (volume or node), HCI_E_NOPLACE (the node has no disk in the pool, or no room), HCI_E_BUSY
 *   (another such job is at it), HCI_E_STATE (being made or deleted), HCI_E_UNAVAILABLE, HCI_E_NOMEM; when waiting the job's error.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_volume_move(hci_cluster *c, const char *name, const struct hci_volume_move_opts *opts, hci_job **job,
			    struct hci_error *err);

struct hci_volume_info {
	char name[HCI_NAME_MAX];
	char uuid[HCI_UUID_STR];
	char reserved[3];
	char pool[HCI_NAME_MAX];
	char policy[HCI_NAME_MAX];
	char attached_by[HCI_NAME_MAX]; /**< "" when nobody has it */
	uint64_t bytes;
	uint64_t segment_bytes;
	uint64_t generation;
	uint32_t replicas;
	uint32_t state;       /**< 0 creating, 1 ready, 2 deleting */
	uint32_t replicas_out; /**< disks of it that are not in its in-sync set */
	uint32_t rebuilding;  /**< segments with a copy that is being made, or with fewer than replicas */
	uint64_t rebuild_delay_ms; /**< this and the following as they are in force: its own, the pool's or the default */
	uint32_t rebuild_impact;   /**< percent */
	uint32_t read_timeout_ms;
	uint32_t write_timeout_ms;
	uint32_t lease_ms;
	uint32_t on_full;          /**< HCI_VOLUME_FULL_* */
	uint32_t of_pool;          /**< HCI_VOLUME_OF_POOL_*: these are the pool's */
	char reason[256];          /**< what keeps it from taking writes, for people: full disks; "" when nothing does */
};
#define HCI_VOLUME_OF_POOL_DELAY 1u
#define HCI_VOLUME_OF_POOL_IMPACT 2u

/** All volumes, by name. As hci_node_list(). Since 0.1. */
HCI_API int hci_volume_list(hci_cluster *c, struct hci_volume_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

#define HCI_REPLICA_IN_SYNC 0
#define HCI_REPLICA_OUT 1     /**< misses writes */
#define HCI_REPLICA_JOINING 2 /**< new, being filled */

struct hci_replica_info {
	uint32_t segment;
	uint32_t state;          /**< HCI_REPLICA_* */
	char disk[HCI_UUID_STR];
	char reserved[3];
	char node[HCI_NAME_MAX];
	char path[256];
};

/** Where a volume's segments are: one entry a replica, by segment. As hci_node_list(). Since 0.1. */
HCI_API int hci_volume_replicas(hci_cluster *c, const char *name, struct hci_replica_info **out, uint64_t *n,
				uint64_t info_size, struct hci_error *err);

/**
 * Read one segment's bytes from one given replica, for comparing copies. Needs no attachment; bytes that are being written
 * while it runs may be old or new.
 *
 * @param c        the cluster
 * @param name     of the volume
 * @param disk     UUID of a disk that has the segment
 * @param segment  number of the segment
 * @param buf      filled in
 * @param len      bytes, a multiple of 4096, at most 1 MiB
 * @param offset   bytes from the start of the segment, likewise aligned
 * @param err      NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND, HCI_E_RANGE, HCI_E_ALIGN, HCI_E_IO, HCI_E_UNAVAILABLE. Threads: any. Blocks. Since 0.1.
 */
HCI_API int hci_volume_read_replica(hci_cluster *c, const char *name, const char *disk, uint32_t segment, void *buf,
				    uint64_t len, uint64_t offset, struct hci_error *err);

/** Options of hci_volume_attach(). */
struct hci_attach_opts {
	uint32_t size;       /**< sizeof(struct hci_attach_opts) */
	uint32_t wait_ms;    /**< how long to wait for a previous writer's lease to end; 0: not at all */
	uint32_t lease_ms;   /**< 500..600000: after which another may take over from a writer that died, and how long reads go on while the
				  store cannot be reached (nine tenths of it); 0: the volume's */
	uint32_t reserved;   /**< 0 */
};
#define HCI_ATTACH_OPTS_INIT { (uint32_t)sizeof(struct hci_attach_opts), 0, 0, 0 }

/**
 * Attach a volume for reading and writing: the only one until hci_volume_unref().
 *
 * @param out   set to the handle with one reference
 * @param c     the cluster; its certificate must be good for the nodes that hold the replicas
 * @param name  of the volume
 * @param opts  NULL for the defaults
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND, HCI_E_BUSY (the message names who has it), HCI_E_UNAVAILABLE (no in-sync replica of some segment can be
 *   reached), HCI_E_AUTH (likewise, because the nodes do not take our certificate or we not theirs), HCI_E_STATE, HCI_E_NOMEM.
 * Threads: any. Blocks: waits for replicas for up to 10 seconds, or wait_ms when that is longer. Since 0.1.
 */
HCI_API int hci_volume_attach(hci_volume **out, hci_cluster *c, const char *name, const struct hci_attach_opts *opts,
			      struct hci_error *err);

/** Take another reference. @return @p vol. Threads: any. Since 0.1. */
HCI_API hci_volume *hci_volume_ref(hci_volume *vol);

/**
 * End what is open, now: for a program that is to stop while the replicas cannot be reached.
 *
 * Open requests, queued or waited for, end with HCI_E_CLOSED within moments and give their buffers back; so does every later one.
 * A write that ends so may have happened or not; what was acknowledged before is safe. The volume stays attached for others until
 * the last hci_volume_unref(), which then waits for no request, or until its lease is over.
 *
 * @param vol  attached volume; a reference is still to be given back. Again: does nothing
 * @param err  NULL, or filled in on failure
 * @return 0, HCI_E_INVAL (NULL), HCI_E_NOMEM. Threads: any, also while others wait in calls on @p vol; not from a signal handler.
 *   Blocks for a turn of the loop. Since 0.1.
 */
HCI_API int hci_volume_abandon(hci_volume *vol, struct hci_error *err);

/**
 * Give a reference back; the last one finishes what is open and detaches. Requests that cannot be finished because replicas are out
 * of reach end with HCI_E_CLOSED after 30 seconds; hci_volume_abandon() spares that wait. NULL is fine.
 *
 * Threads: any. Blocks for up to 30 seconds, and for store I/O. Since 0.1.
 */
HCI_API void hci_volume_unref(hci_volume *vol);

/** Bytes of the volume. Threads: any. Since 0.1. */
HCI_API uint64_t hci_volume_size(const hci_volume *vol);

/** Unit of offsets and lengths in bytes: 4096. Threads: any. Since 0.1. */
HCI_API uint32_t hci_volume_block_size(const hci_volume *vol);

/**
 * Read, and wait for it.
 *
 * @param vol     attached volume
 * @param buf     filled in with @p len bytes; any memory, aligned memory spares a copy
 * @param len     bytes, a multiple of the block size
 * @param offset  bytes from the start, likewise aligned
 * @param err     NULL, or filled in on failure
 * @return 0, HCI_E_RANGE, HCI_E_ALIGN, HCI_E_FENCED (another writer took the volume), HCI_E_IO, HCI_E_NOMEM,
 *   HCI_E_CLOSED (the volume was abandoned).
 * Threads: any. Blocks, while no in-sync replica can be reached as well: hci_volume_abandon() ends that. Since 0.1.
 */
HCI_API int hci_volume_pread(hci_volume *vol, void *buf, uint64_t len, uint64_t offset, struct hci_error *err);

/** Write, and wait until every in-sync replica holds it on stable media. Besides hci_volume_pread()'s errors HCI_E_NOSPACE. Since 0.1. */
HCI_API int hci_volume_pwrite(hci_volume *vol, const void *buf, uint64_t len, uint64_t offset, struct hci_error *err);

/** Make a range read as zeros; whole 64 KiB regions give their space back. As hci_volume_pwrite(). Since 0.1. */
HCI_API int hci_volume_zero(hci_volume *vol, uint64_t len, uint64_t offset, struct hci_error *err);

/** Options of one queued request: none yet. */
struct hci_io_opts {
	uint32_t size;  /**< sizeof(struct hci_io_opts) */
	uint32_t flags; /**< 0 */
};
#define HCI_IO_OPTS_INIT { (uint32_t)sizeof(struct hci_io_opts), 0 }

/**
 * Queue a read and return at once.
 *
 * @param vol     attached volume; kept alive until the completion
 * @param q       where the completion, carrying @p tag, will appear
 * @param buf     aligned to 4096; leave it alone until the completion
 * @param len     bytes, a multiple of the block size, at most 64 MiB
 * @param offset  bytes from the start, likewise aligned
 * @param tag     any number; handed back untouched
 * @param opts    NULL for the defaults; read during the call only
 * @param err     NULL, or filled in when the call is refused
 *
 * @return 0: exactly one completion follows, also after a close. Negative: nothing was queued: HCI_E_RANGE, HCI_E_ALIGN,
 *   HCI_E_BUSY (queue full: reap, then retry), HCI_E_INVAL.
 *
 * Threads: @p vol may be shared, @p q belongs to one thread at a time. Never blocks. Since 0.1.
 */
HCI_API int hci_volume_submit_read(hci_volume *vol, hci_queue *q, void *buf, uint64_t len, uint64_t offset, uint64_t tag,
				   const struct hci_io_opts *opts, struct hci_error *err);

/**
 * Queue a write and return at once. As hci_volume_submit_read(); @p buf is lent, not copied.
 *
 * A completion with status 0 means that every in-sync replica holds the data on stable media. HCI_E_FENCED leaves old or new
 * bytes, the same on every replica. Since 0.1.
 */
HCI_API int hci_volume_submit_write(hci_volume *vol, hci_queue *q, const void *buf, uint64_t len, uint64_t offset,
				    uint64_t tag, const struct hci_io_opts *opts, struct hci_error *err);

/** Queue zeroing of a range. As hci_volume_submit_write(); any length inside the volume. Since 0.1. */
HCI_API int hci_volume_submit_zero(hci_volume *vol, hci_queue *q, uint64_t len, uint64_t offset, uint64_t tag,
				   const struct hci_io_opts *opts, struct hci_error *err);

/** The writer's view of an attached volume. */
struct hci_volume_status {
	uint64_t generation;
	uint64_t reads, writes;           /**< requests since attach */
	uint64_t read_bytes, write_bytes;
	uint64_t inflight;
	uint64_t resync_done, resync_total; /**< bytes of the copying under way; 0/0 when there is none */
	uint64_t resync_copied;           /**< bytes copied to replicas since attach */
	uint32_t segments;
	uint32_t segments_degraded;       /**< with fewer in-sync copies than wanted */
	uint32_t replicas_out;            /**< disks out of the in-sync set */
	uint32_t reserved;
	uint64_t reads_hedged;            /**< asked of a second replica, as the first had not answered within the read timeout */
	uint64_t rebuild_delay_ms;        /**< this and the following: what this attachment goes by now */
	uint32_t rebuild_impact;          /**< percent */
	uint32_t read_timeout_ms;
	uint32_t write_timeout_ms;
	uint32_t lease_ms;
	uint32_t on_full;                 /**< HCI_VOLUME_FULL_* */
	uint32_t reserved2;
};

/** @return 0, HCI_E_INVAL, HCI_E_FENCED. Threads: any. Blocks for a turn of the loop. Since 0.1. */
HCI_API int hci_volume_status(hci_volume *vol, struct hci_volume_status *out, uint64_t status_size, struct hci_error *err);

HCI_END_DECLS
#endif
