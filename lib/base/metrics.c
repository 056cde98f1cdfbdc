/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics registry. Owns families (one name, type and help) and their metrics (one set of
 * labels each); a mutex guards their lists, the values are atomics. Knows nothing of what is
 * measured.
 */
#include "base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mem.h"

#define BUCKETS 27 /* up to 1 us << k, k = 0..26; slower ones are in the count only */
#define FIRST_BUCKET_NS NS_PER_US

enum kind { COUNTER, GAUGE, HISTOGRAM };
static const char *const kind_names[] = { "counter", "gauge", "histogram" };

struct histogram {
	_Atomic uint64_t
		bucket[BUCKETS + 1]; /* not cumulative; the last is what is slower than all */
	_Atomic uint64_t sum_ns;
};

struct metric {
	struct list node; /* in family.metrics */
	struct family *family;
	char *labels;
	unsigned users; /* registrations not yet removed */
	bool forget;    /* its last user takes it along, even if he only rests */
	_Atomic uint64_t value;
	struct histogram *h;
};

struct family {
	struct list node; /* in metrics.families */
	struct list metrics;
	enum kind kind;
	char *name, *help;
};

struct metrics {
	pthread_mutex_t lock;
	struct list families;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = MEM_NEW(struct metrics);

	if (!m)
		return NULL;
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->families);
	return m;
}

static void metric_free(struct metric *x)
{
	if (!x)
		return;
	mem_free(x->h);
	mem_free(x->labels);
	mem_free(x);
}

static void family_free(struct family *f)
{
	if (!f)
		return;
	mem_free(f->name);
	mem_free(f->help);
	mem_free(f);
}

void metrics_free(struct metrics *m)
{
	struct list *f, *x;

	if (!m)
		return;
	while ((f = list_pop(&m->families))) {
		struct family *family = list_entry(f, struct family, node);

		while ((x = list_pop(&family->metrics)))
			metric_free(list_entry(x, struct metric, node));
		family_free(family);
	}
	pthread_mutex_destroy(&m->lock);
	mem_free(m);
}

/* The family of that name, made when it is new. */
static struct family *family_get(struct metrics *m, enum kind kind, const char *name,
				 const char *help)
{
	struct family *f;

	list_for_each(f, &m->families, node)
		if (!strcmp(f->name, name))
			return f->kind == kind ? f : NULL;
	f = MEM_NEW(struct family);
	if (!f)
		return NULL;
	f->kind = kind;
	f->name = mem_strdup(name);
	f->help = mem_strdup(help);
	list_init(&f->metrics);
	if (!f->name || !f->help) {
		family_free(f);
		return NULL;
	}
	list_push(&m->families, &f->node);
	return f;
}

static struct metric *metric_new(struct family *f, const char *labels)
{
	struct metric *x = MEM_NEW(struct metric);

	if (!x)
		return NULL;
	x->family = f;
	x->labels = mem_strdup(labels);
	if (f->kind == HISTOGRAM)
		x->h = MEM_NEW(struct histogram);
	if (!x->labels || (f->kind == HISTOGRAM && !x->h)) {
		metric_free(x);
		return NULL;
	}
	list_push(&f->metrics, &x->node);
	return x;
}

static struct metric *metric_get(struct family *f, const char *labels)
{
	struct metric *x;

	list_for_each(x, &f->metrics, node)
		if (!strcmp(x->labels, labels))
			return x;
	return metric_new(f, labels);
}

/* A family without a metric is one whose only metric could not be made, or was removed. */
static void family_drop_empty(struct family *f)
{
	if (!list_empty(&f->metrics))
		return;
	list_del(&f->node);
	family_free(f);
}

static struct metric *add(struct metrics *m, enum kind kind, const char *name, const char *help,
			  const char *labels)
{
	struct metric *x = NULL;
	struct family *f;

	if (!m)
		return NULL;
	pthread_mutex_lock(&m->lock);
	f = family_get(m, kind, name, help ? help : "");
	if (f) {
		x = metric_get(f, labels ? labels : "");
		if (x) {
			x->users++;
			x->forget = false;
		} else {
			family_drop_empty(f);
		}
	}
	pthread_mutex_unlock(&m->lock);
	return x;
}

struct metric *metrics_counter(struct metrics *m, const char *name, const char *help,
			       const char *labels)
{
	return add(m, COUNTER, name, help, labels);
}

struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help,
			     const char *labels)
{
	return add(m, GAUGE, name, help, labels);
}

struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help,
				 const char *labels)
{
	return add(m, HISTOGRAM, name, help, labels);
}

static void drop(struct metric *x)
{
	struct family *f = x->family;

	list_del(&x->node);
	metric_free(x);
	family_drop_empty(f);
}

static void leave(struct metrics *m, struct metric *x, bool rest)
{
	if (!m || !x)
		return;
	pthread_mutex_lock(&m->lock);
	if (!--x->users && (!rest || x->forget))
		drop(x);
	pthread_mutex_unlock(&m->lock);
}

void metrics_remove(struct metrics *m, struct metric *x)
{
	leave(m, x, false);
}

void metrics_rest(struct metrics *m, struct metric *x)
{
	leave(m, x, true);
}

static void forget(struct family *f, const char *labels)
{
	struct metric *x, *tmp;

	list_for_each_safe(x, tmp, &f->metrics, node) {
		if (labels && strcmp(x->labels, labels) != 0)
			continue;
		x->forget = labels;
		if (x->users)
			continue;
		list_del(&x->node);
		metric_free(x);
	}
	family_drop_empty(f);
}

