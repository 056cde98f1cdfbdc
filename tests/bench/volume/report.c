/* SPDX-License-Identifier: Apache-2.0 */
/* Medians over the rounds, and ratios taken within each round, as JSON. */
#include "bench.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double field(const struct row *r, size_t off)
{
	double v[ROUNDS_MAX];

	for (unsigned i = 0; i < r->n; i++)
		memcpy(&v[i], (const char *)&r->r[i] + off, sizeof(double));
	return median(v, r->n);
}
#define FIELD(row, member) field(row, offsetof(struct result, member))

/* The last second counts only what came before the deadline: it is left out unless it is alone. */
void series_sum(const struct series *s, double *med, double *least)
{
	static double v[SERIES_MAX];
	unsigned n = s->n > 1 ? s->n - 1 : s->n;

	for (unsigned i = 0; i < n; i++)
		v[i] = s->ops[i];
	*med = *least = 0;
	if (!n)
		return;
	*med = median(v, n); /* sorts them */
	*least = v[0];
}

static void print_series(const struct series *s)
{
	double med, least;

	series_sum(s, &med, &least);
	printf(", \"second_median\": %.0f, \"second_least\": %.0f, \"by_second\": [", med, least);
	for (unsigned i = 0; i < s->n; i++)
		printf("%s%u", i ? ", " : "", s->ops[i]);
	printf("]");
}

static void print_row(const struct row *r)
{
	double ops = 0, gap = 0;

	for (unsigned i = 0; i < r->n; i++) {
		ops += r->r[i].ops;
		gap = r->r[i].gap_ms > gap ? r->r[i].gap_ms : gap;
	}
	printf("    \"%s\": {\"ops\": %.0f, \"iops\": %.0f, \"mb_s\": %.1f, \"p50_us\": %.0f, "
	       "\"p99_us\": %.0f, \"longest_pause_ms\": %.0f, \"cpu_us_per_op\": {\"all\": %.1f",
	       r->load->name, ops, FIELD(r, iops), FIELD(r, mb_s), FIELD(r, p50_us), FIELD(r, p99_us),
	       gap, FIELD(r, cpu_us));
	for (unsigned i = 0; i < r->target->nprocs; i++)
		printf(", \"%s\": [%.1f, %.1f]", r->target->who[i], FIELD(r, user_us[i]),
		       FIELD(r, sys_us[i]));
	printf("}");
	if (r->series)
		print_series(r->series);
	printf("}");
}

static const struct row *find(const struct row *rows, unsigned n, const char *target,
			      const struct load *load)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(rows[i].target->name, target) && rows[i].load == load && rows[i].n)
			return &rows[i];
	return NULL;
}

static void print_ratios(const struct row *rows, unsigned n, const char *base)
{
	const struct target *last = NULL;

	for (unsigned i = 0; i < n; i++) {
		const struct row *r = &rows[i], *b = find(rows, n, base, r->load);
		double v[ROUNDS_MAX];
		unsigned k = 0;

		if (!strncmp(r->target->name, "raw", 3) || !b)
			continue;
		for (; k < r->n && k < b->n; k++)
			v[k] = r->r[k].iops / b->r[k].iops;
		if (!k)
			continue;
		if (last != r->target)
			printf("%s\n      \"%s\": {", last ? "}," : "", r->target->name);
		printf("%s\"%s\": %.3f", last != r->target ? "" : ", ", r->load->name, median(v, k));
		last = r->target;
	}
	printf("%s", last ? "}" : "");
}

void report(const struct row *rows, unsigned n, double seconds, unsigned rounds, uint64_t bytes, uint64_t log_bytes,
	    uint64_t burst_ops)
{
	const struct target *last = NULL;
	double load[3] = { 0 };

	if (getloadavg(load, 3) < 0)
		load[0] = 0;
	printf("{\n  \"version\": \"%s\", \"volume_bytes\": %llu, \"log_bytes\": %llu, \"burst_ops_most\": %llu, "
	       "\"seconds\": %.1f, \"rounds\": %u, \"load_average\": %.1f, \"interrupted\": %s,\n",
	       hci_version_string(), (unsigned long long)bytes, (unsigned long long)log_bytes,
	       (unsigned long long)burst_ops, seconds, rounds, load[0],
	       load_stopped() ? "true" : "false");
	printf("  \"cpu_us_per_op\": \"all: of all processes together; then [user, system] of each\"");
	for (unsigned i = 0; i < n; i++) {
		if (!rows[i].n)
			continue;
		if (last != rows[i].target)
			printf("%s,\n  \"%s\": {\n", last ? "\n  }" : "", rows[i].target->name);
		else
			printf(",\n");
		last = rows[i].target;
		print_row(&rows[i]);
	}
	printf("%s,\n  \"ratios\": {\n    \"to_raw\": {", last ? "\n  }" : "");
	print_ratios(rows, n, "raw");
	printf("\n    },\n    \"to_raw_dsync\": {");
	print_ratios(rows, n, "raw_dsync");
	printf("\n    }\n  }\n}\n");
}
