/* SPDX-License-Identifier: Apache-2.0 */
/* A test that runs in a fiber of the only node, "a", of a simulated world with a store. */
#ifndef UNIT_CLUSTER_ALONE_H
#define UNIT_CLUSTER_ALONE_H

#include "env/env.h"
#include "store/store_sim.h"
#include "unit/harness.h"

struct alone {
	struct sim *sim;
	struct simstore *ss;
	struct env *e;
	uint64_t disk; /* bytes of the one at /d; 0: there is none */
	void (*test)(void *arg);
	void *arg;
	bool done;
};

static void alone_fiber(void *arg)
{
	struct alone *a = arg;

	a->test(a->arg);
	a->done = true;
}

static void alone_boot(struct env *e, void *arg)
{
	struct alone *a = arg;

	a->e = e;
	ck_assert_int_eq(fiber_spawn(e, alone_fiber, a, "test"), 0);
}

static bool alone_is_done(void *arg)
{
	const struct alone *a = arg;

	return a->done;
}

/* Returns when test(arg) has; sim, ss and e are there for as long. */
static void alone_run(struct alone *a, uint64_t seed, void (*test)(void *arg), void *arg)
{
	struct sim_opts o = SIM_OPTS_INIT;
	struct sim_node *n;

	o.seed = seed;
	a->test = test;
	a->arg = arg;
	a->done = false;
	a->sim = sim_new(&o);
	a->ss = simstore_new(a->sim);
	n = sim_node_new(a->sim, "a");
	if (a->disk)
		sim_disk_new(n, "/d", a->disk);
	sim_node_boot(n, alone_boot, a);
	ck_assert_msg(sim_run_until(a->sim, alone_is_done, a, 600 * NS_PER_S), "it did not end");
	simstore_free(a->ss);
	sim_free(a->sim);
}

#endif
