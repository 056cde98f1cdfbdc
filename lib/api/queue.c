/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues: the caller's thread fills requests into a ring, the loop takes them out, submits them, and puts
 * completions into a second ring. Both rings have one producer and one consumer and room for every
 * request of the queue, so nothing locks and nothing can overflow. Wakes are coalesced: the loop is
 * woken if it has not been since it last emptied the ring, the caller if it might be asleep, once for all that a turn of the
 * loop completes. A caller who comes back to hci_queue_reap() at once, time after time, runs the loop itself while it
 * waits, so that nobody is woken at all.
 */
#include "api/queue.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/spin.h"

#define DEPTH_MAX 65536u
#define AWAY_MAX (100 * NS_PER_US) /* who is away for longer from hci_queue_reap() leaves the loop to its thread */
#define STEADY 8u                  /* so often in a row it was not */
#define STACK_MIN (256u << 10)     /* the loop's own thread has more */
#define ASKED_COSTS 8u             /* running it ourselves pays if its thread has it no more often than each eighth time */
#define ASKED_MOST 64u
#define SKIP 512u

/* One producer, one consumer; size is a power of two above the depth. */
struct ring {
	_Atomic uint32_t head; /* consumer's */
	char pad1[60];
	_Atomic uint32_t tail; /* producer's */
	char pad2[60];
	uint32_t mask;
	uint32_t *slot;
};

enum signal {
	SIGNAL_NONE,
	SIGNAL_SENT,  /* the eventfd is readable, or about to be */
	SIGNAL_AWAKE, /* hci_queue_reap() looks at the ring itself */
};

/* When the user's thread runs the loop. */
struct driving {
	bool lazy; /* it left the loop to nobody, and will be back */
	bool roomy;
	pthread_t checked; /* whose stack is roomy or not */
	uint64_t left;     /* hci_queue_reap() */
	uint32_t steady, asked, skip;
};

struct hci_queue {
	hci_cluster *c;
	uint32_t depth, nfree;
	uint32_t *free; /* stack of request numbers; the user's thread */
	struct api_req *reqs;
	struct ring submit, complete;
	struct env_task task;
	struct env_task tell;      /* of the loop: signals once for all that a turn completes */
	_Atomic uint32_t posted;   /* the loop will look at the submit ring */
	_Atomic uint32_t signaled; /* enum signal */
	struct spin spin;          /* of the user's thread in hci_queue_reap() */
	struct driving driving;
	int fd;
};

static int ring_init(struct ring *r, uint32_t depth)
{
	uint32_t size = 1;

	while (size < depth)
		size *= 2;
	r->mask = size - 1;
	r->slot = mem_calloc(size, sizeof(*r->slot));
	return r->slot ? 0 : HCI_E_NOMEM;
}

static void ring_push(struct ring *r, uint32_t v)
{
	uint32_t t = atomic_load_explicit(&r->tail, memory_order_relaxed);

	r->slot[t & r->mask] = v;
	atomic_store_explicit(&r->tail, t + 1, memory_order_release);
}

static bool ring_pop(struct ring *r, uint32_t *v)
{
	uint32_t h = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (h == atomic_load_explicit(&r->tail, memory_order_acquire))
		return false;
	*v = r->slot[h & r->mask];
	atomic_store_explicit(&r->head, h + 1, memory_order_release);
	return true;
}

static bool ring_empty(struct ring *r)
{
	return atomic_load(&r->head) == atomic_load(&r->tail);
}

/* ---- on the loop ---- */

