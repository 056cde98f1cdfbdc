/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The etcd driver while clocks really step: the wall clocks of all members, each by itself and by years, and ours; and members that
 * come back with another monotonic clock, as after a restart of their machine. Leases last as long as they are renewed, and never end
 * early when they are not; nothing is missed by a watch, no transaction done twice. They may end late: etcd 3.4 looks for those
 * that are over by the wall clock (github.com/etcd-io/etcd/pull/12292), so a clock that was set back after the last renewal adds
 * what it was set back by, and one that was set forward 3 s, after which it looks again.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock_step.h"
#include "etcd_world.h"
#include "unit/harness.h"

#define DAY (24 * 3600)
#define TTL (3 * NS_PER_S)

static struct etcd_world etcd;
static struct world loop;
static char url[300];

static void run(void (*body)(struct world *w))
{
	etcd_world_make_clocks(&etcd, 3);
	etcd_world_url(&etcd, url, sizeof(url), NULL);
	world_run(&loop, body);
	etcd_world_remove(&etcd);
}

static struct store *open_store(void)
{
	struct hci_error err;
	struct store *s;

	REQUIRE(store_open(loop.env, url, &s, &err) == 0, "%s", err.message);
	store_set_timeout(s, 30 * NS_PER_S);
	return s;
}

/* The machine's. */
static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- do they step at all? ---- */

/* What time it is there: Go's HTTP server says so. */
static time_t time_at(const struct member *m)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)m->client),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	static const char get[] = "GET /version HTTP/1.0\r\n\r\n";
	char text[2000];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct tm tm = { 0 };
	size_t n = 0;
	ssize_t k;
	char *p;

	ck_assert_int_eq(connect(fd, (void *)&a, sizeof(a)), 0);
	ck_assert_int_eq(write(fd, get, sizeof(get) - 1), sizeof(get) - 1);
	while (n + 1 < sizeof(text) && (k = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)k;
	close(fd);
	text[n] = '\0';
	p = strstr(text, "Date: ");
	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_nonnull(strptime(p + 6, "%a, %d %b %Y %H:%M:%S GMT", &tm));
	return timegm(&tm);
}

START_TEST(clocks_of_members_step_and_no_others)
{
	static const int64_t steps[] = { 1000 * DAY, -1000 * DAY, 3600, 0 };
	time_t here = time(NULL);

	etcd_world_make_clocks(&etcd, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		clock_step(etcd.m[1].pid, steps[i]);
		ck_assert_int_le(labs(time_at(&etcd.m[1]) - time(NULL) - steps[i]), 3);
		ck_assert_int_le(labs(time_at(&etcd.m[0]) - time(NULL)), 3);
	}
	ck_assert_int_le(labs(time(NULL) - here), 60);
	etcd_world_remove(&etcd);
}
END_TEST

/* ---- what goes on meanwhile ---- */

struct work {
	struct store *s;
	uint64_t lease, renewed, rev;
	unsigned writes, events;
	bool stop_renewing, stop, writer_ended, renewer_ended, lost, disorder;
};

static void saw(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	struct work *x = arg;

	x->disorder |= rev <= x->rev;
	x->rev = rev;
	x->events += (unsigned)n;
	x->lost |= !ev;
}

static void renewer(void *arg)
{
	struct work *x = arg;

	while (!x->stop_renewing) {
		uint64_t at = now();

		ck_assert_int_eq(store_lease_keepalive(x->s, x->lease, NULL), 0);
		x->renewed = at;
		fiber_sleep(loop.env, TTL / 6);
	}
	x->renewer_ended = true;
}

static int put(struct store *s, const char *key, uint64_t rev, uint64_t lease, uint64_t *out)
{
	struct store_op op = { STORE_PUT, key, "x", 1, lease };
	struct store_cmp cmp = { STORE_CMP_MOD_REV, key, rev };

	return store_txn(s, &cmp, 1, &op, 1, out, NULL);
}

static void writer(void *arg)
{
	struct work *x = arg;
	uint64_t rev = 0;

	while (!x->stop) {
		ck_assert_int_eq(put(x->s, "w/1", rev, 0, &rev), 0);
		x->writes++;
		fiber_sleep(loop.env, 5 * NS_PER_MS);
	}
	x->writer_ended = true;
}

