/* SPDX-License-Identifier: Apache-2.0 */
/* Each stage of the codec by itself, in GB/s of one core. The pages are text-like; half of the changes are small. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "bench.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/delta.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/mirror.h"
#include "compute/memstream/parse.h"
#include "unit/compute/memstream/pair.h"

#define PAGES 8192u /* 32 MiB: more than the processor's caches */
#define RUN (256u << 10)
#define SECONDS 0.3

static uint8_t *pages, *other, *out;
static volatile uint64_t sink;
static struct mst_packer *packer;
static struct mirror mirror;
static struct gen gen;
static bool first = true;

double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void copy(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		memcpy(out + i * 4096ul, pages + i * 4096ul, 4096);
}

static void quick(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		sink += mst_quick(pages + i * 4096ul);
}

static void strong(void)
{
	uint8_t h[MST_STRONG];

	for (unsigned i = 0; i < PAGES; i++) {
		mst_strong(pages + i * 4096ul, h);
		sink += h[0];
	}
}

static void checksum(void)
{
	for (unsigned i = 0; i < PAGES; i += 128)
		sink += crc32c(0, pages + i * 4096ul, 128 * 4096);
}

static void zero(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		sink += mst_is_zero(pages + i * 4096ul);
}

static void random_test(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		sink += mst_looks_random(pages + i * 4096ul);
}

static void change(void)
{
	uint8_t d[DELTA_MAX + 16];

	for (unsigned i = 0; i < PAGES; i++)
		sink += delta_make(pages + i * 4096ul, other + i * 4096ul, d);
}

static void mirror_hit(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		sink += mirror_by_content(&mirror, mst_quick(pages + i * 4096ul), pages + i * 4096ul);
}

static void mirror_store(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t key = mirror_key(1, i * 4096ull);

		mirror_put(&mirror, mirror_by_key(&mirror, key), key, i, pages + i * 4096ul, 1, 0);
	}
}

static void parse(void)
{
	struct batch b = { .cap = MST_BATCH_DEFAULT };
	struct parser p;
	size_t at = 0;

	b.raw = out;
	parser_init(&p);
	while (at < gen.b.len) {
		bool full;

		at += (size_t)parser_feed(&p, gen.b.data + at, gen.b.len - at, &b, &full);
		parser_cut(&p, &b);
		batch_reset(&b);
	}
	b.raw = NULL;
	mem_free(b.pieces);
}

static uint32_t codecs;
static int level;

static void pack(void)
{
	static uint8_t packed[2 * RUN];
	uint8_t codec;

	for (size_t i = 0; i < PAGES * 4096ul; i += RUN)
		sink += (uint64_t)mst_pack(packer, codecs, level, pages + i, RUN, packed, sizeof(packed), &codec);
}

/* The processor's time, so that others on the machine count less. */
static double cpu_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void stage(const char *name, void (*fn)(void), double bytes)
{
	double from = cpu_s(), took;
	unsigned n = 0;

	do {
		fn();
		n++;
	} while ((took = cpu_s() - from) < SECONDS);
	printf("%s\n  \"%s\": %.2f", first ? "" : ",", name, bytes * n / took / 1e9);
	first = false;
}

static void whole(const char *name, struct pair_opts *o)
{
	struct pair_result r;
	double from = now_s();

	o->portion = 1 << 20;
	pair_run(gen.b.data, gen.b.len, o, &r);
	if (r.rc || !r.same)
		die("the stream came out differently");
	printf(",\n  \"%s\": {\"encoder\": %.2f, \"decoder\": %.2f, \"both_with_copies\": %.2f}", name,
	       (double)gen.b.len / (double)r.src.cpu_ns, (double)gen.b.len / (double)r.dst.cpu_ns,
	       (double)gen.b.len / (now_s() - from) / 1e9);
}

static void fill(void)
{
	pages = malloc(PAGES * 4096ul);
	other = malloc(PAGES * 4096ul);
	out = malloc(PAGES * 4096ul);
	gen_head(&gen);
	gen_part(&gen);
	for (unsigned i = 0; i < PAGES; i++) {
		page_text(pages + i * 4096ul, i + 1);
		memcpy(other + i * 4096ul, pages + i * 4096ul, 4096);
		other[i * 4096ul + i % 4096] ^= 1;
		gen_page(&gen, "pc.ram", i * 4096ull, pages + i * 4096ul);
	}
	gen_end(&gen);
}

int bench_stages(void)
{
	double bytes = PAGES * 4096.0;
	struct pair_opts o = { .seed = 1 };

	fill();
	copy(); /* takes the memory */
	packer = mst_packer_new();
	if (!mirror_init(&mirror, PAGES))
		die("no memory");
	printf("{");
	stage("memcpy", copy, bytes);
	stage("quick_hash", quick, bytes);
	stage("strong_hash", strong, bytes);
	stage("crc32c", checksum, bytes);
	stage("zero_test", zero, bytes);
	stage("random_test", random_test, bytes);
	stage("delta", change, bytes);
	stage("mirror_store", mirror_store, bytes);
	stage("mirror_find", mirror_hit, bytes);
	stage("parse", parse, (double)gen.b.len);
	codecs = 1u << MST_ZLIB;
	level = 1;
	stage("zlib_1", pack, bytes);
	codecs = mst_codecs_built();
	stage("lz4", pack, bytes);
	codecs = 1u << MST_ZSTD | 1u << MST_ZLIB;
	for (level = 1; level <= MST_LEVELS; level++) {
		char name[24];

		snprintf(name, sizeof(name), "level_%d", level);
		stage(name, pack, bytes);
	}
	o.src.level = 1;
	whole("stream_level_1", &o);
	o.src.level = 3;
	whole("stream_level_3", &o);
	printf("\n}\n");
	return 0;
}
