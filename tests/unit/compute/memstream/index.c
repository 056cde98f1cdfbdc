/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a disk that both sides have: what the index knows of them, and what references leave of the page cache. */
#include "../../harness.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/store.h"
#include "pair.h"

#define PAGES 2048u

static const uint8_t id[16] = { 1, 2, 3 };

/* A disk of n blocks of text, as the source knows it. */
static struct mst_index *index_of(uint64_t n, uint64_t places, struct mst_provider *out)
{
	struct mst_index *x = mst_index_new(id, places);
	uint8_t page[MST_PAGE];

	ck_assert_ptr_nonnull(x);
	for (uint64_t i = 0; i < n; i++) {
		page_text(page, i + 1);
		mst_index_note(x, i, page);
	}
	mst_index_source(x, out);
	return x;
}

static int read_block(void *ctx, uint64_t token, void *page)
{
	(void)ctx;
	page_text(page, token + 1);
	return 0;
}

START_TEST(an_index_that_is_nearly_full_knows_its_blocks)
{
	uint64_t n = 8000, known = 0, token;
	struct mst_provider src;
	struct mst_index *x = index_of(n, 9000, &src);
	uint8_t page[MST_PAGE];

	for (uint64_t i = 0; i < n; i++) {
		page_text(page, i + 1);
		known += src.lookup(src.ctx, mst_quick(page), 0, &token) && token == i;
	}
	ck_assert_uint_ge(known, n * 995 / 1000);
	mst_index_free(x);
}
END_TEST

/* What comes in between is on the disk, and twice as much as the cache has room for. */
START_TEST(references_do_not_drive_out_what_changes)
{
	struct mst_provider src, dst = { .read = read_block };
	struct mst_index *x = index_of(PAGES, 4 * PAGES, &src);
	struct pair_opts o = { .src = { .n_providers = 1, .providers = &src, .cache = (uint64_t)PAGES / 2 * MST_PAGE },
			       .dst = { .n_providers = 1, .providers = &dst },
			       .seed = 3 };
	struct gen g = { .b = BUF_INIT };
	struct pair_result r;
	uint8_t page[MST_PAGE];

	memcpy(dst.id, id, sizeof(id));
	gen_head(&g);
	gen_part(&g);
	for (uint32_t turn = 0; turn < 3; turn++) {
		for (unsigned i = 0; i < PAGES / 8; i++) {
			page_text(page, 100000 + i);
			memcpy(page + 64, &turn, sizeof(turn));
			gen_page(&g, "pc.ram", (1 << 26) + i * 4096ull, page);
		}
		for (unsigned i = 0; !turn && i < PAGES; i++) {
			page_text(page, i + 1);
			gen_page(&g, "pc.ram", i * 4096ull, page);
		}
	}
	gen_end(&g);
	gen_eof(&g);
	pair_run(g.b.data, g.b.len, &o, &r);
	ck_assert(r.same && !r.rc);
	ck_assert_uint_eq(r.src.pages[MST_REF], PAGES);
	ck_assert_uint_eq(r.src.pages[MST_DELTA], 2 * (PAGES / 8));
	mst_index_free(x);
	buf_free(&g.b);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("index");
	TCase *t = tcase_create("index");

	tcase_add_test(t, an_index_that_is_nearly_full_knows_its_blocks);
	tcase_add_test(t, references_do_not_drive_out_what_changes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
