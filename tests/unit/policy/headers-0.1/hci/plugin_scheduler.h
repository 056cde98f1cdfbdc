/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/plugin_scheduler.h
 * Scheduler policies: on which node a VM runs.
 */
#ifndef HCI_PLUGIN_SCHEDULER_H
#define HCI_PLUGIN_SCHEDULER_H

#include <hci/plugin.h>

HCI_BEGIN_DECLS

/** One node. */
struct hci_scheduler_node {
	char name[HCI_NAME_MAX];
	uint32_t usable;          /**< 1: may be chosen; 0: not, see why_not */
	uint32_t cpus;            /**< 0: not known */
	char why_not[128];
	uint64_t memory;          /**< bytes in all, 0: not known */
	uint64_t memory_free;     /**< bytes not promised to VMs */
	uint32_t vms;             /**< that run there */
	uint32_t vcpus;           /**< of those VMs together */
	uint64_t local_bytes;     /**< of the VM's volumes with a replica on this node */
};

/** The cluster at one moment. Read-only. */
struct hci_scheduler_snapshot {
	uint32_t size;        /**< sizeof(struct hci_scheduler_snapshot) at the host */
	uint32_t node_stride; /**< bytes from one node to the next */
	uint32_t nnodes;
	uint32_t reserved;
	const struct hci_scheduler_node *nodes;
};

/** What is asked. */
struct hci_scheduler_request {
	uint32_t size;         /**< sizeof(struct hci_scheduler_request) at the host */
	uint32_t vcpus;
	uint64_t memory;       /**< bytes */
	uint64_t seed;         /**< from the VM's UUID: for ties */
	uint64_t volume_bytes; /**< of all its volumes */
	char vm[HCI_NAME_MAX];
	char current[HCI_NAME_MAX]; /**< where it runs now, "" when nowhere */
};

/** Where the answer goes. Memory of the host. */
struct hci_scheduler_answer {
	uint32_t size;          /**< sizeof(struct hci_scheduler_answer) at the host */
	uint32_t reason_stride;
	uint32_t *chosen;       /**< room for one index */
	double *scores;         /**< NULL, or one for each node */
	char *reasons;          /**< NULL, or one text for each node */
};

struct hci_scheduler_ops {
	uint32_t size; /**< sizeof(struct hci_scheduler_ops) at the plugin */
	uint32_t reserved;
	/** Optional, as for placement. */
	int32_t (*open)(const struct hci_plugin_host *host, const char *config, void **instance);
	/** Optional. */
	void (*close)(void *instance);
	/** Required. 0: answer->chosen[0] is filled in. Negative: nowhere, after host->fail(). */
	int32_t (*schedule)(void *instance, const struct hci_scheduler_snapshot *snapshot,
			    const struct hci_scheduler_request *request, struct hci_scheduler_answer *answer);
};

HCI_END_DECLS
#endif
