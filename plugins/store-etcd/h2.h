/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): streams that send one message and get
 * any number. One struct h2 lives as long as one connection.
 */
#ifndef ETCD_H2_H
#define ETCD_H2_H

#include "net.h"
#include "pb.h"

#define GRPC_OK 0
#define GRPC_UNKNOWN 2
#define GRPC_INVALID_ARGUMENT 3
#define GRPC_NOT_FOUND 5
#define GRPC_PERMISSION_DENIED 7
#define GRPC_RESOURCE_EXHAUSTED 8
#define GRPC_FAILED_PRECONDITION 9
#define GRPC_OUT_OF_RANGE 11
#define GRPC_UNIMPLEMENTED 12
#define GRPC_UNAVAILABLE 14
#define GRPC_UNAUTHENTICATED 16
#define GRPC_LOST (-1) /* the connection went, or the answer made no sense */

/* Of one message; an answer of 1000 values is what can be large. */
#define GRPC_MESSAGE_MAX (512u << 20)

struct stream;
struct stream_ops {
	/* A whole message; lent for the call. */
	void (*message)(void *arg, const void *p, size_t n);
	/* Over, with a GRPC_* and its text; once, the stream is gone. Not after h2_cancel(). */
	void (*closed)(void *arg, int status, const char *text);
};

struct h2;
struct h2 *h2_new(struct net *net, const char *authority, bool tls);
/* Ends all streams with GRPC_LOST, in the order in which they were opened. */
void h2_free(struct h2 *h, const char *why);
/* body: the message, taken over also on failure. end: nothing more will be sent on it. NULL: no memory. */
struct stream *h2_open(struct h2 *h, const char *path, const char *token, struct buf *body, bool end,
		       const struct stream_ops *ops, void *arg);
void h2_cancel(struct h2 *h, struct stream *s);
/* Reads what has come and writes what is to go. 0; 1: there is more to read; -1: the connection is over, net->why says why. */
int h2_step(struct h2 *h);
/* Only writes. May end streams that were not sent yet. */
int h2_flush(struct h2 *h);

/* Bytes of a gRPC stream to whole messages: grpc.c. False: no gRPC, or no memory. */
bool grpc_feed(struct buf *rx, const void *p, size_t n, void (*message)(void *arg, const void *p, size_t n), void *arg);

#endif
