/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real env: its loop, posts from other threads, clock and randomness.
 *
 * One turn of the loop:
 *	timers, deferred tasks (posted ones among them), callbacks of connections that are ready;
 *	then what these gathered goes out: corked bytes, the batch of disk I/O;
 *	then epoll_wait, which sleeps only if nothing is left to do, and disk completions.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "env/real_conn.h"
#include "env/real_impl.h"

#define EVENTS 64
#define TASK_ROUNDS 8 /* of deferred tasks in one turn */
#define DRAIN_TURNS 10000
#define TURN_WARN_NS (500 * NS_PER_MS)
#define LOG_SUB "env"

uint64_t real_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t real_realtime(struct env *e)
{
	struct timespec ts;

	(void)e;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void real_random(struct env *e, void *out, size_t len)
{
	uint8_t *p = out;

	(void)e;
	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0) /* EINTR only: the pool has long been seeded */
			continue;
		p += n;
		len -= (size_t)n;
	}
}

static bool real_on_loop(struct env *e)
{
	return pthread_equal(atomic_load(&real_of(e)->thread), pthread_self());
}

int real_watch(struct real *r, int fd, uint32_t events, struct source *s)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	return epoll_ctl(r->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* ---- posts ---- */

void real_wake(struct real *r)
{
	uint64_t one = 1;
	ssize_t n = write(r->wakefd, &one, sizeof(one));

	(void)n; /* can only fail when the counter is full, and then it is readable anyway */
}

/*
 * A lock-free stack that the loop takes as a whole. The eventfd is written only when the loop
 * sleeps or is about to: it says so in sleeping before it looks at the stack a last time, and we
 * push before we look at sleeping, both sequentially consistent, so one of the two sees the other.
 */
void real_push(struct real *r, struct env_task *t)
{
	struct list *head = atomic_load_explicit(&r->posted, memory_order_relaxed);

	t->queued = true;
	do {
		t->link.next = head;
	} while (!atomic_compare_exchange_weak(&r->posted, &head, &t->link));
	if (atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, false))
		real_wake(r);
}

static void real_post(struct env *e, struct env_task *t)
{
	struct real *r = real_of(e);

	real_push(r, t);
	if (atomic_load(&r->drive.owner) == DRIVE_FREE)
		drive_call_home(r);
}

/* The stack has the newest first: turn it round. */
static void real_collect(struct env *e)
{
	struct list *n = atomic_exchange(&real_of(e)->posted, NULL), *oldest = NULL;

	while (n) {
		struct list *next = n->next;

		n->next = oldest;
		oldest = n;
		n = next;
	}
	while (oldest) {
		struct list *next = oldest->next;

		env_defer_posted(e, list_entry(oldest, struct env_task, link));
		oldest = next;
	}
}

static void on_wake(struct source *s, uint32_t events)
{
	/* Edge-triggered: every write wakes us anew, nothing needs to be read. */
	(void)s;
	(void)events;
}

/* ---- the loop ---- */

static int wait_events(struct real *r, struct epoll_event *ev, uint64_t now, uint64_t until)
{
	struct timespec ts, *tsp = NULL;
	uint64_t ns = until > now ? until - now : 0;

	if (until != UINT64_MAX) {
		ts.tv_sec = (time_t)(ns / NS_PER_S);
		ts.tv_nsec = (long)(ns % NS_PER_S);
		tsp = &ts;
	}
	if (!r->no_pwait2) {
		int n = epoll_pwait2(r->epfd, ev, EVENTS, tsp, r->sigmask);

		if (n >= 0 || errno != ENOSYS)
			return n;
		r->no_pwait2 = true; /* before Linux 5.11 */
	}
	return epoll_pwait(r->epfd, ev, EVENTS, tsp ? (int)MIN((ns + NS_PER_MS - 1) / NS_PER_MS, 3600000u) : -1,
			   r->sigmask);
}

