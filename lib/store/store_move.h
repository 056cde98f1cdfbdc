/* SPDX-License-Identifier: Apache-2.0 */
/* Moving a cluster's metadata from one store to another while nothing runs. */
#ifndef STORE_STORE_MOVE_H
#define STORE_STORE_MOVE_H

#include "store/store.h"

struct store_move {
	struct store *from, *to;
	const char *from_url, *to_url;
	uint64_t keys, bytes; /* what was copied */
};

/*
 * From a fiber. 0: `to` has all that `from` had and is the cluster's store, `from` says where it went and is
 * refused from now on. A move that was interrupted is taken up again by the same call. HCI_E_NOTFOUND (no cluster in from),
 * HCI_E_STATE (it was moved elsewhere), HCI_E_BUSY (a lease lives: somebody runs), HCI_E_EXISTS (to is not empty),
 * HCI_E_CONFLICT (from changed meanwhile; it stays the cluster's store. Or somebody else copies to the same place).
 */
int store_move(struct store_move *m, struct hci_error *err);

/* HCI_E_STATE when the cluster was moved away from s, or is not here whole yet; 0. From a fiber. */
int store_check_moved(struct store *s, const char *url, struct hci_error *err);

#endif
