/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two kinds of env (real, simulated) share, and the table they differ in. Included by
 * lib/env/ only.
 *
 * Shared, written once (env.c, fiber.c): deferred tasks, timers, fibers, whole small files. Each
 *kind embeds a struct env as its first member, calls env_init(), and drives it:
 *
 *	e->now = <clock>;
 *	env_run_timers(e);
 *	env_run_deferred(e);
 *	... sleep until env_next_timer(e), unless env_has_deferred(e)
 *
 * Everything in here is infallible and takes no memory, but for fiber stacks.
 */
#ifndef ENV_ENV_IMPL_H
#define ENV_ENV_IMPL_H

#include "env/env.h"
#include "env/fiber.h"
#include "env/mark.h"

struct env_ops {
	/* Hints, may be NULL: called when the list of deferred tasks stops being empty, and when
	 * the earliest timer is another one than before. The simulator schedules its events from
	 * them. */
	void (*deferred)(struct env *e);
	void (*timer)(struct env *e);

	/* post: from any thread; the task must end up in env_run_deferred(), through
	 * env_defer_posted(). collect (may be NULL): move posted tasks there now, so that they can
	 * be taken back. */
	void (*post)(struct env *e, struct env_task *t);
	void (*collect)(struct env *e);
	bool (*on_loop)(struct env *e);
	void (*mark)(struct env *e, const struct env_mark *m, unsigned state); /* may be NULL */

	uint64_t (*realtime)(struct env *e);
	void (*random)(struct env *e, void *out, size_t len);
	void (*work)(struct env *e, struct env_work *w);

	/* Files. All but submit are called on a fiber and park it. */
	void (*submit)(struct env *e, struct env_io *io);
	int (*open)(struct env *e, const char *path, unsigned flags, struct env_file **out);
	void (*close)(struct env *e, struct env_file *f);
	int (*file_size)(struct env *e, struct env_file *f, uint64_t *out);
	int (*truncate)(struct env *e, struct env_file *f, uint64_t size);
	int (*unlink)(struct env *e, const char *path);
	int (*rename)(struct env *e, const char *from, const char *to);
	int (*mkdir)(struct env *e, const char *path);
	int (*rmdir)(struct env *e, const char *path);
	int (*sync_dir)(struct env *e, const char *path);
	int (*statfs)(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes);
	int (*fs_of)(struct env *e, const char *path, struct env_fs *out);
	int (*listdir)(struct env *e, const char *path, char ***out);

	struct env_conn *(*connect)(struct env *e, const char *addr, struct env_tls *tls,
				    const struct env_conn_ops *ops, void *arg,
				    struct hci_error *err);
	struct env_listener *(*listen)(struct env *e, const char *addr, struct env_tls *tls,
				       void (*on_accept)(void *arg, struct env_conn *c), void *arg,
				       struct hci_error *err);
	const char *(*listener_addr)(const struct env_listener *l);
	void (*listener_close)(struct env_listener *l);
	void (*conn_set_ops)(struct env_conn *c, const struct env_conn_ops *ops, void *arg);
	int64_t (*conn_recv)(struct env_conn *c, void *buf, size_t len);
	int64_t (*conn_send)(struct env_conn *c, const struct iovec *iov, int n);
	void (*conn_pause)(struct env_conn *c, bool paused);
	int (*conn_start_tls)(struct env_conn *c, struct env_tls *tls, bool server,
			      struct hci_error *err);
	const char *(*conn_peer_name)(const struct env_conn *c);
	void (*conn_close)(struct env_conn *c, bool abort_now);
	struct env_tls *(*tls_new)(struct env *e, const char *ca_file, const char *cert_file,
				   const char *key_file, bool verify_peer, struct hci_error *err);
	void (*tls_free)(struct env_tls *t);
};

/* The first member of each kind's own struct. */
struct env_conn {
	struct env *env;
};
struct env_listener {
	struct env *env;
};
struct env_tls {
	struct env *env;
	char name[HCI_NAME_MAX]; /* common name of our certificate, "" when it has none that fits */
};

/* Free stacks of ended fibers. Not from base/mem.h, so that it outlives a node's arena; one may be
 * shared by all envs of a thread. */
struct fiber_stacks;
struct fiber_stacks *fiber_stacks_new(void);
void fiber_stacks_free(struct fiber_stacks *s);

struct fiber_ctx {
	void *sp;
	void *asan_fake, *tsan; /* what the sanitizers know of the stack we left */
	const void *asan_bottom;
	size_t asan_size;
};

struct env {
	const struct env_ops *ops;
	struct log log;
	struct metrics *metrics;
	uint64_t now; /* what env_now() says: set by the kind */

	struct list tasks, running; /* deferred; and of those, the ones of the turn at work */
	struct env_timer *timers;   /* root of a pairing heap */
	uint64_t timer_seq;

	struct fiber_stacks *stacks;
	struct list fibers;    /* all that have not ended */
	struct fiber *current; /* on whose stack we are; NULL: the loop's */
	struct fiber_ctx loop_ctx;
};

/* stacks is lent. log is copied. */
void env_init(struct env *e, const struct env_ops *ops, const struct log *log,
	      struct metrics *metrics, struct fiber_stacks *stacks);
/* Forgets tasks and timers and drops all fibers where they stand: no line of theirs is run. Must be
 * called from the loop's stack. */
void env_fini(struct env *e);

/* Puts t with the deferred tasks, on the loop's thread; t->queued is true already. */
void env_defer_posted(struct env *e, struct env_task *t);
/* Runs the tasks that are there now, not those that they add. False: there were none. */
bool env_run_deferred(struct env *e);
/* The same for just the first (the simulator interleaves nodes by it). False: there was none. */
bool env_run_one(struct env *e);
static inline bool env_has_deferred(const struct env *e)
{
	return !list_empty(&e->tasks) || !list_empty(&e->running);
}
/* Fires what is due at e->now, in order of deadline, then of arming. Look at env_next_timer() after
 * it: ops->timer is not called for what fires. */
void env_run_timers(struct env *e);
uint64_t env_next_timer(const struct env *e); /* deadline, UINT64_MAX when there is none */

#endif