/* A callback that blocks stalls everything else that lives on the loop: heartbeats, leases, I/O. */
static void turn_took(struct real *r, uint64_t ns)
{
	metric_observe_ns(r->turns, ns);
	if (ns >= TURN_WARN_NS)
		log_warn(&r->env.log,
			 "loop %s: a turn took %llu ms: a callback blocks, or the machine is "
			 "overloaded",
			 r->name, (unsigned long long)(ns / NS_PER_MS));
}

/* until 0: only asks what is there. */
static int sleep_until(struct real *r, struct epoll_event *ev, uint64_t now, uint64_t until)
{
	bool sleeps = until != 0;
	int n;

	if (sleeps) {
		now = real_clock(); /* it may have looked around in vain */
		atomic_store(&r->sleeping, true);
		if (atomic_load(&r->posted) || atomic_load(&r->stop) || atomic_load(&r->drive.want))
			until = 0;
	}
	n = wait_events(r, ev, now, until);
	atomic_store_explicit(&r->sleeping, false, memory_order_relaxed);
	r->env.now = real_clock();
	if (sleeps && until)
		spin_slept(&r->spin, r->env.now, r->env.now - now);
	return n;
}

void real_sleep(struct real *r, bool busy, uint64_t latest)
{
	struct epoll_event ev[EVENTS];
	uint64_t until = busy ? 0 : MIN(env_next_timer(&r->env), latest), now = real_clock();
	int i, n = 0;

	turn_took(r, now - r->env.now);

	if (until && spin_look(r, ev, EVENTS, now, until, &n)) {
		r->env.now = real_clock();
	} else {
		n = sleep_until(r, ev, now, until);
	}
	for (i = 0; i < n; i++) {
		struct source *s = ev[i].data.ptr;

		s->fn(s, ev[i].events);
	}
}

static bool run_tasks(struct real *r)
{
	int i;

	for (i = 0; i < TASK_ROUNDS; i++) {
		if (atomic_load_explicit(&r->posted, memory_order_relaxed))
			real_collect(&r->env);
		if (!env_run_deferred(&r->env))
			return false;
	}
	return env_has_deferred(&r->env);
}

bool real_turn(struct real *r)
{
	bool busy;

	env_run_timers(&r->env);
	run_tasks(r);
	net_run(r);
	run_tasks(r); /* what the connections brought, so that it leaves in the same batch */
	net_flush(r);
	aio_flush(r);
	net_bury(r);
	busy = aio_reap(r);
	return busy || env_has_deferred(&r->env) || !list_empty(&r->ready) ||
	       !list_empty(&r->flush);
}

void env_run(struct env *e)
{
	struct real *r = real_of(e);

	atomic_store(&r->thread, pthread_self());
	r->drive.home_thread = pthread_self();
	atomic_store(&r->runs, true);
	e->now = real_clock();
	while (!atomic_load_explicit(&r->stop, memory_order_acquire)) {
		real_sleep(r, real_turn(r), UINT64_MAX);
		if (atomic_load_explicit(&r->drive.want, memory_order_relaxed))
			drive_park(r);
	}
	net_flush(r);
	atomic_store(&r->stop, false);
}

bool env_runs_here(struct env *e)
{
	return atomic_load(&real_of(e)->runs) && real_on_loop(e);
}

void env_stop(struct env *e)
{
	struct real *r = real_of(e);

	atomic_store(&r->stop, true);
	real_wake(r);
	drive_call_home(r);
}

/* ---- life ---- */

static const struct env_ops real_ops = {
	.post = real_post,
	.collect = real_collect,
	.on_loop = real_on_loop,
	.realtime = real_realtime,
	.random = real_random,
	.work = real_work,
	.submit = real_submit,
	.open = real_open,
	.close = real_close,
	.file_size = real_file_size,
	.truncate = real_truncate,
	.unlink = real_unlink,
	.rename = real_rename,
	.mkdir = real_mkdir,
	.rmdir = real_rmdir,
	.sync_dir = real_sync_dir,
	.statfs = real_statfs,
	.fs_of = real_fs_of,
	.listdir = real_listdir,
	.connect = real_connect,
	.listen = real_listen,
	.listener_addr = real_listener_addr,
	.listener_close = real_listener_close,
	.conn_set_ops = real_conn_set_ops,
	.conn_recv = real_conn_recv,
	.conn_send = real_conn_send,
	.conn_pause = real_conn_pause,
	.conn_start_tls = real_conn_start_tls,
	.conn_peer_name = real_conn_peer_name,
	.conn_close = real_conn_close,
	.tls_new = real_tls_new,
	.tls_free = real_tls_free,
};

