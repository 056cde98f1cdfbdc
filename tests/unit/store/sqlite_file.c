/* SPDX-License-Identifier: Apache-2.0 */
/* The sqlite driver and its file: what is refused and how, what survives, what a lock held by
 * somebody else does, the end of the history. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "sqlite_world.h"
#include "unit/harness.h"

static struct world W;

static void setup(void)
{
	world_make(&W);
}

static void teardown(void)
{
	world_remove(&W);
}

/* Another program with the file in its hands. */
static sqlite3 *raw_open(void)
{
	sqlite3 *h = NULL;

	ck_assert_int_eq(sqlite3_open(W.file, &h), SQLITE_OK);
	sqlite3_busy_timeout(h, 5000);
	return h;
}

static void raw_exec(const char *text)
{
	sqlite3 *h = raw_open();

	ck_assert_msg(sqlite3_exec(h, text, NULL, NULL, NULL) == SQLITE_OK, "%s",
		      sqlite3_errmsg(h));
	sqlite3_close(h);
}

static uint32_t file_sum(void)
{
	static uint8_t b[1 << 20];
	int fd = open(W.file, O_RDONLY);
	ssize_t n = read(fd, b, sizeof(b));

	close(fd);
	ck_assert_int_ge(n, 0);
	return crc32c((uint32_t)n, b, (size_t)n);
}

static void write_file(const char *text)
{
	FILE *f = fopen(W.file, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void fill_body(struct world *w)
{
	struct store *s = world_open(w);
	char key[32];

	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "key/%d", i);
		world_put(s, key,
			  "a value of a certain length, so that there are some pages to damage");
	}
	store_close(s);
}

static int want;
static const char *want_text;

static void refused_body(struct world *w)
{
	struct store *s = NULL;
	struct hci_error err;
	int rc = store_open(w->env, w->url, &s, &err);

	ck_assert_ptr_null(s);
	ck_assert_msg(rc == want && err.code == want, "%d %s", rc, err.message);
	ck_assert_msg(strstr(err.message, want_text) && strstr(err.message, w->file), "%s",
		      err.message);
}

static void expect_refused(int code, const char *text)
{
	struct stat a, b;
	uint32_t sum = file_sum();
	char side[128];
	bool had_bell;

	snprintf(side, sizeof(side), "%s-bell", W.file);
	had_bell = access(side, F_OK) == 0;
	ck_assert_int_eq(stat(W.file, &a), 0);
	want = code;
	want_text = text;
	world_run(&W, refused_body);
	ck_assert_int_eq(stat(W.file, &b), 0);
	ck_assert_uint_eq(file_sum(), sum);
	ck_assert_int_eq(a.st_size, b.st_size);
	ck_assert_int_eq(access(side, F_OK) == 0, had_bell);
}

START_TEST(text_file_is_refused)
{
	write_file("This is not a database, although it is as long as the header of one would be: "
		   "100 bytes at least.\n");
	expect_refused(HCI_E_CORRUPT, "not a database");
}
END_TEST

START_TEST(database_of_another_program_is_refused)
{
	raw_exec("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
	expect_refused(HCI_E_CORRUPT, "another program");
}
END_TEST

START_TEST(other_version_is_refused)
{
	world_run(&W, fill_body);
	raw_exec("PRAGMA user_version=2");
	expect_refused(HCI_E_VERSION, "version 2");
}
END_TEST

START_TEST(truncated_file_is_refused)
{
	struct stat st;

	world_run(&W, fill_body);
	ck_assert_int_eq(stat(W.file, &st), 0);
	ck_assert_int_eq(truncate(W.file, st.st_size / 2 / 4096 * 4096), 0);
	expect_refused(HCI_E_CORRUPT, "backup");
}
END_TEST

START_TEST(overwritten_pages_are_refused)
{
	char junk[8192];
	int fd;

	world_run(&W, fill_body);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(W.file, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), 4096 + 512), sizeof(junk));
	close(fd);
	expect_refused(HCI_E_CORRUPT, "backup");
}
END_TEST

START_TEST(missing_table_is_refused)
{
	world_run(&W, fill_body);
	raw_exec("DROP TABLE leases");
	want = HCI_E_CORRUPT;
	want_text = "tables";
	world_run(&W, refused_body);
}
END_TEST

START_TEST(folder_is_refused)
{
	ck_assert_int_eq(mkdir(W.file, 0700), 0);
	want = HCI_E_INVAL;
	want_text = "regular file";
	world_run(&W, refused_body);
	ck_assert_int_eq(rmdir(W.file), 0);
}
END_TEST

