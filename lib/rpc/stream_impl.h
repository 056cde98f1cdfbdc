/* SPDX-License-Identifier: Apache-2.0 */
/* What stream.c (life), stream_io.c (messages) and stream_pace.c share. */
#ifndef RPC_STREAM_IMPL_H
#define RPC_STREAM_IMPL_H

#include "rpc/impl.h"
#include "rpc/stream.h"

#define STREAM_ROOM_MIN (16u << 10) /* less room than this counts as none: small messages cost as much as large ones */

/* How fast the way is: the largest rate at which messages were taken in the last two spells. */
struct stream_pace {
	uint64_t ns; /* 0: off */
	uint64_t rate, rate_now; /* of the spell before this one; of this one so far */
	uint64_t min_rtt;
	uint64_t spell_end, delivered;
	bool held_back; /* in this spell: else the user had no more to send, and the rate says nothing */
};

struct rpc_stream {
	unsigned refs; /* one is the user's, one each call's under way */
	struct rpc_conn *conn;
	struct env *e;
	bool opener;
	bool open;  /* messages may go */
	bool over;  /* err says why; on_closed is due or told */
	bool freed; /* by the user: no callbacks */
	struct rpc_req *open_req; /* not answered yet */
	const struct rpc_stream_ops *ops;
	void *arg;
	struct hci_error err;
	struct env_task task; /* callbacks that are due */

	uint64_t window, held; /* what we take ahead; what the peer has open of it */
	struct list rx;        /* struct rpc_req.link */
	bool peer_ended, told_readable;

	uint64_t peer_window, in_flight;
	uint32_t want; /* on_writable is due when so much may go; 0: nobody waits */
	bool ended, end_acked, saying_last;
	struct rpc_call open_call, end_call, last_call;
	struct stream_pace pace;
};

struct stream_message {
	struct rpc_call call;
	struct rpc_stream *s;
	void (*release)(void *arg); /* of what is lent; NULL: arg is a buffer of ours, of cap bytes */
	void *arg;
	uint32_t cap, cost;
	uint64_t sent_at, delivered;
};

void stream_ref(struct rpc_stream *s);
void stream_unref(struct rpc_stream *s);
/* It is over: err says why, code 0 for the orderly end. Only the first counts. */
void stream_over(struct rpc_stream *s, const struct hci_error *err);
/* Something changed: is all said and taken? */
void stream_settle(struct rpc_stream *s);
void stream_readable(struct rpc_stream *s);
void stream_drop_rx(struct rpc_stream *s);

/* stream_io.c */
void stream_on_message(void *arg, struct rpc_req *req);
void stream_on_end(void *arg, struct rpc_req *req);

/* stream_pace.c */
uint64_t stream_pace_limit(const struct stream_pace *p); /* bytes under way at most */
void stream_pace_sent(const struct stream_pace *p, struct stream_message *m, uint64_t now);
void stream_pace_taken(struct stream_pace *p, const struct stream_message *m, uint64_t now);

#endif
