/* SPDX-License-Identifier: Apache-2.0 */
/* ARC (Megiddo, Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, figure 4), and LRU. */
#include <math.h>
#include <stdlib.h>

#include "base/list.h"
#include "trace.h"

enum { NOWHERE, T1, T2, B1, B2, LISTS };

struct ent {
	struct list link;
	uint8_t where;
};

struct arc {
	struct ent *e;
	struct list l[LISTS];
	uint32_t n[LISTS], cap, p;
};

static void move(struct arc *a, struct ent *e, uint8_t to)
{
	if (e->where != NOWHERE) {
		list_del(&e->link);
		a->n[e->where]--;
	}
	e->where = to;
	if (to != NOWHERE) {
		list_push_front(&a->l[to], &e->link);
		a->n[to]++;
	}
}

static void move_lru(struct arc *a, uint8_t from, uint8_t to)
{
	if (a->n[from])
		move(a, list_entry(a->l[from].prev, struct ent, link), to);
}

static void replace(struct arc *a, bool in_b2)
{
	if (a->n[T1] && (a->n[T1] > a->p || (in_b2 && a->n[T1] == a->p)))
		move_lru(a, T1, B1);
	else
		move_lru(a, T2, B2);
}

static bool arc_get(struct arc *a, struct ent *e)
{
	uint32_t l1 = a->n[T1] + a->n[B1], all = l1 + a->n[T2] + a->n[B2];

	switch (e->where) {
	case T1:
	case T2:
		move(a, e, T2);
		return true;
	case B1:
		a->p = MIN(a->cap, a->p + MAX(a->n[B2] / a->n[B1], 1u));
		replace(a, false);
		move(a, e, T2);
		return false;
	case B2:
		a->p -= MIN(a->p, MAX(a->n[B1] / a->n[B2], 1u));
		replace(a, true);
		move(a, e, T2);
		return false;
	default:
		break;
	}
	if (l1 == a->cap) {
		if (a->n[T1] < a->cap) {
			move_lru(a, B1, NOWHERE);
			replace(a, false);
		} else {
			move_lru(a, T1, NOWHERE);
		}
	} else if (all >= a->cap) {
		if (all == 2 * a->cap)
			move_lru(a, B2, NOWHERE);
		replace(a, false);
	}
	move(a, e, T1);
	return false;
}

static bool lru_get(struct arc *a, struct ent *e)
{
	bool hit = e->where == T1;

	if (!hit && a->n[T1] == a->cap)
		move_lru(a, T1, NOWHERE);
	move(a, e, T1);
	return hit;
}

static void run(const struct trace *t, uint32_t cap, bool (*get)(struct arc *a, struct ent *e), struct score *s)
{
	struct arc a = { .e = calloc(t->space, sizeof(*a.e)), .cap = cap };
	uint32_t hits = 0, misses = 0, from = t->n / 10;
	uint64_t t0;

	if (!a.e)
		abort();
	for (unsigned i = 0; i < LISTS; i++)
		list_init(&a.l[i]);
	for (uint32_t i = 0; i < t->space; i++)
		list_init(&a.e[i].link);
	t0 = bench_ns();
	for (uint32_t i = 0; i < t->n; i++) {
		bool hit = get(&a, &a.e[t->at[i]]);

		hits += hit && i >= from;
		misses += !hit;
	}
	s->ns = (double)(bench_ns() - t0) / t->n;
	s->hit_ratio = (double)hits / (t->n - from);
	s->ssd_writes = (double)misses / t->n; /* each miss enters */
	free(a.e);
}

void run_arc(const struct trace *t, uint32_t cap, struct score *s)
{
	run(t, cap, arc_get, s);
}

void run_lru(const struct trace *t, uint32_t cap, struct score *s)
{
	run(t, cap, lru_get, s);
}
