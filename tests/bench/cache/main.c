/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the read cache is worth: hit ratios of its policy beside ARC and LRU on synthetic traces; CPU and latency of a
 * hit in memory and on a real file, and of what feeds it. JSON on stdout.
 *
 *	bench_cache [DIR]        DIR: where a file of 256 MiB may be; without it the policies only
 */
#include <stdio.h>
#include <stdlib.h>

#include "hits.h"
#include "trace.h"

static void line(const char *policy, const struct score *s, const char *end)
{
	printf("      \"%s\": { \"hits\": %.4f, \"ssd_writes\": %.4f, \"cpu_ns\": %.0f }%s\n", policy, s->hit_ratio,
	       s->ssd_writes, s->ns, end);
}

static void policies(void)
{
	static const double sizes[] = { 0.01, 0.1 };
	const uint32_t n = 4000000, space = 1000000;

	printf("  \"policies\": {\n    \"requests\": %u, \"addresses\": %u,\n", n, space);
	for (unsigned k = 0; k < TRACES; k++) {
		struct trace t;

		trace_make(k, n, space, &t);
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			uint32_t cap = (uint32_t)(space * sizes[i]);
			struct score s;

			printf("    \"%s, cache %g\": {\n", t.name, sizes[i]);
			run_lru(&t, cap, &s);
			line("lru", &s, ",");
			run_arc(&t, cap, &s);
			line("arc", &s, ",");
			run_ours(&t, cap, cap / 10, &s);
			line("s3-fifo, 10% in memory", &s, ",");
			run_ours(&t, cap, MAX(cap / 100, 16u), &s);
			line("s3-fifo, 1% in memory", &s, "");
			printf("    }%s\n", k + 1 == TRACES && i + 1 == ARRAY_SIZE(sizes) ? "" : ",");
		}
		trace_free(&t);
	}
	printf("  }");
}

int main(int argc, char **argv)
{
	printf("{\n");
	policies();
	if (argc > 1) {
		printf(",\n");
		if (hits_measure(argv[1]))
			return EXIT_FAILURE;
	}
	printf("\n}\n");
	return EXIT_SUCCESS;
}
