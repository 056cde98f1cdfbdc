/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include "unit/harness.h"

START_TEST(version_and_variant)
{
	uint8_t ones[16], zeros[16] = { 0 };
	char s[HCI_UUID_STR];
	struct uuid u;

	memset(ones, 0xff, sizeof(ones));
	uuid_from_random(&u, ones);
	uuid_print(&u, s);
	ck_assert_str_eq(s, "ffffffff-ffff-4fff-bfff-ffffffffffff");
	uuid_from_random(&u, zeros);
	uuid_print(&u, s);
	ck_assert_str_eq(s, "00000000-0000-4000-8000-000000000000");
	ck_assert(!uuid_is_null(&u));
}
END_TEST

START_TEST(parse_what_print_made)
{
	struct uuid u = { { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff } }, v;
	char s[HCI_UUID_STR];

	uuid_print(&u, s);
	ck_assert_str_eq(s, "00010203-0405-0607-0809-aabbccddeeff");
	ck_assert(uuid_parse(s, &v));
	ck_assert(uuid_eq(&u, &v));
	ck_assert(uuid_parse("00010203-0405-0607-0809-AABBCCDDEEFF", &v));
	ck_assert(uuid_eq(&u, &v));
}
END_TEST

START_TEST(parse_refuses)
{
	static const char *const bad[] = {
		"",
		"0",
		"00010203",
		"00010203-0405-0607-0809-aabbccddeef",
		"00010203-0405-0607-0809-aabbccddeefff",
		"00010203_0405-0607-0809-aabbccddeeff",
		"0001020304050607-0809-aabbccddeeff",
		"0001020g-0405-0607-0809-aabbccddeeff",
		"{0010203-0405-0607-0809-aabbccddeef}",
		" 0010203-0405-0607-0809-aabbccddeeff",
	};
	struct uuid u = { { 42 } }, before = u;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *exact = strdup(bad[i]); /* for ASan: no byte behind the end is looked at */

		ck_assert(!uuid_parse(exact, &u));
		ck_assert(uuid_eq(&u, &before));
		free(exact);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/uuid");
	TCase *t = tcase_create("uuid");

	tcase_add_test(t, version_and_variant);
	tcase_add_test(t, parse_what_print_made);
	tcase_add_test(t, parse_refuses);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
