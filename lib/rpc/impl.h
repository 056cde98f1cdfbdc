/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of lib/rpc share. Who owns what:
 *	rpc.c    struct rpc: identity, methods, listeners
 *	conn.c   a connection's life: open, hello done, keep-alive, close, clean-up, references
 *	hello.c  the bodies of hello and goodbye, and the judgement on a peer's hello
 *	recv.c   bytes in: from the stream to whole frames
 *	send.c   bytes out: the queue of frames
 *	loop.c   the connection of a node with itself
 *	call.c   calls we make: slots, timeouts, cancel
 *	serve.c  requests we got: dispatch and reply
 *	stream*.c  streams, each on a connection of its own; they stand on calls and requests
 */
#ifndef RPC_IMPL_H
#define RPC_IMPL_H

#include "base/log.h"
#include "env/env.h"
#include "env/fiber.h"
#include "rpc/frame.h"
#include "rpc/pool.h"
#include "rpc/rpc.h"

/* Per connection. An honest caller keeps within these by itself, so that they hold back only
 * others. */
#define RPC_INFLIGHT_BYTES (64u << 20) /* bytes of requests a peer may have open */
#define RPC_BACKLOG_BYTES (32u << 20)  /* bytes of replies that wait to be sent */
#define RPC_CONNS_MAX 1024u            /* accepted connections of one rpc */

#define RPC_STAGE (64u << 10)      /* bytes of the staging buffer */
#define RPC_DIRECT_MIN (16u << 10) /* at least as much missing: receive it straight into place */
#define RPC_TURN_BYTES (1u << 20)  /* taken from one connection before others have their turn */
#define RPC_SEND_IOV 96
#define RPC_DRAIN_NS NS_PER_S /* to let a goodbye get through */
#define RPC_DRAIN_BYTES (1u << 20)

struct rpc_stream;

/* ---- frames on their way out ---- */

enum out_kind { OUT_CTRL, OUT_CALL, OUT_REPLY };

struct out {
	struct list link;
	enum out_kind kind;
	bool queued;
	uint8_t hdr[FRAME_HDR];
	uint32_t body_len, payload_len;
	const void *body, *payload; /* lent until sent */
};

static inline uint32_t out_bytes(const struct out *o)
{
	return FRAME_HDR + o->body_len + o->payload_len;
}

/* ---- requests we serve ---- */

struct req {
	struct rpc_req pub;
	struct out out; /* the reply */
	uint8_t *body;  /* arguments, later the reply's; small, or made for this */
	uint32_t body_cap;
	uint32_t cost; /* what it counts for in open_bytes */
	uint32_t made; /* bytes of pub.payload as it was made */
	int fail;      /* could not be taken in: the status to answer with */
	bool replied;
	void (*release)(void *arg);
	void *arg;
	uint8_t small[POOL_SMALL];
};

/* ---- calls we make: one slot for each that is not over yet on the wire ---- */

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_QUEUED, SLOT_SENT };

struct rpc_slot {
	struct out out;
	struct rpc_call *call; /* NULL: nobody waits any more, the reply is dropped */
	uint64_t id;           /* low half: index in the table, high half: grows at each use */
	uint64_t deadline;
	uint32_t send_bytes, recv_bytes;
	enum slot_state state;
	void *owned; /* copy of what is left to send of a call that went away */
	struct rpc_slot *next_free;
};

#define SLOT_CHUNK 64u
#define NO_DEADLINE UINT64_MAX

struct slots {
	struct rpc_slot **chunk;
	uint32_t nchunks;
	struct rpc_slot *free;
	struct list waiting; /* not yet allowed to go out */
	uint32_t open;       /* queued or sent */
	uint64_t send_bytes, recv_bytes;
	struct env_timer timer;
};

/* ---- receiving ---- */

enum rx_part { RX_HEADER, RX_BODY, RX_PAYLOAD };

struct rx {
	uint8_t *stage;
	uint32_t head, tail; /* bytes of stage that were not looked at yet */
	enum rx_part part;
	struct frame f;
	uint8_t *dst; /* where the part goes; NULL: nowhere */
	uint32_t got, want;
	struct req *req;       /* of a REQUEST */
	struct rpc_slot *slot; /* of a REPLY */
	uint8_t *body;         /* of any other type but REQUEST */
	uint32_t body_cap;
	void *payload; /* of a REPLY: made here, or the call's */
	uint32_t payload_made;
	int fail; /* of a REPLY: memory ran out, or it is too long */
};

/* ---- connections ---- */

enum conn_state { CONN_CONNECTING, CONN_HELLO, CONN_READY, CONN_CLOSED };

struct rpc_conn {
	struct rpc *rpc; /* NULL once cleaned up */
	struct env *env;
	struct rpc_pool *pool;
	struct env_conn *io; /* NULL: gone */
	struct list link;    /* of rpc->conns */
	uint64_t id;
	unsigned refs;
	enum conn_state state;
	bool inbound, was_ready, paused;
	bool loop; /* with ourselves: no stream, see loop.c */
	bool blocked; /* the stream takes no more until on_writable */
	bool draining, cleaned;
	bool rx_seen, tx_seen;       /* since the last tick of the keep-alive */
	uint8_t rx_silent, tx_stuck; /* ticks without */
	uint32_t version;
	uint64_t features;
	void *slot;
	struct rpc_stream *stream; /* of stream.c, NULL: none */
	struct hci_error err; /* why it is closed */
	struct fiber_cond cond;
	struct env_timer timer; /* connect, keep-alive, drain */
	struct env_task late;   /* completions and clean-up; holds a reference */
	struct env_task flush_task, rx_task;
	uint32_t drained;
	uint64_t ready_at, closed_at;

