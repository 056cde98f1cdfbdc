/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/node.h
 * Nodes: the servers of the cluster, and the node service, the part of libhci that runs on each.
 */
#ifndef HCI_NODE_H
#define HCI_NODE_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** Options of hci_node_start(). */
struct hci_node_opts {
	uint32_t size;           /**< sizeof(struct hci_node_opts) */
	uint32_t heartbeat_ms;   /**< the node counts as dead after 3 of them; 0: 2000 */
	const char *name;        /**< of this node; required. @p cluster must have been opened with it as client_name, or with its certificate */
	const char *listen;      /**< "tcp:ADDRESS:PORT" that the other nodes reach; required */
	const char *run_dir;     /**< for export sockets and console logs, made when it is not there (its parent must be); not looked at
					without libvirt_uri; NULL: "/run/hci" */
	const char *libvirt_uri; /**< of this machine, such as "qemu:///system"; NULL: this node runs no VMs */
	uint32_t copy_depth;     /**< requests of rebuilds that a disk works on at a time while users have some; 0: 2 */
	uint32_t ram_disks;      /**< 1: disks and write logs on a tmpfs are taken, which end with the machine's power: for tests only */
	uint32_t guest_index_mib; /**< MiB of memory, at most, to know what the pages of the guests that run here contain, so that VMs that
					come need not bring them: 16 bytes a page; 0: 64; HCI_GUEST_INDEX_OFF: these pages are not read */
	uint32_t reserved;       /**< 0 */
};
#define HCI_NODE_OPTS_INIT { (uint32_t)sizeof(struct hci_node_opts), 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0 }

/** hci_node_opts.guest_index_mib: other guests' pages are not used. */
#define HCI_GUEST_INDEX_OFF 0xffffffffu

/**
 * Start the node service in this process: it joins the cluster, serves its disks, and makes the machine
 * match the desired state in the store until hci_node_stop().
 *
 * @param out      set to the handle
 * @param cluster  opened with the node's certificate
 * @param opts     see struct hci_node_opts
 * @param err      NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_BUSY (a node of this name is alive elsewhere), HCI_E_SYS (the address cannot be listened on),
 *   HCI_E_UNAVAILABLE, HCI_E_NOMEM.
 * Threads: any. Blocks until the node has joined. Since 0.1.
 */
HCI_API int hci_node_start(hci_node **out, hci_cluster *cluster, const struct hci_node_opts *opts, struct hci_error *err);

/**
 * Leave: stop serving, detach volumes, close disks, free the handle. VMs go on running; after the next start they are found again.
 * NULL is fine. Threads: any. Blocks until all is closed. Since 0.1.
 */
HCI_API void hci_node_stop(hci_node *node);

/** The address that the node really listens on, valid as long as the handle. Since 0.1. */
HCI_API const char *hci_node_address(const hci_node *node);

#define HCI_NODE_DOWN 0        /**< no heartbeat */
#define HCI_NODE_ALIVE 1
#define HCI_NODE_MAINTENANCE 2 /**< alive, and nothing new is placed on it */

struct hci_node_info {
	char name[HCI_NAME_MAX];
	char address[256];
	char version[HCI_NAME_MAX];
	int32_t state;        /**< HCI_NODE_* */
	uint32_t disks;
	uint32_t vms;
	uint32_t reserved;
	uint64_t started_at;  /**< ns since 1970, 0 when down */
	uint64_t migrate_bandwidth; /**< as in struct hci_node_limits */
	uint32_t migrations;        /**< likewise */
	uint32_t reserved2;
};

/**
 * All nodes, by name.
 *
 * @param c          the cluster
 * @param out        set to an array of @p n structs of @p info_size bytes each; hci_list_free()
 * @param n          set to the number
 * @param info_size  sizeof(struct hci_node_info) at the caller
 * @param err        NULL, or filled in on failure
 * @return 0, HCI_E_UNAVAILABLE, HCI_E_NOMEM, HCI_E_INVAL. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_node_list(hci_cluster *c, struct hci_node_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

/**
 * Move what a node's disks hold to other nodes, while volumes are in use, and place nothing new on it (HCI_NODE_MAINTENANCE). VMs are not
 * moved: migrate them. Cancelled, node and disks are for use again; what has moved stays where it is.
 *
 * @param c     the cluster
 * @param name  of the node
 * @param job   set to the job ("node-evacuate", in copies), hci_job_unref() it; NULL: wait for the end here
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND (the node, or it has no disks), HCI_E_BUSY (such a job is at it), HCI_E_NOPLACE (a volume's policy can
 *   never find another place for its copies: add a node, or lower its replicas), HCI_E_UNAVAILABLE, HCI_E_NOMEM; when waiting the
 *   job's error. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_node_evacuate(hci_cluster *c, const char *name, hci_job **job, struct hci_error *err);

/** Use a node and its evacuated disks again. @return 0, HCI_E_NOTFOUND, HCI_E_BUSY (its evacuation is under way). Threads: any. Blocks
 * for store I/O. Since 0.1. */
HCI_API int hci_node_activate(hci_cluster *c, const char *name, struct hci_error *err);

/** What a node may spend on VMs that leave it, and how many may come: hci_node_limit(). */
struct hci_node_limits {
	uint32_t size;              /**< sizeof(struct hci_node_limits) */
	uint32_t migrations;        /**< VMs that leave live at a time, at most 64; 0: 4. As many others may be arriving. More wait, in order; who
				     * waits for a destination that takes no more is passed by those that go elsewhere. */
	uint64_t migrate_bandwidth; /**< bytes a second for all of them together, in equal shares; 0: no limit */
};
#define HCI_NODE_LIMITS_INIT { (uint32_t)sizeof(struct hci_node_limits), 0, 0 }

/**
 * Set what a node may spend on migrations. It counts from within a second on, for migrations under way as well.
 *
 * @param c       the cluster
 * @param name    of the node, which need not be alive
 * @param limits  read during the call; all of it is set
 * @param err     NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND, HCI_E_INVAL, HCI_E_CONFLICT (changed by somebody else at that moment), HCI_E_UNAVAILABLE. Threads: any.
 *   Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_node_limit(hci_cluster *c, const char *name, const struct hci_node_limits *limits, struct hci_error *err);

/** Forget a node that is down and has no disks. @return 0, HCI_E_NOTFOUND, HCI_E_STATE. Threads: any. Blocks. Since 0.1. */
HCI_API int hci_node_remove(hci_cluster *c, const char *name, struct hci_error *err);

HCI_END_DECLS
#endif
