/* SPDX-License-Identifier: Apache-2.0 */
/* See hits.h. One volume, one fiber; depth 1 or 16 reads of 4 KiB at random. */
#include "hits.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cache/cache.h"
#include "cache/hash.h"
#include "env/fiber.h"
#include "trace.h"

#define BS 16384u
#define DEPTH 16u

struct bench {
	struct env *e;
	const char *dir;
	struct cache_vol *cv;
	struct cache *c;
	struct fiber *f;
	uint32_t open;
	uint64_t rnd;
	uint8_t *buf;
	int rc;
};

struct lane {
	struct cache_read r;
	struct bench *b;
};

static uint64_t wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void on_done(struct cache_read *r)
{
	struct bench *b = container_of(r, struct lane, r)->b;

	b->open--;
	fiber_wake(b->e, b->f);
}

/* n reads of 4 KiB among `blocks` blocks, `depth` at a time. */
static void reads(struct bench *b, const char *what, uint32_t n, uint32_t blocks, unsigned depth, const char *end)
{
	struct lane lane[DEPTH] = { 0 };
	struct cache_info before, after;
	uint64_t w0, c0;

	cache_info(b->c, &before);
	w0 = wall();
	c0 = bench_ns();
	for (uint32_t i = 0; i < n; i += depth) {
		for (unsigned k = 0; k < depth; k++) {
			uint64_t x = mix64(++b->rnd);

			lane[k].b = b;
			lane[k].r.done = on_done;
			b->open += cache_read(b->cv, &lane[k].r, b->buf + k * HCI_BLOCK, x % blocks * BS + (x >> 40) % 4 * HCI_BLOCK,
					      HCI_BLOCK);
		}
		while (b->open)
			fiber_park(b->e);
	}
	c0 = bench_ns() - c0;
	w0 = wall() - w0;
	cache_info(b->c, &after);
	printf("    \"%s\": { \"us\": %.2f, \"cpu_us\": %.2f, \"iops\": %.0f, \"hits_ram\": %llu, \"hits_ssd\": %llu, \"misses\": %llu }%s\n",
	       what, (double)w0 * depth / n / 1e3, (double)c0 / n / 1e3, (double)n * 1e9 / (double)w0,
	       (unsigned long long)(after.hits_ram - before.hits_ram), (unsigned long long)(after.hits_ssd - before.hits_ssd),
	       (unsigned long long)(after.misses - before.misses), end);
}

static void fill(struct bench *b, uint32_t from, uint32_t n, uint32_t pause)
{
	for (uint32_t i = from; i < from + n; i++) {
		for (uint32_t k = 0; k < BS / 8; k++)
			((uint64_t *)(void *)b->buf)[k] = mix64(i * 4096 + k);
		cache_fill(b->cv, (uint64_t)i * BS, BS, b->buf, (uint64_t)i * BS, BS, NS_PER_MS);
		if (pause && i % pause == 0)
			fiber_sleep(b->e, 2 * NS_PER_MS);
	}
}

static void fills(struct bench *b)
{
	uint64_t c0 = bench_ns(), n = 20000;

	for (uint64_t i = 0; i < n; i++)
		cache_fill(b->cv, (1000000 + i) * BS, BS, b->buf, (1000000 + i) * BS, BS, NS_PER_MS);
	printf("    \"fill of 16 KiB, memory only\": { \"cpu_us\": %.2f },\n", (double)(bench_ns() - c0) / (double)n / 1e3);
	c0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {
		struct cache_write w;

		cache_write_begin(b->cv, &w, (2000000 + i) * BS, HCI_BLOCK, i + 1);
		cache_write_end(b->cv, &w, (2000000 + i) * BS, HCI_BLOCK, b->buf);
	}
	printf("    \"write of 4 KiB, not cached\": { \"cpu_us\": %.3f },\n", (double)(bench_ns() - c0) / (double)n / 1e3);
	fill(b, 3000000, 64, 0);
	c0 = bench_ns();
	for (uint64_t i = 0; i < n; i++) {
		struct cache_write w;

		cache_write_begin(b->cv, &w, (3000000 + i % 64) * BS, HCI_BLOCK, n + i + 1);
		cache_write_end(b->cv, &w, (3000000 + i % 64) * BS, HCI_BLOCK, b->buf);
	}
	printf("    \"write of 4 KiB, block in memory\": { \"cpu_us\": %.2f },\n", (double)(bench_ns() - c0) / (double)n / 1e3);
}

static void fingerprint(struct bench *b)
{
	uint8_t seed[FP_SEED] = { 1 };
	struct fp_key *k = fp_key_new(seed, BS);
	uint64_t c0 = bench_ns(), sum = 0, n = 100000;

	for (uint64_t i = 0; i < n; i++)
		sum += fp_of(k, b->buf);
	c0 = bench_ns() - c0;
	printf("    \"fingerprint of 16 KiB\": { \"cpu_us\": %.2f, \"gb_s\": %.1f }%s\n", (double)c0 / (double)n / 1e3,
	       (double)n * BS / (double)c0, sum ? "" : " ");
	fp_key_free(k);
}

static void bench_fiber(void *arg)
{
	struct bench *b = arg;
	struct cache_opts o = { .size = 256 * MiB, .ram = 32 * MiB, .block = BS, .cluster = { { 1 } } };
	struct uuid vol = { { 7 } };
	struct hci_error err;
	char path[256];

	snprintf(path, sizeof(path), "%s/bench-cache", b->dir);
	o.path = path;
	b->f = fiber_self(b->e);
	b->buf = mem_alloc_aligned(1 * MiB);
	b->rc = cache_open(b->e, &o, &b->c, &err);
	if (b->rc || !b->buf) {
		fprintf(stderr, "%s\n", err.message);
		env_stop(b->e);
		return;
	}
	b->cv = cache_attach(b->c, &vol, 0, 1000000000);
	printf("  \"hits\": {\n");
	fill(b, 0, 15000, 32);
	fiber_sleep(b->e, 100 * NS_PER_MS);
	reads(b, "ssd, one at a time", 8000, 15000, 1, ",");
	reads(b, "ssd, 16 at a time", 64000, 15000, 16, ",");
	reads(b, "memory, warming up", 16000, 1000, 16, ",");
	reads(b, "memory, one at a time", 400000, 1000, 1, ",");
	reads(b, "memory, 16 at a time", 1600000, 1000, 16, ",");
	fills(b);
	fingerprint(b);
	printf("  }");
	cache_detach(b->cv);
	cache_close(b->c);
	mem_free_aligned(b->buf);
	unlink(path);
	env_stop(b->e);
}

int hits_measure(const char *dir)
{
	struct env_real_opts eo = { .workers = 2, .name = "bench" };
	struct bench b = { .dir = dir };
	struct hci_error err;

	b.e = env_real_new(&eo, &err);
	if (!b.e || fiber_spawn(b.e, bench_fiber, &b, "bench")) {
		fprintf(stderr, "bench_cache: no env\n");
		return 1;
	}
	env_run(b.e);
	env_free(b.e);
	return b.rc != 0;
}
