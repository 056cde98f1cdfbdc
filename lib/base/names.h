/* SPDX-License-Identifier: Apache-2.0 */
/* Names of objects: 1..63 of [A-Za-z0-9._-], the first a letter or digit. */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H

#include <hci/error.h>

#include "base/base.h"

/* what: "volume", "node", ... for the message, which quotes the name with odd bytes escaped. */
int name_check(const char *name, const char *what, struct hci_error *err);

#endif
