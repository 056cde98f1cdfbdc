/* SPDX-License-Identifier: Apache-2.0 */
/* Each class of page is found, is worth its while, and can be switched off; references that fail cost time, not bytes. */
#include <fcntl.h>
#include <unistd.h>

#include <stdatomic.h>

#include "../../harness.h"
#include "compute/memstream/aside.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/store.h"
#include "pair.h"

#define PAGES 400u

static const uint8_t id[16] = { 'd', 'i', 's', 'k', 1 };

static _Atomic uint64_t now_ns; /* the codec's threads ask, too */

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return atomic_fetch_add(&now_ns, 1000) + 1000;
}

static void begin(struct gen *g)
{
	*g = (struct gen){ .b = BUF_INIT };
	gen_head(g);
	gen_part(g);
}

static void end(struct gen *g)
{
	gen_end(g);
	gen_eof(g);
}

/* PAGES pages of text from a seed on. */
static void texts(struct gen *g, uint64_t seed, uint64_t addr)
{
	uint8_t page[MST_PAGE];

	for (unsigned i = 0; i < PAGES; i++) {
		page_text(page, seed + i);
		gen_page(g, "pc.ram", addr + i * 4096ull, page);
	}
}

static void run(struct gen *g, struct pair_opts *o, struct pair_result *r)
{
	o->seed = 3;
	o->src.now = fake_now;
	pair_run(g->b.data, g->b.len, o, r);
	ck_assert_msg(!r->rc, "%s", r->err.message);
	ck_assert(r->same);
	for (unsigned c = 0; c < MST_CLASSES; c++)
		ck_assert_uint_eq(r->src.pages[c], r->dst.pages[c]);
}

START_TEST(zeroes_cost_next_to_nothing)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct gen g;
	uint8_t page[MST_PAGE] = { 0 };

	begin(&g);
	for (unsigned i = 0; i < 20000; i++)
		gen_zero(&g, "pc.ram", i * 4096ull);
	for (unsigned i = 0; i < PAGES; i++)
		gen_page(&g, "pc.ram", (20000 + i) * 4096ull, page);
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_ge(r.src.pages[MST_ZERO], 20000 + PAGES - 1);
	ck_assert_uint_lt(r.src.wire, 2000);
	buf_free(&g.b);
}
END_TEST

START_TEST(repeats_are_sent_once)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct gen g;

	begin(&g);
	texts(&g, 1, 0);
	texts(&g, 1, 1 << 24);
	texts(&g, 1, 0); /* again in the same place */
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_SAME], 2 * PAGES);
	ck_assert_uint_eq(r.src.pages[MST_NEW], PAGES);
	o.src.without = 1u << MST_SAME | 1u << MST_DELTA;
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_SAME], 0);
	ck_assert_uint_eq(r.src.pages[MST_NEW], 3 * PAGES);
	buf_free(&g.b);
}
END_TEST

/* The guest of the next test: rounds of small changes, each page's different. */
static void changing(struct gen *g, unsigned rounds)
{
	uint8_t page[MST_PAGE];

	begin(g);
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < PAGES; i++) {
			page_text(page, 1 + i);
			memcpy(page + i % 500 * 8, &round, sizeof(round));
			gen_page(g, "pc.ram", i * 4096ull, page);
		}
		gen_end(g);
		gen_part(g);
	}
	end(g);
}

START_TEST(changes_are_sent_as_changes)
{
	struct pair_opts o = { 0 };
	struct pair_result r, off;
	struct gen g;

	changing(&g, 5);
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_DELTA], 4 * PAGES);
	ck_assert_uint_eq(r.src.pages[MST_NEW], PAGES);
	ck_assert_uint_lt(r.src.wire_of[MST_DELTA], 4 * PAGES * 24);
	o.src.without = 1u << MST_DELTA;
	run(&g, &o, &off);
	ck_assert_uint_eq(off.src.pages[MST_DELTA], 0);
	ck_assert_uint_gt(off.src.wire, 3 * r.src.wire);
	buf_free(&g.b);
}
END_TEST

/* All pages change in each of three turns, and a third of them fits; grow: may the cache? */
static void turns(bool grow, struct pair_result *r)
{
	struct pair_opts o = { .src = { .cache = PAGES / 3 * MST_PAGE, .cache_max = grow ? 1 << 30 : 0 } };
	struct gen g;
	uint8_t page[MST_PAGE];

	begin(&g);
	for (uint32_t turn = 0; turn < 4; turn++)
		for (unsigned i = 0; i < PAGES; i++) {
			page_text(page, i + 1);
			memcpy(page + 64, &turn, sizeof(turn));
			gen_page(&g, "pc.ram", i * 4096ull, page);
		}
	end(&g);
	run(&g, &o, r);
	buf_free(&g.b);
}