static void bad_urls_body(struct world *w)
{
	static const struct {
		const char *url;
		int code;
	} bad[] = {
		{ "etcd:http://x", HCI_E_UNSUPPORTED },
		{ "", HCI_E_UNSUPPORTED },
		{ "sqlite", HCI_E_UNSUPPORTED },
		{ "sqlite:", HCI_E_INVAL },
		{ "sqlite::memory:", HCI_E_INVAL },
		{ "sqlite:/no/such/dir/x.db", HCI_E_NOTFOUND },
	};
	struct hci_error err;
	struct store *s;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int rc = store_open(w->env, bad[i].url, &s, &err);

		ck_assert_msg(rc == bad[i].code, "%s: %d %s", bad[i].url, rc, err.message);
		ck_assert_ptr_null(s);
	}
}

START_TEST(bad_urls_are_refused)
{
	world_run(&W, bad_urls_body);
}
END_TEST

static void after_body(struct world *w)
{
	struct store *s = world_open(w);
	char v[100];

	ck_assert_ptr_nonnull(world_get(s, "key/99", v, sizeof(v)));
	store_close(s);
}

START_TEST(contents_survive_and_empty_file_is_a_new_store)
{
	write_file("");
	world_run(&W, fill_body);
	world_run(&W, after_body);
}
END_TEST

static void locked_body(struct world *w)
{
	struct store *s = world_open(w);
	struct store_op op = { STORE_PUT, "k", "2", 1, 0 };
	struct hci_error err;
	uint64_t start;
	char v[16];
	sqlite3 *h;

	world_put(s, "k", "1");
	h = raw_open();
	ck_assert_int_eq(sqlite3_exec(h, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	store_set_timeout(s, 400 * NS_PER_MS);
	start = env_now(w->env);
	ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, &err), HCI_E_UNAVAILABLE);
	ck_assert_uint_lt(env_now(w->env) - start, 2 * NS_PER_S);
	ck_assert_uint_ge(env_now(w->env) - start, 350 * NS_PER_MS);
	ck_assert_str_eq(world_get(s, "k", v, sizeof(v)), "1"); /* reads go on */
	ck_assert_int_eq(sqlite3_exec(h, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	store_set_timeout(s, 5 * NS_PER_S);
	world_put(s, "k", "3");
	ck_assert_str_eq(world_get(s, "k", v, sizeof(v)), "3");
	sqlite3_close(h);
	store_close(s);
}

START_TEST(lock_held_by_another_is_a_timeout_not_a_hang)
{
	world_run(&W, locked_body);
}
END_TEST

static void leased_body(struct world *w)
{
	struct store *s = world_open(w);
	uint64_t lease = 0;
	struct store_op op = { STORE_PUT, "leased", "x", 1, 0 };

	ck_assert_int_eq(store_lease_grant(s, 3600 * NS_PER_S, &lease, NULL), 0);
	op.lease = lease;
	ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, NULL), 0);
	store_close(s);
}

static void rebooted_body(struct world *w)
{
	struct store *s = world_open(w);
	uint64_t until = env_now(w->env) + 10 * NS_PER_S;
	char v[8];

	while (world_get(s, "leased", v, sizeof(v))) {
		ck_assert_uint_lt(env_now(w->env), until);
		fiber_sleep(w->env, 10 * NS_PER_MS);
	}
	store_close(s);
}

START_TEST(leases_end_with_the_boot)
{
	world_run(&W, leased_body);
	raw_exec("UPDATE leases SET boot = '00000000-0000-4000-8000-000000000000'");
	world_run(&W, rebooted_body);
}
END_TEST

static void unlinked_body(struct world *w)
{
	struct store *s = world_open(w);
	struct store_op op = { STORE_PUT, "k", "2", 1, 0 };
	struct hci_error err;

	world_put(s, "k", "1");
	ck_assert_int_eq(unlink(w->file), 0);
	ck_assert_int_eq(store_txn(s, NULL, 0, &op, 1, NULL, &err), HCI_E_UNAVAILABLE);
	ck_assert_msg(strstr(err.message, "deleted or replaced") != NULL, "%s", err.message);
	store_close(s);
}

START_TEST(writes_to_a_deleted_file_are_refused)
{
	world_run(&W, unlinked_body);
}
END_TEST

/* ---- the end of the history ---- */

struct crowd {
	struct world *w;
	struct store *s;
	int running;
	struct fiber_cond done;
	uint64_t lost, events, last;
};
#define CROWD 64
#define EACH 200 /* 64 * 200 = 12,800 revisions, more than the history holds */

static void crowd_main(void *arg)
{
	struct crowd *c = arg;
	char key[32];

	snprintf(key, sizeof(key), "crowd/%d", c->running++);
	for (int i = 0; i < EACH; i++)
		world_put(c->s, key, "x");
	if (--c->running == 0)
		fiber_cond_signal(c->w->env, &c->done);
}

