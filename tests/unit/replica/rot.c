/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits that flip in the write log, or in the superblock that says of which opening it is, while nobody looks: what had been
 * acknowledged is there when the disk is opened again, or is known to be damaged; and the end of a log that was cut off by a
 * power loss is still taken for the end.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "replica/log_format.h"
#include "unit/replica/world.h"

#define SEG (4 * MiB)
#define WRITES 40u
#define UNPROVEN 4u /* batches in flight at a time: of the last ones nobody says that they were durable */
#define RING 2u     /* blocks before it in the file */

struct rig {
	struct simw w;
	struct env *e;
	struct repl_disk *d;
	struct repl_slot *s;
	const char *log;
	bool ext;
	uint64_t last; /* what the slot said when it was opened */
	/* what is to be done to the log */
	uint8_t *bytes; /* of the file */
	uint64_t size;
	uint32_t at[4 * WRITES], len[4 * WRITES], hdr[4 * WRITES]; /* batches of writes, in blocks of the file */
	unsigned n;
	unsigned refused;
	uint32_t level;
};

static struct repl_disk_opts opts_of(const struct rig *r)
{
	struct repl_disk_opts o = disk_opts();

	o.log_path = r->ext ? "/ssd" : NULL;
	o.log_level = r->level;
	return o;
}

static void open_slot(struct rig *r, struct env *e, uint64_t gen)
{
	struct repl_disk_opts o = opts_of(r);
	struct repl_slot_state st;
	struct uuid u = vol_uuid(0);

	r->e = e;
	r->d = must_open(e, "/d1", &o);
	ck_assert_int_eq(repl_slot_open(r->d, &u, gen, SEG, &r->s, &st, NULL), 0);
	r->last = st.last_seq;
}

static void die(struct rig *r)
{
	simw_crash_at(&r->w, 0, false);
	fiber_sleep(r->e, NS_PER_S);
}

/* Write k goes to block k, is all k + 1, and is batch k. The power goes before anything is moved. */
static void write_all(struct env *e, void *arg)
{
	struct rig *r = arg;
	struct repl_disk_opts o = opts_of(r);

	ck_assert_int_eq(repl_disk_format(e, "/d1", &o, NULL), 0);
	open_slot(r, e, 1);
	for (unsigned k = 0; k < WRITES; k++)
		ck_assert_int_eq(write_fill(e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1, k + 1), 0);
	die(r);
}

static void read_log(struct env *e, struct rig *r)
{
	struct env_file *f;

	ck_assert_int_eq(env_open(e, r->log, ENV_O_DIRECT, &f), 0);
	ck_assert_int_eq(env_file_size(e, f, &r->size), 0);
	r->bytes = aligned_alloc(HCI_BLOCK, r->size);
	for (uint64_t off = 0; off < r->size; off += MiB)
		ck_assert_int_ge(fiber_read(e, f, r->bytes + off, MIN(MiB, r->size - off), off), 0);
	env_close(e, f);
}

static void find_batches(struct env *e, struct rig *r)
{
	struct logf_view v;

	read_log(e, r);
	r->n = 0;
	for (uint32_t b = RING; b < r->size / HCI_BLOCK; b += v.blocks) {
		if (logf_parse(r->bytes + (size_t)b * HCI_BLOCK, r->size - (uint64_t)b * HCI_BLOCK, &disk_uuid, &v))
			break;
		if (v.entries[0].kind != LOGF_WRITE)
			continue;
		r->at[r->n] = b;
		r->len[r->n] = v.blocks;
		r->hdr[r->n++] = v.hdr->hdr_blocks;
	}
}

static void write_log(struct env *e, struct rig *r)
{
	struct env_file *f;

	ck_assert_int_eq(env_open(e, r->log, ENV_O_DIRECT, &f), 0);
	for (uint64_t off = 0; off < r->size; off += MiB)
		ck_assert_int_ge(fiber_write(e, f, r->bytes + off, MIN(MiB, r->size - off), off, ENV_IO_DSYNC), 0);
	env_close(e, f);
	free(r->bytes);
}

static uint8_t *block_of(struct rig *r, unsigned batch, uint32_t k)
{
	return r->bytes + (size_t)(r->at[batch] + k) * HCI_BLOCK;
}

