/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opts.h"

#include "unit/harness.h"

/* Three releases of one struct. */
struct opts_v1 {
	uint32_t size, a;
};
struct opts_v2 {
	uint32_t size, a;
	uint64_t b;
};
struct opts_v3 {
	uint32_t size, a;
	uint64_t b, c;
};

static const struct opts_v2 defaults = { sizeof(defaults), 10, 20 };

static int take(struct opts_v2 *out, const void *user, struct hci_error *err)
{
	memset(out, 0xaa, sizeof(*out));
	return opts_take(out, &defaults, sizeof(*out), user, sizeof(struct opts_v1),
			 "struct hci_x_opts", err);
}

START_TEST(null_gives_defaults)
{
	struct opts_v2 o;

	ck_assert_int_eq(take(&o, NULL, NULL), 0);
	ck_assert_mem_eq(&o, &defaults, sizeof(o));
}
END_TEST

START_TEST(same_release)
{
	struct opts_v2 u = { sizeof(u), 1, 2 }, o;

	ck_assert_int_eq(take(&o, &u, NULL), 0);
	ck_assert_mem_eq(&o, &u, sizeof(o));
}
END_TEST

START_TEST(older_caller_gets_defaults_for_the_rest)
{
	struct opts_v1 u = { sizeof(u), 1 };
	struct opts_v2 o;

	ck_assert_int_eq(take(&o, &u, NULL), 0);
	ck_assert_uint_eq(o.size, sizeof(o));
	ck_assert_uint_eq(o.a, 1);
	ck_assert_uint_eq(o.b, 20);
}
END_TEST

START_TEST(newer_caller_with_zero_tail)
{
	struct opts_v3 u = { sizeof(u), 1, 2, 0 };
	struct opts_v2 o;

	ck_assert_int_eq(take(&o, &u, NULL), 0);
	ck_assert_uint_eq(o.size, sizeof(o));
	ck_assert_uint_eq(o.b, 2);
}
END_TEST

START_TEST(newer_caller_with_unknown_option)
{
	struct opts_v3 u = { sizeof(u), 1, 2, UINT64_C(1) << 63 };
	struct hci_error e;
	struct opts_v2 o;

	ck_assert_int_eq(take(&o, &u, &e), HCI_E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(e.message, "struct hci_x_opts"));
	ck_assert_ptr_nonnull(strstr(e.message, "byte 23"));
}
END_TEST

/* The struct is exactly as large as it may be read: ASan sees a byte more. */
START_TEST(wrong_sizes)
{
	static const uint32_t wrong[] = { 0, 1, 4, 7, 9, 17, 65540, 0xaaaaaaaa, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint32_t *u = malloc(sizeof(struct opts_v1));
		struct hci_error e;
		struct opts_v2 o;

		u[0] = wrong[i];
		u[1] = 0;
		ck_assert_int_eq(take(&o, u, &e), HCI_E_INVAL);
		ck_assert_ptr_nonnull(strstr(e.message, "initializer"));
		free(u);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/opts");
	TCase *t = tcase_create("opts");

	tcase_add_test(t, null_gives_defaults);
	tcase_add_test(t, same_release);
	tcase_add_test(t, older_caller_gets_defaults_for_the_rest);
	tcase_add_test(t, newer_caller_with_zero_tail);
	tcase_add_test(t, newer_caller_with_unknown_option);
	tcase_add_test(t, wrong_sizes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
