/* SPDX-License-Identifier: Apache-2.0 */
/* The checker itself: what it must accept, and what it must not. */
#include "sim/history.h"
#include "unit/harness.h"

#define N 8

static struct history *h;
static uint32_t session;
static _Alignas(HCI_BLOCK) uint8_t buf[N * HCI_BLOCK];

static void setup(void)
{
	h = history_new(N, 42);
	session = history_session(h);
}

static void teardown(void)
{
	history_free(h);
}

static uint64_t begin(uint64_t block, uint64_t n)
{
	return history_write_begin(h, session, block, n, false);
}

static uint64_t write_ok(uint64_t block, uint64_t n)
{
	uint64_t id = begin(block, n);

	history_write_end(h, id, true);
	return id;
}

/* A read from beginning to end that returns the content of write id; 0: zeroes. */
static void put_content(uint64_t block, uint64_t id)
{
	if (id)
		history_fill(h, id, block, 1, buf);
	else
		memset(buf, 0, HCI_BLOCK);
}

static void read_as(uint64_t block, uint64_t id)
{
	uint64_t r = history_read_begin(h, session, block, 1);

	put_content(block, id);
	history_read_end(h, r, buf);
}

static void good(void)
{
	ck_assert_msg(!history_violation(h), "%s", history_violation(h));
}

static void bad(const char *what)
{
	ck_assert_ptr_nonnull(history_violation(h));
	ck_assert_msg(strstr(history_violation(h), what), "\"%s\" is not in \"%s\"", what, history_violation(h));
}

START_TEST(starts_as_zeroes)
{
	read_as(3, 0);
	good();
}
END_TEST

START_TEST(last_write_is_read)
{
	uint64_t a = write_ok(0, 4), b = write_ok(2, 4);

	read_as(0, a);
	read_as(1, a);
	read_as(2, b);
	read_as(5, b);
	read_as(6, 0);
	good();
	read_as(2, a);
	bad("stale");
}
END_TEST

START_TEST(lost_write)
{
	write_ok(0, 1);
	read_as(0, 0);
	bad("zeroes");
}
END_TEST

START_TEST(in_flight_may_be_seen_or_not)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1);

	read_as(0, a);
	good();
	read_as(0, b);
	good();
	history_write_end(h, b, true);
	read_as(0, b);
	good();
	read_as(0, a);
	bad("stale");
}
END_TEST

/* From another replica, or after a crash: what somebody saw must not vanish. */
START_TEST(what_was_read_has_taken_effect)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1), c = begin(0, 1);

	read_as(0, b);
	if (_i == 1)
		history_crash(h, session);
	read_as(0, c); /* in flight with it: may have come after */
	good();
	read_as(0, a);
	bad("stale");
}
END_TEST

/* A read that ran across the end of a write may return what was there when it began. */
START_TEST(slow_read)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1), r = history_read_begin(h, session, 0, 1), r2;

	history_write_end(h, b, true);
	put_content(0, a);
	r2 = history_read_begin(h, session, 0, 1);
	history_read_end(h, r, buf);
	good();
	history_read_end(h, r2, buf);
	bad("stale");
}
END_TEST

START_TEST(overlapping_writes_settle)
{
	uint64_t a = begin(0, 2), b = begin(1, 2);

	history_write_end(h, b, true);
	history_write_end(h, a, true);
	read_as(1, a);
	good();
	read_as(1, b); /* the replicas differ */
	bad("stale or reverted");
}
END_TEST

START_TEST(failed_write_settles)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1);
	struct history_counts c;

	history_write_end(h, b, false);
	if (_i) {
		read_as(0, b);
		read_as(0, b);
		good();
		history_counts(h, &c);
		ck_assert_uint_eq(c.resolved, 1);
		read_as(0, a);
	} else {
		read_as(0, a);
		good();
		read_as(0, b);
	}
	bad("stale or reverted");
}
END_TEST

START_TEST(crash_settles)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1), c = begin(0, 1);

	history_crash(h, session);
	session = history_session(h);
	read_as(0, _i == 0 ? a : _i == 1 ? b : c);
	good();
	read_as(0, _i == 0 ? a : _i == 1 ? b : c);
	good();
	read_as(0, _i == 0 ? b : _i == 1 ? c : a);
	bad("stale or reverted");
}
END_TEST

