/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever goes in comes out, byte for byte: streams of QEMU's kind, cut and damaged ones, noise; in any portions. */
#include <stdatomic.h>

#include "../../harness.h"
#include "compute/memstream/aside.h"
#include "pair.h"

static _Atomic uint64_t now_ns; /* the codec's threads ask, too */

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return atomic_fetch_add(&now_ns, 1000) + 1000;
}

static void check(const struct gen *g, size_t len, struct pair_opts *o)
{
	struct pair_result r;

	o->src.now = fake_now;
	pair_run(g->b.data, len, o, &r);
	ck_assert_msg(!r.rc, "%s", r.err.message);
	ck_assert(r.same);
	ck_assert_uint_eq(r.src.in, len);
	ck_assert_uint_eq(r.src.out, len);
}

/* Some of everything: three passes over a small memory, half of it changing. */
static void make(struct gen *g, uint64_t seed, unsigned pages)
{
	uint8_t page[MST_PAGE];

	*g = (struct gen){ .b = BUF_INIT, .seed = seed };
	gen_head(g);
	for (unsigned pass = 0; pass < 3; pass++) {
		gen_part(g);
		for (unsigned i = 0; i < pages; i++) {
			const char *block = i % 64 == 63 ? "vga.vram" : "pc.ram";
			uint64_t what = rnd(&g->seed) % 8;

			if (pass && what < 4)
				continue;
			if (what == 4) {
				gen_zero(g, block, i * 4096ull);
				continue;
			}
			if (what == 5)
				page_random(page, seed + i + pass);
			else
				page_text(page, what == 6 ? seed : seed + i);
			if (pass)
				memset(page + rnd(&g->seed) % 4000, (int)pass, 64);
			gen_page(g, block, i * 4096ull, page);
			if (i % 100 == 99) {
				gen_end(g);
				gen_part(g);
			}
		}
		gen_end(g);
	}
	gen_device(g, 5000);
	gen_eof(g);
}

START_TEST(a_stream_comes_out_as_it_went_in)
{
	struct gen g;

	make(&g, 7 + (uint64_t)_i, 300);
	for (unsigned n = 0; n < 4 * ASIDE_MODES; n++) {
		unsigned i = n % 4;
		struct pair_opts o = { .seed = i + 1, .portion = (uint32_t[]){ 0, 1000, 50, 300000 }[i] };

		o.src.aside = n / 4;

		o.src.batch = i & 1 ? 64 << 10 : 0;
		o.src.cache = o.dst.cache = (uint64_t[]){ 0, 100, 4096 * 50, 1 << 20 }[i];
		o.flushes = i > 1;
		if (i == 2)
			o.src.codecs = 1u << 1;
		check(&g, g.b.len, &o);
	}
	buf_free(&g.b);
}
END_TEST

START_TEST(a_stream_may_end_anywhere)
{
	uint64_t seed = 99;
	struct gen g;

	make(&g, 3, 40);
	for (unsigned i = 0; i < 300; i++) {
		struct pair_opts o = { .seed = i + 1, .flushes = i & 1 };

		check(&g, i < 150 ? i : rnd(&seed) % g.b.len, &o);
	}
	buf_free(&g.b);
}
END_TEST

START_TEST(a_damaged_stream_is_bytes_like_others)
{
	uint64_t seed = 5;
	struct gen g;

	for (unsigned i = 0; i < 60; i++) {
		struct pair_opts o = { .seed = i + 1, .src.aside = i % ASIDE_MODES };

		make(&g, i + 1, 60);
		for (unsigned k = 0; k < 1 + i; k++) {
			size_t at = rnd(&seed) % g.b.len;

			if (k % 3)
				g.b.data[at] = (uint8_t)rnd(&seed);
			else /* a piece of it elsewhere */
				memmove(g.b.data + at, g.b.data + rnd(&seed) % (g.b.len - 64), 64 < g.b.len - at ? 64 : 0);
		}
		check(&g, g.b.len, &o);
		buf_free(&g.b);
	}
}
END_TEST

START_TEST(noise_is_carried)
{
	struct gen g = { .b = BUF_INIT };
	struct pair_opts o = { .seed = 1 };
	uint8_t page[MST_PAGE];

	for (unsigned i = 0; i < 700; i++) {
		page_random(page, i + 1);
		buf_append(&g.b, page, 4000);
	}
	check(&g, g.b.len, &o);
	buf_free(&g.b);
}
END_TEST

START_TEST(workers_make_the_same_stream)
{
	struct gen g;

	make(&g, 11, 3000);
	for (unsigned i = 0; i < 4; i++) {
		struct pair_opts o = { .seed = i + 1, .threads = true };
		struct pair_result r;

		o.src.workers = 1 + i;
		o.dst.workers = 4 - i;
		o.src.batch = 64 << 10;
		pair_run(g.b.data, g.b.len, &o, &r);
		ck_assert_msg(!r.rc, "%s", r.err.message);
		ck_assert(r.same);
	}
	buf_free(&g.b);
}
END_TEST

START_TEST(no_memory_is_an_error_and_nothing_leaks)
{
	struct gen g;

	make(&g, 13, 60);
	FOR_EACH_ALLOC_FAILURE(n) {
		struct pair_opts o = { .seed = 1 };
		struct pair_result r;

		o.src.cache = o.dst.cache = 1 << 20;
		pair_run(g.b.data, g.b.len, &o, &r);
		ck_assert(r.same || r.rc);
		ck_assert(!r.rc || r.rc == HCI_E_NOMEM);
	}
	buf_free(&g.b);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_exact");
	TCase *t = tcase_create("exact");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, a_stream_comes_out_as_it_went_in, 0, 3);
	tcase_add_test(t, a_stream_may_end_anywhere);
	tcase_add_test(t, a_damaged_stream_is_bytes_like_others);
	tcase_add_test(t, noise_is_carried);
	tcase_add_test(t, workers_make_the_same_stream);
	tcase_add_test(t, no_memory_is_an_error_and_nothing_leaks);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
