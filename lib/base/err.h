/* SPDX-License-Identifier: Apache-2.0 */
/* Filling struct hci_error. Every function here takes err == NULL. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <hci/error.h>

#include "base/base.h"

/* Sets code and message, returns code: `return err_set(err, HCI_E_NOTFOUND, "volume %s: ...",
 * name);` The message names the object, the cause and the cure. */
int err_set(struct hci_error *err, int code, const char *fmt, ...) PRINTF(3, 4);
/* The same with os_errno, whose text is appended after ": ". */
int err_sys(struct hci_error *err, int code, int os_errno, const char *fmt, ...) PRINTF(4, 5);
/* Puts "fmt: " before the message that is there; returns the code that is there. */
int err_prefix(struct hci_error *err, const char *fmt, ...) PRINTF(2, 3);
/* Copies src to dst (both may be NULL); returns src's code, or code when src is NULL. */
int err_copy(struct hci_error *dst, const struct hci_error *src, int code);
/* HCI_E_* for an errno: ENOSPC -> NOSPACE, ENOENT -> NOTFOUND, EIO -> IO, ... default SYS. */
int err_from_errno(int os_errno);

#endif