static void signal_reaper(hci_queue *q)
{
	uint64_t one = 1;
	uint32_t none = SIGNAL_NONE;

	if (atomic_compare_exchange_strong(&q->signaled, &none, SIGNAL_SENT))
		while (write(q->fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
}

static void req_done(struct vol_io *io)
{
	struct api_req *r = container_of(io, struct api_req, io);
	hci_queue *q = r->q;

	r->status = io->status;
	/* The volume may be detached, the queue not yet freed: it waits for this push. */
	atomic_fetch_sub(r->open, 1);
	ring_push(&q->complete, (uint32_t)(r - q->reqs));
	/* When the turn has completed all that it can: woken earlier the caller would find little, and sleep again. */
	env_defer(q->c->env, &q->tell);
}

static void tell(struct env_task *t)
{
	signal_reaper(container_of(t, struct hci_queue, tell));
}

static void take_submitted(struct env_task *t)
{
	hci_queue *q = container_of(t, struct hci_queue, task);
	uint32_t i;

	/* Cleared first: what is pushed from here on posts again. */
	atomic_exchange(&q->posted, 0);
	while (ring_pop(&q->submit, &i))
		vol_submit(&q->reqs[i].io);
}

/* ---- the user's thread ---- */

struct api_req *api_req_get(hci_queue *q)
{
	return q->nfree ? &q->reqs[q->free[--q->nfree]] : NULL;
}

void api_req_submit(struct api_req *r)
{
	hci_queue *q = r->q;

	atomic_fetch_add(r->open, 1);
	r->io.done = req_done;
	ring_push(&q->submit, (uint32_t)(r - q->reqs));
	if (atomic_exchange(&q->posted, 1))
		return;
	if (q->driving.lazy)
		env_post_quiet(q->c->env, &q->task);
	else
		env_post(q->c->env, &q->task);
}

hci_cluster *api_queue_cluster(const hci_queue *q)
{
	return q->c;
}

int hci_queue_create(hci_queue **out, hci_cluster *cluster, uint32_t depth, struct hci_error *err)
{
	hci_queue *q;

	if (!out || !cluster)
		return api_null(out ? "cluster" : "out", err);
	*out = NULL;
	if (!depth || depth > DEPTH_MAX)
		return err_set(err, HCI_E_INVAL, "queue: depth %u is not in 1..%u", depth, DEPTH_MAX);
	q = MEM_NEW(hci_queue);
	if (!q)
		return err_set(err, HCI_E_NOMEM, "queue: out of memory");
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->c = hci_cluster_ref(cluster);
	env_task_init(&q->task, take_submitted);
	env_task_init(&q->tell, tell);
	q->spin.max = cluster->busy_poll_ns;
	q->depth = depth;
	q->reqs = mem_calloc(depth, sizeof(*q->reqs));
	q->free = mem_calloc(depth, sizeof(*q->free));
	if (q->fd < 0 || !q->reqs || !q->free || ring_init(&q->submit, depth) || ring_init(&q->complete, depth)) {
		int e = q->fd < 0 ? errno : 0;

		hci_queue_unref(q);
		return e ? err_sys(err, HCI_E_SYS, e, "queue: no eventfd")
			 : err_set(err, HCI_E_NOMEM, "queue: out of memory for depth %u", depth);
	}
	for (uint32_t i = 0; i < depth; i++) {
		q->reqs[i].q = q;
		q->free[q->nfree++] = depth - 1 - i;
	}
	*out = q;
	return 0;
}

static int forget(hci_cluster *c, void *arg, struct hci_error *err)
{
	(void)err;
	env_undefer(c->env, &((hci_queue *)arg)->tell);
	return 0;
}

void hci_queue_unref(hci_queue *q)
{
	struct hci_completion drop[32];

	if (!q)
		return;
	while (q->reqs && q->free && q->submit.slot && q->complete.slot && q->nfree < q->depth)
		(void)hci_queue_reap(q, drop, 32, -1);
	/* The loop may still be between the last push and the signal. */
	(void)api_call(q->c, forget, q, NULL);
	if (q->fd >= 0)
		close(q->fd);
	mem_free(q->submit.slot);
	mem_free(q->complete.slot);
	mem_free(q->reqs);
	mem_free(q->free);
	hci_cluster_unref(q->c);
	mem_free(q);
}

int hci_queue_fd(const hci_queue *q)
{
	return q->fd;
}

static uint32_t reap_some(hci_queue *q, struct hci_completion *out, uint32_t max)
{
	uint32_t n = 0, i;
	uint64_t v;

	while (n < max && ring_pop(&q->complete, &i)) {
		out[n].tag = q->reqs[i].tag;
		out[n].status = q->reqs[i].status;
		out[n++].reserved = 0;
		q->free[q->nfree++] = i;
	}
	/* Nothing there although it was woken: the write came after its completion had been taken already. */
	if (ring_empty(&q->complete) && atomic_load(&q->signaled) != SIGNAL_AWAKE &&
	    (!n || atomic_load(&q->signaled))) {
		while (read(q->fd, &v, sizeof(v)) < 0 && errno == EINTR)
			;
		atomic_store(&q->signaled, SIGNAL_NONE);
		/* One that came between the look and the clearing must not sleep. */
		if (!ring_empty(&q->complete))
			signal_reaper(q);
	}
	return n;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Looks for a completion for a moment, when that has paid lately; meanwhile nobody need wake us. */
static void look(hci_queue *q, uint64_t now, uint64_t until)
{
	uint32_t none = SIGNAL_NONE;

	if (!q->spin.ns || q->nfree == q->depth || !ring_empty(&q->complete) ||
	    !atomic_compare_exchange_strong(&q->signaled, &none, SIGNAL_AWAKE))
		return;
	while (ring_empty(&q->complete) && now < until) {
		uint64_t then = now;

		sched_yield();
		now = now_ns();
		if (!spin_goes_on(&q->spin, then, now))
			return;
	}
}

/* From here on the eventfd says again what is there. */
static void look_away(hci_queue *q)
{
	uint32_t awake = SIGNAL_AWAKE;

	if (atomic_compare_exchange_strong(&q->signaled, &awake, SIGNAL_NONE) && !ring_empty(&q->complete))
		signal_reaper(q);
}

/* ---- running the loop instead of waiting for it ---- */

static bool has_some(void *arg)
{
	return !ring_empty(&((hci_queue *)arg)->complete);
}

static bool roomy_stack(struct driving *d)
{
	pthread_attr_t a;
	size_t size = 0;

	if (d->checked && pthread_equal(d->checked, pthread_self()))
		return d->roomy;
	d->checked = pthread_self();
	if (!pthread_getattr_np(d->checked, &a)) {
		pthread_attr_getstacksize(&a, &size);
		pthread_attr_destroy(&a);
	}
	d->roomy = size >= STACK_MIN;
	return d->roomy;
}

static void came_back(struct driving *d, uint64_t now)
{
	if (now - d->left > AWAY_MAX)
		d->steady = 0;
	else if (d->steady < STEADY)
		d->steady++;
}

/* False: nothing was done, sleep. */
static bool drive(hci_queue *q, uint64_t until)
{
	struct driving *d = &q->driving;
	bool lazy = d->lazy;
	uint32_t none = SIGNAL_NONE;
	enum env_drive how;

	d->lazy = false;
	if (d->skip) {
		d->skip--;
		return false;
	}
	/* Who left it to nobody must take it up again. */
	if (!lazy && (d->steady < STEADY || !roomy_stack(d)))
		return false;
	(void)atomic_compare_exchange_strong(&q->signaled, &none, SIGNAL_AWAKE);
	how = env_drive(q->c->env, until, has_some, q);
	if (how == ENV_DRIVE_ASKED)
		d->asked += ASKED_COSTS;
	else if (how == ENV_DRIVE_OK && d->asked)
		d->asked--;
	if (how == ENV_DRIVE_NO || d->asked > ASKED_MOST) {
		d->skip = SKIP;
		d->asked = 0;
	}
	d->lazy = how != ENV_DRIVE_NO && !d->skip && d->steady == STEADY;
	return how != ENV_DRIVE_NO;
}

static int went(hci_queue *q, uint32_t n)
{
	q->driving.left = now_ns();
	return (int)n;
}

int hci_queue_reap(hci_queue *q, struct hci_completion *out, uint32_t max, int32_t timeout_ms)
{
	uint64_t now = timeout_ms ? now_ns() : 0;
	uint64_t end = timeout_ms > 0 ? now + (uint64_t)timeout_ms * NS_PER_MS : UINT64_MAX;
	uint32_t n;

	if (timeout_ms)
		came_back(&q->driving, now);
	for (;;) {
		struct pollfd p = { .fd = q->fd, .events = POLLIN };
		uint64_t slept;

		if (timeout_ms && !q->driving.lazy)
			look(q, now, MIN(end, now + q->spin.ns));
		n = reap_some(q, out, max);
		look_away(q);
		/* With nothing open it would be for ever. */
		if (n || !timeout_ms || (timeout_ms < 0 && q->nfree == q->depth))
			return timeout_ms ? went(q, n) : (int)n;
		now = now_ns();
		if (now >= end)
			return went(q, 0);
		if (drive(q, end))
			continue;
		look_away(q); /* it may have set out to look itself */
		(void)poll(&p, 1, timeout_ms < 0 ? -1 : (int)((end - now + NS_PER_MS - 1) / NS_PER_MS));
		slept = now;
		now = now_ns();
		spin_slept(&q->spin, now, now - slept);
	}
}
