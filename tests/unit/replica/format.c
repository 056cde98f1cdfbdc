/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: page pairs, log batches, places in the ring. */
#include <stdlib.h>

#include "base/crc32c.h"
#include "replica/replica_impl.h"
#include "unit/harness.h"

static const struct uuid disk = { { 7, 7 } }, other = { { 8 } };

/* ---- pages ---- */

static uint8_t pair[PAGE_PAIR] __attribute__((aligned(4096)));

START_TEST(newer_page_wins)
{
	unsigned which = 9;
	bool torn;

	memset(pair, 0, sizeof(pair));
	ck_assert_int_eq(page_pick(pair, 5, 1, &disk, &which, &torn), PAGE_EMPTY);
	page_seal(pair + HCI_BLOCK, 5, 1, 1, &disk);
	ck_assert_int_eq(page_pick(pair, 5, 1, &disk, &which, &torn), PAGE_VALID);
	ck_assert_uint_eq(which, 1);
	page_seal(pair, 5, 1, 2, &disk);
	ck_assert_int_eq(page_pick(pair, 5, 1, &disk, &which, &torn), PAGE_VALID);
	ck_assert_uint_eq(which, 0);
	ck_assert(!torn);
	pair[100] ^= 1;
	ck_assert_int_eq(page_pick(pair, 5, 1, &disk, &which, &torn), PAGE_VALID);
	ck_assert_uint_eq(which, 1);
	ck_assert(torn);
	ck_assert_int_eq(page_pick(pair, 5, 1, &other, &which, &torn), PAGE_BAD);
	ck_assert_int_eq(page_pick(pair, 6, 1, &disk, &which, &torn), PAGE_BAD);
	ck_assert_int_eq(page_pick(pair, 5, 2, &disk, &which, &torn), PAGE_VERSION);
}
END_TEST

START_TEST(torn_first_page_is_empty)
{
	unsigned which;
	bool torn;

	memset(pair, 0, sizeof(pair));
	memset(pair + HCI_BLOCK, 0x55, 512);
	ck_assert_int_eq(page_pick(pair, 5, 1, &disk, &which, &torn), PAGE_EMPTY);
	ck_assert(torn);
}
END_TEST

/* ---- batches ---- */

static uint8_t bytes[(LOGF_HDR_MAX + 8) * HCI_BLOCK] __attribute__((aligned(4096)));

static size_t make_batch(void)
{
	static struct logf_batch b;
	uint32_t hdr;

	memset(&b, 0, sizeof(b));
	b.disk = disk;
	b.lsn = 42;
	b.epoch = 3;
	b.nvols = 2;
	b.vols[0] = (struct logf_vol){
		.uuid = { { 1 } }, .generation = 4, .stable = 9, .segsize = MiB
	};
	b.vols[1] = (struct logf_vol){ .uuid = { { 2 } }, .generation = 1, .segsize = 64 * KiB };
	b.nentries = 4;
	b.entries[0] = (struct logf_entry){
		.vol = 0, .kind = LOGF_WRITE, .segment = 3, .block = 254, .nblocks = 2, .seq = 7
	};
	b.entries[1] = (struct logf_entry){
		.vol = 1, .kind = LOGF_ZERO, .block = 0, .nblocks = 16, .seq = 8
	};
	b.entries[2] = (struct logf_entry){ .vol = 1, .kind = LOGF_FENCE };
	b.entries[3] = (struct logf_entry){ .vol = 0, .kind = LOGF_DROP, .segment = LOGF_ALL };
	b.data_blocks = 2;
	memset(bytes, 0, sizeof(bytes));
	hdr = logf_hdr_blocks(2, 4, 2, 0);
	memset(bytes + hdr * HCI_BLOCK, 0xab, 2 * HCI_BLOCK);
	b.crcs[0] = b.crcs[1] = crc32c(0, bytes + hdr * HCI_BLOCK, HCI_BLOCK);
	ck_assert_uint_eq(logf_encode(&b, bytes), hdr);
	return (hdr + 2) * (size_t)HCI_BLOCK;
}

START_TEST(batch_comes_back)
{
	size_t len = make_batch();
	struct logf_view v;

	ck_assert_int_eq(logf_parse(bytes, len, &disk, &v), LOGF_OK);
	ck_assert_uint_eq(v.hdr->lsn, 42);
	ck_assert_uint_eq(v.blocks * (size_t)HCI_BLOCK, len);
	ck_assert_uint_eq(v.vols[0].stable, 9);
	ck_assert_uint_eq(v.entries[1].seq, 8);
	ck_assert_int_eq(logf_parse(bytes, len, &other, &v), LOGF_BAD);
	ck_assert_int_eq(logf_parse(bytes, 0, &disk, &v), LOGF_SHORT);
	ck_assert_int_eq(logf_parse(bytes, len - HCI_BLOCK, &disk, &v), LOGF_SHORT);
	ck_assert_uint_eq(v.blocks * (size_t)HCI_BLOCK, len);
}
END_TEST

