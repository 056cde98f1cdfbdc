/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/event.h
 * Events: what happens in the cluster, from one pollable queue.
 */
#ifndef HCI_EVENT_H
#define HCI_EVENT_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_EVENT_NODE_UP 1
#define HCI_EVENT_NODE_DOWN 2
#define HCI_EVENT_DISK_STATE 3      /**< object: UUID; text: the new state and why */
#define HCI_EVENT_VOLUME_DEGRADED 4 /**< object: UUID; segments have fewer copies in sync than the volume wants, or the number of its disks
					 that are out has changed */
#define HCI_EVENT_VOLUME_HEALTHY 5  /**< a degraded volume is whole again: each segment has all its copies in sync, none is being made */
#define HCI_EVENT_VOLUME_ATTACHED 6
#define HCI_EVENT_VOLUME_DETACHED 7
#define HCI_EVENT_VM_STATE 8        /**< text: "running" (also: on another node now), "paused", "crashed", "stopped"; "stopped" comes after
					 "crashed", too: hci_vm_list() tells which it is */
#define HCI_EVENT_JOB 9             /**< a job began or ended; text: its state */
#define HCI_EVENT_OVERFLOW 10       /**< the program was too slow: events were left out, list anew */
#define HCI_EVENT_DISK_FULL 11      /**< object: UUID; writes to volumes with segments there wait or fail; that it has room again is a
					 HCI_EVENT_DISK_STATE */

struct hci_event {
	int32_t type;          /**< HCI_EVENT_* */
	uint32_t reserved;
	uint64_t time;         /**< ns since 1970 */
	uint64_t revision;     /**< of the store: grows */
	char object[256];      /**< name or UUID */
	char node[HCI_NAME_MAX];
	char text[256];        /**< for people */
};

/**
 * Begin to collect events, from now on; at most @p depth (0: 4096) wait. How volumes are at that time is read once and is no
 * event: a volume that is degraded then is told of when that changes.
 *
 * To wait until a volume is whole, subscribe first, then look at hci_volume_list(): if it is degraded there,
 * HCI_EVENT_VOLUME_HEALTHY with its UUID will come. No event tells that a copy has moved while all others were in sync, which
 * counts as rebuilding in the list: look again now and then.
 *
 * @return 0, HCI_E_NOMEM, HCI_E_EXISTS, HCI_E_INVAL, HCI_E_UNAVAILABLE. Threads: any. Blocks. Since 0.1.
 */
HCI_API int hci_event_subscribe(hci_cluster *c, uint32_t depth, struct hci_error *err);

/** A descriptor that is readable while events wait; the cluster's. -1 before hci_event_subscribe(). Since 0.1. */
HCI_API int hci_event_fd(const hci_cluster *c);

/** Take the next event. @param timeout_ms 0: do not wait; -1: for ever. @return 1: one was taken, 0: none in time, or HCI_E_*. Threads: any. Since 0.1. */
HCI_API int hci_event_next(hci_cluster *c, struct hci_event *out, uint64_t event_size, int32_t timeout_ms,
			   struct hci_error *err);

/** The name of a type, such as "volume-degraded". @return a static string, never NULL; "?" for a number that is no type. Threads: any. Since 0.1. */
HCI_API const char *hci_event_name(int32_t type);

HCI_END_DECLS
#endif