/* A write after a crash rules out what the dead writer left; its late packets are found out. */
START_TEST(late_packet)
{
	uint64_t b = begin(0, 1), c;

	history_crash(h, session);
	session = history_session(h);
	c = write_ok(0, 1);
	read_as(0, c);
	good();
	read_as(0, b);
	bad("stale or reverted");
}
END_TEST

START_TEST(acknowledged_but_gone_at_takeover)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1);

	session = history_session(h); /* the other one took over, this one hears late */
	read_as(0, _i ? b : a);
	good();
	history_write_end(h, b, true);
	if (_i)
		good();
	else
		bad("lost");
}
END_TEST

START_TEST(replaced_writer_must_not_write)
{
	uint64_t old = session, id;

	session = history_session(h);
	id = history_write_begin(h, old, 0, 1, false);
	history_write_end(h, id, _i);
	if (_i)
		bad("lost");
	else
		good();
}
END_TEST

START_TEST(zeroes_overwrite)
{
	uint64_t a = write_ok(0, 2), z = history_write_begin(h, session, 0, 1, true);

	history_write_end(h, z, true);
	read_as(0, 0);
	read_as(1, a);
	good();
	read_as(0, a);
	bad("stale");
}
END_TEST

START_TEST(damaged_content)
{
	uint64_t a = write_ok(0, 2), b, r;

	if (_i == 0) { /* another block's content */
		r = history_read_begin(h, session, 1, 1);
		put_content(0, a);
	} else if (_i == 1) { /* a flipped bit */
		r = history_read_begin(h, session, 0, 1);
		put_content(0, a);
		buf[4000] ^= 1;
	} else if (_i == 2) { /* torn between two writes */
		b = write_ok(0, 2);
		r = history_read_begin(h, session, 0, 1);
		history_fill(h, a, 0, 1, buf + HCI_BLOCK);
		put_content(0, b);
		memcpy(buf + 512, buf + HCI_BLOCK + 512, 512);
	} else { /* rubbish */
		r = history_read_begin(h, session, 0, 1);
		memset(buf, 0xee, HCI_BLOCK);
	}
	history_read_end(h, r, buf);
	bad(_i == 0 ? "another block" : _i == 3 ? "nobody wrote" : "torn");
}
END_TEST

START_TEST(failed_read_teaches_nothing)
{
	uint64_t a = write_ok(0, 1), b = begin(0, 1), r;

	history_write_end(h, b, false);
	r = history_read_begin(h, session, 0, 1);
	history_read_end(h, r, NULL);
	read_as(0, a);
	good();
}
END_TEST

/* A perfect register under a random load never trips it. */
START_TEST(random_good_history)
{
	uint64_t now[N] = { 0 }, flight[4] = { 0 }, at[4], x = (uint64_t)_i + 1;

	for (int k = 0; k < 20000; k++) {
		unsigned slot, what;

		x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
		slot = (unsigned)(x >> 33) % 4;
		what = (unsigned)(x >> 40) % 16;
		if (flight[slot]) {
			bool effect = what & 1, ok = effect && what & 6;

			if (effect)
				now[at[slot]] = flight[slot];
			history_write_end(h, flight[slot], ok);
			flight[slot] = 0;
		} else if (what < 8) {
			at[slot] = (x >> 50) % N;
			flight[slot] = begin(at[slot], 1);
		} else if (what == 8) {
			history_crash(h, session);
			memset(flight, 0, sizeof(flight));
			session = history_session(h);
		} else {
			read_as((x >> 50) % N, now[(x >> 50) % N]);
		}
		good();
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_history");
	TCase *t = tcase_create("all");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, starts_as_zeroes);
	tcase_add_test(t, last_write_is_read);
	tcase_add_test(t, lost_write);
	tcase_add_test(t, in_flight_may_be_seen_or_not);
	tcase_add_loop_test(t, what_was_read_has_taken_effect, 0, 2);
	tcase_add_test(t, slow_read);
	tcase_add_test(t, overlapping_writes_settle);
	tcase_add_loop_test(t, failed_write_settles, 0, 2);
	tcase_add_loop_test(t, crash_settles, 0, 3);
	tcase_add_test(t, late_packet);
	tcase_add_loop_test(t, acknowledged_but_gone_at_takeover, 0, 2);
	tcase_add_loop_test(t, replaced_writer_must_not_write, 0, 2);
	tcase_add_test(t, zeroes_overwrite);
	tcase_add_loop_test(t, damaged_content, 0, 4);
	tcase_add_test(t, failed_read_teaches_nothing);
	tcase_add_loop_test(t, random_good_history, 0, 4);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
