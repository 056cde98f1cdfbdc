/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world itself: its event queue, virtual time, random stream and digest. Knows nothing
 * of nodes' insides, disks or the network; those put events in the queue.
 */
#include "env/sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- memory ---- */

static void *must(void *p)
{
	if (!p) {
		fputs("simulator: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *sim_calloc(size_t n, size_t size)
{
	return must(calloc(n ? n : 1, size));
}

void *sim_realloc(void *p, size_t size)
{
	return must(realloc(p, size));
}

char *sim_strdup(const char *s)
{
	return must(strdup(s));
}

/* ---- randomness: xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64 ---- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t sim_rand(struct sim *s)
{
	uint64_t *r = s->rng;
	uint64_t result = rotl(r[1] * 5, 7) * 9;
	uint64_t t = r[1] << 17;

	r[2] ^= r[0];
	r[3] ^= r[1];
	r[1] ^= r[2];
	r[0] ^= r[3];
	r[2] ^= t;
	r[3] = rotl(r[3], 45);
	return result;
}

/* The high half of a product instead of a division; the bias is below n / 2^64. */
uint64_t sim_rand_below(struct sim *s, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)sim_rand(s) * n) >> 64);
}

uint64_t sim_range(struct sim *s, uint64_t min, uint64_t max)
{
	return max <= min ? min : min + sim_rand_below(s, max - min + 1);
}

bool sim_chance(struct sim *s, uint32_t per_mille)
{
	return sim_rand_below(s, 1000) < per_mille;
}

void sim_fold(struct sim *s, uint64_t v)
{
	s->digest = mix(s->digest ^ v) + UINT64_C(0x9e3779b97f4a7c15);
}

/* ---- event queue: a 4-ary heap by (time, random tie), keys inline for the cache ---- */

static bool before(const struct sim_slot *a, const struct sim_slot *b)
{
	return a->time < b->time || (a->time == b->time && a->tie < b->tie);
}

static void place(struct sim *s, uint32_t pos, struct sim_slot v)
{
	s->heap[pos] = v;
	v.ev->pos = pos;
}

static void sift_up(struct sim *s, uint32_t pos, struct sim_slot v)
{
	while (pos > 0) {
		uint32_t parent = (pos - 1) / 4;

		if (!before(&v, &s->heap[parent]))
			break;
		place(s, pos, s->heap[parent]);
		pos = parent;
	}
	place(s, pos, v);
}

static void sift_down(struct sim *s, uint32_t pos, struct sim_slot v)
{
	for (;;) {
		uint32_t child = pos * 4 + 1, best = child, end;

		if (child >= s->nheap)
			break;
		end = MIN(child + 4, s->nheap);
		for (uint32_t i = child + 1; i < end; i++) {
			if (before(&s->heap[i], &s->heap[best]))
				best = i;
		}
		if (!before(&s->heap[best], &v))
			break;
		place(s, pos, s->heap[best]);
		pos = best;
	}
	place(s, pos, v);
}

static void reposition(struct sim *s, uint32_t pos, struct sim_slot v)
{
	if (pos > 0 && before(&v, &s->heap[(pos - 1) / 4]))
		sift_up(s, pos, v);
	else
		sift_down(s, pos, v);
}

void sim_ev_init(struct sim_ev *ev, struct sim *s, struct sim_node *n, enum sim_kind kind, void (*fn)(struct sim_ev *))
{
	ev->time = 0;
	ev->fn = fn;
	ev->sim = s;
	ev->node = n;
	ev->pos = SIM_NOT_QUEUED;
	ev->kind = kind;
}

void sim_ev_at(struct sim_ev *ev, uint64_t time)
{
	struct sim *s = ev->sim;
	struct sim_slot v = { MAX(time, s->now), sim_rand(s), ev };

	ev->time = v.time;
	if (sim_ev_queued(ev)) {
		reposition(s, ev->pos, v);
		return;
	}
	if (s->nheap == s->heap_cap) {
		s->heap_cap = MAX(s->heap_cap * 2, 256u);
		s->heap = sim_realloc(s->heap, s->heap_cap * sizeof(*s->heap));
	}
	sift_up(s, s->nheap++, v);
}

void sim_ev_cancel(struct sim_ev *ev)
{
	struct sim *s = ev->sim;
	uint32_t pos = ev->pos;
	struct sim_slot last;

	if (pos == SIM_NOT_QUEUED)
		return;
	ev->pos = SIM_NOT_QUEUED;
	last = s->heap[--s->nheap];
	if (last.ev != ev)
		reposition(s, pos, last);
}

