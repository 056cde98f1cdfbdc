/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in a real directory: making, opening, reading and writing, fencing, dropping. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "unit/replica/world.h"

#define SEG MiB
#define REAL(name)                                                \
	static void name##_body(struct env *e, const char *path); \
	START_TEST(name)                                          \
	{                                                         \
		real_run(name##_body);                            \
	}                                                         \
	END_TEST                                                  \
	static void name##_body(struct env *e, const char *path)

static void damage(const char *path, const char *name, long off, size_t len)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", path, name);
	f = fopen(full, "r+");
	ck_assert_ptr_nonnull(f);
	fseek(f, off, SEEK_SET);
	while (len--)
		fputc(0x5a, f);
	fclose(f);
}

static int open_code(struct env *e, const char *path, const struct repl_disk_opts *o)
{
	struct repl_disk *d = (void *)1;
	struct hci_error err = { 0 };
	int rc = repl_disk_open(e, path, o, &d, &err);

	ck_assert_ptr_null(rc ? d : NULL);
	ck_assert_int_eq(err.code, rc);
	ck_assert_ptr_nonnull(strstr(err.message, path));
	return rc;
}

REAL(refuses_what_is_no_disk)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d;
	struct hci_error err;

	ck_assert_int_eq(open_code(e, path, &o), HCI_E_NOTFOUND);
	d = must_format_open(e, path, &o);
	ck_assert_int_eq(repl_disk_format(e, path, &o, &err), HCI_E_EXISTS);
	ck_assert_int_eq(open_code(e, path, &o), HCI_E_BUSY);
	repl_disk_close(d, false);
	o.cluster.b[0] = 9;
	ck_assert_int_eq(open_code(e, path, &o), HCI_E_AUTH);
	o = disk_opts();
	o.uuid.b[0] = 9;
	ck_assert_int_eq(open_code(e, path, &o), HCI_E_NOTFOUND);
	o = disk_opts();
	damage(path, "superblock", 100, 4);
	d = must_open(e, path, &o); /* one copy is enough */
	repl_disk_close(d, false);
	damage(path, "superblock", 100, 4);
	damage(path, "superblock", 4196, 4);
	ck_assert_int_eq(open_code(e, path, &o), HCI_E_CORRUPT);
}

/* Until all is in the segments. */
REAL(keeps_what_was_written)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 3, SEG);
	struct repl_disk_info i;

	read_expect(e, s, 0, 0, 64 * KiB, 0);
	ck_assert_int_eq(write_fill(e, s, 0, 0, SEG, 1, 1), 0);
	ck_assert_int_eq(write_fill(e, s, 0, 8192, 4096, 2, 2), 0);
	ck_assert_int_eq(write_fill(e, s, 7, 4096, 4096, 3, 3), 0);
	for (unsigned pass = 0; pass < 3; pass++) {
		read_expect(e, s, 0, 0, 8192, 1);
		read_expect(e, s, 0, 8192, 4096, 2);
		read_expect(e, s, 0, 12288, SEG - 12288, 1);
		read_expect(e, s, 7, 0, 4096, 0);
		read_expect(e, s, 7, 4096, 4096, 3);
		read_expect(e, s, 7, 8192, 4096, 0);
		repl_disk_info(d, &i);
		ck_assert_uint_eq(i.segments, 2);
		if (pass == 0) {
			disk_settle(e, d);
		} else if (pass == 1) {
			repl_slot_put(s);
			repl_disk_close(d, false);
			d = must_open(e, path, &o);
			s = must_slot(d, 1, 4, SEG);
		}
	}
	repl_slot_put(s);
	repl_disk_close(d, false);
}

REAL(replays_its_log)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 3, SEG);

	for (unsigned k = 0; k < 100; k++)
		ck_assert_int_eq(write_fill(e, s, k % 3, k * 8192, 4096, (int)k + 1, k + 1), 0);
	repl_slot_put(s);
	repl_disk_close(d, true); /* the log stays as it is */
	d = must_open(e, path, &o);
	s = must_slot(d, 1, 3, SEG);
	for (unsigned k = 0; k < 100; k++)
		read_expect(e, s, k % 3, k * 8192, 4096, (int)k + 1);
	repl_slot_put(s);
	repl_disk_close(d, false);
}

