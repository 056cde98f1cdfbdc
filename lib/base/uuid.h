/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs (RFC 4122, version 4). */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <hci/types.h>

#include "base/base.h"

/* Sets version and variant bits on 16 random bytes. */
void uuid_from_random(struct uuid *u, const uint8_t random[16]);
void uuid_print(const struct uuid *u, char out[HCI_UUID_STR]); /* lower case */
bool uuid_parse(const char *s, struct uuid *u);                /* exactly the 36 characters */
static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}
static inline bool uuid_is_null(const struct uuid *a)
{
	static const struct uuid z;

	return uuid_eq(a, &z);
}

#endif
