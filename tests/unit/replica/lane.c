/* SPDX-License-Identifier: Apache-2.0 */
/* Users before copies, and nobody waits for ever. */
#include "replica/lane.h"

#include "env/sim.h"
#include "unit/harness.h"

#define ITEMS 64

static struct sim *sim;
static struct lane *lane;
static struct lane_item item[ITEMS];
static unsigned going, refused, order[ITEMS];

static void go(struct lane_item *x)
{
	order[going++] = (unsigned)(x - item);
}

static void refuse(struct lane_item *x)
{
	(void)x;
	refused++;
}

static void put(unsigned i, enum lane_class c)
{
	item[i].class_ = c;
	item[i].go = go;
	item[i].refuse = refuse;
	lane_submit(lane, &item[i]);
}

static void up(void)
{
	struct sim_opts o = SIM_OPTS_INIT;

	going = refused = 0;
	sim = sim_new(&o);
}

static void down(void)
{
	sim_free(sim);
}

static void in_node(void (*fn)(struct env *e, void *arg))
{
	struct sim_node *n = sim_node_new(sim, "n");

	sim_node_boot(n, fn, NULL);
	sim_run(sim, NS_PER_S);
}

static void some_beside_users(struct env *e, void *arg)
{
	(void)arg;
	lane = lane_new(e, 0);
	put(0, LANE_USER);
	for (unsigned i = 1; i < 10; i++)
		put(i, LANE_COPY);
	ck_assert_uint_eq(going, 1 + LANE_BUSY);
	put(10, LANE_USER); /* passes by */
	ck_assert_uint_eq(going, 2 + LANE_BUSY);
	ck_assert_uint_eq(order[going - 1], 10);
	lane_end(&item[1]); /* one through, one more goes */
	ck_assert_uint_eq(going, 3 + LANE_BUSY);
	ck_assert_uint_eq(order[going - 1], 3);
	lane_end(&item[0]);
	lane_end(&item[10]);
	ck_assert_uint_eq(going, 3 + LANE_BUSY); /* they were there a moment ago */
}

START_TEST(few_beside_users)
{
	in_node(some_beside_users);
	ck_assert_uint_eq(going, 11); /* without users all go */
}
END_TEST

static void many_alone(struct env *e, void *arg)
{
	(void)arg;
	lane = lane_new(e, 3);
	for (unsigned i = 0; i < 40; i++)
		put(i, LANE_COPY);
	ck_assert_uint_eq(going, LANE_IDLE);
	put(40, LANE_COPY);
	lane_end(&item[0]); /* in their order */
	ck_assert_uint_eq(order[going - 1], LANE_IDLE);
	put(41, LANE_USER);
	for (unsigned i = 1; i < LANE_IDLE - 2; i++)
		lane_end(&item[i]);
	ck_assert_uint_eq(going, LANE_IDLE + 2); /* more than may go beside a user are at the disk still */
	lane_end(&item[LANE_IDLE - 2]);
	ck_assert_uint_eq(going, LANE_IDLE + 3);
}

START_TEST(many_without_users)
{
	in_node(many_alone);
}
END_TEST

static void close_it(struct env *e, void *arg)
{
	(void)arg;
	lane = lane_new(e, 1);
	put(0, LANE_USER);
	put(1, LANE_COPY);
	put(2, LANE_COPY);
	put(3, LANE_COPY);
	ck_assert_uint_eq(going, 2);
	lane_close(lane);
	ck_assert_uint_eq(refused, 2);
	lane_end(&item[1]);
	lane_end(&item[0]); /* frees it: the arena's end or ASan would tell */
	ck_assert_uint_eq(going, 2);
}

START_TEST(what_waits_is_refused_when_the_disk_goes)
{
	in_node(close_it);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica_lane");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, up, down);
	tcase_add_test(t, few_beside_users);
	tcase_add_test(t, many_without_users);
	tcase_add_test(t, what_waits_is_refused_when_the_disk_goes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
