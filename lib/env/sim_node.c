/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated nodes: the env of each (turns, timers, clock, blocking work), entering and leaving their
 * code, crash and boot. Disks and connections are told of a death and see to themselves.
 */
#include "env/sim_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define EPOCH_NS (UINT64_C(1767225600) * NS_PER_S) /* the world begins 2026-01-01 */

/* ---- clock ---- */

uint64_t sim_node_now(const struct sim_node *n)
{
	uint64_t d = n->sim->now - n->clk_world;

	if (n->ppm == 0)
		return n->clk_local + d;
	return n->clk_local + (uint64_t)((unsigned __int128)d * (uint64_t)(1000000 + n->ppm) / 1000000u);
}

/* When the node's clock will show it, rounded up. */
static uint64_t world_time(const struct sim_node *n, uint64_t local)
{
	unsigned __int128 d;
	uint64_t rate = (uint64_t)(1000000 + n->ppm);

	if (local <= n->clk_local)
		return 0;
	d = ((unsigned __int128)(local - n->clk_local) * 1000000u + rate - 1) / rate;
	if (d > UINT64_MAX / 4)
		return UINT64_MAX / 2;
	return n->clk_world + (uint64_t)d;
}

void sim_node_clock(struct sim_node *n, int64_t ppm, int64_t realtime_jump_ns)
{
	uint64_t now = sim_node_now(n);

	n->clk_local = now;
	n->clk_world = n->sim->now;
	n->ppm = MAX(MIN(ppm, 500000), -500000);
	n->realtime_offset += realtime_jump_ns;
	if (n->env && env_next_timer(&n->env->env) != UINT64_MAX)
		sim_ev_at(&n->env->timer, world_time(n, env_next_timer(&n->env->env)));
}

static uint64_t node_realtime(struct env *e)
{
	struct sim_node *n = sim_node_of(e);

	return EPOCH_NS + n->sim->now + (uint64_t)n->realtime_offset;
}

/* ---- turns ---- */

/* The event may fire too early (a timer was disarmed): cheaper than to move it each time. */
static void schedule_timer(struct sim_env *se)
{
	uint64_t next = env_next_timer(&se->env), when;

	if (next == UINT64_MAX)
		return;
	when = world_time(se->node, next);
	if (!sim_ev_queued(&se->timer) || se->timer.time > when)
		sim_ev_at(&se->timer, when);
}

struct sim_enter sim_enter(struct sim_node *n)
{
	struct sim *s = n->sim;
	struct sim_enter en = { s->cur, mem_arena_set(n->arena), s->cur == n };

	s->cur = n;
	n->env->env.now = sim_node_now(n);
	return en;
}

/*
 * Deferred tasks follow at once, as at the end of a loop's turn; but sometimes a little later, so that
 * a crash or another node can come in between. A task that defers itself for ever thus lets time pass.
 */
static void run_tasks(struct sim_env *se)
{
	struct sim *s = se->node->sim;

	for (int i = 0; i < 4; i++) {
		if (!env_has_deferred(&se->env))
			return;
		if (sim_chance(s, 50))
			break;
		env_run_deferred(&se->env);
		if (se->node->crash_pending)
			return;
	}
	if (env_has_deferred(&se->env) && !sim_ev_queued(&se->turn))
		sim_ev_in(&se->turn, sim_range(s, 50, 5000));
}

static void die(struct sim_node *n, bool power_loss);

void sim_leave(struct sim_node *n, struct sim_enter en)
{
	struct sim *s = n->sim;

	if (!en.nested && !n->crash_pending && !n->paused_until)
		run_tasks(n->env);
	else if (!en.nested && !n->crash_pending && env_has_deferred(&n->env->env) && !sim_ev_queued(&n->env->turn))
		sim_ev_in(&n->env->turn, 0);
	s->cur = en.prev;
	mem_arena_set(en.prev_arena);
	if (en.nested)
		return;
	if (n->crash_pending)
		die(n, n->crash_pending == 2);
	else
		schedule_timer(n->env);
}

static void turn_fire(struct sim_ev *ev)
{
	struct sim_enter en = sim_enter(ev->node);

	sim_leave(ev->node, en);
}

static void timer_fire(struct sim_ev *ev)
{
	struct sim_enter en = sim_enter(ev->node);

	env_run_timers(&ev->node->env->env);
	sim_leave(ev->node, en);
}