static void third_was_in_flight(const char *path)
{
	uint8_t block[HCI_BLOCK] __attribute__((aligned(8)));
	char name[160];
	int fd;

	snprintf(name, sizeof(name), "%s/log", path);
	fd = open(name, O_RDWR);
	ck_assert_int_eq(pread(fd, block, sizeof(block), 4 * HCI_BLOCK), HCI_BLOCK);
	in_flight_with(block, 2);
	ck_assert_int_eq(pwrite(fd, block, sizeof(block), 4 * HCI_BLOCK), HCI_BLOCK);
	close(fd);
}

/* A batch that made it to the medium while the one before it was lost was never acknowledged; it
 * must not be taken for the successor of what is written in the lost one's place later. */
REAL(leftovers_do_not_come_back)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *a = must_slot(d, 1, 1, SEG), *b = must_slot(d, 1, 2, SEG);

	ck_assert_int_eq(write_fill(e, b, 0, 0, 4096, 5, 1), 0);
	repl_slot_put(a);
	repl_slot_put(b);
	repl_disk_close(d, true);
	damage(path, "log", 8192 + 4096 + 40,
	       4); /* the second batch, as if it had not been written */
	third_was_in_flight(path);
	d = must_open(e, path, &o);
	a = must_slot(d, 1, 3, SEG); /* takes its place and its number */
	read_expect(e, a, 0, 0, 4096, 0);
	repl_slot_put(a);
	repl_disk_close(d, true);
	d = must_open(e, path, &o);
	a = must_slot(d, 1, 4, SEG);
	read_expect(e, a, 0, 0, 4096, 0);
	repl_slot_put(a);
	repl_disk_close(d, false);
}

static uint64_t log_used(struct repl_disk *d)
{
	struct repl_disk_info i;

	repl_disk_info(d, &i);
	return i.log_used;
}

/* Whole regions: their data are not in the log, which is seen by its fill, and is all the same after each kind of end. */
REAL(large_writes_pass_the_log)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 1, 4 * SEG);
	uint64_t seq = 0;

	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 1, ++seq), 0); /* makes the volume's folder, in time */
	disk_settle(e, d);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned k = 0; k < 4; k++)
			ck_assert_int_eq(write_fill(e, s, 1, k * SEG, SEG, (int)(10 * round + k + 1), ++seq), 0);
		ck_assert_uint_le(log_used(d), 8 * 8192);
		for (unsigned k = 0; k < 4; k++)
			read_expect(e, s, 1, k * SEG, SEG, (int)(10 * round + k + 1));
		/* On top of it, the usual way, and where there is nothing any more. */
		ck_assert_int_eq(write_fill(e, s, 1, 8192, 4096, 99, ++seq), 0);
		ck_assert_int_eq(io(e, s, REPL_ZERO, 1, 2 * SEG, SEG, NULL, ++seq, 0), 0);
		ck_assert_int_eq(write_fill(e, s, 1, SEG, SEG, 77, ++seq), 0); /* over what is in the log still: through the log */
		for (unsigned pass = 0; pass < 3; pass++) {
			read_expect(e, s, 1, 0, 8192, (int)(10 * round + 1));
			read_expect(e, s, 1, 8192, 4096, 99);
			read_expect(e, s, 1, 12288, SEG - 12288, (int)(10 * round + 1));
			read_expect(e, s, 1, SEG, SEG, 77);
			read_expect(e, s, 1, 2 * SEG, SEG, 0);
			read_expect(e, s, 1, 3 * SEG, SEG, (int)(10 * round + 4));
			if (pass == 0 && round % 2) {
				repl_slot_put(s);
				repl_disk_close(d, true);
				d = must_open(e, path, &o);
				s = must_slot(d, 1, round + 2, 4 * SEG);
			} else {
				disk_settle(e, d);
			}
		}
		disk_settle(e, d);
	}
	repl_slot_put(s);
	repl_disk_close(d, false);
}

