/* SPDX-License-Identifier: Apache-2.0 */
/* Superblock and claims: round trips, and everything that is not ours is told apart. */
#include "cache/format.h"

#include "unit/harness.h"

static const struct uuid id = { { 1, 2, 3 } }, other = { { 9 } };

START_TEST(places_do_not_overlap_and_fit)
{
	static const uint64_t sizes[] = { MiB, MiB + 65536, 10 * MiB, GiB, 64 * GiB, (uint64_t)1 << 44 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (uint32_t block = 4096; block <= 65536; block *= 2) {
			struct cache_geo g;

			if (!cache_geo_of(sizes[i], block, &g)) {
				ck_assert_uint_ge(sizes[i], (uint64_t)1 << 42);
				continue;
			}
			ck_assert_uint_ge(g.data_off, CACHE_CLAIMS_OFF + (uint64_t)g.pages * HCI_BLOCK);
			ck_assert_uint_le(g.data_off + (uint64_t)g.slots * block, sizes[i]);
			ck_assert_uint_ge(g.claims, g.slots);
			ck_assert_uint_ge((uint64_t)g.slots * block * 100, (sizes[i] - 3 * 65536) * 95 / 100 * 100);
		}
}
END_TEST

START_TEST(a_size_or_block_out_of_range_has_no_places)
{
	struct cache_geo g;

	ck_assert(!cache_geo_of(65536, 4096, &g));
	ck_assert(!cache_geo_of(0, 4096, &g));
	ck_assert(!cache_geo_of(MiB, 2048, &g));
	ck_assert(!cache_geo_of(MiB, 131072, &g));
	ck_assert(!cache_geo_of(MiB, 12288, &g));
	ck_assert(!cache_geo_of(UINT64_MAX, 4096, &g));
}
END_TEST

static void super(uint8_t *pair, int which)
{
	struct cache_super s = { .id = id, .cluster = other, .size = 8 * MiB, .created = 77, .block = 16384, .seed = { 5 } };

	cache_super_encode(&s, pair + which * HCI_BLOCK);
}

START_TEST(the_superblock_is_found_in_either_copy)
{
	uint8_t *p = calloc(2, HCI_BLOCK);
	struct cache_super s;

	ck_assert_int_eq(cache_super_decode(p, &s), HCI_E_NOTFOUND);
	super(p, 0);
	ck_assert_int_eq(cache_super_decode(p, &s), 0);
	ck_assert(uuid_eq(&s.id, &id) && uuid_eq(&s.cluster, &other));
	ck_assert(s.size == 8 * MiB && s.block == 16384 && s.created == 77 && s.seed[0] == 5);
	super(p, 1);
	p[100] ^= 1;
	ck_assert_int_eq(cache_super_decode(p, &s), 0);
	p[HCI_BLOCK + 100] ^= 1;
	ck_assert_int_eq(cache_super_decode(p, &s), HCI_E_CORRUPT);
	free(p);
}
END_TEST

START_TEST(a_first_page_that_was_torn_is_blank_but_foreign_bytes_are_not)
{
	uint8_t *p = calloc(2, HCI_BLOCK);
	struct cache_super s;

	super(p, 0);
	memset(p + 512, 0, HCI_BLOCK - 512);
	p[60] ^= 1;
	ck_assert_int_eq(cache_super_decode(p, &s), HCI_E_NOTFOUND);
	memset(p, 'x', 512);
	ck_assert_int_eq(cache_super_decode(p, &s), HCI_E_CORRUPT);
	free(p);
}
END_TEST

START_TEST(another_version_is_told_apart)
{
	uint8_t *p = calloc(2, HCI_BLOCK);
	uint64_t magic;
	struct cache_super s;

	super(p, 0);
	memcpy(&magic, p, 8);
	page_seal(p, magic, CACHE_VERSION + 1, 1, &id);
	ck_assert_int_eq(cache_super_decode(p, &s), HCI_E_VERSION);
	free(p);
}
END_TEST

START_TEST(claims_come_back_and_senseless_ones_do_not)
{
	struct claim in[CACHE_PAGE_CLAIMS] = { 0 }, out[CACHE_PAGE_CLAIMS];
	struct cache_geo g;
	uint8_t page[HCI_BLOCK];

	ck_assert(cache_geo_of(8 * MiB, 16384, &g));
	in[0] = (struct claim){ .volume = id, .block = 7, .stamp = 8, .fp = 9, .wr = 10, .slot = 11 };
	in[5] = (struct claim){ .volume = id, .block = 7, .stamp = 8, .slot = g.slots };
	in[6] = (struct claim){ .volume = id, .block = UINT64_C(1) << 40, .stamp = 8 };
	in[7] = (struct claim){ .volume = id, .block = 1, .stamp = UINT64_C(1) << 62 };
	in[71] = (struct claim){ .volume = other, .block = 1, .slot = g.slots - 1 };
	claims_encode(&id, 3, in, page);
	ck_assert_uint_eq(claims_decode(page, &id, 3, &g, out), 2);
	ck_assert(!memcmp(&in[0], &out[0], sizeof(in[0])));
	ck_assert(uuid_is_null(&out[5].volume) && uuid_is_null(&out[6].volume) && uuid_is_null(&out[7].volume));
	ck_assert(uuid_eq(&out[71].volume, &other));
	ck_assert_uint_eq(claims_decode(page, &id, 4, &g, out), 0);    /* of another place */
	ck_assert_uint_eq(claims_decode(page, &other, 3, &g, out), 0); /* of another formatting */
	page[200] ^= 1;
	ck_assert_uint_eq(claims_decode(page, &id, 3, &g, out), 0);
}
END_TEST

START_TEST(fingerprints_differ_with_each_bit_and_with_the_key)
{
	uint8_t seed[FP_SEED] = { 1 }, seed2[FP_SEED] = { 2 };
	struct fp_key *k = fp_key_new(seed, 4096), *k2 = fp_key_new(seed2, 4096), *k3 = fp_key_new(seed, 4096);
	uint64_t block[512] = { 0 }, zero = fp_of(k, block);

	ck_assert_uint_eq(zero, fp_of(k3, block));
	ck_assert_uint_ne(zero, fp_of(k2, block));
	for (int bit = 0; bit < 4096 * 8; bit += 7) {
		((uint8_t *)block)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_uint_ne(zero, fp_of(k, block));
		((uint8_t *)block)[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	block[0] = 1; /* words that trade places */
	zero = fp_of(k, block);
	block[0] = 0;
	block[2] = 1;
	ck_assert_uint_ne(zero, fp_of(k, block));
	fp_key_free(k);
	fp_key_free(k2);
	fp_key_free(k3);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_format");
	TCase *t = tcase_create("format");

	tcase_add_test(t, places_do_not_overlap_and_fit);
	tcase_add_test(t, a_size_or_block_out_of_range_has_no_places);
	tcase_add_test(t, the_superblock_is_found_in_either_copy);
	tcase_add_test(t, a_first_page_that_was_torn_is_blank_but_foreign_bytes_are_not);
	tcase_add_test(t, another_version_is_told_apart);
	tcase_add_test(t, claims_come_back_and_senseless_ones_do_not);
	tcase_add_test(t, fingerprints_differ_with_each_bit_and_with_the_key);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
