/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <locale.h>
#include <pthread.h>

#include "unit/harness.h"

static char *printed(struct metrics *m)
{
	struct buf b = BUF_INIT;
	char *s;

	metrics_print(m, &b);
	ck_assert(!b.failed);
	s = strndup(b.data ? (char *)b.data : "", b.len);
	buf_free(&b);
	return s;
}

START_TEST(counters_and_gauges)
{
	struct metrics *m = metrics_new();
	struct metric *c = metrics_counter(m, "hci_ops_total", "Operations.", "kind=\"read\"");
	struct metric *g = metrics_gauge(m, "hci_depth", "Depth\nof a \\ queue.", "");
	struct metric *c2 = metrics_counter(m, "hci_ops_total", "Operations.", "kind=\"write\"");
	char *s;

	metric_add(c, 3);
	metric_add(c, 4);
	metric_add(c2, 1);
	metric_set(g, -5);
	ck_assert_uint_eq(metric_value(c), 7);
	s = printed(m);
	ck_assert_str_eq(s, "# HELP hci_ops_total Operations.\n"
			    "# TYPE hci_ops_total counter\n"
			    "hci_ops_total{kind=\"read\"} 7\n"
			    "hci_ops_total{kind=\"write\"} 1\n"
			    "# HELP hci_depth Depth\\nof a \\\\ queue.\n"
			    "# TYPE hci_depth gauge\n"
			    "hci_depth -5\n");
	free(s);
	metrics_free(m);
}
END_TEST

START_TEST(same_name_same_metric)
{
	struct metrics *m = metrics_new();
	struct metric *a = metrics_counter(m, "x", "h", "l=\"1\"");
	struct metric *b = metrics_counter(m, "x", "h", "l=\"1\"");
	char *s;

	ck_assert_ptr_eq(a, b);
	ck_assert_ptr_null(
		metrics_gauge(m, "x", "h", "l=\"2\"")); /* another kind under that name */
	metrics_remove(m, a);
	metric_add(b, 1); /* the second registration keeps it */
	ck_assert_uint_eq(metric_value(b), 1);
	metrics_remove(m, b);
	s = printed(m);
	ck_assert_str_eq(s, "");
	free(s);
	metrics_free(m);
}
END_TEST

START_TEST(resting_until_forgotten)
{
	struct metrics *m = metrics_new();
	struct metric *a = metrics_counter(m, "x", "h", "l=\"1\""), *b = metrics_counter(m, "x", "h", "l=\"2\"");
	struct metric *c = metrics_counter(m, "y", "h", "l=\"1\"");
	char *s;

	metric_add(a, 3);
	metrics_rest(m, a);
	a = metrics_counter(m, "x", "h", "l=\"1\"");
	ck_assert_uint_eq(metric_value(a), 3);
	metrics_rest(m, a);
	metrics_rest(m, b);
	/* Of two that have these labels one is in use. */
	metrics_forget(m, "l=\"1\"");
	s = printed(m);
	ck_assert_str_eq(s, "# HELP x h\n# TYPE x counter\nx{l=\"2\"} 0\n# HELP y h\n# TYPE y counter\ny{l=\"1\"} 0\n");
	free(s);
	metrics_rest(m, c);
	s = printed(m);
	ck_assert_str_eq(s, "# HELP x h\n# TYPE x counter\nx{l=\"2\"} 0\n");
	free(s);
	/* All that rest; what is in use stays, and may rest again. */
	c = metrics_counter(m, "y", "h", "l=\"1\"");
	metrics_forget(m, NULL);
	metrics_rest(m, c);
	s = printed(m);
	ck_assert_str_eq(s, "# HELP y h\n# TYPE y counter\ny{l=\"1\"} 0\n");
	free(s);
	metrics_free(m);
}
END_TEST

START_TEST(null_is_fine)
{
	struct buf b = BUF_INIT;

	ck_assert_ptr_null(metrics_counter(NULL, "x", "h", ""));
	metric_add(NULL, 1);
	metric_set(NULL, 1);
	metric_observe_ns(NULL, 1);
	ck_assert_uint_eq(metric_value(NULL), 0);
	ck_assert_uint_eq(metric_quantile_ns(NULL, 0.5), 0);
	metrics_remove(NULL, NULL);
	metrics_rest(NULL, NULL);
	metrics_forget(NULL, NULL);
	metrics_print(NULL, &b);
	metrics_free(NULL);
	buf_free(&b);
}
END_TEST

