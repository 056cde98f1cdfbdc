/* SPDX-License-Identifier: Apache-2.0 */
/* What a pass of write-back has in memory and in flight is bounded, whatever the log is full of; the average of a disk's load. */
#include <stdlib.h>

#include "replica/replica_impl.h"
#include "unit/replica/world.h"

#define SEG (64 * MiB)

struct t {
	struct simw w;
	struct repl_disk *d;
	size_t most_bytes;
	uint32_t most_reads;
	bool stop, stopped;
};

static size_t bytes_now(void)
{
	struct mem_arena *a = mem_arena_set(NULL);

	mem_arena_set(a);
	return mem_arena_bytes(a);
}

/* Pages of checksums that are being read. */
static uint32_t sums_reads(const struct repl_disk *d)
{
	const struct vol *v;
	uint32_t n = 0;

	for (unsigned i = 0; i < VOL_BUCKETS; i++)
		list_for_each(v, &d->vols[i], link)
			for (uint32_t k = 0; k < v->nsegs; k++)
				for (uint32_t p = 0; p < v->segs[k]->nsums; p++)
					n += v->segs[k]->sums[p] && v->segs[k]->sums[p]->pair;
	return n;
}

static void watch(void *arg)
{
	struct t *t = arg;

	while (!t->stop) {
		t->most_bytes = MAX(t->most_bytes, bytes_now());
		t->most_reads = MAX(t->most_reads, sums_reads(t->d));
		fiber_sleep(t->d->e, 100 * NS_PER_US);
	}
	t->stopped = true;
}

static void watch_begin(struct t *t)
{
	t->most_bytes = t->most_reads = 0;
	t->stop = t->stopped = false;
	ck_assert_int_eq(fiber_spawn(t->d->e, watch, t, "watch"), 0);
}

static void watch_end(struct t *t)
{
	t->stop = true;
	while (!t->stopped)
		fiber_sleep(t->d->e, NS_PER_MS);
}

static void run(void (*body)(struct env *e, void *arg))
{
	struct t t = { 0 };

	simw_begin(&t.w, 1, 4 * GiB);
	ck_assert(simw_run(&t.w, body, &t));
	simw_end(&t.w);
}

/* ---- what is read back ---- */

#define LOG (64 * MiB)
#define REGIONS 450u /* of which all but one block are in the log, most of which they and their headers fill */

/* In an order in which those of one region are far apart in the log. */
static void write_over(struct env *e, struct repl_slot *s, uint64_t *seq)
{
	for (uint32_t b = 1; b < REGION_BLOCKS; b++)
		for (uint32_t r = 0; r < REGIONS; r++)
			ck_assert_int_eq(write_fill(e, s, 0, r * 131 % REGIONS * REPL_REGION + b * HCI_BLOCK, HCI_BLOCK, (int)b, ++*seq), 0);
}

static void large_body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = disk_opts();
	uint8_t *p = mem_alloc_aligned(MiB);
	struct repl_slot *s;
	uint64_t seq = 0;
	size_t before;

	memset(p, 0x77, MiB);
	o.log_size = LOG;
	o.log_level = 90; /* one pass, when all of it is there */
	t->d = must_format_open(e, "/d1", &o);
	t->d->frame_slabs_max = 4;
	s = must_slot(t->d, 1, 1, SEG);
	for (uint64_t at = 0; at < REGIONS * REPL_REGION; at += MiB)
		ck_assert_int_eq(io(e, s, REPL_WRITE, 0, at, MIN(MiB, REGIONS * REPL_REGION - at), p, ++seq, 0), 0);
	write_over(e, s, &seq);
	ck_assert_uint_gt(ring_used(&t->d->log), REGIONS * 2 * 15);
	before = bytes_now();
	watch_begin(t);
	fiber_sleep(e, 20 * NS_PER_S); /* idle: it is written back */
	watch_end(t);
	ck_assert_uint_eq(ring_used(&t->d->log), 0);
	ck_assert_msg(t->most_bytes < before + LOG / 8 + 4 * MiB, "%zu bytes more than before", t->most_bytes - before);
	for (uint32_t r = 0; r < REGIONS; r += 50)
		read_expect(e, s, 0, r * REPL_REGION + 3 * HCI_BLOCK, HCI_BLOCK, 3);
	mem_free_aligned(p);
	repl_slot_put(s);
	repl_disk_close(t->d, true);
}

/* Regions that a large write made, and small ones since: they are moved as a whole, wherever in the log their blocks are. */
START_TEST(no_more_is_read_back_at_once_than_a_pass_may_move)
{
	run(large_body);
}
END_TEST

/* ---- pages of checksums ---- */

#define STEP (SUM_REGIONS * (uint64_t)REPL_REGION)
#define PAGES 250u

static void one_block_a_page(struct env *e, struct repl_slot *s, int c, uint64_t *seq)
{
	for (uint32_t i = 0; i < PAGES; i++)
		ck_assert_int_eq(write_fill(e, s, 0, i * STEP, HCI_BLOCK, c, ++*seq), 0);
}

static void pages_body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = disk_opts();
	struct repl_slot *s;
	uint64_t seq = 0;

	o.log_size = LOG;
	t->d = must_format_open(e, "/d1", &o);
	s = must_slot(t->d, 1, 1, GiB);
	one_block_a_page(e, s, 1, &seq);
	repl_slot_put(s);
	repl_disk_close(t->d, false);
	t->d = must_open(e, "/d1", &o);
	s = must_slot(t->d, 1, 2, GiB);
	one_block_a_page(e, s, 2, &seq);
	watch_begin(t);
	fiber_sleep(e, 20 * NS_PER_S);
	watch_end(t);
	ck_assert_uint_eq(ring_used(&t->d->log), 0);
	ck_assert_uint_gt(t->most_reads, 0);
	ck_assert_msg(t->most_reads <= 40, "%u pages were read at once", t->most_reads);
	read_expect(e, s, 0, STEP, HCI_BLOCK, 2);
	repl_slot_put(s);
	repl_disk_close(t->d, true);
}

/* Blocks far apart: the checksums of each one's neighbours are read first, but not all at once. */
START_TEST(few_pages_of_checksums_are_read_at_once)
{
	run(pages_body);
}
END_TEST

/* ---- load ---- */

static void load_body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = disk_opts();
	struct repl_load *l = calloc(1, sizeof(*l));
	struct repl_slot *s;
	uint64_t seq = 0;

	t->d = must_format_open(e, "/d1", &o);
	s = must_slot(t->d, 1, 1, SEG);
	repl_load_take(t->d, l);
	for (unsigned i = 0; i < 4000; i++) {
		ck_assert_int_eq(write_fill(e, s, 0, 0, HCI_BLOCK, 1, ++seq), 0);
		fiber_sleep(e, 100 * NS_PER_MS);
	}
	repl_load_take(t->d, l);
	ck_assert_uint_ge(l->ops, 9);
	ck_assert_uint_le(l->ops, 10);
	ck_assert_uint_eq(l->nhot, 1);
	ck_assert_uint_eq(l->hot[0].ops, l->ops);
	free(l);
	repl_slot_put(s);
	repl_disk_close(t->d, true);
}

/* Ten a second for seven minutes in which nobody looked are ten a second. */
START_TEST(load_that_nobody_looked_at_for_long_is_told_right)
{
	run(load_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica bounds");
	TCase *t = tcase_create("sim");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, no_more_is_read_back_at_once_than_a_pass_may_move);
	tcase_add_test(t, few_pages_of_checksums_are_read_at_once);
	tcase_add_test(t, load_that_nobody_looked_at_for_long_is_told_right);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
