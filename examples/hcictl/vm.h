/* SPDX-License-Identifier: Apache-2.0 */
/* What vm.c, vm_nic.c and vm_usb.c share. */
#ifndef HCICTL_VM_H
#define HCICTL_VM_H

#include "cli.h"

void vm_cells(struct table *t, const struct hci_vm_info *v);
/* What --nic, given any number of times, says; o points to nics after it. */
void take_nics(struct cli *cli, struct hci_vm_opts *o, struct hci_vm_nic_opts nics[HCI_VM_NICS_MAX]);
int vm_show(struct cli *cli);
int vm_nics(struct cli *cli);
/* Likewise of --usb. */
void take_usb(struct cli *cli, struct hci_vm_opts *o, struct hci_vm_usb_opts usb[HCI_VM_USB_MAX]);
void show_usb(struct table *t, const struct hci_vm_usb_info *v, uint64_t n);
int vm_usb(struct cli *cli);

#endif
