/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_SUB "test"
#include "base/log.h"

#include "unit/harness.h"

struct sink {
	unsigned lines;
	int level;
	char subsystem[16], line[2048];
};

static void emit(void *arg, int level, const char *subsystem, const char *line)
{
	struct sink *s = arg;

	s->lines++;
	s->level = level;
	snprintf(s->subsystem, sizeof(s->subsystem), "%s", subsystem);
	snprintf(s->line, sizeof(s->line), "%s", line);
}

START_TEST(line_arrives)
{
	struct sink s = { 0 };
	struct log l = { LOG_INFO, emit, &s };

	log_warn(&l, "disk %d is %s", 3, "slow");
	ck_assert_uint_eq(s.lines, 1);
	ck_assert_int_eq(s.level, LOG_WARN);
	ck_assert_str_eq(s.subsystem, "test");
	ck_assert_str_eq(s.line, "disk 3 is slow");
}
END_TEST

START_TEST(below_the_level_nothing_is_evaluated)
{
	struct sink s = { 0 };
	struct log l = { LOG_INFO, emit, &s };
	int evaluated = 0;

	log_debug(&l, "%d", ++evaluated);
	log_write(&l, LOG_TRACE, "x", "y");
	ck_assert_int_eq(evaluated, 0);
	ck_assert_uint_eq(s.lines, 0);
	log_info(&l, "%d", ++evaluated);
	ck_assert_int_eq(evaluated, 1);
	ck_assert_uint_eq(s.lines, 1);
}
END_TEST

START_TEST(silent_without_callback)
{
	struct log l = { LOG_TRACE, NULL, NULL };

	log_error(&l, "x");
	log_error(NULL, "x");
	log_write(NULL, LOG_ERROR, "x", "y");
}
END_TEST

START_TEST(lines_cannot_be_forged_or_overflow)
{
	struct sink s = { 0 };
	struct log l = { LOG_INFO, emit, &s };
	char big[4000];

	log_info(&l, "%s", "a\nb\x1b[1m");
	ck_assert_str_eq(s.line, "a b [1m");
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = 0;
	log_info(&l, "%s", big);
	ck_assert_uint_eq(strlen(s.line), 1023);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/log");
	TCase *t = tcase_create("log");

	tcase_add_test(t, line_arrives);
	tcase_add_test(t, below_the_level_nothing_is_evaluated);
	tcase_add_test(t, silent_without_callback);
	tcase_add_test(t, lines_cannot_be_forged_or_overflow);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
