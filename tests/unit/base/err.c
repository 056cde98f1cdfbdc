/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>

#include "unit/harness.h"

START_TEST(names_of_codes)
{
	ck_assert_str_eq(hci_strerror(0), "HCI_OK");
	ck_assert_str_eq(hci_strerror(HCI_E_INVAL), "HCI_E_INVAL");
	ck_assert_str_eq(hci_strerror(HCI_E_NOTFOUND), "HCI_E_NOTFOUND");
	ck_assert_str_eq(hci_strerror(HCI_E_UNAVAILABLE), "HCI_E_UNAVAILABLE");
	ck_assert_str_eq(hci_strerror(HCI_E_LIBVIRT), "HCI_E_LIBVIRT");
	ck_assert_str_eq(hci_strerror(HCI_E_INTERNAL), "HCI_E_INTERNAL");
	ck_assert_str_eq(hci_strerror(HCI_E_INTERNAL - 1), "HCI_E_?");
	ck_assert_str_eq(hci_strerror(1), "HCI_E_?");
	ck_assert_str_eq(hci_strerror(INT32_MIN), "HCI_E_?");
	ck_assert_str_eq(hci_strerror(INT32_MAX), "HCI_E_?");
}
END_TEST

START_TEST(set_fills_everything)
{
	struct hci_error e;

	memset(&e, 0xaa, sizeof(e));
	ck_assert_int_eq(err_set(&e, HCI_E_NOTFOUND, "volume %s: gone", "v1"), HCI_E_NOTFOUND);
	ck_assert_int_eq(e.code, HCI_E_NOTFOUND);
	ck_assert_int_eq(e.os_errno, 0);
	ck_assert_str_eq(e.message, "volume v1: gone");
	/* Nothing of an old message or of the stack behind the text. */
	for (size_t i = strlen(e.message); i < sizeof(e.message); i++)
		ck_assert_int_eq(e.message[i], 0);
}
END_TEST

START_TEST(null_is_fine)
{
	ck_assert_int_eq(err_set(NULL, HCI_E_BUSY, "x"), HCI_E_BUSY);
	ck_assert_int_eq(err_sys(NULL, HCI_E_SYS, EIO, "x"), HCI_E_SYS);
	ck_assert_int_lt(err_prefix(NULL, "x"), 0);
	ck_assert_int_eq(err_copy(NULL, NULL, HCI_E_IO), HCI_E_IO);
}
END_TEST

START_TEST(sys_appends_the_reason)
{
	struct hci_error e;

	ck_assert_int_eq(err_sys(&e, HCI_E_IO, ENOENT, "open %s", "/x"), HCI_E_IO);
	ck_assert_int_eq(e.os_errno, ENOENT);
	ck_assert_str_eq(e.message, "open /x: No such file or directory");
}
END_TEST

START_TEST(prefix_and_quoting_itself)
{
	struct hci_error e;

	err_sys(&e, HCI_E_IO, EIO, "read");
	ck_assert_int_eq(err_prefix(&e, "disk %d", 3), HCI_E_IO);
	ck_assert_str_eq(e.message, "disk 3: read: Input/output error");
	ck_assert_int_eq(e.os_errno, EIO);
	err_set(&e, HCI_E_STATE, "node n: %s", e.message);
	ck_assert_str_eq(e.message, "node n: disk 3: read: Input/output error");
}
END_TEST

START_TEST(copy)
{
	struct hci_error a, b;

	err_set(&a, HCI_E_FENCED, "old writer");
	ck_assert_int_eq(err_copy(&b, &a, HCI_E_IO), HCI_E_FENCED);
	ck_assert_str_eq(b.message, "old writer");
	ck_assert_int_eq(err_copy(NULL, &a, HCI_E_IO), HCI_E_FENCED);
	ck_assert_int_eq(err_copy(&b, NULL, HCI_E_IO), HCI_E_IO);
	ck_assert_int_eq(b.code, HCI_E_IO);
	ck_assert_str_eq(b.message, "HCI_E_IO");
}
END_TEST

START_TEST(one_line_always)
{
	struct hci_error e;

	err_set(&e, HCI_E_PROTO, "peer said %s", "a\nERROR: b\r\x1b[2J");
	ck_assert_str_eq(e.message, "peer said a ERROR: b  [2J");
}
END_TEST

/* A cut never leaves half a character, whatever its width and position. */
START_TEST(long_messages_are_cut_between_characters)
{
	static const char *const chars[] = { "x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x92\xbe" };

	for (unsigned c = 0; c < 4; c++)
		for (int pad = 0; pad < 5; pad++) {
			char text[4096] = "";
			struct hci_error e;
			size_t n, width = strlen(chars[c]);

			for (int i = 0; i < 1000; i++)
				memcpy(text + (size_t)i * width, chars[c], width + 1);
			err_set(&e, HCI_E_INVAL, "%.*s%s", pad, "ppppp", text);
			n = strlen(e.message);
			ck_assert_uint_gt(n, 499);
			ck_assert_uint_lt(n, sizeof(e.message));
			ck_assert_uint_eq((n - (size_t)pad) % width, 0);
		}
}
END_TEST

START_TEST(errno_map)
{
	ck_assert_int_eq(err_from_errno(0), HCI_OK);
	ck_assert_int_eq(err_from_errno(ENOSPC), HCI_E_NOSPACE);
	ck_assert_int_eq(err_from_errno(ENOENT), HCI_E_NOTFOUND);
	ck_assert_int_eq(err_from_errno(EIO), HCI_E_IO);
	ck_assert_int_eq(err_from_errno(ECONNREFUSED), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(err_from_errno(EPIPE), HCI_E_CLOSED);
	ck_assert_int_eq(err_from_errno(EXDEV), HCI_E_SYS);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/err");
	TCase *t = tcase_create("err");

	tcase_add_test(t, names_of_codes);
	tcase_add_test(t, set_fills_everything);
	tcase_add_test(t, null_is_fine);
	tcase_add_test(t, sys_appends_the_reason);
	tcase_add_test(t, prefix_and_quoting_itself);
	tcase_add_test(t, copy);
	tcase_add_test(t, one_line_always);
	tcase_add_test(t, long_messages_are_cut_between_characters);
	tcase_add_test(t, errno_map);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
