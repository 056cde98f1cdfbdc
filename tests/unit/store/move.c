/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving the metadata to another store: all of it arrives, never can both be opened, and a move that was interrupted
 * anywhere is taken up again. From file to file, and when there is etcd to it and back.
 */
#include "etcd_world.h"
#include "store/records.h"
#include "store/store_move.h"
#include "unit/harness.h"

static struct world files;
static struct etcd_world etcd;
static char a_url[300], b_url[300], c_url[300];
static struct hci_error err;

#define KEYS 2500

static struct store *open_url(const char *url)
{
	struct store *s = NULL;
	int rc = store_open(files.env, url, &s, &err);

	REQUIRE(rc == 0, "%s", err.message);
	store_set_timeout(s, 30 * NS_PER_S);
	return s;
}

static void fill(const char *url)
{
	struct rec_cluster c = { .name = "lab", .format = 1, .uuid.b = { 7 } };
	struct store *s = open_url(url);
	static uint8_t value[3000];
	char key[32];

	ck_assert_int_eq(rec_cluster_put(s, KEY_CLUSTER, &c, 0, 0, NULL, NULL), 0);
	for (unsigned i = 0; i < KEYS; i++) {
		struct store_op op = { STORE_PUT, key, value, i % 3000, 0 };

		memset(value, (int)i, sizeof(value));
		snprintf(key, sizeof(key), "volmap/%05u", i);
		REQUIRE(store_txn(s, NULL, 0, &op, 1, NULL, &err) == 0, "%s", err.message);
	}
	store_close(s);
}

static int move(const char *from, const char *to)
{
	struct store_move m = { .from_url = from, .to_url = to };
	int rc;

	m.from = open_url(from);
	m.to = open_url(to);
	rc = store_move(&m, &err);
	if (!rc)
		ck_assert_uint_eq(m.keys, KEYS + 1);
	store_close(m.from);
	store_close(m.to);
	return rc;
}

static bool usable(const char *url)
{
	struct store *s = open_url(url);
	struct rec_cluster c;
	bool yes = !store_check_moved(s, url, &err) && !rec_cluster_get(s, KEY_CLUSTER, &c, NULL, &err);

	store_close(s);
	return yes;
}

static void check_content(const char *url)
{
	struct store *s = open_url(url);
	struct store_result r;
	char key[32];

	for (unsigned i = 0; i < KEYS; i += 7) {
		snprintf(key, sizeof(key), "volmap/%05u", i);
		ck_assert_int_eq(store_get(s, key, &r, NULL), 0);
		ck_assert_uint_eq(r.n, 1);
		ck_assert_uint_eq(r.kvs[0].value_len, i % 3000);
		if (i % 3000)
			ck_assert_uint_eq(r.kvs[0].value[i % 3000 - 1], (uint8_t)i);
		store_result_free(&r);
	}
	store_close(s);
}

static void put(const char *url, const char *key, uint64_t ttl)
{
	struct store *s = open_url(url);
	struct store_op op = { STORE_PUT, key, "x", 1, 0 };

	if (ttl)
		ck_assert_int_eq(store_lease_grant(s, ttl, &op.lease, NULL), 0);
	ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, NULL), 0);
	store_close(s);
}

static void moves(struct world *w)
{
	(void)w;
	fill(a_url);
	ck_assert_int_eq(move(a_url, a_url), HCI_E_INVAL);
	ck_assert_int_eq(move(b_url, a_url), HCI_E_NOTFOUND);
	put(a_url, "alive/n1", 60 * NS_PER_S);
	ck_assert_int_eq(move(a_url, b_url), HCI_E_BUSY);
	ck_assert_ptr_nonnull(strstr(err.message, "alive/n1"));
	put(a_url, "alive/n1", 0);
	put(b_url, "foreign", 0);
	ck_assert_int_eq(move(a_url, b_url), HCI_E_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.message, "foreign"));
	ck_assert(usable(a_url) && !usable(b_url));
}

static void there_and_on(struct world *w)
{
	struct store_move m = { .from_url = a_url, .to_url = b_url };

	(void)w;
	fill(a_url);
	ck_assert_msg(move(a_url, b_url) == 0, "%s", err.message);
	ck_assert(!usable(a_url) && usable(b_url));
	check_content(b_url);
	/* Again: nothing to do. On: the first one does not go anywhere else. */
	m.from = open_url(a_url);
	m.to = open_url(b_url);
	ck_assert_int_eq(store_move(&m, &err), 0);
	ck_assert_uint_eq(m.keys, 0);
	store_close(m.from);
	store_close(m.to);
	ck_assert_int_eq(move(a_url, c_url), HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(err.message, b_url));
	ck_assert_msg(move(b_url, c_url) == 0, "%s", err.message);
	ck_assert(!usable(a_url) && !usable(b_url) && usable(c_url));
	check_content(c_url);
}

