/* SPDX-License-Identifier: Apache-2.0 */
/* Rebuild and resync, one behaviour a test: what is copied, in which order, what is not copied twice. */
#include "sim/heal.h"
#include "unit/harness.h"

#include <string.h>

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static struct cl_disk *disk_of(uint32_t segment, unsigned pos)
{
	return cluster_disk(h.c, &seg_leg(h.v, &h.v->segs[segment], pos)->disk);
}

/* Of a copy that is being made. */
static struct cl_disk *target_of(uint32_t segment)
{
	for (unsigned k = 0; k < h.v->segs[segment].n; k++)
		if (h.v->segs[segment].pos[k] == POS_SYNCING)
			return disk_of(segment, k);
	ck_abort_msg("no copy is being made");
	return NULL;
}

static bool half_copied(struct cluster *c)
{
	(void)c;
	return h.v->st.resync_copied >= h.create.size / 2;
}

static bool quarter_copied(struct cluster *c)
{
	(void)c;
	return h.v->st.resync_copied >= h.create.size / 4;
}

static void attach_fill(void)
{
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	sim_run(h.c->sim, NS_PER_S);
}

/* ---- what was copied is not copied again ---- */

static void rebuild_cut_off(unsigned replicas)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = replicas };

	o.nodes = 4;
	heal_up(&h, &o, &v);
	attach_fill();
	heal_kill_disk(disk_of(0, 1));
	ck_assert(cluster_run_until(h.c, half_copied, 60 * NS_PER_S));
}

START_TEST(a_rebuild_goes_on_after_its_writer_died)
{
	uint64_t first;

	rebuild_cut_off(2);
	first = h.v->st.resync_copied;
	ck_assert(!heal_is_whole(&h));
	cluster_kill(&h.c->client[0], false);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	heal_call(&h, &h.c->client[1], heal_whole, &h);
	/* What was under way when it died, one budget at most, may be copied again. */
	ck_assert_uint_ge(h.v->st.resync_skipped + PACE_MAX, first);
	ck_assert_uint_ge(h.v->st.resync_skipped, first - MIN(first, 4 * MiB));
	ck_assert_uint_eq(h.v->st.resync_skipped + h.v->st.resync_copied, h.create.size);
	heal_call(&h, &h.c->client[1], heal_check, &h);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

/* One block of each region, under the new writer, before the copy: it must be copied again. */
static void dirty_regions(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	(void)arg;
	memset(buf, 0xcc, HCI_BLOCK);
	for (uint64_t at = 0; at < h.create.size; at += REPL_REGION)
		ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, at, HCI_BLOCK), 0);
	mem_free_aligned(buf);
}

