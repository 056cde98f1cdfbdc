/* SPDX-License-Identifier: Apache-2.0 */
/* The simple way to use a volume: attach it, write, read, zero, detach. Each call waits for its
 * end. */
#include "../common/lab.h"

#include <string.h>

int main(void)
{
	struct hci_error err;
	struct lab lab;
	hci_volume *vol;
	char *buf;

	lab_up(&lab);
	lab_volume(&lab, "books", 16 << 20);

	/* We are now the only writer, until the last hci_volume_unref(). */
	must(hci_volume_attach(&vol, lab.client, "books", NULL, &err));
	printf("%llu bytes in blocks of %u\n", (unsigned long long)hci_volume_size(vol),
	       hci_volume_block_size(vol));

	/* Any memory will do; memory from here is not copied on the way. */
	must(hci_buffer_alloc((void **)&buf, 8192, &err));
	strcpy(buf, "It was a bright cold day in April");
	must(hci_volume_pwrite(vol, buf, 8192, 4096, &err));
	/* Now it is on three disks of three nodes. */

	memset(buf, 0, 8192);
	must(hci_volume_pread(vol, buf, 8192, 4096, &err));
	printf("read: %s\n", buf);

	must(hci_volume_zero(vol, 8192, 4096, &err));
	must(hci_volume_pread(vol, buf, 8192, 4096, &err));
	printf("after zeroing the first byte is %d\n", buf[0]);

	/* Errors name the object, the cause and the cure. */
	if (hci_volume_pwrite(vol, buf, 100, 0, &err) == HCI_E_ALIGN)
		printf("refused: %s\n", err.message);

	hci_buffer_free(buf);
	hci_volume_unref(vol);
	lab_down(&lab);
	return 0;
}