	struct list outq;
	uint32_t out_off; /* bytes of the first frame that are sent */
	struct out hello, ping, pong;
	struct buf hello_body;
	uint64_t ping_id, pong_id;
	bool pong_due;

	struct rx rx;
	uint32_t open_reqs; /* received, reply not sent yet */
	uint64_t open_bytes, backlog;

	struct slots calls;
	struct list done_calls; /* status is set, done() comes from the late task */

	char peer[HCI_NAME_MAX], expect[HCI_NAME_MAX];
	char addr[];
};

struct rpc {
	struct env *env;
	struct rpc_opts o;
	char node_name[HCI_NAME_MAX];
	struct rpc_pool *pool;
	struct list conns, listeners;
	uint32_t inbound;
	bool closing;
	uint64_t conn_seq;
	struct {
		struct rpc_method_entry *page[16];
	} methods;
	struct {
		void (*fn)(void *arg, struct rpc_conn *c);
		void *arg;
	} hooks[8];
	unsigned nhooks;
	struct rpc_service {
		void (*fn)(void *arg, struct rpc_stream *s, struct rd *args);
		void *arg;
		char name[32];
	} services[8];
	char listen_addr[160];
	struct metric *m_calls, *m_requests, *m_conns, *m_failed, *m_tx, *m_rx;
};

struct rpc_method_entry {
	void (*fn)(void *arg, struct rpc_req *req);
	void *arg;
};
const struct rpc_method_entry *rpc_method(const struct rpc *r, uint32_t method);

/* loop.c */
bool rpc_is_self(const struct rpc *r, const char *node);
struct rpc_conn *rpc_loop_connect(struct rpc *r, struct hci_error *err);
void rpc_loop_flush(struct rpc_conn *c);

/* conn.c */
struct rpc_conn *rpc_conn_new(struct rpc *r, const char *addr);
int rpc_conn_accept(struct rpc *r, struct env_conn *io);
/* Ends the connection: err says why, the peer is told if that is still possible. */
void rpc_conn_fail(struct rpc_conn *c, const struct hci_error *err);
int rpc_conn_failf(struct rpc_conn *c, int code, const char *fmt, ...) PRINTF(3, 4);
/* The stream is over, or broke. */
void rpc_conn_lost(struct rpc_conn *c, const struct hci_error *err);
void rpc_conn_late(struct rpc_conn *c); /* have the late task run */
/* All that is still to be done, at once: for rpc_free. */
void rpc_conn_dispose(struct rpc_conn *c);
void rpc_conn_frame(struct rpc_conn *c); /* a hello, ping, pong or goodbye is in c->rx */

/* "node b (tcp:...)", for messages. */
#define CONN_NAME_MAX (HCI_NAME_MAX + 160)
const char *rpc_conn_name(const struct rpc_conn *c, char out[CONN_NAME_MAX]);

/* hello.c */
int rpc_hello_write(const struct rpc *r, struct buf *out);
/* Judges the peer's hello; fills in peer, version and features. */
int rpc_hello_take(struct rpc_conn *c, const void *body, uint32_t len, struct hci_error *err);
void rpc_goodbye_write(const struct hci_error *why, struct buf *out);
void rpc_goodbye_take(const struct frame *f, const void *body, struct hci_error *out);
/* A message from a stranger, as text of one line. */
void rpc_take_text(struct rd *r, char *out, size_t cap);

/* recv.c */
void rpc_rx_run(struct rpc_conn *c);
void rpc_rx_drop(struct rpc_conn *c);   /* frees what is half received */
void rpc_rx_reply_payload(struct rpc_conn *c); /* where it goes, to c->rx.dst */
void rpc_rx_resume(struct rpc_conn *c); /* after a request was answered: may read on */

/* send.c */
void rpc_out_frame(struct out *o, enum out_kind kind, const struct frame *f, const void *body,
		   const void *payload);
void rpc_out_push(struct rpc_conn *c, struct out *o);
void rpc_out_flush(struct rpc_conn *c);
/* Takes back a frame that is queued; false when part of it is sent already. */
bool rpc_out_remove(struct rpc_conn *c, struct out *o);

/* call.c */
void rpc_calls_init(struct rpc_conn *c);
void rpc_calls_ready(struct rpc_conn *c);    /* the hello is over: let waiting calls go */
void rpc_calls_fail_all(struct rpc_conn *c); /* with c->err, to done_calls */
void rpc_calls_free(struct rpc_conn *c);
void rpc_calls_run_done(struct rpc_conn *c);
struct rpc_slot *rpc_call_find(struct rpc_conn *c, uint64_t id); /* NULL: no such call was made */
/* The reply in c->rx is complete. */
void rpc_call_reply(struct rpc_conn *c);

/* stream.c */
int rpc_stream_register(struct rpc *r);
void rpc_stream_conn_gone(struct rpc_conn *c);

/* serve.c */
struct req *rpc_req_new(struct rpc_conn *c, const struct frame *f);
void rpc_req_dispatch(struct req *q);
void rpc_req_free(struct req *q);
void rpc_req_sent(struct req *q);

#endif