START_TEST(what_was_written_meanwhile_is_copied_again)
{
	struct cl_disk *target;

	rebuild_cut_off(2);
	target = target_of(0);
	/* The target is away while all regions change; then it goes on with what it has. */
	cluster_kill(target->node, false);
	heal_call(&h, &h.c->client[0], dirty_regions, NULL);
	cluster_boot(target->node);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	ck_assert_uint_ge(h.v->st.resync_copied, h.create.size + h.create.size / 2);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

START_TEST(a_target_that_blinks_goes_on_where_it_was)
{
	struct cl_disk *target;
	uint64_t first;

	rebuild_cut_off(2);
	first = h.v->st.resync_copied;
	target = target_of(0);
	cluster_kill(target->node, true);
	sim_run(h.c->sim, NS_PER_S);
	cluster_boot(target->node);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	ck_assert_uint_ge(h.v->st.resync_skipped, first / 2);
	ck_assert_uint_le(h.v->st.resync_copied, h.create.size + 4 * MiB);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* A replica that got what was settled is not taken for one that was copied: the next writer may settle otherwise. */
static void no_marks(struct life *l, void *arg)
{
	struct repl_region *r;
	size_t n;

	(void)l;
	(void)arg;
	for (uint32_t i = 0; i < h.v->nlegs; i++) {
		ck_assert_int_eq(leg_regions(h.v->legs[i], 0, UINT32_MAX, &r, &n), 0);
		ck_assert_uint_gt(n, 0);
		for (size_t k = 0; k < n; k++)
			ck_assert_msg(!(r[k].seq & REPL_SEQ_COPIED), "region %u is marked", r[k].region);
		mem_free(r);
	}
}

static void start_writing(struct life *l, void *arg);

START_TEST(what_is_settled_is_not_marked_as_copied)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 3 };

	o.nodes = 3;
	heal_up(&h, &o, &v);
	attach_fill();
	for (unsigned k = 1; k < 3; k++) /* they do not get what is written last */
		sim_net_cut(h.c->sim, h.c->client[0].sim, disk_of(0, k)->node->sim, true);
	heal_call(&h, &h.c->client[0], start_writing, NULL);
	sim_run(h.c->sim, 20 * NS_PER_MS);
	cluster_kill(&h.c->client[0], false);
	sim_net_heal(h.c->sim);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	ck_assert_uint_gt(h.v->st.resync_copied, 0);
	heal_call(&h, &h.c->client[1], no_marks, NULL);
}
END_TEST

/* ---- whose network the data cross ---- */

static void rebuild_with(bool partition)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 4 * MiB, .replicas = 2 };

	o.nodes = 4;
	heal_up(&h, &o, &v);
	attach_fill();
	for (unsigned i = 0; i < o.nodes; i++)
		repl_service_peers(h.c->node[i].life->service, h.c->node[i].life->peers); /* all of them pull */
	for (unsigned i = 0; i < o.nodes; i++)
		for (unsigned k = 0; k < o.nodes; k++)
			if (partition && i != k)
				sim_net_cut(h.c->sim, h.c->node[i].sim, h.c->node[k].sim, true);
	heal_kill_disk(disk_of(0, 1));
	heal_call(&h, &h.c->client[0], heal_whole, &h);
}

START_TEST(copies_do_not_pass_the_writer)
{
	rebuild_with(false);
	ck_assert_uint_gt(h.v->st.resync_copied, 0);
	ck_assert_uint_ge(h.v->st.resync_pulled, h.v->st.resync_copied); /* the last of each is fetched twice */
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

START_TEST(the_writer_carries_them_where_nodes_do_not_reach_each_other)
{
	rebuild_with(true);
	ck_assert_uint_gt(h.v->st.resync_copied, 0);
	ck_assert_uint_eq(h.v->st.resync_pulled, 0);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* ---- a second disk, in the middle ---- */

static bool keep_writing;

static void write_on(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(64 * KiB);
	uint64_t n = 0;

	(void)arg;
	while (keep_writing) {
		memset(buf, (int)n, 64 * KiB);
		ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, n++ * 17 * HCI_BLOCK % (h.create.size - 64 * KiB), 64 * KiB), 0);
		fiber_sleep(l->env, NS_PER_MS);
	}
	mem_free_aligned(buf);
	h.arg = NULL;
}

static struct life *writer_life;

static void writer_fiber(void *arg)
{
	write_on(writer_life, arg);
}

static void start_writing(struct life *l, void *arg)
{
	(void)arg;
	keep_writing = true;
	h.arg = &h;
	writer_life = l;
	ck_assert_int_eq(fiber_spawn(l->env, writer_fiber, NULL, "load"), 0);
}

static bool writing_over(struct cluster *c)
{
	(void)c;
	return h.arg == NULL;
}

