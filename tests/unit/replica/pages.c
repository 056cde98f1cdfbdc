/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy of a page rots while the disk is not open, or one of each of two kinds of pages that witness the same: nothing is
 * believed that was true earlier only. By hand in the files of a simulated disk (most of this is waiting for a disk that is idle), closed
 * in peace or not.
 */
#include <stdio.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "unit/replica/world.h"

#define SEG (4 * MiB)
#define PAIR (2 * HCI_BLOCK)

enum rot { ROT_NONE, ROT_NEWER, ROT_OLDER, ROT_BOTH, ROTS };

struct rig {
	struct env *e;
	const char *path;
	struct repl_disk_opts o;
	struct repl_disk *d;
	struct repl_slot *s;
	uint64_t seq, gen;
};

static unsigned loop;

struct pages {
	void (*fn)(struct env *e, const char *path);
};

static void pages_fiber(struct env *e, void *arg)
{
	((struct pages *)arg)->fn(e, "/d1");
}

static void pages_run(void (*fn)(struct env *e, const char *path))
{
	struct pages p = { fn };
	struct simw w;

	simw_begin(&w, 1 + loop, 64 * MiB);
	ck_assert(simw_run(&w, pages_fiber, &p));
	simw_end(&w);
}

static void rig_open(struct rig *r)
{
	struct hci_error err;

	ck_assert_msg(repl_disk_open(r->e, r->path, &r->o, &r->d, &err) == 0, "%s", err.message);
	r->s = must_slot(r->d, 1, ++r->gen, SEG);
}

static void rig_begin(struct rig *r, struct env *e, const char *path)
{
	*r = (struct rig){ .e = e, .path = path, .o = disk_opts() };
	ck_assert_int_eq(repl_disk_format(e, path, &r->o, NULL), 0);
	rig_open(r);
}

static void rig_close(struct rig *r, bool abandon)
{
	repl_slot_put(r->s);
	repl_disk_close(r->d, abandon);
}

static struct env_file *open_file(struct rig *r, const char *name)
{
	char full[512], u[HCI_UUID_STR];
	struct env_file *f;

	uuid_print(&(struct uuid){ { 1, 0x77 } }, u);
	snprintf(full, sizeof(full), "%s/vol/%s/%s", r->path, u, name);
	ck_assert_int_eq(env_open(r->e, full, ENV_O_DIRECT, &f), 0);
	return f;
}

static void rot_pair(struct rig *r, const char *name, uint64_t off, enum rot rot)
{
	struct env_file *f = open_file(r, name);
	uint8_t *pair = mem_alloc_aligned(PAIR);
	uint64_t serial[2];
	unsigned newer;

	ck_assert_int_eq(fiber_read(r->e, f, pair, PAIR, off), PAIR);
	for (unsigned k = 0; k < 2; k++)
		memcpy(&serial[k], pair + k * HCI_BLOCK + 16, sizeof(serial[k]));
	newer = serial[1] > serial[0];
	if (rot == ROT_NEWER || rot == ROT_BOTH)
		pair[newer * HCI_BLOCK + 700] ^= 2;
	if (rot == ROT_OLDER || rot == ROT_BOTH)
		pair[!newer * HCI_BLOCK + 800] ^= 4;
	ck_assert_int_eq(fiber_write(r->e, f, pair, PAIR, off, ENV_IO_DSYNC), PAIR);
	env_close(r->e, f);
	mem_free_aligned(pair);
}

/* ---- a segment's tables and checksums ---- */

static void write_run(struct rig *r, unsigned first)
{
	for (unsigned k = first; k < first + 16; k++)
		ck_assert_int_eq(write_fill(r->e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1, ++r->seq), 0);
	disk_settle(r->e, r->d);
}

static void right_or_told(struct rig *r, unsigned written)
{
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);

	for (unsigned k = 0; k < 70; k++) {
		int rc = io(r->e, r->s, REPL_READ, 0, k * HCI_BLOCK, HCI_BLOCK, p, 0, REPL_F_VERIFY);

		ck_assert_msg(rc == HCI_E_CORRUPT || (!rc && p[0] == (k < written ? k + 1 : 0)), "block %u: %d, %u", k, rc, p[0]);
	}
	mem_free_aligned(p);
}