static int open_fds(struct real *r)
{
	r->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (r->epfd < 0)
		return -errno;
	r->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wakefd < 0)
		return -errno;
	r->wake.fn = on_wake;
	return real_watch(r, r->wakefd, EPOLLIN | EPOLLET, &r->wake);
}

static void free_all(struct real *r)
{
	struct fiber_stacks *stacks = r->env.stacks;

	pool_fini(&r->pool);
	drive_fini(r);
	if (r->wakefd >= 0)
		close(r->wakefd);
	if (r->epfd >= 0)
		close(r->epfd);
	mem_free(r);
	fiber_stacks_free(stacks);
}

static struct metric *turn_metric(struct metrics *m, const char *name)
{
	struct buf labels = BUF_INIT;
	struct metric *x = NULL;

	buf_printf(&labels, "loop=\"");
	metrics_escape(&labels, name);
	buf_append(&labels, "\"", 2);
	if (!labels.failed)
		x = metrics_histogram(m, "hci_loop_turn_seconds",
				      "Time one turn of an event loop was busy",
				      (const char *)labels.data);
	buf_free(&labels);
	return x;
}

struct env *env_real_new(const struct env_real_opts *o, struct hci_error *err)
{
	struct fiber_stacks *stacks = fiber_stacks_new();
	struct real *r = stacks ? MEM_NEW(struct real) : NULL;
	int e;

	if (!r) {
		fiber_stacks_free(stacks);
		err_set(err, HCI_E_NOMEM, "event loop: out of memory");
		return NULL;
	}
	env_init(&r->env, &real_ops, &o->log, o->metrics, stacks);
	atomic_store(&r->thread, pthread_self());
	r->env.now = real_clock();
	r->epfd = r->wakefd = r->aio.fd = -1;
	r->spin.max = o->spin_ns;
	snprintf(r->name, sizeof(r->name), "%s", o->name ? o->name : "hci");
	list_init(&r->aio.queue);
	net_init(r);
	if (o->metrics)
		r->turns = turn_metric(o->metrics, r->name);
	e = pool_init(&r->pool, o->workers ? o->workers : 4);
	if (!e)
		e = drive_init(r);
	if (!e)
		e = open_fds(r);
	if (!e)
		return &r->env;
	err_sys(err, e == -ENOMEM ? HCI_E_NOMEM : HCI_E_SYS, -e,
		"event loop %s: cannot get its descriptors (raise RLIMIT_NOFILE if they ran out)",
		r->name);
	free_all(r);
	return NULL;
}

/*
 * What was accepted gets its callback: work and disk I/O in flight is waited for, and so is what
 * these callbacks ask for (I/O is refused with -ECANCELED by now). Fibers that still sleep are
 * dropped.
 */
static void drain(struct real *r)
{
	unsigned turns = 0;

	r->draining = true;
	while (turns++ < DRAIN_TURNS) {
		bool busy = real_turn(r);

		if (!busy && !r->aio.inflight && !r->work_inflight && !atomic_load(&r->posted))
			break;
		if (!busy && (r->aio.inflight || r->work_inflight))
			turns = 0; /* sleeps, and must */
		real_sleep(r, busy, UINT64_MAX);
	}
}

void env_free(struct env *e)
{
	struct real *r;

	if (!e)
		return;
	r = real_of(e);
	atomic_store(&r->thread, pthread_self());
	drain(r);
	pool_stop(r);
	real_collect(e);
	env_run_deferred(e);
	aio_fini(r);
	net_fini(r);
	env_fini(e);
	free_all(r);
}
