/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a medium does to data behind our back, by hand in the files of a real disk: flipped bits, blocks that changed
 * places, blocks that are as they were before. Each is told instead of returned, by a read and by the scrub, and
 * ends when the block is written anew.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/uuid.h"
#include "unit/replica/world.h"

#define SEG (4 * MiB)
#define REAL(name)                                                \
	static void name##_body(struct env *e, const char *path); \
	START_TEST(name)                                          \
	{                                                         \
		real_run(name##_body);                            \
	}                                                         \
	END_TEST                                                  \
	static void name##_body(struct env *e, const char *path)

static int seg_file(const char *path, const char *suffix)
{
	char full[512], u[HCI_UUID_STR];
	struct uuid v = vol_uuid(1);
	int fd;

	uuid_print(&v, u);
	snprintf(full, sizeof(full), "%s/vol/%s/00000000.%s", path, u, suffix);
	fd = open(full, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void get(const char *path, uint64_t block, uint8_t *p)
{
	int fd = seg_file(path, "seg");

	ck_assert_int_eq(pread(fd, p, HCI_BLOCK, (off_t)(block * HCI_BLOCK)), HCI_BLOCK);
	close(fd);
}

static void put(const char *path, uint64_t block, const uint8_t *p)
{
	int fd = seg_file(path, "seg");

	ck_assert_int_eq(pwrite(fd, p, HCI_BLOCK, (off_t)(block * HCI_BLOCK)), HCI_BLOCK);
	close(fd);
}

struct rig {
	struct env *e;
	const char *path;
	struct repl_disk_opts o;
	struct repl_disk *d;
	struct repl_slot *s;
	uint64_t seq;
};

static void rig_open(struct rig *r)
{
	struct hci_error err;

	ck_assert_msg(repl_disk_open(r->e, r->path, &r->o, &r->d, &err) == 0, "%s", err.message);
	r->s = must_slot(r->d, 1, 1, SEG);
}

static void rig_close(struct rig *r, bool abandon)
{
	repl_slot_put(r->s);
	repl_disk_close(r->d, abandon);
}

/* Blocks 0..63 with their own contents, in the segment file. */
static void rig_begin(struct rig *r, struct env *e, const char *path)
{
	struct hci_error err;

	*r = (struct rig){ .e = e, .path = path, .o = disk_opts() };
	ck_assert_int_eq(repl_disk_format(e, path, &r->o, &err), 0);
	rig_open(r);
	for (unsigned k = 0; k < 64; k++)
		ck_assert_int_eq(write_fill(e, r->s, 0, k * HCI_BLOCK, HCI_BLOCK, (int)k + 1, ++r->seq), 0);
	disk_settle(e, r->d);
}

static int read_one(struct rig *r, uint64_t block)
{
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);
	int rc = io(r->e, r->s, REPL_READ, 0, block * HCI_BLOCK, HCI_BLOCK, p, 0, 0);

	mem_free_aligned(p);
	return rc;
}

/* A whole pass; the blocks that it found damaged. */
static uint64_t scrub(struct rig *r)
{
	struct repl_scrub_info i;
	uint64_t passes;

	repl_scrub_info(r->d, &i);
	passes = i.passes;
	repl_scrub_start(r->d);
	do {
		fiber_sleep(r->e, 5 * NS_PER_MS);
		repl_scrub_info(r->d, &i);
	} while (i.passes == passes);
	return i.corrupt;
}

/* After a restart too, and until it is written anew. */
static void expect_bad(struct rig *r, uint64_t bad, unsigned n)
{
	struct repl_region out[8];

	for (unsigned round = 0; round < 2; round++) {
		ck_assert_int_eq(read_one(r, bad), HCI_E_CORRUPT);
		ck_assert_int_eq(read_one(r, 63), 0);
		ck_assert_uint_eq(scrub(r), n);
		ck_assert(repl_has_rotten(r->d, &(struct uuid){ { 1, 0x77 } }));
		ck_assert_uint_ge(repl_rotten(r->s, out, 8), 1);
		ck_assert_uint_eq(out[0].region, bad / 16);
		ck_assert_uint_eq(repl_rotten(r->s, out, 8), 0);
		rig_close(r, round);
		rig_open(r);
	}
	ck_assert_int_eq(write_fill(r->e, r->s, 0, bad * HCI_BLOCK, HCI_BLOCK, 77, ++r->seq), 0);
	disk_settle(r->e, r->d);
	read_expect(r->e, r->s, 0, bad * HCI_BLOCK, HCI_BLOCK, 77);
}

REAL(flipped_bits_are_found)
{
	uint8_t p[HCI_BLOCK];
	struct rig r;

	rig_begin(&r, e, path);
	get(path, 5, p);
	p[1234] ^= 0x10;
	put(path, 5, p);
	expect_bad(&r, 5, 1);
	ck_assert_uint_eq(scrub(&r), 0);
	rig_close(&r, false);
}

/* A list of it that stayed would keep the volume's repair looking for a copy that is gone. */
REAL(what_was_dropped_is_no_longer_rotten)
{
	struct uuid u = vol_uuid(1);
	struct repl_scrub_info i;
	struct hci_error err;
	uint8_t p[HCI_BLOCK];
	struct rig r;

	rig_begin(&r, e, path);
	for (unsigned round = 0; round < 2; round++) {
		get(path, 5, p);
		p[7] ^= 1;
		put(path, 5, p);
		ck_assert_uint_eq(scrub(&r), 1);
		ck_assert(repl_has_rotten(r.d, &u));
		if (round == 0)
			ck_assert_int_eq(repl_slot_drop(r.s, 0, &err), 0);
		else
			ck_assert_int_eq(repl_drop(r.d, &u, UINT32_MAX, REPL_GEN_MAX, &err), 0);
		repl_scrub_info(r.d, &i);
		ck_assert(!repl_has_rotten(r.d, &u) && i.rotten == 0);
		if (round == 0) {
			ck_assert_int_eq(write_fill(e, r.s, 0, 0, 64 * HCI_BLOCK, 9, ++r.seq), 0);
			disk_settle(e, r.d);
		}
	}
	rig_close(&r, false);
}

REAL(misdirected_writes_are_found)
{
	uint8_t a[HCI_BLOCK], b[HCI_BLOCK];
	struct rig r;

	rig_begin(&r, e, path);
	get(path, 17, a);
	get(path, 18, b);
	put(path, 18, a);
	put(path, 17, b);
	expect_bad(&r, 17, 2);
	expect_bad(&r, 18, 1);
	rig_close(&r, false);
}

REAL(lost_writes_are_found)
{
	uint8_t old[HCI_BLOCK];
	struct rig r;

	rig_begin(&r, e, path);
	get(path, 40, old);
	ck_assert_int_eq(write_fill(e, r.s, 0, 40 * HCI_BLOCK, HCI_BLOCK, 99, ++r.seq), 0);
	disk_settle(e, r.d);
	read_expect(e, r.s, 0, 40 * HCI_BLOCK, HCI_BLOCK, 99);
	put(path, 40, old);
	expect_bad(&r, 40, 1);
	rig_close(&r, false);
}

/* Both copies of the checksums are gone: nothing that they covered is returned unchecked, and zeroes stay zeroes. */
REAL(lost_checksums_are_no_excuse)
{
	static const uint8_t junk[2 * HCI_BLOCK] = { 1, 2, 3 };
	struct rig r;
	int fd;

	rig_begin(&r, e, path);
	rig_close(&r, false);
	fd = seg_file(path, "map");
	ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), 2 * HCI_BLOCK), sizeof(junk));
	close(fd);
	rig_open(&r);
	ck_assert_int_eq(read_one(&r, 0), HCI_E_CORRUPT);
	read_expect(e, r.s, 0, 64 * HCI_BLOCK, HCI_BLOCK, 0);
	ck_assert_uint_eq(scrub(&r), 64);
	ck_assert_int_eq(write_fill(e, r.s, 0, 0, HCI_BLOCK, 7, ++r.seq), 0);
	disk_settle(e, r.d);
	read_expect(e, r.s, 0, 0, HCI_BLOCK, 7);
	ck_assert_uint_eq(scrub(&r), 63);
	rig_close(&r, false);
	rig_open(&r);
	read_expect(e, r.s, 0, 0, HCI_BLOCK, 7);
	ck_assert_int_eq(read_one(&r, 1), HCI_E_CORRUPT);
	rig_close(&r, false);
}

