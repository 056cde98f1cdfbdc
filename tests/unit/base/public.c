/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls that lib/base implements: buffers and the version. */
#include <hci/buffer.h>
#include <hci/version.h>

#include "unit/harness.h"

START_TEST(buffer_is_aligned_and_zero)
{
	struct hci_error e;
	uint8_t *p = NULL;

	ck_assert_int_eq(hci_buffer_alloc((void **)&p, 10000, &e), 0);
	ck_assert_uint_eq((uintptr_t)p % HCI_BUFFER_ALIGN, 0);
	for (int i = 0; i < 12288; i++)
		ck_assert_uint_eq(p[i], 0);
	hci_buffer_free(p);
	hci_buffer_free(NULL);
}
END_TEST

START_TEST(buffer_refusals)
{
	struct hci_error e;
	void *p = &e;

	ck_assert_int_eq(hci_buffer_alloc(NULL, 1, &e), HCI_E_INVAL);
	ck_assert_int_eq(hci_buffer_alloc(&p, 0, &e), HCI_E_INVAL);
	ck_assert_ptr_null(p);
	ck_assert_int_eq(hci_buffer_alloc(&p, (uint64_t)HCI_BUFFER_MAX + 1, &e), HCI_E_RANGE);
	ck_assert_int_eq(hci_buffer_alloc(&p, UINT64_MAX, NULL), HCI_E_RANGE);
	mem_fail_nth(1);
	ck_assert_int_eq(hci_buffer_alloc(&p, 1, &e), HCI_E_NOMEM);
	mem_fail_nth(0);
	ck_assert_ptr_null(p);
}
END_TEST

START_TEST(version_agrees_with_itself)
{
	char s[32];

	snprintf(s, sizeof(s), "%d.%d.%d", HCI_VERSION_MAJOR, HCI_VERSION_MINOR, HCI_VERSION_PATCH);
	ck_assert_str_eq(s, HCI_VERSION_STRING);
	ck_assert_str_eq(hci_version_string(), HCI_VERSION_STRING);
	ck_assert_str_eq(HCI_VERSION_STRING, PROJECT_VERSION);
	ck_assert_int_eq(hci_version(), HCI_VERSION_NUMBER);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/public");
	TCase *t = tcase_create("public");

	tcase_add_test(t, buffer_is_aligned_and_zero);
	tcase_add_test(t, buffer_refusals);
	tcase_add_test(t, version_agrees_with_itself);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