/* Each of the writes but those named reads as it was written; they are known to be damaged. */
static void expect(struct rig *r, const unsigned *bad, unsigned nbad)
{
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);

	for (unsigned k = 0; k < WRITES; k++) {
		bool is_bad = false;

		for (unsigned i = 0; i < nbad; i++)
			is_bad |= bad[i] == k;
		if (!is_bad)
			read_expect(r->e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1);
		else
			ck_assert_int_eq(io(r->e, r->s, REPL_READ, 0, k * HCI_BLOCK, HCI_BLOCK, p, 0, REPL_F_VERIFY),
					 HCI_E_CORRUPT);
	}
	mem_free_aligned(p);
}

static void run_all(struct rig *r, void (*damage)(struct env *e, void *arg), void (*look)(struct env *e, void *arg))
{
	simw_begin(&r->w, 3, 64 * MiB);
	if (r->ext)
		sim_disk_new(r->w.node, "/ssd", 16 * MiB);
	r->log = r->ext ? "/ssd/hci-d1020300-0000-0000-0000-000000000000.log" : "/d1/log";
	ck_assert(!simw_run(&r->w, write_all, r));
	ck_assert(simw_run(&r->w, damage, r));
	simw_run(&r->w, look, r);
	simw_end(&r->w);
}

/* ---- data ---- */

static void rot_in_data(struct env *e, void *arg)
{
	struct rig *r = arg;

	find_batches(e, r);
	ck_assert_uint_eq(r->n, WRITES);
	block_of(r, 20, r->hdr[20])[77] ^= 4;
	block_of(r, 21, r->hdr[21])[0] ^= 0x80;
	write_log(e, r);
}

static void two_are_bad(struct env *e, void *arg)
{
	static const unsigned bad[] = { 20, 21 };
	struct repl_disk_opts o = disk_opts();
	struct rig *r = arg;

	for (unsigned round = 0; round < 2; round++) { /* and again: nothing was written before */
		open_slot(r, e, 2 + round);
		ck_assert_uint_eq(r->last, WRITES);
		expect(r, bad, 2);
		repl_slot_put(r->s);
		repl_disk_close(r->d, true);
	}
	/* Moved to its place it is as bad, until it is written anew. */
	open_slot(r, e, 5);
	fiber_sleep(e, NS_PER_S);
	expect(r, bad, 2);
	ck_assert_int_eq(write_fill(e, r->s, 0, 20 * HCI_BLOCK, HCI_BLOCK, 21, WRITES + 1), 0);
	expect(r, bad + 1, 1);
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
	r->d = must_open(e, "/d1", &o);
	repl_disk_close(r->d, false);
}

START_TEST(damaged_data_are_found_out_and_the_rest_is_there)
{
	struct rig r = { 0 };

	run_all(&r, rot_in_data, two_are_bad);
}
END_TEST

/* ---- headers ---- */

static void rot_in_headers(struct env *e, void *arg)
{
	struct rig *r = arg;

	find_batches(e, r);
	block_of(r, 0, 0)[40] ^= 1;
	block_of(r, 7, 0)[9] ^= 1; /* the CRC itself */
	block_of(r, 9, 0)[200] ^= 1;
	memset(block_of(r, 30, 0), 0, HCI_BLOCK);
	write_log(e, r);
}

static void all_is_there(struct env *e, void *arg)
{
	struct rig *r = arg;

	open_slot(r, e, 2);
	ck_assert_uint_eq(r->last, WRITES);
	expect(r, NULL, 0);
	fiber_sleep(e, NS_PER_S);
	expect(r, NULL, 0);
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
}

START_TEST(damaged_header_costs_nothing)
{
	struct rig r = { .ext = _i };

	run_all(&r, rot_in_headers, all_is_there);
}
END_TEST

static void rot_in_two_headers(struct env *e, void *arg)
{
	struct rig *r = arg;

	find_batches(e, r);
	block_of(r, 12, 0)[40] ^= 1;
	block_of(r, 13, 0)[40] ^= 1;
	write_log(e, r);
}

static void refused(struct env *e, void *arg)
{
	struct rig *r = arg;
	struct repl_disk_opts o = opts_of(r);
	struct hci_error err = { 0 };

	for (unsigned k = 0; k < 2; k++)
		ck_assert_int_eq(repl_disk_open(e, "/d1", &o, &r->d, &err), r->ext ? HCI_E_STATE : HCI_E_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.message, "acknowledged"));
	r->refused++;
}

/* Nobody knows what was written: it must not be passed over. */
START_TEST(two_damaged_headers_refuse_the_disk)
{
	struct rig r = { .ext = _i };

	run_all(&r, rot_in_two_headers, refused);
	ck_assert_uint_eq(r.refused, 1);
}
END_TEST

