/* SPDX-License-Identifier: Apache-2.0 */
/* The checks that need no file: descriptors of other releases, at odd addresses; texts. */
#include "unit/policy/pool.h"

static int32_t place(void *instance, const struct hci_placement_snapshot *snapshot,
		     const struct hci_placement_request *request,
		     struct hci_placement_answer *answer)
{
	(void)instance;
	(void)snapshot;
	(void)request;
	(void)answer;
	return 0;
}

static const struct hci_placement_ops ops = { .size = sizeof(ops), .place = place };
static const struct hci_plugin good = { .abi = HCI_PLUGIN_ABI,
					.size = sizeof(good),
					.kind = HCI_PLUGIN_PLACEMENT,
					.name = "n",
					.version = "v",
					.ops = &ops };

static int check(const struct hci_plugin *d, size_t readable, struct policy *out)
{
	struct hci_error err;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = plugin_validate(d, readable, "/x/y.so", out, &err);
	ck_assert_int_eq(plugin_validate(d, readable, "/x/y.so", out, NULL), rc);
	if (rc) {
		ck_assert_int_eq(rc, HCI_E_PLUGIN);
		ck_assert_int_eq(err.code, HCI_E_PLUGIN);
		ck_assert_has(err.message, "/x/y.so");
	}
	return rc;
}

START_TEST(copies_what_it_needs)
{
	struct policy p;

	ck_assert_int_eq(check(&good, sizeof(good), &p), 0);
	ck_assert_uint_eq(p.kind, HCI_PLUGIN_PLACEMENT);
	ck_assert_str_eq(p.plugin_name, "n");
	ck_assert_str_eq(p.plugin_version, "v");
	ck_assert(p.ops.placement.place == place);
	ck_assert(!p.ops.placement.open && !p.ops.placement.close);
}
END_TEST

START_TEST(a_shorter_readable_part_is_refused)
{
	struct policy p;

	for (size_t n = 0; n < sizeof(good); n++)
		ck_assert_int_ne(check(&good, n, &p), 0);
	ck_assert_int_ne(check(NULL, sizeof(good), &p), 0);
}
END_TEST

START_TEST(a_longer_descriptor_is_read_as_far_as_we_know_it)
{
	struct hci_plugin d = good;
	struct policy p;

	d.size += 64; /* which is not readable here: it must not be read */
	ck_assert_int_eq(check(&d, sizeof(d), &p), 0);
	d.size = 0;
	ck_assert_int_ne(check(&d, sizeof(d), &p), 0);
}
END_TEST

START_TEST(addresses_need_no_alignment)
{
	char raw[sizeof(good) + sizeof(ops) + 16];
	struct hci_plugin d = good;
	struct policy p;

	d.ops = raw + sizeof(d) + 3;
	memcpy(raw + 1, &d, sizeof(d));
	memcpy(raw + sizeof(d) + 3, &ops, sizeof(ops));
	ck_assert_int_eq(check((const void *)(raw + 1), sizeof(d), &p), 0);
	ck_assert(p.ops.placement.place == place);
}
END_TEST

START_TEST(names_are_checked)
{
	static const char *const names[] = { "",    "-x",   "a/b", "a b",
					     "a\n", "\xff", "..",  "n\xc3\xbc" };
	char longest[HCI_NAME_MAX + 1];
	struct hci_plugin d = good;
	struct policy p;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		d.name = names[i];
		ck_assert_int_ne(check(&d, sizeof(d), &p), 0);
		ck_assert_str_eq(p.plugin_name, "");
		d.name = "n";
		d.version = names[i];
		ck_assert_int_ne(check(&d, sizeof(d), &p), 0);
		d.version = "v";
	}
	memset(longest, 'x', sizeof(longest)); /* without a NUL in sight */
	d.name = longest;
	ck_assert_int_ne(check(&d, sizeof(d), &p), 0);
	longest[HCI_NAME_MAX - 1] = '\0';
	ck_assert_int_eq(check(&d, sizeof(d), &p), 0);
}
END_TEST

static const struct {
	const char *in, *out;
} texts[] = {
	{ "", "" },
	{ "plain", "plain" },
	{ "tab\tline\nend\r", "tab line end " },
	{ "\x7f\x01", "  " },
	{ "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80" },
	{ "\x80\xbf", "??" },
	{ "\xc0\xaf", "??" },           /* overlong */
	{ "\xe0\x80\xaf", "???" },      /* overlong */
	{ "\xf0\x80\x80\xaf", "????" }, /* overlong */
	{ "\xed\xa0\x80", "???" },      /* surrogate */
	{ "\xf4\x90\x80\x80", "????" }, /* above U+10FFFF */
	{ "\xf5\x80", "??" },
	{ "cut \xe2\x82", "cut ??" },
	{ "cut \xf0\x9f\x98", "cut ???" },
};

START_TEST(texts_become_one_line_of_utf8)
{
	char s[64];

	strcpy(s, texts[_i].in);
	policy_clean_text(s, sizeof(s));
	ck_assert_str_eq(s, texts[_i].out);
}
END_TEST

START_TEST(texts_get_their_end)
{
	char s[8];

	memset(s, 'x', sizeof(s));
	policy_clean_text(s, sizeof(s));
	ck_assert_str_eq(s, "xxxxxxx");
	memcpy(s, "xxxxx\xe2\x82\xac", 8); /* the cut falls into a character */
	policy_clean_text(s, sizeof(s));
	ck_assert_str_eq(s, "xxxxx??");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("policy_validate");
	TCase *t = tcase_create("descriptor");

	tcase_add_test(t, copies_what_it_needs);
	tcase_add_test(t, a_shorter_readable_part_is_refused);
	tcase_add_test(t, a_longer_descriptor_is_read_as_far_as_we_know_it);
	tcase_add_test(t, addresses_need_no_alignment);
	tcase_add_test(t, names_are_checked);
	suite_add_tcase(s, t);
	t = tcase_create("text");
	tcase_add_loop_test(t, texts_become_one_line_of_utf8, 0, (int)ARRAY_SIZE(texts));
	tcase_add_test(t, texts_get_their_end);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