static void tables_body(struct env *e, const char *path)
{
	enum rot table = loop % ROTS, sums = loop / ROTS % ROTS;
	bool abandon = loop / ROTS / ROTS, logged = loop / ROTS / ROTS == 2;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	write_run(&r, 16);
	if (logged) /* the pages might have been torn now, with the power lost */
		ck_assert_int_eq(write_fill(e, r.s, 0, 0, HCI_BLOCK, 1, ++r.seq), 0);
	rig_close(&r, abandon);
	rot_pair(&r, "00000000.map", 0, table);
	rot_pair(&r, "00000000.map", PAIR, sums);
	for (unsigned round = 0; round < 3; round++) {
		rig_open(&r);
		right_or_told(&r, 32);
		disk_settle(r.e, r.d);
		rig_close(&r, round == 1);
	}
	/* It can be healed. */
	rig_open(&r);
	write_run(&r, 0);
	write_run(&r, 16);
	for (unsigned k = 0; k < 32; k++)
		read_expect(e, r.s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1);
	rig_close(&r, false);
}

START_TEST(what_was_written_never_reads_as_zeroes)
{
	loop = (unsigned)_i;
	pages_run(tables_body);
}
END_TEST

/* A block of a region of which others stay: its place in the file is not given back. */
static void zeroed_body(struct env *e, const char *path)
{
	enum rot table = loop % ROTS, sums = loop / ROTS % ROTS;
	bool later = loop / ROTS / ROTS; /* the second when what the first did was mended */
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	ck_assert_int_eq(io(e, r.s, REPL_ZERO, 0, 5 * HCI_BLOCK, HCI_BLOCK, NULL, ++r.seq, 0), 0);
	disk_settle(r.e, r.d);
	rig_close(&r, false);
	rot_pair(&r, "00000000.map", 0, table);
	if (later) {
		rig_open(&r);
		ck_assert_int_eq(write_fill(e, r.s, 1, 0, HCI_BLOCK, 1, ++r.seq), 0);
		disk_settle(r.e, r.d);
		rig_close(&r, false);
	}
	rot_pair(&r, "00000000.map", PAIR, sums);
	for (unsigned round = 0; round < 2; round++) {
		int rc;

		rig_open(&r);
		rc = io(e, r.s, REPL_READ, 0, 5 * HCI_BLOCK, HCI_BLOCK, p, 0, REPL_F_VERIFY);
		ck_assert_msg(rc == HCI_E_CORRUPT || (!rc && p[0] == 0), "%d, %u", rc, p[0]);
		disk_settle(r.e, r.d);
		rig_close(&r, false);
	}
	mem_free_aligned(p);
}

START_TEST(nor_what_was_zeroed_as_it_was_before)
{
	loop = (unsigned)_i;
	pages_run(zeroed_body);
}
END_TEST

/* The same of a block that a pass had put in its place when power was lost, at any point: then it is zeroed, while the log has it. */
static void cut_write(struct env *e, void *arg)
{
	struct simw *w = arg;
	struct rig r;

	rig_begin(&r, e, "/d1");
	write_run(&r, 6);
	ck_assert_int_eq(write_fill(e, r.s, 0, 5 * HCI_BLOCK, HCI_BLOCK, 6, ++r.seq), 0);
	simw_crash_at_mark(w, 1 + loop, true);
	disk_settle(r.e, r.d);
	rig_close(&r, false);
}

static void cut_zero(struct env *e, void *arg)
{
	struct rig r = { .e = e, .path = "/d1", .o = disk_opts(), .seq = 100, .gen = 1 };

	(void)arg;
	rig_open(&r);
	ck_assert_int_eq(io(e, r.s, REPL_ZERO, 0, 5 * HCI_BLOCK, HCI_BLOCK, NULL, ++r.seq, 0), 0);
	disk_settle(r.e, r.d);
	rig_close(&r, false);
	rot_pair(&r, "00000000.map", 0, ROT_NEWER);
	rig_open(&r);
	read_expect(e, r.s, 0, 5 * HCI_BLOCK, HCI_BLOCK, 0);
	rig_close(&r, false);
}

START_TEST(nor_does_a_pass_that_was_cut_off_bring_it_back)
{
	bool whole = false;

	for (loop = 0; !whole; loop++) {
		struct simw w = { 0 };

		simw_begin(&w, 1 + loop, 64 * MiB);
		whole = simw_run(&w, cut_write, &w);
		if (!whole)
			ck_assert(simw_run(&w, cut_zero, &w));
		simw_end(&w);
	}
	ck_assert_uint_gt(loop, 5);
}
END_TEST

/* Nothing is left of the pages, and all is repaired in one pass: it stays so. */
static void repaired_body(struct env *e, const char *path)
{
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	write_run(&r, 16);
	rig_close(&r, false);
	rot_pair(&r, "00000000.map", 0, ROT_BOTH);
	rot_pair(&r, "00000000.map", PAIR, ROT_BOTH);
	rig_open(&r);
	for (unsigned k = 0; k < 32; k++)
		ck_assert_int_eq(write_fill(e, r.s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1, ++r.seq), 0);
	disk_settle(r.e, r.d);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned k = 0; k < 32; k++)
			read_expect(e, r.s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1);
		rig_close(&r, false);
		rig_open(&r);
	}
	rig_close(&r, false);
}

