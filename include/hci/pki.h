/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/pki.h
 * A certificate authority of the cluster's own: every node and every client has a certificate
 * from it, and every connection checks it on both sides (TLS 1.3).
 */
#ifndef HCI_PKI_H
#define HCI_PKI_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/**
 * Make a cluster CA: DIR/ca.crt and DIR/ca.key (mode 0600), ECDSA P-256, valid for 10 years.
 *
 * @param dir   directory; made (mode 0700) when it is not there, its parent must be
 * @param name  of the cluster, for people
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_EXISTS (there is a CA already), HCI_E_SYS, HCI_E_INVAL. Threads: any. Blocks for file I/O. Since 0.1.
 */
HCI_API int hci_pki_create_ca(const char *dir, const char *name, struct hci_error *err);

/**
 * Issue a certificate: OUT_DIR/node.crt and OUT_DIR/node.key (mode 0600), and OUT_DIR/ca.crt. Replaces what is there.
 *
 * @param ca_dir     where ca.crt and ca.key are
 * @param name       of the node or client: becomes the common name
 * @param addresses  DNS names and IP addresses it is reached at, separated by commas; NULL: none
 * @param out_dir    directory; made (mode 0700) when it is not there, its parent must be
 * @param days       validity, 1..3650; 0: 825
 * @param err        NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_NOTFOUND (no CA there), HCI_E_SYS. Threads: any. Blocks for file I/O. Since 0.1.
 */
HCI_API int hci_pki_issue(const char *ca_dir, const char *name, const char *addresses, const char *out_dir, uint32_t days,
			  struct hci_error *err);

HCI_END_DECLS
#endif
