/* SPDX-License-Identifier: Apache-2.0 */
/* Requests judged, one rule a test, and the bytes of replies. */
#include "export/nbd_request.h"

#include <hci/error.h>

#include "unit/harness.h"

static struct nbd_session s;
static const char *why;

static void setup(void)
{
	s = (struct nbd_session){
		.size = MiB, .flags = NBD_TX_HAS_FLAGS | NBD_TX_DF, .structured = true, .meta = true
	};
	why = NULL;
}

static int check(uint16_t type, uint16_t flags, uint64_t off, uint32_t len)
{
	struct nbd_request r = { .type = type, .flags = flags, .off = off, .len = len };

	return nbd_request_check(&r, &s, &why);
}

START_TEST(parse)
{
	static const uint8_t b[28] = { 0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6,
				       7,    8,    0,    0,    0, 1, 0, 0, 0, 2, 0, 0, 2, 0 };
	uint8_t wrong[28];
	struct nbd_request r;

	ck_assert(nbd_request_parse(b, &r));
	ck_assert_uint_eq(r.flags, NBD_CMD_FUA);
	ck_assert_uint_eq(r.type, NBD_CMD_WRITE_ZEROES);
	ck_assert_uint_eq(r.cookie, 0x0102030405060708);
	ck_assert_uint_eq(r.off, 0x100000002);
	ck_assert_uint_eq(r.len, 512);
	memcpy(wrong, b, 28);
	wrong[0]++;
	ck_assert(!nbd_request_parse(wrong, &r));
}
END_TEST

START_TEST(ranges)
{
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 0, MiB), 0);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, MiB, 0), 0);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 1, MiB), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, UINT64_MAX, 2), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_WRITE, 0, MiB - 1, 2), NBD_ENOSPC);
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, 0, MiB, UINT32_MAX), NBD_ENOSPC);
	ck_assert_int_eq(check(NBD_CMD_TRIM, 0, MiB, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_BLOCK_STATUS, 0, MiB, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_CACHE, 0, MiB, 1), NBD_EINVAL);
	ck_assert_str_ne(why, "");
}
END_TEST

START_TEST(lengths)
{
	s.size = 1 * GiB;
	ck_assert_int_eq(check(NBD_CMD_WRITE, 0, 0, 32u << 20), 0);
	ck_assert_int_eq(check(NBD_CMD_WRITE, 0, 0, (32u << 20) + 1), NBD_FATAL);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 0, 32u << 20), 0);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 0, (32u << 20) + 1), NBD_EOVERFLOW);
	s.structured = false;
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 0, (32u << 20) + 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, 0, 0, 1u << 30), 0);
}
END_TEST

START_TEST(flags)
{
	ck_assert_int_eq(check(NBD_CMD_READ, NBD_CMD_DF | NBD_CMD_FUA, 0, 1), 0);
	s.flags = NBD_TX_HAS_FLAGS;
	ck_assert_int_eq(check(NBD_CMD_READ, NBD_CMD_DF, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_WRITE, NBD_CMD_NO_HOLE, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, NBD_CMD_NO_HOLE, 0, 1), 0);
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, NBD_CMD_FAST_ZERO, 0, 1), NBD_EINVAL);
	s.flags |= NBD_TX_FAST_ZERO;
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, NBD_CMD_FAST_ZERO, 0, 1), 0);
	ck_assert_int_eq(check(NBD_CMD_BLOCK_STATUS, NBD_CMD_REQ_ONE, 0, 1), 0);
	ck_assert_int_eq(check(NBD_CMD_TRIM, 0x8000, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_CACHE, NBD_CMD_REQ_ONE, 0, 1), NBD_EINVAL);
}
END_TEST

