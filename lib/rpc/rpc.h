/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and responses over one connection: a fixed header, a msgpack body, and a payload of raw
 * bytes outside the body that is received straight into an aligned buffer. Layout and limits:
 * docs/wire-format.md.
 *
 * At connect both sides send a hello: protocol version range, feature bits, the node's name and the
 * cluster's UUID. With TLS the name must match the certificate's. A version or cluster that does
 * not fit ends the connection with a clear error on both sides.
 */
#ifndef RPC_RPC_H
#define RPC_RPC_H

#include "base/pack.h"
#include "base/buf.h"
#include "env/env.h"

#define RPC_VERSION 1u
#define RPC_BODY_MAX (256u << 10)
#define RPC_PAYLOAD_MAX (4u << 20)
#define RPC_INFLIGHT_MAX 4096u /* requests a peer may have open on one connection */

/* Methods, numbered for ever. 0x1xx replica, 0x2xx volume hand-over, 0x3xx node. */
enum rpc_method {
	RPC_PING = 0x001,
};

struct rpc;      /* one per env: identity, TLS, server methods */
struct rpc_conn; /* one connection, either end can call the other */

struct rpc_opts {
	const char *node_name; /* "" for a client that is no node */
	struct uuid cluster;
	struct env_tls *tls; /* NULL: plain (tests, simulator) */
	uint64_t features;
	uint64_t connect_timeout_ns; /* 0: 5 s */
	/* 0: 2 s; a peer silent for 3 intervals is closed with HCI_E_TIMEOUT */
	uint64_t ping_interval_ns;
	/* protocol versions to offer, 0: RPC_VERSION; others for tests only */
	uint32_t version_min, version_max;
};

struct rpc *rpc_new(struct env *e, const struct rpc_opts *o); /* NULL when out of memory */
/* Closes listeners and connections; open calls are done with HCI_E_CLOSED before it returns. Not
 * from inside a callback of rpc. Connections that are still referenced stay as closed shells. */
void rpc_free(struct rpc *r);
struct env *rpc_env(struct rpc *r);

/* Buffers aligned to HCI_BLOCK from the pool that payloads come from, for handlers that fill one
 * and reply with it. len <= RPC_PAYLOAD_MAX; the same len when it is given back, before rpc_free.
 */
void *rpc_buf_alloc(struct rpc *r, uint32_t len);
void rpc_buf_free(struct rpc *r, void *p, uint32_t len);

/* ---- serving ---- */

struct rpc_req {
	struct rpc_conn *conn;
	uint32_t method;
	struct rd args; /* valid until rpc_reply */
	/* aligned to HCI_BLOCK, NULL when there is none; the request's, freed by rpc_reply */
	void *payload;
	uint32_t payload_len;
	uint64_t id;      /* of rpc */
	struct list link; /* the handler's, until rpc_reply; zero at first, as is priv */
	void *priv[4];
};

/* The handler may reply at once or later; it must reply exactly once, also when the connection went
 * meanwhile (the reply is then dropped). */
int rpc_register(struct rpc *r, uint32_t method, void (*handler)(void *arg, struct rpc_req *req),
		 void *arg);
/* status 0 or HCI_E_*; body may be NULL (empty); message goes to the caller's error (may be NULL).
 * payload is lent until release(arg) is called, which may be from inside (release may be NULL for
 * static memory); it may also lie within req->payload, which is then kept until sent. Frees req. */
void rpc_reply(struct rpc_req *req, int status, const char *message, const struct buf *body,
	       const void *payload, uint32_t payload_len, void (*release)(void *arg), void *arg);
/* May be called several times, for several addresses. */
int rpc_listen(struct rpc *r, const char *addr, struct hci_error *err);
const char *rpc_listen_addr(struct rpc *r); /* of the last rpc_listen */
/* Called when a connection of either direction that got past its hello ends, after its open calls
 * are done, so that a server can drop what it kept for it. Requests may still be without a reply.
 * Several may be set (at most 8). */
void rpc_on_conn_closed(struct rpc *r, void (*fn)(void *arg, struct rpc_conn *c), void *arg);
/* Methods and functions that were registered with this arg are not called any more. */
void rpc_forget(struct rpc *r, void *arg);
/* A place for the server's state of this connection. */
void **rpc_conn_slot(struct rpc_conn *c);
/* Node name of the other side, "" when a client. */
const char *rpc_conn_peer(const struct rpc_conn *c);
uint64_t rpc_conn_id(const struct rpc_conn *c); /* never reused within the rpc */
/* What both sides have; 0 before the hello is over. */
uint64_t rpc_conn_features(const struct rpc_conn *c);

/* ---- calling ---- */