/* Only of interest when it happens outside of the node's turn, which sees to it at its end. */
static void node_deferred(struct env *e)
{
	struct sim_node *n = sim_node_of(e);

	if (n->sim->cur != n && !sim_ev_queued(&n->env->turn))
		sim_ev_in(&n->env->turn, 0);
}

static void node_timer(struct env *e)
{
	struct sim_node *n = sim_node_of(e);

	if (n->sim->cur != n)
		schedule_timer(n->env);
}

static void node_post(struct env *e, struct env_task *t)
{
	t->queued = true; /* so that it can be taken back */
	env_defer_posted(e, t);
}

static bool node_on_loop(struct env *e)
{
	return sim_node_of(e)->sim->cur == sim_node_of(e);
}

static void node_random(struct env *e, void *out, size_t len)
{
	struct sim *s = sim_node_of(e)->sim;
	uint8_t *p = out;

	while (len > 0) {
		uint64_t r = sim_rand(s);
		size_t k = MIN(len, sizeof(r));

		memcpy(p, &r, k);
		p += k;
		len -= k;
	}
}

/* ---- things under way ---- */

void sim_op_start(struct sim_op *op, struct sim_node *n, enum sim_kind kind, void (*fn)(struct sim_ev *), uint64_t delay)
{
	sim_ev_init(&op->ev, n->sim, n, kind, fn);
	list_init(&op->stalled);
	list_push(&n->pending, &op->link);
	sim_ev_in(&op->ev, delay);
}

void sim_op_end(struct sim_op *op)
{
	sim_ev_cancel(&op->ev);
	list_del(&op->link);
	list_del(&op->stalled);
}

struct work_op {
	struct sim_op op;
	struct env_work *work;
};

static void work_drop(struct sim_op *op, bool power_loss)
{
	(void)power_loss;
	free(container_of(op, struct work_op, op));
}

static void work_fire(struct sim_ev *ev)
{
	struct work_op *wo = container_of(ev, struct work_op, op.ev);
	struct sim_node *n = ev->node;
	struct env_work *w = wo->work;
	struct sim_enter en;

	sim_op_end(&wo->op);
	free(wo);
	en = sim_enter(n);
	w->run(w);
	w->done(w);
	sim_leave(n, en);
}

static void node_work(struct env *e, struct env_work *w)
{
	struct sim_node *n = sim_node_of(e);
	struct work_op *wo = sim_calloc(1, sizeof(*wo));

	wo->work = w;
	wo->op.drop = work_drop;
	sim_op_start(&wo->op, n, SIM_EV_WORK, work_fire, sim_range(n->sim, n->sim->o.work_min, n->sim->o.work_max));
}

/* ---- marked points ---- */

/* Of the linker; absent where no code with marks is linked in. */
extern const struct env_mark __start_hci_marks[] __attribute__((weak)), __stop_hci_marks[] __attribute__((weak));

const struct env_mark *sim_marks(size_t *n)
{
	*n = (size_t)(__stop_hci_marks - __start_hci_marks);
	return __start_hci_marks;
}

void sim_on_mark(struct sim *s, void (*fn)(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state), void *arg)
{
	s->on_mark = fn;
	s->mark_arg = arg;
}

static void node_mark(struct env *e, const struct env_mark *m, unsigned state)
{
	struct sim_node *n = sim_node_of(e);

	if (n->sim->on_mark)
		n->sim->on_mark(n->sim->mark_arg, n, m, state);
}

/* ---- life and death ---- */

static void node_log(void *arg, int level, const char *subsystem, const char *line)
{
	struct sim_node *n = arg;
	char full[1024];

	snprintf(full, sizeof(full), "[%4" PRIu64 ".%09" PRIu64 " %s] %s", n->sim->now / NS_PER_S,
		 n->sim->now % NS_PER_S, n->name, line);
	n->sim->o.log.emit(n->sim->o.log.arg, level, subsystem, full);
}

static const struct env_ops *node_ops(struct sim *s)
{
	struct env_ops *o = &s->env_ops;

	if (o->post)
		return o;
	o->deferred = node_deferred;
	o->timer = node_timer;
	o->post = node_post;
	o->on_loop = node_on_loop;
	o->mark = node_mark;
	o->realtime = node_realtime;
	o->random = node_random;
	o->work = node_work;
	sim_env_file_ops(o);
	sim_env_net_ops(o);
	return o;
}

