/* SPDX-License-Identifier: Apache-2.0 */
/* What a store may be asked: keys, values, transactions within the limits of store.h. The same for every driver. */
#include "store/store_check.h"

#include "base/err.h"
#include "store/driver.h"

bool store_key_matches(const char *key, const char *prefix)
{
	return strncmp(key, prefix, strlen(prefix)) == 0;
}

int store_check_key(const char *key, bool prefix, struct hci_error *err)
{
	size_t n = key ? strnlen(key, STORE_KEY_MAX + 1) : 0;

	if (n > STORE_KEY_MAX || (n == 0 && !(prefix && key)))
		return err_set(err, HCI_E_INVAL,
			       "store key \"%.40s%s\" has %s; allowed are 1..%u bytes",
			       key ? key : "", n > 40 ? "..." : "",
			       n ? "too many bytes" : "no bytes", STORE_KEY_MAX);
	for (size_t i = 0; i < n; i++)
		if (key[i] < 0x21 || key[i] > 0x7e)
			return err_set(err, HCI_E_INVAL,
				       "store key has byte 0x%02x at position %zu; allowed is "
				       "printable ASCII without spaces",
				       (unsigned char)key[i], i);
	return 0;
}

static bool ops_overlap(const struct store_op *a, const struct store_op *b)
{
	bool pa = a->kind == STORE_DELETE_PREFIX, pb = b->kind == STORE_DELETE_PREFIX;

	if (pa && store_key_matches(b->key, a->key))
		return true;
	if (pb && store_key_matches(a->key, b->key))
		return true;
	return !pa && !pb && strcmp(a->key, b->key) == 0;
}

static int check_op(const struct store_op *ops, size_t i, struct hci_error *err)
{
	const struct store_op *op = &ops[i];
	int rc = store_check_key(op->key, op->kind == STORE_DELETE_PREFIX, err);

	if (rc)
		return rc;
	if (op->kind == STORE_PUT && op->value_len > STORE_VALUE_MAX)
		return err_set(err, HCI_E_RANGE,
			       "store key %s: value of %u bytes is too large, the limit is %u",
			       op->key, op->value_len, STORE_VALUE_MAX);
	for (size_t j = 0; j < i; j++)
		if (ops_overlap(&ops[j], op))
			return err_set(err, HCI_E_INVAL,
				       "store key %s: changed twice in one transaction", op->key);
	return 0;
}

int store_check_txn(const struct store_cmp *cmps, size_t ncmp, const struct store_op *ops, size_t nop,
		    struct hci_error *err)
{
	int rc = 0;

	if (ncmp > STORE_TXN_MAX || nop > STORE_TXN_MAX)
		return err_set(err, HCI_E_RANGE,
			       "store transaction of %zu compares and %zu operations: the limit is "
			       "%u each",
			       ncmp, nop, STORE_TXN_MAX);
	for (size_t i = 0; i < ncmp && !rc; i++)
		rc = store_check_key(cmps[i].key, false, err);
	for (size_t i = 0; i < nop && !rc; i++)
		rc = check_op(ops, i, err);
	return rc;
}