START_TEST(a_second_disk_pulled_during_a_rebuild_loses_nothing)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 32 * MiB, .segment_size = 4 * MiB, .replicas = 3 };
	struct cl_disk *first, *second = NULL;

	o.seed = (uint64_t)_i;
	o.nodes = 5;
	o.data_disks = 2;
	heal_up(&h, &o, &v);
	attach_fill();
	first = disk_of(0, 0);
	heal_kill_disk(first);
	if (_i & 1)
		heal_call(&h, &h.c->client[0], start_writing, NULL);
	ck_assert(cluster_run_until(h.c, quarter_copied, 60 * NS_PER_S));
	/* One that holds a copy of a segment that has lost one. */
	for (uint32_t i = 0; i < h.v->nsegs && !second; i++)
		for (unsigned k = 0; k < h.v->segs[i].n && !second; k++)
			if (h.v->segs[i].pos[k] == POS_IN && disk_of(i, k)->node != first->node && !disk_of(i, k)->dead && seg_copies_left(h.v, i) == 2)
				second = disk_of(i, k);
	ck_assert_ptr_nonnull(second);
	heal_kill_disk(second);
	if (_i & 2) { /* and the writer with it */
		keep_writing = false;
		cluster_kill(&h.c->client[0], true);
		cluster_boot(&h.c->client[0]);
		sim_run(h.c->sim, NS_PER_S);
		heal_call(&h, &h.c->client[0], heal_attach, &h);
	}
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	keep_writing = false;
	if (_i == 1)
		ck_assert(cluster_run_until(h.c, writing_over, 60 * NS_PER_S));
	if (!(_i & 1))
		heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* ---- in which order, and how much at a time ---- */

static unsigned degraded(unsigned *endangered)
{
	unsigned n = 0;

	*endangered = 0;
	for (uint32_t i = 0; i < h.v->nsegs; i++) {
		*endangered += seg_copies_left(h.v, i) == 1;
		n += seg_copies_left(h.v, i) == 2;
	}
	return n;
}

static bool none_endangered(struct cluster *c)
{
	unsigned e;

	(void)c;
	degraded(&e);
	return !e;
}

static bool both_noticed(struct cluster *c)
{
	(void)c;
	for (uint32_t i = 0; i < h.v->nlegs; i++)
		if (cluster_disk(h.c, &h.v->legs[i]->disk)->dead && h.v->legs[i]->state == LEG_UP)
			return false;
	return true;
}

/* One block of each segment. */
static void touch_segments(struct life *l, void *arg)
{
	uint8_t *buf = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	(void)arg;
	memset(buf, 0xcc, HCI_BLOCK);
	for (uint64_t at = 0; at < h.create.size; at += h.create.segment_size)
		ck_assert_int_eq(vol_rw(h.v, VOL_WRITE, buf, at, HCI_BLOCK), 0);
	mem_free_aligned(buf);
}

START_TEST(the_most_endangered_come_first)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 1200 * MiB, .segment_size = MiB, .replicas = 3 };
	unsigned endangered, two_left, dummy;

	o.nodes = 6;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], touch_segments, NULL);
	sim_run(h.c->sim, NS_PER_S);
	heal_kill_disk(h.c->node[0].disks[0]);
	heal_kill_disk(h.c->node[1].disks[0]);
	ck_assert(cluster_run_until(h.c, both_noticed, 5 * NS_PER_S));
	two_left = degraded(&endangered);
	ck_assert_uint_ge(endangered, 300);
	ck_assert_uint_ge(two_left, 300);
	ck_assert(cluster_run_until(h.c, none_endangered, 120 * NS_PER_S));
	/* These have two left now; few of the others are whole: a new disk that has no part of theirs does not wait. */
	ck_assert_uint_ge(degraded(&dummy), (two_left + endangered) * 3 / 4);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

#define VOLUMES 10

static struct vol *many[VOLUMES];

