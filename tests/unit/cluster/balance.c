/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that even out how much the disks of a pool are used, with figures that are made up. */
#include <stdlib.h>

#include "cluster/plan.h"
#include "store/store_sim.h"
#include "unit/harness.h"

#define SEG (64 * MiB)
#define DISKS_MAX 16u
#define SEGS_MAX 128u

/* A pool of disks on as many nodes, and one volume in it. */
struct pool {
	uint32_t ndisks, nsegs, replicas;
	uint32_t class_of[DISKS_MAX];
	uint32_t on[SEGS_MAX][REC_COPIES_MAX];
	uint64_t load[SEGS_MAX][REC_COPIES_MAX]; /* requests a second */
	uint32_t told_of[SEGS_MAX];              /* 1: told by the first disk instead of the one it is on */
	struct plan plan;
	struct sim *sim;
	struct simstore *ss;
	struct env *env;
	struct store *store;
	struct core *core;
	bool done;
	void (*check)(struct pool *p);
};

static struct uuid disk_id(uint32_t i)
{
	struct uuid u = { .b = { 0xd0, [15] = (uint8_t)i } };

	return u;
}

static struct uuid vol_id(void)
{
	struct uuid u = { .b = { 0xa0 } };

	return u;
}

static uint32_t disk_of(const struct uuid *u)
{
	return u->b[15];
}

/* Any that may be chosen and has no copy, by turns. */
static int place(void *arg, const struct hci_placement_snapshot *s, const struct hci_placement_request *r, uint32_t *out, uint32_t want)
{
	ck_assert_uint_eq(want, 1);
	(void)arg;
	for (uint32_t k = 0; k < s->ndisks; k++) {
		uint32_t i = (k + r->segment) % s->ndisks;
		bool kept = false;

		for (uint32_t x = 0; x < r->nkeep; x++)
			kept |= r->keep[x] == i;
		if (kept || !s->disks[i].usable)
			continue;
		out[0] = i;
		return 0;
	}
	return HCI_E_NOPLACE;
}

#define PUT(type, key, rec) ck_assert_int_eq(rec_##type##_put(p->store, key, rec, REC_REV_ANY, 0, NULL, NULL), 0)

static void put_disks(struct pool *p)
{
	struct rec_diskload *l = calloc(1, sizeof(*l));
	char key[REC_KEY];

	for (uint32_t i = 0; i < p->ndisks; i++) {
		struct rec_disk d = { .uuid = disk_id(i), .pool = "p", .state = REC_DISK_ONLINE, .capacity = GiB };
		struct rec_node n = { .addr = "tcp:x:1" };
		struct rec_alive a = { .addr = "tcp:x:1" };

		snprintf(d.node, sizeof(d.node), "n%u", i);
		snprintf(d.path, sizeof(d.path), "/d");
		snprintf(n.name, sizeof(n.name), "n%u", i);
		n.uuid = d.uuid;
		d.class_ = p->class_of[i];
		key_disk(key, &d.uuid);
		PUT(disk, key, &d);
		key_node(key, d.node);
		PUT(node, key, &n);
		key_alive(key, d.node);
		PUT(alive, key, &a);
		*l = (struct rec_diskload){ 0 };
		for (uint32_t s = 0; s < p->nsegs; s++) {
			for (uint32_t k = 0; k < p->replicas; k++) {
				if ((p->told_of[s] ? 0 : p->on[s][k]) != i || !p->load[s][k])
					continue;
				l->hot[l->n++] = (struct rec_hot){ vol_id(), s, p->load[s][k], 0 };
				l->ops += p->load[s][k];
				ck_assert_uint_lt(l->n, REC_HOT_MAX);
			}
		}
		key_diskload(key, &d.uuid);
		PUT(diskload, key, l);
	}
	free(l);
}

static void put_volume(struct pool *p)
{
	struct rec_pool pool = { .name = "p" };
	struct rec_volume v = { .uuid = vol_id(), .name = "v", .pool = "p", .size = p->nsegs * SEG, .segment_size = SEG,
				.replicas = p->replicas, .state = REC_VOLUME_READY };
	struct rec_volmap *m = calloc(1, sizeof(*m));
	char key[REC_KEY];

	key_pool(key, "p");
	PUT(pool, key, &pool);
	m->n = p->nsegs;
	for (uint32_t s = 0; s < p->nsegs; s++) {
		m->seg[s].n = p->replicas;
		for (uint32_t k = 0; k < p->replicas; k++)
			m->seg[s].r[k].disk = disk_id(p->on[s][k]);
	}
	key_volmap(key, &v.uuid, 0);
	PUT(volmap, key, m);
	key_volume(key, &v.uuid);
	PUT(volume, key, &v);
	free(m);
}

