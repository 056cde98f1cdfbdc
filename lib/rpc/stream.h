/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: messages in order, both ways, between two nodes, over a connection that carries nothing else (so
 * that bulk data and requests do not wait for each other). Layout and rules: docs/wire-stream.md.
 *
 * Each end says at the opening how many bytes it takes that its user has not given back yet (the window); the
 * other end sends no more than that, and is cut off if it does. So memory is bounded at both ends, and a slow
 * reader slows the writer. With a pace an end sends even less: what the way took lately in that time.
 *
 * Everything here is called on the loop; callbacks never come from inside a call.
 */
#ifndef RPC_STREAM_H
#define RPC_STREAM_H

#include "rpc/rpc.h"

#define RPC_STREAM_MESSAGE_MAX (1u << 20)
#define RPC_STREAM_COST 1024u /* what a message counts for besides its bytes */
#define RPC_STREAM_WINDOW_MIN (RPC_STREAM_MESSAGE_MAX + RPC_STREAM_COST)
#define RPC_STREAM_WINDOW_MAX (32u << 20)
#define RPC_STREAM_WINDOW (8u << 20)
#define RPC_STREAM_SERVICE_MAX 32u

enum rpc_stream_method {
	RPC_STREAM_OPEN = 0x010,
	RPC_STREAM_MESSAGE = 0x011,
	RPC_STREAM_END = 0x012,
};

struct rpc_stream;

struct rpc_stream_ops {
	/* The other end has accepted. Only at the end that opened. */
	void (*on_open)(void *arg);
	/* A message is there, or the peer's end (rpc_stream_at_end): once, until rpc_stream_next() said NULL. */
	void (*on_readable)(void *arg);
	/* There is room again, after rpc_stream_room() said 0. */
	void (*on_writable)(void *arg);
	/* The last callback. code 0: both ends have ended it and all was taken. Else why it was not opened, or broke. */
	void (*on_closed)(void *arg, const struct hci_error *err);
};

struct rpc_stream_opts {
	const char *service;     /* whom it is for, at the other end */
	const struct buf *args;  /* for that, at most 4 KiB; may be NULL */
	uint32_t window;         /* bytes that we take ahead; 0: RPC_STREAM_WINDOW */
	uint64_t timeout_ns;     /* to be accepted; 0: 10 s */
};
/* Takes over the reference to conn, which nobody else uses: rpc_peers_connect(). NULL: out of memory. on_open or on_closed follows. */
struct rpc_stream *rpc_stream_open(struct rpc_conn *conn, const struct rpc_stream_opts *o,
				   const struct rpc_stream_ops *ops, void *arg, struct hci_error *err);

/*
 * fn is told of each stream that is opened for this service; it accepts or refuses it, at once or later. args: valid
 * during the call. At most 8 services. rpc_forget() takes it back.
 */
int rpc_stream_serve(struct rpc *r, const char *service, void (*fn)(void *arg, struct rpc_stream *s, struct rd *args),
		     void *arg);
/* window: 0: RPC_STREAM_WINDOW. If the connection went meanwhile on_closed follows. */
void rpc_stream_accept(struct rpc_stream *s, uint32_t window, const struct rpc_stream_ops *ops, void *arg);
/* Frees it. */
void rpc_stream_refuse(struct rpc_stream *s, int code, const char *message);
bool rpc_stream_is_offer(const struct rpc_stream *s); /* neither was done yet */
const char *rpc_stream_peer(const struct rpc_stream *s); /* node name, "" when a client */

/* Bytes that one message may have now; 0: on_writable follows when there is room, for one of need bytes if that was asked. */
uint32_t rpc_stream_room(struct rpc_stream *s);
uint32_t rpc_stream_room_for(struct rpc_stream *s, uint32_t need);
/* A buffer for a message of at most len bytes; NULL: out of memory. */
void *rpc_stream_buf(struct rpc_stream *s, uint32_t len);
void rpc_stream_buf_free(struct rpc_stream *s, void *buf, uint32_t len);
/*
 * buf is of rpc_stream_buf() with cap as its len; it is the stream's from here on, whatever is returned: 0, HCI_E_AGAIN (more than
 * there is room), HCI_E_STATE (ended already), HCI_E_RANGE, HCI_E_NOMEM, or why it is over.
 */
int rpc_stream_send(struct rpc_stream *s, void *buf, uint32_t cap, uint32_t len);
/* The same with memory of the caller's, lent until release(arg), which follows also when the message is refused. */
int rpc_stream_send_lent(struct rpc_stream *s, const void *data, uint32_t len, void (*release)(void *arg), void *arg);
/* No more follows from us. Twice is fine. */
void rpc_stream_end(struct rpc_stream *s);
/* At most what goes over the way in ns, as measured, is under way at a time. 0: as much as the window. */
void rpc_stream_pace(struct rpc_stream *s, uint64_t ns);
/* What the way carries, bytes/s, as far as is known; 0: not yet. */
uint64_t rpc_stream_rate(const struct rpc_stream *s);
/* Bytes that are not known to be taken at the other end. */
uint64_t rpc_stream_in_flight(const struct rpc_stream *s);

struct rpc_stream_message {
	const uint8_t *data;
	uint32_t len;
};
/* The oldest message that was not given back; false: there is none now. Stays until rpc_stream_taken(). */
bool rpc_stream_next(struct rpc_stream *s, struct rpc_stream_message *out);
void rpc_stream_taken(struct rpc_stream *s); /* gives it back: the peer may send as much more */
bool rpc_stream_at_end(const struct rpc_stream *s); /* the peer has ended, and all was taken */

/* Ends and frees it; no callback follows. If it was not over yet the peer is told why (NULL: closed). */
void rpc_stream_close(struct rpc_stream *s, const struct hci_error *why);

#endif
