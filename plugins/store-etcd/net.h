/* SPDX-License-Identifier: Apache-2.0 */
/* One TCP connection, in TLS when the URL says so; nothing here waits but the resolver. */
#ifndef ETCD_NET_H
#define ETCD_NET_H

#include <stddef.h>
#include <sys/types.h>

#include "url.h"

struct net {
	int fd; /* -1: none */
	struct ssl_st *ssl;
	bool connecting;
	bool want_write; /* else to be polled for reading */
	struct failure why;
};

/* Begins to connect; which: the number of the try, for hosts of several addresses. 0, or net->why. */
int net_start(struct net *n, const struct cfg *c, const struct endpoint *ep, unsigned which);
/* 1: ready, 0: poll and call again, -1: net->why. */
int net_step(struct net *n);
/* Bytes, 0: not now, -1: over, net->why. */
ssize_t net_read(struct net *n, void *p, size_t len);
ssize_t net_write(struct net *n, const void *p, size_t len);
void net_stop(struct net *n);

#endif
