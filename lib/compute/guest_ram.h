/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RAM of a guest that runs on this machine, read from outside of its QEMU while the guest goes on: what is read may be torn or
 * old. Nothing of the guest or of QEMU is stopped, asked or changed. Blocks for moments; any thread, one at a time for a handle,
 * but for guest_ram_page(), which any may call.
 */
#ifndef COMPUTE_GUEST_RAM_H
#define COMPUTE_GUEST_RAM_H

#include <hci/error.h>

#include "base/base.h"
#include "base/uuid.h"

#define GUEST_RAM_RUN 64u /* pages that are read at a time */

struct guest_ram;

/* Of the domain with this UUID. HCI_E_NOTFOUND: no QEMU of it here, or none whose RAM is found; HCI_E_SYS: it may not be read. */
int guest_ram_open(const struct uuid *vm, struct guest_ram **out, struct hci_error *err);
/* One more has it, and closes it, too; on any thread. */
void guest_ram_keep(struct guest_ram *r);
/* When the last one does it is gone. NULL is fine. */
void guest_ram_close(struct guest_ram *r);
uint64_t guest_ram_pages(const struct guest_ram *r);
/*
 * Reads the pages from first on, n of them (at most GUEST_RAM_RUN, not beyond the end) that are in memory: *there has their bits. Others are left
 * alone, so that no page comes from the swap or into being by this. HCI_E_CLOSED: the process has ended.
 */
int guest_ram_read(struct guest_ram *r, uint64_t first, unsigned n, uint8_t *buf, uint64_t *there);
/* One page, by its number. 0, HCI_E_NOTFOUND. */
int guest_ram_page(struct guest_ram *r, uint64_t page, void *buf);

#endif
