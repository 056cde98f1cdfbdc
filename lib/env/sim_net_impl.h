/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the simulated network: what sim_net.c (cables, listeners, connecting), sim_pipe.c (bytes on
 * their way) and sim_conn.c (the calls of env.h) share. */
#ifndef ENV_SIM_NET_IMPL_H
#define ENV_SIM_NET_IMPL_H

#include "env/sim_impl.h"

enum sim_mark { MARK_DATA, MARK_OPEN, MARK_FIN };

/* Bytes up to `end` arrive at `time`; then, for the other kinds, something happens. */
struct sim_chunk {
	uint64_t end, time, sent_at;
	enum sim_mark mark;
};

/* One direction of a connection. Positions count bytes since its start. */
struct sim_pipe {
	struct sim_link *link;
	int side; /* of the sender */
	uint8_t *ring;
	uint64_t cap; /* a power of two */
	uint64_t sent, arrived, read, acked;
	uint64_t last; /* when the last chunk arrives */
	struct sim_chunk *chunk;
	uint32_t nchunk, first, chunk_cap; /* a ring too */
	bool fin_sent, fin_arrived;
	bool blocked;
	uint64_t blocked_since;
	struct list blocked_link; /* net->blocked */
	struct list unacked_link; /* net->unacked: reader moved on, sender does not know */
	struct sim_ev ev;
};

/* A connection, as long as one of its ends is there. */
struct sim_link {
	struct sim_net *net;
	struct list all;
	struct sim_node *node[2]; /* 0: who connected */
	struct sim_conn *end[2];
	struct sim_pipe pipe[2];  /* by sender */
	struct sim_ev syn;
	uint64_t syn_since, syn_wait;
	unsigned port;
	char *path; /* a unix socket's; NULL: tcp */
	bool accepted, tls;
	bool near; /* both ends are on one machine; the nodes may be gone before the link */
	uint64_t window;
	uint32_t refs; /* ends, and whoever is looking at it */
};

struct sim_conn {
	struct env_conn base;
	struct list all; /* node->conns */
	struct sim_node *node;
	struct sim_link *link;
	int side;
	const struct env_conn_ops *ops;
	void *arg;
	bool open, paused, want_write, handshaking;
	bool dead, told; /* the end is known; on_closed was called */
	struct hci_error err;
	struct sim_ev readable, writable, closed, opened;
};

struct sim_listener {
	struct env_listener base;
	struct list all; /* node->listeners */
	struct sim_node *node;
	unsigned port;
	bool tls;
	char addr[SIM_UNIX_MAX + 8];
	char path[SIM_UNIX_MAX]; /* "": tcp */
	void (*on_accept)(void *arg, struct env_conn *c);
	void *arg;
};

struct sim_net {
	struct sim *sim;
	struct list links, blocked, unacked;
	struct list names; /* struct sim_name: unix sockets */
	bool cut[SIM_NODES_MAX][SIM_NODES_MAX]; /* from, to */
};

/* sim_net.c */
static inline bool sim_is_cut(const struct sim_net *net, const struct sim_node *from, const struct sim_node *to)
{
	return net->cut[from->machine->index][to->machine->index];
}
uint64_t sim_latency(struct sim_link *l);
void sim_link_unref(struct sim_link *l);
struct sim_conn *sim_conn_new(struct sim_node *n, struct sim_link *l, int side);

/* sim_unix.c */
bool sim_name_take(struct sim_listener *l, const char *path); /* false: somebody listens there */
void sim_name_leave(struct sim_listener *l, bool closed);
struct sim_listener *sim_name_listener(struct sim_node *n, const char *path);
void sim_names_free(struct sim_net *net);

/* sim_pipe.c */
void sim_pipe_init(struct sim_pipe *p, struct sim_link *l, int side);
void sim_pipe_fini(struct sim_pipe *p);
uint64_t sim_pipe_send(struct sim_pipe *p, const struct iovec *iov, int niov);
uint64_t sim_pipe_recv(struct sim_pipe *p, void *buf, uint64_t len);
void sim_pipe_mark(struct sim_pipe *p, enum sim_mark mark);
void sim_pipe_cut_off(struct sim_pipe *p, uint64_t at); /* what was sent beyond is lost */
void sim_pipe_kick(struct sim_pipe *p);                 /* a cut was healed, a node switched on */
void sim_pipe_ack(struct sim_pipe *p);

/* sim_conn.c */
void sim_conn_readable(struct sim_conn *c);
void sim_conn_opened(struct sim_conn *c);
void sim_conn_room(struct sim_conn *c); /* the window opened */
void sim_conn_fail(struct sim_conn *c, uint64_t delay, int code, const char *why);
void sim_conn_detach(struct sim_conn *c, bool abort_now, bool silent); /* frees it */
void sim_conn_ops(struct env_ops *o);

#endif
