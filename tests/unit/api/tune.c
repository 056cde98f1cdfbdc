/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: what is given when a thing is made reaches those who serve it, and so does what is changed while it is in use. What
 * they go by is asked of themselves: the writer's status, the gauges of the nodes.
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

static void make_volume(const struct hci_volume_opts *extra, const char *name)
{
	struct hci_volume_opts o = extra ? *extra : (struct hci_volume_opts)HCI_VOLUME_OPTS_INIT;

	o.name = name;
	o.pool = "p";
	o.bytes = 8 * MiB;
	o.segment_bytes = 2 * MiB;
	ok(hci_volume_create(w.client, &o, &w.err));
}

static hci_volume *attach(const char *name, uint32_t lease_ms)
{
	struct hci_attach_opts o = HCI_ATTACH_OPTS_INIT;
	hci_volume *v;

	o.wait_ms = 10000;
	o.lease_ms = lease_ms;
	ok(hci_volume_attach(&v, w.client, name, &o, &w.err));
	return v;
}

static struct hci_volume_status status(hci_volume *v)
{
	struct hci_volume_status s;

	ok(hci_volume_status(v, &s, sizeof(s), &w.err));
	return s;
}

static struct hci_volume_info shown(const char *name)
{
	struct hci_volume_info *i, out = { 0 };
	uint64_t n;

	ok(hci_volume_list(w.client, &i, &n, sizeof(*i), &w.err));
	for (uint64_t k = 0; k < n; k++)
		if (!strcmp(i[k].name, name))
			out = i[k];
	hci_list_free(i);
	return out;
}

/* Of the writer: what a change brings comes within seconds. */
#define comes(v, cond)                                                  \
	do {                                                            \
		struct hci_volume_status s;                             \
		int i_;                                                 \
		for (i_ = 0; i_ < 300; i_++, usleep(50000)) {           \
			s = status(v);                                  \
			if (cond)                                       \
				break;                                  \
		}                                                       \
		ck_assert_msg(i_ < 300, "the writer never saw: " #cond); \
	} while (0)

/* One number of a cluster's metrics, such as of NAME{disk="UUID"}; -1: not there. */
static long metric(hci_cluster *c, const char *name, const char *label, const char *object)
{
	char want[160], *text;
	const char *at;
	long n = -1;

	ok(hci_metrics_text(&text, NULL, c, &w.err));
	snprintf(want, sizeof(want), "%s{%s=\"%s\"} ", name, label, object);
	at = strstr(text, want);
	if (at)
		n = strtol(at + strlen(want), NULL, 10);
	hci_metrics_free(text);
	return n;
}

static struct hci_disk_info disk_of(const char *uuid)
{
	struct hci_disk_info *d, out = { 0 };
	uint64_t n;

	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(d[i].uuid, uuid))
			out = d[i];
	hci_list_free(d);
	return out;
}

/* ---- */

START_TEST(what_a_volume_is_made_with_reaches_its_writer)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_volume_status s;
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 123000);
	o.read_timeout_ms = 77;
	o.write_timeout_ms = 3210;
	o.rebuild_impact = 333;
	o.rebuild_delay_ms = 44000;
	o.lease_ms = 9000;
	o.on_full = HCI_VOLUME_FULL_FAIL;
	make_volume(&o, "v");
	v = attach("v", 0);
	s = status(v);
	ck_assert_uint_eq(s.read_timeout_ms, 77);
	ck_assert_uint_eq(s.write_timeout_ms, 3210);
	ck_assert_uint_eq(s.rebuild_impact, 333);
	ck_assert_uint_eq(s.rebuild_delay_ms, 44000);
	ck_assert_uint_eq(s.lease_ms, 9000);
	ck_assert_uint_eq(s.on_full, HCI_VOLUME_FULL_FAIL);
	hci_volume_unref(v);
	/* Who asks for a lease of his own has it. */
	v = attach("v", 2000);
	ck_assert_uint_eq(status(v).lease_ms, 2000);
	hci_volume_unref(v);
	/* One that says nothing has the pool's and the defaults. */
	make_volume(NULL, "plain");
	v = attach("plain", 0);
	s = status(v);
	ck_assert_uint_eq(s.read_timeout_ms, 500);
	ck_assert_uint_eq(s.write_timeout_ms, 5000);
	ck_assert_uint_eq(s.rebuild_impact, 200);
	ck_assert_uint_eq(s.rebuild_delay_ms, 123000);
	ck_assert_uint_eq(s.lease_ms, 6000);
	ck_assert_uint_eq(s.on_full, HCI_VOLUME_FULL_WAIT);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

