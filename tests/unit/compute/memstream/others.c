/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations side by side to one destination: a page goes there once, nobody waits for ever, nothing wrong comes out. */
#include <time.h>

#include "../../harness.h"
#include "base/crc32c.h"
#include "compute/memstream/aside.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/store.h"
#include "compute/memstream/wire.h"
#include "pair.h"

#define PAGES 300u
#define LANES 4u

static uint64_t now_ns;

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return now_ns;
}

/* What all of them share. */
struct place {
	struct mst_store *store;
	struct mst_known *known;
	struct mst_provider src, dst;
};

/* A migration: both ends, and its bytes. */
struct lane {
	struct mst_enc *e;
	struct mst_dec *d;
	struct gen g;
	size_t in, out;
	unsigned asked; /* NEED messages */
	bool finished;
};

static void place_init(struct place *p)
{
	static const uint8_t id[16] = "pgst-others";

	now_ns = NS_PER_S;
	p->store = mst_store_new(id, 64 << 20);
	p->known = mst_known_new(1 << 16);
	mst_known_provider(p->known, &p->src);
	mst_store_provider(p->store, &p->dst);
}

static void place_free(struct place *p)
{
	mst_store_free(p->store);
	mst_known_free(p->known);
}

static void text_stream(struct gen *g, uint64_t seed, unsigned pages)
{
	uint8_t page[MST_PAGE];

	*g = (struct gen){ .b = BUF_INIT };
	gen_head(g);
	gen_part(g);
	for (unsigned i = 0; i < pages; i++) {
		page_text(page, seed + i);
		gen_page(g, "pc.ram", i * 4096ull, page);
	}
	gen_end(g);
	gen_eof(g);
}

static void greet(struct lane *l)
{
	struct mst_msg *a = mst_enc_next(l->e), *b = mst_dec_next(l->d);

	ck_assert_int_eq(mst_dec_take(l->d, a->data, a->len, NULL), 0);
	ck_assert_int_eq(mst_enc_take(l->e, b->data, b->len, NULL), 0);
	mst_msg_free(a);
	mst_msg_free(b);
}

static void lane_init(struct lane *l, struct place *p, const struct mst_opts *o)
{
	struct mst_opts src = o ? *o : (struct mst_opts){ 0 }, dst = src;

	src.n_providers = dst.n_providers = 1;
	src.providers = &p->src;
	dst.providers = &p->dst;
	src.now = dst.now = src.workers ? NULL : fake_now;
	ck_assert_int_eq(mst_enc_new(&l->e, &src, NULL), 0);
	ck_assert_int_eq(mst_dec_new(&l->d, &dst, NULL), 0);
	greet(l);
}

static void lane_free(struct lane *l)
{
	mst_enc_free(l->e);
	mst_dec_free(l->d);
	buf_free(&l->g.b);
	*l = (struct lane){ 0 };
}

/* Each returns whether something moved. */
static bool feed(struct lane *l, size_t most)
{
	struct hci_error err;
	int64_t n;

	if (l->finished)
		return false;
	if (l->in == l->g.b.len) {
		l->finished = true;
		ck_assert_int_eq(mst_enc_finish(l->e, &err), 0);
		return true;
	}
	n = mst_enc_feed(l->e, l->g.b.data + l->in, MIN(most, l->g.b.len - l->in), &err);
	ck_assert_int_ge(n, 0);
	l->in += (size_t)n;
	return n > 0;
}

static bool forth(struct lane *l)
{
	struct mst_msg *m = mst_enc_next(l->e);
	struct hci_error err;

	if (!m)
		return false;
	ck_assert_msg(!mst_dec_take(l->d, m->data, m->len, &err), "%s", err.message);
	mst_msg_free(m);
	return true;
}

static bool back(struct lane *l)
{
	struct mst_msg *m = mst_dec_next(l->d);
	struct hci_error err;

	if (!m)
		return false;
	l->asked += m->data[0] == MST_NEED;
	ck_assert_msg(!mst_enc_take(l->e, m->data, m->len, &err), "%s", err.message);
	mst_msg_free(m);
	return true;
}

