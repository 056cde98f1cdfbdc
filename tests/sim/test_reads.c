/* SPDX-License-Identifier: Apache-2.0 */
/* Which replica a read goes to, and what a replica that does not answer does to it. */
#include "sim/heal.h"
#include "unit/harness.h"

#include <string.h>

#define SIZE (8 * MiB)

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static struct cl_disk *disk_of(unsigned pos)
{
	return cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[0], pos)->disk);
}

static uint64_t reads_of(unsigned pos)
{
	return seg_leg(h.v, &h.v->segs[0], pos)->load->reads;
}

/* Attached there, filled, and what the log had is in the segments: reads need the disk. */
static void up(bool on_node, uint64_t read_timeout, unsigned replicas)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = SIZE, .segment_size = SIZE, .replicas = replicas, .write_timeout_ns = 20 * NS_PER_S,
				.read_timeout_ns = read_timeout };
	struct cl_node *n;

	o.log_size = 4 * MiB;
	heal_up(&h, &o, &v);
	n = on_node ? &h.c->node[0] : &h.c->client[0];
	heal_call(&h, n, heal_attach, &h);
	heal_call(&h, n, heal_fill, &h);
	sim_run(h.c->sim, 5 * NS_PER_S);
}

/* ---- one that does not answer ---- */

#define READS 24

struct late {
	struct vol_io io[READS];
	uint64_t took[READS], begun;
	struct env *e;
	unsigned left;
	bool poisoned;
};

static void late_done(struct vol_io *io)
{
	struct late *x = h.arg;

	x->took[io - x->io] = env_now(x->e) - x->begun;
	x->left--;
	/* It is ours again: an answer that comes later must not land there. */
	if (io->status == 0)
		memset(io->buf, 0x5a, io->len);
}

static void read_many(struct life *l, void *arg)
{
	struct late *x = arg;

	x->e = l->env;
	x->begun = env_now(l->env);
	for (unsigned i = 0; i < READS; i++) {
		x->io[i] = (struct vol_io){ .op = VOL_READ, .vol = h.v, .buf = mem_alloc_aligned(64 * KiB), .len = 64 * KiB,
					    .off = (uint64_t)i * 5 * 64 * KiB % SIZE, .done = late_done };
		x->left++;
		vol_submit(&x->io[i]);
	}
}

static bool all_read(struct cluster *c)
{
	(void)c;
	return ((struct late *)h.arg)->left == 0;
}

static void check_late(struct life *l, void *arg)
{
	struct late *x = arg;

	(void)l;
	for (unsigned i = 0; i < READS; i++) {
		uint8_t *p = x->io[i].buf;

		ck_assert_int_eq(x->io[i].status, 0);
		ck_assert_msg(p[0] == 0x5a && !memcmp(p, p + 1, 64 * KiB - 1), "a late answer was written to read %u's buffer", i);
		mem_free_aligned(p);
	}
}

START_TEST(another_replica_is_asked_when_one_does_not_answer)
{
	struct late x = { 0 };
	unsigned hedged = 0;

	up(false, 100 * NS_PER_MS, 2);
	h.arg = &x;
	sim_disk_fault(disk_of((unsigned)_i)->sd, SIM_DISK_STALL);
	heal_call(&h, &h.c->client[0], read_many, &x);
	ck_assert(cluster_run_until(h.c, all_read, 2 * NS_PER_S));
	for (unsigned i = 0; i < READS; i++) {
		ck_assert_uint_le(x.took[i], 200 * NS_PER_MS);
		hedged += x.took[i] >= 100 * NS_PER_MS;
	}
	ck_assert_uint_ge(hedged, 1);
	ck_assert_uint_eq(h.v->st.reads_hedged, hedged);
	ck_assert_int_eq(seg_leg(h.v, &h.v->segs[0], (unsigned)_i)->state, LEG_UP);
	sim_disk_fault(disk_of((unsigned)_i)->sd, SIM_DISK_OK);
	sim_run(h.c->sim, 2 * NS_PER_S);
	heal_call(&h, &h.c->client[0], check_late, &x);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

static void shorter(struct life *l, void *arg)
{
	struct rec_volume r = h.v->rec;

	(void)l;
	(void)arg;
	r.read_timeout_ns = 50 * NS_PER_MS;
	settings_take(h.v, &r);
}

/* Reads that were sent before are judged by the new one as well. */
START_TEST(the_timeout_changes_under_reads_that_wait)
{
	struct late x = { 0 };

	up(false, 60 * NS_PER_S, 2);
	h.arg = &x;
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_STALL);
	sim_disk_fault(disk_of(1)->sd, SIM_DISK_STALL);
	heal_call(&h, &h.c->client[0], read_many, &x);
	sim_run(h.c->sim, 200 * NS_PER_MS);
	ck_assert_uint_eq(h.v->st.reads_hedged, 0);
	heal_call(&h, &h.c->client[0], shorter, NULL);
	sim_run(h.c->sim, 100 * NS_PER_MS);
	ck_assert_uint_eq(h.v->st.reads_hedged, READS);
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_OK);
	sim_disk_fault(disk_of(1)->sd, SIM_DISK_OK);
	ck_assert(cluster_run_until(h.c, all_read, 3 * NS_PER_S));
	sim_run(h.c->sim, 2 * NS_PER_S);
	heal_call(&h, &h.c->client[0], check_late, &x);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

