/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of connections as text: "tcp:HOST:PORT", "unix:/path". Opens no socket. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "env/real_impl.h"

static int parse_unix(const char *s, const char *path, struct addr *a, struct hci_error *err)
{
	if (path[0] != '/')
		return err_set(err, HCI_E_INVAL,
			       "address %s: the path must be absolute: unix:/path", s);
	if (strlen(path) >= sizeof(a->path))
		return err_set(err, HCI_E_INVAL,
			       "address %.200s: the path is longer than the %zu bytes that a "
			       "socket can have",
			       s, sizeof(a->path) - 1);
	a->is_unix = true;
	memcpy(a->path, path, strlen(path) + 1);
	return 0;
}

static int parse_port(const char *s, const char *port, struct addr *a, struct hci_error *err)
{
	unsigned long n = 0;
	const char *p;

	for (p = port; *p >= '0' && *p <= '9' && n <= 65535; p++)
		n = n * 10 + (unsigned long)(*p - '0');
	if (p == port || *p || n > 65535)
		return err_set(err, HCI_E_INVAL,
			       "address %.200s: the port must be a number from 0 to 65535", s);
	a->port = (uint16_t)n;
	return 0;
}

int addr_parse(const char *s, struct addr *a, struct hci_error *err)
{
	const char *host, *end, *colon;

	memset(a, 0, sizeof(*a));
	if (!strncmp(s, "unix:", 5))
		return parse_unix(s, s + 5, a, err);
	if (strncmp(s, "tcp:", 4) != 0)
		return err_set(err, HCI_E_INVAL,
			       "address %.200s: write tcp:HOST:PORT or unix:/path", s);
	host = s + 4;
	colon = strrchr(host, ':');
	end = colon;
	if (host[0] == '[' && colon && colon[-1] == ']') {
		host++;
		end--;
	} else if (colon && memchr(host, ':', (size_t)(colon - host))) {
		return err_set(err, HCI_E_INVAL,
			       "address %.200s: write an IPv6 address in brackets: tcp:[::1]:PORT",
			       s);
	}
	if (!colon || end <= host)
		return err_set(err, HCI_E_INVAL, "address %.200s: write tcp:HOST:PORT", s);
	if ((size_t)(end - host) >= sizeof(a->host))
		return err_set(err, HCI_E_INVAL, "address %.200s: the host's name is too long", s);
	memcpy(a->host, host, (size_t)(end - host));
	return parse_port(s, colon + 1, a, err);
}

bool addr_literal(const struct addr *a, struct sockaddr_storage *ss, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_un *un = (struct sockaddr_un *)ss;

	memset(ss, 0, sizeof(*ss));
	if (a->is_unix) {
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->path, sizeof(a->path));
		*len = sizeof(*un);
	} else if (inet_pton(AF_INET, a->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(a->port);
		*len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, a->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(a->port);
		*len = sizeof(*v6);
	} else {
		return false;
	}
	return true;
}

void addr_print(const struct sockaddr_storage *ss, char *out, size_t cap)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_un *un = (const struct sockaddr_un *)ss;
	char host[INET6_ADDRSTRLEN] = "?";

	if (ss->ss_family == AF_UNIX) {
		snprintf(out, cap, "unix:%s", un->sun_path[0] ? un->sun_path : "(no name)");
	} else if (ss->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
		snprintf(out, cap, "tcp:%s:%u", host, ntohs(v4->sin_port));
	} else {
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
		snprintf(out, cap, "tcp:[%s]:%u", host, ntohs(v6->sin6_port));
	}
}

int addr_lookup(const struct addr *a, struct sockaddr_storage out[ADDR_TRIES],
		socklen_t len[ADDR_TRIES])
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list, *ai;
	char port[8];
	int n = 0, r;

	snprintf(port, sizeof(port), "%u", a->port);
	r = getaddrinfo(a->host, port, &hints, &list);
	if (r)
		return r < 0 ? r : -r;
	for (ai = list; ai && n < ADDR_TRIES; ai = ai->ai_next) {
		memcpy(&out[n], ai->ai_addr, ai->ai_addrlen);
		len[n++] = ai->ai_addrlen;
	}
	freeaddrinfo(list);
	return n;
}
