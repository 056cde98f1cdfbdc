/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/cluster.h
 * Opening a cluster: the handle that everything else hangs on.
 *
 * An open cluster runs one loop thread, one thread of the store driver and a few workers; a node service
 * that runs VMs a few more (docs/threading.md). No others exist, none before hci_cluster_open() and none
 * after the last hci_cluster_unref().
 * Two clusters, or one cluster twice, can be open in one process.
 */
#ifndef HCI_CLUSTER_H
#define HCI_CLUSTER_H

#include <hci/error.h>
#include <hci/log.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** Options of hci_cluster_open(). Strings are read during the call only. */
struct hci_cluster_opts {
	uint32_t size;           /**< sizeof(struct hci_cluster_opts) */
	int32_t log_level;       /**< HCI_LOG_*: lines above it are not made */
	const char *store_url;   /**< "sqlite:/path/cluster.db" or "etcd://host:2379,host:2379"; required */
	const char *client_name; /**< who we are to others (leases, messages), a name; NULL: "client-PID" */
	const char *ca_file;     /**< PEM of the cluster CA; NULL: no TLS (tests only), then cert and key are NULL too */
	const char *cert_file;   /**< PEM of our certificate, its common name is client_name or the node's name */
	const char *key_file;    /**< PEM of our key, its owner's alone (mode 600): one that is open to others is refused; root's may be
				      readable by a group (640), that of a service */
	hci_log_fn log;          /**< NULL: silent */
	void *log_arg;           /**< handed to log */
	int32_t busy_poll_us;    /**< the loop thread looks for work this long at most before it sleeps; it adapts: no longer than pays,
				      not at all when idle. 0: 100, -1: never (saves CPU, costs latency). Since 0.1. */
	int32_t reserved;        /**< 0 */
};
#define HCI_CLUSTER_OPTS_INIT { (uint32_t)sizeof(struct hci_cluster_opts), HCI_LOG_INFO, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0 }

/**
 * Make the metadata of a new cluster in an empty store.
 *
 * @param store_url  where; the store is made if it is not there yet
 * @param name       of the cluster
 * @param err        NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL (name), HCI_E_EXISTS (there is a cluster in that store), HCI_E_UNAVAILABLE, HCI_E_CORRUPT,
 *   HCI_E_VERSION, HCI_E_NOMEM.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_cluster_create(const char *store_url, const char *name, struct hci_error *err);

/**
 * Open a cluster.
 *
 * @param out   set to the handle with one reference, the caller's; NULL on failure
 * @param opts  see struct hci_cluster_opts
 * @param err   NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL (options), HCI_E_NOTFOUND (no cluster in that store), HCI_E_STATE (it was moved to another store, see
 *   hci/store.h), HCI_E_AUTH (certificates), HCI_E_VERSION,
 *   HCI_E_CORRUPT, HCI_E_UNAVAILABLE, HCI_E_NOMEM, HCI_E_SYS.
 * Threads: any. Blocks until the store answered. Since 0.1.
 */
HCI_API int hci_cluster_open(hci_cluster **out, const struct hci_cluster_opts *opts, struct hci_error *err);

/** Take another reference. @return @p c. Threads: any. Since 0.1. */
HCI_API hci_cluster *hci_cluster_ref(hci_cluster *c);

/**
 * Give a reference back; the last one (volumes, nodes, queues and jobs hold one each) closes the cluster:
 * ends its threads and frees everything. NULL is fine.
 *
 * Threads: any but the log callback's. Blocks until the threads have ended. Since 0.1.
 */
HCI_API void hci_cluster_unref(hci_cluster *c);

/** What hci_cluster_info() tells. */
struct hci_cluster_info {
	char name[HCI_NAME_MAX];
	char uuid[HCI_UUID_STR];
	char reserved[3];
	uint32_t format;      /**< version of the metadata */
	uint32_t nodes;       /**< known to the cluster */
	uint32_t nodes_alive; /**< with a heartbeat now */
	uint32_t disks;
	uint32_t disks_online;
	uint32_t pools;
	uint32_t volumes;
	uint32_t vms;
};

/**
 * Describe the cluster.
 *
 * @param c          the cluster
 * @param out        filled in
 * @param info_size  sizeof(struct hci_cluster_info) at the caller
 * @param err        NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_UNAVAILABLE. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_cluster_info(hci_cluster *c, struct hci_cluster_info *out, uint64_t info_size, struct hci_error *err);

/** Free an array that any hci_*_list() call made. NULL is fine. Threads: any. Since 0.1. */
HCI_API void hci_list_free(void *list);

HCI_END_DECLS
#endif
