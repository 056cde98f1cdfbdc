/* SPDX-License-Identifier: Apache-2.0 */
/* See ether.h. */
#include "base/ether.h"

#include <stdio.h>

#include "base/names.h"

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void print(const uint8_t b[6], char out[ETHER_MAC_STR])
{
	snprintf(out, ETHER_MAC_STR, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

const char *ether_mac(const char *s, char out[ETHER_MAC_STR])
{
	static const uint8_t zero[6];
	uint8_t b[6];

	if (strnlen(s, ETHER_MAC_STR) != ETHER_MAC_STR - 1)
		return "is no MAC address: six pairs of hex digits with colons between them";
	for (unsigned i = 0; i < 6; i++) {
		int hi = digit(s[3 * i]), lo = digit(s[3 * i + 1]);

		if (hi < 0 || lo < 0 || (i < 5 && s[3 * i + 2] != ':'))
			return "is no MAC address: six pairs of hex digits with colons between them";
		b[i] = (uint8_t)(hi << 4 | lo);
	}
	if (b[0] & 1)
		return "is the address of a group: the second digit must be even";
	if (!memcmp(b, zero, sizeof(b)))
		return "is nobody's address";
	if (b[0] == 0xfe)
		return "begins with fe, which is kept for the host's end of the port";
	print(b, out);
	return NULL;
}

void ether_mac_of(const struct uuid *vm, uint32_t index, uint32_t attempt, char out[ETHER_MAC_STR])
{
	/* Bytes 10 to 15 of a version 4 UUID are random; five of them, as the first byte is to be 02. */
	const uint8_t *u = vm->b + 10;
	const uint8_t b[6] = { 0x02, u[1], u[2], u[3] ^ (uint8_t)(attempt >> 8), u[4] ^ (uint8_t)attempt, (uint8_t)(u[5] + index) };

	print(b, out);
}

bool ether_if_name(const char *s)
{
	return strnlen(s, ETHER_IF_NAME) < ETHER_IF_NAME && !name_check(s, "interface", NULL);
}

void ether_port(const struct uuid *vm, uint32_t index, char out[ETHER_IF_NAME])
{
	snprintf(out, ETHER_IF_NAME, "hci%02x%02x%02x%02x-%u", vm->b[0], vm->b[1], vm->b[2], vm->b[3], index % 100);
}