/* ---- the superblock ---- */

/* The copy that was written last; the one before it says what the disk was like before it was opened. */
static void rot_in_super(struct env *e, void *arg)
{
	uint8_t *pair = mem_alloc_aligned(2 * HCI_BLOCK);
	uint64_t serial[2];
	struct env_file *f;
	unsigned last;

	(void)arg;
	ck_assert_int_eq(env_open(e, "/d1/superblock", ENV_O_DIRECT, &f), 0);
	ck_assert_int_eq(fiber_read(e, f, pair, 2 * HCI_BLOCK, 0), 2 * HCI_BLOCK);
	for (unsigned i = 0; i < 2; i++)
		memcpy(&serial[i], pair + i * HCI_BLOCK + 16, sizeof(serial[i]));
	last = serial[1] > serial[0];
	pair[last * HCI_BLOCK + 500] ^= 1;
	ck_assert_int_eq(fiber_write(e, f, pair, 2 * HCI_BLOCK, 0, ENV_IO_DSYNC), 2 * HCI_BLOCK);
	env_close(e, f);
	mem_free_aligned(pair);
}

/* Once more, without anything being moved: what was written since is of another epoch. */
static void overwrite_all(struct env *e, void *arg)
{
	struct rig *r = arg;

	open_slot(r, e, 2);
	for (unsigned k = 0; k < WRITES; k++)
		ck_assert_int_eq(write_fill(e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)(k + 2), WRITES + k + 1), 0);
	die(r);
}

static void all_is_new(struct env *e, void *arg)
{
	struct rig *r = arg;

	open_slot(r, e, 3);
	ck_assert_uint_eq(r->last, 2 * WRITES);
	for (unsigned k = 0; k < WRITES; k++)
		read_expect(e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 2);
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
}

/* It looks like an opening that was cut off, or like a disk that was closed: its log counts all the same. */
START_TEST(damaged_superblock_does_not_hide_the_log)
{
	struct rig r = { .ext = _i };

	run_all(&r, rot_in_super, all_is_there);
}
END_TEST

START_TEST(damaged_superblock_does_not_hide_the_last_epoch)
{
	struct rig r = { .ext = _i };

	simw_begin(&r.w, 3, 64 * MiB);
	if (r.ext)
		sim_disk_new(r.w.node, "/ssd", 16 * MiB);
	ck_assert(!simw_run(&r.w, write_all, &r));
	ck_assert(!simw_run(&r.w, overwrite_all, &r));
	ck_assert(simw_run(&r.w, rot_in_super, &r));
	ck_assert(simw_run(&r.w, all_is_new, &r));
	simw_end(&r.w);
}
END_TEST

/* ---- the end ---- */

static void tear_the_last(struct env *e, void *arg)
{
	struct rig *r = arg;

	find_batches(e, r);
	block_of(r, WRITES - 1, 0)[40] ^= 1;
	write_log(e, r);
}

static void one_is_missing(struct env *e, void *arg)
{
	struct rig *r = arg;

	open_slot(r, e, 2);
	ck_assert_uint_eq(r->last, WRITES - 1);
	read_expect(e, r->s, 0, (WRITES - 1) * HCI_BLOCK, HCI_BLOCK, 0);
	read_expect(e, r->s, 0, (WRITES - 2) * HCI_BLOCK, HCI_BLOCK, WRITES - 1);
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
}

START_TEST(last_batch_may_be_torn)
{
	struct rig r = { 0 };

	run_all(&r, tear_the_last, one_is_missing);
}
END_TEST

/* As a guest could, who knows everything but the key: its data say that they are a header, and that all was durable. */
static void forge(struct env *e, void *arg)
{
	struct rig *r = arg;
	static struct logf_batch b;
	uint64_t *key;

	find_batches(e, r);
	memcpy(&b.disk, &disk_uuid, sizeof(b.disk));
	b.lsn = ((const struct logf_hdr *)block_of(r, WRITES - 1, 0))->lsn + 1;
	b.epoch = 1;
	b.durable = b.lsn - 1;
	memset(block_of(r, WRITES - 1, 0), 0, HCI_BLOCK);
	logf_encode(&b, block_of(r, WRITES - 1, r->hdr[WRITES - 1]));
	key = &((struct logf_hdr *)block_of(r, WRITES - 2, 0))->key;
	ck_assert_uint_ne(*key, 0);
	write_log(e, r);
}

START_TEST(data_do_not_pass_for_headers)
{
	struct rig r = { 0 };

	run_all(&r, forge, one_is_missing);
}
END_TEST