/* The newer copy is damaged: the older one says what a block had before, which another replica may have still. */
REAL(checksums_of_what_was_are_no_proof)
{
	uint8_t pair[2 * HCI_BLOCK], *p = mem_alloc_aligned(2 * HCI_BLOCK);
	uint64_t serial[2];
	uint32_t sums[2];
	struct rig r;
	int fd;

	rig_begin(&r, e, path);
	ck_assert_int_eq(write_fill(e, r.s, 0, 5 * HCI_BLOCK, HCI_BLOCK, 99, ++r.seq), 0);
	disk_settle(e, r.d);
	rig_close(&r, false);
	fd = seg_file(path, "map");
	ck_assert_int_eq(pread(fd, pair, sizeof(pair), 2 * HCI_BLOCK), sizeof(pair));
	memcpy(&serial[0], pair + 16, sizeof(serial[0]));
	memcpy(&serial[1], pair + HCI_BLOCK + 16, sizeof(serial[1]));
	ck_assert(serial[0] && serial[1]);
	pair[(serial[1] > serial[0]) * HCI_BLOCK + 3000] ^= 4;
	ck_assert_int_eq(pwrite(fd, pair, sizeof(pair), 2 * HCI_BLOCK), sizeof(pair));
	close(fd);
	for (unsigned round = 0; round < 3; round++) {
		rig_open(&r);
		ck_assert_int_eq(io_sums(e, r.s, REPL_READ, 0, 4 * HCI_BLOCK, 2 * HCI_BLOCK, p, 0, REPL_F_VERIFY, sums),
				 HCI_E_CORRUPT);
		ck_assert_uint_eq(sums[0], block_sum(p));
		ck_assert_uint_eq(p[HCI_BLOCK], 99);
		ck_assert_uint_eq(sums[1], SUM_LOST);
		disk_settle(e, r.d);
		rig_close(&r, round == 1);
	}
	mem_free_aligned(p);
}