REAL(checks_requests)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 3, 4 * SEG), *ro;
	struct uuid u = vol_uuid(1), none = vol_uuid(9);
	struct hci_error err;
	uint8_t *p = mem_alloc_aligned(2 * MiB);

	memset(p, 1, 2 * MiB);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 512, 4096, p, 1, 0), HCI_E_ALIGN);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 100, p, 1, 0), HCI_E_ALIGN);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 0, p, 1, 0), HCI_E_ALIGN);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 4096, p + 512, 1, 0), HCI_E_ALIGN);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 4 * SEG, 4096, p, 1, 0), HCI_E_RANGE);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 4 * SEG - 4096, 8192, p, 1, 0), HCI_E_RANGE);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, UINT64_MAX - 4095, 8192, p, 1, 0), HCI_E_RANGE);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 2 * MiB, p, 1, 0), HCI_E_RANGE);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 4096, p, 0, 0), HCI_E_INVAL);
	ck_assert_int_eq(io(e, s, REPL_READ, 0, 4 * SEG, 4096, p, 0, 0), HCI_E_RANGE);
	ck_assert_int_eq(repl_slot_open_ro(d, &none, &ro, NULL, &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(repl_slot_open(d, &u, 3, SEG, &ro, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(repl_slot_open(d, &none, 3, 1000, &ro, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(repl_slot_open(d, &none, 0, SEG, &ro, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(repl_slot_open_ro(d, &u, &ro, NULL, &err), 0);
	ck_assert_int_eq(io(e, ro, REPL_WRITE, 0, 0, 4096, p, 1, 0), HCI_E_READONLY);
	ck_assert_int_eq(io(e, ro, REPL_READ, 0, 0, 4096, p, 0, 0), 0);
	repl_slot_put(ro);
	repl_slot_put(s);
	repl_disk_close(d, false);
	mem_free_aligned(p);
}

REAL(fences_older_writers)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *a = must_slot(d, 1, 5, SEG), *b, *c, *no;
	struct uuid u = vol_uuid(1);
	struct hci_error err;
	uint8_t *p = mem_alloc_aligned(4096);

	memset(p, 1, 4096);
	ck_assert_int_eq(repl_slot_open(d, &u, 4, SEG, &no, NULL, &err), HCI_E_FENCED);
	ck_assert_int_eq(write_fill(e, a, 0, 0, 4096, 1, 1), 0);
	b = must_slot(d, 1, 5, SEG); /* the same writer, after its connection broke */
	ck_assert_int_eq(io(e, a, REPL_WRITE, 0, 0, 4096, p, 2, 0), HCI_E_CLOSED);
	ck_assert_int_eq(write_fill(e, b, 0, 0, 4096, 2, 2), 0);
	c = must_slot(d, 1, 6, SEG);
	ck_assert_int_eq(io(e, b, REPL_WRITE, 0, 0, 4096, p, 3, 0), HCI_E_FENCED);
	ck_assert_int_eq(io(e, b, REPL_ZERO, 0, 0, 4096, NULL, 3, 0), HCI_E_FENCED);
	ck_assert_int_eq(io(e, b, REPL_READ, 0, 0, 4096, p, 0, 0), HCI_E_FENCED);
	ck_assert_int_eq(repl_drop(d, &u, 0, 5, &err), HCI_E_FENCED);
	read_expect(e, c, 0, 0, 4096, 2);
	repl_slot_put(a);
	repl_slot_put(b);
	repl_slot_put(c);
	repl_disk_close(d, true);
	d = must_open(e, path, &o); /* from the log */
	ck_assert_int_eq(repl_slot_open(d, &u, 5, SEG, &no, NULL, &err), HCI_E_FENCED);
	repl_disk_close(d, false);
	d = must_open(e, path, &o); /* from the slot's record */
	ck_assert_int_eq(repl_slot_open(d, &u, 5, SEG, &no, NULL, &err), HCI_E_FENCED);
	repl_disk_close(d, false);
	mem_free_aligned(p);
}

/* ---- regions ---- */

static uint64_t region_seq(struct repl_slot *s, uint32_t segment, uint32_t region)
{
	struct repl_region cur = { 0 }, out[3];
	uint32_t n;

	while ((n = repl_regions(s, 0, segment, &cur, out, 3)) > 0)
		for (uint32_t i = 0; i < n; i++)
			if (out[i].segment == segment && out[i].region == region)
				return out[i].seq;
	return 0;
}

static void check_seqs(struct env *e, struct repl_slot *s)
{
	struct repl_region cur = { 0 }, out[64];

	ck_assert_uint_eq(region_seq(s, 0, 0), 10);
	ck_assert_uint_eq(region_seq(s, 0, 1), 4); /* set */
	ck_assert_uint_eq(region_seq(s, 0, 2), 12 | REPL_SEQ_ZERO);
	ck_assert_uint_eq(region_seq(s, 0, 3),
			  13 | REPL_SEQ_ZERO); /* never written: a part is enough */
	ck_assert_uint_eq(region_seq(s, 0, 4), 0);
	ck_assert_uint_eq(region_seq(s, 0, 5), 15); /* zeroed, then written in part */
	ck_assert_uint_eq(region_seq(s, 0, 6), 17); /* written, then zeroed in part */
	ck_assert_uint_eq(region_seq(s, 2, 15), 18);
	ck_assert_uint_eq(repl_regions(s, 12, UINT32_MAX, &cur, out, 64), 4);
	ck_assert_uint_eq(repl_regions(s, 12, UINT32_MAX, &cur, out, 64), 0);
	read_expect(e, s, 0, 5 * REPL_REGION, 4096, 0);
	read_expect(e, s, 0, 5 * REPL_REGION + 4096, 4096, 9);
	read_expect(e, s, 0, 6 * REPL_REGION, 4096, 0);
	read_expect(e, s, 0, 6 * REPL_REGION + 4096, 4096, 7);
}

REAL(remembers_who_wrote_last)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	uint8_t *p = mem_alloc_aligned(REPL_REGION);

	memset(p, 7, REPL_REGION);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 0, 4096, p, 10, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 8192, 4096, p, 3, 0), 0); /* the larger stays */
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, REPL_REGION, REPL_REGION, p, 11, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, REPL_REGION, 4096, p, 4, REPL_F_SETSEQ), 0);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 0, 2 * REPL_REGION, REPL_REGION, NULL, 12, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 0, 3 * REPL_REGION, 4096, NULL, 13, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 5 * REPL_REGION, 4096, p, 14, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 0, 5 * REPL_REGION, REPL_REGION, NULL, 14, 0), 0);
	memset(p, 9, REPL_REGION);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 5 * REPL_REGION + 4096, 4096, p, 15, 0), 0);
	memset(p, 7, REPL_REGION);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 0, 6 * REPL_REGION, REPL_REGION, p, 16, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 0, 6 * REPL_REGION, 4096, NULL, 17, 0), 0);
	ck_assert_int_eq(io(e, s, REPL_WRITE, 2, SEG - 4096, 4096, p, 18, 0), 0);
	check_seqs(e, s);
	repl_slot_put(s);
	repl_disk_close(d, true);
	for (unsigned round = 0; round < 3; round++) { /* from the log, then from the tables */
		struct repl_slot_state st;
		struct uuid u = vol_uuid(1);
		struct hci_error err;

		d = must_open(e, path, &o);
		ck_assert_int_eq(repl_slot_open(d, &u, 1, SEG, &s, &st, &err), 0);
		ck_assert_uint_eq(st.last_seq, 18);
		check_seqs(e, s);
		repl_slot_put(s);
		repl_disk_close(d, false);
	}
	mem_free_aligned(p);
}