static void crowd_saw(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	struct crowd *c = arg;

	if (ev)
		c->events += n;
	else
		c->lost++;
	ck_assert(!ev || rev > c->last);
	c->last = rev;
	fiber_cond_signal(c->w->env, &c->done);
}

static void crowd_wait(struct crowd *c, uint64_t rev)
{
	while (c->last < rev)
		fiber_cond_wait(c->w->env, &c->done);
}

static void history_body(struct world *w)
{
	struct crowd c = { .w = w }, live = { .w = w };
	struct store_watch *a, *b;

	c.s = live.s = world_open(w);
	fiber_cond_init(&c.done);
	fiber_cond_init(&live.done);
	a = store_watch(c.s, "crowd/", 0, crowd_saw, &live);
	for (int i = 0; i < CROWD; i++)
		ck_assert_int_eq(fiber_spawn(w->env, crowd_main, &c, "crowd"), 0);
	fiber_cond_wait(w->env, &c.done);
	crowd_wait(&live, CROWD * EACH);
	ck_assert_uint_eq(live.events, CROWD * EACH); /* who keeps up misses nothing */
	ck_assert_uint_eq(live.lost, 0);
	store_watch_close(a);
	b = store_watch(c.s, "crowd/", 5, crowd_saw, &c);
	crowd_wait(&c, CROWD * EACH);
	ck_assert_uint_eq(c.lost, 1);
	ck_assert_uint_eq(c.events, 0);
	world_put(c.s, "crowd/0", "y");
	crowd_wait(&c, CROWD * EACH + 1);
	ck_assert_uint_eq(c.events, 1);
	store_watch_close(b);
	c = (struct crowd){ .w = w, .s = c.s };
	fiber_cond_init(&c.done);
	b = store_watch(c.s, "crowd/", CROWD * EACH - 9000, crowd_saw, &c);
	crowd_wait(&c, CROWD * EACH + 1);
	ck_assert_uint_eq(c.lost, 0);
	ck_assert_uint_eq(c.events, 9001);
	store_watch_close(b);
	b = store_watch(c.s, "crowd/", UINT64_MAX / 2, crowd_saw, &c); /* a place that never was */
	while (c.lost == 0)
		fiber_cond_wait(w->env, &c.done);
	store_watch_close(b);
	store_close(c.s);
}

START_TEST(watch_from_before_the_history_is_told)
{
	world_run(&W, history_body);
}
END_TEST

/* ---- no memory: every request either works or says so, and nothing leaks ---- */

static void no_memory_body(struct world *w)
{
	struct store *s = world_open(w);
	struct store_cmp cmp = { STORE_CMP_MOD_REV, "absent", 0 };
	struct store_op ops[] = { { STORE_PUT, "m/1", "x", 1, 0 },
				  { STORE_DELETE, "m/2", NULL, 0, 0 } };

	FOR_EACH_ALLOC_FAILURE(n) {
		struct store_result r;
		uint64_t lease;
		int rc = store_txn(s, &cmp, 1, ops, 2, NULL, NULL);

		ck_assert(rc == 0 || rc == HCI_E_NOMEM);
		rc = store_range(s, "m/", "m/0", 0, &r, NULL);
		ck_assert(rc == 0 || rc == HCI_E_NOMEM);
		store_result_free(&r);
		rc = store_lease_grant(s, NS_PER_S, &lease, NULL);
		ck_assert(rc == 0 || rc == HCI_E_NOMEM);
		store_watch_close(store_watch(s, "m/", 0, crowd_saw, NULL));
	}
	store_close(s);
}

START_TEST(out_of_memory_is_an_error_like_others)
{
	world_run(&W, no_memory_body);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/sqlite file");
	TCase *tc = tcase_create("file");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, text_file_is_refused);
	tcase_add_test(tc, database_of_another_program_is_refused);
	tcase_add_test(tc, other_version_is_refused);
	tcase_add_test(tc, truncated_file_is_refused);
	tcase_add_test(tc, overwritten_pages_are_refused);
	tcase_add_test(tc, missing_table_is_refused);
	tcase_add_test(tc, folder_is_refused);
	tcase_add_test(tc, bad_urls_are_refused);
	tcase_add_test(tc, contents_survive_and_empty_file_is_a_new_store);
	tcase_add_test(tc, lock_held_by_another_is_a_timeout_not_a_hang);
	tcase_add_test(tc, leases_end_with_the_boot);
	tcase_add_test(tc, writes_to_a_deleted_file_are_refused);
	tcase_add_test(tc, watch_from_before_the_history_is_told);
	tcase_add_test(tc, out_of_memory_is_an_error_like_others);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(make_suite)
