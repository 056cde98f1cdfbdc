/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/metrics.h
 * The metrics of an open cluster, as text that Prometheus scrapes.
 */
#ifndef HCI_METRICS_H
#define HCI_METRICS_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/**
 * Print all metrics in the Prometheus text format 0.0.4.
 *
 * @param out      set to a NUL-terminated text, to be freed with hci_metrics_free(); NULL on
 * failure
 * @param len      NULL, or set to the text's length in bytes without the closing NUL
 * @param cluster  an open cluster; its node, disks and volumes on this node are what is measured
 * @param err      NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL, HCI_E_NOMEM, HCI_E_CLOSED.
 * Threads: any. Does not wait for I/O. Since 0.1.
 */
HCI_API int hci_metrics_text(char **out, uint64_t *len, hci_cluster *cluster,
			     struct hci_error *err);

/**
 * Free what hci_metrics_text() made.
 *
 * @param text  the text; NULL is fine
 * Threads: any. Never blocks. Since 0.1.
 */
HCI_API void hci_metrics_free(char *text);

HCI_END_DECLS
#endif