static uint64_t load_on(const struct pool *p, uint32_t disk)
{
	uint64_t sum = 0;

	for (uint32_t s = 0; s < p->nsegs; s++)
		for (uint32_t k = 0; k < p->replicas; k++)
			sum += p->on[s][k] == disk ? p->load[s][k] : 0;
	return sum;
}

static uint32_t copies_on(const struct pool *p, uint32_t disk)
{
	uint32_t n = 0;

	for (uint32_t s = 0; s < p->nsegs; s++)
		for (uint32_t k = 0; k < p->replicas; k++)
			n += p->on[s][k] == disk;
	return n;
}

static uint64_t highest(const struct pool *p)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < p->ndisks; i++)
		most = MAX(most, load_on(p, i));
	return most;
}

/* The less, the evener. */
static uint64_t squares(const struct pool *p)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < p->ndisks; i++)
		sum += load_on(p, i) * load_on(p, i);
	return sum;
}

/* Does what the plan says; nothing may be against the rules. */
static void apply(struct pool *p)
{
	for (uint32_t i = 0; i < p->plan.n; i++) {
		const struct rec_move *m = &p->plan.moves[i].m;
		uint32_t *on = p->on[m->segment], from = disk_of(&m->from), to = disk_of(&m->to), at = UINT32_MAX;

		for (uint32_t k = 0; k < p->replicas; k++) {
			ck_assert_uint_ne(on[k], to);
			if (on[k] == from)
				at = k;
		}
		ck_assert_uint_ne(at, UINT32_MAX);
		on[at] = to;
	}
}

static void make_plan(struct pool *p, bool load)
{
	struct hci_error err = { 0 };

	plan_free(&p->plan);
	ck_assert_msg(!plan_balance(p->core, "p", load, &p->plan, &err), "%s", err.message);
}

static void test_fiber(void *arg)
{
	struct pool *p = arg;
	struct rec_cluster cluster = { .format = REC_VERSION, .name = "c" };
	struct core_opts o = { .env = p->env, .self = "a", .place = place };
	struct hci_error err;

	ck_assert_int_eq(simstore_open(p->ss, p->env, &p->store), 0);
	ck_assert_int_eq(rec_cluster_put(p->store, KEY_CLUSTER, &cluster, 0, 0, NULL, &err), 0);
	put_disks(p);
	put_volume(p);
	o.store = p->store;
	ck_assert_msg(!core_open(&o, &p->core, &err), "%s", err.message);
	p->check(p);
	plan_free(&p->plan);
	core_close(p->core);
	store_close(p->store);
	p->done = true;
}

static void boot(struct env *e, void *arg)
{
	struct pool *p = arg;

	p->env = e;
	ck_assert_int_eq(fiber_spawn(e, test_fiber, p, "test"), 0);
}

static bool is_done(void *arg)
{
	return ((struct pool *)arg)->done;
}

static void run(struct pool *p, void (*check)(struct pool *p))
{
	struct sim_opts o = SIM_OPTS_INIT;

	o.seed = 1;
	p->check = check;
	p->done = false;
	p->sim = sim_new(&o);
	p->ss = simstore_new(p->sim);
	sim_node_boot(sim_node_new(p->sim, "a"), boot, p);
	ck_assert_msg(sim_run_until(p->sim, is_done, p, 600 * NS_PER_S), "it did not end");
	simstore_free(p->ss);
	sim_free(p->sim);
}

/* Segment s on disk s % ndisks, and the next ones. */
static struct pool even_pool(uint32_t ndisks, uint32_t nsegs, uint32_t replicas)
{
	struct pool p = { .ndisks = ndisks, .nsegs = nsegs, .replicas = replicas };

	for (uint32_t s = 0; s < nsegs; s++)
		for (uint32_t k = 0; k < replicas; k++)
			p.on[s][k] = (s + k) % ndisks;
	return p;
}

/* ---- one case each ---- */

static void swaps(struct pool *p)
{
	make_plan(p, true);
	ck_assert_uint_eq(p->plan.n, 4);
	ck_assert_uint_eq(p->plan.nload, 4);
	ck_assert(p->plan.load_most == 400 && p->plan.load_least == 0);
	ck_assert(p->plan.load_most_after == 200 && p->plan.most_after == p->plan.most);
	apply(p);
	ck_assert_uint_eq(highest(p), 200);
	for (uint32_t i = 0; i < p->ndisks; i++)
		ck_assert_uint_eq(copies_on(p, i), 4);
}

/* Four hot segments on one of three disks, which are equally full: two go, two others come back. */
START_TEST(hot_segments_change_places_with_idle_ones)
{
	struct pool p = even_pool(3, 12, 1);

	for (uint32_t s = 0; s < 12; s += 3)
		p.load[s][0] = 100;
	run(&p, swaps);
}
END_TEST

