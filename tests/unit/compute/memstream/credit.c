/* SPDX-License-Identifier: Apache-2.0 */
/* The time's worth in flight: on a link of constant rate as much is under way as that takes in the time that was set, not more. */
#include "compute/memstream/credit.h"
#include "unit/harness.h"

#define RATE 20000000u /* bytes/s */
#define MSG 65536u
#define RTT (2 * NS_PER_MS)
#define MANY 4096u

/* Always has more to send. Returns the most that was under way in the last of ten seconds. */
static uint64_t most_under_way(uint64_t inflight_ns)
{
	static struct credit_mark mark[MANY];
	static uint64_t there[MANY]; /* when its arrival is heard of */
	uint64_t now = 0, link_free = 0, most = 0, first = 0, next = 0;
	struct credit c;

	credit_init(&c, inflight_ns, 0);
	while (now < 10 * NS_PER_S) {
		while (next - first < MANY && credit_allows(&c, MSG)) {
			credit_sent(&c, MSG, now, &mark[next % MANY]);
			link_free = MAX(link_free, now) + (uint64_t)MSG * NS_PER_S / RATE;
			there[next++ % MANY] = link_free + RTT;
		}
		if (now > 9 * NS_PER_S)
			most = MAX(most, c.flying);
		ck_assert_uint_gt(next, first);
		now = MAX(now, there[first % MANY]);
		credit_arrived(&c, MSG, now, &mark[first % MANY]);
		first++;
	}
	return most;
}

START_TEST(as_much_is_under_way_as_the_link_takes_in_the_time_that_was_set)
{
	static const uint64_t ms[] = { 50, 100, 250, 1000 };

	for (size_t i = 0; i < ARRAY_SIZE(ms); i++) {
		uint64_t most = most_under_way(ms[i] * NS_PER_MS), want = RATE / 1000 * ms[i];

		ck_assert_msg(most <= want * 13 / 10 + 4 * MSG && most >= want * 7 / 10, "%u ms: %llu bytes under way, not about %llu",
			      (unsigned)ms[i], (unsigned long long)most, (unsigned long long)want);
	}
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("memstream_credit");
	TCase *tc = tcase_create("credit");

	tcase_add_test(tc, as_much_is_under_way_as_the_link_takes_in_the_time_that_was_set);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
