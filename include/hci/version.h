/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/version.h
 * The version a program is compiled against, and the one it runs with.
 */
#ifndef HCI_VERSION_H
#define HCI_VERSION_H

#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_VERSION_MAJOR 0
#define HCI_VERSION_MINOR 1
#define HCI_VERSION_PATCH 0
#define HCI_VERSION_STRING "0.1.0"

/** One number to compare versions with: 0.1.0 is 100, 1.2.3 is 10203. */
#define HCI_VERSION_NUMBER (HCI_VERSION_MAJOR * 10000 + HCI_VERSION_MINOR * 100 + HCI_VERSION_PATCH)

/**
 * The version of the library that is loaded, as HCI_VERSION_NUMBER.
 *
 * @return a positive number; at least HCI_VERSION_NUMBER of the headers when the dynamic linker
 *   found a library that fits.
 * Threads: any. Never blocks. Since 0.1.
 */
HCI_API int32_t hci_version(void);

/**
 * The same as text, such as "0.1.0".
 *
 * @return a static string.
 * Threads: any. Never blocks. Since 0.1.
 */
HCI_API const char *hci_version_string(void);

HCI_END_DECLS
#endif
