/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server and a client on one loop, real or simulated, for a test body that runs on a fiber. The
 * server has a few methods to be called. In the world WORLD_LOOP the server calls itself.
 */
#ifndef TESTS_RPC_WORLD_H
#define TESTS_RPC_WORLD_H

#include <check.h>

#include "env/env.h"
#include "env/fiber.h"
#include "rpc/rpc.h"

enum world_kind { WORLD_REAL, WORLD_SIM, WORLD_KINDS, WORLD_LOOP = WORLD_KINDS, WORLD_ALL };

enum {
	M_ECHO = 0xf01, /* body and payload come back */
	M_LATE = 0xf02, /* body: milliseconds; replies after that */
	M_FAIL = 0xf03, /* body: code below zero; replies with it and "no luck" */
	M_HOLD = 0xf04, /* the request is put in w->held */
	M_MAKE = 0xf05, /* body: length; replies with a payload of that */
};

struct world {
	struct env *e;
	struct rpc *srv, *cli;
	const char *addr;
	struct uuid cluster;
	struct list held;
	unsigned nheld;
	unsigned served;   /* requests that came to a handler */
	unsigned released; /* payloads given back by rpc_reply */
	unsigned closed;   /* connections the server saw end */
	/* of the fixture */
	void (*fn)(struct world *w);
	enum world_kind kind;
	struct rpc_peers *self; /* of WORLD_LOOP */
	bool over;
};

void world_run(enum world_kind kind, void (*fn)(struct world *w));
/* So much later than it should may something be on a clock that others share: nothing in the simulator. */
uint64_t world_late(const struct world *w);
/* Options of this cluster, for an rpc of one's own. */
struct rpc_opts world_opts(struct world *w, const char *node);
/* Registers the methods above. */
void world_serve(struct world *w, struct rpc *r);
/* A server listening, with these options; *addr is where. */
struct rpc *world_server(struct world *w, const struct rpc_opts *o);
/* Connected, past the hello. */
struct rpc_conn *world_connect(struct world *w);
void world_release_held(struct world *w); /* replies to all that is held */

/* Bytes that depend on seed. */
void fill(void *p, size_t n, unsigned seed);
bool filled(const void *p, size_t n, unsigned seed);

/* A call that counts its completions. */
struct tcall {
	struct rpc_call call;
	unsigned done;
	unsigned *order; /* if set: counts up, position goes to at */
	unsigned at;
	struct fiber *waiter;
	struct env *e;
};
struct tcall *tcall_new(struct world *w, uint32_t method);
void tcall_arg(struct tcall *t, uint64_t v);
void tcall_submit(struct rpc_conn *c, struct tcall *t);
void tcall_wait(struct tcall *t);
void tcall_free(struct tcall *t);
/* An echo there and back with a payload of n bytes. */
void check_echo(struct world *w, struct rpc_conn *c, uint32_t n);

#define add_both(tc, fn) tcase_add_loop_test(tc, fn, 0, WORLD_KINDS)
#define add_all(tc, fn) tcase_add_loop_test(tc, fn, 0, WORLD_ALL)
/* A test whose body runs on a fiber, in both kinds of world. */
#define BOTH(name)                                \
	static void name##_body(struct world *w); \
	START_TEST(name)                          \
	{                                         \
		world_run(_i, name##_body);       \
	}                                         \
	END_TEST                                  \
	static void name##_body(struct world *w)

#endif
