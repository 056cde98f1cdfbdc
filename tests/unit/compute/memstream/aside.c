/* SPDX-License-Identifier: Apache-2.0 */
/* When the codec steps aside, and when it comes back: its decisions before a link and a processor of known pace. */
#include "../../harness.h"
#include "compute/memstream/aside.h"
#include "pair.h"

#define TICK (100 * NS_PER_US)
#define LINE 64u

/* What the three steps take and make of a batch. */
static const uint64_t cost[] = { 2 * NS_PER_MS, 800 * NS_PER_US, 500 * NS_PER_US };
static const uint32_t wire[] = { 45u << 10, 350u << 10, ASIDE_UNIT };

/* One that packs, and a link behind it. */
struct model {
	struct aside a;
	uint64_t now, rate; /* bytes a second of the link */
	uint64_t burst; /* a shaper lets so many bytes through at once, after a while without any */
	uint64_t others;    /* percent more that packing takes, as others want the processor */
	struct {
		enum aside_step step;
		uint64_t ready, there; /* there: UINT64_MAX until it is known */
		struct credit_mark mark;
	} line[LINE];
	uint32_t packed, sent, got; /* batches */
	uint64_t free_at;           /* the link */
	uint64_t busy_until;        /* the packer */
	enum aside_step step;
	uint64_t count[3], bytes;
};

static uint64_t oldest(const struct model *m)
{
	return m->got == m->packed ? 0 : m->line[m->got % LINE].ready;
}

/* Of the next message: what the shaper has saved up. */
static uint64_t at_once(const struct model *m)
{
	uint64_t saved = m->free_at < m->now ? (m->now - m->free_at) * m->rate / NS_PER_S : 0;

	return MIN(MIN(saved, m->burst), (uint64_t)wire[m->step]);
}

static void pack(struct model *m)
{
	if (m->busy_until > m->now || m->packed - m->got > 8)
		return;
	if (m->busy_until) {
		m->line[m->packed % LINE].step = m->step;
		m->line[m->packed % LINE].ready = m->now;
		aside_ready(&m->a, wire[m->step], m->now, &m->line[m->packed % LINE].mark);
		m->free_at = MAX(m->free_at, m->now) + (wire[m->step] - at_once(m)) * NS_PER_S / m->rate;
		m->line[m->packed++ % LINE].there = m->free_at + TICK;
		m->count[m->step]++;
		m->bytes += wire[m->step];
	}
	m->step = aside_choose(&m->a, m->packed, ASIDE_UNIT, 2, oldest(m), m->now);
	m->busy_until = m->now + cost[m->step] * (100 + m->others) / 100;
}

/* Until so many batches are through, or so long. */
static void go(struct model *m, uint32_t batches, uint64_t ns)
{
	uint64_t end = m->now + ns;

	memset(m->count, 0, sizeof(m->count));
	m->bytes = 0;
	batches += m->got;
	for (; m->got < batches && m->now < end; m->now += TICK) {
		while (m->got != m->packed && m->line[m->got % LINE].there <= m->now) {
			uint32_t i = m->got++ % LINE;

			aside_received(&m->a, wire[m->line[i].step], m->now, &m->line[i].mark);
			aside_taken(&m->a, m->line[i].step, ASIDE_UNIT, wire[m->line[i].step], false, oldest(m), m->now);
		}
		pack(m);
	}
}

static void begin(struct model *m, uint64_t rate, enum aside_mode mode)
{
	*m = (struct model){ .now = NS_PER_S, .rate = rate };
	aside_init(&m->a, mode, m->now);
}

static uint64_t all(const struct model *m)
{
	return m->count[0] + m->count[1] + m->count[2];
}

/* A batch of plain pages crosses in half a millisecond, packing it takes two. */
START_TEST(steps_aside_on_a_fast_link)
{
	struct model m;

	begin(&m, 1000 * MiB, ASIDE_FOLLOWS);
	go(&m, 1200, 10 * NS_PER_S);
	ck_assert_uint_eq(m.got, 1200);
	ck_assert_uint_gt(m.count[ASIDE_PLAIN] * 100, all(&m) * 95);
	/* Soon: a tenth of a second. */
	begin(&m, 1000 * MiB, ASIDE_FOLLOWS);
	go(&m, UINT32_MAX / 2, 100 * NS_PER_MS);
	ck_assert_uint_gt(m.count[ASIDE_PLAIN], 100);
}
END_TEST

/* 200 Mbit/s: a batch to see what the link carries now and then, no more. */
START_TEST(stays_on_a_slow_link)
{
	struct model m;

	begin(&m, 25 * 1000 * 1000, ASIDE_FOLLOWS);
	m.burst = _i ? 512 << 10 : 0;
	m.others = _i == 2 ? 900 : 0; /* and nobody has a processor */
	go(&m, 1200, 30 * NS_PER_S);
	ck_assert_uint_eq(m.got, 1200);
	ck_assert_uint_le(m.count[ASIDE_PLAIN], _i == 2 ? 15 : 6);
	ck_assert_uint_eq(m.count[ASIDE_LIGHT], 0);
	ck_assert_uint_lt(m.bytes, 1200ull * wire[ASIDE_FULL] * 115 / 100);
}
END_TEST

