/* SPDX-License-Identifier: Apache-2.0 */
/* Built by consumers.sh as C and as C++ against an install tree: uses what needs no cluster. */
#include <hci/hci.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct hci_error err;
	void *buffer;

	if (hci_version() != HCI_VERSION_NUMBER ||
	    strcmp(hci_version_string(), HCI_VERSION_STRING)) {
		fprintf(stderr, "loaded %s, compiled against %s\n", hci_version_string(),
			HCI_VERSION_STRING);
		return 1;
	}
	if (hci_buffer_alloc(&buffer, 0, &err) != HCI_E_INVAL || !err.message[0])
		return 1;
	if (hci_buffer_alloc(&buffer, 4096, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	hci_buffer_free(buffer);
	printf("libhci %s\n", hci_version_string());
	return 0;
}
