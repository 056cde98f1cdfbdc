/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulator's tests share: a world with one node, and running a function as a fiber there. */
#ifndef TESTS_UNIT_ENV_SIM_FIXTURE_H
#define TESTS_UNIT_ENV_SIM_FIXTURE_H

#include "env/fiber.h"
#include "env/sim.h"
#include "unit/harness.h"

struct sim_run {
	void (*fn)(struct env *e);
	struct env *env;
	bool done;
};

static inline void sim_run_fiber_(void *arg)
{
	struct sim_run *r = arg;

	r->fn(r->env);
	r->done = true;
}

static inline void sim_run_spawn_(struct env *e, void *arg)
{
	struct sim_run *r = arg;

	r->env = e;
	ck_assert_int_eq(fiber_spawn(e, sim_run_fiber_, r, "test"), 0);
}

static inline bool sim_run_done_(void *arg)
{
	return ((struct sim_run *)arg)->done;
}

/* Boots the node if it is down, runs fn as a fiber on it until its end. */
static inline void sim_run_on(struct sim *s, struct sim_node *n, void (*fn)(struct env *e))
{
	struct sim_run r = { .fn = fn };

	sim_node_boot(n, sim_run_spawn_, &r);
	ck_assert_msg(sim_run_until(s, sim_run_done_, &r, 3600 * NS_PER_S), "the fiber did not end");
}

static inline struct sim *sim_of_seed(uint64_t seed)
{
	struct sim_opts o = SIM_OPTS_INIT;

	o.seed = seed;
	return sim_new(&o);
}

#endif
