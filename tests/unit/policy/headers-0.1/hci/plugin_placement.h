/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/plugin_placement.h
 * Placement policies: on which disks the copies of a segment go.
 */
#ifndef HCI_PLUGIN_PLACEMENT_H
#define HCI_PLUGIN_PLACEMENT_H

#include <hci/plugin.h>

HCI_BEGIN_DECLS

/** One disk of the pool. */
struct hci_placement_disk {
	char uuid[HCI_UUID_STR];
	char reserved[3];
	char node[HCI_NAME_MAX];
	char domain[HCI_NAME_MAX];  /**< failure domain: no two copies in the same one */
	int32_t role;               /**< HCI_DISK_DATA or HCI_DISK_SPARE (hci/disk.h) */
	int32_t disk_class;         /**< HCI_DISK_HDD, SSD, NVME */
	uint32_t usable;            /**< 1: may be chosen; 0: not, see why_not */
	uint32_t reserved2;
	char why_not[128];
	uint64_t capacity;          /**< bytes */
	uint64_t free;              /**< bytes, less what was placed on it in this same operation */
	uint64_t segments;          /**< of all volumes, with those placed in this same operation */
	uint64_t volume_segments;   /**< those of them that this operation placed */
};

/** The pool at one moment. Read-only. */
struct hci_placement_snapshot {
	uint32_t size;        /**< sizeof(struct hci_placement_snapshot) at the host */
	uint32_t disk_stride; /**< bytes from one disk to the next: what a disk has at this host */
	uint32_t ndisks;
	uint32_t reserved;
	const struct hci_placement_disk *disks; /**< walk with disk_stride, see docs/plugins.md */
};

#define HCI_PLACE_NEW 0     /**< a segment of a new or growing volume: spares are not usable */
#define HCI_PLACE_REBUILD 1 /**< a lost copy: spares are usable, and preferred */

/** What is asked. */
struct hci_placement_request {
	uint32_t size;            /**< sizeof(struct hci_placement_request) at the host */
	uint32_t purpose;         /**< HCI_PLACE_* */
	uint32_t want;            /**< disks to choose, 1..5 */
	uint32_t nkeep;           /**< copies that stay where they are */
	const uint32_t *keep;     /**< their indices: not to be chosen, nor others of their domains */
	uint32_t segment;         /**< number in the volume */
	uint32_t replicas;        /**< copies of the volume in all */
	uint64_t segment_bytes;
	uint64_t seed;            /**< from the volume's UUID and the segment: for ties */
	char volume[HCI_UUID_STR];
	char reserved[3];
};

/** Where the answer goes. Memory of the host. */
struct hci_placement_answer {
	uint32_t size;            /**< sizeof(struct hci_placement_answer) at the host */
	uint32_t reason_stride;   /**< bytes from one reason to the next, with room for the NUL */
	uint32_t *chosen;         /**< room for want indices, best first */
	double *scores;           /**< NULL, or one for each disk: larger is better */
	char *reasons;            /**< NULL, or one text for each disk: why it was turned down, or what speaks for it */
};

struct hci_placement_ops {
	uint32_t size; /**< sizeof(struct hci_placement_ops) at the plugin */
	uint32_t reserved;
	/** Optional. Make an instance from the policy's configuration text; 0, or negative after host->fail(). */
	int32_t (*open)(const struct hci_plugin_host *host, const char *config, void **instance);
	/** Optional. */
	void (*close)(void *instance);
	/** Required. 0: answer->chosen is filled in. Negative: no placement, after host->fail(). */
	int32_t (*place)(void *instance, const struct hci_placement_snapshot *snapshot,
			 const struct hci_placement_request *request, struct hci_placement_answer *answer);
};

HCI_END_DECLS
#endif
