/* SPDX-License-Identifier: Apache-2.0 */
/* What a destination tells of itself: found, bounded, never believed; and peers that lie about it. */
#include "../../harness.h"

#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/store.h"
#include "compute/memstream/wire.h"
#include "pair.h"

#define PAGES 2000u
#define PREFIX "told"

static const uint8_t id[16] = "toldxyz";

/* A destination that has pages of text 1.. PAGES, and tells of them in its own order. */
struct place {
	struct mst_index *x;
	unsigned again;   /* so often it does not know yet */
	unsigned pieces;
	bool changed;     /* none of them is there any more: others are */
	struct mst_told *told;
	struct mst_provider src, dst;
};

static bool odd(void *ctx, uint64_t block)
{
	(void)ctx;
	return block & 1;
}

static bool any(void *ctx, uint64_t block)
{
	(void)ctx;
	(void)block;
	return true;
}

static int tell(void *ctx, uint32_t *at, uint32_t *out, unsigned max)
{
	struct place *p = ctx;

	if (p->again) {
		p->again--;
		return HCI_E_AGAIN;
	}
	p->pieces++;
	return mst_index_tell(p->x, at, out, MIN(max, 100u), any, NULL);
}

static int read_page(void *ctx, uint64_t token, void *page)
{
	struct place *p = ctx;
	uint64_t block;

	if (!mst_index_find(p->x, token, &block))
		return HCI_E_NOTFOUND;
	page_text(page, block + p->changed);
	return 0;
}

static void place_init(struct place *p, uint32_t most)
{
	uint8_t page[MST_PAGE];

	*p = (struct place){ .x = mst_index_new(id, 2 * PAGES), .told = mst_told_new(PREFIX, MST_KIND_GUEST, most) };
	for (unsigned i = 1; i <= PAGES; i++) {
		page_text(page, i);
		mst_index_note(p->x, i, page);
	}
	ck_assert_uint_eq(mst_index_used(p->x), PAGES);
	mst_told_provider(p->told, &p->src);
	p->dst = (struct mst_provider){ .ctx = p, .kind = MST_KIND_GUEST, .tell = tell, .read = read_page };
	memcpy(p->dst.id, id, sizeof(id));
}

static void place_free(struct place *p)
{
	mst_index_free(p->x);
	mst_told_free(p->told);
}

/* A guest with all of these pages, after some that nobody has: what is told comes meanwhile. */
static void stream(struct gen *g)
{
	uint8_t page[MST_PAGE];

	*g = (struct gen){ .b = BUF_INIT };
	gen_head(g);
	gen_part(g);
	for (unsigned i = 0; i < 2 * PAGES; i++) {
		page_text(page, i < PAGES ? 1000000 + i : i - PAGES + 1);
		gen_page(g, "pc.ram", i * 4096ull, page);
	}
	gen_end(g);
	gen_eof(g);
}

static void run(struct place *p, struct pair_opts *o, struct pair_result *r)
{
	struct gen g;

	stream(&g);
	o->seed = 3;
	o->src.n_providers = o->dst.n_providers = 1;
	o->src.providers = &p->src;
	o->dst.providers = &p->dst;
	o->src.batch = 64 << 10;
	pair_run(g.b.data, g.b.len, o, r);
	ck_assert_msg(r->same && !r->rc, "%s", r->err.message);
	buf_free(&g.b);
}

START_TEST(what_is_told_is_referred_to)
{
	struct pair_opts o = { 0 };
	struct pair_result r, without;
	struct place p;

	place_init(&p, 1 << 20);
	p.again = 3;
	run(&p, &o, &r);
	ck_assert_uint_ge(r.src.refs[MST_KIND_GUEST], PAGES * 9 / 10);
	ck_assert_uint_eq(r.src.refs[MST_KIND_GUEST], r.src.pages[MST_REF]);
	ck_assert_uint_eq(r.src.refused, 0);
	ck_assert_uint_ge(p.pieces, PAGES / 100);
	place_free(&p);
	/* Switched off nothing is asked for. */
	place_init(&p, 1 << 20);
	o.src.without = mst_class_bits("guest");
	run(&p, &o, &without);
	ck_assert_uint_eq(without.src.pages[MST_REF], 0);
	ck_assert_uint_eq(p.pieces, 0);
	ck_assert_uint_gt(without.src.wire, r.src.wire * 3 / 2);
	place_free(&p);
	place_init(&p, 1 << 20);
	o.src.without = mst_class_bits("delta,ref");
	run(&p, &o, &without);
	ck_assert_uint_eq(p.pieces, 0);
	place_free(&p);
}
END_TEST

