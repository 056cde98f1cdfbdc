/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic traces of block addresses, and the policies that they are tried on. */
#ifndef BENCH_CACHE_TRACE_H
#define BENCH_CACHE_TRACE_H

#include "base/base.h"

struct trace {
	const char *name, *what;
	uint32_t *at;
	uint32_t n, space; /* requests; addresses are below space */
};

#define TRACES 6
void trace_make(unsigned i, uint32_t n, uint32_t space, struct trace *t);
void trace_free(struct trace *t);

/* Hits after the first tenth, which warms up. cap: blocks in all. */
struct score {
	double hit_ratio;
	double ssd_writes; /* blocks written to the SSD for each request; NAN when the policy has no such notion */
	double ns;         /* CPU of the policy for each request */
};

void run_ours(const struct trace *t, uint32_t cap, uint32_t ram, struct score *s);
void run_arc(const struct trace *t, uint32_t cap, struct score *s);
void run_lru(const struct trace *t, uint32_t cap, struct score *s);

uint64_t bench_ns(void);

#endif
