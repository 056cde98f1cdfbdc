/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics tell what is so now: a disk whose node is down is not online, and of what was removed there is nothing left.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)

static struct world w;

static char *text_of(hci_cluster *c)
{
	char *text;

	ok(hci_metrics_text(&text, NULL, c, &w.err));
	return text;
}

static bool tells(hci_cluster *c, const char *what)
{
	char *text = text_of(c);
	bool yes = strstr(text, what);

	hci_metrics_free(text);
	return yes;
}

#define soon(cond)                                                    \
	do {                                                          \
		int i_ = 0;                                           \
		while (!(cond) && i_++ < 300)                         \
			usleep(50000);                                \
		ck_assert_msg(i_ <= 300, "it never became so: " #cond); \
	} while (0)

/* The lines of one metric that have a label and a value. */
static unsigned lines_of(hci_cluster *c, const char *name, const char *label, long value)
{
	char *text = text_of(c), *save = NULL;
	unsigned n = 0;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const char *v = strrchr(l, ' ');

		n += !strncmp(l, name, strlen(name)) && l[strlen(name)] == '{' && strstr(l, label) && v && strtol(v, NULL, 10) == value;
	}
	hci_metrics_free(text);
	return n;
}

START_TEST(disks_of_a_node_that_is_down_are_not_online)
{
	world_up(&w, 0);
	world_pool(&w, 0);
	soon(lines_of(w.client, "hci_disk_online", "node=\"n3\"", 1) == 3);
	world_node_stop(&w, 2);
	soon(lines_of(w.client, "hci_node_alive", "node=\"n3\"", 0) == 1);
	ck_assert_uint_eq(lines_of(w.client, "hci_disk_online", "node=\"n3\"", 0), 3);
	soon(lines_of(w.client, "hci_disk_online", "node=\"n1\"", 1) == 3);
	soon(lines_of(w.cluster[0], "hci_disk_online", "node=\"n3\"", 0) == 3);
	world_node_start(&w, 2);
	soon(lines_of(w.client, "hci_disk_online", "node=\"n3\"", 1) == 3);
	world_down(&w);
}
END_TEST

static void one_more(const char *node, char uuid[HCI_UUID_STR])
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s-more", w.dir, node);
	mkdir(path, 0700);
	o.node = node;
	o.path = path;
	o.timeout_ms = 20000;
	ok(hci_disk_add(w.client, &o, uuid, &w.err));
}

START_TEST(of_a_removed_disk_nothing_is_left)
{
	char id[HCI_UUID_STR], label[HCI_UUID_STR + 16];
	hci_job *job;

	world_up(&w, 0);
	world_pool(&w, 0);
	one_more("n1", id);
	snprintf(label, sizeof(label), "disk=\"%s\"", id);
	soon(lines_of(w.cluster[0], "hci_disk_online", label, 1) == 1);
	ck_assert_uint_eq(lines_of(w.cluster[0], "hci_disk_full", label, 0), 1);
	ck_assert(tells(w.cluster[0], "hci_replica_writes_total{disk"));
	/* In a pool it has another label: one series of it, not two. */
	ck_assert(tells(w.client, id));
	ok(hci_disk_set_pool(w.client, id, "p", &w.err));
	soon(lines_of(w.client, "hci_disk_online", "pool=\"p\"", 1) == 10);
	soon(lines_of(w.client, "hci_disk_online", label, 1) == 1);
	ck_assert_uint_eq(lines_of(w.client, "hci_disk_online", label, 0), 0);
	ok(hci_disk_evacuate(w.client, id, &job, &w.err));
	ok(hci_job_wait(job, 60000, &w.err));
	hci_job_unref(job);
	ok(hci_disk_remove(w.client, id, &w.err));
	soon(!tells(w.client, id));
	soon(!tells(w.cluster[0], id));
	ck_assert(tells(w.cluster[0], "hci_replica_writes_total{disk"));
	world_down(&w);
}
END_TEST