/* ---- any bit ---- */

struct many {
	struct repl_op op;
	struct rig *r;
	uint8_t *buf;
};

static void many_done(struct repl_op *op)
{
	ck_assert_int_eq(op->status, 0);
	mem_free_aligned(container_of(op, struct many, op)->buf);
}

/* Several batches in flight, of several writes each; some pass the log, some zero. */
static void write_many(struct env *e, void *arg)
{
	struct rig *r = arg;
	struct repl_disk_opts o = opts_of(r);
	struct many *m = calloc(WRITES, sizeof(*m));

	ck_assert_int_eq(repl_disk_format(e, "/d1", &o, NULL), 0);
	open_slot(r, e, 1);
	for (unsigned k = 0; k < WRITES; k++) {
		m[k].r = r;
		m[k].buf = mem_alloc_aligned(HCI_BLOCK);
		memset(m[k].buf, (int)k + 1, HCI_BLOCK);
		m[k].op = (struct repl_op){ .kind = REPL_WRITE, .slot = r->s, .off = k * HCI_BLOCK, .len = HCI_BLOCK,
					    .buf = m[k].buf, .seq = k + 1, .done = many_done };
		repl_submit(&m[k].op);
		if (sim_rand_below(r->w.sim, 2))
			fiber_sleep(e, sim_rand_below(r->w.sim, 200 * NS_PER_US));
	}
	fiber_sleep(e, 100 * NS_PER_MS);
	/* What is flipped below is followed by some that were begun later. */
	for (unsigned k = 0; k < UNPROVEN; k++)
		ck_assert_int_eq(write_fill(e, r->s, 1, 0, HCI_BLOCK, 1, WRITES + 1 + k), 0);
	free(m);
	die(r);
}

static void flip_any(struct env *e, void *arg)
{
	struct rig *r = arg;
	uint64_t first, last, bit;

	find_batches(e, r);
	ck_assert_uint_gt(r->n, UNPROVEN + 1);
	first = (uint64_t)RING * HCI_BLOCK; /* the fence's as well */
	last = (uint64_t)r->at[r->n - UNPROVEN] * HCI_BLOCK;
	bit = sim_rand_below(r->w.sim, (last - first) * 8);
	r->bytes[first + bit / 8] ^= (uint8_t)(1u << bit % 8);
	write_log(e, r);
}

static void at_most_one_is_bad(struct env *e, void *arg)
{
	struct rig *r = arg;
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);
	unsigned bad = 0;

	open_slot(r, e, 2);
	ck_assert_uint_eq(r->last, WRITES + UNPROVEN);
	for (unsigned k = 0; k < WRITES; k++) {
		int rc = io(e, r->s, REPL_READ, 0, k * HCI_BLOCK, HCI_BLOCK, p, 0, REPL_F_VERIFY);

		ck_assert(rc == 0 || rc == HCI_E_CORRUPT);
		bad += rc == HCI_E_CORRUPT;
		for (unsigned i = 0; !rc && i < HCI_BLOCK; i++)
			ck_assert_uint_eq(p[i], k + 1);
	}
	ck_assert_uint_le(bad, 1);
	mem_free_aligned(p);
	repl_slot_put(r->s);
	repl_disk_close(r->d, false);
}

START_TEST(any_bit_may_flip)
{
	struct rig r = { .log = "/d1/log" };

	simw_begin(&r.w, (uint64_t)_i, 64 * MiB);
	ck_assert(!simw_run(&r.w, write_many, &r));
	ck_assert(simw_run(&r.w, flip_any, &r));
	ck_assert(simw_run(&r.w, at_most_one_is_bad, &r));
	simw_end(&r.w);
}
END_TEST

/* With several batches in flight those right behind a damaged one do not say that it was durable. */
static void flip_two_headers(struct env *e, void *arg)
{
	struct rig *r = arg;
	unsigned k;

	find_batches(e, r);
	ck_assert_uint_gt(r->n, 2 * UNPROVEN);
	k = (unsigned)sim_rand_below(r->w.sim, r->n - UNPROVEN - 2);
	block_of(r, k, 0)[40] ^= 1;
	block_of(r, k + 2, 0)[40] ^= 1;
	write_log(e, r);
}

static void none_is_bad(struct env *e, void *arg)
{
	struct rig *r = arg;

	for (unsigned round = 0; round < 2; round++) {
		open_slot(r, e, 2 + round);
		ck_assert_uint_eq(r->last, WRITES + UNPROVEN);
		expect(r, NULL, 0);
		repl_slot_put(r->s);
		repl_disk_close(r->d, round == 0);
	}
}

