/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "store/driver.h"

int store_sqlite_open(struct env *e, const char *path, struct store **out, struct hci_error *err)
{
	(void)e;
	*out = NULL;
	return err_set(err, HCI_E_UNSUPPORTED, "store %s: the sqlite driver is not there yet", path);
}