/* Pages that have changed since are refused, and after some of them no more are referred to for a while. */
START_TEST(what_has_changed_since_is_asked_for)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct place p;

	place_init(&p, 1 << 20);
	p.changed = true;
	run(&p, &o, &r);
	ck_assert_uint_gt(r.src.refused, 200);
	ck_assert_uint_eq(r.src.refused, r.src.pages[MST_REF]);
	ck_assert_uint_lt(r.src.refused, PAGES / 2);
	place_free(&p);
}
END_TEST

START_TEST(a_source_keeps_so_many_and_asks_for_no_more)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct place p;

	place_init(&p, 250);
	run(&p, &o, &r);
	ck_assert_uint_eq(p.pieces, 3);
	ck_assert_uint_le(r.src.refs[MST_KIND_GUEST], 250);
	ck_assert_uint_gt(r.src.refs[MST_KIND_GUEST], 200);
	place_free(&p);
}
END_TEST

START_TEST(with_hashes_that_collide_nothing_wrong_comes_out)
{
	struct pair_opts o = { .src = { .hash = &mst_hash_colliding }, .dst = { .hash = &mst_hash_colliding } };
	struct pair_result r;
	uint8_t page[MST_PAGE];
	struct place p;

	place_init(&p, 1 << 20);
	mst_index_free(p.x);
	p.x = mst_index_new(id, 2 * PAGES);
	mst_index_hash(p.x, &mst_hash_colliding);
	for (unsigned i = 1; i <= PAGES; i++) {
		page_text(page, i);
		mst_index_note(p.x, i, page);
	}
	run(&p, &o, &r);
	ck_assert_uint_gt(r.src.refused, 100);
	place_free(&p);
}
END_TEST

/* ---- a read that hangs ---- */

static int hang[2];
static unsigned hanging, users; /* atomic */

