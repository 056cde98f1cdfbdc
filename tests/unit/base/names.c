/* SPDX-License-Identifier: Apache-2.0 */
#include "base/names.h"

#include "unit/harness.h"

START_TEST(good_names)
{
	static const char *const good[] = { "a", "0", "vol-1", "A.b_c-d", "9.." };
	char longest[64];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_int_eq(name_check(good[i], "volume", NULL), 0);
	memset(longest, 'n', 63);
	longest[63] = 0;
	ck_assert_int_eq(name_check(longest, "volume", NULL), 0);
}
END_TEST

START_TEST(bad_names)
{
	static const char *const bad[] = { "",    ".",   "..",       "-a",  "_a",   "a/b",
					   "a b", "a\n", "\xc3\xa9", "a%s", "a\x7f" };
	struct hci_error e;
	char *big = malloc(100000);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(name_check(bad[i], "volume", &e), HCI_E_INVAL);
		ck_assert_ptr_nonnull(strstr(e.message, "volume name"));
	}
	ck_assert_int_eq(name_check(NULL, "volume", &e), HCI_E_INVAL);
	memset(big, 'x', 99999);
	big[99999] = 0;
	ck_assert_int_eq(name_check(big, "volume", &e), HCI_E_INVAL);
	big[64] = 0;
	ck_assert_int_eq(name_check(big, "volume", &e), HCI_E_INVAL);
	free(big);
}
END_TEST

START_TEST(message_shows_odd_bytes_escaped)
{
	struct hci_error e;

	name_check("a\x01\"b", "node", &e);
	ck_assert_ptr_nonnull(strstr(e.message, "node name \"a\\x01\\x22b\""));
	ck_assert_ptr_nonnull(strstr(e.message, "position 2"));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/names");
	TCase *t = tcase_create("names");

	tcase_add_test(t, good_names);
	tcase_add_test(t, bad_names);
	tcase_add_test(t, message_shows_odd_bytes_escaped);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