START_TEST(the_cache_grows_with_what_comes_again)
{
	struct pair_result r;

	turns(false, &r);
	ck_assert_uint_le(r.src.pages[MST_DELTA], PAGES);
	turns(true, &r);
	/* The second turn finds what had to go; the others find all. */
	ck_assert_uint_ge(r.src.pages[MST_DELTA], 2 * PAGES - PAGES / 10);
}
END_TEST

START_TEST(a_small_cache_or_none_is_no_harm)
{
	struct pair_result r;
	struct gen g;

	changing(&g, 4);
	for (unsigned i = 0; i < 4; i++) {
		struct pair_opts o = { 0 };

		/* The smaller of the two counts: none, one page, a third of the guest. */
		o.src.cache = (uint64_t[]){ 1 << 30, 1, 4096, PAGES * 4096 / 3 }[i];
		o.dst.cache = (uint64_t[]){ 1, 1 << 30, 1 << 30, 1 << 30 }[i];
		run(&g, &o, &r);
		ck_assert(i < 3 ? r.src.pages[MST_DELTA] <= 4 : r.src.pages[MST_DELTA] < 3 * PAGES);
	}
	buf_free(&g.b);
}
END_TEST

START_TEST(pages_are_seen_between_records_of_other_kinds)
{
	static const uint8_t xbzrle[] = { 0, 0, 0, 0, 0, 0, 0x50, 0x60, 1, 0, 5, 'a', 'b', 'c', 'd', 'e' };
	static const uint8_t packed[] = { 0, 0, 0, 0, 0, 0, 0x51, 0x20, 0, 0, 0, 3, 'x', 'y', 'z' };
	static const uint8_t flush[] = { 0, 0, 0, 0, 0, 0, 0x02, 0x00 };
	static const uint8_t other[] = { 1, 0, 0, 0, 9, 5, 's', 'l', 'i', 'r', 'p', 0, 0, 0, 0, 0, 0, 0, 1, 0x7e, 0, 0, 0, 9 };
	struct pair_opts o = { 0 };
	struct pair_result r;
	uint8_t page[MST_PAGE];
	struct gen g;

	begin(&g);
	for (unsigned i = 0; i < PAGES; i++) {
		page_text(page, 1 + i);
		gen_page(&g, i % 50 ? "pc.ram" : "/rom@etc/acpi/tables", i * 4096ull, page);
		if (i % 3 == 0)
			buf_append(&g.b, xbzrle, sizeof(xbzrle));
		if (i % 5 == 0)
			buf_append(&g.b, packed, sizeof(packed));
		if (i % 7 == 0)
			buf_append(&g.b, flush, sizeof(flush));
		if (i % 40 == 0) {
			gen_end(&g);
			buf_append(&g.b, other, sizeof(other));
			gen_device(&g, 300);
			gen_part(&g);
		}
	}
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_NEW], PAGES);
	/* Nor does a page get lost where a batch goes for want of more. */
	o.src.workers = 1;
	o.src.aside = ASIDE_NEVER;
	o.src.linger_ns = 500000;
	o.threads = true;
	o.portion = 900;
	o.seed = 3;
	pair_run(g.b.data, g.b.len, &o, &r);
	ck_assert(r.same && !r.rc);
	ck_assert_uint_ge(r.src.pages[MST_NEW], PAGES * 9 / 10);
	buf_free(&g.b);
}
END_TEST

START_TEST(noise_is_not_packed)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct gen g;
	uint8_t page[MST_PAGE];

	begin(&g);
	for (unsigned i = 0; i < PAGES; i++) {
		page_random(page, i + 1);
		gen_page(&g, "pc.ram", i * 4096ull, page);
	}
	texts(&g, 1, 1 << 24);
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_RAW], PAGES);
	ck_assert_uint_eq(r.src.pages[MST_NEW], PAGES);
	ck_assert_uint_eq(r.src.wire_of[MST_RAW], PAGES * 4096ull);
	buf_free(&g.b);
}
END_TEST

START_TEST(the_next_guest_of_an_image_costs_little)
{
	uint8_t store_id[16] = "pgst-1";
	struct mst_store *store = mst_store_new(store_id, 64 << 20), *other;
	struct mst_known *known = mst_known_new(100000);
	struct mst_provider src, dst;
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src }, .dst = { .n_providers = 1, .providers = &dst } };
	struct pair_result first, second, third;
	struct gen g;

	begin(&g);
	texts(&g, 1, 0);
	end(&g);
	mst_known_provider(known, &src);
	mst_store_provider(store, &dst);
	run(&g, &o, &first);
	ck_assert_uint_eq(first.src.pages[MST_REF], 0);
	ck_assert_uint_eq(mst_store_pages(store), PAGES);
	run(&g, &o, &second);
	ck_assert_uint_eq(second.src.pages[MST_REF], PAGES);
	ck_assert_uint_eq(second.src.refused, 0);
	ck_assert_uint_lt(second.src.wire * 10, first.src.wire);
	/* The destination was started again: nothing of the old store is counted on. */
	store_id[5] = '2';
	other = mst_store_new(store_id, 64 << 20);
	mst_store_provider(other, &dst);
	run(&g, &o, &third);
	ck_assert_uint_eq(third.src.pages[MST_REF], 0);
	mst_store_free(store);
	mst_store_free(other);
	mst_known_free(known);
	buf_free(&g.b);
}
END_TEST