START_TEST(commands)
{
	ck_assert_int_eq(check(8, 0, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(65535, 0, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_DISC, 0xffff, 5, 5), 0);
	ck_assert_int_eq(check(NBD_CMD_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(check(NBD_CMD_FLUSH, 0, 1, 0), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_FLUSH, 0, 0, 1), NBD_EINVAL);
	ck_assert_int_eq(check(NBD_CMD_BLOCK_STATUS, 0, 0, 0), NBD_EINVAL);
	s.meta = false;
	ck_assert_int_eq(check(NBD_CMD_BLOCK_STATUS, 0, 0, 1), NBD_EINVAL);
}
END_TEST

START_TEST(read_only)
{
	s.flags |= NBD_TX_READ_ONLY;
	ck_assert_int_eq(check(NBD_CMD_WRITE, 0, 0, 1), NBD_EPERM);
	ck_assert_int_eq(check(NBD_CMD_TRIM, 0, 0, 1), NBD_EPERM);
	ck_assert_int_eq(check(NBD_CMD_WRITE_ZEROES, 0, 0, 1), NBD_EPERM);
	ck_assert_int_eq(check(NBD_CMD_READ, 0, 0, 1), 0);
	ck_assert_int_eq(check(NBD_CMD_FLUSH, 0, 0, 0), 0);
}
END_TEST

START_TEST(errors_map)
{
	static const int map[][2] = {
		{ 0, 0 },
		{ HCI_E_NOSPACE, NBD_ENOSPC },
		{ HCI_E_IO, NBD_EIO },
		{ HCI_E_RANGE, NBD_EINVAL },
		{ HCI_E_ALIGN, NBD_EINVAL },
		{ HCI_E_FENCED, NBD_ESHUTDOWN },
		{ HCI_E_CLOSED, NBD_ESHUTDOWN },
		{ HCI_E_READONLY, NBD_EPERM },
		{ HCI_E_NOMEM, NBD_ENOMEM },
		{ HCI_E_CORRUPT, NBD_EIO },
		{ HCI_E_TIMEOUT, NBD_EIO },
		{ -1000, NBD_EIO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		ck_assert_int_eq(nbd_error_of(map[i][0], &why), map[i][1]);
}
END_TEST

START_TEST(reply_bytes)
{
	struct nbd_request r = { .cookie = 0x1122334455667788, .off = 8192, .len = 4096 };
	uint8_t b[NBD_REPLY_MAX];
	char text[600];

	ck_assert_uint_eq(nbd_put_simple(b, &r, 5), 16);
	ck_assert_mem_eq(b, "\x67\x44\x66\x98\0\0\0\5\x11\x22\x33\x44\x55\x66\x77\x88", 16);
	ck_assert_uint_eq(nbd_put_data(b, &r), 28);
	ck_assert_mem_eq(b,
			 "\x66\x8e\x33\xef\0\1\0\1\x11\x22\x33\x44\x55\x66\x77\x88\0\0\x10\x08\0\0"
			 "\0\0\0\0\x20\0",
			 28);
	ck_assert_uint_eq(nbd_put_hole(b, &r), 32);
	ck_assert_uint_eq(nbd_get32(b + 16), 12);
	ck_assert_uint_eq(nbd_get32(b + 28), 4096);
	ck_assert_uint_eq(nbd_put_status(b, &r, 3), 24);
	ck_assert_uint_eq(nbd_get32(b + 16), 4 + 24);
	ck_assert_uint_eq(nbd_put_none(b, &r), 20);
	ck_assert_uint_eq(nbd_put_error(b, &r, 22, "oops"), 30);
	ck_assert_mem_eq(b + 16, "\0\0\0\012\0\0\0\026\0\4oops", 14);
	memset(text, 'x', sizeof(text));
	text[599] = 0;
	ck_assert_uint_eq(nbd_put_error(b, &r, 22, text), NBD_REPLY_MAX);
	ck_assert_uint_eq(nbd_get32(b + 16), NBD_REPLY_MAX - 20);
	ck_assert_uint_eq(nbd_get16(b + 24), NBD_REPLY_MAX - 26);
}
END_TEST

static Suite *suite(void)
{
	Suite *su = suite_create("nbd requests");
	TCase *t = tcase_create("requests");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, parse);
	tcase_add_test(t, ranges);
	tcase_add_test(t, lengths);
	tcase_add_test(t, flags);
	tcase_add_test(t, commands);
	tcase_add_test(t, read_only);
	tcase_add_test(t, errors_map);
	tcase_add_test(t, reply_bytes);
	suite_add_tcase(su, t);
	return su;
}

HARNESS_MAIN(suite)