static void make_many(struct life *l, void *arg)
{
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .wait_ns = 10 * NS_PER_S };
	struct hci_error err = { 0 };
	char name[16];

	(void)arg;
	for (int i = 0; i < VOLUMES; i++) {
		struct uuid id;

		snprintf(name, sizeof(name), "v%d", i + 2);
		h.create.name = name;
		ck_assert_msg(!vol_create(&l->vol, &h.create, &id, &err), "%s", err.message);
		ck_assert_msg(!vol_attach(&l->vol, &id, &o, &many[i], &err), "%s", err.message);
		h.v = many[i];
		heal_fill(l, &h);
	}
}

static uint64_t most_bytes, most_jobs;

static bool all_whole(struct cluster *c)
{
	bool whole = true;

	(void)c;
	most_bytes = MAX(most_bytes, many[0]->sched->inflight);
	most_jobs = MAX(most_jobs, many[0]->sched->njobs);
	for (int i = 0; i < VOLUMES; i++) {
		h.v = many[i];
		whole &= heal_is_whole(&h);
	}
	return whole;
}

static void end_many(struct life *l, void *arg)
{
	(void)l;
	(void)arg;
	for (int i = 0; i < VOLUMES; i++)
		vol_detach(many[i]);
}

START_TEST(volumes_share_one_budget)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 8 * MiB, .segment_size = 2 * MiB, .replicas = 2 };

	o.nodes = 4;
	o.disk_size = 256 * MiB;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], make_many, NULL);
	sim_run(h.c->sim, NS_PER_S);
	heal_kill_disk(h.c->node[0].disks[0]);
	most_bytes = most_jobs = 0;
	many[0]->sched->pace.window = many[0]->sched->pace.max = REPL_REGION;
	ck_assert(cluster_run_until(h.c, all_whole, 120 * NS_PER_S));
	ck_assert_uint_eq(most_bytes, REPL_REGION);
	ck_assert_uint_le(most_jobs, SCHED_JOBS_URGENT);
	ck_assert_uint_ge(most_jobs, 8); /* several at a time, though */
	heal_call(&h, &h.c->client[0], end_many, NULL);
}
END_TEST

/* ---- resync ---- */

START_TEST(a_disk_that_returns_gets_what_it_missed_only)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 4 * MiB, .replicas = 2,
				.rebuild_delay_ns = 600 * NS_PER_S };

	heal_up(&h, &o, &v);
	attach_fill();
	cluster_kill(&h.c->node[0], false);
	sim_run(h.c->sim, 3 * NS_PER_S);
	heal_call(&h, &h.c->client[0], dirty_regions, NULL);
	h.create.size = MiB; /* the first one again */
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	cluster_boot(&h.c->node[0]);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	ck_assert_uint_ge(h.v->st.resync_copied, 4 * MiB);
	ck_assert_uint_le(h.v->st.resync_copied, 16 * MiB);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* ---- copies that are not counted on any more ---- */

/* What node 0's disks take; its part of the volume was made elsewhere while it was away. */
static uint64_t away_and_rebuilt(void)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 24 * MiB, .segment_size = 2 * MiB, .replicas = 2, .rebuild_delay_ns = NS_PER_S };

	o.nodes = 4;
	o.spare_disks = 0;
	o.log_size = 4 * MiB;
	heal_up(&h, &o, &v);
	attach_fill();
	sim_run(h.c->sim, 5 * NS_PER_S);
	cluster_kill(&h.c->node[0], false);
	sim_run(h.c->sim, 3 * NS_PER_S);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	return sim_disk_used(h.c->node[0].disks[0]->sd);
}

START_TEST(a_disk_that_returns_too_late_gives_its_space_back)
{
	uint64_t used = away_and_rebuilt();

	if (_i) { /* by the next writer, if the first is gone */
		cluster_kill(&h.c->client[0], false);
		heal_call(&h, &h.c->client[1], heal_attach, &h);
		heal_call(&h, &h.c->client[1], heal_whole, &h);
	}
	cluster_boot(&h.c->node[0]);
	sim_run(h.c->sim, 20 * NS_PER_S);
	ck_assert_uint_le(sim_disk_used(h.c->node[0].disks[0]->sd), used - 10 * MiB);
	ck_assert(list_empty(&h.v->strays));
	heal_call(&h, &h.c->client[_i], heal_check, &h);
	heal_call(&h, &h.c->client[_i], heal_detach, &h);
	heal_call(&h, &h.c->client[_i], heal_compare, &h);
}
END_TEST

