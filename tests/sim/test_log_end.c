/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a replica's log rots, which looks like a torn write: what was acknowledged comes from the other replica. */
#include "env/mark.h"
#include "sim/heal.h"
#include "unit/harness.h"

#include <string.h>

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static void write_one(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	memset(buf, *(int *)arg, HCI_BLOCK);
	ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, 5 * HCI_BLOCK, HCI_BLOCK), 0);
	mem_free_aligned(buf);
}

static void expect_one(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	ck_assert_int_eq(vol_rw(h.v, VOL_READ, buf, 5 * HCI_BLOCK, HCI_BLOCK), 0);
	ck_assert_int_eq(buf[0], *(int *)arg);
	mem_free_aligned(buf);
}

/* All lose power, and one disk cannot tell the last thing that it acknowledged from a torn write: the other has it. */
START_TEST(what_a_rotten_log_lost_at_its_end_comes_from_the_other_replica)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = MiB, .segment_size = MiB, .replicas = 2 };
	int before = 1, now = 2;

	o.log_size = 4 * MiB;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], write_one, &before);
	heal_call(&h, &h.c->client[0], write_one, &now);
	cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], (unsigned)_i)->disk)->log_end_rots = true;
	for (unsigned i = 0; i < o.nodes; i++)
		cluster_kill(&h.c->node[i], true);
	cluster_kill(&h.c->client[0], false);
	for (unsigned i = 0; i < o.nodes; i++)
		cluster_boot(&h.c->node[i]);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	heal_call(&h, &h.c->client[1], expect_one, &now);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

/* The bug was planted: copies are not equal. */
static void expect_difference(void)
{
	ck_assert(cluster_call(&h.c->client[1], heal_compare, &h, 600 * NS_PER_S));
	ck_assert_msg(h.c->failed && strstr(h.c->why, "differ"), "nobody noticed");
}

/*
 * The writer went away in peace: the other replica knows that nothing is in flight, and this one has lost the last of it.
 * From i 4 on with that planted as a bug, which must be noticed.
 */
START_TEST(nor_does_it_help_that_the_other_knows_it_stable)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = MiB, .segment_size = MiB, .replicas = 2 };
	int before = 1, now = 2;
	struct cl_disk *d;

	o.log_size = 4 * MiB;
	o.mutate = _i < 4 ? 0 : VOL_MUTATE_SETTLE_HIGH;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], write_one, &before);
	heal_call(&h, &h.c->client[0], write_one, &now);
	d = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], (unsigned)_i % 2)->disk);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	d->log_end_rots = true;
	cluster_kill(d->node, true);
	cluster_boot(d->node);
	if (_i / 2 % 2) /* else it is still away when the volume is attached */
		sim_run(h.c->sim, NS_PER_S);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	heal_call(&h, &h.c->client[1], heal_whole, &h);
	if (_i < 4)
		heal_call(&h, &h.c->client[1], expect_one, &now);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	if (_i < 4)
		heal_call(&h, &h.c->client[1], heal_compare, &h);
	else
		expect_difference();
}
END_TEST

static void write_other(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	memset(buf, *(int *)arg, HCI_BLOCK);
	ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, 100 * HCI_BLOCK, HCI_BLOCK), 0);
	mem_free_aligned(buf);
}

/* It comes back to its living writer without the last that it had acknowledged: in half of the runs nothing was acknowledged meanwhile. */
START_TEST(a_disk_that_returns_without_the_end_of_its_log_gets_that_too)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = MiB, .segment_size = MiB, .replicas = 2, .rebuild_delay_ns = 600 * NS_PER_S };
	int before = 1, now = 2;
	struct cl_disk *d;

	o.log_size = 4 * MiB;
	o.seed = 1 + (unsigned)_i / 2;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], write_one, &before);
	heal_call(&h, &h.c->client[0], write_one, &now);
	d = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], 0)->disk);
	d->log_end_rots = true;
	cluster_kill(d->node, true);
	if (_i % 2)
		heal_call(&h, &h.c->client[0], write_other, &now);
	else
		sim_run(h.c->sim, 10 * NS_PER_S);
	cluster_boot(d->node);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	heal_call(&h, &h.c->client[0], expect_one, &now);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* ---- in the middle, and nothing tells what was there ---- */

static bool refused;

static void see_refused(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state)
{
	(void)arg;
	(void)n;
	refused |= !strncmp(m->name, "recovery finds damage", 21) && state == 1;
}

static void write_many(struct life *l, void *arg)
{
	for (int k = 0; k < 20; k++)
		write_one(l, arg);
}

/* Such a disk is not used: what it held is made again from the other replica, for the writer that lives and for the next one. */
START_TEST(a_log_of_which_nothing_tells_a_part_costs_the_disk)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = MiB, .segment_size = MiB, .replicas = 2, .rebuild_delay_ns = NS_PER_S };
	struct cl_node *next = NULL;
	int now = 7;
	struct cl_disk *d;

	o.log_size = 4 * MiB;
	o.seed = 1 + (unsigned)_i / 2;
	refused = false;
	heal_up(&h, &o, &v);
	sim_on_mark(h.c->sim, see_refused, NULL);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], write_many, &now);
	d = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], 0)->disk);
	d->log_breaks = true;
	cluster_kill(d->node, true);
	if (_i % 2) {
		cluster_kill(&h.c->client[0], false);
		next = &h.c->client[1];
	}
	cluster_boot(d->node);
	if (next)
		heal_call(&h, next, heal_attach, &h);
	else
		next = &h.c->client[0];
	sim_run(h.c->sim, 3 * NS_PER_S); /* until it is known what became of the disk */
	heal_call(&h, next, heal_whole, &h);
	ck_assert_msg(refused && d->dead, "the disk was opened");
	heal_call(&h, next, expect_one, &now);
	heal_call(&h, next, heal_detach, &h);
	heal_call(&h, next, heal_compare, &h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_log_end");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 240);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_loop_test(t, what_a_rotten_log_lost_at_its_end_comes_from_the_other_replica, 0, 2);
	tcase_add_loop_test(t, a_log_of_which_nothing_tells_a_part_costs_the_disk, 0, 10);
	tcase_add_loop_test(t, nor_does_it_help_that_the_other_knows_it_stable, 0, 8);
	tcase_add_loop_test(t, a_disk_that_returns_without_the_end_of_its_log_gets_that_too, 0, 8);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
