/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume as a block device for programs that speak NBD: QEMU, qemu-img, nbdcopy, fio, the
 * kernel's client. This one serves for as long as the command in its arguments runs (default:
 * none).
 *
 *     nbd-export sh -c 'qemu-io -f raw -c "write -P 7 0 1M" -c "read -P 7 0 1M" "$URI"'
 */
#include "../common/lab.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct hci_export_opts o = HCI_EXPORT_OPTS_INIT;
	struct hci_error err;
	struct lab lab;
	hci_volume *vol;
	hci_export *x;
	char address[96];
	int status = 0;

	lab_up(&lab);
	lab_volume(&lab, "v", 64 << 20);
	must(hci_volume_attach(&vol, lab.client, "v", NULL, &err));

	snprintf(address, sizeof(address), "unix:%s/v.sock", lab.dir);
	o.address = address; /* or tcp:HOST:PORT, then better with o.tls = HCI_EXPORT_TLS_REQUIRE */
	must(hci_export_start(&x, vol, &o, &err));
	printf("%s\n", hci_export_uri(x));
	fflush(stdout);

	setenv("URI", hci_export_uri(x), 1);
	if (argc > 1) {
		pid_t child = fork();

		if (!child) {
			execvp(argv[1], argv + 1);
			_exit(127);
		}
		waitpid(child, &status, 0);
	}

	/* Finishes what clients asked for, then closes their connections. */
	hci_export_stop(x);
	hci_volume_unref(vol);
	lab_down(&lab);
	return status != 0;
}
