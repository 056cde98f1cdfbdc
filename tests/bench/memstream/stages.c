/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stage of the codec by itself, in GB/s of one core, beside memcpy and the compressors' own libraries. The pages are
 * text-like, the changes small. A reference costs the source a look at what it knows and the strong hash, the destination
 * a page from its store and the strong hash.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifdef HCI_HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HCI_HAVE_LZ4
#include <lz4.h>
#endif

#include "base/crc32c.h"
#include "base/mem.h"
#include "bench.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/delta.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/mirror.h"
#include "compute/memstream/parse.h"
#include "compute/memstream/store.h"
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

static uint8_t *zeroes;

static void zero(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		sink += mst_is_zero(zeroes + i * 4096ul);
}

/* What is no zero page is found out by its first bytes, mostly. */
static void not_zero(void)
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

static uint8_t deltas[PAGES][64];
static uint8_t delta_len[PAGES];

static void change_back(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		const uint8_t *at = deltas[i];

		memcpy(out + i * 4096ul, pages + i * 4096ul, 4096);
		sink += delta_apply(out + i * 4096ul, &at, at + delta_len[i]);
	}
}

static struct mst_provider known, store, index_of;

static void refer(const struct mst_provider *p)
{
	uint8_t h[MST_STRONG];
	uint64_t token;

	for (unsigned i = 0; i < PAGES; i++) {
		if (!p->lookup(p->ctx, mst_quick(pages + i * 4096ul), 0, &token))
			continue;
		mst_strong(pages + i * 4096ul, h);
		sink += h[0];
	}
}

static void refer_known(void)
{
	refer(&known);
}

static void refer_block(void)
{
	refer(&index_of);
}

static void serve(void)
{
	uint8_t h[MST_STRONG];

	for (unsigned i = 0; i < PAGES; i++) {
		if (store.read(store.ctx, mst_quick(pages + i * 4096ul), out + i * 4096ul))
			continue;
		mst_strong(out + i * 4096ul, h);
		sink += h[0];
	}
}

static void keep_in_store(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		store.note(store.ctx, mst_quick(pages + i * 4096ul) + i, pages + i * 4096ul);
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

static struct packed {
	uint8_t data[2 * RUN], codec;
	size_t len;
} packed_runs[PAGES * 4096ul / RUN];

/* What unpack() takes. */
static void pack_once(void)
{
	for (size_t i = 0; i < PAGES * 4096ul; i += RUN) {
		struct packed *p = &packed_runs[i / RUN];

		p->len = (size_t)mst_pack(packer, codecs, level, pages + i, RUN, p->data, sizeof(p->data), &p->codec);
	}
}

static void unpack(void)
{
	for (size_t i = 0; i < PAGES * 4096ul; i += RUN) {
		const struct packed *p = &packed_runs[i / RUN];

		sink += (uint64_t)mst_unpack(packer, p->codec, p->data, p->len, out + i, RUN);
	}
}

#ifdef HCI_HAVE_ZSTD
static void zstd_library(void)
{
	static uint8_t to[2 * RUN];
	static ZSTD_CCtx *c;

	c = c ? c : ZSTD_createCCtx();
	for (size_t i = 0; i < PAGES * 4096ul; i += RUN)
		sink += ZSTD_compressCCtx(c, to, sizeof(to), pages + i, RUN, 1);
}
#endif

#ifdef HCI_HAVE_LZ4
static void lz4_library(void)
{
	static uint8_t to[2 * RUN];

	for (size_t i = 0; i < PAGES * 4096ul; i += RUN)
		sink += (uint64_t)LZ4_compress_default((const char *)pages + i, (char *)to, RUN, sizeof(to));
}
#endif

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
	zeroes = calloc(PAGES, 4096);
	for (unsigned i = 0; i < PAGES; i++)
		*(volatile uint8_t *)(zeroes + i * 4096ul) = 0; /* memory of its own, not one page many times */
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

static void fill_providers(void)
{
	static const uint8_t id[16] = "pgst-bench";
	struct mst_index *x = mst_index_new(id, 2 * PAGES);
	struct mst_known *k = mst_known_new(4 * PAGES);
	struct mst_store *s = mst_store_new(id, 4 * PAGES * 4096ull);
	uint8_t d[DELTA_MAX + 16];

	if (!x || !k || !s)
		die("no memory");
	mst_index_source(x, &index_of);
	mst_known_provider(k, &known);
	mst_store_provider(s, &store);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t quick_hash = mst_quick(pages + i * 4096ul);
		unsigned n = delta_make(pages + i * 4096ul, other + i * 4096ul, d);

		mst_index_note(x, i, pages + i * 4096ul);
		known.note(known.ctx, quick_hash, NULL);
		store.note(store.ctx, quick_hash, pages + i * 4096ul);
		if (!n || n > sizeof(deltas[0]))
			die("a change is too large");
		memcpy(deltas[i], d, n);
		delta_len[i] = (uint8_t)n;
	}
}

static void compressors(double bytes)
{
	static const struct {
		const char *pack, *unpack;
		uint32_t codec;
		int level;
	} each[] = { { "zlib_1", "unzlib", MST_ZLIB, 1 }, { "lz4", "unlz4", MST_LZ4, 1 }, { "zstd_1", "unzstd", MST_ZSTD, 3 } };

	for (unsigned i = 0; i < ARRAY_SIZE(each); i++) {
		if (!(mst_codecs_built() & 1u << each[i].codec))
			continue;
		codecs = 1u << each[i].codec | 1u << MST_ZLIB;
		level = each[i].level;
		stage(each[i].pack, pack, bytes);
		pack_once();
		stage(each[i].unpack, unpack, bytes);
	}
#ifdef HCI_HAVE_ZSTD
	stage("zstd_1_library", zstd_library, bytes);
#endif
#ifdef HCI_HAVE_LZ4
	stage("lz4_library", lz4_library, bytes);
#endif
	codecs = mst_codecs_built() & ~(1u << MST_LZ4);
	for (level = 1; level <= MST_LEVELS; level++) {
		char name[24];

		snprintf(name, sizeof(name), "level_%d", level);
		stage(name, pack, bytes);
	}
}

int bench_stages(void)
{
	double bytes = PAGES * 4096.0;
	struct pair_opts o = { .seed = 1 };

	fill();
	fill_providers();
	copy(); /* takes the memory */
	packer = mst_packer_new();
	if (!mirror_init(&mirror, PAGES, PAGES))
		die("no memory");
	printf("{");
	stage("memcpy", copy, bytes);
	stage("quick_hash", quick, bytes);
	stage("strong_hash", strong, bytes);
	stage("crc32c", checksum, bytes);
	stage("parse", parse, (double)gen.b.len);
	stage("zero_test", zero, bytes);
	stage("zero_test_of_others", not_zero, bytes);
	stage("raw_test", random_test, bytes);
	stage("delta", change, bytes);
	stage("delta_apply", change_back, bytes);
	stage("ref_to_known_page", refer_known, bytes);
	stage("ref_to_block", refer_block, bytes);
	stage("ref_served", serve, bytes);
	stage("store_note", keep_in_store, bytes);
	stage("mirror_store", mirror_store, bytes);
	stage("mirror_find", mirror_hit, bytes);
	compressors(bytes);
	o.src.level = 1;
	whole("stream_level_1", &o);
	o.src.level = 3;
	whole("stream_level_3", &o);
	printf("\n}\n");
	return 0;
}
