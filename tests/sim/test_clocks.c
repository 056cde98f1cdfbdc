/* SPDX-License-Identifier: Apache-2.0 */
/* A wall clock that is set under a writer does not make it rebuild early, nor never. */
#include "sim/heal.h"
#include "unit/harness.h"

#define DELAY (60 * NS_PER_S)

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static void attach_fill(void)
{
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
}

static void up(void)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 4 * MiB, .replicas = 2, .rebuild_delay_ns = DELAY };

	o.nodes = 4;
	heal_up(&h, &o, &v);
	attach_fill();
}

static void step(struct cl_node *n, int64_t seconds)
{
	sim_node_clock(n->sim, 0, seconds * (int64_t)NS_PER_S);
}

static void is_whole_in(uint64_t ns)
{
	struct vol_status st;

	sim_run(h.c->sim, ns);
	vol_status(h.v, &st);
	ck_assert_uint_eq(st.segments_degraded, 0);
}

static void is_not_rebuilt_in(uint64_t ns)
{
	struct vol_status st;

	sim_run(h.c->sim, ns);
	vol_status(h.v, &st);
	ck_assert_uint_gt(st.segments_degraded, 0);
	ck_assert_uint_eq(st.resync_copied, 0);
}

static void over(unsigned client)
{
	heal_call(&h, &h.c->client[client], heal_check, &h);
	heal_call(&h, &h.c->client[client], heal_detach, &h);
	heal_call(&h, &h.c->client[client], heal_compare, &h);
}

/* Ten minutes forward, and back, while a disk is away. */
START_TEST(a_step_while_a_disk_is_away)
{
	up();
	cluster_kill(&h.c->node[0], false);
	sim_run(h.c->sim, 5 * NS_PER_S);
	step(&h.c->client[0], _i ? -600 : 600);
	is_not_rebuilt_in(50 * NS_PER_S);
	is_whole_in(30 * NS_PER_S);
	over(0);
}
END_TEST

/* The next writer knows from the record only since when; it gives the disk some time by its own clock. */
START_TEST(a_step_between_two_writers)
{
	up();
	cluster_kill(&h.c->node[0], false);
	sim_run(h.c->sim, 5 * NS_PER_S);
	cluster_kill(&h.c->client[0], false);
	step(&h.c->client[1], _i ? -600 : 600);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	is_not_rebuilt_in(_i ? 55 * NS_PER_S : 8 * NS_PER_S);
	is_whole_in(25 * NS_PER_S);
	over(1);
}
END_TEST

/* Without any step: what the disk was away before counts. */
START_TEST(the_next_writer_does_not_begin_anew)
{
	up();
	cluster_kill(&h.c->node[0], false);
	sim_run(h.c->sim, 35 * NS_PER_S);
	cluster_kill(&h.c->client[0], false);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	is_not_rebuilt_in(10 * NS_PER_S);
	is_whole_in(25 * NS_PER_S);
	over(1);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_clocks");
	TCase *t = tcase_create("clocks");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_loop_test(t, a_step_while_a_disk_is_away, 0, 2);
	tcase_add_loop_test(t, a_step_between_two_writers, 0, 2);
	tcase_add_test(t, the_next_writer_does_not_begin_anew);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
