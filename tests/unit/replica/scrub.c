/* SPDX-License-Identifier: Apache-2.0 */
/* A scrub makes way for whoever has requests, users and copies, and is not kept from its end by them. */
#include "unit/replica/world.h"

#define SEG (16 * MiB)
#define SEGS 4u

struct run {
	struct repl_disk *d;
	struct repl_slot *s;
};

static uint64_t done(struct repl_disk *d)
{
	struct repl_scrub_info i;

	repl_scrub_info(d, &i);
	return i.done;
}

static void begin(struct env *e, struct run *r)
{
	struct repl_disk_opts o = disk_opts();
	uint64_t seq = 0;

	r->d = must_format_open(e, "/d1", &o);
	r->s = must_slot(r->d, 1, 1, SEG);
	for (unsigned k = 0; k < SEGS; k++)
		for (uint64_t off = 0; off < SEG; off += MiB)
			ck_assert_int_eq(write_fill(e, r->s, k, off, MiB, (int)k + 1, ++seq), 0);
	disk_settle(e, r->d);
	repl_scrub_set(r->d, UINT64_MAX, 200 * MiB);
}

static void end(struct run *r)
{
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
}

/* What a scrub reads in a second in which somebody reads a block each 5 ms, or, flags BACKGROUND, nobody does. */
static uint64_t a_second(struct env *e, struct run *r, uint32_t flags)
{
	void *p = mem_alloc_aligned(HCI_BLOCK);
	uint64_t before, until;

	/* It is under way, and knows of us. */
	fiber_sleep(e, 200 * NS_PER_MS);
	for (unsigned i = 0; i < 40; i++) {
		ck_assert_int_eq(io(e, r->s, REPL_READ, 0, 0, HCI_BLOCK, p, 0, flags), 0);
		fiber_sleep(e, 5 * NS_PER_MS);
	}
	before = done(r->d);
	until = env_now(e) + NS_PER_S;
	while (env_now(e) < until) {
		ck_assert_int_eq(io(e, r->s, REPL_READ, 0, 0, HCI_BLOCK, p, 0, flags), 0);
		fiber_sleep(e, 5 * NS_PER_MS);
	}
	mem_free_aligned(p);
	return done(r->d) - before;
}

static void beside_users(struct env *e, void *arg)
{
	struct repl_scrub_info i;
	struct run r;
	uint64_t busy;

	(void)arg;
	begin(e, &r);
	repl_scrub_start(r.d);
	busy = a_second(e, &r, 0);
	ck_assert_uint_le(busy, 2 * MiB); /* of 200 */
	ck_assert_uint_ge(busy, MiB / 2); /* and not nothing: it would never end */
	/* They have gone: the rest is read at once. */
	fiber_sleep(e, 2 * NS_PER_S);
	repl_scrub_info(r.d, &i);
	ck_assert_uint_eq(i.passes, 1);
	ck_assert_uint_ge(i.done, SEGS * SEG);
	end(&r);
}

static void beside_nobody(struct env *e, void *arg)
{
	struct run r;

	(void)arg;
	begin(e, &r);
	repl_scrub_set(r.d, UINT64_MAX, 20 * MiB);
	repl_scrub_start(r.d);
	/* What the disk does for itself it does not wait for. */
	ck_assert_uint_ge(a_second(e, &r, REPL_F_BACKGROUND), 15 * MiB);
	end(&r);
}

static void simulated(void (*fn)(struct env *e, void *arg))
{
	struct simw w;

	simw_begin(&w, 1, 512 * MiB);
	ck_assert(simw_run(&w, fn, &w));
	simw_end(&w);
}

START_TEST(it_makes_way_for_requests)
{
	simulated(beside_users);
}
END_TEST

START_TEST(it_goes_at_its_rate_beside_nobody)
{
	simulated(beside_nobody);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica_scrub");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, it_makes_way_for_requests);
	tcase_add_test(t, it_goes_at_its_rate_beside_nobody);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