START_TEST(what_the_store_forgot_is_sent)
{
	uint8_t store_id[16] = "pgst-1";
	/* Room for a tenth of what the source remembers. */
	struct mst_store *store = mst_store_new(store_id, PAGES / 10 * 4096);
	struct mst_known *known = mst_known_new(100000);
	struct mst_provider src, dst;
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src }, .dst = { .n_providers = 1, .providers = &dst } };
	struct pair_result r;
	struct gen g;

	begin(&g);
	texts(&g, 1, 0);
	end(&g);
	mst_known_provider(known, &src);
	mst_store_provider(store, &dst);
	run(&g, &o, &r);
	run(&g, &o, &r);
	/* So many that the source makes no more. */
	ck_assert_uint_ge(r.src.pages[MST_REF], PAGES / 2);
	ck_assert_uint_lt(r.src.pages[MST_REF], PAGES);
	ck_assert_uint_ge(r.src.refused, PAGES / 4);
	ck_assert_uint_eq(r.src.refused, r.dst.refused);
	o.src.workers = o.dst.workers = 2;
	o.src.aside = ASIDE_NEVER;
	o.threads = true;
	run(&g, &o, &r);
	mst_store_free(store);
	mst_known_free(known);
	buf_free(&g.b);
}
END_TEST

/* A disk whose blocks are the pages of texts(), with a hole before them. */
static int make_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint8_t page[MST_PAGE];

	ck_assert_int_ge(fd, 0);
	unlink(path);
	for (unsigned i = 0; i < PAGES; i++) {
		page_text(page, 1 + i);
		ck_assert_int_eq(pwrite(fd, page, sizeof(page), (off_t)(1 << 22) + i * 4096), 4096);
	}
	return fd;
}

START_TEST(blocks_of_a_disk_are_references)
{
	int fd = make_disk("memstream-disk.tmp");
	struct mst_index *index = mst_index_new(id, 4 * PAGES);
	struct mst_provider src, dst;
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src }, .dst = { .n_providers = 1, .providers = &dst } };
	struct pair_result r;
	uint8_t page[MST_PAGE];
	void *file;
	struct gen g;

	ck_assert_int_gt(mst_index_scan(index, fd, 0, 1 << 30), 0);
	mst_index_source(index, &src);
	file = mst_file_provider(id, fd, &dst);
	begin(&g);
	texts(&g, 1, 0);
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_REF], PAGES);
	ck_assert_uint_eq(r.src.refused, 0);
	/* Half of the disk changes behind the index's back. */
	page_text(page, 77);
	for (unsigned i = 0; i < PAGES; i += 2)
		ck_assert_int_eq(pwrite(fd, page, sizeof(page), (off_t)(1 << 22) + i * 4096), 4096);
	run(&g, &o, &r);
	ck_assert_uint_ge(r.src.refused, PAGES / 5);
	ck_assert_uint_eq(r.dst.asked_again, 0);
	o.src.without = 1u << MST_REF;
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_REF], 0);
	/* Another disk's name: not used. */
	o.src.without = 0;
	dst.id[15] = 9;
	run(&g, &o, &r);
	ck_assert_uint_eq(r.src.pages[MST_REF], 0);
	mem_free(file);
	mst_index_free(index);
	buf_free(&g.b);
	close(fd);
}
END_TEST

/* ---- hashes that collide ---- */

static uint64_t quick_of_all(const void *page)
{
	(void)page;
	return 42;
}

static void strong_of_all(const void *page, uint8_t out[MST_STRONG])
{
	(void)page;
	memset(out, 7, MST_STRONG);
}

static int always(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	(void)ctx;
	(void)batch;
	*token = quick;
	return MST_HAS;
}

static int wrong_page(void *ctx, uint64_t token, void *page)
{
	(void)ctx;
	(void)token;
	page_text(page, 1);
	return 0;
}