START_TEST(what_was_repaired_stays_so)
{
	pages_run(repaired_body);
}
END_TEST

/* Region 1, moved to its place with its number; then the log touches the same page, with a number that is lower. */
static void numbers_body(struct env *e, const char *path)
{
	bool record = loop % 2, lost = loop / 2 % 2;
	struct repl_region out[4], cur = { 0 };
	uint64_t moved;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	write_run(&r, 16);
	moved = r.seq;
	ck_assert_int_eq(write_fill(e, r.s, 0, 0, HCI_BLOCK, 1, 3), 0);
	rig_close(&r, true);
	rot_pair(&r, "00000000.map", 0, lost ? ROT_BOTH : ROT_NEWER);
	if (record)
		rot_pair(&r, "meta", 0, ROT_NEWER);
	for (unsigned round = 0; round < 3; round++) {
		rig_open(&r);
		cur = (struct repl_region){ 0 };
		ck_assert_uint_ge(repl_regions(r.s, moved - 1, 0, &cur, out, 4), 1);
		ck_assert(out[0].region == 1 || out[1].region == 1);
		ck_assert(!(out[0].seq & REPL_SEQ_ZERO));
		right_or_told(&r, 32);
		disk_settle(r.e, r.d);
		rig_close(&r, round == 1);
	}
}

START_TEST(who_copies_what_is_newer_is_told_of_all_that_is)
{
	loop = (unsigned)_i;
	pages_run(numbers_body);
}
END_TEST

/* Power was lost while the files were made: the length of the data's is not what it was to be. No reason to give the disk up. */
static void short_body(struct env *e, const char *path)
{
	struct env_file *f;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	write_run(&r, 16);
	rig_close(&r, true);
	rot_pair(&r, "00000000.map", 0, ROT_BOTH);
	rot_pair(&r, "00000000.map", PAIR, ROT_NEWER);
	f = open_file(&r, "00000000.seg");
	ck_assert_int_eq(env_truncate(e, f, 2 * REPL_REGION), 0);
	env_close(e, f);
	for (unsigned round = 0; round < 2; round++) {
		rig_open(&r);
		right_or_told(&r, 32);
		rig_close(&r, round == 0);
	}
}

START_TEST(nor_does_a_short_file_fail_the_disk)
{
	pages_run(short_body);
}
END_TEST

/* ---- a slot's record ---- */

static int fenced(struct rig *r, uint64_t gen)
{
	struct repl_slot_state st;
	struct repl_slot *s;
	int rc = repl_slot_open(r->d, &(struct uuid){ { 1, 0x77 } }, gen, SEG, &s, &st, NULL);

	if (!rc)
		repl_slot_put(s);
	return rc;
}

static void record_body(struct env *e, const char *path)
{
	enum rot rot = loop % ROTS;
	bool abandon = loop / ROTS % 2, more = loop / ROTS / 2;
	struct hci_error err;
	struct rig r;
	int rc;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	for (unsigned k = 0; k < 3; k++) { /* an odd number of times, and an even one */
		rig_close(&r, false);
		rig_open(&r);
		disk_settle(r.e, r.d);
	}
	if (more) /* else nothing comes to the record after the generation */
		write_run(&r, 16);
	rig_close(&r, abandon);
	rot_pair(&r, "meta", 0, rot);
	rc = repl_disk_open(e, path, &r.o, &r.d, &err);
	if (rot == ROT_BOTH) {
		ck_assert_int_eq(rc, HCI_E_CORRUPT);
		return;
	}
	ck_assert_msg(!rc, "%s", err.message);
	ck_assert_int_eq(fenced(&r, r.gen - 1), HCI_E_FENCED);
	r.s = must_slot(r.d, 1, ++r.gen, SEG);
	right_or_told(&r, more ? 32 : 16);
	disk_settle(r.e, r.d);
	rig_close(&r, false);
	/* And it is whole again. */
	rot_pair(&r, "meta", 0, rot == ROT_OLDER ? ROT_NEWER : ROT_OLDER);
	ck_assert_int_eq(repl_disk_open(e, path, &r.o, &r.d, NULL), 0);
	ck_assert_int_eq(fenced(&r, r.gen - 1), HCI_E_FENCED);
	repl_disk_close(r.d, false);
}

