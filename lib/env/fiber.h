/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers: control paths (attach, recovery, resync, reconcile) read as straight code that parks
 * instead of blocking. A fiber belongs to one loop and runs on its thread; between two parks
 * nothing else of the loop runs, so state needs no lock, but may have changed after every call that
 * parks. The hot data path uses callbacks, not fibers.
 *
 * Stacks are 64 KiB (256 KiB under sanitizers) with a guard page: keep large buffers on the heap.
 */
#ifndef ENV_FIBER_H
#define ENV_FIBER_H

#include "env/env.h"

struct fiber;

/* Starts on the next turn of the loop. name is kept by reference. HCI_E_NOMEM or 0. */
int fiber_spawn(struct env *e, void (*fn)(void *arg), void *arg, const char *name);
struct fiber *fiber_self(struct env *e); /* NULL outside a fiber */

/* Park until fiber_wake(). A wake that comes first is remembered (one, not a count). Spurious wakes
 * do not happen, but several wakers may: check your condition in a loop. */
void fiber_park(struct env *e);
void fiber_wake(struct env *e, struct fiber *f); /* loop thread only; f must not have ended */
void fiber_sleep(struct env *e, uint64_t ns);

/* A thing to wait for: any number of fibers wait, signal wakes them all. */
struct fiber_cond {
	struct list waiters;
};
void fiber_cond_init(struct fiber_cond *c);
void fiber_cond_wait(struct env *e, struct fiber_cond *c);
/* False when the deadline (env_now()) passed first. */
bool fiber_cond_wait_until(struct env *e, struct fiber_cond *c, uint64_t deadline);
void fiber_cond_signal(struct env *e, struct fiber_cond *c);

struct fiber_mutex {
	bool held;
	struct fiber_cond cond;
};
void fiber_mutex_init(struct fiber_mutex *m);
void fiber_mutex_lock(struct env *e, struct fiber_mutex *m);
void fiber_mutex_unlock(struct env *e, struct fiber_mutex *m);

/* File I/O that parks. Bytes or -errno; a short read at the end of the file is not an error. */
int64_t fiber_read(struct env *e, struct env_file *f, void *buf, uint64_t len, uint64_t off);
int64_t fiber_write(struct env *e, struct env_file *f, const void *buf, uint64_t len, uint64_t off,
		    unsigned io_flags);
int fiber_fsync(struct env *e, struct env_file *f);
int fiber_punch(struct env *e, struct env_file *f, uint64_t off, uint64_t len);
int fiber_falloc(struct env *e, struct env_file *f, uint64_t off, uint64_t len);
/* Blocking work on a worker thread; parks until it is done. */
void fiber_work(struct env *e, void (*run)(void *arg), void *arg);

#endif
