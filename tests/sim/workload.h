/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random load on one volume, checked against its history. It drives anything that can be attached,
 * written and read through struct wl_ops: the engine, or a toy to test the harness with.
 *
 * The workload and its history belong to the test and outlive crashed nodes; what runs on a node
 * (lanes, buffers) is in the node's arena.
 */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H

#include "env/fiber.h"
#include "env/sim.h"
#include "sim/history.h"

enum wl_op { WL_READ, WL_WRITE, WL_ZERO, WL_FLUSH };

struct wl_io {
	enum wl_op op;
	void *buf;
	uint64_t off, len;
	void (*done)(struct wl_io *io);
	int status; /* 0 or HCI_E_* */
	uint64_t priv[48];
};

struct wl_ops {
	/* From a fiber. 0 or HCI_E_*: tried again later. */
	int (*attach)(struct env *e, void *arg, void **handle);
	/* Exactly one done(), never from inside. */
	void (*submit)(void *handle, struct wl_io *io);
	/* This attachment is over: lost its lease. */
	bool (*over)(void *handle);
	void (*detach)(void *handle); /* from a fiber, nothing is in flight */
};

struct workload {
	struct sim *sim;
	struct history *history;
	uint64_t nblocks;
	const struct wl_ops *ops;
	unsigned depth;           /* requests in flight */
	unsigned max_blocks;      /* of one request */
	uint64_t think_ns;        /* mean pause of a lane */
	unsigned zeroes;          /* per cent of requests, besides the usual seven */
	uint64_t hold_min, hold_max; /* how long an attachment lasts; 0: until it is told to stop */
	bool stop;
	uint64_t reads, writes, failed, attaches;
};

/* One place from which the volume is used. */
struct wl_writer {
	struct workload *wl;
	void *arg;        /* for attach */
	uint32_t session; /* 0: not attached */
	bool attached;
	void *handle;     /* while attached */
};

void wl_init(struct workload *wl, struct sim *s, uint64_t nblocks, uint64_t seed, const struct wl_ops *ops);
void wl_free(struct workload *wl);
/* From a fiber: attach, load, detach, again, until wl->stop. */
void wl_writer_run(struct env *e, struct wl_writer *w);
/* The node under it died. */
void wl_writer_crashed(struct wl_writer *w);
/* From a fiber, on an attached handle with nothing else going on: reads and checks every block. HCI_E_* when a
 * read fails. may_be_lost: HCI_E_CORRUPT is an answer, too. */
int wl_verify(struct env *e, struct workload *wl, void *handle, bool may_be_lost);

#endif