START_TEST(a_header_and_the_next_but_one_cost_nothing)
{
	struct rig r = { .log = "/d1/log" };

	simw_begin(&r.w, (uint64_t)_i, 64 * MiB);
	ck_assert(!simw_run(&r.w, write_many, &r));
	ck_assert(simw_run(&r.w, flip_two_headers, &r));
	ck_assert(simw_run(&r.w, none_is_bad, &r));
	simw_end(&r.w);
}
END_TEST

/* ---- the checkpoint ---- */

#define MANY_BLOCKS (3 * 320u + 459)

/* More than the log holds since the last but one checkpoint: where that says the log begins was written over. n: closed in peace. */
static void write_round_and_round(struct env *e, void *arg)
{
	struct rig *r = arg;
	struct repl_disk_opts o = opts_of(r);

	ck_assert_int_eq(repl_disk_format(e, "/d1", &o, NULL), 0);
	open_slot(r, e, 1);
	for (unsigned k = 0; k < MANY_BLOCKS; k++) {
		ck_assert_int_eq(write_fill(e, r->s, 0, k % 1000 * HCI_BLOCK, HCI_BLOCK, (int)(k % 251) + 1, k + 1), 0);
		if (k < 3 * 320 && k % 320 == 319)
			fiber_sleep(e, NS_PER_S / 2);
	}
	if (r->n) {
		repl_slot_put(r->s);
		repl_disk_close(r->d, false);
	}
	die(r);
}

static void rot_in_ckpt(struct env *e, void *arg)
{
	struct rig *r = arg;
	uint64_t serial[2];

	read_log(e, r);
	for (unsigned i = 0; i < 2; i++)
		memcpy(&serial[i], r->bytes + i * HCI_BLOCK + 16, sizeof(serial[i]));
	r->bytes[(serial[1] > serial[0]) * HCI_BLOCK + 99] ^= 0x20;
	write_log(e, r);
}

static void round_is_there(struct env *e, void *arg)
{
	struct rig *r = arg;

	for (unsigned round = 0; round < 3; round++) {
		open_slot(r, e, 2 + round);
		ck_assert_uint_eq(r->last, MANY_BLOCKS);
		for (unsigned k = MANY_BLOCKS - 1000; k < MANY_BLOCKS; k++)
			read_expect(e, r->s, 0, k % 1000 * HCI_BLOCK, HCI_BLOCK, (int)(k % 251) + 1);
		repl_slot_put(r->s);
		repl_disk_close(r->d, round < 2);
	}
}

START_TEST(damaged_checkpoint_costs_nothing)
{
	struct rig r = { .ext = _i % 2, .n = (unsigned)_i / 2, .level = 90 };

	simw_begin(&r.w, 3, 64 * MiB);
	if (r.ext)
		sim_disk_new(r.w.node, "/ssd", 16 * MiB);
	r.log = r.ext ? "/ssd/hci-d1020300-0000-0000-0000-000000000000.log" : "/d1/log";
	ck_assert(!simw_run(&r.w, write_round_and_round, &r));
	ck_assert(simw_run(&r.w, rot_in_ckpt, &r));
	ck_assert(simw_run(&r.w, round_is_there, &r));
	simw_end(&r.w);
}
END_TEST

static Suite *suite(void)
{
	const char *many = getenv("HCI_SEEDS");
	Suite *s = suite_create("rot in the write log");
	TCase *t = tcase_create("batches");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, damaged_data_are_found_out_and_the_rest_is_there);
	tcase_add_loop_test(t, damaged_header_costs_nothing, 0, 2);
	tcase_add_loop_test(t, two_damaged_headers_refuse_the_disk, 0, 2);
	tcase_add_loop_test(t, damaged_superblock_does_not_hide_the_log, 0, 2);
	tcase_add_loop_test(t, damaged_superblock_does_not_hide_the_last_epoch, 0, 2);
	tcase_add_loop_test(t, a_header_and_the_next_but_one_cost_nothing, 0, 40);
	tcase_add_loop_test(t, damaged_checkpoint_costs_nothing, 0, 4);
	tcase_add_test(t, last_batch_may_be_torn);
	tcase_add_test(t, data_do_not_pass_for_headers);
	tcase_add_loop_test(t, any_bit_may_flip, 1, many ? atoi(many) : 40);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