/* ---- dropping ---- */

static uint64_t held_bytes(struct repl_disk *d, size_t *n)
{
	struct repl_held *h;
	uint64_t bytes = 0;

	ck_assert_int_eq(repl_held(d, &h, n), 0);
	for (size_t i = 0; i < *n; i++)
		bytes += h[i].bytes;
	mem_free(h);
	return bytes;
}

REAL(drops)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 2, SEG), *t = must_slot(d, 2, 2, SEG);
	struct uuid u = vol_uuid(1);
	struct hci_error err;
	uint32_t *segs;
	size_t n;

	for (unsigned k = 0; k < 4; k++) {
		ck_assert_int_eq(write_fill(e, s, k, 0, SEG, 5, k + 1), 0);
		ck_assert_int_eq(write_fill(e, t, k, 0, 4096, 6, k + 1), 0);
	}
	disk_settle(e, d);
	ck_assert_int_eq(write_fill(e, s, 1, 0, 4096, 5, 9), 0);
	ck_assert_uint_eq(held_bytes(d, &n), 4 * SEG + 4 * REPL_REGION);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(repl_drop(d, &u, 1, 2, &err), 0);
	ck_assert_int_eq(repl_drop(d, &u, 1, 2, &err), 0); /* and again: nothing to do */
	read_expect(e, s, 1, 0, 8192, 0);
	ck_assert_uint_eq(region_seq(s, 1, 0), 0);
	ck_assert_int_eq(write_fill(e, s, 1, 4096, 4096, 8, 10), 0);
	ck_assert_int_eq(repl_drop(d, &u, 2, 2, &err), 0);
	ck_assert_int_eq(repl_segments(d, &u, &segs, &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(segs[1], 1);
	ck_assert_uint_eq(segs[2], 3);
	mem_free(segs);
	repl_slot_put(s);
	repl_slot_put(t);
	repl_disk_close(d, true);
	d = must_open(e, path, &o);
	s = must_slot(d, 1, 2, SEG);
	read_expect(e, s, 1, 0, 4096, 0);
	read_expect(e, s, 1, 4096, 4096, 8);
	read_expect(e, s, 2, 0, 4096, 0);
	read_expect(e, s, 3, 0, SEG, 5);
	ck_assert_int_eq(repl_drop(d, &u, UINT32_MAX, 2, &err), 0);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 1, 11), HCI_E_CLOSED);
	repl_slot_put(s);
	ck_assert_uint_eq(held_bytes(d, &n), 4 * REPL_REGION);
	ck_assert_uint_eq(n, 1);
	s = must_slot(d, 1, 2, 2 * SEG); /* a new life, of another kind */
	read_expect(e, s, 0, 0, 4096, 0);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 1, 1), 0);
	repl_slot_put(s);
	repl_disk_close(d, true);
	d = must_open(e, path, &o);
	s = must_slot(d, 1, 2, 2 * SEG);
	read_expect(e, s, 0, 0, 4096, 1);
	read_expect(e, s, 0, 4096, 4096, 0);
	repl_slot_put(s);
	repl_disk_close(d, false);
}

