/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the NBD server share. Included by lib/export/nbd_*.c only.
 *
 *   nbd_server.c   the address, the exports, connections in and out
 *   nbd_hold.c     hold, resume, the way to the backend
 *   nbd_conn.c     a connection: handshake, the end
 *   nbd_rx.c       its requests, from bytes to struct nbd_req
 *   nbd_tx.c       its replies
 *   nbd_exec.c     a request at work: alignment, zeroes, trim, status
 *   nbd_range.c    which writes have to wait for which
 *   nbd_pool.c     buffers
 */
#ifndef EXPORT_NBD_INTERNAL_H
#define EXPORT_NBD_INTERNAL_H

#include "env/fiber.h"
#include "export/nbd.h"
#include "export/nbd_negotiate.h"
#include "export/nbd_request.h"

#define LOG_SUB "nbd"

#define NBD_STAGE (16u << 10)       /* bytes read ahead of a connection */
#define NBD_MAX_EXTENTS 1024u       /* of one block status reply */
#define NBD_CLOSE_NS (5 * NS_PER_S) /* for a client to take its last replies */

/* ---- buffers ---- */

#define NBD_POOL_CLASSES 10 /* 4 KiB to 2 MiB */

struct nbd_pool {
	void *free[NBD_POOL_CLASSES];
	size_t cached;
};
void *nbd_pool_get(struct nbd_pool *p, size_t size);
void nbd_pool_put(struct nbd_pool *p, void *buf, size_t size); /* the size that was asked for */
void nbd_pool_drain(struct nbd_pool *p);

/* ---- a request ---- */

enum nbd_step { NBD_HEAD_READ, NBD_HEAD_WRITE, NBD_TAIL_READ, NBD_TAIL_WRITE, NBD_MAIN, NBD_END };

struct nbd_req {
	struct list link; /* conn->reqs, all that are not freed */
	struct list out;  /* conn->out once answered, export->parked while parked */
	struct nbd_conn *conn;
	struct nbd_request h;
	bool parked, at_backend;
	uint64_t epoch; /* of the export when it went to the backend */
	uint64_t born;

	void *buf; /* payload: of READ and WRITE the blocks [a, b), of BLOCK_STATUS the extents */
	size_t buf_size;
	void *scratch; /* one block, for what is not aligned */

	/* writes: what nbd_range.c needs, what nbd_exec.c works through */
	struct list range; /* export->ranges */
	uint64_t a, b;     /* the blocks touched */
	unsigned blockers; /* earlier ones that must end first */
	bool rmw, head, tail;
	enum nbd_step step;

	union {
		struct nbd_io io;
		struct nbd_query query;
	};

	/* the reply */
	uint32_t head_len, data_len;
	const uint8_t *data;
	uint8_t reply[NBD_REPLY_MAX];
};

/* Checked, and its payload is here. Never completes inside, but may answer. */
void nbd_exec_start(struct nbd_req *r);
/* Go on after a hold: from the first step. */
void nbd_exec_restart(struct nbd_req *r);
void nbd_exec_io_done(struct nbd_req *r, int status);
void nbd_exec_query_done(struct nbd_req *r, int result);
/* Give back what it holds; the connection's counters follow. */
void nbd_req_free(struct nbd_req *r);
struct nbd_req *nbd_req_new(struct nbd_conn *c, const struct nbd_request *h);
/* Bytes of buffer that a request takes. */
size_t nbd_req_bytes(const struct nbd_request *h);

/* ---- overlapping writes ---- */

/* Lines r (a, b, rmw set) up behind the writes it must not overlap; true: it may start now. */
bool nbd_range_enter(struct nbd_export *x, struct nbd_req *r);
/* Ends r's claim and starts those that waited for it only. */
void nbd_range_leave(struct nbd_export *x, struct nbd_req *r);

/* ---- export ---- */

enum nbd_metric {
	NBD_M_READS,
	NBD_M_WRITES,
	NBD_M_FLUSHES,
	NBD_M_TRIMS,
	NBD_M_ZEROES,
	NBD_M_STATUS,
	NBD_M_READ_BYTES,
	NBD_M_WRITE_BYTES,
	NBD_M_ERRORS,
	NBD_M_CONNS,
	NBD_M_HELD,
	NBD_M_LATENCY,
	NBD_METRICS
};

#define NBD_HELD_ALL 1u
#define NBD_HELD_WRITES 2u

struct nbd_export {
	struct nbd_server *server;
	struct list link; /* server->exports */
	char *name, *description;
	struct nbd_backend backend;
	bool has_backend, read_only, hold_on_fence, closing;
	uint64_t size; /* as clients were told */
	uint16_t flags;
	unsigned max_conns, nconns;
	struct list conns;