START_TEST(bucket_edges)
{
	struct metrics *m = metrics_new();
	struct metric *h = metrics_histogram(m, "lat_seconds", "h", "");
	static const struct {
		uint64_t ns, bound;
	} cases[] = {
		{ 0, 1000 },          { 1, 1000 },
		{ 1000, 1000 },       { 1001, 2000 },
		{ 2000, 2000 },       { 2001, 4000 },
		{ 1000000, 1024000 }, { UINT64_C(67108864000), UINT64_C(67108864000) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		metrics_remove(m, h);
		h = metrics_histogram(m, "lat_seconds", "h", "");
		metric_observe_ns(h, cases[i].ns);
		ck_assert_uint_eq(metric_quantile_ns(h, 0.5), cases[i].bound);
		ck_assert_uint_eq(metric_value(h), 1);
	}
	metrics_free(m);
}
END_TEST

START_TEST(quantiles)
{
	struct metrics *m = metrics_new();
	struct metric *h = metrics_histogram(m, "lat_seconds", "h", "");

	ck_assert_uint_eq(metric_quantile_ns(h, 0.5), 0);
	for (int i = 0; i < 99; i++)
		metric_observe_ns(h, 3000);
	metric_observe_ns(h, NS_PER_S);
	ck_assert_uint_eq(metric_quantile_ns(h, 0.0), 4000);
	ck_assert_uint_eq(metric_quantile_ns(h, 0.5), 4000);
	ck_assert_uint_eq(metric_quantile_ns(h, 0.99), 4000);
	ck_assert_uint_eq(metric_quantile_ns(h, 1.0), UINT64_C(1048576000));
	metric_observe_ns(h, UINT64_MAX / 2);
	ck_assert_uint_eq(metric_quantile_ns(h, 1.0), UINT64_C(67108864000));
	metrics_free(m);
}
END_TEST

/* Also where the program's locale writes a comma, should such a locale be installed. */
START_TEST(histogram_text)
{
	struct metrics *m = metrics_new();
	struct metric *h = metrics_histogram(m, "lat_seconds", "h", "v=\"a\"");
	unsigned lines = 0;
	char *s;

	setlocale(LC_ALL, "de_DE.UTF-8");
	metric_observe_ns(h, 1500);
	metric_observe_ns(h, NS_PER_S + 1);
	metric_observe_ns(h, 100 * NS_PER_S);
	s = printed(m);
	ck_assert_ptr_nonnull(strstr(s, "# TYPE lat_seconds histogram\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"0.000001\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"0.000002\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"0.524288\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"1.048576\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"67.108864\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_bucket{v=\"a\",le=\"+Inf\"} 3\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_sum{v=\"a\"} 101.000001501\n"));
	ck_assert_ptr_nonnull(strstr(s, "lat_seconds_count{v=\"a\"} 3\n"));
	for (char *c = s; *c; c++)
		lines += *c == '\n';
	ck_assert_uint_eq(lines, 2 + 27 + 1 + 2);
	free(s);
	metrics_free(m);
}
END_TEST

START_TEST(escaping)
{
	struct buf b = BUF_INIT;

	metrics_escape(&b, "a\"b\\c\nd");
	buf_append(&b, "", 1);
	ck_assert_str_eq((char *)b.data, "a\\\"b\\\\c\\nd");
	buf_free(&b);
}
END_TEST

START_TEST(every_allocation_failure)
{
	FOR_EACH_ALLOC_FAILURE(n) {
		struct metrics *m = metrics_new();
		struct metric *a = metrics_counter(m, "a", "h", ""),
			      *h = metrics_histogram(m, "b", "h", "x=\"1\"");
		struct buf b = BUF_INIT;

		metric_add(a, 1);
		metric_observe_ns(h, 5);
		metrics_print(m, &b);
		buf_free(&b);
		metrics_remove(m, h);
		metrics_free(m);
	}
}
END_TEST

struct worker {
	struct metrics *m;
	struct metric *c, *h;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < 20000; i++) {
		metric_add(w->c, 1);
		metric_observe_ns(w->h, (uint64_t)i);
		if (i % 500 == 0) {
			struct metric *own = metrics_gauge(w->m, "own", "h", "");
			struct buf b = BUF_INIT;

			metric_set(own, i);
			metrics_print(w->m, &b);
			metrics_remove(w->m, own);
			buf_free(&b);
		}
	}
	return NULL;
}

static struct worker workers[4];

static void threads_start(void)
{
	struct metrics *m = metrics_new();

	for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
		workers[i].m = m;
		workers[i].c = metrics_counter(m, "c", "h", "");
		workers[i].h = metrics_histogram(m, "h", "h", "");
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
}

static void threads_free(void)
{
	metrics_free(workers[0].m);
}

START_TEST(threads_lose_nothing)
{
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		pthread_join(workers[i].thread, NULL);
	ck_assert_uint_eq(metric_value(workers[0].c), ARRAY_SIZE(workers) * 20000);
	ck_assert_uint_eq(metric_value(workers[0].h), ARRAY_SIZE(workers) * 20000);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("base/metrics");
	TCase *t = tcase_create("metrics"), *c = tcase_create("threads");

	tcase_add_test(t, counters_and_gauges);
	tcase_add_test(t, same_name_same_metric);
	tcase_add_test(t, resting_until_forgotten);
	tcase_add_test(t, null_is_fine);
	tcase_add_test(t, bucket_edges);
	tcase_add_test(t, quantiles);
	tcase_add_test(t, histogram_text);
	tcase_add_test(t, escaping);
	tcase_add_test(t, every_allocation_failure);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(c, threads_start, threads_free);
	tcase_add_test(c, threads_lose_nothing);
	tcase_set_timeout(c, 60);
	suite_add_tcase(s, c);
	return s;
}

HARNESS_MAIN(suite)
