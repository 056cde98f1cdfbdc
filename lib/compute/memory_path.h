/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's memory stream from a local socket to another node's, through the codec (memstream/memstream.h): what rpc/relay.h is for
 * plain sockets. The messages: what the encoder sends goes as it is; the other way one byte stands before each: MEMORY_CODEC before
 * the decoder's messages, MEMORY_BYTES before what the destination's QEMU says to the source's (docs/wire-stream.md).
 *
 * Belongs to the loop; the codec computes in threads of its own.
 */
#ifndef COMPUTE_MEMORY_PATH_H
#define COMPUTE_MEMORY_PATH_H

#include "compute/memstream/memstream.h"
#include "rpc/stream.h"

#define MEMORY_BYTES 0u
#define MEMORY_CODEC 1u

struct memory_path;

struct memory_path_opts {
	struct mst_opts codec; /* now, wake and ctx are ours */
	/* May be NULL. Source: nothing comes from QEMU any more, whyever; once, from inside any call. */
	void (*on_end)(void *arg);
	/* The last callback: err code 0: all has arrived. Free it now or later. */
	void (*on_over)(void *arg, struct memory_path *p, const struct hci_error *err);
	/* May be NULL. The codec is about to be freed, which waits for its threads: whatever of codec.providers they wait for is to fail. */
	void (*quit)(void *arg);
	void *arg;
};

/* Source: from a socket that was accepted. Takes sock and conn, also when it fails. */
struct memory_path *memory_path_out(struct env *e, struct env_conn *sock, struct rpc_conn *conn, const struct rpc_stream_opts *so,
				    const struct memory_path_opts *o, struct hci_error *err);
/* Destination: to the socket at addr; accepts the stream when that is connected. Takes s, NULL: refused. */
struct memory_path *memory_path_in(struct env *e, struct rpc_stream *s, const char *addr, const struct memory_path_opts *o);
/* Bytes a second that go to the other node at most; 0: as many as it takes. At any time. */
void memory_path_limit(struct memory_path *p, uint64_t bytes_per_s);
/* Source: no page waits for what other migrations bring any more. */
void memory_path_hurry(struct memory_path *p);
void memory_path_stats(const struct memory_path *p, struct mst_stats *out);
/* Source: from QEMU's first byte to its last, or until the other QEMU had that. */
uint64_t memory_path_ns(const struct memory_path *p);
/* The peer is told why (may be NULL) if it is not over. NULL is fine for p. */
void memory_path_free(struct memory_path *p, const struct hci_error *why);

#endif
