/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers of an env, real or simulated: stacks, parking and waking, condition and mutex. How a stack
 * is switched is in fiber_switch.h; file I/O that parks is in fiber_io.c.
 *
 * A fiber only ever switches to the loop's stack and back; the loop resumes it from a deferred
 * task. struct fiber lies at the top of its own stack, so that dropping a fiber is giving back one
 * mapping.
 */
#include "env/fiber.h"

#include <assert.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "env/env_impl.h"
#include "env/fiber_switch.h"

#define GUARD 4096u
#define STACKS_KEPT 128u

struct fiber {
	struct list link; /* env.fibers; fiber_stacks.free */
	struct env *env;
	void (*fn)(void *);
	void *arg;
	const char *name;
	struct env_task task; /* resumes it */
	bool parked, woken, ended;
	struct fiber_ctx ctx;
	char *map;
};

/* ---- stacks ---- */

struct fiber_stacks {
	struct list free;
	unsigned n;
};

struct fiber_stacks *fiber_stacks_new(void)
{
	struct fiber_stacks *s = MEM_NEW(struct fiber_stacks);

	if (s)
		list_init(&s->free);
	return s;
}

static size_t map_size(void)
{
	return GUARD + FIBER_STACK;
}

static void stack_unmap(struct fiber *f)
{
	char *map = f->map;

	fiber_stack_clean(map + GUARD, FIBER_STACK);
	munmap(map, map_size());
}

void fiber_stacks_free(struct fiber_stacks *s)
{
	struct list *n;

	if (!s)
		return;
	while ((n = list_pop(&s->free)))
		stack_unmap(list_entry(n, struct fiber, link));
	mem_free(s);
}

static struct fiber *stack_get(struct fiber_stacks *s)
{
	struct list *n = list_pop(&s->free);
	struct fiber *f;
	char *map;

	if (n) {
		s->n--;
		return list_entry(n, struct fiber, link);
	}
	map = mmap(NULL, map_size(), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map, GUARD, PROT_NONE)) {
		munmap(map, map_size());
		return NULL;
	}
	f = (struct fiber *)(map + map_size() - ROUND_UP(sizeof(*f), 64));
	f->map = map;
	return f;
}

static void stack_put(struct fiber_stacks *s, struct fiber *f)
{
	fiber_ctx_fini(&f->ctx);
	if (s->n >= STACKS_KEPT) {
		stack_unmap(f);
		return;
	}
	list_push_front(&s->free, &f->link);
	s->n++;
}

/* ---- life ---- */

static void fiber_main(void *arg)
{
	struct fiber *f = arg;
	struct env *e = f->env;

	fiber_ctx_entered(&e->loop_ctx);
	f->fn(f->arg);
	f->ended = true;
	fiber_ctx_swap(&f->ctx, &e->loop_ctx, true);
	__builtin_unreachable();
}

static void fiber_resume(struct env_task *t)
{
	struct fiber *f = container_of(t, struct fiber, task);
	struct env *e = f->env;

	assert(!e->current);
	e->current = f;
	fiber_ctx_swap(&e->loop_ctx, &f->ctx, false);
	e->current = NULL;
	if (f->ended) {
		list_del(&f->link);
		stack_put(e->stacks, f);
	}
}

int fiber_spawn(struct env *e, void (*fn)(void *arg), void *arg, const char *name)
{
	struct fiber *f = stack_get(e->stacks);
	char *bottom;

	if (!f)
		return HCI_E_NOMEM;
	f->env = e;
	f->fn = fn;
	f->arg = arg;
	f->name = name;
	f->parked = f->woken = f->ended = false;
	bottom = f->map + GUARD;
	fiber_ctx_init(&f->ctx, bottom, (size_t)((char *)f - bottom));
	f->ctx.sp = fiber_stack_init(f, fiber_main, f);
	list_push(&e->fibers, &f->link);
	env_task_init(&f->task, fiber_resume);
	env_defer(e, &f->task);
	return 0;
}

void env_fini(struct env *e)
{
	struct list *n;

	assert(!e->current);
	while ((n = list_pop(&e->fibers)))
		stack_put(e->stacks, list_entry(n, struct fiber, link));
	list_init(&e->tasks);
	list_init(&e->running);
	e->timers = NULL;
}

struct fiber *fiber_self(struct env *e)
{
	return e->current;
}

/* ---- park and wake ---- */

void fiber_park(struct env *e)
{
	struct fiber *f = e->current;

	assert(f);
	if (!f->woken) {
		f->parked = true;
		fiber_ctx_swap(&f->ctx, &e->loop_ctx, false);
	}
	f->woken = false;
}

void fiber_wake(struct env *e, struct fiber *f)
{
	f->woken = true;
	if (!f->parked)
		return;
	f->parked = false;
	env_defer(e, &f->task);
}

struct sleeper {
	struct env_timer timer;
	struct env *env;
	struct fiber *fiber;
	bool over;
};

static void sleep_over(struct env_timer *t)
{
	struct sleeper *s = container_of(t, struct sleeper, timer);

	/* Not by fiber_wake(): what that remembers is somebody else's wake, also one that comes before the fiber runs. */
	s->over = true;
	if (!s->fiber->parked)
		return;
	s->fiber->parked = false;
	env_defer(s->env, &s->fiber->task);
}

void fiber_sleep(struct env *e, uint64_t ns)
{
	struct fiber *f = e->current;
	struct sleeper s = { .env = e, .fiber = f };

	assert(f);
	env_timer_init(&s.timer, sleep_over);
	env_timer_arm(e, &s.timer, e->now + ns);
	/* f->woken, before or meanwhile, is kept for the next park. */
	while (!s.over) {
		f->parked = true;
		fiber_ctx_swap(&f->ctx, &e->loop_ctx, false);
	}
}

/* ---- condition, mutex ---- */

struct waiter {
	struct list link;
	struct fiber *fiber;
	bool signalled;
};

void fiber_cond_init(struct fiber_cond *c)
{
	list_init(&c->waiters);
}

bool fiber_cond_wait_until(struct env *e, struct fiber_cond *c, uint64_t deadline)
{
	struct waiter w = { .fiber = e->current };
	struct sleeper s = { .env = e, .fiber = e->current };

	assert(w.fiber);
	list_push(&c->waiters, &w.link);
	env_timer_init(&s.timer, sleep_over);
	if (deadline != UINT64_MAX)
		env_timer_arm(e, &s.timer, deadline);
	while (!w.signalled && !s.over)
		fiber_park(e);
	env_timer_disarm(e, &s.timer);
	list_del(&w.link);
	return w.signalled;
}

void fiber_cond_wait(struct env *e, struct fiber_cond *c)
{
	fiber_cond_wait_until(e, c, UINT64_MAX);
}

void fiber_cond_signal(struct env *e, struct fiber_cond *c)
{
	struct list *n;

	while ((n = list_pop(&c->waiters))) {
		struct waiter *w = list_entry(n, struct waiter, link);

		w->signalled = true;
		fiber_wake(e, w->fiber);
	}
}

void fiber_mutex_init(struct fiber_mutex *m)
{
	m->held = false;
	fiber_cond_init(&m->cond);
}

void fiber_mutex_lock(struct env *e, struct fiber_mutex *m)
{
	while (m->held)
		fiber_cond_wait(e, &m->cond);
	m->held = true;
}

void fiber_mutex_unlock(struct env *e, struct fiber_mutex *m)
{
	m->held = false;
	fiber_cond_signal(e, &m->cond);
}
