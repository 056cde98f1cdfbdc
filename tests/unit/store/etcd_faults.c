/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The etcd driver in trouble: members that are killed or say nothing, no majority, lost answers, a compacted history,
 * sessions that end. What counts: a transaction is done once, its own success is never a conflict, nothing happens
 * late, no change is missed by a watch without it being told. In three parts, each of which mostly waits.
 */
#include <unistd.h>

#include "eat_proxy.h"
#include "etcd_world.h"
#include "unit/harness.h"

#define WRITERS 6

static struct etcd_world etcd;
static struct world loop;
static char url[300];

/* ---- short forms ---- */

static void run(unsigned members, void (*body)(struct world *w))
{
	etcd_world_make(&etcd, members, false);
	etcd_world_url(&etcd, url, sizeof(url), NULL);
	world_run(&loop, body);
	etcd_world_remove(&etcd);
}

static struct store *open_at(const char *u)
{
	struct hci_error err;
	struct store *s;

	REQUIRE(store_open(loop.env, u, &s, &err) == 0, "%s", err.message);
	store_set_timeout(s, 40 * NS_PER_S);
	return s;
}

static int put_if(struct store *s, const char *key, uint64_t rev, const char *value, uint64_t *out)
{
	struct store_op op = { STORE_PUT, key, value, (uint32_t)strlen(value), 0 };
	struct store_cmp cmp = { STORE_CMP_MOD_REV, key, rev };
	struct hci_error err = { 0 };
	int rc = store_txn(s, &cmp, 1, &op, 1, out, &err);

	if (rc && rc != HCI_E_CONFLICT)
		fprintf(stderr, "%s\n", err.message);
	return rc;
}

static uint64_t rev_of(struct store *s, const char *key)
{
	struct store_result r;
	uint64_t rev;

	ck_assert_int_eq(store_get(s, key, &r, NULL), 0);
	rev = r.n ? r.kvs[0].mod_rev : 0;
	store_result_free(&r);
	return rev;
}

struct seen {
	unsigned events, lost;
	uint64_t last;
	bool disorder;
};

static void saw(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	struct seen *v = arg;

	v->disorder |= ev && rev <= v->last;
	v->last = rev;
	v->events += (unsigned)n;
	v->lost += !ev;
}

static void wait_events(struct seen *v, unsigned events)
{
	uint64_t until = env_now(loop.env) + 30 * NS_PER_S;

	while (v->events < events && env_now(loop.env) < until)
		fiber_sleep(loop.env, 10 * NS_PER_MS);
	ck_assert_uint_eq(v->events, events);
	ck_assert(!v->disorder);
}

/* ---- members are killed under load ---- */

struct writer {
	struct store *s;
	unsigned number, done;
	bool stop, ended;
};

/* Nobody else writes its key, so a conflict can only be with itself. */
static void writer_main(void *arg)
{
	struct writer *w = arg;
	char key[20], value[20];
	uint64_t rev = 0;

	snprintf(key, sizeof(key), "k/%u", w->number);
	while (!w->stop) {
		snprintf(value, sizeof(value), "%u", w->done + 1);
		ck_assert_int_eq(put_if(w->s, key, rev, value, &rev), 0);
		w->done++;
	}
	w->ended = true;
}

static void writers_start(struct writer *w, struct store *a, struct store *b)
{
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .s = i & 1 ? a : b, .number = i };
		ck_assert_int_eq(fiber_spawn(loop.env, writer_main, &w[i], "writer"), 0);
	}
}

static unsigned writers_stop(struct writer *w, struct store *s)
{
	unsigned total = 0;

	for (unsigned i = 0; i < WRITERS; i++)
		w[i].stop = true;
	for (unsigned i = 0; i < WRITERS; i++) {
		char key[20], value[20], want[20];

		while (!w[i].ended)
			fiber_sleep(loop.env, 10 * NS_PER_MS);
		snprintf(key, sizeof(key), "k/%u", i);
		snprintf(want, sizeof(want), "%u", w[i].done);
		ck_assert_str_eq(world_get(s, key, value, sizeof(value)), want);
		ck_assert_uint_gt(w[i].done, 0);
		total += w[i].done;
	}
	return total;
}

struct keeper {
	struct store *s;
	uint64_t lease;
	bool stop, ended;
};

static void keeper_main(void *arg)
{
	struct keeper *k = arg;

	while (!k->stop) {
		ck_assert_int_eq(store_lease_keepalive(k->s, k->lease, NULL), 0);
		fiber_sleep(loop.env, 1500 * NS_PER_MS);
	}
	k->ended = true;
}

