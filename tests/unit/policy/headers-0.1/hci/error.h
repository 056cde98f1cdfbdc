/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/error.h
 * Error codes and the caller-owned error record.
 *
 * A call returns 0 (or a count) on success and a negative HCI_E_* on failure. The message in
 * struct hci_error names the object, the cause and the cure. Codes are stable: none is ever
 * renumbered or reused.
 */
#ifndef HCI_ERROR_H
#define HCI_ERROR_H

#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_OK 0
#define HCI_E_INVAL (-1)        /**< an argument or option is wrong */
#define HCI_E_NOMEM (-2)        /**< memory could not be had */
#define HCI_E_NOTFOUND (-3)     /**< no such object */
#define HCI_E_EXISTS (-4)       /**< the name is taken */
#define HCI_E_BUSY (-5)         /**< in use, or a queue is full: retry */
#define HCI_E_RANGE (-6)        /**< past the end of a volume, or out of a limit */
#define HCI_E_ALIGN (-7)        /**< not a multiple of the block size */
#define HCI_E_READONLY (-8)     /**< write to what was opened for reading */
#define HCI_E_IO (-9)           /**< a medium failed */
#define HCI_E_NOSPACE (-10)     /**< a disk or pool is full */
#define HCI_E_TIMEOUT (-11)     /**< the time allowed is over */
#define HCI_E_CANCELLED (-12)   /**< cancelled by the caller */
#define HCI_E_CLOSED (-13)      /**< the handle or connection is closed */
#define HCI_E_FENCED (-14)      /**< a newer generation or a lost lease: this writer is over */
#define HCI_E_CONFLICT (-15)    /**< the store changed meanwhile: read again, retry */
#define HCI_E_UNAVAILABLE (-16) /**< a peer, the store or enough replicas cannot be reached now */
#define HCI_E_PROTO (-17)       /**< a peer sent what the protocol does not allow */
#define HCI_E_VERSION (-18)     /**< made by, or speaking, a version that is not supported */
#define HCI_E_AUTH (-19)        /**< certificate missing, wrong, expired or of another cluster */
#define HCI_E_CORRUPT (-20)     /**< stored data fails its checksum or makes no sense */
#define HCI_E_PLUGIN (-21)      /**< a plugin cannot be loaded or misbehaves */
#define HCI_E_NOPLACE (-22)     /**< no placement satisfies the policy */
#define HCI_E_UNSUPPORTED (-23) /**< not supported here or by this driver */
#define HCI_E_STATE (-24)       /**< not possible in the object's present state */
#define HCI_E_LIBVIRT (-25)     /**< libvirt refused; its message is in the error */
#define HCI_E_SYS (-26)         /**< a system call failed: see os_errno */
#define HCI_E_AGAIN (-27)       /**< nothing there right now */
#define HCI_E_INTERNAL (-28)    /**< a bug in libhci: please report it */

/**
 * Filled in by a failing call. Owned by the caller, may be uninitialised before the call, holds
 * no pointers. The layout is frozen: 512 bytes.
 */
struct hci_error {
	int32_t code;      /**< HCI_E_* */
	int32_t os_errno;  /**< errno of the system call behind it, or 0 */
	char message[504]; /**< UTF-8, NUL-terminated, one line, no secret in it */
};

/**
 * The name of a code, such as "HCI_E_NOTFOUND".
 *
 * @param code  any number
 * @return a static string, never NULL; "HCI_E_?" for a number that is no code.
 * Threads: any. Never blocks. Since 0.1.
 */
HCI_API const char *hci_strerror(int32_t code);

HCI_END_DECLS
#endif
