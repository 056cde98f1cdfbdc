/* SPDX-License-Identifier: Apache-2.0 */
/* See boot_id.h. */
#include "base/boot_id.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/err.h"

#define LEN 36

int boot_id(char out[BOOT_ID], struct hci_error *err)
{
	static const char file[] = "/proc/sys/kernel/random/boot_id";
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID - 1);
	int e = n < 0 ? errno : EIO;

	if (fd >= 0)
		close(fd);
	if (n < LEN)
		return err_sys(err, HCI_E_SYS, e, "%s cannot be read; mount /proc", file);
	out[LEN] = '\0';
	return 0;
}