static bool is_there(struct store *s, const char *key)
{
	struct store_result r;
	bool there;

	ck_assert_int_eq(store_get(s, key, &r, NULL), 0);
	there = r.n;
	store_result_free(&r);
	return there;
}

static void wait_for(const bool *b)
{
	while (!*b)
		fiber_sleep(loop.env, 10 * NS_PER_MS);
}

static void step_some(bool ours)
{
	for (unsigned i = 0; i < etcd.n; i++)
		if (random() % 2 && etcd.m[i].pid)
			clock_step(etcd.m[i].pid, (random() % 2 ? 1 : -1) * (random() % (random() % 2 ? 3 : 1000 * DAY)));
	if (ours)
		clock_step(getpid(), (random() % 2 ? 1 : -1) * (random() % (1000 * DAY)));
}

#define BACK 5
#define AGAIN (3 * NS_PER_S)

/* restart: the leader is killed in between, and comes back with its monotonic clock somewhere else. */
static void through(bool ours, bool restart)
{
	struct work x = { .s = open_store() };
	struct store *other = open_store();
	struct store_watch *w = store_watch(other, "w/", 0, saw, &x);
	/* etcd counts whole seconds, gets one more, and looks each half; a loaded machine takes its time. */
	uint64_t end, late = TTL + 6 * NS_PER_S + AGAIN + BACK * NS_PER_S;

	ck_assert_int_eq(store_lease_grant(x.s, TTL, &x.lease, NULL), 0);
	ck_assert_int_eq(put(x.s, "l/1", 0, x.lease, NULL), 0);
	ck_assert_int_eq(fiber_spawn(loop.env, renewer, &x, "renewer"), 0);
	ck_assert_int_eq(fiber_spawn(loop.env, writer, &x, "writer"), 0);
	for (unsigned i = 0; i < 40; i++) {
		int leader = restart && i % 20 == 5 ? etcd_leader(&etcd) : -1;

		step_some(ours);
		if (leader >= 0) {
			etcd_member_kill(&etcd, (unsigned)leader);
			etcd.monotonic = i < 20 ? 40 * DAY : 0;
			etcd_member_start(&etcd, (unsigned)leader);
		}
		fiber_sleep(loop.env, 200 * NS_PER_MS);
		ck_assert(is_there(other, "l/1"));
	}
	for (unsigned i = 0; i < etcd.n; i++)
		clock_step(etcd.m[i].pid, 7 * DAY);
	fiber_sleep(loop.env, TTL / 3); /* one more renewal */
	x.stop_renewing = true;
	wait_for(&x.renewer_ended);
	for (unsigned i = 0; i < etcd.n; i++)
		clock_step(etcd.m[i].pid, 7 * DAY - BACK);
	while (is_there(other, "l/1")) {
		ck_assert_msg(now() - x.renewed < late, "a lease that nobody renews goes on");
		fiber_sleep(loop.env, 50 * NS_PER_MS);
	}
	ck_assert_msg(now() - x.renewed >= TTL, "a lease ended early");
	ck_assert_int_eq(store_lease_keepalive(x.s, x.lease, NULL), HCI_E_NOTFOUND);
	x.stop = true;
	wait_for(&x.writer_ended);
	for (end = now() + 10 * NS_PER_S; x.events < x.writes && now() < end;)
		fiber_sleep(loop.env, 10 * NS_PER_MS);
	ck_assert_uint_eq(x.events, x.writes);
	ck_assert_uint_gt(x.writes, 100);
	ck_assert(!x.lost && !x.disorder);
	store_watch_close(w);
	store_close(other);
	store_close(x.s);
}

static void all_step(struct world *w)
{
	(void)w;
	through(true, false);
}

START_TEST(wall_clocks_of_members_and_ours_step)
{
	clock_step_self();
	run(all_step);
}
END_TEST

static void leaders_restart(struct world *w)
{
	(void)w;
	through(false, true);
}

START_TEST(leaders_come_back_with_another_monotonic_clock)
{
	run(leaders_restart);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("store/etcd clocks");
	TCase *t = tcase_create("steps");

	tcase_set_timeout(t, 180);
	tcase_add_test(t, clocks_of_members_step_and_no_others);
	tcase_add_test(t, wall_clocks_of_members_and_ours_step);
	tcase_add_test(t, leaders_come_back_with_another_monotonic_clock);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return etcd_suite_main(suite);
}