static bool drain(struct lane *l)
{
	struct hci_error err;
	const void *p;
	int64_t n = mst_dec_out(l->d, &p, &err);

	ck_assert_msg(n >= 0, "%s", err.message);
	if (!n)
		return false;
	ck_assert_uint_le(l->out + (size_t)n, l->g.b.len);
	ck_assert_mem_eq(p, l->g.b.data + l->out, (size_t)n);
	l->out += (size_t)n;
	mst_dec_consume(l->d, (size_t)n);
	return true;
}

static bool turn(struct lane *l, size_t most)
{
	bool moved = feed(l, most);

	moved |= forth(l);
	moved |= back(l);
	moved |= drain(l);
	return moved;
}

/* All that one of them can do by itself. */
static void alone(struct lane *l)
{
	while (turn(l, 1 << 20))
		;
}

/* The first has packed its pages; what the second sends names them, and has arrived. */
static void waiting(struct place *p, struct lane l[2])
{
	place_init(p);
	for (unsigned i = 0; i < 2; i++) {
		lane_init(&l[i], p, NULL);
		text_stream(&l[i].g, 1, PAGES);
	}
	while (feed(&l[0], 1 << 20))
		;
	alone(&l[1]);
	ck_assert_uint_lt(l[1].out, PAGES * 4096);
	ck_assert_uint_eq(l[1].asked, 0);
}

static void stats(struct lane *l, struct mst_stats *src, struct mst_stats *dst)
{
	mst_enc_stats(l->e, src);
	mst_dec_stats(l->d, dst);
}

START_TEST(a_page_that_another_brings_is_waited_for)
{
	struct place p;
	struct lane l[2] = { 0 };
	struct mst_stats src, dst;

	waiting(&p, l);
	stats(&l[1], &src, &dst);
	ck_assert_uint_eq(src.coming, PAGES);
	ck_assert_uint_eq(dst.coming, PAGES);
	ck_assert_uint_eq(src.pages[MST_REF], PAGES);
	alone(&l[0]);
	ck_assert_uint_eq(l[0].out, l[0].g.b.len);
	now_ns += 3 * NS_PER_MS;
	alone(&l[1]);
	ck_assert_uint_eq(l[1].out, l[1].g.b.len);
	ck_assert(mst_enc_done(l[1].e));
	ck_assert_uint_eq(l[1].asked, 0);
	lane_free(&l[0]);
	lane_free(&l[1]);
	place_free(&p);
}
END_TEST

/* A message has its pages looked at when it is unpacked, although one before it waits, and is not checked yet. */
START_TEST(what_waits_does_not_hold_back_what_others_wait_for)
{
	struct mst_opts o = { .batch = 64 << 10 };
	struct lane l[3] = { 0 };
	struct place p;
	uint8_t page[MST_PAGE];

	place_init(&p);
	for (unsigned i = 0; i < 3; i++)
		lane_init(&l[i], &p, &o);
	text_stream(&l[0].g, 1, 15);
	/* 0's pages, then its own; 2 wants only the latter. */
	l[1].g = (struct gen){ .b = BUF_INIT };
	gen_head(&l[1].g);
	gen_part(&l[1].g);
	for (unsigned i = 0; i < 200; i++) {
		page_text(page, i < 15 ? 1 + i : 1000 + i);
		gen_page(&l[1].g, "pc.ram", i * 4096ull, page);
	}
	gen_end(&l[1].g);
	gen_eof(&l[1].g);
	text_stream(&l[2].g, 1100, 100);
	while (feed(&l[0], 1 << 20))
		;
	alone(&l[1]);
	ck_assert_uint_lt(l[1].out, 4096 * 16);
	alone(&l[2]);
	now_ns += 3 * NS_PER_MS;
	alone(&l[2]);
	ck_assert_uint_eq(l[2].out, l[2].g.b.len);
	ck_assert_uint_lt(l[1].out, 4096 * 16);
	for (unsigned i = 0; i < 3; i++)
		lane_free(&l[i]);
	place_free(&p);
}
END_TEST

