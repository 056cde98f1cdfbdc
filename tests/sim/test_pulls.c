/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A region that a replica missed is fetched from the other one while the writer writes to it: at each moment of that copy in turn,
 * from before the target asks until after it has answered. Both end up with what was written last.
 */
#include <string.h>

#include "env/fiber.h"
#include "sim/heal.h"
#include "unit/harness.h"

#define STEP (125 * NS_PER_US)
#define MOMENTS 80u

static struct heal h;
static struct meeting {
	uint64_t delay, begun, pulled, written; /* moments; the write's begin */
	unsigned pulls;
	struct cl_node *target;
} m;

static void on_mark(void *arg, struct sim_node *n, const struct env_mark *mark, unsigned state)
{
	(void)arg, (void)n;
	if (!m.begun && !strcmp(mark->name, "resync of a position begins:returned,new"))
		m.begun = sim_now(h.c->sim);
	if (m.begun && !strcmp(mark->name, "run is pulled:yes,not now,damaged,no") && state == 0 && !m.pulls++)
		m.pulled = sim_now(h.c->sim);
}

static void fill_with(uint64_t off, uint64_t len, int c)
{
	uint8_t *buf = mem_alloc_aligned(len);

	memset(buf, c, len);
	ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, off, len), 0);
	mem_free_aligned(buf);
}

static void before_body(struct life *l, void *arg)
{
	(void)l, (void)arg;
	fill_with(0, 4 * REPL_REGION, 1);
}

static void missed_body(struct life *l, void *arg)
{
	(void)l, (void)arg;
	fill_with(0, 4 * REPL_REGION, 2);
}

/* The node boots, its replica is opened and lacks four regions; into the middle of their copy comes a write. */
static void meet_body(struct life *l, void *arg)
{
	uint8_t *p = mem_alloc_aligned(4 * REPL_REGION);

	(void)arg;
	while (!m.begun)
		fiber_sleep(l->env, STEP / 5);
	fiber_sleep(l->env, m.delay + 1);
	m.written = sim_now(h.c->sim);
	fill_with(REPL_REGION, REPL_REGION, 3);
	heal_whole(l, &h);
	ck_assert_int_eq(vol_rw(h.v, VOL_READ, p, 0, 4 * REPL_REGION), 0);
	for (unsigned k = 0; k < 4; k++)
		ck_assert_uint_eq(p[k * REPL_REGION], k == 1 ? 3 : 2);
	mem_free_aligned(p);
}

/* Is what both have the same? */
static bool meet(uint64_t delay, uint32_t mutate)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = MiB, .segment_size = MiB, .replicas = 2, .rebuild_delay_ns = 600 * NS_PER_S };
	bool same;

	o.mutate = mutate;
	heal_up(&h, &o, &v);
	m = (struct meeting){ .delay = delay };
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], before_body, NULL);
	m.target = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], 1)->disk)->node;
	cluster_kill(m.target, true);
	heal_call(&h, &h.c->client[0], missed_body, NULL);
	sim_on_mark(h.c->sim, on_mark, NULL);
	cluster_boot(m.target);
	heal_call(&h, &h.c->client[0], meet_body, NULL);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	ck_assert_msg(m.pulls, "nothing was pulled");
	ck_assert(cluster_call(&h.c->client[0], heal_compare, &h, 600 * NS_PER_S));
	same = !h.c->failed;
	ck_assert_msg(same || mutate, "written %llu us after the copy began: %s", (unsigned long long)(delay / NS_PER_US), h.c->why);
	heal_down(&h);
	return same;
}

START_TEST(a_write_into_the_middle_of_a_pull_is_not_lost)
{
	unsigned during = 0, after = 0;

	for (unsigned k = 0; k < MOMENTS; k++) {
		meet(k * STEP, 0);
		during += m.written < m.pulled;
		after += m.written >= m.pulled;
	}
	/* So the moments are neither all too early nor all too late. */
	ck_assert_uint_ge(during, MOMENTS / 8);
	ck_assert_uint_ge(after, 1);
}
END_TEST

START_TEST(without_the_lock_it_would_be)
{
	unsigned lost = 0;

	for (unsigned k = 0; k < MOMENTS; k++)
		lost += !meet(k * STEP, VOL_MUTATE_NO_LOCK);
	ck_assert_uint_ge(lost, 1);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_pulls");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 240);
	tcase_add_test(t, a_write_into_the_middle_of_a_pull_is_not_lost);
	tcase_add_test(t, without_the_lock_it_would_be);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
