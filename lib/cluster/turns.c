/* SPDX-License-Identifier: Apache-2.0 */
/* See turns.h. */
#include "cluster/turns.h"

#define LOOK (200 * NS_PER_MS)
#define AGAIN (500 * NS_PER_MS) /* after it was refused */

void turns_init(struct turns *t, struct env *e, uint32_t (*at_a_time)(void *arg), void *arg)
{
	memset(t, 0, sizeof(*t));
	t->e = e;
	t->at_a_time = at_a_time;
	t->arg = arg;
	list_init(&t->order);
	fiber_cond_init(&t->left);
}

/* It is refused where it goes, or would be: one that came before it is, at present. */
static bool no_room(const struct turns *t, const struct turn *x, uint64_t now)
{
	const struct turn *o;

	if (x->refused && now < x->again_at)
		return true;
	list_for_each(o, &t->order, link) {
		if (o == x)
			break;
		if (o->refused && !strcmp(o->to, x->to))
			return true;
	}
	return false;
}

/* Only the first of those that may: who comes later does not slip in when the limit grows. */
static bool is_next(const struct turns *t, const struct turn *x, uint64_t now)
{
	const struct turn *o;

	if (t->running >= t->at_a_time(t->arg) || no_room(t, x, now))
		return false;
	list_for_each(o, &t->order, link) {
		if (o == x)
			break;
		if (!o->runs && !no_room(t, o, now))
			return false;
	}
	return true;
}

static bool wait(struct turns *t, struct turn *x, bool (*wants_out)(void *arg, bool there), void *arg)
{
	uint64_t now;

	while (now = env_now(t->e), !is_next(t, x, now)) {
		if (wants_out(arg, x->refused || no_room(t, x, now))) {
			list_del(&x->link);
			fiber_cond_signal(t->e, &t->left);
			return false;
		}
		now = env_now(t->e);
		fiber_cond_wait_until(t->e, &t->left, x->refused && now < x->again_at ? MIN(x->again_at, now + LOOK) : now + LOOK);
	}
	x->runs = true;
	t->running++;
	fiber_cond_signal(t->e, &t->left);
	return true;
}

bool turns_begin(struct turns *t, struct turn *x, bool (*wants_out)(void *arg, bool there), void *arg)
{
	x->runs = x->refused = false;
	list_push(&t->order, &x->link);
	return wait(t, x, wants_out, arg);
}

bool turns_refused(struct turns *t, struct turn *x, bool (*wants_out)(void *arg, bool there), void *arg)
{
	x->runs = false;
	x->refused = true;
	x->again_at = env_now(t->e) + AGAIN;
	t->running--;
	fiber_cond_signal(t->e, &t->left);
	return wait(t, x, wants_out, arg);
}

void turns_taken(struct turns *t, struct turn *x)
{
	x->refused = false;
	fiber_cond_signal(t->e, &t->left);
}

void turns_end(struct turns *t, struct turn *x)
{
	list_del(&x->link);
	t->running--;
	fiber_cond_signal(t->e, &t->left);
}

void turns_rest(struct turns *t, bool rests)
{
	t->resting += rests ? 1u : -1u;
}

uint64_t turns_share(const struct turns *t, uint64_t total)
{
	return total ? MAX(total / (t->running > t->resting ? t->running - t->resting : 1), 1) : 0;
}
