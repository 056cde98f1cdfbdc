/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/store.h
 * The store that holds a cluster's metadata: moving it elsewhere. URLs are those of hci_cluster_open():
 * "sqlite:/path/of/file", "etcd://host:2379,host:2379" (docs/store-format.md).
 */
#ifndef HCI_STORE_H
#define HCI_STORE_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** What hci_store_copy() has copied; zeros when an earlier call had done it all. */
struct hci_store_copy_info {
	uint64_t keys;
	uint64_t bytes; /**< of their values */
};

/**
 * Move a cluster's metadata from one store to another, while nothing runs: no node, and no program that has the
 * cluster open.
 *
 * Everything is copied, then read from both and compared. From then on the target is the cluster's store, and the source, which
 * keeps its content, is refused with HCI_E_STATE and the target's URL. When the call fails or is interrupted the source is still
 * good, or the same call takes the move up again; at no moment can both be opened.
 *
 * @param from_url   where the cluster is
 * @param to_url     an empty store; it is made if it is not there yet
 * @param out        NULL, or filled in
 * @param info_size  sizeof(struct hci_store_copy_info) at the caller
 * @param err        NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL (URLs), HCI_E_NOTFOUND (no cluster in the source), HCI_E_BUSY (a lease lives: somebody runs, or died a
 *   moment ago), HCI_E_EXISTS (the target is not empty), HCI_E_STATE (the source was moved elsewhere), HCI_E_CONFLICT (the
 *   source was changed meanwhile, or somebody else copies to the same target), HCI_E_UNAVAILABLE, HCI_E_NOSPACE, HCI_E_CORRUPT, HCI_E_VERSION, HCI_E_NOMEM.
 * Threads: any. Blocks for store I/O: some seconds for 100,000 keys. Since 0.1.
 */
HCI_API int hci_store_copy(const char *from_url, const char *to_url, struct hci_store_copy_info *out, uint64_t info_size,
			   struct hci_error *err);

HCI_END_DECLS
#endif