START_TEST(a_page_that_never_comes_is_asked_for)
{
	struct place p;
	struct lane l[2] = { 0 };

	waiting(&p, l);
	now_ns += 900 * NS_PER_MS;
	alone(&l[1]);
	ck_assert_uint_eq(l[1].asked, 0);
	now_ns += 101 * NS_PER_MS;
	alone(&l[1]);
	ck_assert_uint_gt(l[1].asked, 0);
	ck_assert_uint_eq(l[1].out, l[1].g.b.len);
	/* The other one, late, is none the worse for it. */
	alone(&l[0]);
	ck_assert_uint_eq(l[0].out, l[0].g.b.len);
	lane_free(&l[0]);
	lane_free(&l[1]);
	place_free(&p);
}
END_TEST

/* As in post-copy, where a guest may wait for the page. */
START_TEST(in_a_hurry_nobody_waits)
{
	struct place p;
	struct lane l[2] = { 0 };
	struct mst_stats src, dst;
	uint64_t coming;

	waiting(&p, l);
	alone(&l[1]);
	ck_assert_uint_eq(l[1].asked, 0);
	stats(&l[1], &src, &dst);
	coming = src.coming;
	ck_assert_uint_gt(coming, 0);
	mst_enc_hurry(l[1].e);
	mst_enc_hurry(l[1].e);
	alone(&l[1]);
	ck_assert_uint_gt(l[1].asked, 0);
	ck_assert_uint_eq(l[1].out, l[1].g.b.len);
	lane_free(&l[1]);
	/* Nor is anything referred to that is on its way. */
	lane_init(&l[1], &p, NULL);
	mst_enc_hurry(l[1].e);
	text_stream(&l[1].g, 1, PAGES);
	alone(&l[1]);
	stats(&l[1], &src, &dst);
	ck_assert_uint_eq(src.coming, 0);
	alone(&l[0]);
	ck_assert_uint_eq(l[0].out, l[0].g.b.len);
	lane_free(&l[0]);
	lane_free(&l[1]);
	place_free(&p);
}
END_TEST

START_TEST(nobody_waits_for_one_that_was_cancelled)
{
	struct place p;
	struct lane l[3] = { 0 };
	struct mst_stats src, dst;

	waiting(&p, l);
	lane_free(&l[0]);
	now_ns += 3 * NS_PER_MS;
	alone(&l[1]);
	ck_assert_uint_gt(l[1].asked, 0);
	ck_assert_uint_eq(l[1].out, l[1].g.b.len);
	/* And the next one does not count on its claims. */
	lane_init(&l[2], &p, NULL);
	text_stream(&l[2].g, 1, PAGES);
	alone(&l[2]);
	stats(&l[2], &src, &dst);
	ck_assert_uint_eq(l[2].out, l[2].g.b.len);
	ck_assert_uint_eq(src.coming, 0);
	ck_assert_uint_eq(src.refused, 0);
	lane_free(&l[1]);
	lane_free(&l[2]);
	place_free(&p);
}
END_TEST

static uint64_t one_quick(const void *page)
{
	(void)page;
	return 42;
}

/* Each page is taken for the one that is on its way: it is asked for as soon as that is there. */
START_TEST(another_page_of_the_same_quick_hash_is_refused)
{
	static const struct mst_hash hash = { one_quick, mst_strong };
	struct mst_opts o = { .hash = &hash, .without = 1u << MST_SAME | 1u << MST_DELTA };
	struct lane l[2] = { 0 };
	struct mst_stats src, dst;
	struct place p;

	place_init(&p);
	for (unsigned i = 0; i < 2; i++) {
		lane_init(&l[i], &p, &o);
		text_stream(&l[i].g, 1 + i * 5000, 20);
	}
	while (feed(&l[0], 1 << 20))
		;
	alone(&l[1]);
	stats(&l[1], &src, &dst);
	ck_assert_uint_eq(src.coming, 20);
	ck_assert_uint_lt(l[1].out, 4096);
	alone(&l[0]);
	now_ns += 3 * NS_PER_MS;
	alone(&l[1]);
	stats(&l[1], &src, &dst);
	ck_assert_uint_eq(src.refused, 20);
	ck_assert_uint_eq(l[1].out, l[1].g.b.len);
	lane_free(&l[0]);
	lane_free(&l[1]);
	place_free(&p);
}
END_TEST

