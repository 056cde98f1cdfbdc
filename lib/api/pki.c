/* SPDX-License-Identifier: Apache-2.0 */
/* hci/pki.h */
#include "env/pki.h"

#include "api/api_impl.h"

#define ADDRESSES_MAX 32
#define DAYS_DEFAULT 825

int hci_pki_create_ca(const char *dir, const char *name, struct hci_error *err)
{
	int rc;

	if (!dir || !name)
		return api_null(dir ? "name" : "dir", err);
	rc = name_check(name, "cluster", err);
	return rc ? rc : pki_create_ca(dir, name, err);
}

int hci_pki_issue(const char *ca_dir, const char *name, const char *addresses, const char *out_dir, uint32_t days,
		  struct hci_error *err)
{
	const char *addrs[ADDRESSES_MAX + 1] = { NULL };
	char *copy, *save = NULL, *a;
	unsigned n = 0;
	int rc;

	if (!ca_dir || !name || !out_dir)
		return api_null(!ca_dir ? "ca_dir" : !name ? "name" : "out_dir", err);
	rc = name_check(name, "certificate", err);
	if (rc)
		return rc;
	if (days > 3650)
		return err_set(err, HCI_E_INVAL, "certificate %s: %u days: 1 to 3650 are possible", name, days);
	copy = mem_strdup(addresses ? addresses : "");
	if (!copy)
		return err_set(err, HCI_E_NOMEM, "certificate %s: out of memory", name);
	for (a = strtok_r(copy, ", ", &save); a && n < ADDRESSES_MAX; a = strtok_r(NULL, ", ", &save))
		addrs[n++] = a;
	if (a)
		rc = err_set(err, HCI_E_INVAL, "certificate %s: more than %d addresses", name, ADDRESSES_MAX);
	if (!rc)
		rc = pki_issue(ca_dir, name, out_dir, days ? (int)days : DAYS_DEFAULT, addrs, err);
	mem_free(copy);
	return rc;
}