static int read_hangs(void *ctx, uint64_t token, void *page)
{
	char c;

	ck_assert_uint_gt(__atomic_load_n(&users, __ATOMIC_SEQ_CST), 0);
	__atomic_add_fetch(&hanging, 1, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(read(hang[0], &c, 1), 1);
	__atomic_sub_fetch(&hanging, 1, __ATOMIC_SEQ_CST);
	return read_page(ctx, token, page);
}

static void keep(void *ctx, bool on)
{
	(void)ctx;
	__atomic_add_fetch(&users, on ? 1 : -1u, __ATOMIC_SEQ_CST);
}

/* The stream breaks when both workers hang. */
static bool breaks(void *ctx, bool back, struct mst_msg **m)
{
	(void)ctx;
	if (!back && __atomic_load_n(&hanging, __ATOMIC_SEQ_CST) == 2)
		(*m)->data[0] = 0xff;
	return true;
}

static void wait_until_none(const unsigned *n)
{
	for (unsigned i = 0; i < 20000 && __atomic_load_n(n, __ATOMIC_SEQ_CST); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	ck_assert_uint_eq(__atomic_load_n(n, __ATOMIC_SEQ_CST), 0);
}

START_TEST(a_worker_that_hangs_in_a_page_is_left_alone)
{
	struct pair_opts o = { .threads = true, .meddle = breaks, .dst = { .workers = 2 } };
	struct pair_result r;
	struct place p;
	struct gen g;

	ck_assert(!pipe(hang));
	place_init(&p, 1 << 20);
	p.dst.read = read_hangs;
	p.dst.keep = keep;
	stream(&g);
	o.seed = 3;
	o.src.n_providers = o.dst.n_providers = 1;
	o.src.providers = &p.src;
	o.dst.providers = &p.dst;
	o.src.batch = 64 << 10;
	pair_run(g.b.data, g.b.len, &o, &r);
	ck_assert_int_ne(r.rc, 0);
	/* The decoder is gone for its owner; what its workers use is not. */
	ck_assert_uint_ge(hanging, 1);
	ck_assert_uint_eq(users, 1);
	ck_assert_int_eq(write(hang[1], "xx", 2), 2);
	wait_until_none(&hanging);
	wait_until_none(&users);
	close(hang[0]);
	close(hang[1]);
	buf_free(&g.b);
	place_free(&p);
}
END_TEST

/* The table of halves, as it grows: all that was told, and nearly nothing else. */
START_TEST(a_million_are_found_again)
{
	struct mst_told *t = mst_told_new(PREFIX, MST_KIND_GUEST, UINT32_MAX);
	uint64_t seed = 1, token, wrong = 0;
	struct mst_provider src;

	mst_told_provider(t, &src);
	ck_assert_int_eq(src.lookup(src.ctx, 1, 0, &token), MST_HAS_NOT);
	for (unsigned i = 0; i < 1000000; i++)
		ck_assert(src.told(src.ctx, (uint32_t)(rnd(&seed) >> 32)));
	seed = 1;
	for (unsigned i = 0; i < 1000000; i++) {
		uint64_t quick = rnd(&seed);

		if (src.lookup(src.ctx, quick, 0, &token) != MST_HAS || token != quick)
			ck_abort_msg("%u", i);
	}
	for (unsigned i = 0; i < 1000000; i++)
		wrong += src.lookup(src.ctx, rnd(&seed), 0, &token) == MST_HAS;
	ck_assert_uint_lt(wrong, 400);
	/* Zeroes are like others. */
	ck_assert(src.told(src.ctx, 0));
	ck_assert_int_eq(src.lookup(src.ctx, 5, 0, &token), MST_HAS);
	ck_assert_int_eq(src.lookup(src.ctx, 0, 0, &token), MST_HAS_NOT);
	mst_told_free(t);
}
END_TEST

/* What filling a table takes of the processor. */
static uint64_t fill_ns(const uint32_t *halves, unsigned n)
{
	struct mst_told *t = mst_told_new(PREFIX, MST_KIND_GUEST, UINT32_MAX);
	struct mst_provider src;
	struct timespec from, to;

	mst_told_provider(t, &src);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (unsigned i = 0; i < n; i++)
		ck_assert(src.told(src.ctx, halves[i]));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	mst_told_free(t);
	return (uint64_t)(to.tv_sec - from.tv_sec) * NS_PER_S + (uint64_t)to.tv_nsec - (uint64_t)from.tv_nsec;
}

/* A guest at the destination chooses what its pages hold, and so what is told of them. */
START_TEST(chosen_halves_take_no_longer_than_others)
{
	enum { N = 65536 };
	uint32_t *chosen = mem_calloc(N, sizeof(*chosen)), *others = mem_calloc(N, sizeof(*others));
	uint64_t seed = 1, usual, worst = 0;

	ck_assert(chosen && others);
	for (unsigned i = 0; i < N; i++)
		others[i] = (uint32_t)(rnd(&seed) >> 32);
	usual = fill_ns(others, N);
	/* Alike in their low bits, their high ones; in a row. */
	for (unsigned how = 0; how < 3; how++) {
		for (uint32_t i = 0; i < N; i++)
			chosen[i] = how == 0 ? i << 16 | i >> 12 : how == 1 ? i | 0x5a0000u : i + 1;
		worst = MAX(worst, fill_ns(chosen, N));
	}
	ck_assert_msg(worst < 10 * usual + 20 * NS_PER_MS, "%llu us, usually %llu", (unsigned long long)worst / 1000,
		      (unsigned long long)usual / 1000);
	mem_free(chosen);
	mem_free(others);
}
END_TEST

START_TEST(an_index_keeps_what_is_alive)
{
	struct mst_index *to;
	uint8_t page[MST_PAGE];
	uint64_t block;
	struct place p;

	place_init(&p, 1);
	to = mst_index_new(id, 8 * PAGES);
	mst_index_copy(p.x, to, odd, NULL);
	ck_assert_uint_eq(mst_index_used(to), PAGES / 2);
	mst_index_keep(p.x, odd, NULL);
	ck_assert_uint_eq(mst_index_used(p.x), PAGES / 2);
	for (unsigned i = 1; i <= PAGES; i++) {
		page_text(page, i);
		ck_assert_int_eq(mst_index_find(p.x, mst_quick(page), &block), i & 1);
		ck_assert_int_eq(mst_index_find(to, mst_quick(page), &block), i & 1);
		ck_assert(!(i & 1) || block == i);
	}
	mst_index_free(to);
	place_free(&p);
}
END_TEST

/* ---- runs of blocks ---- */

/* A destination that has some of a disk's blocks. */
struct disk {
	const uint32_t *runs;
	unsigned n;
	struct place *p;
};

static int tell_runs(void *ctx, uint32_t *at, uint32_t *out, unsigned max)
{
	const struct disk *d = ctx;
	unsigned n = MIN(d->n - *at, MIN(max, 2u)); /* one at a time */

	memcpy(out, d->runs + *at, n * sizeof(*out));
	*at = *at + n < d->n ? *at + n : 0;
	return (int)n;
}

static int read_block(void *ctx, uint64_t token, void *page)
{
	const struct disk *d = ctx;

	for (unsigned i = 0; i < d->n; i += 2)
		if (token - d->runs[i] < d->runs[i + 1]) {
			page_text(page, token);
			return 0;
		}
	return HCI_E_NOTFOUND;
}

START_TEST(only_blocks_that_are_there_are_referred_to)
{
	static const uint32_t runs[] = { 0, 11, 100, 1, 200, 800, 1500, UINT32_MAX };
	struct place p;
	struct disk d = { runs, ARRAY_SIZE(runs), &p };
	struct pair_opts o = { 0 };
	struct pair_result r;
	struct mst_runs *some;

	place_init(&p, 1);
	mst_index_source(p.x, &p.src);
	some = mst_runs_new(&p.src, 100);
	mst_runs_provider(some, &p.src);
	p.dst = (struct mst_provider){ .ctx = &d, .read = read_block, .tell = tell_runs };
	memcpy(p.dst.id, id, sizeof(id));
	run(&p, &o, &r);
	/* 1 .. 10, 100, 200 .. 999, 1500 .. 2000 */
	ck_assert_uint_eq(r.src.refs[MST_KIND_VOLUME], 10 + 1 + 800 + 501);
	ck_assert_uint_eq(r.src.refused, 0);
	mst_runs_free(some);
	place_free(&p);
}
END_TEST

START_TEST(runs_that_make_no_sense_are_left_out)
{
	static const uint32_t numbers[] = { 100, 50, 120, 10, 90, 5, 150, 0, 149, 1, 150, 2, UINT32_MAX, UINT32_MAX, 5, 5, 1000, 1 };
	struct mst_provider src;
	struct mst_runs *some;
	unsigned found = 0;
	uint64_t token;
	uint8_t page[MST_PAGE];
	struct place p;

	place_init(&p, 1);
	mst_index_source(p.x, &src);
	some = mst_runs_new(&src, 3);
	mst_runs_provider(some, &src);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		ck_assert(src.told(src.ctx, numbers[i]));
	for (unsigned i = 1; i <= PAGES; i++) {
		page_text(page, i);
		found += src.lookup(src.ctx, mst_quick(page), 0, &token) == MST_HAS;
	}
	ck_assert_uint_eq(found, 52);
	mst_runs_free(some);
	/* No more than so many. */
	some = mst_runs_new(&src, 20);
	mst_runs_provider(some, &src);
	for (found = 0; found < 1000 && src.told(src.ctx, found * 2) && src.told(src.ctx, 1); found++)
		;
	ck_assert_uint_eq(found, 20);
	mst_runs_free(some);
	mst_runs_free(NULL);
	place_free(&p);
}
END_TEST

/* ---- peers that lie ---- */

static struct mst_enc *source(struct place *p)
{
	struct mst_hello h = { .version = MST_VERSION, .decoder = true, .codecs = 14, .window = 64 << 20, .cache_pages = 100, .n_ids = 1 };
	struct mst_opts o = { .n_providers = 1, .providers = &p->src };
	struct mst_enc *e;
	struct mst_msg *m;

	memcpy(h.ids[0], id, sizeof(id));
	m = mst_put_hello(&h);
	ck_assert_int_eq(mst_enc_new(&e, &o, NULL), 0);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, NULL), 0);
	mst_msg_free(m);
	mst_msg_free(mst_enc_next(e));
	m = mst_enc_next(e);
	ck_assert_ptr_nonnull(m);
	ck_assert_uint_eq(m->data[0], MST_WANT);
	ck_assert_uint_eq(m->len, 8);
	mst_msg_free(m);
	return e;
}