static void moves_one(struct pool *p)
{
	make_plan(p, true);
	ck_assert_uint_eq(p->plan.n, 1);
	ck_assert_uint_eq(p->plan.nload, 0);
	ck_assert_uint_eq(disk_of(&p->plan.moves[0].m.from), 0);
}

/* One disk has a segment more than its share, and all are idle. */
START_TEST(idle_pools_are_evened_out_by_fill_only)
{
	struct pool p = even_pool(3, 12, 1);

	p.on[1][0] = 0;
	run(&p, moves_one);
}
END_TEST

static void moves_none(struct pool *p)
{
	make_plan(p, true);
	ck_assert_uint_eq(p->plan.n, 0);
}

/* 20% above the average; a disk with one hot segment; little use at all; those that are idle are of another class. */
START_TEST(what_gains_little_stays)
{
	struct pool p = even_pool(4, 16, 1);

	for (uint32_t s = 0; s < 16; s++)
		p.load[s][0] = _i == 0 ? (s % 4 ? 94 : 118) : 0;
	if (_i == 1)
		p.load[5][0] = 100000;
	if (_i == 2)
		p.load[0][0] = p.load[4][0] = 9;
	if (_i == 3) {
		p.load[0][0] = p.load[4][0] = 1000;
		p.class_of[0] = REC_DISK_NVME;
	}
	if (_i == 4) {
		p.load[0][0] = p.load[4][0] = p.load[1][0] = p.load[2][0] = 1000;
		p.class_of[3] = REC_DISK_NVME;
	}
	run(&p, moves_none);
}
END_TEST

static void not_for_load(struct pool *p)
{
	make_plan(p, false);
	ck_assert_uint_eq(p->plan.n, 0);
	make_plan(p, true);
	ck_assert_uint_gt(p->plan.n, 0);
}

START_TEST(load_is_left_out_when_asked_for)
{
	struct pool p = even_pool(3, 12, 1);

	p.load[0][0] = p.load[3][0] = 500;
	run(&p, not_for_load);
}
END_TEST

/*
 * What moved a moment ago is still in the figures of the disk where it was: that disk is taken for what it is now, and the
 * one where it went as well.
 */
START_TEST(figures_from_before_a_move_are_understood)
{
	struct pool p = even_pool(3, 12, 1);

	p.load[0][0] = p.load[1][0] = p.load[2][0] = 300;
	p.told_of[1] = p.told_of[2] = 1;
	run(&p, moves_none);
}
END_TEST

/* ---- any load ---- */

static uint32_t rnd(uint32_t *x, uint32_t below)
{
	*x = *x * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(*x >> 8) * below >> 24);
}

static void judge(struct pool *p)
{
	uint64_t before, after, was;
	uint32_t n;

	make_plan(p, false);
	apply(p);
	before = highest(p);
	was = squares(p);
	put_volume(p);
	put_disks(p);
	make_plan(p, true);
	ck_assert_uint_eq(p->plan.n, p->plan.nload); /* fill was even */
	ck_assert_uint_le(p->plan.nload, 64);
	n = p->plan.n;
	make_plan(p, true);
	ck_assert_uint_eq(p->plan.n, n);
	apply(p);
	after = highest(p);
	ck_assert_uint_le(after, before);
	ck_assert_uint_eq(after, (uint64_t)p->plan.load_most_after);
	if (n) /* each step lowers the larger of two */
		ck_assert_uint_lt(squares(p), was);
	/* With the old figures, and with those told when things have settled: the shares are left as they are. */
	put_volume(p);
	make_plan(p, false);
	ck_assert_uint_eq(p->plan.n, 0);
	put_disks(p);
	make_plan(p, true);
	ck_assert_uint_le(p->plan.n, n);
	ck_assert_uint_eq(p->plan.n, p->plan.nload);
}

START_TEST(any_load_gets_evener_and_shares_stay)
{
	uint32_t x = (uint32_t)_i * 7919 + 1;
	struct pool p = even_pool(3 + rnd(&x, 10), 40, 1 + rnd(&x, 3));

	for (uint32_t s = 0; s < p.nsegs; s++) {
		uint32_t first = rnd(&x, p.ndisks);

		for (uint32_t k = 0; k < p.replicas; k++) {
			p.on[s][k] = (first + k) % p.ndisks;
			p.load[s][k] = rnd(&x, 4) ? 0 : rnd(&x, 1000);
		}
	}
	run(&p, judge);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cluster_balance");
	TCase *t = tcase_create("load");

	tcase_add_test(t, hot_segments_change_places_with_idle_ones);
	tcase_add_test(t, idle_pools_are_evened_out_by_fill_only);
	tcase_add_loop_test(t, what_gains_little_stays, 0, 5);
	tcase_add_test(t, load_is_left_out_when_asked_for);
	tcase_add_test(t, figures_from_before_a_move_are_understood);
	tcase_add_loop_test(t, any_load_gets_evener_and_shares_stay, 0, 200);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
