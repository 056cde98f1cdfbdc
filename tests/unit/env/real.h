/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the real env share: a body that runs as a fiber, scratch folders, and streams
 * with calls that wait. */
#ifndef TESTS_UNIT_ENV_REAL_H
#define TESTS_UNIT_ENV_REAL_H

#include "base/err.h"
#include "env/env.h"
#include "env/fiber.h"
#include "unit/harness.h"

/* Runs body as a fiber of a new env until it returns; checks that no descriptor is left. */
void with_env(void (*body)(struct env *e));
/* The same without the check of descriptors, log lines to the callback. */
void with_env_log(void (*body)(struct env *e), struct log log);
unsigned count_fds(void);
unsigned count_threads(void);

/* A folder of the test on a file system with O_DIRECT, made at first use; the suites have
 * scratch_remove as a checked teardown. */
const char *scratch(void);
const char *scratch_path(const char *name); /* in a static ring of buffers */
void scratch_remove(void);

/* A stream whose callbacks only wake the fibers that wait on it. */
struct chan {
	struct env *env;
	struct env_conn *conn;
	struct fiber_cond cond;
	unsigned opened, closed;
	bool readable, writable;
	struct hci_error err;
};
extern const struct env_conn_ops chan_ops;
void chan_init(struct chan *ch, struct env *e);
/* Connects and waits; 0 or the code of on_closed. */
int chan_connect(struct chan *ch, struct env *e, const char *addr, struct env_tls *tls);
void chan_send(struct chan *ch, const void *data, size_t len); /* all of it; fails the test */
int64_t chan_try_send(struct chan *ch, const void *data, size_t len); /* all, or the error */
int64_t chan_recv(struct chan *ch, void *buf, size_t len); /* until len, the end, or an error */
int chan_wait_closed(struct chan *ch);                     /* the code */
void chan_close(struct chan *ch);

/* A listener that hands accepted streams out as chans. */
struct server {
	struct env *env;
	struct env_listener *l;
	struct fiber_cond cond;
	struct chan *accepted[64];
	unsigned n, taken;
};
void server_start(struct server *s, struct env *e, const char *addr, struct env_tls *tls);
struct chan *server_accept(struct server *s);                     /* waits */
struct chan *server_accept_within(struct server *s, uint64_t ns); /* or NULL */
void server_stop(struct server *s); /* closes listener and all chans */

#endif