START_TEST(a_volume_is_tuned_while_it_is_attached)
{
	struct hci_volume_tune_opts t = HCI_VOLUME_TUNE_OPTS_INIT;
	struct hci_volume_info i;
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 123000);
	make_volume(NULL, "v");
	v = attach("v", 0);
	ck_assert_uint_eq(shown("v").of_pool, HCI_VOLUME_OF_POOL_DELAY | HCI_VOLUME_OF_POOL_IMPACT);
	t.read_timeout_ms = 41;
	ok(hci_volume_tune(w.client, "v", &t, &w.err));
	comes(v, s.read_timeout_ms == 41 && s.write_timeout_ms == 5000 && s.rebuild_impact == 200);
	t = (struct hci_volume_tune_opts)HCI_VOLUME_TUNE_OPTS_INIT;
	t.write_timeout_ms = 1700;
	t.rebuild_impact = 150;
	t.rebuild_delay_ms = 7000;
	t.on_full = HCI_VOLUME_FULL_FAIL;
	t.lease_ms = 8000;
	ok(hci_volume_tune(w.client, "v", &t, &w.err));
	comes(v, s.write_timeout_ms == 1700 && s.rebuild_impact == 150 && s.rebuild_delay_ms == 7000 &&
		 s.on_full == HCI_VOLUME_FULL_FAIL);
	ck_assert_uint_eq(status(v).read_timeout_ms, 41);
	ck_assert_uint_eq(status(v).lease_ms, 6000); /* this attachment keeps its own */
	i = shown("v");
	ck_assert_uint_eq(i.read_timeout_ms, 41);
	ck_assert_uint_eq(i.write_timeout_ms, 1700);
	ck_assert_uint_eq(i.rebuild_impact, 150);
	ck_assert_uint_eq(i.rebuild_delay_ms, 7000);
	ck_assert_uint_eq(i.lease_ms, 8000);
	ck_assert_uint_eq(i.on_full, HCI_VOLUME_FULL_FAIL);
	ck_assert_uint_eq(i.of_pool, 0);
	/* Back to what there is without. */
	t = (struct hci_volume_tune_opts)HCI_VOLUME_TUNE_OPTS_INIT;
	t.on_full = HCI_VOLUME_FULL_WAIT;
	t.read_timeout_ms = t.write_timeout_ms = t.rebuild_impact = t.lease_ms = UINT32_MAX;
	t.rebuild_delay_ms = UINT64_MAX;
	ok(hci_volume_tune(w.client, "v", &t, &w.err));
	comes(v, s.read_timeout_ms == 500 && s.write_timeout_ms == 5000 && s.rebuild_impact == 200 &&
		 s.rebuild_delay_ms == 123000 && s.on_full == HCI_VOLUME_FULL_WAIT);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

START_TEST(a_pools_volumes_follow_it_unless_they_say_otherwise)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_pool_set_opts t = HCI_POOL_SET_OPTS_INIT;
	struct hci_pool_info *p;
	hci_volume *v, *own;
	uint64_t n;

	world_up(&w, 0);
	world_pool(&w, 123000);
	make_volume(NULL, "v");
	o.rebuild_impact = 400;
	o.rebuild_delay_ms = 5000;
	make_volume(&o, "own");
	v = attach("v", 0);
	own = attach("own", 0);
	t.rebuild_delay_ms = 9000;
	ok(hci_pool_set(w.client, "p", &t, &w.err));
	comes(v, s.rebuild_delay_ms == 9000 && s.rebuild_impact == 200);
	t = (struct hci_pool_set_opts)HCI_POOL_SET_OPTS_INIT;
	t.rebuild_impact = 120;
	ok(hci_pool_set(w.client, "p", &t, &w.err));
	comes(v, s.rebuild_delay_ms == 9000 && s.rebuild_impact == 120);
	ck_assert_uint_eq(status(own).rebuild_impact, 400);
	ck_assert_uint_eq(status(own).rebuild_delay_ms, 5000);
	ok(hci_pool_list(w.client, &p, &n, sizeof(*p), &w.err));
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(p->rebuild_delay_ms, 9000);
	ck_assert_uint_eq(p->rebuild_impact, 120);
	hci_list_free(p);
	hci_volume_unref(v);
	hci_volume_unref(own);
	world_down(&w);
}
END_TEST

