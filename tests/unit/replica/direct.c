/* SPDX-License-Identifier: Apache-2.0 */
/* Large writes to the same place, over and over: they pass the log each time, and take turns with two places in the file. */
#include "unit/replica/world.h"

#define LEN (2 * REPL_REGION)
#define LOG (64 * MiB)

static struct repl_disk *disk;
static struct repl_slot *slot;

static uint64_t log_used(void)
{
	struct repl_disk_info i;

	repl_disk_info(disk, &i);
	return i.log_used;
}

/* With the first content of the place in the segment's file and in the tables. */
static void begin(struct env *e)
{
	struct repl_disk_opts o = disk_opts();

	o.log_size = LOG;
	o.log_path = "/ssd";
	disk = must_format_open(e, "/d1", &o);
	slot = must_slot(disk, 1, 1, MiB);
	ck_assert_int_eq(write_fill(e, slot, 0, 0, LEN, 1, 1), 0);
	while (log_used())
		fiber_sleep(e, 100 * NS_PER_MS);
}

static void end(void)
{
	repl_slot_put(slot);
	repl_disk_close(disk, false);
}

static void rewrite(struct env *e, void *arg)
{
	uint64_t before, step = 0;

	(void)arg;
	begin(e);
	for (int k = 2; k < 50; k++) {
		before = log_used();
		ck_assert_int_eq(write_fill(e, slot, 0, 0, LEN, k, (uint64_t)k), 0);
		step = MAX(step, log_used() - MIN(before, log_used()));
		read_expect(e, slot, 0, 0, LEN, k);
	}
	ck_assert_uint_lt(step, LEN); /* their data are not in the log */
	end();
}

/* A read that began before the last two writes, from a disk that is slow to answer it. */
struct late {
	struct repl_op op;
	struct env *e;
	struct fiber *fiber;
	bool over;
};

static void late_done(struct repl_op *op)
{
	struct late *l = container_of(op, struct late, op);

	l->over = true;
	fiber_wake(l->e, l->fiber);
}

static void read_slowly(struct env *e, void *arg)
{
	struct simw *w = arg;
	struct late l = { .e = e, .fiber = fiber_self(e) };

	begin(e);
	l.op.kind = REPL_READ;
	l.op.slot = slot;
	l.op.len = LEN;
	l.op.buf = mem_alloc_aligned(LEN);
	l.op.flags = REPL_F_VERIFY;
	l.op.done = late_done;
	sim_disk_fault(w->disk, SIM_DISK_SLOW);
	repl_submit(&l.op);
	sim_disk_fault(w->disk, SIM_DISK_OK);
	for (int k = 2; k < 5; k++)
		ck_assert_int_eq(write_fill(e, slot, 0, 0, LEN, k, (uint64_t)k), 0);
	ck_assert_msg(!l.over, "the read was too fast for this test");
	while (!l.over)
		fiber_park(e);
	ck_assert_int_eq(l.op.status, 0);
	ck_assert_int_eq(((uint8_t *)l.op.buf)[LEN - 1], 1);
	read_expect(e, slot, 0, 0, LEN, 4);
	mem_free_aligned(l.op.buf);
	end();
}

static void run(void (*fn)(struct env *e, void *arg), uint64_t seed)
{
	struct simw w;

	simw_begin(&w, seed, 64 * MiB);
	sim_disk_new(w.node, "/ssd", 2 * LOG);
	ck_assert(simw_run(&w, fn, &w));
	simw_end(&w);
}

START_TEST(passes_the_log_each_time)
{
	run(rewrite, (uint64_t)_i);
}
END_TEST

START_TEST(leaves_a_read_from_before_alone)
{
	run(read_slowly, (uint64_t)_i);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("large writes again");
	TCase *t = tcase_create("sim");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, passes_the_log_each_time, 1, 5);
	tcase_add_loop_test(t, leaves_a_read_from_before_alone, 1, 20);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