void metrics_forget(struct metrics *m, const char *labels)
{
	struct family *f, *tmp;

	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	list_for_each_safe(f, tmp, &m->families, node)
		forget(f, labels);
	pthread_mutex_unlock(&m->lock);
}

void metric_add(struct metric *x, uint64_t n)
{
	if (x)
		atomic_fetch_add_explicit(&x->value, n, memory_order_relaxed);
}

void metric_set(struct metric *x, int64_t v)
{
	if (x)
		atomic_store_explicit(&x->value, (uint64_t)v, memory_order_relaxed);
}

/* The smallest k with ns <= FIRST_BUCKET_NS << k. */
static unsigned bucket_of(uint64_t ns)
{
	uint64_t whole = ns ? (ns - 1) / FIRST_BUCKET_NS : 0;
	unsigned k = whole ? 64 - (unsigned)__builtin_clzll(whole) : 0;

	return MIN(k, (unsigned)BUCKETS);
}

void metric_observe_ns(struct metric *x, uint64_t ns)
{
	if (!x || !x->h)
		return;
	atomic_fetch_add_explicit(&x->h->bucket[bucket_of(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&x->h->sum_ns, ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&x->value, 1, memory_order_relaxed);
}

uint64_t metric_value(const struct metric *x)
{
	return x ? atomic_load_explicit(&x->value, memory_order_relaxed) : 0;
}

/* A copy of the buckets, whose sum (returned) is consistent with them. */
static uint64_t snapshot(const struct metric *x, uint64_t bucket[BUCKETS + 1])
{
	uint64_t total = 0;

	for (unsigned i = 0; i <= BUCKETS; i++) {
		bucket[i] = atomic_load_explicit(&x->h->bucket[i], memory_order_relaxed);
		total += bucket[i];
	}
	return total;
}

uint64_t metric_quantile_ns(const struct metric *x, double q)
{
	uint64_t bucket[BUCKETS + 1], total, rank, seen = 0;

	if (!x || !x->h)
		return 0;
	total = snapshot(x, bucket);
	if (!total)
		return 0;
	rank = (uint64_t)(q * (double)total);
	if ((double)rank < q * (double)total || !rank)
		rank++;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += bucket[i];
		if (seen >= rank)
			return FIRST_BUCKET_NS << i;
	}
	return FIRST_BUCKET_NS << (BUCKETS - 1);
}

void metrics_escape(struct buf *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			buf_append(out, "\\n", 2);
		else if (*value == '\\' || *value == '"')
			buf_printf(out, "\\%c", *value);
		else
			buf_append(out, value, 1);
	}
}

/* In a help text a quote stays as it is. */
static void print_head(struct buf *out, const char *name, const char *help, enum kind kind)
{
	buf_printf(out, "# HELP %s ", name);
	for (const char *c = help; *c; c++) {
		if (*c == '\n')
			buf_append(out, "\\n", 2);
		else if (*c == '\\')
			buf_append(out, "\\\\", 2);
		else
			buf_append(out, c, 1);
	}
	buf_printf(out, "\n# TYPE %s %s\n", name, kind_names[kind]);
}

static void print_name(struct buf *out, const char *name, const char *labels)
{
	bool braces = labels[0];

	buf_printf(out, "%s%s%s%s ", name, braces ? "{" : "", labels, braces ? "}" : "");
}

void metrics_print_head(struct buf *out, const char *name, const char *help)
{
	print_head(out, name, help, GAUGE);
}

void metrics_print_gauge(struct buf *out, const char *name, const char *labels, int64_t v)
{
	print_name(out, name, labels);
	buf_printf(out, "%" PRId64 "\n", v);
}

static void print_simple(const struct metric *x, struct buf *out)
{
	uint64_t v = metric_value(x);

	if (x->family->kind == GAUGE) {
		metrics_print_gauge(out, x->family->name, x->labels, (int64_t)v);
		return;
	}
	print_name(out, x->family->name, x->labels);
	buf_printf(out, "%" PRIu64 "\n", v);
}

/* Numbers with a point are put together from integers: printf follows the program's locale. */
static void print_histogram(const struct metric *x, struct buf *out)
{
	const char *name = x->family->name, *labels = x->labels, *comma = labels[0] ? "," : "";
	uint64_t bucket[BUCKETS + 1], total = snapshot(x, bucket), seen = 0;
	uint64_t sum = atomic_load_explicit(&x->h->sum_ns, memory_order_relaxed);
	const char *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";

	for (unsigned i = 0; i < BUCKETS; i++) {
		uint64_t us = UINT64_C(1) << i;

		seen += bucket[i];
		buf_printf(out, "%s_bucket{%s%sle=\"%" PRIu64 ".%06" PRIu64 "\"} %" PRIu64 "\n",
			   name, labels, comma, us / 1000000, us % 1000000, seen);
	}
	buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, total);
	buf_printf(out, "%s_sum%s%s%s %" PRIu64 ".%09" PRIu64 "\n", name, open, labels, close,
		   sum / NS_PER_S, sum % NS_PER_S);
	buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, total);
}

void metrics_print(struct metrics *m, struct buf *out)
{
	struct family *f;
	struct metric *x;

	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	list_for_each(f, &m->families, node) {
		print_head(out, f->name, f->help, f->kind);
		list_for_each(x, &f->metrics, node) {
			if (f->kind == HISTOGRAM)
				print_histogram(x, out);
			else
				print_simple(x, out);
		}
	}
	pthread_mutex_unlock(&m->lock);
}
