/* SPDX-License-Identifier: Apache-2.0 */
/* MAC addresses and names of interfaces: what is taken, what is made. */
#include "base/ether.h"

#include "base/uuid.h"
#include "unit/harness.h"

START_TEST(addresses_become_lower_case)
{
	char out[ETHER_MAC_STR];

	ck_assert_ptr_null(ether_mac("52:54:00:AB:cd:0F", out));
	ck_assert_str_eq(out, "52:54:00:ab:cd:0f");
}
END_TEST

START_TEST(wrong_addresses_are_refused)
{
	static const char *const wrong[] = {
		"", "52", "52:54:00:ab:cd", "52:54:00:ab:cd:0", "52:54:00:ab:cd:0g", "52:54:00:ab:cd:0f:11", "52-54-00-ab-cd-0f",
		"52:54:00:ab:cd:0f ", " 2:54:00:ab:cd:0f", "00:00:00:00:00:00", "01:54:00:ab:cd:0f", "ff:ff:ff:ff:ff:ff",
		"fe:54:00:ab:cd:0f", "52:54:00:ab:cd'0f", "525400abcd0f",
	};
	char out[ETHER_MAC_STR];

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(ether_mac(wrong[i], out) != NULL, "%s is taken", wrong[i]);
}
END_TEST

START_TEST(made_addresses_are_valid_stable_and_differ)
{
	char mac[3 * 20][ETHER_MAC_STR], again[ETHER_MAC_STR];
	unsigned n = 0;

	for (unsigned k = 0; k < 20; k++) {
		struct uuid u;
		uint8_t rnd[16];

		for (unsigned i = 0; i < 16; i++)
			rnd[i] = (uint8_t)rand();
		uuid_from_random(&u, rnd);
		ether_mac_of(&u, 0, 0, mac[n++]);
		ether_mac_of(&u, 1, 0, mac[n++]);
		ether_mac_of(&u, 0, 1, mac[n++]);
		ether_mac_of(&u, 0, 0, again);
		ck_assert_str_eq(again, mac[n - 3]);
	}
	for (unsigned i = 0; i < n; i++) {
		ck_assert_ptr_null(ether_mac(mac[i], again));
		ck_assert_str_eq(again, mac[i]);
		ck_assert_int_eq(strncmp(mac[i], "02:", 3), 0);
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(mac[i], mac[k]);
	}
}
END_TEST

START_TEST(names_of_interfaces)
{
	static const char *const good[] = { "br0", "vmbr0.100", "br-0123456789ab", "0" };
	static const char *const wrong[] = { "", ".", "..", "-br", "br/0", "br 0", "br:0", "br0'", "br-0123456789abc", "\xc3\xa9" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(ether_if_name(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(!ether_if_name(wrong[i]), "%s", wrong[i]);
}
END_TEST

START_TEST(ports_fit_a_name)
{
	const struct uuid u = { { 0xde, 0xad, 0xbe, 0xef, 1, 2 } };
	char out[ETHER_IF_NAME];

	ether_port(&u, 0, out);
	ck_assert_str_eq(out, "hcideadbeef-0");
	ether_port(&u, 7, out);
	ck_assert_str_eq(out, "hcideadbeef-7");
	ck_assert(ether_if_name(out));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/ether");
	TCase *t = tcase_create("ether");

	tcase_add_test(t, addresses_become_lower_case);
	tcase_add_test(t, wrong_addresses_are_refused);
	tcase_add_test(t, made_addresses_are_valid_stable_and_differ);
	tcase_add_test(t, names_of_interfaces);
	tcase_add_test(t, ports_fit_a_name);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
