/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/queue.h
 * Queues of block I/O: submit many, reap many, and one descriptor to sleep on.
 *
 * A request that was accepted has exactly one completion, also after its volume was detached; one that
 * was refused has none. A queue belongs to one thread at a time.
 */
#ifndef HCI_QUEUE_H
#define HCI_QUEUE_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** One finished request. */
struct hci_completion {
	uint64_t tag;      /**< of the submitter */
	int32_t status;    /**< 0 or HCI_E_* */
	uint32_t reserved;
};

/**
 * Make a queue.
 *
 * @param out      set to the handle
 * @param cluster  the cluster whose volumes will use it
 * @param depth    requests that may be open at once, 1..65536
 * @param err      NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_NOMEM, HCI_E_SYS. Threads: any. Never blocks. Since 0.1.
 */
HCI_API int hci_queue_create(hci_queue **out, hci_cluster *cluster, uint32_t depth, struct hci_error *err);

/**
 * Free it; waits for open requests first. NULL is fine.
 *
 * Requests wait for as long as replicas are out of reach: call hci_volume_abandon() or the last hci_volume_unref() first (both end
 * them; completions stay here) where that may not be waited for. Threads: the queue's. Blocks. Since 0.1.
 */
HCI_API void hci_queue_unref(hci_queue *q);

/** A descriptor (eventfd) that is readable while completions wait; poll it, do not read it. The queue's. Since 0.1. */
HCI_API int hci_queue_fd(const hci_queue *q);

/**
 * Take finished requests. While it waits it may do the work of the cluster's loop thread in the calling thread; the log callback
 * then comes from here.
 *
 * @param q           the queue
 * @param out         room for @p max completions
 * @param max         at most so many
 * @param timeout_ms  0: do not wait; -1: until there is one
 *
 * @return how many (0: none in time). Threads: one at a time. Blocks at most @p timeout_ms. Since 0.1.
 */
HCI_API int hci_queue_reap(hci_queue *q, struct hci_completion *out, uint32_t max, int32_t timeout_ms);

HCI_END_DECLS
#endif