/* A large table that is nearly empty: nobody is held up while it is looked through, and all of it is told in the end. */
START_TEST(an_index_that_is_nearly_empty_is_told_in_steps)
{
	struct pair_opts o = { 0 };
	struct pair_result r;
	uint32_t at = 0, out[16];
	uint8_t page[MST_PAGE];
	unsigned found = 0, steps = 0;
	struct place p;
	int n;

	place_init(&p, 1 << 20);
	mst_index_free(p.x);
	p.x = mst_index_new(id, 4u << 20);
	for (unsigned i = 1; i <= 3; i++) {
		page_text(page, i * 100);
		mst_index_note(p.x, i * 100, page);
	}
	do {
		uint32_t was = at;

		n = mst_index_tell(p.x, &at, out, 16, any, NULL);
		ck_assert(n >= 0 ? n || !at : n == HCI_E_AGAIN && at > was);
		ck_assert_uint_le(at ? at - was : 0, 65536);
		found += n > 0 ? (unsigned)n : 0;
		steps++;
	} while (at);
	ck_assert_uint_eq(found, 3);
	ck_assert_uint_ge(steps, 16);
	run(&p, &o, &r);
	ck_assert_uint_eq(r.src.refs[MST_KIND_GUEST], 3);
	ck_assert_uint_eq(p.pieces, steps);
	place_free(&p);
}
END_TEST

