/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/export.h
 * Exports: an attached volume as a block device for programs that speak NBD (QEMU, nbd-client, fio, qemu-img).
 */
#ifndef HCI_EXPORT_H
#define HCI_EXPORT_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_EXPORT_TLS_OFF 0
#define HCI_EXPORT_TLS_REQUIRE 1 /**< clients need a certificate of the cluster CA */

/** Options of hci_export_start(). */
struct hci_export_opts {
	uint32_t size;       /**< sizeof(struct hci_export_opts) */
	uint32_t tls;        /**< HCI_EXPORT_TLS_*; a unix socket needs none */
	const char *address; /**< "unix:/path" or "tcp:ADDRESS:PORT"; required */
	const char *name;    /**< export name; NULL: the volume's, and the default export */
	uint32_t read_only;  /**< 1: clients may not write */
	uint32_t reserved;   /**< 0 */
};
#define HCI_EXPORT_OPTS_INIT { (uint32_t)sizeof(struct hci_export_opts), 0, NULL, NULL, 0, 0 }

/**
 * Serve an attached volume over NBD until hci_export_stop().
 *
 * @param out   set to the handle, which keeps @p vol alive
 * @param vol   attached volume
 * @param opts  see struct hci_export_opts
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_BUSY (another program has the address), HCI_E_EXISTS (a file that is no socket is there),
 *   HCI_E_SYS (address), HCI_E_AUTH, HCI_E_NOMEM. Threads: any. Blocks shortly. Since 0.1.
 */
HCI_API int hci_export_start(hci_export **out, hci_volume *vol, const struct hci_export_opts *opts, struct hci_error *err);

/**
 * Stop: open requests are finished, connections closed. NULL is fine.
 *
 * Threads: any. Blocks, for as long as replicas that open requests need are out of reach: hci_volume_abandon() from another thread
 * ends that. Since 0.1.
 */
HCI_API void hci_export_stop(hci_export *x);

/** The NBD URI for clients, such as "nbd+unix:///vol?socket=/run/hci/vol.sock"; valid as long as the handle. Since 0.1. */
HCI_API const char *hci_export_uri(const hci_export *x);

HCI_END_DECLS
#endif