/* freeze: the member hangs instead of being gone. */
static void leader_trouble(bool freeze)
{
	struct store *a = open_at(url), *b = open_at(url);
	struct writer w[WRITERS];
	struct keeper k = { .s = a };
	struct seen v = { 0 };
	struct store_watch *watch = store_watch(b, "k/", 0, saw, &v);

	ck_assert_int_eq(store_lease_grant(a, 8 * NS_PER_S, &k.lease, NULL), 0);
	ck_assert_int_eq(fiber_spawn(loop.env, keeper_main, &k, "keeper"), 0);
	writers_start(w, a, b);
	for (int round = 0; round < 3; round++) {
		int leader = etcd_leader(&etcd);

		ck_assert_int_ge(leader, 0);
		fiber_sleep(loop.env, 300 * NS_PER_MS);
		if (freeze)
			etcd_member_freeze(&etcd, (unsigned)leader, true);
		else
			etcd_member_kill(&etcd, (unsigned)leader);
		fiber_sleep(loop.env, 4 * NS_PER_S);
		if (freeze)
			etcd_member_freeze(&etcd, (unsigned)leader, false);
		else
			etcd_member_start(&etcd, (unsigned)leader);
		fiber_sleep(loop.env, 2 * NS_PER_S);
		etcd_world_settle(&etcd);
	}
	wait_events(&v, writers_stop(w, b));
	ck_assert_uint_eq(v.lost, 0);
	k.stop = true;
	while (!k.ended)
		fiber_sleep(loop.env, 10 * NS_PER_MS);
	store_watch_close(watch);
	store_close(a);
	store_close(b);
}

static void killed(struct world *w)
{
	(void)w;
	leader_trouble(false);
}

static void frozen(struct world *w)
{
	(void)w;
	leader_trouble(true);
}

START_TEST(leader_killed_in_the_middle_of_transactions)
{
	run(3, killed);
}
END_TEST

START_TEST(leader_that_hangs)
{
	run(3, frozen);
}
END_TEST

/* ---- no majority ---- */

static void waiter_main(void *arg)
{
	struct writer *w = arg;

	ck_assert_int_eq(put_if(w->s, "waits", 0, "x", NULL), 0);
	w->ended = true;
}

