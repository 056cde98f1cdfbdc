/* SPDX-License-Identifier: Apache-2.0 */
/* The version calls of the public API. The numbers themselves live in hci/version.h. */
#include <hci/version.h>

int32_t hci_version(void)
{
	return HCI_VERSION_NUMBER;
}

const char *hci_version_string(void)
{
	return HCI_VERSION_STRING;
}