/* As a kill -9 leaves it, at the two places that matter. */
static void interrupted(struct world *w)
{
	struct rec_moved mark = { 0 };
	struct store *s;

	(void)w;
	fill(a_url);
	/* While it is copied. */
	s = open_url(b_url);
	snprintf(mark.url, sizeof(mark.url), "%s", a_url);
	ck_assert_int_eq(rec_moved_put(s, KEY_COPYING, &mark, 0, 0, NULL, NULL), 0);
	world_put(s, "volmap/00003", "half");
	world_put(s, "volmap/old", "gone since");
	store_close(s);
	ck_assert(usable(a_url) && !usable(b_url));
	ck_assert_int_eq(move(b_url, c_url), HCI_E_STATE);
	/* After the source was left, before the target was finished: nobody is usable, and it can be ended. */
	s = open_url(a_url);
	snprintf(mark.url, sizeof(mark.url), "%s", b_url);
	ck_assert_int_eq(rec_moved_put(s, KEY_MOVED, &mark, 0, 0, NULL, NULL), 0);
	store_close(s);
	ck_assert(!usable(a_url) && !usable(b_url));
	ck_assert_msg(move(a_url, b_url) == 0, "%s", err.message);
	ck_assert(!usable(a_url) && usable(b_url));
	check_content(b_url);
}

/* Somebody changes the source while it is copied. */
struct changer {
	struct store *s;
	bool stop, ended;
};

static void changer_main(void *arg)
{
	struct changer *c = arg;
	char value[16];

	for (unsigned i = 0; !c->stop; i++) {
		snprintf(value, sizeof(value), "%u", i);
		world_put(c->s, "volmap/00001", value);
	}
	c->ended = true;
}

static void changed_meanwhile(struct world *w)
{
	struct changer c = { 0 };

	(void)w;
	fill(a_url);
	c.s = open_url(a_url);
	ck_assert_int_eq(fiber_spawn(files.env, changer_main, &c, "changer"), 0);
	ck_assert_int_eq(move(a_url, b_url), HCI_E_CONFLICT);
	ck_assert_ptr_nonnull(strstr(err.message, "volmap/00001"));
	ck_assert(usable(a_url) && !usable(b_url));
	c.stop = true;
	while (!c.ended)
		fiber_sleep(files.env, NS_PER_MS);
	store_close(c.s);
	ck_assert_msg(move(a_url, b_url) == 0, "%s", err.message);
	ck_assert(!usable(a_url) && usable(b_url));
}

static void make_files(void)
{
	world_make(&files);
	snprintf(a_url, sizeof(a_url), "sqlite:%s/a.db", files.dir);
	snprintf(b_url, sizeof(b_url), "sqlite:%s/b.db", files.dir);
	snprintf(c_url, sizeof(c_url), "sqlite:%s/c.db", files.dir);
}

START_TEST(refused)
{
	make_files();
	world_run(&files, moves);
	world_remove(&files);
}
END_TEST

START_TEST(file_to_file)
{
	make_files();
	world_run(&files, there_and_on);
	world_remove(&files);
}
END_TEST

START_TEST(taken_up_again)
{
	make_files();
	world_run(&files, interrupted);
	world_remove(&files);
}
END_TEST

START_TEST(changed_while_it_is_copied)
{
	make_files();
	world_run(&files, changed_meanwhile);
	world_remove(&files);
}
END_TEST

START_TEST(to_etcd_and_back)
{
	if (!etcd_installed())
		return;
	make_files();
	etcd_world_make(&etcd, 1, false);
	etcd_world_url(&etcd, b_url, sizeof(b_url), NULL);
	world_run(&files, there_and_on);
	etcd_world_remove(&etcd);
	world_remove(&files);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/move");
	TCase *tc = tcase_create("move");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, file_to_file);
	tcase_add_test(tc, taken_up_again);
	tcase_add_test(tc, changed_while_it_is_copied);
	tcase_add_test(tc, to_etcd_and_back);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(make_suite)
