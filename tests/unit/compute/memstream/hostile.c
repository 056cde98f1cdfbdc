/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that lies, and a path that is slow: errors and bounds, never wrong bytes. */
#include "../../harness.h"
#include "base/mem.h"
#include "compute/memstream/store.h"
#include "compute/memstream/wire.h"
#include "pair.h"

static _Atomic uint64_t now_ns; /* the codec's threads ask, too */

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return now_ns;
}

static void stream(struct gen *g, unsigned pages)
{
	uint8_t page[MST_PAGE];

	*g = (struct gen){ .b = BUF_INIT };
	gen_head(g);
	gen_part(g);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < pages; i++) {
			page_text(page, 1 + i % (pages - 5));
			page[i % 4096] ^= (uint8_t)pass;
			gen_page(g, "pc.ram", i * 4096ull, page);
		}
	}
	gen_end(g);
	gen_device(g, 2000);
	gen_eof(g);
}

struct damage {
	uint64_t seed;
	unsigned one_in;
	bool hits;
};

static bool meddle(void *ctx, bool back, struct mst_msg **m)
{
	struct damage *d = ctx;
	uint64_t what = rnd(&d->seed);

	(void)back;
	if (what % d->one_in)
		return true;
	d->hits = true;
	switch (what / d->one_in % 4) {
	case 0: /* somewhere; the beginning is where lengths are */
		(*m)->data[rnd(&d->seed) % MIN((*m)->len, (uint32_t)(what & 64 ? 48 : 1 << 20))] ^= (uint8_t)(1 + what % 255);
		return true;
	case 1:
		(*m)->len = (uint32_t)(rnd(&d->seed) % (*m)->len);
		return true;
	case 2:
		return false;
	default:
		(*m)->data[0] = (uint8_t)(rnd(&d->seed) % 10);
		return true;
	}
}

START_TEST(damaged_messages_are_errors_never_bytes)
{
	struct gen g;

	stream(&g, 60);
	for (unsigned i = 0; i < 400; i++) {
		struct damage d = { .seed = i + 1, .one_in = 1 + i % 12 };
		struct pair_opts o = { .seed = i + 1, .meddle = meddle, .ctx = &d };
		struct pair_result r;

		o.src.batch = 64 << 10;
		o.src.now = o.dst.now = fake_now;
		o.src.codecs = i & 1 ? 1u << 1 : 0;
		pair_run(g.b.data, g.b.len, &o, &r);
		ck_assert(r.same || r.rc);
		/* What came out, came out right. */
		ck_assert_msg(r.same, "seed %u: wrong bytes", i + 1);
		if (!d.hits)
			ck_assert_int_eq(r.rc, 0);
		if (r.rc && r.rc != HCI_E_TIMEOUT)
			ck_assert_ptr_nonnull(strstr(r.err.message, "memory stream: "));
	}
	buf_free(&g.b);
}
END_TEST

static struct mst_msg *hello(uint16_t version, bool decoder)
{
	return mst_put_hello(&(struct mst_hello){ .version = version, .decoder = decoder, .codecs = 14, .window = 64 << 20,
						  .cache_pages = 100 });
}

START_TEST(another_version_is_named)
{
	struct hci_error err;
	struct mst_enc *e;
	struct mst_dec *d;
	struct mst_msg *m = hello(MST_VERSION + 1, true);

	ck_assert_int_eq(mst_enc_new(&e, NULL, &err), 0);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), HCI_E_VERSION);
	ck_assert_ptr_nonnull(strstr(err.message, "version"));
	/* It stays. */
	ck_assert_int_eq(mst_enc_feed(e, "x", 1, &err), HCI_E_VERSION);
	ck_assert_ptr_null(mst_enc_next(e));
	mst_enc_free(e);
	ck_assert_int_eq(mst_dec_new(&d, NULL, &err), 0);
	m->data[1] = 0;
	ck_assert_int_eq(mst_dec_take(d, m->data, m->len, &err), HCI_E_VERSION);
	ck_assert_int_eq(mst_dec_status(d, &err), HCI_E_VERSION);
	mst_dec_free(d);
	mst_msg_free(m);
}
END_TEST

