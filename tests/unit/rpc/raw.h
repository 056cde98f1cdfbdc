/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that speaks bytes: to send what no honest peer would. Its calls park the test's fiber. */
#ifndef TESTS_RPC_RAW_H
#define TESTS_RPC_RAW_H

#include "rpc/frame.h"
#include "unit/rpc/world.h"

struct raw {
	struct env *e;
	struct env_conn *io;
	struct env_listener *listener;
	struct buf in;
	size_t at; /* bytes of in that were read */
	bool open, over, writable, hold;
	struct fiber *waiter;
};

struct raw *raw_connect(struct world *w, const char *addr);
/* Listens; raw_accept waits for one connection. */
struct raw *raw_listen(struct world *w);
void raw_accept(struct raw *r);
void raw_free(struct raw *r);
void raw_close(struct raw *r, bool abort_now);
void raw_hold(struct raw *r, bool hold); /* stop reading */

bool raw_send(struct raw *r, const void *p, size_t n); /* false: the stream is over */
/* Header with f's lengths, then what is given of body and payload. */
bool raw_send_frame(struct raw *r, const struct frame *f, const void *body, const void *payload);
bool raw_hello(struct world *w, struct raw *r, const char *node);
bool raw_request(struct raw *r, uint32_t method, uint64_t id, const struct buf *body);

bool raw_read(struct raw *r, void *p, size_t n); /* false: the stream was over before */
/* Sends n pieces of many lengths, from a fiber or as one; and are they what comes? */
struct raw_pump {
	struct raw *r;
	unsigned n, seed;
	bool ok, done;
};
void raw_pump(void *arg);
bool raw_arrives(struct raw *r, unsigned n, unsigned seed);
/* The next frame; body gets body and payload. */
bool raw_next(struct raw *r, struct frame *f, struct buf *body);
/* Up to the next frame of that type; skips others. */
bool raw_expect(struct raw *r, uint8_t type, struct frame *f, struct buf *body);
/* The other end says goodbye with this code and hangs up. */
void raw_expect_goodbye(struct raw *r, int code, const char *text);

#endif