/* ---- messages by hand ---- */

static void by_hand(struct lane *l, uint32_t seq, const uint8_t *want, const uint8_t *bring)
{
	uint8_t b[MST_DATA_HEAD + 64 + MST_PAGE], *ops = b + MST_DATA_HEAD;
	struct mst_data d = { .seq = seq, .out = MST_PAGE };
	uint32_t len = MST_DATA_HEAD;

	/* MST_DATA's compressor 0: as it is. */
	d.crc = crc32c(0, want ? want : bring, MST_PAGE);
	if (want) {
		ops[0] = 10;
		ops[1] = 1;
		ops[2] = 0x80;
		put64(ops + 3, mst_quick(want));
		mst_strong(want, ops + 11);
		d.ops = d.packed = 11 + MST_STRONG;
		len += d.packed;
	} else {
		ops[0] = 4;
		ops[1] = 1;
		d.ops = d.packed = 2;
		d.raw = MST_PAGE;
		memcpy(ops + 2, bring, MST_PAGE);
		len += 2 + MST_PAGE;
	}
	mst_put_data(&d, b);
	ck_assert_int_eq(mst_dec_take(l->d, b, len, NULL), 0);
}

/* Nobody of ours sends this: each waits for what the other's next message brings, and that never comes from two of them. */
START_TEST(those_who_wait_for_each_other_are_freed)
{
	uint8_t pages[4][MST_PAGE];
	struct lane l[4] = { 0 };
	struct place p;
	struct mst_msg *m;

	place_init(&p);
	for (unsigned i = 0; i < 4; i++) {
		lane_init(&l[i], &p, NULL);
		page_text(pages[i], 1 + i);
	}
	for (unsigned i = 0; i < 4; i++)
		by_hand(&l[i], 0, pages[i ^ 1], NULL);
	by_hand(&l[0], 1, NULL, pages[0]);
	by_hand(&l[1], 1, NULL, pages[1]);
	now_ns += 3 * NS_PER_MS;
	for (unsigned i = 0; i < 2; i++) {
		const void *out;

		/* It says what came, and asks for nothing. */
		while ((m = mst_dec_next(l[i].d))) {
			ck_assert_uint_eq(m->data[0], MST_ACK);
			mst_msg_free(m);
		}
		ck_assert_int_eq(mst_dec_out(l[i].d, &out, NULL), MST_PAGE);
		ck_assert_mem_eq(out, pages[i ^ 1], MST_PAGE);
	}
	/* A cycle whose other half does not come. */
	now_ns += NS_PER_S;
	for (unsigned i = 2; i < 4; i++) {
		m = mst_dec_next(l[i].d);
		ck_assert_ptr_nonnull(m);
		ck_assert_uint_eq(m->data[0], MST_NEED);
		mst_msg_free(m);
	}
	for (unsigned i = 0; i < 4; i++)
		lane_free(&l[i]);
	place_free(&p);
}
END_TEST

/* ---- no deadlock ---- */

/* Streams of which any two have most pages in common, in an order of their own. */
static void mixed(struct gen *g, uint64_t *seed, unsigned lane)
{
	uint8_t page[MST_PAGE];

	*g = (struct gen){ .b = BUF_INIT };
	gen_head(g);
	gen_part(g);
	for (unsigned i = 0; i < 700; i++) {
		uint64_t what = rnd(seed) % 900;

		if (what < 700)
			page_random(page, 1 + what);
		else
			page_text(page, 100000 * (lane + 1) + what);
		gen_page(g, "pc.ram", i * 4096ull, page);
	}
	gen_end(g);
	gen_eof(g);
}

/*
 * References wait for ever here, and hardly more than a message may be under way: if two of them ever waited for each other,
 * they would not end.
 */
