/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers of an env: an intrusive pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986), so that
 * arming takes no memory. Ordered by deadline, then by when they were armed. The clock is not here.
 *
 * prev is the left sibling, or the parent for a leftmost child, or NULL at the root.
 */
#include "env/env_impl.h"

static bool before(const struct env_timer *a, const struct env_timer *b)
{
	return a->deadline != b->deadline ? a->deadline < b->deadline : a->seq < b->seq;
}

static struct env_timer *meld(struct env_timer *a, struct env_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (before(b, a)) {
		struct env_timer *t = a;

		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* Melds a list of siblings: in pairs from the left, then all from the right. */
static struct env_timer *meld_children(struct env_timer *first)
{
	struct env_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct env_timer *a = first, *b = a->next, *m;

		first = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		m = meld(a, b);
		m->next = pairs;
		pairs = m;
	}
	while (pairs) {
		struct env_timer *m = pairs;

		pairs = m->next;
		m->next = NULL;
		root = meld(root, m);
	}
	if (root)
		root->prev = root->next = NULL;
	return root;
}

static void take_out(struct env *e, struct env_timer *t)
{
	struct env_timer *rest = meld_children(t->child);

	if (t == e->timers) {
		e->timers = rest;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		e->timers = meld(e->timers, rest);
	}
	t->child = t->next = t->prev = NULL;
	t->armed = false;
}

static void head_changed(struct env *e, const struct env_timer *was, uint64_t deadline)
{
	if (e->ops->timer && (e->timers != was || (was && was->deadline != deadline)))
		e->ops->timer(e);
}

void env_timer_init(struct env_timer *t, void (*fn)(struct env_timer *))
{
	memset(t, 0, sizeof(*t));
	t->fn = fn;
}

void env_timer_arm(struct env *e, struct env_timer *t, uint64_t deadline_ns)
{
	struct env_timer *was = e->timers;
	uint64_t was_deadline = was ? was->deadline : 0;

	if (t->armed)
		take_out(e, t);
	t->deadline = deadline_ns;
	t->seq = e->timer_seq++;
	t->armed = true;
	e->timers = meld(e->timers, t);
	head_changed(e, was, was_deadline);
}

void env_timer_disarm(struct env *e, struct env_timer *t)
{
	struct env_timer *was = e->timers;

	if (!t->armed)
		return;
	take_out(e, t);
	head_changed(e, was, was->deadline);
}

uint64_t env_next_timer(const struct env *e)
{
	return e->timers ? e->timers->deadline : UINT64_MAX;
}

void env_run_timers(struct env *e)
{
	/* One armed meanwhile for a time that is past waits for the next turn: no endless loop. */
	uint64_t limit = e->timer_seq;

	while (e->timers && e->timers->deadline <= e->now && e->timers->seq < limit) {
		struct env_timer *t = e->timers;

		take_out(e, t);
		t->fn(t);
	}
}