/* Whatever sector of a batch is not the one that was written, the batch is not whole. */
START_TEST(torn_batch_is_refused)
{
	size_t len = make_batch();
	struct logf_view v;

	for (size_t at = 0; at < len; at += at < 512 ? 1 : 97) {
		bool used = at < logf_hdr_bytes(2, 4, 2) || at >= len - 2 * HCI_BLOCK;

		bytes[at] ^= 0x10;
		ck_assert_msg((logf_parse(bytes, len, &disk, &v) == LOGF_OK) == !used, "byte %zu",
			      at);
		bytes[at] ^= 0x10;
	}
}
END_TEST

static void reseal(void)
{
	struct logf_hdr *h = (void *)bytes;

	h->crc = logf_crc(bytes, h->hdr_bytes);
}

START_TEST(senseless_batch_is_refused)
{
	struct logf_entry *e;
	struct logf_vol *vol;
	struct logf_view v;

	for (unsigned i = 0; i < 9; i++) {
		size_t len = make_batch();

		ck_assert_int_eq(logf_parse(bytes, len, &disk, &v), LOGF_OK);
		vol = (void *)(uintptr_t)v.vols;
		e = (void *)(uintptr_t)v.entries;
		switch (i) {
		case 0:
			e[0].vol = 2;
			break;
		case 1:
			e[0].block = 255;
			break;
		case 2:
			e[0].nblocks = 1;
			break;
		case 3:
			e[0].nblocks = UINT32_MAX;
			break;
		case 4:
			e[1].block = UINT32_MAX;
			break;
		case 5:
			e[2].kind = 77;
			break;
		case 6:
			vol[0].segsize = 3;
			break;
		case 7:
			vol[1].generation = 0;
			break;
		default:
			e[0].seq = 0;
			break;
		}
		reseal();
		ck_assert_msg(logf_parse(bytes, len, &disk, &v) == LOGF_BAD, "case %u", i);
	}
}
END_TEST

START_TEST(largest_header_fits)
{
	ck_assert_uint_eq(logf_hdr_blocks(LOGF_VOLS_MAX, LOGF_ENTRIES_MAX, LOGF_DATA_MAX, LOGF_OWN_MAX),
			  LOGF_HDR_MAX);
}
END_TEST

/* ---- ring ---- */

#define RING 64u

struct live {
	uint32_t pos, n;
};

/* Batches of random sizes in and out; no two live ones ever share a block. */
START_TEST(ring_never_overlaps)
{
	struct ring r = { .blocks = RING, .next_lsn = 1, .tail_lsn = 1 };
	static struct live live[100000];
	uint32_t seed = 1 + (uint32_t)_i;

	for (unsigned step = 0; step < 20000; step++) {
		uint32_t n, pos, used = 0;

		seed = seed * 1664525 + 1013904223;
		n = 1 + (seed >> 16) % 20;
		if (ring_place(&r, n, (seed >> 8) % 4, &pos)) {
			ck_assert_uint_le(pos + n, RING);
			for (uint64_t l = r.tail_lsn; l < r.next_lsn; l++)
				ck_assert(pos + n <= live[l].pos || live[l].pos + live[l].n <= pos);
			ck_assert_int_eq(ring_reserve(&r), 0);
			live[r.next_lsn] = (struct live){ pos, n };
			ring_take(&r, pos, n);
		} else {
			ck_assert_uint_lt(r.tail_lsn,
					  r.next_lsn); /* an empty ring takes anything */
		}
		if (seed >> 31)
			ring_release(&r, r.tail_lsn + (seed >> 20) % (r.next_lsn - r.tail_lsn + 1));
		for (uint64_t l = r.tail_lsn; l < r.next_lsn; l++) {
			ck_assert_uint_eq(ring_pos_of(&r, l), live[l].pos);
			used += live[l].n;
		}
		ck_assert_uint_ge(ring_used(&r), used);
	}
	mem_free(r.pos);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica format");
	TCase *t = tcase_create("pure");

	tcase_add_test(t, newer_page_wins);
	tcase_add_test(t, torn_first_page_is_empty);
	tcase_add_test(t, batch_comes_back);
	tcase_add_test(t, torn_batch_is_refused);
	tcase_add_test(t, senseless_batch_is_refused);
	tcase_add_test(t, largest_header_fits);
	tcase_add_loop_test(t, ring_never_overlaps, 0, 4);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