/* 1 Gbit/s: twice as slow as packing, so both are kept at work; sooner through than by either way alone. */
START_TEST(shares_the_work_where_both_are_about_as_fast)
{
	uint64_t took[4];
	struct model m;

	for (unsigned mode = 0; mode < 4; mode++) {
		begin(&m, 117 * 1000 * 1000, mode);
		go(&m, 1200, 30 * NS_PER_S);
		ck_assert_uint_eq(m.got, 1200);
		took[mode] = m.now;
		if (mode)
			continue;
		ck_assert_uint_gt(m.count[ASIDE_LIGHT], 100);
		ck_assert_uint_gt(m.count[ASIDE_FULL], 400);
	}
	ck_assert_uint_lt((took[ASIDE_FOLLOWS] - NS_PER_S) * 100, (took[ASIDE_NEVER] - NS_PER_S) * 90);
	ck_assert_uint_lt(took[ASIDE_FOLLOWS], took[ASIDE_ALWAYS_LIGHT]);
	ck_assert_uint_lt(took[ASIDE_FOLLOWS], took[ASIDE_ALWAYS_PLAIN]);
}
END_TEST

/* Others take the link's bytes, and give them back; then others take the processor. */
START_TEST(comes_back_when_the_link_holds_it_up)
{
	struct model m;

	begin(&m, 1000 * MiB, ASIDE_FOLLOWS);
	go(&m, 500, 10 * NS_PER_S);
	m.rate = 12 * 1000 * 1000;
	go(&m, UINT32_MAX / 2, 700 * NS_PER_MS); /* what is in line crosses */
	go(&m, UINT32_MAX / 2, 2 * NS_PER_S);
	ck_assert_uint_le(m.count[ASIDE_PLAIN], 2);
	ck_assert_uint_eq(m.count[ASIDE_LIGHT], 0);
	ck_assert_uint_gt(m.count[ASIDE_FULL], 300);
	m.rate = 1000 * MiB;
	go(&m, UINT32_MAX / 2, 17 * NS_PER_S);
	go(&m, UINT32_MAX / 2, NS_PER_S);
	ck_assert_uint_gt(m.count[ASIDE_PLAIN] * 100, all(&m) * 90);
}
END_TEST

START_TEST(steps_aside_when_others_want_the_processor)
{
	struct model m;

	begin(&m, 60 * 1000 * 1000, ASIDE_FOLLOWS);
	go(&m, 1200, 10 * NS_PER_S);
	ck_assert_uint_le(m.count[ASIDE_PLAIN] + m.count[ASIDE_LIGHT], 6);
	m.others = 300;
	go(&m, UINT32_MAX / 2, 13 * NS_PER_S);
	go(&m, UINT32_MAX / 2, 2 * NS_PER_S);
	ck_assert_uint_gt(m.count[ASIDE_PLAIN] + m.count[ASIDE_LIGHT], 40);
}
END_TEST

/* A stream that pauses: what the pauses took is not taken for the processor's. */
START_TEST(pauses_are_not_counted)
{
	struct aside a;
	uint64_t now = NS_PER_S;

	aside_init(&a, ASIDE_FOLLOWS, now);
	for (unsigned i = 0; i < 200; i++) {
		struct credit_mark mark;

		aside_choose(&a, i, ASIDE_UNIT, 0, 0, now);
		aside_ready(&a, 40000, now += NS_PER_MS, &mark);
		aside_received(&a, 40000, now += NS_PER_MS, &mark);
		aside_taken(&a, ASIDE_FULL, ASIDE_UNIT, 40000, true, 0, now);
		now += 50 * NS_PER_MS;
	}
	ck_assert_uint_eq(a.full_ns, 0);
}
END_TEST

/* Under TSan the path is slower than what it steps aside for, and it only looks. */
#ifdef __SANITIZE_THREAD__
#define OFTEN 0u
#else
#define OFTEN 20u
#endif

/* The whole codec on such a path: bytes are what they were, and it is seen to step aside. */
START_TEST(on_a_path_without_limits_pages_go_as_they_are)
{
	struct pair_opts o = { .seed = 5, .portion = 1 << 20, .threads = true };
	struct pair_result r;
	struct gen g = { .b = BUF_INIT, .seed = 3 };
	uint8_t page[MST_PAGE];

	gen_head(&g);
	gen_part(&g);
	for (unsigned i = 0; i < 30000; i++) {
		page_text(page, i + 1);
		gen_page(&g, "pc.ram", i * 4096ull, page);
	}
	gen_end(&g);
	gen_eof(&g);
	o.src.workers = o.dst.workers = 2;
	for (unsigned mode = 0; mode < 2; mode++) {
		o.src.aside = mode;
		pair_run(g.b.data, g.b.len, &o, &r);
		ck_assert_msg(!r.rc, "%s", r.err.message);
		ck_assert(r.same);
		if (mode == ASIDE_FOLLOWS)
			ck_assert_uint_gt(r.src.aside[0] + r.src.aside[1], OFTEN);
		else
			ck_assert_uint_eq(r.src.aside[0] + r.src.aside[1], 0);
	}
	buf_free(&g.b);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_aside");
	TCase *t = tcase_create("aside");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, steps_aside_on_a_fast_link);
	tcase_add_loop_test(t, stays_on_a_slow_link, 0, 3);
	tcase_add_test(t, shares_the_work_where_both_are_about_as_fast);
	tcase_add_test(t, comes_back_when_the_link_holds_it_up);
	tcase_add_test(t, steps_aside_when_others_want_the_processor);
	tcase_add_test(t, pauses_are_not_counted);
	tcase_add_test(t, on_a_path_without_limits_pages_go_as_they_are);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