	unsigned held; /* NBD_HELD_* */
	bool held_told, writes_told;
	int held_status;
	uint64_t epoch;       /* counts resumes */
	unsigned inflight;    /* requests at the backend */
	struct list parked;   /* nbd_req.out */
	struct list ranges;   /* nbd_req.range: writes under way and waiting, in order */
	unsigned nrmw, nwait; /* of them: that read first, that wait */
	struct fiber_cond idle;
	struct env_task told, told_write; /* run on_first_held_io, on_first_held_write */
	void (*on_first_held_io)(void *arg, struct nbd_export *x, int status);
	void (*on_first_held_write)(void *arg, struct nbd_export *x);
	void *arg;

	struct env_task end;
	struct env_timer end_timer;
	void (*on_closed)(void *arg);
	void *closed_arg;

	struct nbd_stats stats;
	struct metric *m[NBD_METRICS];
};

/* To the backend, or to the parked ones. */
void nbd_export_dispatch(struct nbd_export *x, struct nbd_req *r);
/* A request came back with this status: true when it was parked or sent again instead of failed. */
bool nbd_export_retry(struct nbd_export *x, struct nbd_req *r, int status);
void nbd_export_came_back(struct nbd_export *x); /* one request less at the backend */
/* A connection of x is gone for good. */
void nbd_export_conn_gone(struct nbd_export *x);
void nbd_hold_init(struct nbd_export *x, const struct nbd_export_opts *o);
uint16_t nbd_export_flags(const struct nbd_backend *b, bool read_only);

/* ---- connection ---- */

enum nbd_rx {
	NBD_RX_NEG,
	NBD_RX_TLS,
	NBD_RX_HEAD,
	NBD_RX_ROOM,
	NBD_RX_DATA,
	NBD_RX_SKIP,
	NBD_RX_STOP
};

struct nbd_conn {
	struct nbd_server *server;
	struct nbd_export *export; /* NULL in the handshake */
	struct list link;          /* server->conns */
	struct list xlink;         /* export->conns */
	struct env_conn *conn;     /* NULL once closed */
	struct env_task pump, flush, end;
	struct env_timer timer; /* of the handshake */
	struct nbd_neg neg;
	bool negotiating, paused, want_write, tls_begun;
	enum nbd_rx rx;

	/* requests */
	struct list reqs; /* all */
	struct list out;  /* answered, not yet sent */
	unsigned nreqs;
	uint64_t bytes;       /* buffers of reqs */
	struct nbd_request h; /* the one being received */
	struct nbd_req *cur;
	uint32_t rx_done; /* of its payload */
	int error;        /* to answer it with, once it is read */
	const char *why;

	struct buf raw; /* handshake bytes to send, before any reply */
	size_t raw_off, out_off;

	bool big; /* the last request was a large write: don't read ahead */
	uint32_t stage_off, stage_len;
	uint8_t stage[NBD_STAGE];
};

struct nbd_conn *nbd_conn_new(struct nbd_server *s, struct env_conn *ec);
/* Ends it now; memory goes when the last request has come back. why: for the log, NULL for the
 * ordinary end. */
void nbd_conn_kill(struct nbd_conn *c, const char *why);
static inline bool nbd_conn_dead(const struct nbd_conn *c)
{
	return !c->conn;
}
/* The same, as the client is gone. */
void nbd_conn_lost(struct nbd_conn *c, const char *why);
/* No more requests: answer what is there, then close. */
void nbd_conn_finish(struct nbd_conn *c);
/* A request was freed: maybe the end, maybe room for the next. */
void nbd_conn_req_gone(struct nbd_conn *c);

void nbd_rx_pump(struct nbd_conn *c);
/* One step of the handshake; false: wait. */
bool nbd_conn_negotiate(struct nbd_conn *c);

/* The reply of r is built: queue it. */
void nbd_tx_queue(struct nbd_req *r);
void nbd_tx_flush(struct nbd_conn *c);
/* Build and queue. why may be NULL. */
void nbd_tx_error(struct nbd_req *r, int nbd_errno, const char *why);
void nbd_tx_done(struct nbd_req *r); /* success without data */

/* ---- server ---- */

struct nbd_server {
	struct env *env;
	struct env_listener *listener;
	struct nbd_server_opts o;
	struct list exports, conns; /* conns: oldest first */
	unsigned nconns, nneg, nexports;
	unsigned nalive; /* exports, with those that are closing */
	struct nbd_pool pool;
	uint64_t log_after;
	unsigned log_dropped;
	bool closing;
	struct env_task end;
	void (*on_closed)(void *arg);
	void *closed_arg;
};

extern const struct nbd_neg_ops nbd_server_neg_ops;
/* The connection's memory is about to go. */
void nbd_server_conn_gone(struct nbd_server *s);
void nbd_server_maybe_end(struct nbd_server *s);

#endif
