/* SPDX-License-Identifier: Apache-2.0 */
/* Medians over the rounds, and ratios taken within each round, as JSON. */
#include "bench.h"

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

static void print_row(const struct row *r, unsigned nprocs)
{
	static const char *const who[PROCS_MAX] = { "client", "node1", "node2" };

	printf("    \"%s\": {\"iops\": %.0f, \"mb_s\": %.1f, \"p50_us\": %.0f, \"p99_us\": %.0f, "
	       "\"cpu_us_per_op\": {",
	       r->load->name, FIELD(r, iops), FIELD(r, mb_s), FIELD(r, p50_us), FIELD(r, p99_us));
	for (unsigned i = 0; i < nprocs; i++)
		printf("%s\"%s\": [%.1f, %.1f]", i ? ", " : "", who[i], FIELD(r, user_us[i]),
		       FIELD(r, sys_us[i]));
	printf("}}");
}

static const struct row *find(const struct row *rows, unsigned n, const char *target,
			      const char *load)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(rows[i].target, target) && !strcmp(rows[i].load->name, load) &&
		    rows[i].n)
			return &rows[i];
	return NULL;
}

static void print_ratios(const struct row *rows, unsigned n, const char *base)
{
	const char *last = "";
	bool first = true;

	for (unsigned i = 0; i < n; i++) {
		const struct row *r = &rows[i], *b = find(rows, n, base, r->load->name);
		double v[ROUNDS_MAX];
		unsigned k = 0;

		if (!strncmp(r->target, "raw", 3) || !b)
			continue;
		for (; k < r->n && k < b->n; k++)
			v[k] = r->r[k].iops / b->r[k].iops;
		if (!k)
			continue;
		if (strcmp(last, r->target))
			printf("%s\n      \"%s\": {", *last ? "}," : "", r->target);
		printf("%s\"%s\": %.3f", strcmp(last, r->target) ? "" : ", ", r->load->name,
		       median(v, k));
		last = r->target;
		first = false;
	}
	printf("%s", first ? "" : "}");
}

void report(const struct row *rows, unsigned n, unsigned nprocs_of(const char *target),
	    double seconds, unsigned rounds, uint64_t bytes)
{
	double load[3] = { 0 };
	const char *last = "";

	if (getloadavg(load, 3) < 0)
		load[0] = 0;
	printf("{\n  \"version\": \"%s\", \"volume_bytes\": %llu, \"seconds\": %.1f, \"rounds\": "
	       "%u, \"load_average\": %.1f,\n",
	       hci_version_string(), (unsigned long long)bytes, seconds, rounds, load[0]);
	printf("  \"cpu_us_per_op\": \"[user, system] of each process\"");
	for (unsigned i = 0; i < n; i++) {
		if (!rows[i].n)
			continue;
		if (strcmp(last, rows[i].target))
			printf("%s,\n  \"%s\": {\n", *last ? "\n  }" : "", rows[i].target);
		else
			printf(",\n");
		last = rows[i].target;
		print_row(&rows[i], nprocs_of(rows[i].target));
	}
	printf("\n  },\n  \"ratios\": {\n    \"to_raw\": {");
	print_ratios(rows, n, "raw");
	printf("\n    },\n    \"to_raw_dsync\": {");
	print_ratios(rows, n, "raw_dsync");
	printf("\n    }\n  }\n}\n");
}
