/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics registry: counters, gauges and histograms with labels, printed in the Prometheus text
 * format 0.0.4. Values are updated without a lock (relaxed atomics) from any thread; a metric is
 * registered once and lives as long as its registry unless removed. Who knows a number only when it is
 * asked for prints it itself, and registers nothing.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/base.h"
#include "base/buf.h"

struct metrics;
struct metric;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

/* labels: "" or ready-made `volume="x",disk="y"`, values escaped with metrics_escape. The same name
 * and labels give the same metric again. NULL when out of memory: all calls below take NULL. */
struct metric *metrics_counter(struct metrics *m, const char *name, const char *help,
			       const char *labels);
struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help,
			     const char *labels);
/* Latency histogram: power-of-two buckets from 1 us to 67 s, in seconds. */
struct metric *metrics_histogram(struct metrics *m, const char *name, const char *help,
				 const char *labels);
void metrics_remove(struct metrics *m, struct metric *x);
/* As that, but what was counted stays to be read, and counting goes on from there when it is registered anew. */
void metrics_rest(struct metrics *m, struct metric *x);
/* What these labels name is no more: their metrics go, those in use with their last user. NULL: all that rest. */
void metrics_forget(struct metrics *m, const char *labels);

void metric_add(struct metric *x, uint64_t n);
void metric_set(struct metric *x, int64_t v);
void metric_observe_ns(struct metric *x, uint64_t ns);
uint64_t metric_value(const struct metric *x);
/* The q-quantile (0..1) of a histogram in ns, from its buckets' upper bounds. */
uint64_t metric_quantile_ns(const struct metric *x, double q);

/* A label's value with what the format wants escaped: \\, " and newline. */
void metrics_escape(struct buf *out, const char *value);
void metrics_print(struct metrics *m, struct buf *out);
/* A gauge that is in no registry: its head once, then a line for each of its labels. */
void metrics_print_head(struct buf *out, const char *name, const char *help);
void metrics_print_gauge(struct buf *out, const char *name, const char *labels, int64_t v);

#endif
