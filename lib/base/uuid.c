/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs as text and from random bytes. Randomness itself comes from lib/env. */
#include "base/uuid.h"

void uuid_from_random(struct uuid *u, const uint8_t random[16])
{
	memcpy(u->b, random, sizeof(u->b));
	/* RFC 4122 4.4: version 4, variant 10x. */
	u->b[6] = (uint8_t)((u->b[6] & 0x0f) | 0x40);
	u->b[8] = (uint8_t)((u->b[8] & 0x3f) | 0x80);
}

/* A hyphen stands before these bytes. */
static bool hyphen_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_print(const struct uuid *u, char out[HCI_UUID_STR])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < sizeof(u->b); i++) {
		if (hyphen_before(i))
			*out++ = '-';
		*out++ = digits[u->b[i] >> 4];
		*out++ = digits[u->b[i] & 15];
	}
	*out = 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool uuid_parse(const char *s, struct uuid *u)
{
	struct uuid r;

	for (size_t i = 0; i < sizeof(r.b); i++) {
		int high, low;

		if (hyphen_before(i) && *s++ != '-')
			return false;
		/* In this order: the second is only looked at when the first is not the end. */
		if ((high = digit(s[0])) < 0 || (low = digit(s[1])) < 0)
			return false;
		r.b[i] = (uint8_t)(high << 4 | low);
		s += 2;
	}
	if (*s)
		return false;
	*u = r;
	return true;
}
