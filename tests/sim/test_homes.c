/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that take over from others: what the store says of them, and what the writer believes that it says; and when there is none. */
#include "sim/heal.h"
#include "unit/harness.h"

#include "base/mem.h"

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static void read_sync(struct rec_volsync *s)
{
	char key[REC_KEY];
	const void *v;
	uint32_t len;

	key_volsync(key, &h.id);
	v = simstore_peek(h.c->store, key, &len);
	ck_assert(v && !rec_volsync_decode(v, len, s, NULL));
}

/* As a writer leaves it that replaced the disk, long ago, and died before it could strike it off the list. */
static void put_out(const struct cl_disk *d)
{
	struct rec_volsync *s = mem_calloc(1, sizeof(*s));
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	read_sync(s);
	s->out[s->n++] = (struct rec_out){ .disk = d->rec.uuid, .left_seq = 1 };
	ck_assert(!rec_volsync_encode(s, &b));
	key_volsync(key, &h.id);
	simstore_put(h.c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
	mem_free(s);
}

static uint32_t disks_out(void)
{
	struct rec_volsync *s = mem_calloc(1, sizeof(*s));
	uint32_t n;

	read_sync(s);
	n = s->n;
	mem_free(s);
	return n;
}

static bool is_home(const struct cl_node *n)
{
	const struct leg *l = leg_find(h.v, &n->disks[0]->rec.uuid);

	return l && l->used;
}

/*
 * One of those that are left takes over, and is in the store's list of those that are out since it had a copy before. Was that
 * not known, the store would have the last copy that there is for out when the other one fails.
 */
START_TEST(a_disk_that_takes_over_again_is_in_the_set_of_the_store_too)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 2 };
	struct cl_node *n;

	o.nodes = 4;
	o.spare_disks = 0;
	heal_up(&h, &o, &v);
	n = h.c->node;
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	ck_assert(is_home(&n[0]) && is_home(&n[1]));
	heal_call(&h, &h.c->client[0], heal_detach, &h);

	put_out(n[2].disks[0]);
	put_out(n[3].disks[0]);
	ck_assert_uint_eq(disks_out(), 2);
	heal_kill_disk(n[1].disks[0]);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	/* Nor is it replaced by the other one at once, as a disk that is away since then. */
	ck_assert(is_home(&n[2]) != is_home(&n[3]));
	ck_assert(!leg_find(h.v, &n[2 + is_home(&n[2])].disks[0]->rec.uuid));
	sim_run(h.c->sim, 2 * NS_PER_S);
	ck_assert_uint_eq(disks_out(), 0);

	cluster_kill(&n[0], true);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	cluster_kill(&h.c->client[0], false);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	heal_call(&h, &h.c->client[1], heal_check, &h);
	cluster_boot(&n[0]);
	heal_call(&h, &h.c->client[1], heal_whole, &h);
	heal_call(&h, &h.c->client[1], heal_check, &h);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

/* ---- a copy that moved, and another that is lost meanwhile ---- */

struct place {
	unsigned node, disk;
	bool joining;
};

static const struct uuid *at(const struct place *p)
{
	return &h.c->node[p->node].disks[p->disk]->rec.uuid;
}

/*
 * As a writer leaves it: the four copies that there are of the segment, and the first was to move to where the third is, if that
 * is still on record.
 */
