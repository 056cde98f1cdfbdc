/* SPDX-License-Identifier: Apache-2.0 */
/* A node's disks: the directory of one that takes the place of one that lost its write log; many of them. */
#include <stdio.h>

#include "base/uuid.h"
#include "cluster/node.h"
#include "unit/cluster/alone.h"

enum place { EMPTY, THERE, WIPED };

struct world {
	struct alone a;
	enum place place;
};

static const struct uuid cluster_id = { .b = { 1 } }, old_id = { .b = { 2 } }, new_id = { .b = { 3 } };

static void put_records(struct store *s)
{
	struct rec_cluster c = { .format = REC_VERSION, .name = "c", .uuid = cluster_id };
	struct rec_disk d = { .uuid = new_id, .node = "a", .path = "/d", .pool = "p", .state = REC_DISK_FAILED,
			      .log_size = 4 * MiB, .replaces = old_id };
	struct hci_error err;
	char key[REC_KEY];

	ck_assert_int_eq(rec_cluster_put(s, KEY_CLUSTER, &c, 0, 0, NULL, &err), 0);
	key_disk(key, &new_id);
	ck_assert_int_eq(rec_disk_put(s, key, &d, 0, 0, NULL, &err), 0);
}

static void make_old(struct world *w)
{
	struct repl_disk_opts o = { .uuid = old_id, .cluster = cluster_id, .log_size = 4 * MiB };
	struct hci_error err;

	ck_assert_msg(!repl_disk_format(w->a.e, "/d", &o, &err), "%s", err.message);
	if (w->place == WIPED)
		ck_assert_int_eq(env_unlink(w->a.e, "/d/superblock"), 0);
}

static bool has_superblock(struct world *w)
{
	struct env_file *f;
	int rc = env_open(w->a.e, "/d/superblock", ENV_O_RDONLY, &f);

	if (!rc)
		env_close(w->a.e, f);
	return !rc;
}

static void see(struct world *w, struct store *s)
{
	struct rec_disk r;
	char key[REC_KEY];

	key_disk(key, &new_id);
	ck_assert_int_eq(rec_disk_get(s, key, &r, NULL, NULL), 0);
	if (w->place == EMPTY) {
		ck_assert(!has_superblock(w));
		ck_assert_int_eq(r.state, REC_DISK_FAILED);
		ck_assert_msg(strstr(r.reason, "is it mounted") != NULL, "%s", r.reason);
		ck_assert(uuid_eq(&r.replaces, &old_id));
	} else {
		ck_assert_msg(r.state == REC_DISK_ONLINE, "%s", r.reason);
		ck_assert(uuid_is_null(&r.replaces) && has_superblock(w));
	}
}

static void test_fiber(void *arg)
{
	struct world *w = arg;
	struct core_opts co = { .env = w->a.e, .self = "a" };
	struct node_opts no = { .name = "a", .listen = "tcp:a:7400", .no_repair = true };
	struct hci_error err;
	struct core *c;
	struct node *n;

	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &co.store), 0);
	put_records(co.store);
	if (w->place != EMPTY)
		make_old(w);
	ck_assert_msg(!core_open(&co, &c, &err), "%s", err.message);
	ck_assert_msg(!node_start(c, &no, &n, &err), "%s", err.message);
	fiber_sleep(w->a.e, 10 * NS_PER_S);
	see(w, co.store);
	if (w->place == EMPTY) { /* mounted after all */
		w->place = THERE;
		make_old(w);
		fiber_sleep(w->a.e, 10 * NS_PER_S);
		see(w, co.store);
	}
	node_stop(n);
	core_close(c);
	store_close(co.store);
}

START_TEST(it_is_formatted_only_where_the_other_one_was)
{
	struct world w = { .a.disk = 256 * MiB, .place = (enum place)_i };

	alone_run(&w.a, 1, test_fiber, &w);
}
END_TEST

/* ---- many ---- */

#define MANY 300u

static void many_fiber(void *arg)
{
	struct world *w = arg;
	struct core_opts co = { .env = w->a.e, .self = "a" };
	struct node_opts no = { .name = "a", .listen = "tcp:a:7400", .no_repair = true };
	struct rec_cluster cl = { .format = REC_VERSION, .name = "c", .uuid = cluster_id };
	struct rec_disk d = { .node = "a", .pool = "p", .state = REC_DISK_NEW };
	struct hci_error err;
	char key[REC_KEY];
	struct core *c;
	struct node *n;

	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &co.store), 0);
	ck_assert_int_eq(rec_cluster_put(co.store, KEY_CLUSTER, &cl, 0, 0, NULL, &err), 0);
	for (unsigned i = 0; i < MANY; i++) {
		d.uuid = (struct uuid){ .b = { 9, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i } };
		snprintf(d.path, sizeof(d.path), "/none/%u", i);
		key_disk(key, &d.uuid);
		ck_assert_int_eq(rec_disk_put(co.store, key, &d, 0, 0, NULL, &err), 0);
	}
	ck_assert_msg(!core_open(&co, &c, &err), "%s", err.message);
	ck_assert_msg(!node_start(c, &no, &n, &err), "%s", err.message);
	fiber_sleep(w->a.e, 20 * NS_PER_S);
	for (unsigned i = 0; i < MANY; i++) {
		d.uuid = (struct uuid){ .b = { 9, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i } };
		key_disk(key, &d.uuid);
		ck_assert_int_eq(rec_disk_get(co.store, key, &d, NULL, NULL), 0);
		ck_assert_msg(d.state == REC_DISK_FAILED, "nobody looked at disk %u", i);
	}
	node_stop(n);
	core_close(c);
	store_close(co.store);
}

START_TEST(all_of_many_are_looked_at)
{
	struct world w = { 0 };

	alone_run(&w.a, 1, many_fiber, &w);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_disks");
	TCase *tc = tcase_create("replaced"), *many = tcase_create("many");

	tcase_add_loop_test(tc, it_is_formatted_only_where_the_other_one_was, EMPTY, WIPED + 1);
	suite_add_tcase(s, tc);
	tcase_add_test(many, all_of_many_are_looked_at);
	suite_add_tcase(s, many);
	return s;
}
HARNESS_MAIN(make_suite)