START_TEST(a_wrong_page_is_refused_whatever_hashes_collide)
{
	static const struct mst_hash weak[3] = { { quick_of_all, mst_strong }, { mst_quick, strong_of_all },
						 { quick_of_all, strong_of_all } };
	struct mst_provider src = { .lookup = always }, dst = { .read = wrong_page };
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src }, .dst = { .n_providers = 1, .providers = &dst } };
	struct pair_result r;
	struct gen g;

	begin(&g);
	texts(&g, 1, 0);
	texts(&g, 5000, 1 << 24);
	texts(&g, 1, 0);
	end(&g);
	o.src.hash = o.dst.hash = &weak[_i];
	o.threads = _i == 2;
	o.src.workers = o.dst.workers = _i == 2 ? 2 : 0;
	o.src.aside = ASIDE_NEVER;
	run(&g, &o, &r);
	ck_assert_uint_ge(r.src.pages[MST_REF], PAGES / 2);
	if (_i) /* the hash did not tell: the message's checksum did */
		ck_assert_uint_gt(r.dst.asked_again, 0);
	else
		ck_assert(r.src.refused >= PAGES / 2 - 1 && !r.dst.asked_again);
	buf_free(&g.b);
}
END_TEST

START_TEST(blocks_that_collide_are_refused)
{
	int fd = make_disk("memstream-disk.tmp");
	struct mst_index *index = mst_index_new(id, 4 * PAGES);
	struct mst_provider src, dst;
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src }, .dst = { .n_providers = 1, .providers = &dst } };
	struct pair_result r;
	void *file;
	struct gen g;

	o.src.hash = o.dst.hash = &mst_hash_colliding;
	mst_index_hash(index, &mst_hash_colliding);
	ck_assert_int_gt(mst_index_scan(index, fd, 0, 1 << 30), 0);
	mst_index_source(index, &src);
	file = mst_file_provider(id, fd, &dst);
	begin(&g);
	texts(&g, 100000, 0); /* what the disk does not have */
	end(&g);
	run(&g, &o, &r);
	ck_assert_uint_gt(r.src.pages[MST_REF], 0);
	ck_assert_uint_eq(r.src.refused, r.src.pages[MST_REF]);
	ck_assert_uint_eq(r.dst.asked_again, 0);
	mem_free(file);
	mst_index_free(index);
	buf_free(&g.b);
	close(fd);
}
END_TEST

START_TEST(zlib_is_enough)
{
	struct pair_opts o = { .src = { .codecs = 1u << 1 } };
	struct pair_result r, best;
	struct gen g;

	changing(&g, 3);
	run(&g, &o, &r);
	o.src.codecs = 0;
	for (int level = 1; level <= 8; level++) {
		o.src.level = level;
		run(&g, &o, &best);
	}
	ck_assert_uint_lt(r.src.wire, g.b.len / 2);
	buf_free(&g.b);
}
END_TEST

/* ---- providers that are not worth it ---- */

static uint64_t slow_reads, announced;

static int slow_page(void *ctx, uint64_t token, void *page)
{
	(void)ctx;
	now_ns += 5 * NS_PER_MS;
	slow_reads++;
	page_text(page, token);
	return 0;
}

static void soon(void *ctx, const uint64_t *tokens, unsigned n)
{
	(void)ctx;
	(void)tokens;
	announced += n;
}

START_TEST(a_slow_disk_is_not_waited_for)
{
	struct mst_provider src = { .lookup = always }, dst = { .read = slow_page, .soon = soon };
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src, .batch = 64 << 10 },
			       .dst = { .n_providers = 1, .providers = &dst, .now = fake_now } };
	struct pair_result r;
	struct gen g;

	begin(&g);
	for (unsigned i = 0; i < 8; i++)
		texts(&g, 1 + i * 10000, i << 24);
	end(&g);
	run(&g, &o, &r);
	/* Some were read until it was clear, then few; and the source saw that it leads to nothing. */
	ck_assert_uint_lt(slow_reads, PAGES / 4);
	ck_assert_uint_lt(r.src.pages[MST_REF], 2 * PAGES);
	ck_assert_uint_eq(announced, r.src.pages[MST_REF]);
	buf_free(&g.b);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_classes");
	TCase *t = tcase_create("classes");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, zeroes_cost_next_to_nothing);
	tcase_add_test(t, repeats_are_sent_once);
	tcase_add_test(t, changes_are_sent_as_changes);
	tcase_add_test(t, the_cache_grows_with_what_comes_again);
	tcase_add_test(t, a_small_cache_or_none_is_no_harm);
	tcase_add_test(t, pages_are_seen_between_records_of_other_kinds);
	tcase_add_test(t, noise_is_not_packed);
	tcase_add_test(t, the_next_guest_of_an_image_costs_little);
	tcase_add_test(t, what_the_store_forgot_is_sent);
	tcase_add_test(t, blocks_of_a_disk_are_references);
	tcase_add_loop_test(t, a_wrong_page_is_refused_whatever_hashes_collide, 0, 3);
	tcase_add_test(t, blocks_that_collide_are_refused);
	tcase_add_test(t, a_slow_disk_is_not_waited_for);
	tcase_add_test(t, zlib_is_enough);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
