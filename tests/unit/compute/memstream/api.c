/* SPDX-License-Identifier: Apache-2.0 */
/* hci/memstream.h: pages and bytes come out as they were put, over bytes in any portions; misuse is named. */
#include <hci/memstream.h>

#include "../../harness.h"
#include "pair.h"

#define REGION_PAGES 700u

struct ends {
	hci_memstream *source, *sink;
	uint64_t seed, records, bytes, ends;
	uint8_t *copy[2]; /* what the sink has of regions 1 and 0xffffffff */
	char said[300000];
	struct hci_error err;
};

static void move(struct ends *e, hci_memstream *from, hci_memstream *to)
{
	uint8_t buf[5000];
	int64_t n;

	while ((n = hci_memstream_send(from, buf, 1 + rnd(&e->seed) % sizeof(buf), &e->err)) > 0)
		ck_assert_msg(!hci_memstream_receive(to, buf, (uint64_t)n, &e->err), "%s", e->err.message);
	ck_assert_int_eq(n, 0);
}

static void take(struct ends *e)
{
	struct hci_memstream_record r;

	for (;;) {
		ck_assert_msg(!hci_memstream_next(e->sink, &r, sizeof(r), &e->err), "%s", e->err.message);
		if (r.kind == HCI_MEMSTREAM_NOTHING)
			return;
		e->records++;
		if (r.kind == HCI_MEMSTREAM_IS_END) {
			e->ends++;
		} else if (r.kind == HCI_MEMSTREAM_IS_BYTES) {
			memcpy(e->said + e->bytes, r.data, r.len);
			e->bytes += r.len;
		} else {
			uint8_t *to = e->copy[r.region != 1] + r.address;

			ck_assert(r.region == 1 || r.region == UINT32_MAX);
			ck_assert_uint_lt(r.address, REGION_PAGES * 4096ull);
			if (r.kind == HCI_MEMSTREAM_IS_PAGE)
				memcpy(to, r.data, 4096);
			else
				memset(to, 0, 4096);
		}
	}
}

static void pump(struct ends *e)
{
	move(e, e->source, e->sink);
	take(e);
	move(e, e->sink, e->source);
}

static void all(struct ends *e, uint32_t region, const uint8_t *memory, uint64_t *bitmap, uint64_t set)
{
	uint64_t put = 0;

	while (put < set) {
		int64_t n = hci_memstream_put_dirty(e->source, region, 0, memory, bitmap, REGION_PAGES, &e->err);

		ck_assert_msg(n >= 0, "%s", e->err.message);
		put += (uint64_t)n;
		pump(e);
	}
	ck_assert_uint_eq(put, set);
}

START_TEST(pages_and_bytes_come_out_as_they_were_put)
{
	static uint8_t memory[REGION_PAGES * 4096], said[200000];
	struct hci_memstream_opts o = HCI_MEMSTREAM_OPTS_INIT;
	uint64_t bitmap[(REGION_PAGES + 63) / 64], done = 0;
	static struct ends e;
	struct hci_memstream_info info;

	e = (struct ends){ .seed = 3 };
	memset(memory, 0, sizeof(memory));
	o.window_bytes = 4 << 20;
	o.workers = (uint32_t)_i;
	o.level = _i ? 3 : 0; /* with workers 0 has pages go as they are, as nothing is as fast as this connection */
	ck_assert_int_eq(hci_memstream_source(&e.source, &o, &e.err), 0);
	ck_assert_int_eq(hci_memstream_sink(&e.sink, &o, &e.err), 0);
	ck_assert_int_ge(hci_memstream_fd(e.source), 0);
	e.copy[0] = calloc(REGION_PAGES, 4096);
	e.copy[1] = calloc(REGION_PAGES, 4096);
	for (unsigned i = 0; i < REGION_PAGES; i++)
		if (i % 3)
			page_text(memory + i * 4096, 1 + i % 500);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t set = 0;

		memset(bitmap, 0, sizeof(bitmap));
		for (unsigned i = 0; i < REGION_PAGES; i += 1 + round) {
			memory[i * 4096 + i] ^= (uint8_t)round;
			bitmap[i / 64] |= (uint64_t)1 << i % 64;
			set++;
		}
		all(&e, round == 1 ? UINT32_MAX : 1, memory, bitmap, set);
		if (round == 0)
			memset(bitmap, 0xff, sizeof(bitmap)); /* the second region once as a whole */
		if (round == 0)
			all(&e, UINT32_MAX, memory, bitmap, REGION_PAGES);
	}
	memset(bitmap, 0xff, sizeof(bitmap));
	all(&e, 1, memory, bitmap, REGION_PAGES);
	memset(bitmap, 0xff, sizeof(bitmap));
	all(&e, UINT32_MAX, memory, bitmap, REGION_PAGES);
	for (unsigned i = 0; i < sizeof(said); i++)
		said[i] = (uint8_t)(i * i >> 3);
	while (done < sizeof(said)) {
		int64_t n = hci_memstream_put_bytes(e.source, said + done, sizeof(said) - done, &e.err);

		ck_assert_int_ge(n, 0);
		done += (uint64_t)n;
		pump(&e);
	}
	while (hci_memstream_finish(e.source, &e.err) == HCI_E_BUSY)
		pump(&e);
	while (!hci_memstream_done(e.source))
		pump(&e);
	ck_assert(hci_memstream_done(e.sink));
	ck_assert_uint_eq(e.ends, 1);
	ck_assert_uint_eq(e.bytes, sizeof(said));
	ck_assert_int_eq(memcmp(e.said, said, sizeof(said)), 0);
	ck_assert_int_eq(memcmp(e.copy[0], memory, sizeof(memory)), 0);
	ck_assert_int_eq(memcmp(e.copy[1], memory, sizeof(memory)), 0);
	ck_assert_int_eq(hci_memstream_info(e.source, &info, sizeof(info), NULL), 0);
	ck_assert_uint_gt(info.pages_delta, 100);
	ck_assert_uint_gt(info.pages_same, 100);
	ck_assert_uint_gt(info.pages_zero, 100);
	ck_assert_uint_lt(info.wire_bytes, info.stream_bytes / 2);
	ck_assert_uint_eq(info.done_bytes, info.stream_bytes);
	/* Nothing after the end. */
	ck_assert_int_eq(hci_memstream_put_page(e.source, 1, 0, memory, &e.err), HCI_E_STATE);
	hci_memstream_unref(e.source);
	hci_memstream_unref(e.sink);
	free(e.copy[0]);
	free(e.copy[1]);
}
END_TEST