static void without_majority(struct world *w)
{
	struct store *s = open_at(url), *patient = open_at(url);
	struct writer waits = { .s = patient };
	struct store_result r;
	char v1[20] = "", v2[20] = "";
	uint64_t t, rev;

	(void)w;
	ck_assert_int_eq(put_if(s, "k", 0, "1", &rev), 0);
	etcd_member_kill(&etcd, 0);
	etcd_member_kill(&etcd, 1);
	store_set_timeout(s, 3 * NS_PER_S);
	t = env_now(loop.env);
	ck_assert_int_eq(put_if(s, "k", rev, "2", NULL), HCI_E_UNAVAILABLE);
	ck_assert_uint_le(env_now(loop.env) - t, 10 * NS_PER_S);
	ck_assert_int_eq(store_get(s, "k", &r, NULL), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(fiber_spawn(loop.env, waiter_main, &waits, "waiter"), 0);
	fiber_sleep(loop.env, NS_PER_S);
	ck_assert(!waits.ended);
	etcd_member_start(&etcd, 0);
	for (int i = 0; i < 300 && !waits.ended; i++)
		fiber_sleep(loop.env, 100 * NS_PER_MS);
	ck_assert(waits.ended);
	/* What failed has happened or not; it does not happen after we have looked. */
	store_set_timeout(s, 30 * NS_PER_S);
	world_get(s, "k", v1, sizeof(v1));
	fiber_sleep(loop.env, 3 * NS_PER_S);
	world_get(s, "k", v2, sizeof(v2));
	ck_assert_str_eq(v1, v2);
	store_close(s);
	store_close(patient);
}

START_TEST(without_a_majority_requests_wait_and_come_back)
{
	run(3, without_majority);
}
END_TEST

/* ---- answers that are lost ---- */

static void lost_answers(struct world *w)
{
	struct store *direct = open_at(url), *s;
	struct store_op del = { .kind = STORE_DELETE, .key = "d" }, ops[2] = { { 0 } };
	struct eat_proxy p;
	char through[100];
	uint64_t rev = 0, rev2, got = 0;

	(void)w;
	eat_proxy_start(&p, etcd.m[0].client);
	snprintf(through, sizeof(through), "etcd://127.0.0.1:%d/lost", p.port);
	s = open_at(through);
	world_put(s, "first", "a session and a slot");
	for (int i = 0; i < 5; i++) {
		/* Done, and told so with the revision it really has. */
		eat_proxy_eat(&p, 1 + i % 2);
		ck_assert_int_eq(put_if(s, "k", rev, "x", &rev2), 0);
		ck_assert_uint_gt(rev2, rev);
		rev = rev_of(s, "k");
		ck_assert_uint_eq(rev, rev2);
		/* A conflict with somebody else is one, also at the second try. */
		eat_proxy_eat(&p, 1 + i % 2);
		ck_assert_int_eq(put_if(s, "k", rev - 1, "y", NULL), HCI_E_CONFLICT);
		ck_assert_uint_eq(rev_of(s, "k"), rev);
		/* Deletes only. */
		world_put(s, "d", "x");
		eat_proxy_eat(&p, 1 + i % 2);
		ck_assert_int_eq(store_txn(s, &(struct store_cmp){ STORE_CMP_EXISTS, "d", 0 }, 1, &del, 1, &got, NULL), 0);
		ck_assert_uint_eq(rev_of(s, "d"), 0);
		/* Blind writes, which could be done twice without anybody noticing: the revision would tell. */
		ops[0] = (struct store_op){ STORE_PUT, "blind", "1", 1, 0 };
		ops[1] = (struct store_op){ STORE_PUT, "blind2", "1", 1, 0 };
		eat_proxy_eat(&p, 2);
		ck_assert_int_eq(store_txn(s, NULL, 0, ops, 2, &got, NULL), 0);
		ck_assert_uint_eq(rev_of(s, "blind"), got);
	}
	ck_assert_uint_ge(__atomic_load_n(&p.eaten, __ATOMIC_RELAXED), 25);
	store_close(s);
	store_close(direct);
	eat_proxy_stop(&p);
}

START_TEST(answers_that_are_lost_neither_double_nor_hide_what_was_done)
{
	run(1, lost_answers);
}
END_TEST

/* A request that arrives when nobody expects it any more: whoever asked has long had his answer from another try. */
static void arrives_late(struct world *w)
{
	struct store_op op = { STORE_PUT, "k", "x", 1, 0 }, del = { .kind = STORE_DELETE, .key = "k" };
	struct store *s;
	struct eat_proxy p;
	char through[100];
	uint64_t rev;

	(void)w;
	eat_proxy_start(&p, etcd.m[0].client);
	snprintf(through, sizeof(through), "etcd://127.0.0.1:%d/late", p.port);
	s = open_at(through);
	for (unsigned i = 1; i <= 4; i++) {
		world_put(s, "k", "before");
		/* Odd: it was sent again and done. Even: nobody got through, and it has failed. */
		eat_proxy_hold(&p, 1);
		store_set_timeout(s, (i & 1 ? 30000 : 1000) * NS_PER_MS);
		if (!(i & 1))
			eat_proxy_refuse(&p, true);
		ck_assert_int_eq(store_txn(s, NULL, 0, i < 3 ? &op : &del, 1, NULL, NULL), i & 1 ? 0 : HCI_E_UNAVAILABLE);
		eat_proxy_refuse(&p, false);
		store_set_timeout(s, 30 * NS_PER_S);
		world_put(s, "k", "after");
		rev = rev_of(s, "k");
		while (__atomic_load_n(&p.held, __ATOMIC_RELAXED) < i)
			fiber_sleep(loop.env, 50 * NS_PER_MS);
		ck_assert_uint_eq(rev_of(s, "k"), rev);
	}
	store_close(s);
	eat_proxy_stop(&p);
}

START_TEST(what_was_sent_again_or_given_up_does_not_happen_later)
{
	run(1, arrives_late);
}
END_TEST

/* ---- watches ---- */

static void watch_over_a_break(bool compacted)
{
	struct store *s, *other;
	struct seen v = { 0 };
	struct store_watch *w;
	char first[100], rest[200], key[20];
	uint64_t rev = 0;

	snprintf(first, sizeof(first), "etcd://127.0.0.1:%d/w", etcd.m[0].client);
	snprintf(rest, sizeof(rest), "etcd://127.0.0.1:%d,127.0.0.1:%d/w", etcd.m[1].client, etcd.m[2].client);
	s = open_at(first);
	other = open_at(rest);
	w = store_watch(s, "", 0, saw, &v);
	for (unsigned i = 0; i < 10; i++)
		world_put(other, "a", "x");
	wait_events(&v, 10);
	etcd_member_kill(&etcd, 0);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "b/%u", i);
		ck_assert_int_eq(put_if(other, key, 0, "x", &rev), 0);
	}
	if (compacted)
		ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "compact %llu", (unsigned long long)rev), 0);
	etcd_member_start(&etcd, 0);
	if (compacted) {
		for (int i = 0; i < 300 && !v.lost; i++)
			fiber_sleep(loop.env, 100 * NS_PER_MS);
		ck_assert_uint_eq(v.lost, 1);
		ck_assert_uint_ge(v.last, rev);
		v.events = 60;
	}
	wait_events(&v, 60);
	world_put(other, "c", "x");
	wait_events(&v, 61);
	ck_assert_uint_eq(v.lost, compacted);
	store_watch_close(w);
	store_close(s);
	store_close(other);
}

