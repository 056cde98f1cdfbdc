/* SPDX-License-Identifier: Apache-2.0 */
/* What Ethernet calls things: MAC addresses of guests' interfaces, names of the host's. */
#ifndef BASE_ETHER_H
#define BASE_ETHER_H

#include <hci/types.h>

#include "base/base.h"

#define ETHER_MAC_STR 18u /* "02:00:00:00:00:01" and the closing NUL */
#define ETHER_IF_NAME 16u /* IFNAMSIZ: 15 bytes and the closing NUL */

/*
 * Six pairs of hex digits between colons, to lower case. Says what is wrong with one that no guest may have, or NULL: not such a
 * text, a group's address, all zero, or in fe:, which libvirt keeps for the host's end of the port.
 */
const char *ether_mac(const char *s, char out[ETHER_MAC_STR]);
/* One for a guest's index-th interface, always the same of the same VM: locally administered, the rest from its UUID. Another try
 * gives another one. */
void ether_mac_of(const struct uuid *vm, uint32_t index, uint32_t attempt, char out[ETHER_MAC_STR]);
/* Of a bridge or another interface of the host: 1..15 of [A-Za-z0-9._-], the first a letter or digit. Fewer than the kernel takes. */
bool ether_if_name(const char *s);
/* The host's end of a guest's index-th interface: the same on every node, and no other VM's. */
void ether_port(const struct uuid *vm, uint32_t index, char out[ETHER_IF_NAME]);

#endif
