/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket of this machine carried to another node: bytes of the socket go over a stream to a socket there, and
 * back. What the socket does not take is not taken from the stream, and the other way round, so the two programs at
 * the ends see each other's pace. The end of either socket is the end of the other, once all that was sent before it has arrived.
 */
#ifndef RPC_RELAY_H
#define RPC_RELAY_H

#include "rpc/stream.h"

struct rpc_relay;

struct rpc_relay_opts {
	/* Called before bytes are passed on, to the socket or from it; may be NULL. */
	void (*before)(void *arg, bool to_socket);
	/* The last callback: err as of rpc_stream_ops.on_closed, or why the socket could not be connected. Free it now or later. */
	void (*on_over)(void *arg, struct rpc_relay *y, const struct hci_error *err);
	void *arg;
	uint64_t pace_ns; /* rpc_stream_pace() */
	bool keep; /* whatever ends at the other side, the socket stays open, silent, until the relay is freed */
};

/* From a socket that was accepted here. Takes sock and conn, also when it fails. NULL: out of memory. */
struct rpc_relay *rpc_relay_out(struct env *e, struct env_conn *sock, struct rpc_conn *conn, const struct rpc_stream_opts *so,
				const struct rpc_relay_opts *o, struct hci_error *err);
/* To the socket at addr; the stream is accepted when that is connected, else refused. Takes s. NULL: out of memory. */
struct rpc_relay *rpc_relay_in(struct env *e, struct rpc_stream *s, const char *addr, const struct rpc_relay_opts *o);

struct rpc_relay_stat {
	uint64_t from_socket, to_socket; /* bytes */
	uint64_t rate;                   /* what the way carries, bytes/s; 0: not known yet */
	uint64_t in_flight;
};
void rpc_relay_stat(const struct rpc_relay *y, struct rpc_relay_stat *out);
/* Ends what is not over yet: the peer is told why (may be NULL). No callback follows. NULL is fine. */
void rpc_relay_free(struct rpc_relay *y, const struct hci_error *why);

#endif
