/* SPDX-License-Identifier: Apache-2.0 */
/* What memory_path.c and its two ends share. */
#ifndef COMPUTE_MEMORY_PATH_IMPL_H
#define COMPUTE_MEMORY_PATH_IMPL_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/mem.h"
#include "compute/memory_path.h"

#define MEMORY_READ (256u << 10) /* from a socket at a time */
#define MEMORY_TURN (1u << 20)   /* ... and before others have their turn */

struct memory_path {
	struct env *e;
	struct memory_path_opts o;
	struct env_conn *sock; /* NULL: ended */
	struct rpc_stream *s;  /* NULL: over */
	struct mst_enc *enc;   /* one of the two */
	struct mst_dec *dec;
	bool opening;          /* the stream is not open yet */
	bool paused, blocked;  /* nobody reads from the socket; it takes no more */
	uint32_t off;          /* of the message at the head, that the socket has taken */
	uint8_t *buf;          /* MEMORY_READ bytes */
	uint32_t have, fed;    /* out: bytes in it, and how many of these the encoder took */
	bool at_end;           /* out: nothing comes after them */
	bool end_told;
	struct env_task task;  /* the codec has something */
	_Atomic bool posted;
	struct env_task over_task; /* on_over is due */
	struct hci_error err;
	struct { /* token bucket */
		uint64_t rate, at;
		int64_t tokens;
		struct env_timer timer;
	} limit;
	uint64_t began, ended; /* out: when the first byte came from the socket, the last there or (all_there) to the other; 0: never */
	bool all_there;
	struct mst_stats last; /* after the codec was freed */
};

/* memory_path.c */
struct memory_path *memory_path_new(struct env *e, const struct memory_path_opts *o, void (*pump)(struct env_task *t));
void memory_path_drop(struct memory_path *p); /* frees what new() made */
void memory_path_crossed(struct memory_path *p); /* began, ended */
void memory_path_ended(struct memory_path *p); /* on_end */
void memory_path_pause(struct memory_path *p, bool paused);
/* Both ends are told; on_over follows, not from inside. Codec and stream are gone then. */
void memory_path_fail(struct memory_path *p, const struct hci_error *err);
void memory_path_closed(struct memory_path *p, const struct hci_error *err); /* the stream is over */
/* May n bytes go? If not the pump is called when some may. */
bool memory_path_may_send(struct memory_path *p);
void memory_path_sent(struct memory_path *p, uint32_t n);

#endif