/* Else the window would bound nothing while workers are busy. */
START_TEST(a_message_holds_no_more_than_it_makes)
{
	static const struct mst_data good = { .out = 5000, .lit = 904, .fresh = 4096, .ops = 9, .delta = 5000, .packed = 500 };
	struct mst_data bad[6];
	uint8_t *b = mem_zalloc(MST_MSG_MAX);
	struct mst_data out;
	struct hci_error err;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[1].lit++;
	bad[2].fresh += MST_PAGE;
	bad[3].raw += MST_PAGE;
	bad[4].delta++;
	bad[5].packed = bad[5].ops + bad[5].lit + bad[5].delta + bad[5].fresh + 1;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		mst_put_data(&bad[i], b);
		ck_assert_int_eq(mst_get_data(b, MST_DATA_HEAD + bad[i].packed + bad[i].raw, &out, &err), i ? HCI_E_PROTO : 0);
	}
	mem_free(b);
}
END_TEST

START_TEST(nothing_is_sent_before_the_hello)
{
	struct hci_error err;
	struct mst_enc *e;
	struct mst_msg *m;

	ck_assert_int_eq(mst_enc_new(&e, NULL, &err), 0);
	ck_assert_int_eq(mst_enc_feed(e, "abc", 3, &err), 3);
	ck_assert_int_eq(mst_enc_finish(e, &err), 0);
	m = mst_enc_next(e);
	ck_assert_uint_eq(m->data[0], MST_HELLO);
	mst_msg_free(m);
	ck_assert_ptr_null(mst_enc_next(e));
	ck_assert(!mst_enc_done(e));
	mst_enc_free(e);
}
END_TEST

/* An encoder that is fed noise as long as it takes any, and whose messages a path takes at a rate. */
static void flow(struct mst_enc *e, uint64_t rate, uint64_t latency, uint64_t *most)
{
	static uint8_t noise[64 << 10];
	struct { uint64_t at; uint32_t bytes; } way[512] = { 0 };
	uint64_t free_at = now_ns, bytes = 0, before = 0, flying = 0, till = now_ns + 4 * NS_PER_S;
	uint32_t sent = 0, back = 0;
	struct hci_error err;

	*most = 0;
	for (unsigned i = 0; i < sizeof(noise); i += MST_PAGE)
		page_random(noise + i, i + 1);
	for (; now_ns < till; now_ns += NS_PER_MS) {
		struct mst_msg *m;

		while (mst_enc_room(e))
			ck_assert_int_ge(mst_enc_feed(e, noise, sizeof(noise), &err), 0);
		while ((m = mst_enc_next(e))) {
			if (m->data[0] == MST_DATA) {
				free_at = MAX(free_at, now_ns) + m->len * NS_PER_S / rate;
				way[sent % 512].at = free_at + latency;
				way[sent++ % 512].bytes = get32(m->data + 8);
				flying += m->len;
			}
			mst_msg_free(m);
		}
		while (back != sent && way[back % 512].at <= now_ns) {
			bytes += way[back % 512].bytes;
			flying -= MIN(flying, (uint64_t)way[back % 512].bytes);
			m = mst_put_ack(&(struct mst_ack){ .messages = ++back, .bytes = bytes });
			ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), 0);
			mst_msg_free(m);
		}
		if (now_ns > till - NS_PER_S) /* settled */
			*most = MAX(*most, flying);
		else
			before = bytes;
	}
	/* The path is used: nine tenths of what it could carry. */
	ck_assert_uint_ge(bytes - before, rate / 100 * 90);
}