/* The second one is asked, the first answers all the same: its answer counts, in its own buffer. */
START_TEST(the_first_answer_counts)
{
	struct late x = { 0 };

	up(false, NS_PER_MS / 20, 2);
	h.arg = &x;
	heal_call(&h, &h.c->client[0], heal_check, &h); /* under a timeout that each second read meets */
	ck_assert_uint_ge(h.v->st.reads_hedged, 4);
	heal_call(&h, &h.c->client[0], read_many, &x);
	ck_assert(cluster_run_until(h.c, all_read, 2 * NS_PER_S));
	sim_run(h.c->sim, NS_PER_S);
	heal_call(&h, &h.c->client[0], check_late, &x);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

START_TEST(the_only_replica_is_waited_for)
{
	struct late x = { 0 };

	up(false, 100 * NS_PER_MS, 1);
	h.arg = &x;
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_STALL);
	heal_call(&h, &h.c->client[0], read_many, &x);
	ck_assert(!cluster_run_until(h.c, all_read, 3 * NS_PER_S));
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_OK);
	ck_assert(cluster_run_until(h.c, all_read, 3 * NS_PER_S));
	ck_assert_uint_eq(h.v->st.reads_hedged, 0);
	heal_call(&h, &h.c->client[0], check_late, &x);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

/* Detached, and fenced, with requests of both kinds open. */
START_TEST(a_volume_that_goes_waits_for_both)
{
	struct late x = { 0 };

	up(false, 100 * NS_PER_MS, 2);
	h.arg = &x;
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_STALL);
	sim_disk_fault(disk_of(1)->sd, SIM_DISK_STALL);
	heal_call(&h, &h.c->client[0], read_many, &x);
	ck_assert(!cluster_run_until(h.c, all_read, 300 * NS_PER_MS));
	ck_assert_uint_eq(h.v->st.reads_hedged, READS);
	h.v->abandoned = true;
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	ck_assert_uint_eq(x.left, 0);
}
END_TEST

/* ---- which one ---- */

struct load {
	struct life *l;
	unsigned running;
	uint64_t left;
};

static void load_fiber(void *arg)
{
	struct load *x = arg;
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	while (x->left) {
		x->left--;
		ck_assert_int_eq(vol_rw(h.v, VOL_READ, buf, sim_rand_below(h.c->sim, SIZE / HCI_BLOCK) * HCI_BLOCK, HCI_BLOCK), 0);
	}
	mem_free_aligned(buf);
	x->running--;
}

static void read_load(struct life *l, void *arg)
{
	struct load *x = arg;

	for (unsigned i = x->running; i; i--)
		ck_assert_int_eq(fiber_spawn(l->env, load_fiber, x, "load"), 0);
	while (x->running)
		fiber_sleep(l->env, NS_PER_MS);
}

START_TEST(reads_go_to_all_replicas)
{
	struct load x = { .running = 16, .left = 4000 };

	up(false, 0, 2);
	heal_call(&h, &h.c->client[0], read_load, &x);
	ck_assert_uint_ge(reads_of(0), 1200);
	ck_assert_uint_ge(reads_of(1), 1200);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

START_TEST(a_slow_one_gets_few)
{
	struct load x = { .running = 8, .left = 4000 };
	uint64_t was;

	up(false, 0, 2);
	sim_disk_fault(disk_of(0)->sd, SIM_DISK_SLOW);
	was = reads_of(0);
	heal_call(&h, &h.c->client[0], read_load, &x);
	ck_assert_uint_le(reads_of(0) - was, 400);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

START_TEST(our_own_is_preferred_until_it_has_much_more_to_do)
{
	struct load x = { .running = 2, .left = 1000 };
	unsigned own, was;

	up(true, 0, 2);
	own = disk_of(0)->node == &h.c->node[0] ? 0 : 1;
	ck_assert_ptr_eq(disk_of(own)->node, &h.c->node[0]);
	heal_call(&h, &h.c->node[0], read_load, &x);
	ck_assert_uint_ge(reads_of(own), 900);
	was = (unsigned)reads_of(own);
	sim_disk_fault(disk_of(own)->sd, SIM_DISK_SLOW);
	x.left = 1000;
	x.running = 2;
	heal_call(&h, &h.c->node[0], read_load, &x);
	ck_assert_uint_le(reads_of(own) - was, 300);
	heal_call(&h, &h.c->node[0], heal_detach, &h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_reads");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_loop_test(t, another_replica_is_asked_when_one_does_not_answer, 0, 2);
	tcase_add_test(t, the_timeout_changes_under_reads_that_wait);
	tcase_add_test(t, the_first_answer_counts);
	tcase_add_test(t, the_only_replica_is_waited_for);
	tcase_add_test(t, a_volume_that_goes_waits_for_both);
	tcase_add_test(t, reads_go_to_all_replicas);
	tcase_add_test(t, a_slow_one_gets_few);
	tcase_add_test(t, our_own_is_preferred_until_it_has_much_more_to_do);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