static void live(struct sim_node *n)
{
	struct sim *s = n->sim;
	struct sim_env *se = sim_calloc(1, sizeof(*se));

	se->node = n;
	env_init(&se->env, node_ops(s), &n->log, NULL, s->stacks);
	sim_ev_init(&se->turn, s, n, SIM_EV_TURN, turn_fire);
	sim_ev_init(&se->timer, s, n, SIM_EV_TIMER, timer_fire);
	n->arena = mem_arena_new();
	if (!n->arena)
		abort();
	if (!n->powered) { /* the monotonic clock counts from the machine's start */
		n->powered = true;
		n->clk_world = s->now;
		n->clk_local = sim_range(s, NS_PER_S, 1000 * NS_PER_S);
		sim_net_node_powered(n);
	}
	n->env = se;
	n->up = true;
	n->boots++;
	se->env.now = sim_node_now(n);
}

static void die(struct sim_node *n, bool power_loss)
{
	struct sim_env *se = n->env;
	struct sim_op *op, *tmp;
	struct sim_disk *d;

	n->crash_pending = 0;
	n->paused_until = 0;
	sim_fold(n->sim, SIM_EV_CRASH | (uint64_t)power_loss << 8 | (uint64_t)n->index << 32);
	if (n->up) {
		n->up = false;
		list_for_each_safe(op, tmp, &n->pending, link) {
			sim_op_end(op);
			op->drop(op, power_loss);
		}
		sim_ev_cancel(&se->turn);
		sim_ev_cancel(&se->timer);
		env_fini(&se->env);
		sim_net_node_gone(n, power_loss);
		sim_files_drop(n);
		mem_arena_destroy(n->arena);
		n->arena = NULL;
		n->env = NULL;
		free(se);
	}
	if (power_loss && n->powered) {
		n->powered = false;
		list_for_each(d, &n->disks, link)
			sim_disk_power_loss(d);
	}
}

/* A node that crashes itself (through a test's hook) must first be off its own stack. */
static void kill_node(struct sim_node *n, bool power_loss)
{
	if (n->up && n->sim->cur == n)
		n->crash_pending = MAX(n->crash_pending, power_loss ? 2 : 1);
	else
		die(n, power_loss);
}

void sim_node_crash(struct sim_node *n)
{
	if (n->up)
		kill_node(n, false);
}

void sim_node_pause(struct sim_node *n, uint64_t until)
{
	if (!n->up)
		return;
	if (!n->paused_until)
		n->paused_at = n->sim->now;
	n->paused_until = MAX(n->paused_until, until);
}

void sim_node_power_loss(struct sim_node *n)
{
	if (n->powered)
		kill_node(n, true);
}

struct sim_node *sim_node_new(struct sim *s, const char *name)
{
	struct sim_node *n;

	if (s->nnodes == SIM_NODES_MAX)
		abort();
	n = sim_calloc(1, sizeof(*n));
	n->sim = s;
	n->machine = n;
	n->index = s->nnodes;
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->log = s->o.log;
	if (n->log.emit) {
		n->log.emit = node_log;
		n->log.arg = n;
	}
	n->next_port = 10000;
	list_init(&n->disks);
	list_init(&n->pending);
	list_init(&n->files);
	list_init(&n->conns);
	list_init(&n->listeners);
	s->nodes[s->nnodes++] = n;
	live(n);
	return n;
}

void sim_node_join(struct sim_node *n, struct sim_node *machine)
{
	n->machine = machine->machine;
}

void sim_node_free(struct sim_node *n)
{
	struct sim_disk *d, *tmp;

	die(n, false);
	list_for_each_safe(d, tmp, &n->disks, link)
		sim_disk_free(d);
	free(n);
}

void sim_node_call(struct sim_node *n, void (*fn)(struct env *e, void *arg), void *arg)
{
	struct sim_enter en;

	if (!n->up)
		return;
	en = sim_enter(n);
	fn(&n->env->env, arg);
	sim_leave(n, en);
}

void sim_node_boot(struct sim_node *n, void (*boot)(struct env *e, void *arg), void *arg)
{
	if (!n->up)
		live(n);
	if (boot)
		sim_node_call(n, boot, arg);
}

struct env *sim_node_env(struct sim_node *n)
{
	return n->up ? &n->env->env : NULL;
}

const char *sim_node_name(const struct sim_node *n)
{
	return n->name;
}

bool sim_node_up(const struct sim_node *n)
{
	return n->up;
}
