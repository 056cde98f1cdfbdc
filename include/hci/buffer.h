/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/buffer.h
 * Memory for block I/O that goes to disks and sockets without being copied.
 *
 * Any memory works with the I/O calls; only aligned memory spares the copy. Languages whose
 * run time moves objects (Go, Python) take theirs from here as well.
 */
#ifndef HCI_BUFFER_H
#define HCI_BUFFER_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** What hci_buffer_alloc() aligns to, in bytes; the length is rounded up to a multiple of it. */
#define HCI_BUFFER_ALIGN 4096

/** The largest buffer that can be had, in bytes: 1 GiB. */
#define HCI_BUFFER_MAX 1073741824

/**
 * Allocate an aligned buffer of zeros.
 *
 * @param out  set to the buffer, which is the caller's; to NULL on failure
 * @param len  bytes, 1..HCI_BUFFER_MAX
 * @param err  NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL (@p out is NULL or @p len is 0), HCI_E_RANGE (@p len above the
 *   maximum), HCI_E_NOMEM.
 * Threads: any. Never blocks. Since 0.1.
 */
HCI_API int hci_buffer_alloc(void **out, uint64_t len, struct hci_error *err);

/**
 * Free a buffer of hci_buffer_alloc().
 *
 * @param buf  the buffer, with no I/O in flight on it; NULL is fine
 *
 * Threads: any, also another one than allocated it. Never blocks. Since 0.1.
 */
HCI_API void hci_buffer_free(void *buf);

HCI_END_DECLS
#endif
