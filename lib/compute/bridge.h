/* SPDX-License-Identifier: Apache-2.0 */
/* Linux bridges of this machine, which guests' interfaces are ports of. Only looked at: whoever runs the machine makes them. */
#ifndef COMPUTE_BRIDGE_H
#define COMPUTE_BRIDGE_H

#include "base/base.h"
#include "base/ether.h"

struct bridge {
	char name[ETHER_IF_NAME];
	uint32_t mtu;
	bool up;
};

/* 0, ENODEV (no such interface), EMEDIUMTYPE (it is no bridge), or another errno. */
int bridge_look(const char *name, struct bridge *out);
/* At most cap of them, sorted by name; returns how many there are. 0 also when that cannot be told. */
uint32_t bridge_list(struct bridge *out, uint32_t cap);

/* What a guest's interface needs of this machine. */
struct bridge_port {
	char bridge[ETHER_IF_NAME];
	uint32_t mtu; /* not less; 0: any will do */
};
struct bridge_lack {
	char why[200], cure[160];
};
/* Cannot be had? node: this one's name. live: frames are to get through at once, not only when somebody has set the bridge up. */
bool bridge_lacks(const struct bridge_port *p, const char *node, bool live, struct bridge_lack *out);

#endif
