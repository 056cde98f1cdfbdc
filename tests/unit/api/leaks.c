/* SPDX-License-Identifier: Apache-2.0 */
/* What a cluster leaves behind when it is closed: no thread, no descriptor (and under ASan no byte). */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)

static struct world w;
static char seen[8192];

/* Entries of a folder of /proc/self; what each is, for the message. */
static unsigned count(const char *path)
{
	DIR *d = opendir(path);
	size_t used = 0;
	unsigned n = 0;
	struct dirent *e;

	ck_assert_ptr_nonnull(d);
	seen[0] = '\0';
	while ((e = readdir(d))) {
		char full[300], what[200];
		ssize_t len;

		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
		len = readlink(full, what, sizeof(what) - 1);
		what[len < 0 ? 0 : len] = '\0';
		used += (size_t)snprintf(seen + used, used < sizeof(seen) ? sizeof(seen) - used : 0, " %s=%s", e->d_name,
					 what);
		ck_assert_uint_lt(used, sizeof(seen));
	}
	closedir(d);
	return n;
}

static unsigned threads_before, fds_before;

static void before(void)
{
	/* What the C library and OpenSSL open once and keep is not a leak. */
	world_up(&w, 1);
	world_down(&w);
	threads_before = count("/proc/self/task");
	fds_before = count("/proc/self/fd");
}

static void after(const char *what)
{
	unsigned n = 0;

	/* A thread that was joined is gone from /proc a moment later. */
	for (int i = 0; i < 100 && (n = count("/proc/self/task")) != threads_before; i++)
		usleep(10000);
	ck_assert_msg(n == threads_before, "%s: %u threads, before %u", what, n, threads_before);
	n = count("/proc/self/fd");
	ck_assert_msg(n == fds_before, "%s: %u descriptors, before %u:%s", what, n, fds_before, seen);
}

static void use_volume(hci_cluster *c, const char *name)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_export_opts x = HCI_EXPORT_OPTS_INIT;
	struct hci_completion done[4];
	char address[128];
	hci_export *export;
	hci_volume *v;
	hci_queue *q;
	void *buf;

	o.name = name;
	o.pool = "p";
	o.bytes = 8 * MiB;
	o.segment_bytes = 4 * MiB;
	ok(hci_volume_create(c, &o, &w.err));
	ok(hci_volume_attach(&v, c, name, NULL, &w.err));
	snprintf(address, sizeof(address), "unix:%s/%s.sock", w.dir, name);
	x.address = address;
	ok(hci_export_start(&export, v, &x, &w.err));
	ok(hci_queue_create(&q, c, 4, &w.err));
	ok(hci_buffer_alloc(&buf, MiB, &w.err));
	memset(buf, 7, MiB);
	for (uint64_t i = 0; i < 4; i++)
		ok(hci_volume_submit_write(v, q, buf, MiB, i * MiB, i, NULL, &w.err));
	for (int n = 0; n < 4;)
		n += hci_queue_reap(q, done, 4, 10000);
	hci_export_stop(export);
	hci_volume_unref(v);
	hci_queue_unref(q);
	hci_buffer_free(buf);
}

START_TEST(a_cluster_leaves_nothing)
{
	struct hci_event e;

	before();
	world_up(&w, 1);
	world_pool(&w, 0);
	ok(hci_event_subscribe(w.client, 16, &w.err));
	(void)hci_event_next(w.client, &e, sizeof(e), 10, &w.err);
	use_volume(w.client, "v");
	world_node_stop(&w, 1);
	world_node_start(&w, 1);
	world_down(&w);
	after("a cluster with nodes, a volume, an export and a queue");
}
END_TEST

/* Handles that hold the cluster open after its own was given back: any order is fine. */
START_TEST(any_order_of_release_is_fine)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v;
	hci_queue *q;

	before();
	world_up(&w, 0);
	world_pool(&w, 0);
	o.name = "v";
	o.pool = "p";
	o.bytes = MiB;
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	ok(hci_queue_create(&q, w.client, 8, &w.err));
	hci_cluster_unref(w.client);
	w.client = NULL;
	hci_volume_ref(v);
	hci_volume_unref(v);
	hci_volume_unref(v);
	hci_queue_unref(q);
	world_down(&w);
	after("handles given back last");
}
END_TEST

START_TEST(two_clusters_are_open_at_once)
{
	static struct world other;

	before();
	world_up(&w, 1);
	world_up(&other, 0);
	world_pool(&w, 0);
	world_pool(&other, 0);
	use_volume(w.client, "v");
	use_volume(other.client, "v");
	/* The names are the same, the clusters are not: neither sees the other's. */
	ok(hci_volume_delete(w.client, "v", &w.err));
	ck_assert_int_eq(hci_volume_delete(w.client, "v", &w.err), HCI_E_NOTFOUND);
	world_down(&w);
	ok(hci_volume_delete(other.client, "v", &other.err));
	world_down(&other);
	after("two clusters");
}
END_TEST

START_TEST(a_failed_open_leaves_nothing)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	struct hci_node_opts n = HCI_NODE_OPTS_INIT;
	struct hci_attach_opts a = HCI_ATTACH_OPTS_INIT;
	char missing[160];
	hci_cluster *c;
	hci_node *node;
	hci_volume *v;

	before();
	world_up(&w, 1);
	for (int i = 0; i < 3; i++) {
		o.store_url = "sqlite:/nonexistent/folder/x.db";
		ck_assert_int_lt(hci_cluster_open(&c, &o, &w.err), 0);
		ck_assert_ptr_null(c);
		snprintf(missing, sizeof(missing), "sqlite:%s/ca.crt", w.dir);
		o.store_url = missing;
		ck_assert_int_eq(hci_cluster_open(&c, &o, &w.err), HCI_E_CORRUPT);
		o.store_url = w.store;
		o.ca_file = o.cert_file = o.key_file = "/nonexistent/file";
		ck_assert_int_eq(hci_cluster_open(&c, &o, &w.err), HCI_E_AUTH);
		ck_assert_ptr_null(c);
		o.ca_file = o.cert_file = o.key_file = NULL;
	}
	n.name = "n1"; /* not the name in the certificate */
	n.listen = "tcp:127.0.0.1:0";
	n.run_dir = w.dir;
	ck_assert_int_lt(hci_node_start(&node, w.client, &n, &w.err), 0);
	n.name = "client";
	n.listen = "tcp:203.0.113.1:1";
	ck_assert_int_lt(hci_node_start(&node, w.client, &n, &w.err), 0);
	ck_assert_int_eq(hci_volume_attach(&v, w.client, "nope", &a, &w.err), HCI_E_NOTFOUND);
	world_down(&w);
	after("failed opens");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_leaks");
	TCase *t = tcase_create("leaks");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_cluster_leaves_nothing);
	tcase_add_test(t, any_order_of_release_is_fine);
	tcase_add_test(t, two_clusters_are_open_at_once);
	tcase_add_test(t, a_failed_open_leaves_nothing);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