static void put_moving(const struct place *four, bool on_record)
{
	struct rec_volmap *m = mem_calloc(1, sizeof(*m));
	struct rec_volmove move = { .n = 1, .m = { { 0, *at(&four[0]), *at(&four[2]) } } };
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	m->n = 1;
	m->seg[0].n = 4;
	for (unsigned k = 0; k < 4; k++)
		m->seg[0].r[k] = (struct rec_replica){ .disk = *at(&four[k]), .joining = four[k].joining };
	ck_assert(!rec_volmap_encode(m, &b));
	key_volmap(key, &h.id, 0);
	simstore_put(h.c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
	ck_assert(!rec_volmove_encode(&move, &b));
	key_volmove(key, &h.id);
	if (on_record)
		simstore_put(h.c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
	mem_free(m);
}

static bool settled(struct cluster *c)
{
	char key[REC_KEY];
	uint32_t len;

	key_volmove(key, &h.id);
	return !h.v->st.unsettled && heal_is_whole(&h) && !simstore_peek(c->store, key, &len);
}

static const struct {
	unsigned nodes, spares;
	struct place copy[4]; /* who was to move, one that stays, where it was to go to, the lost one */
	bool moves;           /* it does, in the end: somebody takes over from the lost one */
} moving[] = {
	/* What was to take the third one's place when its disk was evacuated; then that was called off. */
	{ 3, 1, { { 1, 0, false }, { 2, 0, false }, { 0, 0, false }, { 0, 1, true } }, false },
	/* On the last node but those that have a copy; the second time it is one of those that count. */
	{ 4, 0, { { 0, 0, false }, { 1, 0, false }, { 3, 0, true }, { 2, 0, true } }, false },
	{ 4, 0, { { 0, 0, false }, { 1, 0, false }, { 3, 0, true }, { 2, 0, false } }, false },
	{ 5, 0, { { 0, 0, false }, { 1, 0, false }, { 3, 0, true }, { 2, 0, false } }, true },
};

START_TEST(a_lost_copy_that_has_no_place_is_not_waited_for_by_one_that_moves)
{
	const struct place *p = moving[_i].copy;
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 3 };

	o.nodes = moving[_i].nodes;
	o.spare_disks = moving[_i].spares;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	put_moving(p, true);
	heal_kill_disk(h.c->node[p[3].node].disks[p[3].disk]);

	heal_call(&h, &h.c->client[0], heal_attach, &h);
	ck_assert(cluster_run_until(h.c, settled, 300 * NS_PER_S));
	ck_assert(!leg_find(h.v, at(&p[3]))->used && leg_find(h.v, at(&p[2]))->used && leg_find(h.v, at(&p[1]))->used);
	ck_assert(leg_find(h.v, at(&p[0]))->used != moving[_i].moves);
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

/*
 * A copy moved to another disk of its node, and both disks died before it went: the first time the move was taken off the record
 * meanwhile, by one of another segment. Each is on the only node where the other one has a place. The last time another copy is
 * to leave at the same time: it waits.
 */
START_TEST(two_lost_copies_do_not_keep_each_other_from_a_place)
{
	const struct place four[] = { { 2, 0, false }, { 0, 0, false }, { 2, 1, false }, { 1, 0, false } };
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 3 };

	o.nodes = 3;
	o.spare_disks = 2;
	heal_up(&h, &o, &v);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	put_moving(four, _i == 1);
	heal_kill_disk(h.c->node[2].disks[0]);
	heal_kill_disk(h.c->node[2].disks[1]);
	if (_i == 2)
		h.c->node[1].disks[0]->rec.state = REC_DISK_EVACUATING;

	heal_call(&h, &h.c->client[0], heal_attach, &h);
	ck_assert(cluster_run_until(h.c, settled, 300 * NS_PER_S));
	ck_assert(!leg_find(h.v, at(&four[0]))->used && !leg_find(h.v, at(&four[2]))->used);
	ck_assert(leg_find(h.v, at(&four[1]))->used && leg_find(h.v, at(&four[3]))->used == (_i != 2));
	heal_call(&h, &h.c->client[0], heal_check, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_call(&h, &h.c->client[0], heal_compare, &h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_homes");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 240);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, a_disk_that_takes_over_again_is_in_the_set_of_the_store_too);
	tcase_add_loop_test(t, a_lost_copy_that_has_no_place_is_not_waited_for_by_one_that_moves, 0, (int)ARRAY_SIZE(moving));
	tcase_add_loop_test(t, two_lost_copies_do_not_keep_each_other_from_a_place, 0, 3);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