START_TEST(at_once_in_any_order_all_come_to_an_end)
{
	static const struct mst_opts o = { .wait_ns = 1ull << 60, .batch = 64 << 10, .inflight_ns = 1 };
	uint64_t seed = (uint64_t)_i + 1, refs = 0, coming = 0;
	struct lane l[LANES] = { 0 };
	unsigned left = LANES, idle = 0;
	struct mst_stats src, dst;
	struct place p;

	place_init(&p);
	for (unsigned i = 0; i < LANES; i++) {
		lane_init(&l[i], &p, &o);
		mixed(&l[i].g, &seed, i);
	}
	while (left && idle < 20000) {
		uint64_t r = rnd(&seed);
		struct lane *x = &l[r % LANES];
		unsigned what = (unsigned)(r / LANES % 4);

		now_ns += r / 64 % NS_PER_MS;
		if (what == 0 ? feed(x, 1 + r % 200000) : what == 1 ? forth(x) : what == 2 ? back(x) : drain(x))
			idle = 0;
		else
			idle++;
		left = 0;
		for (unsigned i = 0; i < LANES; i++)
			left += !mst_enc_done(l[i].e);
	}
	ck_assert_uint_eq(left, 0);
	for (unsigned i = 0; i < LANES; i++) {
		ck_assert_uint_eq(l[i].out, l[i].g.b.len);
		stats(&l[i], &src, &dst);
		refs += src.pages[MST_REF];
		coming += src.coming;
		ck_assert_uint_eq(src.refused, 0);
	}
	ck_assert_uint_gt(refs, 600);
	ck_assert_uint_gt(coming, 100);
	for (unsigned i = 0; i < LANES; i++)
		lane_free(&l[i]);
	place_free(&p);
}
END_TEST

/* With threads, and one of them given up in the middle. */
START_TEST(at_once_with_threads)
{
	static const struct mst_opts o = { .workers = 2, .batch = 64 << 10, .aside = ASIDE_NEVER };
	uint64_t seed = (uint64_t)_i + 1, wire = 0, in = 0;
	struct lane l[LANES] = { 0 };
	unsigned left = LANES;
	struct mst_stats src, dst;
	struct place p;

	place_init(&p);
	for (unsigned i = 0; i < LANES; i++) {
		lane_init(&l[i], &p, &o);
		text_stream(&l[i].g, 1, 4 * PAGES);
	}
	for (unsigned t = 0; left && t < 200000; t++) {
		bool moved = false;

		left = 0;
		for (unsigned i = 0; i < LANES; i++) {
			struct lane *x = &l[(i + t) % LANES];

			if (!x->e)
				continue;
			moved |= turn(x, 1 + rnd(&seed) % 300000);
			left += !mst_enc_done(x->e);
		}
		if (t == 50 && _i & 1)
			lane_free(&l[rnd(&seed) % LANES]);
		if (!moved)
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	}
	ck_assert_uint_eq(left, 0);
	for (unsigned i = 0; i < LANES; i++) {
		if (!l[i].e)
			continue;
		ck_assert_uint_eq(l[i].out, l[i].g.b.len);
		stats(&l[i], &src, &dst);
		wire += src.wire;
		in = src.in;
		lane_free(&l[i]);
	}
	/* Pages of text shrink to a fourth or so: little more than once, where each by itself would send three times as much. */
	if (!(_i & 1))
		ck_assert_uint_lt(wire, in / 5 * 2);
	place_free(&p);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_others");
	TCase *t = tcase_create("others");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_page_that_another_brings_is_waited_for);
	tcase_add_test(t, what_waits_does_not_hold_back_what_others_wait_for);
	tcase_add_test(t, a_page_that_never_comes_is_asked_for);
	tcase_add_test(t, in_a_hurry_nobody_waits);
	tcase_add_test(t, nobody_waits_for_one_that_was_cancelled);
	tcase_add_test(t, another_page_of_the_same_quick_hash_is_refused);
	tcase_add_test(t, those_who_wait_for_each_other_are_freed);
	tcase_add_loop_test(t, at_once_in_any_order_all_come_to_an_end, 0, 12);
	tcase_add_loop_test(t, at_once_with_threads, 0, 4);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
