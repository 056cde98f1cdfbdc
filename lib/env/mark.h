/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marked points: places of a state machine where a fault is worth having. The simulator counts which were reached
 * (a state machine's coverage) and strikes there; the real world passes by.
 *
 *	ENV_MARK(e, "settle begins");
 *	ENV_MARK_STATE(e, "leg fails:out,syncing,synced,pending,in", s->pos[k], 5);
 *
 * Each use is an entry of its own, found by the linker: there is no list to keep. Names are unique, at most 59
 * characters; after a colon, the names of the states that are counted apart. Control paths only: it costs a call.
 */
#ifndef ENV_MARK_H
#define ENV_MARK_H

#include "base/base.h"

struct env;

/* No pointers, so that nothing is relocated; as large as its alignment, so that entries form an array. */
struct env_mark {
	char name[60];
	uint32_t states;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct env_mark) == 64, "an array in its section");

void env_mark_hit(struct env *e, const struct env_mark *m, unsigned state);

#define ENV_MARK_STATE(e, text, state, n)                                                                    \
	do {                                                                                                 \
		static const struct env_mark mark_ __attribute__((used, section("hci_marks"))) = { text, n }; \
		_Static_assert(sizeof(text) <= sizeof(mark_.name), "the mark's name is too long");            \
		env_mark_hit(e, &mark_, state);                                                              \
	} while (0)

#define ENV_MARK(e, text) ENV_MARK_STATE(e, text, 0, 1)

#endif
