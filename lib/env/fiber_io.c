/* SPDX-License-Identifier: Apache-2.0 */
/* File I/O and blocking work that park the calling fiber: thin covers over env_submit and env_work.
 */
#include <assert.h>

#include "env/env_impl.h"

struct waiting_io {
	struct env_io io;
	struct env *env;
	struct fiber *fiber;
	bool done;
};

static void io_done(struct env_io *io)
{
	struct waiting_io *w = container_of(io, struct waiting_io, io);

	w->done = true;
	fiber_wake(w->env, w->fiber);
}

static int64_t io_wait(struct env *e, enum env_io_op op, struct env_file *f, void *buf,
		       uint64_t len, uint64_t off, unsigned flags)
{
	struct waiting_io w = { .env = e, .fiber = fiber_self(e) };

	assert(w.fiber);
	env_io_prep(&w.io, op, f, buf, len, off, io_done);
	w.io.flags = flags;
	list_init(&w.io.link);
	env_submit(e, &w.io);
	while (!w.done)
		fiber_park(e);
	return w.io.result;
}

int64_t fiber_read(struct env *e, struct env_file *f, void *buf, uint64_t len, uint64_t off)
{
	return io_wait(e, ENV_READ, f, buf, len, off, 0);
}

int64_t fiber_write(struct env *e, struct env_file *f, const void *buf, uint64_t len, uint64_t off,
		    unsigned io_flags)
{
	return io_wait(e, ENV_WRITE, f, (void *)(uintptr_t)buf, len, off, io_flags);
}

int fiber_fsync(struct env *e, struct env_file *f)
{
	return (int)io_wait(e, ENV_SYNC, f, NULL, 0, 0, 0);
}

int fiber_punch(struct env *e, struct env_file *f, uint64_t off, uint64_t len)
{
	return (int)io_wait(e, ENV_PUNCH, f, NULL, len, off, 0);
}

int fiber_falloc(struct env *e, struct env_file *f, uint64_t off, uint64_t len)
{
	return (int)io_wait(e, ENV_ALLOC, f, NULL, len, off, 0);
}

struct waiting_work {
	struct env_work work;
	void (*run)(void *);
	void *arg;
	struct env *env;
	struct fiber *fiber;
	bool done;
};

static void work_run(struct env_work *work)
{
	struct waiting_work *w = container_of(work, struct waiting_work, work);

	w->run(w->arg);
}

static void work_done(struct env_work *work)
{
	struct waiting_work *w = container_of(work, struct waiting_work, work);

	w->done = true;
	fiber_wake(w->env, w->fiber);
}

void fiber_work(struct env *e, void (*run)(void *arg), void *arg)
{
	struct waiting_work w = { .run = run, .arg = arg, .env = e, .fiber = fiber_self(e) };

	assert(w.fiber);
	w.work.run = work_run;
	w.work.done = work_done;
	env_work(e, &w.work);
	while (!w.done)
		fiber_park(e);
}
