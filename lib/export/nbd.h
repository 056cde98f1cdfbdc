/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NBD server: exports of block devices on a unix socket or TCP, with or without TLS, for any NBD
 * client. docs/nbd.md says what clients see.
 *
 * Everything belongs to one loop (env.h). What is exported stands behind struct nbd_backend; a
 * volume is one (nbd_volume.h), the tests bring a RAM disk.
 */
#ifndef EXPORT_NBD_H
#define EXPORT_NBD_H

#include <hci/error.h>

#include "env/env.h"

struct nbd_server;
struct nbd_export;

/* ---- what is exported ---- */

enum nbd_io_op {
	NBD_IO_READ,
	NBD_IO_WRITE, /* durable when done */
	NBD_IO_ZERO,  /* reads as zeroes afterwards; may become a hole unless NOHOLE */
	NBD_IO_FLUSH, /* what was done before is durable */
};
#define NBD_IO_NOHOLE 1u

struct nbd_io {
	/* set by the export, kept until done */
	enum nbd_io_op op;
	uint32_t flags;
	void *buf;         /* aligned to HCI_BLOCK; WRITE lent, READ filled in */
	/* Multiples of HCI_BLOCK, inside the backend. ZERO: any length, others <= 32 MiB + 8 KiB. */
	uint64_t off, len;
	void (*done)(struct nbd_io *);
	/* set when done */
	int status; /* 0 or HCI_E_* */
	/* of the backend */
	struct list link;
	uint64_t priv[20];
};

struct nbd_extent {
	uint64_t len; /* bytes, > 0 */
	bool data;    /* false: a hole that reads as zeroes */
};

struct nbd_query {
	/* set by the export, kept until done */
	uint64_t off, len; /* multiples of HCI_BLOCK, inside the backend */
	struct nbd_extent *out;
	uint32_t max;
	void (*done)(struct nbd_query *);
	/* set when done */
	int result; /* extents (>= 1) from off on, or HCI_E_* */
	/* of the backend */
	struct list link;
	struct env_task task;
};

struct nbd_backend_ops {
	/* Exactly one done(), never from inside. */
	void (*submit)(void *arg, struct nbd_io *io);
	/* The same. NULL: allocation is not known, everything is data. */
	void (*extents)(void *arg, struct nbd_query *q);
};

struct nbd_backend {
	const struct nbd_backend_ops *ops;
	void *arg;
	uint64_t size;             /* a multiple of HCI_BLOCK */
	/* ZERO of whole, aligned runs of this size gives space back; 0: trim is not offered. */
	uint32_t trim_granularity;
	bool fast_zero;            /* ... and is faster than writing */
};

/* ---- server: one address, any number of exports ---- */

struct nbd_server_opts {
	const char *addr;    /* "unix:/path" or "tcp:HOST:PORT" */
	/* NULL: plain only. Otherwise TLS is required; whether client certificates are, tls knows. */
	struct env_tls *tls;
	/* 0: 256. Of them at most a quarter in the handshake, then the oldest has to go. */
	unsigned max_conns;
	uint64_t handshake_ns; /* 0: 10 s for the whole handshake */
	/* Per connection; more is left in the socket until there is room. */
	unsigned max_requests; /* 0: 128 */
	uint64_t max_bytes;    /* 0: 64 MiB of payload; at least one request always fits */
};

struct nbd_server *nbd_server_open(struct env *e, const struct nbd_server_opts *o,
				   struct hci_error *err);
const char *nbd_server_addr(const struct nbd_server *s); /* with the port that was got */
/* Closes all exports and, when the last request has come back from its backend, calls done and
 * frees s. */
void nbd_server_close(struct nbd_server *s, void (*done)(void *arg), void *arg);

/* ---- export ---- */

struct nbd_export_opts {
	const char *name; /* "" is also found as the default; a lone export is the default anyway */
	const char *description; /* may be NULL */
	/* Copied. NULL: held until resumed with one; what clients are told is `size` then. */
	const struct nbd_backend *backend;
	uint64_t size;
	bool read_only;
	bool held; /* begin held */
	/*
	 * When the backend answers HCI_E_FENCED or HCI_E_CLOSED: hold the export and run the
	 * requests again after nbd_export_resume(). Without it they fail with ESHUTDOWN.
	 */
	bool hold_on_fence;
	unsigned max_conns; /* 0: 16 */
	/*
	 * The first request of a hold was parked. status: 0 for nbd_export_hold(), or what the
	 * backend said. Called on the loop from a turn of its own: the export may be resumed or
	 * closed in it. May be NULL.
	 */
	void (*on_first_held_io)(void *arg, struct nbd_export *x, int status);
	/* The first request that nbd_export_hold_writes() holds was parked. Likewise. */
	void (*on_first_held_write)(void *arg, struct nbd_export *x);
	void *arg;
};

struct nbd_export *nbd_export_add(struct nbd_server *s, const struct nbd_export_opts *o,
				  struct hci_error *err);

/*
 * Takes it off the list, answers what is parked with ESHUTDOWN, lets what runs finish, closes the
 * connections (after 5 s even those whose client reads no replies), then calls done and frees x. Once:
 * further calls do nothing, and their done is not called.
 */
void nbd_export_close(struct nbd_export *x, void (*done)(void *arg), void *arg);
/* The same from a fiber: parks until it is over. */
void nbd_export_close_wait(struct nbd_export *x);

/*
 * As if the way to its clients broke: ends their connections, and answers nothing that they asked for. One that connects
 * again finds the export as it was. What is under way at the backend goes on, for nobody.
 */
void nbd_export_drop(struct nbd_export *x);

/* From now on requests that need the backend are parked; what is under way there goes on. A flush is answered. */
void nbd_export_hold(struct nbd_export *x);
/* From a fiber: until nothing is under way at the backend. After hold + drain the backend may go
 * away. */
void nbd_export_drain(struct nbd_export *x);
/*
 * Ends the hold; what is parked runs, in its order. b NULL: the backend it had. HCI_E_STATE: there
 * is none. HCI_E_INVAL: b is smaller than what clients were told. HCI_E_BUSY: the old one has
 * requests under way: drain first.
 */
int nbd_export_resume(struct nbd_export *x, const struct nbd_backend *b, struct hci_error *err);
/*
 * From now on what changes the backend is parked (writes, zeroes, trims), until nbd_export_allow_writes(): through holds and resumes, which it
 * leaves as they are. What is under way goes on. A second call does nothing.
 */
void nbd_export_hold_writes(struct nbd_export *x);
void nbd_export_allow_writes(struct nbd_export *x);
/* Fails what is parked with status and stays held. */
void nbd_export_fail_held(struct nbd_export *x, int status);

struct nbd_stats {
	uint32_t conns, parked, inflight; /* now; inflight: at the backend */
	bool held, writes_held;
	bool cut; /* the last client to go did so without a word (NBD_CMD_DISC), as one that was killed; not if the export let go of it */
	uint64_t conns_total, requests, reads, writes, flushes, trims, zeroes, queries, errors;
	uint64_t read_bytes, write_bytes;
	uint64_t rmw; /* writes that had to read first */
};
void nbd_export_stats(const struct nbd_export *x, struct nbd_stats *out);

#endif