START_TEST(never_more_than_the_set_time_in_flight)
{
	static const uint64_t rates[] = { 12500000, 25000000, 125000000 }, latencies[] = { 200000, 20000000, 150000000 };
	uint64_t rate = rates[_i % 3], latency = latencies[_i / 3], most;
	struct mst_opts o = { .now = fake_now, .inflight_ns = 100 * NS_PER_MS, .batch = 64 << 10, .level = 1 };
	struct mst_msg *m = hello(MST_VERSION, true);
	struct hci_error err;
	struct mst_enc *e;

	ck_assert_int_eq(mst_enc_new(&e, &o, &err), 0);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), 0);
	mst_msg_free(m);
	flow(e, rate, latency, &most);
	/* That time's worth, the path's own latency, and a message. */
	ck_assert_uint_le(most, rate / 1000 * (100 + 2 * latency / NS_PER_MS + 20) + (256 << 10));
	mst_enc_free(e);
}
END_TEST

START_TEST(a_slow_path_is_worth_more_compression)
{
	struct mst_opts o = { .now = fake_now, .batch = 64 << 10 };
	struct mst_msg *m = hello(MST_VERSION, true);
	struct mst_stats stats;
	struct hci_error err;
	struct mst_enc *e;
	uint64_t most;

	ck_assert_int_eq(mst_enc_new(&e, &o, &err), 0);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), 0);
	mst_msg_free(m);
	flow(e, 5000000, NS_PER_MS, &most);
	mst_enc_stats(e, &stats);
	ck_assert_int_gt(stats.level, 5);
	/* What it measured is the path's rate. */
	ck_assert_uint_ge(stats.rate, 4000000);
	ck_assert_uint_le(stats.rate, 6000000);
	mst_enc_free(e);
}
END_TEST

START_TEST(a_destination_that_stands_still_stops_the_source)
{
	struct mst_opts o = { .now = fake_now, .window = 8 << 20, .inflight_ns = UINT64_MAX };
	struct mst_msg *m = hello(MST_VERSION, true);
	static uint8_t zeroes[1 << 20];
	struct hci_error err;
	struct mst_enc *e;
	uint64_t taken = 0;

	ck_assert_int_eq(mst_enc_new(&e, &o, &err), 0);
	ck_assert_int_eq(mst_enc_take(e, m->data, m->len, &err), 0);
	mst_msg_free(m);
	for (unsigned i = 0; i < 100; i++) {
		taken += (uint64_t)mst_enc_feed(e, zeroes, sizeof(zeroes), &err);
		while ((m = mst_enc_next(e)))
			mst_msg_free(m);
	}
	ck_assert_uint_le(taken, 8 << 20);
	ck_assert_uint_eq(mst_enc_room(e), 0);
	mst_enc_free(e);
}
END_TEST

START_TEST(wrong_options_are_refused)
{
	static const struct mst_opts wrong[] = { { .workers = 1000 }, { .batch = 1 }, { .batch = 1 << 30 }, { .level = -1 },
						 { .level = 99 }, { .n_providers = 9 }, { .cache = UINT64_MAX } };
	struct hci_error err;
	struct mst_enc *e;
	struct mst_dec *d;

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		ck_assert_int_eq(mst_enc_new(&e, &wrong[i], &err), HCI_E_INVAL);
		ck_assert_int_eq(mst_dec_new(&d, &wrong[i], &err), HCI_E_INVAL);
	}
	mst_enc_free(NULL);
	mst_dec_free(NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_hostile");
	TCase *t = tcase_create("hostile");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, damaged_messages_are_errors_never_bytes);
	tcase_add_test(t, another_version_is_named);
	tcase_add_test(t, a_message_holds_no_more_than_it_makes);
	tcase_add_test(t, nothing_is_sent_before_the_hello);
	tcase_add_loop_test(t, never_more_than_the_set_time_in_flight, 0, 9);
	tcase_add_test(t, a_slow_path_is_worth_more_compression);
	tcase_add_test(t, a_destination_that_stands_still_stops_the_source);
	tcase_add_test(t, wrong_options_are_refused);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
