/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/pool.h
 * Pools: disks that serve volumes together, with their spares.
 */
#ifndef HCI_POOL_H
#define HCI_POOL_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** Options of hci_pool_create(). */
struct hci_pool_opts {
	uint32_t size;             /**< sizeof(struct hci_pool_opts) */
	uint32_t rebuild_delay_ms; /**< from a replica's loss to its rebuild elsewhere; 0: 600,000 */
	const char *name;          /**< required */
	const char *policy;        /**< placement policy, see hci/policy.h; NULL: "spread" */
	uint32_t rebuild_impact;   /**< of volumes that say nothing themselves, as in struct hci_volume_opts; 0: 200 */
	uint32_t reserved;         /**< 0 */
};
#define HCI_POOL_OPTS_INIT { (uint32_t)sizeof(struct hci_pool_opts), 0, NULL, NULL, 0, 0 }

/** Make a pool. @return 0, HCI_E_INVAL, HCI_E_EXISTS, HCI_E_NOTFOUND (policy), HCI_E_UNAVAILABLE. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_pool_create(hci_cluster *c, const struct hci_pool_opts *opts, struct hci_error *err);

/** Options of hci_pool_set(): 0 leaves a thing as it is. */
struct hci_pool_set_opts {
	uint32_t size;           /**< sizeof(struct hci_pool_set_opts) */
	uint32_t rebuild_impact; /**< percent, 100..100000; UINT32_MAX: the default */
	uint64_t rebuild_delay_ms; /**< UINT64_MAX: the default */
};
#define HCI_POOL_SET_OPTS_INIT { (uint32_t)sizeof(struct hci_pool_set_opts), 0, 0 }

/**
 * Change what a pool's volumes go by that say nothing themselves, also while they are in use: within seconds.
 *
 * @param c     the cluster
 * @param name  of the pool
 * @param opts  see struct hci_pool_set_opts
 * @param err   NULL, or filled in on failure
 * @return 0: recorded. HCI_E_INVAL, HCI_E_NOTFOUND, HCI_E_UNAVAILABLE. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_pool_set(hci_cluster *c, const char *name, const struct hci_pool_set_opts *opts, struct hci_error *err);

/** Remove a pool that has neither disks nor volumes. @return 0, HCI_E_NOTFOUND, HCI_E_BUSY. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_pool_delete(hci_cluster *c, const char *name, struct hci_error *err);

struct hci_pool_info {
	char name[HCI_NAME_MAX];
	char policy[HCI_NAME_MAX];
	uint64_t rebuild_delay_ms;
	uint64_t capacity;  /**< bytes of all its data disks that are online */
	uint64_t free;      /**< bytes */
	uint32_t disks;     /**< data disks */
	uint32_t spares;
	uint32_t disks_failed;
	uint32_t volumes;
	uint32_t rebuild_impact; /**< percent */
	uint32_t reserved;
};

/** All pools, by name. As hci_node_list(). Since 0.1. */
HCI_API int hci_pool_list(hci_cluster *c, struct hci_pool_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

/** How hci_pool_balance() goes about it. */
struct hci_pool_balance_opts {
	uint32_t size;      /**< set by HCI_POOL_BALANCE_OPTS_INIT */
	uint32_t fill_only; /**< 1: how much disks are used does not count */
};
#define HCI_POOL_BALANCE_OPTS_INIT { .size = sizeof(struct hci_pool_balance_opts) }

/** What hci_pool_balance() would do. */
struct hci_pool_balance_info {
	uint64_t copies; /**< that would move */
	uint64_t bytes;  /**< of their segments, as if they were full: at most so much is copied */
	double most_before, least_before; /**< percent of a data disk's capacity that segments are placed on: the largest, the smallest */
	double most_after, least_after;
	/**
	 * How much a data disk is used, the most and the least: requests a second of those who read and write, averaged over the last
	 * minute or so, each 128 KiB counted as one more. All 0 with fill_only. After: if the load stays as it is.
	 */
	double load_most_before, load_least_before;
	double load_most_after, load_least_after;
	uint64_t load_copies; /**< those of copies that would move for the load's sake */
};

/** Look how evenly a pool's data disks are used, and how much it would take to even that out. Nothing changes. @p opts: NULL for the
 * defaults. @return 0, HCI_E_NOTFOUND, HCI_E_NOPLACE (no disks), HCI_E_INVAL (options), HCI_E_UNAVAILABLE, HCI_E_NOMEM. Threads: any.
 * Blocks for store I/O. Since 0.1. */
HCI_API int hci_pool_balance_plan(hci_cluster *c, const char *name, const struct hci_pool_balance_opts *opts,
				  struct hci_pool_balance_info *out, uint64_t info_size, struct hci_error *err);

/**
 * Even out how much of each data disk is used by segments, while volumes are in use: after disks were added, say. Moves as little as
 * that takes, and only to where the volumes' policies agree. Spares stay free. Cancelled, what has moved stays.
 * Then, unless told otherwise, how much data disks of a class are used: when one is asked for much more than the average, much used copies
 * leave it for disks below, in exchange for hardly used ones where shares would become uneven else; 64 copies at the most,
 * and only where it helps clearly.
 *
 * @param c     the cluster
 * @param name  of the pool
 * @param opts  NULL for the defaults; read during the call only
 * @param job   set to the job ("pool-balance", in copies), hci_job_unref() it; NULL: wait for the end here
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND, HCI_E_BUSY (such a job is at it), HCI_E_INVAL (options), HCI_E_UNAVAILABLE, HCI_E_NOMEM; when waiting the
 * job's error. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_pool_balance(hci_cluster *c, const char *name, const struct hci_pool_balance_opts *opts, hci_job **job,
			     struct hci_error *err);

HCI_END_DECLS
#endif
