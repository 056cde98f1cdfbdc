/* SPDX-License-Identifier: Apache-2.0 */
/* See turns.h. */
#include "cluster/turns.h"

#define LOOK (200 * NS_PER_MS)

void turns_init(struct turns *t, struct env *e, uint32_t (*at_a_time)(void *arg), void *arg)
{
	memset(t, 0, sizeof(*t));
	t->e = e;
	t->at_a_time = at_a_time;
	t->arg = arg;
	list_init(&t->waiting);
	fiber_cond_init(&t->left);
}

bool turns_begin(struct turns *t, bool (*wants_out)(void *arg), void *arg)
{
	struct list turn;
	bool out = false;

	list_push(&t->waiting, &turn);
	/* Only the first of those that wait: who comes later does not slip in when the limit grows. */
	while (t->waiting.next != &turn || t->running >= t->at_a_time(t->arg)) {
		out = wants_out(arg);
		if (out)
			break;
		fiber_cond_wait_until(t->e, &t->left, env_now(t->e) + LOOK);
	}
	list_del(&turn);
	t->running += !out;
	fiber_cond_signal(t->e, &t->left);
	return !out;
}

void turns_end(struct turns *t)
{
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