START_TEST(an_old_copy_stays_while_others_are_missing)
{
	uint64_t used = away_and_rebuilt();

	h.v->rec.rebuild_delay_ns = 600 * NS_PER_S;
	cluster_kill(&h.c->node[1], false);
	cluster_kill(&h.c->node[2], false);
	cluster_kill(&h.c->node[3], false);
	cluster_boot(&h.c->node[0]);
	sim_run(h.c->sim, 20 * NS_PER_S);
	ck_assert_uint_ge(sim_disk_used(h.c->node[0].disks[0]->sd) + MiB, used);
	for (int i = 1; i < 4; i++)
		cluster_boot(&h.c->node[i]);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	sim_run(h.c->sim, 20 * NS_PER_S);
	ck_assert_uint_le(sim_disk_used(h.c->node[0].disks[0]->sd), used - 10 * MiB);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/* ---- who wants a volume that is being repaired ---- */

static bool is_wanted(struct life *l)
{
	struct store_result r;
	char key[REC_KEY], id[HCI_UUID_STR];
	bool yes;

	uuid_print(&h.id, id);
	snprintf(key, sizeof(key), PREFIX_VOLWANT "%s", id);
	ck_assert(!store_get(l->vol.store, key, &r, NULL));
	yes = r.n == 1;
	store_result_free(&r);
	return yes;
}

static void repair_attach(struct life *l, void *arg)
{
	struct vol_attach_opts o = { .purpose = REC_ATT_REPAIR };

	(void)arg;
	ck_assert(!vol_attach(&l->vol, &h.id, &o, &h.v, NULL));
}

/* This repair does not let go: the user asks for as long as he waits, and then no more. */
static void want_in_vain(struct life *l, void *arg)
{
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .steal_repair = true, .wait_ns = 25 * NS_PER_S };
	struct vol *v;

	(void)arg;
	ck_assert(!is_wanted(l));
	ck_assert_int_eq(vol_attach(&l->vol, &h.id, &o, &v, NULL), HCI_E_BUSY);
	ck_assert(is_wanted(l));
	fiber_sleep(l->vol.env, 15 * NS_PER_S);
	ck_assert(!is_wanted(l));
}

START_TEST(who_gives_up_does_not_keep_a_volume_from_being_repaired)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 16 * MiB, .segment_size = 16 * MiB, .replicas = 2 };

	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], repair_attach, &h);
	heal_call(&h, &h.c->client[1], want_in_vain, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_heal");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 240);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, what_is_settled_is_not_marked_as_copied);
	tcase_add_test(t, copies_do_not_pass_the_writer);
	tcase_add_test(t, the_writer_carries_them_where_nodes_do_not_reach_each_other);
	tcase_add_test(t, a_rebuild_goes_on_after_its_writer_died);
	tcase_add_test(t, what_was_written_meanwhile_is_copied_again);
	tcase_add_test(t, a_target_that_blinks_goes_on_where_it_was);
	tcase_add_loop_test(t, a_second_disk_pulled_during_a_rebuild_loses_nothing, 0, 8);
	tcase_add_test(t, the_most_endangered_come_first);
	tcase_add_test(t, volumes_share_one_budget);
	tcase_add_test(t, a_disk_that_returns_gets_what_it_missed_only);
	tcase_add_loop_test(t, a_disk_that_returns_too_late_gives_its_space_back, 0, 2);
	tcase_add_test(t, an_old_copy_stays_while_others_are_missing);
	tcase_add_test(t, who_gives_up_does_not_keep_a_volume_from_being_repaired);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
