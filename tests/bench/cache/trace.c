/* SPDX-License-Identifier: Apache-2.0 */
/* Zipf draws (Gray et al., "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994), scans, loops. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "cache/hash.h"
#include "trace.h"

static uint64_t seed;

static double unit(void)
{
	seed += UINT64_C(0x9e3779b97f4a7c15);
	return (double)(mix64(seed) >> 11) / 9007199254740992.0;
}

struct zipf {
	uint32_t n;
	double theta, alpha, zetan, eta;
};

static void zipf_init(struct zipf *z, uint32_t n, double theta)
{
	double zeta2 = 1 + pow(0.5, theta);

	z->n = n;
	z->theta = theta;
	z->zetan = 0;
	for (uint32_t i = 1; i <= n; i++)
		z->zetan += 1 / pow(i, theta);
	z->alpha = 1 / (1 - theta);
	z->eta = (1 - pow(2.0 / n, 1 - theta)) / (1 - zeta2 / z->zetan);
}

/* Ranks are spread over the addresses, so that popularity is not an order. */
static uint32_t zipf_draw(const struct zipf *z)
{
	double u = unit(), uz = u * z->zetan;
	uint32_t rank;

	if (uz < 1)
		rank = 0;
	else if (uz < 1 + pow(0.5, z->theta))
		rank = 1;
	else
		rank = (uint32_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
	return (uint32_t)(mix64(rank % z->n) % z->n);
}

static uint32_t scan_at;

static uint32_t draw(unsigned kind, const struct zipf *z, uint32_t i, uint32_t n, uint32_t space)
{
	uint32_t half = space / 2;

	switch (kind) {
	case 0:
	case 1: /* zipf */
		return zipf_draw(z);
	case 2: /* zipf in half of the addresses, while a scan of the other half takes every second request for a while */
		if (i / (n / 20) % 4 == 3 && i % 2)
			return half + scan_at++ % half;
		return zipf_draw(z);
	case 3: /* a loop over a quarter more than a tenth of the addresses: larger than the cache of a tenth */
		return i % (space / 8);
	case 4: /* the popular ones move on, four times */
		return (zipf_draw(z) + i / (n / 4) * (space / 4)) % space;
	default: /* a boot: the same thousand blocks in order, then zipf */
		return i % 20000 < 1000 ? i % 20000 : zipf_draw(z);
	}
}

void trace_make(unsigned k, uint32_t n, uint32_t space, struct trace *t)
{
	static const char *const names[TRACES] = { "zipf-0.9", "zipf-0.7", "zipf-scan", "loop", "shift", "boots" };
	static const char *const what[TRACES] = {
		"zipf, 0.9", "zipf, 0.7", "zipf 0.9, every fifth of the time half of the requests are a scan",
		"a loop over an eighth of the addresses", "zipf 0.9, the popular blocks change four times",
		"zipf 0.9, with the same thousand blocks in order now and then"
	};
	struct zipf z;

	seed = 42 + k;
	scan_at = 0;
	zipf_init(&z, k == 2 ? space / 2 : space, k == 1 ? 0.7 : 0.9);
	*t = (struct trace){ names[k], what[k], malloc(n * sizeof(*t->at)), n, space };
	if (!t->at)
		abort();
	for (uint32_t i = 0; i < n; i++)
		t->at[i] = draw(k, &z, i, n, space);
}

void trace_free(struct trace *t)
{
	free(t->at);
}

uint64_t bench_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}
