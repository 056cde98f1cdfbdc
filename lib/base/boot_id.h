/* SPDX-License-Identifier: Apache-2.0 */
/* Tells two lives of this machine apart: the kernel's random number of its start. Containers have that of their host. */
#ifndef BASE_BOOT_ID_H
#define BASE_BOOT_ID_H

#define BOOT_ID 40

struct hci_error;

/* 0 or HCI_E_SYS. Does not wait for any disk. */
int boot_id(char out[BOOT_ID], struct hci_error *err);

#endif
