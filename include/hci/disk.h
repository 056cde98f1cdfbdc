/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/disk.h
 * Disks: a directory on a local file system that a node gives to the cluster.
 */
#ifndef HCI_DISK_H
#define HCI_DISK_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_DISK_DATA 0
#define HCI_DISK_SPARE 1 /**< takes no segments but those rebuilt from failed disks */

#define HCI_DISK_HDD 0
#define HCI_DISK_SSD 1
#define HCI_DISK_NVME 2

#define HCI_DISK_NEW 0     /**< known, its node has not prepared it yet */
#define HCI_DISK_ONLINE 1
#define HCI_DISK_OFFLINE 2 /**< its node is away, or has not opened it */
#define HCI_DISK_FAILED 3  /**< it returned errors; its segments are rebuilt elsewhere after the pool's delay */
#define HCI_DISK_EVACUATING 4 /**< what it holds moves elsewhere, or has moved; it gets nothing new */
#define HCI_DISK_REMOVED 5

/** Options of hci_disk_add(). */
struct hci_disk_opts {
	uint32_t size;       /**< sizeof(struct hci_disk_opts) */
	int32_t role;        /**< HCI_DISK_DATA or HCI_DISK_SPARE */
	int32_t disk_class;  /**< HCI_DISK_HDD, SSD or NVME */
	uint32_t timeout_ms; /**< how long to wait until its node has it online; 0: 30,000 */
	const char *node;    /**< required */
	const char *path;    /**< an empty directory, absolute, as that node sees it, on a file system of its own and no tmpfs; required */
	const char *pool;    /**< NULL: none yet */
	/** Where the disk's write log goes: a directory, or a block device whose beginning is zeroes, of a faster medium,
	 * absolute, as the node sees it, not in the disk's own. NULL: on the disk itself. Several disks may share a directory, not a device. If
	 * the log is away, the disk is offline and waits for it; see log_wait_ms. */
	const char *log;
	uint64_t log_size;    /**< bytes, 4 MiB..64 GiB; 0: what is free there, at most 256 MiB on the disk itself, 4 GiB elsewhere */
	uint32_t log_wait_ms; /**< for a log that is away: after that what the disk holds counts as lost, and is rebuilt from the
				   other replicas; 0: 600,000 */
	uint32_t log_level;   /**< percent of the log, 1..90, from which on it is moved to its place under load too; 0: 50 */
};
#define HCI_DISK_OPTS_INIT \
	{ (uint32_t)sizeof(struct hci_disk_opts), HCI_DISK_DATA, HCI_DISK_HDD, 0, NULL, NULL, NULL, NULL, 0, 0, 0 }

/**
 * Give a disk to the cluster. Its node formats the directory and serves it.
 *
 * @param c     the cluster
 * @param opts  see struct hci_disk_opts
 * @param uuid  NULL, or set to the disk's UUID
 * @param err   NULL, or filled in on failure
 * @return 0: online. HCI_E_INVAL (also: it is no directory, or on a tmpfs), HCI_E_RANGE (log_size, log_level), HCI_E_NOTFOUND (node,
 *   pool, or no such directory there), HCI_E_EXISTS (the node has a disk at that path, or the directory is not empty), HCI_E_TIMEOUT
 *   (the node did not answer: it stays "new"), HCI_E_AUTH (the node's certificate and ours are not of one authority: nothing has been
 *   done), HCI_E_IO, HCI_E_UNAVAILABLE.
 * Threads: any. Blocks. Since 0.1.
 */
HCI_API int hci_disk_add(hci_cluster *c, const struct hci_disk_opts *opts, char uuid[HCI_UUID_STR], struct hci_error *err);

/** Options of hci_disk_set(): 0 leaves a thing as it is. */
struct hci_disk_set_opts {
	uint32_t size;        /**< sizeof(struct hci_disk_set_opts) */
	uint32_t log_wait_ms; /**< as in struct hci_disk_opts */
	uint32_t log_level;   /**< likewise, 1..90 */
	uint32_t reserved;    /**< 0 */
};
#define HCI_DISK_SET_OPTS_INIT { (uint32_t)sizeof(struct hci_disk_set_opts), 0, 0, 0 }