struct rpc_call {
	/* Zero the struct before the first use; it may be submitted again once it is done.
	 * set by the caller; kept, with what it points at, until done */
	uint32_t method;
	struct buf body;     /* the arguments; the call's: freed by rpc_call_free */
	const void *payload; /* lent */
	uint32_t payload_len;
	/* where the reply's payload goes; NULL: an aligned buffer is made, see reply_payload */
	void *reply_buf;
	/* a longer payload is HCI_E_PROTO; 0 without reply_buf: RPC_PAYLOAD_MAX */
	uint32_t reply_cap;
	uint64_t timeout_ns; /* 0: none but the connection's own; after it status HCI_E_TIMEOUT */
	void (*done)(struct rpc_call *);
	/* set when done */
	/* 0, the server's HCI_E_*, or the reason the connection ended (HCI_E_CLOSED, TIMEOUT,
	 * PROTO, UNAVAILABLE, AUTH, VERSION) */
	int status;
	struct hci_error err; /* filled in when status != 0 */
	struct rd reply;      /* valid until rpc_call_free or the next use */
	void *reply_payload;  /* rpc_call_free frees it unless it is reply_buf */
	uint32_t reply_payload_len;
	/* of rpc */
	uint64_t id;
	struct list link;
	struct rpc_pool *pool;
	struct rpc_slot *slot;
	struct env *env;
	struct fiber *fiber;
	uint8_t *reply_body;
	uint32_t reply_body_cap;
	uint8_t open, payload_made;
};

/* Connects; done through rpc_conn_wait or by simply submitting: calls wait for the hello. Reference
 * counted: unref when done. */
struct rpc_conn *rpc_connect(struct rpc *r, const char *addr, const char *expect_node /* or NULL */,
			     struct hci_error *err);
/* From a fiber: until the hello is over. 0 or the reason it failed. */
int rpc_conn_wait(struct rpc_conn *c, struct hci_error *err);
bool rpc_conn_ok(const struct rpc_conn *c); /* not closed (may still be connecting) */
/* Why it ended; 0 while it has not. */
int rpc_conn_error(const struct rpc_conn *c, struct hci_error *err);
/* Ends it: every open call completes with HCI_E_CLOSED. */
void rpc_conn_shutdown(struct rpc_conn *c);
struct rpc_conn *rpc_conn_ref(struct rpc_conn *c);
/* The last unref of a connection that was made with rpc_connect ends it, once its open calls are
 * done. */
void rpc_conn_unref(struct rpc_conn *c);

/* Exactly one done() follows, never from inside (also when the connection is closed already).
 * The payload buffer is not touched any more once done() was called. Calls go out in order. */
void rpc_submit(struct rpc_conn *c, struct rpc_call *call);
/* The caller no longer waits: done() comes soon with HCI_E_CANCELLED; a late reply is dropped. Fine
 * when the call is done already, or was never submitted. */
void rpc_cancel(struct rpc_conn *c, struct rpc_call *call);
/* From a fiber: submit and park until done; returns call->status. */
int rpc_call_wait(struct rpc_conn *c, struct rpc_call *call);
void rpc_call_free(struct rpc_call *call); /* frees body and reply, not the call itself */

/* ---- peers: connections to nodes, made on demand, found by name ---- */

struct rpc_peers;
/* resolve: writes the address of a node, 0 or HCI_E_NOTFOUND; called on the loop, must not park. */
struct rpc_peers *rpc_peers_new(struct rpc *r,
				int (*resolve)(void *arg, const char *node, char *addr, size_t cap),
				void *arg);
void rpc_peers_free(struct rpc_peers *p);
/* A new reference to the live (or connecting) connection to that node, or NULL with err. After a
 * failed attempt waits its back-off (50 ms doubling to 1 s) before it tries again:
 * HCI_E_UNAVAILABLE meanwhile. */
struct rpc_conn *rpc_peers_get(struct rpc_peers *p, const char *node, struct hci_error *err);
/* The same for traffic that need not share one stream: any number gives one of RPC_LANES connections, always the
 * same one; the lane of rpc_peers_get is 0. One stream's losses do not hold up another's, and links that are bonded
 * by hashing the ports are all used. */
#define RPC_LANES 4u
struct rpc_conn *rpc_peers_lane(struct rpc_peers *p, const char *node, unsigned lane, struct hci_error *err);
/* Likewise one of RPC_BULK_LANES others, for copies: no user's request or reply stands behind a megabyte of them. */
#define RPC_BULK_LANES 2u
struct rpc_conn *rpc_peers_bulk(struct rpc_peers *p, const char *node, unsigned lane, struct hci_error *err);
/* A connection to another node that is the caller's alone, for a stream (stream.h). */
struct rpc_conn *rpc_peers_connect(struct rpc_peers *p, const char *node, struct hci_error *err);

#endif
