/* SPDX-License-Identifier: Apache-2.0 */
/* Two sockets of this machine joined: what comes from one goes to the other, at the pace of the slower; the end of one is the end of both. */
#ifndef RPC_JOIN_H
#define RPC_JOIN_H

#include "env/env.h"

struct rpc_join;

struct rpc_join_opts {
	/* Called before bytes are passed on, to the socket that was given or from it; may be NULL. */
	void (*before)(void *arg, bool to_socket);
	/* The last callback; code 0: one of the two has ended it. Free it now or later. */
	void (*on_over)(void *arg, struct rpc_join *j, const struct hci_error *err);
	void *arg;
	bool keep; /* whatever ends at the other side, the socket that was given stays open, silent, until this is freed */
};

/* A socket that was accepted here with the one at addr. Takes sock, also when it fails: out of memory, or the address is nonsense. */
struct rpc_join *rpc_join_new(struct env *e, struct env_conn *sock, const char *addr, const struct rpc_join_opts *o,
			      struct hci_error *err);
/* Ends it if it is not over yet. No callback follows. NULL is fine. */
void rpc_join_free(struct rpc_join *j);

#endif