/* What a stopped node would do now comes soon after it goes on, in the same order. */
static bool postpone(struct sim_ev *ev, struct sim_node *n)
{
	if (ev->time >= n->paused_until) {
		n->paused_until = 0;
		return false;
	}
	sim_ev_at(ev, n->paused_until + (ev->time - MIN(ev->time, n->paused_at)) / 1024);
	return true;
}

static void run_first(struct sim *s)
{
	struct sim_ev *ev = s->heap[0].ev;
	struct sim_node *n = ev->node;
	bool step;

	if (n && n->paused_until && postpone(ev, n))
		return;
	s->now = ev->time;
	sim_ev_cancel(ev);
	s->events++;
	sim_fold(s, ev->time);
	sim_fold(s, ev->kind | (uint64_t)(n ? n->index + 1 : 0) << 32);
	step = ev->kind == SIM_EV_CONNECT || ev->kind == SIM_EV_DELIVER || ev->kind == SIM_EV_OPEN || ev->kind == SIM_EV_CLOSED ||
	       ev->kind == SIM_EV_STORE;
	ev->fn(ev);
	if (step && s->on_step)
		s->on_step(s->step_arg);
}

/* ---- public ---- */

void sim_on_step(struct sim *s, void (*fn)(void *arg), void *arg)
{
	s->on_step = fn;
	s->step_arg = arg;
}

struct sim *sim_new(const struct sim_opts *o)
{
	struct sim *s = sim_calloc(1, sizeof(*s));
	uint64_t x = o->seed;

	s->o = *o;
	for (int i = 0; i < 4; i++) {
		x += UINT64_C(0x9e3779b97f4a7c15);
		s->rng[i] = mix(x);
	}
	list_init(&s->ats);
	s->pages = sim_pages_new();
	s->net = sim_net_new(s);
	s->stacks = fiber_stacks_new();
	must(s->stacks);
	sim_fold(s, o->seed);
	return s;
}

uint64_t sim_now(struct sim *s)
{
	return s->now;
}

uint64_t sim_digest(struct sim *s)
{
	return s->digest;
}

uint64_t sim_events(struct sim *s)
{
	return s->events;
}

bool sim_run_until(struct sim *s, bool (*stop)(void *arg), void *arg, uint64_t max_ns)
{
	uint64_t end = s->now + max_ns;

	while (s->nheap > 0 && s->heap[0].time <= end) {
		run_first(s);
		if (stop && stop(arg))
			return true;
	}
	s->now = end;
	return false;
}

void sim_run(struct sim *s, uint64_t ns)
{
	sim_run_until(s, NULL, NULL, ns);
}

void sim_fail_nth(struct sim *s, enum sim_fail_kind k, uint64_t n)
{
	s->fail[k].at = n;
	s->fail[k].made = 0;
}

uint64_t sim_fail_count(const struct sim *s, enum sim_fail_kind k)
{
	return s->fail[k].made;
}

struct sim_at {
	struct sim_ev ev;
	struct list link;
	void (*fn)(void *arg);
	void *arg;
};

static void at_fire(struct sim_ev *ev)
{
	struct sim_at *at = container_of(ev, struct sim_at, ev);

	list_del(&at->link);
	at->fn(at->arg);
	free(at);
}

void sim_at(struct sim *s, uint64_t when, void (*fn)(void *arg), void *arg)
{
	struct sim_at *at = sim_calloc(1, sizeof(*at));

	at->fn = fn;
	at->arg = arg;
	sim_ev_init(&at->ev, s, NULL, SIM_EV_AT, at_fire);
	list_push(&s->ats, &at->link);
	sim_ev_at(&at->ev, when);
}

void sim_free(struct sim *s)
{
	struct sim_at *at, *tmp;

	if (!s)
		return;
	/* All of them end before the first is freed: the end of a connection looks at both its nodes. */
	for (unsigned i = 0; i < s->nnodes; i++)
		sim_node_crash(s->nodes[i]);
	for (unsigned i = 0; i < s->nnodes; i++)
		sim_node_free(s->nodes[i]);
	list_for_each_safe(at, tmp, &s->ats, link) {
		sim_ev_cancel(&at->ev);
		free(at);
	}
	sim_net_free(s->net);
	fiber_stacks_free(s->stacks);
	sim_pages_free(s->pages);
	free(s->heap);
	free(s);
}
