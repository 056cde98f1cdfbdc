/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a replica says of itself bounds what is copied to it: it is told in time what is stable, and keeps that. Who is
 * away for a moment, or gets a new writer, gets little more than what it missed.
 */
#include <string.h>

#include "sim/heal.h"
#include "unit/harness.h"

static struct heal h;

static void end(void)
{
	if (h.c)
		heal_down(&h);
}

/* All of it in flight at once. */
static void fill_at_once(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(h.create.size);

	(void)l;
	(void)arg;
	memset(buf, 0x55, h.create.size);
	ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, 0, h.create.size), 0);
	mem_free_aligned(buf);
}

static void touch(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	memset(buf, 0x66, HCI_BLOCK);
	ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, *(uint64_t *)arg, HCI_BLOCK), 0);
	mem_free_aligned(buf);
}

/*
 * What a replica holds it knows itself, and is told in time: all was in flight at once, but nobody wrote for a second before its
 * node went. In half of the runs power is lost.
 */
START_TEST(a_node_that_left_in_a_quiet_moment_gets_one_region)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = 2, .rebuild_delay_ns = 600 * NS_PER_S };
	uint64_t at = 3 * MiB;
	struct cl_node *n;

	o.seed = 1 + (unsigned)_i / 2;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], fill_at_once, NULL);
	sim_run(h.c->sim, NS_PER_S);
	n = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], 0)->disk)->node;
	cluster_kill(n, _i % 2);
	heal_call(&h, &h.c->client[0], touch, &at);
	cluster_boot(n);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	ck_assert_uint_eq(h.v->st.resync_copied, REPL_REGION);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* Likewise after it has rejoined and nobody wrote since: the next writer has nothing to settle. */
START_TEST(what_a_node_got_anew_is_not_settled_again)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = 2, .rebuild_delay_ns = 600 * NS_PER_S };
	struct cl_node *n;

	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	n = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], 0)->disk)->node;
	cluster_kill(n, false);
	heal_call(&h, &h.c->client[0], fill_at_once, NULL);
	cluster_boot(n);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	ck_assert_uint_eq(h.v->st.resync_copied, h.create.size);
	sim_run(h.c->sim, NS_PER_S);
	cluster_kill(&h.c->client[0], false);
	if (_i) { /* they lose what they have in memory only */
		for (unsigned i = 0; i < o.nodes; i++)
			cluster_kill(&h.c->node[i], true);
		for (unsigned i = 0; i < o.nodes; i++)
			cluster_boot(&h.c->node[i]);
	}
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	ck_assert_uint_eq(h.v->st.resync_copied, 0);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

/* All lost power right after it was written, and are back: its writer, who is still there, tells them once more. */
START_TEST(nor_is_what_all_have_kept)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = 2, .rebuild_delay_ns = 600 * NS_PER_S };

	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], fill_at_once, NULL);
	for (unsigned i = 0; i < o.nodes; i++)
		cluster_kill(&h.c->node[i], true);
	for (unsigned i = 0; i < o.nodes; i++)
		cluster_boot(&h.c->node[i]);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	sim_run(h.c->sim, 5 * NS_PER_S);
	cluster_kill(&h.c->client[0], false);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	ck_assert_uint_eq(h.v->st.resync_copied, 0);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

/* ---- a write that failed, and was taken by one that left before it did ---- */

struct failing {
	bool over;
	int status;
};

static void failing_write(void *arg)
{
	struct failing *f = arg;
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	memset(buf, 0x77, HCI_BLOCK);
	f->status = vol_rw(h.v, VOL_WRITE, buf, 5 * MiB, HCI_BLOCK);
	mem_free_aligned(buf);
	f->over = true;
}

static void begin_write(struct life *l, void *arg)
{
	ck_assert_int_eq(fiber_spawn(l->env, failing_write, arg, "write"), 0);
}

/*
 * One of two has room for the write, the other has not, and is not heard of until the first one's process has died. That one leaves the
 * set, the other refuses the write. When the first one is back it has what the other never got.
 */
START_TEST(what_failed_is_not_taken_back_with_who_had_it)
{
	unsigned failed = 0;

	for (unsigned seed = 1; seed <= 8; seed++) {
		struct cluster_opts o = CLUSTER_OPTS_INIT;
		struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = 2, .on_full = REC_FULL_FAIL,
					.rebuild_delay_ns = 600 * NS_PER_S };
		struct failing f = { 0 };
		struct cl_disk *d[2];

		o.seed = seed;
		heal_up(&h, &o, &v);
		heal_call(&h, &h.c->client[0], heal_attach, &h);
		for (unsigned k = 0; k < 2; k++)
			d[k] = cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], k)->disk);
		d[1]->full = d[1]->faulted_lately = true;
		sim_disk_set_capacity(d[1]->sd, sim_disk_used(d[1]->sd));
		sim_run(h.c->sim, 6 * NS_PER_S); /* it has looked how much is free */
		sim_net_cut(h.c->sim, h.c->client[0].sim, d[1]->node->sim, true);
		heal_call(&h, &h.c->client[0], begin_write, &f);
		sim_run(h.c->sim, 50 * NS_PER_MS);
		cluster_kill(d[0]->node, false);
		sim_run(h.c->sim, 900 * NS_PER_MS);
		sim_net_cut(h.c->sim, h.c->client[0].sim, d[1]->node->sim, false);
		sim_run(h.c->sim, 3 * NS_PER_S);
		failed += f.over && f.status == HCI_E_NOSPACE;
		d[1]->full = false;
		sim_disk_set_capacity(d[1]->sd, o.disk_size);
		cluster_boot(d[0]->node);
		heal_call(&h, &h.c->client[0], heal_whole, &h);
		heal_call(&h, &h.c->client[0], heal_detach, &h);
		heal_call(&h, &h.c->client[0], heal_compare, &h);
		heal_down(&h);
	}
	ck_assert_uint_gt(failed, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_missed");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_loop_test(t, a_node_that_left_in_a_quiet_moment_gets_one_region, 0, 8);
	tcase_add_loop_test(t, what_a_node_got_anew_is_not_settled_again, 0, 2);
	tcase_add_test(t, nor_is_what_all_have_kept);
	tcase_add_test(t, what_failed_is_not_taken_back_with_who_had_it);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