START_TEST(a_source_that_nobody_carries_for_says_busy)
{
	struct hci_memstream_opts o = HCI_MEMSTREAM_OPTS_INIT;
	struct hci_error err;
	hci_memstream *s;
	uint8_t page[4096];
	unsigned n = 0;
	int rc;

	ck_assert_int_eq(hci_memstream_source(&s, &o, &err), 0);
	do {
		page_random(page, n + 1);
		rc = hci_memstream_put_page(s, 1, n * 4096ull, page, &err);
	} while (!rc && n++ < 100000);
	ck_assert_int_eq(rc, HCI_E_BUSY);
	ck_assert_ptr_nonnull(strstr(err.message, "send and receive first"));
	ck_assert_int_eq(hci_memstream_finish(s, &err), HCI_E_BUSY);
	hci_memstream_unref(s);
}
END_TEST

START_TEST(misuse_is_named)
{
	struct hci_memstream_opts o = HCI_MEMSTREAM_OPTS_INIT;
	struct hci_memstream_record r;
	hci_memstream *source, *sink;
	uint64_t bits = 1;
	uint8_t page[4096] = { 0 };
	struct hci_error err;

	ck_assert_int_eq(hci_memstream_source(NULL, NULL, &err), HCI_E_INVAL);
	o.level = 9;
	ck_assert_int_eq(hci_memstream_sink(&sink, &o, &err), HCI_E_INVAL);
	o.level = 0;
	o.workers = 65;
	ck_assert_int_eq(hci_memstream_sink(&sink, &o, &err), HCI_E_INVAL);
	ck_assert_int_eq(hci_memstream_source(&source, NULL, &err), 0);
	ck_assert_int_eq(hci_memstream_sink(&sink, NULL, &err), 0);
	ck_assert_int_eq(hci_memstream_put_page(sink, 1, 0, page, &err), HCI_E_STATE);
	ck_assert_int_eq(hci_memstream_put_page(source, 1, 7, page, &err), HCI_E_INVAL);
	ck_assert_int_eq(hci_memstream_put_page(source, 1, 0, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(hci_memstream_put_page(NULL, 1, 0, page, &err), HCI_E_INVAL);
	ck_assert_int_eq(hci_memstream_put_dirty(source, 1, 0, NULL, &bits, 1, &err), HCI_E_INVAL);
	ck_assert_int_eq(hci_memstream_next(source, &r, sizeof(r), &err), HCI_E_STATE);
	/* No stream at all. */
	ck_assert_int_eq(hci_memstream_receive(sink, "GET / HTTP/1.1", 14, &err), HCI_E_PROTO);
	ck_assert_int_eq(hci_memstream_next(sink, &r, sizeof(r), &err), HCI_E_PROTO);
	ck_assert_int_eq(hci_memstream_send(sink, page, 10, &err), 10);
	hci_memstream_unref(source);
	hci_memstream_unref(sink);
	hci_memstream_unref(NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memstream_api");
	TCase *t = tcase_create("api");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, pages_and_bytes_come_out_as_they_were_put, 0, 2);
	tcase_add_test(t, a_source_that_nobody_carries_for_says_busy);
	tcase_add_test(t, misuse_is_named);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
