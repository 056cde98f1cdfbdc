/* SPDX-License-Identifier: Apache-2.0 */
/* How sockets are set up: no delay, dead peers are noticed, and no pacing where there is no network. */
#include <netinet/tcp.h>
#include <string.h>

#include "env/real_conn.h"

void tune_socket(int fd, int family)
{
	int one = 1, idle = 10, every = 5, times = 3, user = 30000;

	if (family == AF_UNIX)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user, sizeof(user));
}

/* Both ends have one address, or loopback ones: nothing between them but memory. */
static bool within_host(int fd)
{
	struct sockaddr_storage a, b;
	socklen_t la = sizeof(a), lb = sizeof(b);
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)&a, *b4 = (const struct sockaddr_in *)&b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)&a, *b6 = (const struct sockaddr_in6 *)&b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	if (getsockname(fd, (struct sockaddr *)&a, &la) || getpeername(fd, (struct sockaddr *)&b, &lb))
		return false;
	if (a.ss_family == AF_INET && b.ss_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr || ntohl(b4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	if (a.ss_family == AF_INET6 && b.ss_family == AF_INET6)
		return !memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr));
	return false;
}

/*
 * BBR sends at a pace, by a timer, and looks for the rate of a path that has none here: a fifth more CPU for large
 * reads between two processes of a host. For paths through a network the administrator's choice stands.
 */
void tune_path(int fd)
{
	char name[16] = "";
	socklen_t len = sizeof(name) - 1;

	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) || strncmp(name, "bbr", 3) || !within_host(fd))
		return;
	/* Cubic may not be there, reno always is. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}