START_TEST(a_disks_log_level_and_a_nodes_copy_depth_reach_the_disk)
{
	struct hci_disk_set_opts t = HCI_DISK_SET_OPTS_INIT;
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	char uuid[HCI_UUID_STR], path[128];

	w.copy_depth = 7;
	world_up(&w, 0);
	p.name = "p";
	ok(hci_pool_create(w.client, &p, &w.err));
	snprintf(path, sizeof(path), "%s/disk", w.dir);
	mkdir(path, 0700);
	o.node = "n1";
	o.path = path;
	o.pool = "p";
	o.log_size = 8 * MiB;
	o.log_level = 33;
	o.log_wait_ms = 5000;
	ok(hci_disk_add(w.client, &o, uuid, &w.err));
	ck_assert_int_eq(metric(w.cluster[0], "hci_replica_log_level_percent", "disk", uuid), 33);
	ck_assert_int_eq(metric(w.cluster[0], "hci_replica_copy_depth", "disk", uuid), 7);
	ck_assert_uint_eq(disk_of(uuid).log_level, 33);
	ck_assert_uint_eq(disk_of(uuid).log_wait_ms, 5000);
	t.log_level = 71;
	ok(hci_disk_set(w.client, uuid, &t, &w.err));
	for (int i = 0; i < 300 && metric(w.cluster[0], "hci_replica_log_level_percent", "disk", uuid) != 71; i++)
		usleep(50000);
	ck_assert_int_eq(metric(w.cluster[0], "hci_replica_log_level_percent", "disk", uuid), 71);
	ck_assert_uint_eq(disk_of(uuid).log_level, 71);
	ck_assert_uint_eq(disk_of(uuid).log_wait_ms, 5000);
	t = (struct hci_disk_set_opts)HCI_DISK_SET_OPTS_INIT;
	t.log_wait_ms = 60000;
	ok(hci_disk_set(w.client, uuid, &t, &w.err));
	ck_assert_uint_eq(disk_of(uuid).log_level, 71);
	ck_assert_uint_eq(disk_of(uuid).log_wait_ms, 60000);
	world_down(&w);
	w.copy_depth = 0;
}
END_TEST

START_TEST(what_cannot_be_set_is_refused_with_its_name)
{
	struct hci_volume_tune_opts v = HCI_VOLUME_TUNE_OPTS_INIT;
	struct hci_pool_set_opts p = HCI_POOL_SET_OPTS_INIT;
	struct hci_disk_set_opts d = HCI_DISK_SET_OPTS_INIT;

	world_up(&w, 0);
	v.read_timeout_ms = 600001;
	ck_assert_int_eq(hci_volume_tune(w.client, "v", &v, &w.err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "volume v: read timeout"));
	v.read_timeout_ms = 100;
	ck_assert_int_eq(hci_volume_tune(w.client, "v", &v, &w.err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(w.err.message, "volume v"));
	v.on_full = 2;
	ck_assert_int_eq(hci_volume_tune(w.client, "v", &v, &w.err), HCI_E_INVAL);
	p.rebuild_impact = 99;
	ck_assert_int_eq(hci_pool_set(w.client, "q", &p, &w.err), HCI_E_INVAL);
	p.rebuild_impact = 100;
	ck_assert_int_eq(hci_pool_set(w.client, "q", &p, &w.err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(w.err.message, "pool q"));
	d.log_level = 91;
	ck_assert_int_eq(hci_disk_set(w.client, "abcd", &d, &w.err), HCI_E_RANGE);
	d.log_level = 90;
	ck_assert_int_eq(hci_disk_set(w.client, "abcd", &d, &w.err), HCI_E_NOTFOUND);
	ck_assert_int_eq(hci_disk_set(NULL, "abcd", &d, &w.err), HCI_E_INVAL);
	ck_assert_int_eq(hci_pool_set(w.client, "q", NULL, &w.err), HCI_E_INVAL);
	ck_assert_int_eq(hci_volume_tune(w.client, NULL, &v, &w.err), HCI_E_INVAL);
	world_down(&w);
}
END_TEST

/* Four MiB take longer than a millisecond, at the latest in one of many attempts. */
START_TEST(reads_asked_of_a_second_replica_are_counted)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_volume_status s;
	void *buf;
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 123000);
	o.read_timeout_ms = 1;
	make_volume(&o, "v");
	v = attach("v", 0);
	ok(hci_buffer_alloc(&buf, 4 * MiB, &w.err));
	memset(buf, 7, 4 * MiB);
	ok(hci_volume_pwrite(v, buf, 4 * MiB, 0, &w.err));
	ck_assert_uint_eq(status(v).reads_hedged, 0);
	for (int i = 0; i < 2000 && !status(v).reads_hedged; i++)
		ok(hci_volume_pread(v, buf, 4 * MiB, 0, &w.err));
	s = status(v);
	ck_assert_uint_gt(s.reads_hedged, 0);
	ck_assert_int_eq(metric(w.client, "hci_volume_hedged_reads_total", "volume", "v"), (long)s.reads_hedged);
	hci_buffer_free(buf);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_tune");
	TCase *t = tcase_create("settings");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_a_volume_is_made_with_reaches_its_writer);
	tcase_add_test(t, a_volume_is_tuned_while_it_is_attached);
	tcase_add_test(t, a_pools_volumes_follow_it_unless_they_say_otherwise);
	tcase_add_test(t, a_disks_log_level_and_a_nodes_copy_depth_reach_the_disk);
	tcase_add_test(t, reads_asked_of_a_second_replica_are_counted);
	tcase_add_test(t, what_cannot_be_set_is_refused_with_its_name);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