START_TEST(a_list_that_was_not_asked_for_ends_the_stream)
{
	static const uint32_t half[2] = { 7, 8 };
	static const struct mst_have bad[] = {
		{ .provider = 0, .n = 2, .from = 1, .next = 2 },  /* another piece */
		{ .provider = 1, .n = 2, .from = 0, .next = 2 },  /* of another */
		{ .provider = 0, .n = 0, .from = 0, .next = 2 },  /* nothing, and more of it */
		{ .provider = 8, .n = 2, .from = 0, .next = 2 },
		{ .provider = 255, .n = 2, .from = 0, .next = 2 },
	};
	struct hci_error err;
	struct place p;
	struct mst_msg *m;
	struct mst_enc *e;

	place_init(&p, 100);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		e = source(&p);
		m = mst_put_have(&bad[i], half);
		ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), HCI_E_PROTO);
		mst_msg_free(m);
		mst_enc_free(e);
	}
	/* One that leads back to itself; one too many; one that is cut or too long. */
	e = source(&p);
	for (uint32_t at = 0; at < 3; at++) {
		m = mst_put_have(&(struct mst_have){ .n = 2, .from = at, .next = at < 2 ? at + 1 : 1 }, half);
		ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), at < 2 ? 0 : HCI_E_PROTO);
		mst_msg_free(m);
	}
	mst_enc_free(e);
	e = source(&p);
	m = mst_put_have(&(struct mst_have){ .n = 2 }, half);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), 0);
	ck_assert_ptr_null(mst_enc_next(e));
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), HCI_E_PROTO);
	mst_enc_free(e);
	for (unsigned len = 1; len < m->len + 4; len++) {
		uint8_t b[64] = { 0 };
		struct mst_have h;

		memcpy(b, m->data, m->len);
		ck_assert_int_eq(mst_get_have(b, len, &h, &err), len == m->len ? 0 : HCI_E_PROTO);
	}
	mst_msg_free(m);
	place_free(&p);
}
END_TEST

START_TEST(a_question_that_makes_no_sense_ends_the_stream)
{
	struct mst_hello h = { .version = MST_VERSION, .codecs = 14, .window = 64 << 20, .cache_pages = 100 };
	struct mst_msg *hello = mst_put_hello(&h), *m;
	struct hci_error err;
	struct place p;

	place_init(&p, 100);
	p.again = 1000;
	for (unsigned i = 0; i < 4; i++) {
		struct mst_opts o = { .n_providers = i != 2, .providers = &p.dst };
		struct mst_dec *d;

		ck_assert_int_eq(mst_dec_new(&d, &o, NULL), 0);
		ck_assert_int_eq(mst_dec_take(d, hello->data, hello->len, NULL), 0);
		m = mst_put_want(&(struct mst_want){ .provider = i == 1, .from = UINT32_MAX });
		m->len -= i == 3;
		if (!i) /* fine, but not twice before it was answered */
			ck_assert_int_eq(mst_dec_take(d, m->data, m->len, &err), 0);
		ck_assert_int_eq(mst_dec_take(d, m->data, m->len, &err), HCI_E_PROTO);
		mst_msg_free(m);
		mst_dec_free(d);
	}
	mst_msg_free(hello);
	place_free(&p);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_told");
	TCase *t = tcase_create("told");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_told_is_referred_to);
	tcase_add_test(t, what_has_changed_since_is_asked_for);
	tcase_add_test(t, a_source_keeps_so_many_and_asks_for_no_more);
	tcase_add_test(t, with_hashes_that_collide_nothing_wrong_comes_out);
	tcase_add_test(t, a_worker_that_hangs_in_a_page_is_left_alone);
	tcase_add_test(t, a_million_are_found_again);
	tcase_add_test(t, chosen_halves_take_no_longer_than_others);
	tcase_add_test(t, an_index_keeps_what_is_alive);
	tcase_add_test(t, an_index_that_is_nearly_empty_is_told_in_steps);
	tcase_add_test(t, only_blocks_that_are_there_are_referred_to);
	tcase_add_test(t, runs_that_make_no_sense_are_left_out);
	tcase_add_test(t, a_list_that_was_not_asked_for_ends_the_stream);
	tcase_add_test(t, a_question_that_makes_no_sense_ends_the_stream);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
