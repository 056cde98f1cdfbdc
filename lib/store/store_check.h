/* SPDX-License-Identifier: Apache-2.0 */
/* What a store may be asked, checked before a driver sees it. */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

#include "store/store.h"

/* prefix: may be empty. HCI_E_INVAL. */
int store_check_key(const char *key, bool prefix, struct hci_error *err);
/* HCI_E_INVAL, HCI_E_RANGE. */
int store_check_txn(const struct store_cmp *cmps, size_t ncmp, const struct store_op *ops, size_t nop, struct hci_error *err);

#endif
