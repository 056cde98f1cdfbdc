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
};
#define HCI_POOL_OPTS_INIT { (uint32_t)sizeof(struct hci_pool_opts), 0, NULL, NULL }

/** Make a pool. @return 0, HCI_E_INVAL, HCI_E_EXISTS, HCI_E_NOTFOUND (policy), HCI_E_UNAVAILABLE. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_pool_create(hci_cluster *c, const struct hci_pool_opts *opts, struct hci_error *err);

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
};

/** All pools, by name. As hci_node_list(). Since 0.1. */
HCI_API int hci_pool_list(hci_cluster *c, struct hci_pool_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

HCI_END_DECLS
#endif
