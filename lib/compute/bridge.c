/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See bridge.h. Asked by ioctl and not by /sys, which may be another network namespace's than ours. Open vSwitch's are not taken
 * for bridges: their ports are made in another way.
 */
#include "compute/bridge.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int ask(int fd, unsigned long what, const char *name, struct ifreq *r)
{
	snprintf(r->ifr_name, sizeof(r->ifr_name), "%s", name);
	return ioctl(fd, what, r) ? errno : 0;
}

static int is_bridge(int fd, const char *name)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq r = { .ifr_data = (char *)&info };
	int rc = ask(fd, SIOCETHTOOL, name, &r);

	if (rc == ENODEV)
		return rc;
	return !rc && !strcmp(info.driver, "bridge") ? 0 : EMEDIUMTYPE;
}

static int look(int fd, const char *name, struct bridge *out)
{
	struct ifreq r = { 0 };
	int rc = is_bridge(fd, name);

	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "%s", name);
	if (!rc)
		rc = ask(fd, SIOCGIFMTU, name, &r);
	if (rc)
		return rc;
	out->mtu = (uint32_t)r.ifr_mtu;
	rc = ask(fd, SIOCGIFFLAGS, name, &r);
	out->up = r.ifr_flags & IFF_UP;
	return rc;
}

int bridge_look(const char *name, struct bridge *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return errno;
	rc = look(fd, name, out);
	close(fd);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct bridge *)a)->name, ((const struct bridge *)b)->name);
}

uint32_t bridge_list(struct bridge *out, uint32_t cap)
{
	struct if_nameindex *all = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct bridge b;
	uint32_t n = 0;

	for (struct if_nameindex *i = all; fd >= 0 && i && i->if_name; i++) {
		/* One with another name than we take cannot be asked for. */
		if (!ether_if_name(i->if_name) || look(fd, i->if_name, &b))
			continue;
		if (n < cap)
			out[n] = b;
		n++;
	}
	qsort(out, MIN(n, cap), sizeof(*out), by_name);
	if (all)
		if_freenameindex(all);
	if (fd >= 0)
		close(fd);
	return n;
}

bool bridge_lacks(const struct bridge_port *p, const char *node, bool live, struct bridge_lack *out)
{
	struct bridge b;
	int rc = bridge_look(p->bridge, &b);

	memset(out, 0, sizeof(*out));
	if (rc == ENODEV) {
		snprintf(out->why, sizeof(out->why), "node %s has no bridge %s", node, p->bridge);
		snprintf(out->cure, sizeof(out->cure), "make it there with its uplink (ip link add name %s type bridge), or choose another node",
			 p->bridge);
	} else if (rc == EMEDIUMTYPE) {
		snprintf(out->why, sizeof(out->why), "%s of node %s is no Linux bridge", p->bridge, node);
		snprintf(out->cure, sizeof(out->cure), "name it otherwise, and make a bridge of this name, or choose another node");
	} else if (rc) {
		snprintf(out->why, sizeof(out->why), "bridge %s of node %s cannot be looked at: %s", p->bridge, node, strerror(rc));
		snprintf(out->cure, sizeof(out->cure), "run the node service as root");
	} else if (b.mtu < p->mtu) {
		snprintf(out->why, sizeof(out->why), "bridge %s of node %s has an MTU of %u, the interface needs %u", p->bridge, node, b.mtu,
			 p->mtu);
		snprintf(out->cure, sizeof(out->cure), "raise it on all its ports there (ip link set dev %s mtu %u), or choose another node",
			 p->bridge, p->mtu);
	} else if (live && !b.up) {
		snprintf(out->why, sizeof(out->why), "bridge %s of node %s is down", p->bridge, node);
		snprintf(out->cure, sizeof(out->cure), "ip link set dev %s up", p->bridge);
	}
	return *out->why;
}