static void watch_breaks(struct world *w)
{
	(void)w;
	watch_over_a_break(false);
}

static void watch_is_compacted(struct world *w)
{
	(void)w;
	watch_over_a_break(true);
}

START_TEST(watch_goes_on_where_it_was)
{
	run(3, watch_breaks);
}
END_TEST

START_TEST(watch_says_that_its_place_was_compacted)
{
	run(3, watch_is_compacted);
}
END_TEST

static void watch_ahead(struct world *w)
{
	struct store *s = open_at(url);
	struct seen v = { 0 };
	struct store_watch *watch;

	(void)w;
	world_put(s, "a", "x");
	watch = store_watch(s, "", rev_of(s, "a") + 1000, saw, &v);
	for (int i = 0; i < 300 && !v.lost; i++)
		fiber_sleep(loop.env, 100 * NS_PER_MS);
	ck_assert_uint_eq(v.lost, 1);
	ck_assert_uint_eq(v.last, rev_of(s, "a"));
	world_put(s, "b", "x");
	wait_events(&v, 1);
	store_watch_close(watch);
	store_close(s);
}

START_TEST(watch_ahead_of_a_restored_store)
{
	run(1, watch_ahead);
}
END_TEST

/* ---- sessions ---- */

static void revoke_all(void)
{
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "lease list | grep -E '^[0-9a-f]{16}$' | while read l; do ETCDCTL_API=3 "
						 "etcdctl --endpoints http://127.0.0.1:%d lease revoke $l; done",
				 etcd.m[0].client),
			 0);
}

static void session_ends(struct world *w)
{
	struct store *s = open_at(url);
	struct store_op leased = { STORE_PUT, "l", "x", 1, 0 };
	uint64_t rev = 0;

	(void)w;
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(put_if(s, "k", rev, "x", &rev), 0);
		revoke_all();
		ck_assert_int_eq(put_if(s, "k", rev, "x", &rev), 0);
		ck_assert_int_eq(store_lease_grant(s, 60 * NS_PER_S, &leased.lease, NULL), 0);
		ck_assert_int_eq(store_txn(s, NULL, 0, &leased, 1, NULL, NULL), 0);
		revoke_all();
		ck_assert_int_eq(store_txn(s, NULL, 0, &leased, 1, NULL, NULL), HCI_E_FENCED);
		ck_assert_uint_eq(rev_of(s, "l"), 0);
		ck_assert_int_eq(store_lease_keepalive(s, leased.lease, NULL), HCI_E_NOTFOUND);
	}
	store_close(s);
}

START_TEST(session_that_has_ended_begins_anew)
{
	run(1, session_ends);
}
END_TEST

static const char *part;

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/etcd faults");
	TCase *tc = tcase_create(part);

	tcase_set_timeout(tc, 120);
	if (!strcmp(part, "leaders")) {
		tcase_add_test(tc, leader_killed_in_the_middle_of_transactions);
		tcase_add_test(tc, leader_that_hangs);
		tcase_add_test(tc, without_a_majority_requests_wait_and_come_back);
	} else if (!strcmp(part, "answers")) {
		tcase_add_test(tc, answers_that_are_lost_neither_double_nor_hide_what_was_done);
		tcase_add_test(tc, what_was_sent_again_or_given_up_does_not_happen_later);
		tcase_add_test(tc, session_that_has_ended_begins_anew);
	} else {
		tcase_add_test(tc, watch_goes_on_where_it_was);
		tcase_add_test(tc, watch_says_that_its_place_was_compacted);
		tcase_add_test(tc, watch_ahead_of_a_restored_store);
	}
	suite_add_tcase(s, tc);
	return s;
}

int main(int argc, char **argv)
{
	part = argc == 2 ? argv[1] : "";
	if (strcmp(part, "leaders") && strcmp(part, "answers") && strcmp(part, "watches")) {
		fprintf(stderr, "usage: test_store_etcd_faults leaders|answers|watches\n");
		return 2;
	}
	return etcd_suite_main(make_suite);
}
