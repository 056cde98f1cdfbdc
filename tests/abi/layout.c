/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of every public struct, member by member, on 64-bit machines. A line that fails means
 * that programs already compiled would break; members are only ever appended.
 */
#include <hci/hci.h>

#define AT(type, member, offset) \
	_Static_assert(offsetof(type, member) == (offset), #type "." #member " has moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has another size")

AT(struct hci_error, code, 0);
AT(struct hci_error, os_errno, 4);
AT(struct hci_error, message, 8);
SIZE(struct hci_error, 512);