/**
 * Change how a disk's write log is used, also while it is: within seconds.
 *
 * @param c     the cluster
 * @param uuid  of the disk, or a unique beginning of it
 * @param opts  see struct hci_disk_set_opts
 * @param err   NULL, or filled in on failure
 * @return 0: recorded. HCI_E_INVAL, HCI_E_RANGE, HCI_E_NOTFOUND, HCI_E_UNAVAILABLE. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_disk_set(hci_cluster *c, const char *uuid, const struct hci_disk_set_opts *opts, struct hci_error *err);

/**
 * Move what a disk holds to other disks, while volumes are in use; then it can be removed, or leave its pool. It gets nothing new
 * meanwhile and after, until hci_disk_activate(). Cancelled, the disk is for use again; what has moved stays where it is.
 *
 * @param c     the cluster
 * @param uuid  of the disk, or a unique beginning of it
 * @param job   set to the job ("disk-evacuate", in copies), hci_job_unref() it; NULL: wait for the end here
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND, HCI_E_STATE (it is new, offline or failed: what it held is rebuilt elsewhere anyway, remove it; one whose
 *   node is down may be evacuated: its copies are made anew from others), HCI_E_BUSY (such a job is at it),
 *   HCI_E_NOPLACE (a volume's policy can never find another place for a copy on it: too few nodes or disks),
 *   HCI_E_UNAVAILABLE, HCI_E_NOMEM; when waiting the job's error. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_disk_evacuate(hci_cluster *c, const char *uuid, hci_job **job, struct hci_error *err);

/** Use an evacuated disk again. No error when it is in use. @return 0, HCI_E_NOTFOUND, HCI_E_BUSY (its evacuation is under way:
 * cancel that). Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_disk_activate(hci_cluster *c, const char *uuid, struct hci_error *err);

/** Put a disk into a pool, or, @p pool NULL, take it out of its pool. One that serves a pool must be evacuated first; afterwards it
 * is for use again. @return 0, HCI_E_NOTFOUND, HCI_E_STATE (not evacuated), HCI_E_BUSY (it still holds something), HCI_E_CONFLICT.
 * Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_disk_set_pool(hci_cluster *c, const char *uuid, const char *pool, struct hci_error *err);

/** Take a failed, offline or evacuated disk out of the cluster: what a failed or offline one held is rebuilt at once. The write log of
 * an evacuated one, if that is a file elsewhere, is deleted by its node if that runs then; all others stay where they are. @p uuid may be
 * shortened to a unique prefix. @return 0, HCI_E_NOTFOUND, HCI_E_STATE (it is online), HCI_E_BUSY (its evacuation has not ended). Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_disk_remove(hci_cluster *c, const char *uuid, struct hci_error *err);

/** Options of hci_disk_scrub(). */
struct hci_scrub_opts {
	uint32_t size;      /**< sizeof(struct hci_scrub_opts) */
	uint32_t start;     /**< 1: begin a pass now, at the full rate; 0: only change the settings below */
	uint64_t rate;      /**< bytes a second at most, 64 KiB or more; 0: as it is (at first 32 MiB) */
	uint64_t period_ms; /**< from the beginning of a pass to that of the next; 0: as it is (at first a week); UINT64_MAX: only when asked */
};
#define HCI_SCRUB_OPTS_INIT { (uint32_t)sizeof(struct hci_scrub_opts), 1, 0, 0 }

/**
 * Scrub a disk, or change the pace of its scrubs: everything on it is read and compared with its checksums, beside other
 * requests, which come first. What is damaged is repaired from other replicas. hci_disk_list() tells how far it is.
 *
 * @param c     the cluster
 * @param uuid  of the disk, or a unique beginning of it; NULL: all disks
 * @param opts  NULL for the defaults
 * @param err   NULL, or filled in on failure
 * @return 0: its node will do it. HCI_E_NOTFOUND, HCI_E_INVAL, HCI_E_RANGE (rate), HCI_E_UNAVAILABLE.
 * Threads: any. Blocks for store I/O, not for the scrub. Since 0.1.
 */
HCI_API int hci_disk_scrub(hci_cluster *c, const char *uuid, const struct hci_scrub_opts *opts, struct hci_error *err);

struct hci_disk_info {
	char uuid[HCI_UUID_STR];
	char reserved[3];
	char node[HCI_NAME_MAX];
	char path[256];
	char pool[HCI_NAME_MAX];
	char reason[256];      /**< why it is in this state, for people */
	int32_t role;          /**< HCI_DISK_DATA, HCI_DISK_SPARE */
	int32_t disk_class;
	int32_t state;         /**< HCI_DISK_NEW ... */
	uint32_t reserved2;
	uint64_t capacity;     /**< bytes */
	uint64_t free;         /**< bytes, as of a few seconds ago */
	uint64_t segments;     /**< that hold data on it */
	uint64_t state_since;  /**< ns since 1970 */
	char log[256];         /**< as in hci_disk_opts; "": on the disk itself */
	uint64_t scrub_started;  /**< ns since 1970: when the pass of the scrub that is under way began, or the last one */
	uint64_t scrub_finished; /**< the same of the last one that was completed; equal: none is under way */
	uint64_t scrub_done;     /**< bytes read by it, as of a few seconds ago */
	uint64_t scrub_total;    /**< bytes that it has to read */
	uint64_t scrub_corrupt;  /**< blocks of 4 KiB that it found damaged; they are repaired from other replicas */
	uint64_t scrub_waiting;  /**< regions of 64 KiB of these whose repair has not begun */
	uint32_t log_wait_ms;    /**< this and the next as set, or the defaults */
	uint32_t log_level;      /**< percent */
};

/** All disks, by node and path. As hci_node_list(). Since 0.1. */
HCI_API int hci_disk_list(hci_cluster *c, struct hci_disk_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

HCI_END_DECLS
#endif
