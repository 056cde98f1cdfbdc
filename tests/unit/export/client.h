/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server in a loop of its own thread, and a blocking client that says exactly the bytes it is
 * told to: what no honest NBD client can be made to do. One rig a test, from a checked fixture.
 */
#ifndef TESTS_EXPORT_CLIENT_H
#define TESTS_EXPORT_CLIENT_H

#include "export/nbd.h"
#include "export/nbd_proto.h"
#include "unit/export/ram.h"

#define RIG_SIZE (8 * MiB)

struct rig {
	struct env *env;
	struct metrics *metrics;
	struct nbd_server *server;
	struct nbd_export *export;
	struct ram ram, ram2; /* ram2: a second backend of the same size */
	char path[64], addr[80];
	unsigned told; /* calls of on_first_held_io */
	int told_status;
	unsigned told_writes; /* calls of on_first_held_write */
};

extern struct rig rig;

/* Options for the next rig_start(); reset to these by rig_defaults(). */
struct rig_opts {
	struct nbd_server_opts server;
	struct nbd_export_opts export;
	bool no_export;
};
void rig_defaults(struct rig_opts *o);
void rig_start(const struct rig_opts *o);
void rig_setup(void);    /* with the defaults: for fixtures */
void rig_teardown(void); /* closes everything, checks that nothing is left */
/* Runs fn on the loop and waits for it. */
void rig_call(void (*fn)(void *arg), void *arg);
/* The same inside a fiber. */
void rig_fiber(void (*fn)(void *arg), void *arg);
void rig_stats(struct nbd_stats *out);
/* What the loop owns of the rig, as of now. */
struct rig_seen {
	unsigned told, writes, max_in_flight;
	int told_status;
	unsigned told_writes;
};
struct rig_seen rig_look(void);
/* Waits up to 5 s until fn(stats) holds. */
bool rig_until(bool (*fn)(const struct nbd_stats *s));

/* ---- the client; every call fails the test when the stream says otherwise ---- */

#define CL_STRUCTURED 1u
#define CL_META 2u

int cl_connect(void);
int cl_open(const char *name, unsigned what); /* connect and handshake */
void cl_put(int fd, const void *p, size_t n);
void cl_get(int fd, void *p, size_t n);
bool cl_closed(int fd); /* true when the server closes within 5 s, whatever it says before */
void cl_option(int fd, uint32_t opt, const void *data, uint32_t len);
uint32_t cl_option_reply(int fd, uint32_t opt, void *data,
			 uint32_t *len); /* *len: room, then length */
void cl_go(int fd, const char *name);
void cl_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t off, uint32_t len);

struct cl_reply {
	bool structured;
	uint16_t type;
	uint32_t error, len; /* of a chunk: its payload's length */
	uint64_t cookie;
	uint8_t data[64 << 10];
};
/* data_len: what a simple reply to a read carries if it is no error. */
void cl_reply(int fd, struct cl_reply *r, uint32_t data_len);
/* Request and its reply; the error. */
uint32_t cl_read(int fd, void *buf, uint64_t off, uint32_t len);
uint32_t cl_write(int fd, const void *buf, uint64_t off, uint32_t len);
uint32_t cl_do(int fd, uint16_t type, uint16_t flags, uint64_t off, uint32_t len);

#endif