START_TEST(a_rotten_record_lets_no_old_writer_in)
{
	loop = (unsigned)_i;
	pages_run(record_body);
}
END_TEST

/* The log tells numbers as well: what it knew last is not forgotten with the record's newer copy. */
static void last_body(struct env *e, const char *path)
{
	struct repl_slot_state st;
	struct repl_slot *s;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	write_run(&r, 16);
	rig_close(&r, loop);
	rot_pair(&r, "meta", 0, ROT_NEWER);
	ck_assert_int_eq(repl_disk_open(e, path, &r.o, &r.d, NULL), 0);
	ck_assert_int_eq(repl_slot_open_ro(r.d, &(struct uuid){ { 1, 0x77 } }, &s, &st, NULL), 0);
	ck_assert_uint_eq(st.last_seq, r.seq);
	ck_assert_uint_eq(st.generation, r.gen);
	repl_slot_put(s);
	repl_disk_close(r.d, false);
}

START_TEST(nor_is_the_last_number_forgotten)
{
	loop = (unsigned)_i;
	pages_run(last_body);
}
END_TEST

/* Nor when the medium dropped the record's last writes: what the tables tell is what the disk holds. */
static void dropped_body(struct env *e, const char *path)
{
	uint8_t *pair = mem_alloc_aligned(PAIR);
	struct repl_slot_state st;
	struct repl_slot *s;
	struct env_file *f;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 0);
	f = open_file(&r, "meta");
	ck_assert_int_eq(fiber_read(e, f, pair, PAIR, 0), PAIR);
	write_run(&r, 16);
	rig_close(&r, loop);
	ck_assert_int_eq(fiber_write(e, f, pair, PAIR, 0, ENV_IO_DSYNC), PAIR);
	env_close(e, f);
	mem_free_aligned(pair);
	ck_assert_int_eq(repl_disk_open(e, path, &r.o, &r.d, NULL), 0);
	ck_assert_int_eq(repl_slot_open_ro(r.d, &(struct uuid){ { 1, 0x77 } }, &s, &st, NULL), 0);
	ck_assert_uint_eq(st.last_seq, r.seq);
	repl_slot_put(s);
	repl_disk_close(r.d, false);
}

START_TEST(nor_is_it_with_a_write_of_the_record_that_was_dropped)
{
	loop = (unsigned)_i;
	pages_run(dropped_body);
}
END_TEST

static bool heard;

static void on_heard(struct repl_op *op)
{
	heard = op->status == 0;
}

/* After the last batch has been written back: no pass will come. A node that goes in peace keeps it all the same. */
static void stable_body(struct env *e, const char *path)
{
	struct repl_op op = { .kind = REPL_STABLE, .stable = 15, .done = on_heard };
	struct repl_slot_state st;
	struct rig r;

	rig_begin(&r, e, path);
	write_run(&r, 16);
	disk_settle(r.e, r.d);
	op.slot = r.s;
	heard = false;
	repl_submit(&op);
	while (!heard)
		fiber_sleep(e, NS_PER_MS);
	rig_close(&r, false);
	ck_assert_int_eq(repl_disk_open(e, path, &r.o, &r.d, NULL), 0);
	ck_assert_int_eq(repl_slot_open_ro(r.d, &(struct uuid){ { 1, 0x77 } }, &r.s, &st, NULL), 0);
	ck_assert_uint_eq(st.stable_seq, 15);
	repl_slot_put(r.s);
	repl_disk_close(r.d, false);
}

START_TEST(nor_what_was_told_last)
{
	pages_run(stable_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica pages");
	TCase *t = tcase_create("tables");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, what_was_written_never_reads_as_zeroes, 0, 3 * ROTS * ROTS);
	tcase_add_loop_test(t, nor_what_was_zeroed_as_it_was_before, 0, 2 * ROTS * ROTS);
	tcase_add_test(t, nor_does_a_pass_that_was_cut_off_bring_it_back);
	tcase_add_test(t, what_was_repaired_stays_so);
	suite_add_tcase(s, t);
	t = tcase_create("numbers");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, who_copies_what_is_newer_is_told_of_all_that_is, 0, 4);
	tcase_add_test(t, nor_does_a_short_file_fail_the_disk);
	suite_add_tcase(s, t);
	t = tcase_create("records");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, a_rotten_record_lets_no_old_writer_in, 0, 4 * ROTS);
	tcase_add_loop_test(t, nor_is_the_last_number_forgotten, 0, 2);
	tcase_add_loop_test(t, nor_is_it_with_a_write_of_the_record_that_was_dropped, 0, 2);
	tcase_add_test(t, nor_what_was_told_last);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