/* The region table is gone: it is made anew from the checksums, and everything reads as it did. */
REAL(lost_tables_are_made_anew)
{
	static const uint8_t junk[2 * HCI_BLOCK] = { 1, 2, 3 };
	struct repl_region cur = { 0 }, out[64];
	struct rig r;
	uint32_t n;
	int fd;

	rig_begin(&r, e, path);
	ck_assert_int_eq(io(e, r.s, REPL_ZERO, 0, 16 * HCI_BLOCK, 16 * HCI_BLOCK, NULL, ++r.seq, 0), 0);
	disk_settle(e, r.d);
	rig_close(&r, false);
	fd = seg_file(path, "map");
	ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	close(fd);
	for (unsigned round = 0; round < 3; round++) {
		rig_open(&r);
		for (unsigned k = 0; k < 70; k++)
			read_expect(e, r.s, 0, k * HCI_BLOCK, HCI_BLOCK, k < 64 && k / 16 != 1 ? (int)k + 1 : 0);
		memset(&cur, 0, sizeof(cur));
		n = repl_regions(r.s, r.seq - 1, 0, &cur, out, 64);
		ck_assert_uint_eq(n, 64); /* any of them may be the newest */
		ck_assert(!(out[0].seq & REPL_SEQ_ZERO) && out[1].seq & REPL_SEQ_ZERO);
		ck_assert_uint_eq(scrub(&r), 0);
		rig_close(&r, round == 1);
	}
}

/* More data than the cache has checksums for: they come and go. */
REAL(a_small_cache_is_enough)
{
	struct rig r;
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);
	const unsigned segs = 320;

	r = (struct rig){ .e = e, .path = path, .o = disk_opts() };
	r.o.log_size = 32 * MiB;
	r.o.sums_cache = 1;
	ck_assert_int_eq(repl_disk_format(e, path, &r.o, NULL), 0);
	rig_open(&r);
	for (unsigned k = 0; k < segs; k++)
		ck_assert_int_eq(write_fill(e, r.s, k, (k % 2) * (SEG - HCI_BLOCK), HCI_BLOCK, (int)(k % 200) + 1, ++r.seq),
				 0);
	disk_settle(e, r.d);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned k = 0; k < segs; k++)
			read_expect(e, r.s, k, (k % 2) * (SEG - HCI_BLOCK), HCI_BLOCK, (int)(k % 200) + 1);
		rig_close(&r, false);
		rig_open(&r);
	}
	ck_assert_uint_eq(scrub(&r), 0);
	rig_close(&r, false);
	mem_free_aligned(p);
}

/* A pass goes on where it was, after a restart; by itself when its time has come. */
REAL(a_scrub_goes_on)
{
	struct repl_scrub_info i;
	uint64_t done;
	struct rig r;

	rig_begin(&r, e, path);
	for (unsigned k = 0; k < 64; k++)
		ck_assert_int_eq(write_fill(e, r.s, k, 0, MiB, 5, ++r.seq), 0);
	disk_settle(e, r.d);
	repl_scrub_set(r.d, 0, 8 * MiB);
	repl_scrub_start(r.d);
	fiber_sleep(e, NS_PER_S);
	repl_scrub_info(r.d, &i);
	ck_assert(i.running && i.started > i.finished);
	ck_assert_uint_ge(i.done, MiB);
	ck_assert_uint_le(i.done, 16 * MiB);
	ck_assert_uint_ge(i.total, 64 * MiB);
	rig_close(&r, false);
	done = i.done;
	rig_open(&r);
	repl_scrub_set(r.d, NS_PER_S, 200 * MiB);
	do {
		fiber_sleep(e, 10 * NS_PER_MS);
		repl_scrub_info(r.d, &i);
		ck_assert(i.passes || !i.done || i.done >= done); /* not from the beginning */
	} while (!i.passes);
	while (i.passes < 2) {
		fiber_sleep(e, 10 * NS_PER_MS);
		repl_scrub_info(r.d, &i);
	}
	repl_scrub_set(r.d, UINT64_MAX, 0);
	rig_close(&r, false);
}

static Suite *suite(void)
{
	Suite *s = suite_create("replica sums");
	TCase *t = tcase_create("real");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, flipped_bits_are_found);
	tcase_add_test(t, what_was_dropped_is_no_longer_rotten);
	tcase_add_test(t, checksums_of_what_was_are_no_proof);
	tcase_add_test(t, misdirected_writes_are_found);
	tcase_add_test(t, lost_writes_are_found);
	tcase_add_test(t, lost_checksums_are_no_excuse);
	tcase_add_test(t, lost_tables_are_made_anew);
	tcase_add_test(t, a_small_cache_is_enough);
	tcase_add_test(t, a_scrub_goes_on);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
