/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration's job is told, and what it tells: the texts between programs and the hand-over. */
#include "cluster/handover_impl.h"
#include "unit/harness.h"

static void arg(struct rec_job *r, const char *key, const char *value)
{
	struct rec_arg *a = &r->args[r->nargs++];

	snprintf(a->key, sizeof(a->key), "%s", key);
	snprintf(a->value, sizeof(a->value), "%s", value);
}

START_TEST(each_option_of_the_job_reaches_the_migration)
{
	struct rec_job *r = MEM_NEW(struct rec_job);
	struct core_job j = { .rec = r };
	struct handover_opts o;

	vm_migrate_opts(&j, &o);
	ck_assert_ptr_null(o.to);
	arg(r, "to", "n2");
	vm_migrate_opts(&j, &o);
	ck_assert_str_eq(o.to, "n2");
	ck_assert(!o.bandwidth && !o.timeout_ns && !o.postcopy_ns && !o.postcopy_passes && !o.inflight_ns && !o.no_auto_converge &&
		  !o.max_downtime_ms);
	arg(r, "bandwidth", "5000000");
	arg(r, "timeout_ms", "7");
	arg(r, "postcopy_ms", "8");
	arg(r, "postcopy_passes", "3");
	arg(r, "inflight_ms", "250");
	arg(r, "no_auto_converge", "1");
	arg(r, "max_downtime_ms", "40");
	vm_migrate_opts(&j, &o);
	ck_assert_uint_eq(o.bandwidth, 5000000);
	ck_assert_uint_eq(o.timeout_ns, 7 * NS_PER_MS);
	ck_assert_uint_eq(o.postcopy_ns, 8 * NS_PER_MS);
	ck_assert_uint_eq(o.postcopy_passes, 3);
	ck_assert_uint_eq(o.inflight_ns, 250 * NS_PER_MS);
	ck_assert(o.no_auto_converge);
	ck_assert_uint_eq(o.max_downtime_ms, 40);
	mem_free(r);
}
END_TEST

START_TEST(its_figures_are_numbers_under_names)
{
	static const struct compute_progress p = { .pass = 3, .remaining = 1000, .dirty_rate = 2000, .downtime_ms = 70, .postcopy = true };
	struct ho_stat st = { .memory = { .in = 500000, .wire = 40000, .rate = 9000 } };
	char text[REC_TEXT_MAX], cut[64];

	st.memory.pages[MST_ZERO] = 10;
	st.memory.wire_of[MST_ZERO] = 20;
	st.memory.pages[MST_DELTA] = 2;
	st.memory.wire_of[MST_DELTA] = 192;
	st.memory.pages[MST_RAW] = 1;
	st.memory.wire_of[MST_RAW] = 4104; /* more than the page */
	st.memory.refs[MST_KIND_GUEST] = 7;
	handover_figures(&p, &st, text, sizeof(text));
	ck_assert_str_eq(text, "{\"pass\":3,\"remaining\":1000,\"dirty_rate\":2000,\"downtime_ms\":70,\"postcopy\":1,\"rate\":9000,"
			       "\"bytes\":500000,\"wire\":40000,\"saved\":{\"zero\":40940,\"same\":0,\"ref\":0,\"delta\":8000,"
			       "\"new\":0,\"raw\":0},\"refs\":{\"store\":0,\"volume\":0,\"guest\":7}}");
	handover_figures(&p, &st, cut, sizeof(cut));
	ck_assert_str_eq(cut, "");
	/* The largest numbers fit a job's message. */
	memset(&st.memory, 0xff, sizeof(st.memory));
	memset(st.memory.wire_of, 0, sizeof(st.memory.wire_of));
	handover_figures(&(struct compute_progress){ UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, true }, &st,
			 text, sizeof(text));
	ck_assert_int_eq(text[strlen(text) - 1], '}');
}
END_TEST

START_TEST(its_result_is_whole_or_nothing)
{
	struct finished f = { .total_ms = 7, .postcopy = true };
	struct ho_stat st;
	char text[REC_TEXT_MAX], cut[100];

	handover_result(&f, NULL, cut, sizeof(cut));
	ck_assert_str_eq(cut, "{\"total_ms\":7,\"downtime_ms\":0,\"bytes\":0,\"io_pause_ms\":0,\"postcopy\":1}");
	/* A guest of terabytes, after hours. */
	f = (struct finished){ 99999999, 9999999, 99999999999999, 9999999, true };
	memset(&st, 0, sizeof(st));
	st.memory_ns = 99999999 * NS_PER_MS;
	st.memory.wire = st.memory.refused = 9999999999999;
	for (unsigned i = 0; i < MST_CLASSES; i++)
		st.memory.pages[i] = 99999999999;
	handover_result(&f, &st, text, sizeof(text));
	ck_assert_int_eq(text[strlen(text) - 1], '}');
	handover_result(&f, &st, cut, sizeof(cut));
	ck_assert_str_eq(cut, "");
	/* Some numbers are the destination's, whatever it says. */
	memset(&f, 0xff, sizeof(f));
	f.postcopy = true;
	memset(&st, 0xff, sizeof(st));
	handover_result(&f, &st, text, sizeof(text));
	ck_assert_str_eq(text, "");
}
END_TEST

/* The link's pace is measured from message to message, so a limit does not show in it. */
START_TEST(a_limit_that_holds_it_is_told)
{
	static const struct compute_progress p = { .pass = 1, .remaining = 5000000, .dirty_rate = 2000000, .downtime_ms = 70 };
	struct ho_stat st = { .memory = { .in = 400, .wire = 100, .rate = 319000000 }, .limit = 300000 };
	char text[220], figures[REC_TEXT_MAX];

	ck_assert_uint_eq(handover_rate(&st), 300000);
	handover_phase(&p, &st, text, sizeof(text));
	ck_assert_str_eq(text, "copying memory: pass 1, 5 MB left, guest changes 2 MB/s, limited to 0.3 MB/s, 75 % saved, pause of 70 ms expected");
	handover_figures(&p, &st, figures, sizeof(figures));
	ck_assert_ptr_nonnull(strstr(figures, "\"rate\":300000,\"bytes\":"));
	/* A link that carries less holds it itself, as one without a limit. */
	st.memory.rate = 200000;
	ck_assert_uint_eq(handover_rate(&st), 200000);
	st.memory.rate = 319000000;
	st.limit = 0;
	ck_assert_uint_eq(handover_rate(&st), 319000000);
	handover_phase(&p, &st, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, ", link 319 MB/s, "));
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_migrate");
	TCase *tc = tcase_create("job");

	tcase_add_test(tc, each_option_of_the_job_reaches_the_migration);
	tcase_add_test(tc, its_figures_are_numbers_under_names);
	tcase_add_test(tc, its_result_is_whole_or_nothing);
	tcase_add_test(tc, a_limit_that_holds_it_is_told);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
