/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's certificate authority: ECDSA P-256 keys, X.509 certificates, PEM files. Blocking
 * and without a loop: from start-up code or a worker thread.
 */
#ifndef ENV_PKI_H
#define ENV_PKI_H

#include <hci/error.h>

#include "base/base.h"

/* Makes dir/ca.crt (0644) and dir/ca.key (0600), valid for ten years; dir is made if need be.
 * HCI_E_EXISTS when there is a CA: it is left as it is. */
int pki_create_ca(const char *dir, const char *cluster_name, struct hci_error *err);

/*
 * Issues out_dir/node.crt and out_dir/node.key (0600) from the CA in dir, and copies ca.crt beside
 * them. CN is node_name; it and each address (IP literal or DNS name) are in the subject
 * alternative names; good as a TLS client and as a server. Replaces what is there.
 *
 * days: validity from now. Negative: expired that many days ago (for tests). addrs:
 * NULL-terminated, or NULL.
 */
int pki_issue(const char *dir, const char *node_name, const char *out_dir, int days,
	      const char *const *addrs, struct hci_error *err);

/* As pki_issue; usage is one of these. Anything but BOTH is for tests and for clients that are no
 * nodes. */
enum pki_usage { PKI_BOTH, PKI_CLIENT, PKI_SERVER };
int pki_issue_for(const char *dir, const char *name, const char *out_dir, int days,
		  const char *const *addrs, enum pki_usage usage, struct hci_error *err);

enum pki_layout {
	PKI_LAYOUT_QEMU, /* qemu, libnbd, nbdkit: {ca,client,server}-{cert,key}.pem in one directory
			  */
	PKI_LAYOUT_LIBVIRT, /* libvirtd: CA/cacert.pem, libvirt/{client,server}cert.pem,
			       libvirt/private/{client,server}key.pem */
};
/* Lays node_dir's ca.crt, node.crt, node.key out under out_dir as others expect them. */
int pki_lay_out(const char *node_dir, const char *out_dir, enum pki_layout layout,
		struct hci_error *err);

#endif