/* A writer's own drop: in the order of its requests, not after another opening, and the fence stays. */
REAL(a_writers_drop_is_bound_to_its_opening)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 2, SEG), *again, *old = NULL;
	struct uuid u = vol_uuid(1);
	struct hci_error err;

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 5, 1), 0);
	ck_assert_int_eq(repl_slot_drop(s, 0, &err), 0);
	read_expect(e, s, 0, 0, 8192, 0);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 6, 2), 0);
	again = must_slot(d, 1, 2, SEG);
	ck_assert_int_eq(write_fill(e, again, 0, 4096, 4096, 7, 3), 0);
	ck_assert_int_eq(repl_slot_drop(s, 0, &err), HCI_E_CLOSED);
	read_expect(e, again, 0, 0, 4096, 6);
	read_expect(e, again, 0, 4096, 4096, 7);
	/* Its last segment: the disk still knows that writers of generation 1 are over. */
	ck_assert_int_eq(repl_slot_drop(again, 0, &err), 0);
	repl_slot_put(s);
	repl_slot_put(again);
	repl_disk_close(d, false);
	d = must_open(e, path, &o);
	ck_assert_int_eq(repl_slot_open(d, &u, 1, SEG, &old, NULL, &err), HCI_E_FENCED);
	repl_disk_close(d, true);
}

REAL(zeroing_reads_as_zeroes)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d = must_format_open(e, path, &o);
	struct repl_slot *s = must_slot(d, 1, 2, 16 * SEG);
	size_t n;

	for (unsigned k = 0; k < 16; k++)
		ck_assert_int_eq(write_fill(e, s, 0, k * SEG, SEG, 5, k + 1), 0);
	disk_settle(e, d);
	ck_assert_uint_eq(held_bytes(d, &n), 16 * SEG);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 0, 4096, 16 * SEG - 4096, NULL, 20, 0), 0);
	ck_assert_int_eq(write_fill(e, s, 0, SEG, 4096, 6, 21), 0);
	for (unsigned round = 0; round < 2; round++) {
		read_expect(e, s, 0, 0, 4096, 5);
		read_expect(e, s, 0, 4096, SEG - 4096, 0);
		read_expect(e, s, 0, SEG, 4096, 6);
		read_expect(e, s, 0, SEG + 4096, SEG, 0);
		disk_settle(e, d);
	}
	ck_assert_uint_eq(held_bytes(d, &n), 2 * REPL_REGION); /* regions zeroed in part stay */
	repl_slot_put(s);
	repl_disk_close(d, false);
}

static Suite *suite(void)
{
	Suite *s = suite_create("replica disk");
	TCase *t = tcase_create("real");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, refuses_what_is_no_disk);
	tcase_add_test(t, keeps_what_was_written);
	tcase_add_test(t, replays_its_log);
	tcase_add_test(t, leftovers_do_not_come_back);
	tcase_add_test(t, large_writes_pass_the_log);
	tcase_add_test(t, checks_requests);
	tcase_add_test(t, fences_older_writers);
	tcase_add_test(t, remembers_who_wrote_last);
	tcase_add_test(t, drops);
	tcase_add_test(t, a_writers_drop_is_bound_to_its_opening);
	tcase_add_test(t, zeroing_reads_as_zeroes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
