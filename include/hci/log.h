/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/log.h
 * Levels and the callback of libhci's log. The library writes to no file and no terminal itself:
 * it is silent until the program gives it a callback when it opens a cluster.
 */
#ifndef HCI_LOG_H
#define HCI_LOG_H

#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_LOG_ERROR 0 /**< something was lost or given up: a person should look */
#define HCI_LOG_WARN 1  /**< something went wrong and was dealt with */
#define HCI_LOG_INFO 2  /**< a change of state, a few lines an hour */
#define HCI_LOG_DEBUG 3 /**< what each control operation does */
#define HCI_LOG_TRACE 4 /**< what each I/O does: slow */

/**
 * Called with each line at or below the level that was asked for.
 *
 * @param arg        what was given with the callback
 * @param level      HCI_LOG_*
 * @param subsystem  short name of the part that speaks, such as "volume"; static
 * @param line       UTF-8 on one line, without a newline at its end; valid during the call only
 *
 * It comes from the threads that opening the cluster started and from those that wait in hci_queue_reap(), possibly from
 * two at once, and holds them up: hand lines over rather than wait for a disk. It must not call into libhci, nor
 * take a lock that a caller of hci_queue_reap() holds.
 */
typedef void (*hci_log_fn)(void *arg, int32_t level, const char *subsystem, const char *line);

HCI_END_DECLS
#endif
