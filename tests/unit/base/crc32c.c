/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include "unit/harness.h"

/* RFC 3720 B.4, and the check value of the CRC catalogue. */
START_TEST(known_values)
{
	uint8_t b[32];

	ck_assert_uint_eq(crc32c(0, "", 0), 0);
	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
	memset(b, 0, sizeof(b));
	ck_assert_uint_eq(crc32c(0, b, sizeof(b)), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	ck_assert_uint_eq(crc32c(0, b, sizeof(b)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)i;
	ck_assert_uint_eq(crc32c(0, b, sizeof(b)), 0x46dd794e);
	for (unsigned i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(31 - i);
	ck_assert_uint_eq(crc32c(0, b, sizeof(b)), 0x113fdb5c);
}
END_TEST

static uint8_t *noise(size_t n)
{
	uint8_t *p = malloc(n);
	uint32_t x = 12345;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		p[i] = (uint8_t)(x >> 24);
	}
	return p;
}

/* All lengths over the switches between lanes, at all alignments. */
START_TEST(fast_equals_portable)
{
	size_t n = 13000;
	uint8_t *p = noise(n + 8);

	for (size_t len = 0; len <= n; len += len < 600 ? 1 : 61)
		for (size_t off = 0; off < 8; off += len < 600 ? 1 : 3)
			ck_assert_uint_eq(crc32c(7, p + off, len),
					  crc32c_portable(7, p + off, len));
	for (size_t len = 4070; len < 4110; len++)
		ck_assert_uint_eq(crc32c(0, p, len), crc32c_portable(0, p, len));
	free(p);
}
END_TEST

START_TEST(in_pieces_as_in_one)
{
	size_t n = 9000;
	uint8_t *p = noise(n);
	uint32_t whole = crc32c(0, p, n);

	for (size_t cut = 0; cut <= n; cut += 7)
		ck_assert_uint_eq(crc32c(crc32c(0, p, cut), p + cut, n - cut), whole);
	free(p);
}
END_TEST

START_TEST(one_flipped_bit_shows)
{
	uint8_t *p = noise(4096);
	uint32_t good = crc32c(0, p, 4096);

	for (size_t bit = 0; bit < 4096 * 8; bit += 11) {
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_assert_uint_ne(crc32c(0, p, 4096), good);
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	free(p);
}
END_TEST

START_TEST(sums_of_blocks)
{
	uint8_t *p = noise(3 * HCI_BLOCK);
	uint32_t sums[3];

	memset(p + HCI_BLOCK, 0, HCI_BLOCK);
	block_sums(p, 3, sums);
	ck_assert_uint_eq(sums[1], SUM_ZEROES);
	ck_assert_uint_eq(sums[2], crc32c(0, p + 2 * HCI_BLOCK, HCI_BLOCK));
	ck_assert_uint_eq(block_sums_wrong(p, 3, sums), 0);
	p[2 * HCI_BLOCK + 77] ^= 4;
	sums[1] = SUM_NONE;
	ck_assert_uint_eq(block_sums_wrong(p, 3, sums), 2);
	free(p);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/crc32c");
	TCase *t = tcase_create("crc32c");

	tcase_add_test(t, known_values);
	tcase_add_test(t, fast_equals_portable);
	tcase_add_test(t, in_pieces_as_in_one);
	tcase_add_test(t, one_flipped_bit_shows);
	tcase_add_test(t, sums_of_blocks);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