START_TEST(a_disk_that_is_not_open_has_no_full_log)
{
	char id[HCI_UUID_STR], label[HCI_UUID_STR + 16], path[160], away[160];

	world_up(&w, 0);
	one_more("n1", id);
	snprintf(label, sizeof(label), "disk=\"%s\"", id);
	soon(lines_of(w.cluster[0], "hci_replica_log_used_bytes", label, 0) == 1);
	snprintf(path, sizeof(path), "%s/n1-more", w.dir);
	snprintf(away, sizeof(away), "%s/away", w.dir);
	ck_assert_int_eq(rename(path, away), 0);
	soon(lines_of(w.cluster[0], "hci_disk_online", label, 0) == 1);
	soon(!tells(w.cluster[0], "hci_replica_log_used_bytes{"));
	soon(!tells(w.cluster[0], "hci_replica_copy_depth{"));
	ck_assert_int_eq(rename(away, path), 0);
	soon(lines_of(w.cluster[0], "hci_disk_online", label, 1) == 1);
	soon(lines_of(w.cluster[0], "hci_replica_log_used_bytes", label, 0) == 1);
	world_down(&w);
}
END_TEST

START_TEST(of_a_removed_node_nothing_is_left)
{
	world_up(&w, 0);
	soon(lines_of(w.client, "hci_node_alive", "node=\"n3\"", 1) == 1);
	world_node_stop(&w, 2);
	soon(lines_of(w.client, "hci_node_alive", "node=\"n3\"", 0) == 1);
	ok(hci_node_remove(w.client, "n3", &w.err));
	soon(!tells(w.client, "node=\"n3\""));
	soon(!tells(w.cluster[0], "node=\"n3\""));
	world_down(&w);
}
END_TEST

static void make_volume(const char *name)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	o.name = name;
	o.pool = "p";
	o.bytes = 8 * MiB;
	o.segment_bytes = 2 * MiB;
	ok(hci_volume_create(w.client, &o, &w.err));
}

static void write_it(const char *name, unsigned times)
{
	hci_volume *v;
	void *buf;

	ok(hci_buffer_alloc(&buf, 4096, &w.err));
	memset(buf, 7, 4096);
	ok(hci_volume_attach(&v, w.client, name, NULL, &w.err));
	for (unsigned i = 0; i < times; i++)
		ok(hci_volume_pwrite(v, buf, 4096, 0, &w.err));
	hci_volume_unref(v);
	hci_buffer_free(buf);
}

START_TEST(of_a_deleted_volume_nothing_is_left)
{
	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v");
	make_volume("v2");
	write_it("v", 3);
	/* It was counted by somebody who reads it a minute later only. */
	ck_assert_uint_eq(lines_of(w.client, "hci_volume_write_seconds_count", "volume=\"v\"", 3), 1);
	write_it("v", 2);
	write_it("v2", 1);
	ck_assert_uint_eq(lines_of(w.client, "hci_volume_write_seconds_count", "volume=\"v\"", 5), 1);
	ok(hci_volume_delete(w.client, "v", &w.err));
	soon(!tells(w.client, "volume=\"v\""));
	ck_assert_uint_eq(lines_of(w.client, "hci_volume_write_seconds_count", "volume=\"v2\"", 1), 1);
	make_volume("v");
	write_it("v", 1);
	ck_assert_uint_eq(lines_of(w.client, "hci_volume_write_seconds_count", "volume=\"v\"", 1), 1);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api/metrics");
	TCase *t = tcase_create("now");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, disks_of_a_node_that_is_down_are_not_online);
	tcase_add_test(t, of_a_removed_disk_nothing_is_left);
	tcase_add_test(t, a_disk_that_is_not_open_has_no_full_log);
	tcase_add_test(t, of_a_removed_node_nothing_is_left);
	tcase_add_test(t, of_a_deleted_volume_nothing_is_left);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
