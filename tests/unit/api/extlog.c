/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks with their write log on another device: it goes away and comes back, it goes for good, it goes while a copy on
 * the disk is the last one. Two nodes with a disk each; a spare for what has to be rebuilt.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)
#define WAIT_MS 2000

static struct world w;
static uint8_t *buf, *got;
static char uuid[3][HCI_UUID_STR];

static void up(int nodes, uint32_t replicas)
{
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	struct hci_volume_opts v = HCI_VOLUME_OPTS_INIT;
	char logs[96];

	world_up(&w, 0);
	ok(hci_buffer_alloc((void **)&buf, MiB, &w.err));
	ok(hci_buffer_alloc((void **)&got, MiB, &w.err));
	p.name = "p";
	p.rebuild_delay_ms = 600000;
	ok(hci_pool_create(w.client, &p, &w.err));
	snprintf(logs, sizeof(logs), "%s/logs", w.dir);
	mkdir(logs, 0700);
	for (int i = 0; i < nodes; i++) {
		struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
		char node[16], path[96];

		snprintf(node, sizeof(node), "n%d", i + 1);
		snprintf(path, sizeof(path), "%s/%s-disk", w.dir, node);
		mkdir(path, 0700);
		o.node = node;
		o.path = path;
		o.pool = "p";
		o.log = logs;
		o.log_size = 16 * MiB;
		o.log_wait_ms = WAIT_MS;
		ok(hci_disk_add(w.client, &o, uuid[i], &w.err));
	}
	v.name = "v";
	v.pool = "p";
	v.bytes = 16 * MiB;
	v.segment_bytes = 4 * MiB;
	v.replicas = replicas;
	v.write_timeout_ms = 2000;
	ok(hci_volume_create(w.client, &v, &w.err));
}

static void down(void)
{
	hci_buffer_free(buf);
	hci_buffer_free(got);
	world_down(&w);
}

static void log_of(int i, char *out, size_t cap)
{
	snprintf(out, cap, "%s/logs/hci-%s.log", w.dir, uuid[i]);
	ck_assert_msg(!access(out, R_OK), "%s is not there", out);
}

/* The disk of node i that counts now. */
static void disk_of(int i, struct hci_disk_info *out)
{
	struct hci_disk_info *d;
	char node[16];
	uint64_t n, found = 0;

	snprintf(node, sizeof(node), "n%d", i + 1);
	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t k = 0; k < n; k++)
		if (!strcmp(d[k].node, node)) {
			*out = d[k];
			found++;
		}
	ck_assert_uint_eq(found, 1);
	hci_list_free(d);
}

static void wait_state(int i, int32_t state, struct hci_disk_info *d)
{
	for (int k = 0; k < 300; k++, usleep(100000)) {
		disk_of(i, d);
		if (d->state == state)
			return;
	}
	ck_abort_msg("disk of n%d is in state %d (%s), not %d", i + 1, d->state, d->reason, state);
}

static void write_all(hci_volume *v, uint8_t c)
{
	memset(buf, c, MiB);
	for (uint64_t off = 0; off < 16 * MiB; off += MiB)
		ok(hci_volume_pwrite(v, buf, MiB, off, &w.err));
}

static void expect_all(hci_volume *v, uint8_t c)
{
	memset(buf, c, MiB);
	for (uint64_t off = 0; off < 16 * MiB; off += MiB) {
		ok(hci_volume_pread(v, got, MiB, off, &w.err));
		ck_assert_msg(!memcmp(buf, got, MiB), "offset %llu", (unsigned long long)off);
	}
}

static void wait_whole(hci_volume *v)
{
	struct hci_volume_status st;

	for (int k = 0; k < 300; k++, usleep(100000)) {
		ok(hci_volume_status(v, &st, sizeof(st), &w.err));
		if (!st.segments_degraded && !st.replicas_out)
			return;
	}
	ck_abort_msg("the volume does not become whole");
}

static void check_copies(void)
{
	struct hci_replica_info *r;
	uint64_t n;

	ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
	ck_assert_uint_eq(n, 8);
	for (uint64_t i = 0; i < n; i += 2) {
		ok(hci_volume_read_replica(w.client, "v", r[i].disk, r[i].segment, buf, MiB, 0, &w.err));
		ok(hci_volume_read_replica(w.client, "v", r[i + 1].disk, r[i].segment, got, MiB, 0, &w.err));
		ck_assert(!memcmp(buf, got, MiB));
	}
	hci_list_free(r);
}

START_TEST(a_log_that_comes_back_in_time_goes_on)
{
	struct hci_disk_info d;
	char log[160], away[168];
	hci_volume *v;

	up(2, 2);
	disk_of(0, &d);
	ck_assert_ptr_nonnull(strstr(d.log, "/logs"));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	log_of(0, log, sizeof(log));
	snprintf(away, sizeof(away), "%s.away", log);
	ck_assert_int_eq(rename(log, away), 0);
	wait_state(0, HCI_DISK_OFFLINE, &d);
	ck_assert_msg(strstr(d.reason, "write log"), "%s", d.reason);
	write_all(v, 2);
	ck_assert_int_eq(rename(away, log), 0);
	wait_state(0, HCI_DISK_ONLINE, &d);
	ck_assert_str_eq(d.uuid, uuid[0]);
	wait_whole(v);
	expect_all(v, 2);
	hci_volume_unref(v);
	check_copies();
	down();
}
END_TEST

START_TEST(a_log_that_is_lost_makes_a_new_disk)
{
	struct hci_disk_info d;
	char log[160];
	hci_volume *v;

	up(2, 2);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	log_of(0, log, sizeof(log));
	ck_assert_int_eq(unlink(log), 0);
	wait_state(0, HCI_DISK_OFFLINE, &d);
	write_all(v, 2);
	ck_assert_str_eq(d.uuid, uuid[0]);
	wait_state(0, HCI_DISK_ONLINE, &d);
	ck_assert_str_ne(d.uuid, uuid[0]);
	wait_whole(v);
	expect_all(v, 2);
	hci_volume_unref(v);
	check_copies();
	down();
}
END_TEST

/* The one in place of another is a disk like any other from then on: an empty directory is one where nothing is mounted. */
START_TEST(the_new_disk_is_not_made_anew_when_its_directory_is_empty)
{
	char log[160], dir[96], away[104];
	struct hci_disk_info d;
	hci_volume *v;

	up(2, 2);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	log_of(0, log, sizeof(log));
	ck_assert_int_eq(unlink(log), 0);
	wait_state(0, HCI_DISK_OFFLINE, &d);
	wait_state(0, HCI_DISK_ONLINE, &d);
	ck_assert_str_ne(d.uuid, uuid[0]);
	wait_whole(v);
	write_all(v, 2);
	hci_volume_unref(v);
	world_node_stop(&w, 0);
	snprintf(dir, sizeof(dir), "%s/n1-disk", w.dir);
	snprintf(away, sizeof(away), "%s.away", dir);
	ck_assert_int_eq(rename(dir, away), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	world_node_start(&w, 0);
	wait_state(0, HCI_DISK_FAILED, &d);
	ck_assert_int_eq(rmdir(dir), 0); /* it is as empty as before */
	ck_assert_int_eq(rename(away, dir), 0);
	wait_state(0, HCI_DISK_ONLINE, &d);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	expect_all(v, 2);
	wait_whole(v);
	hci_volume_unref(v);
	check_copies();
	down();
}
END_TEST

/* Nobody has the volume attached, and there is no other copy: it is kept for as long as it takes. */
START_TEST(the_last_copy_waits_for_its_log)
{
	struct hci_disk_info d;
	char log[160], away[168];
	hci_volume *v;

	up(1, 1);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	hci_volume_unref(v);
	log_of(0, log, sizeof(log));
	snprintf(away, sizeof(away), "%s.away", log);
	ck_assert_int_eq(rename(log, away), 0);
	wait_state(0, HCI_DISK_OFFLINE, &d);
	for (int k = 0; k < 200 && !strstr(d.reason, "counts on"); k++, usleep(100000))
		disk_of(0, &d);
	ck_assert_msg(strstr(d.reason, "volume v still counts on"), "%s", d.reason);
	ck_assert_str_eq(d.uuid, uuid[0]);
	ck_assert_int_eq(rename(away, log), 0);
	wait_state(0, HCI_DISK_ONLINE, &d);
	ck_assert_str_eq(d.uuid, uuid[0]);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	expect_all(v, 1);
	hci_volume_unref(v);
	down();
}
END_TEST

START_TEST(the_log_of_a_disk_that_was_emptied_and_removed_goes)
{
	struct hci_job_info info;
	struct hci_disk_info d;
	char log[160];
	hci_volume *v;
	hci_job *job;

	up(3, 2);
	log_of(0, log, sizeof(log));
	disk_of(0, &d);
	ck_assert_msg(strstr(d.reason, "its write log is on the same file system"), "%s", d.reason);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	ok(hci_disk_evacuate(w.client, uuid[0], &job, &w.err));
	ok(hci_job_wait(job, 60000, &w.err));
	ok(hci_job_info(job, &info, sizeof(info), &w.err));
	ck_assert_str_eq(info.phase, "");
	hci_job_unref(job);
	disk_of(0, &d);
	ck_assert_msg(!strncmp(d.reason, "empty: ", 7), "%s", d.reason);
	ok(hci_disk_remove(w.client, uuid[0], &w.err));
	for (int k = 0; k < 300 && !access(log, F_OK); k++)
		usleep(100000);
	ck_assert_msg(access(log, F_OK), "%s is still there", log);
	log_of(1, log, sizeof(log)); /* but not of the others */
	expect_all(v, 1);
	hci_volume_unref(v);
	down();
}
END_TEST

/* Its directory is lost, and it is removed then. Who counts on its log has it while he does. */
START_TEST(the_log_of_a_disk_that_failed_makes_room_when_nobody_counts_on_it)
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	char dir[96], away[104], log[160], other[160], logs[96], path[112];
	struct hci_disk_info d;

	up(2, 2);
	log_of(0, log, sizeof(log));
	log_of(1, other, sizeof(other));
	snprintf(dir, sizeof(dir), "%s/n1-disk", w.dir);
	snprintf(away, sizeof(away), "%s.away", dir);
	ck_assert_int_eq(rename(dir, away), 0);
	wait_state(0, HCI_DISK_FAILED, &d);
	ok(hci_disk_remove(w.client, uuid[0], &w.err));
	ok(hci_volume_delete(w.client, "v", &w.err));
	ck_assert(!access(log, F_OK));
	snprintf(logs, sizeof(logs), "%s/logs", w.dir);
	snprintf(path, sizeof(path), "%s/n1-next", w.dir);
	mkdir(path, 0700);
	o.node = "n1";
	o.path = path;
	o.pool = "p";
	o.log = logs;
	o.log_size = 16 * MiB;
	o.timeout_ms = 20000;
	ok(hci_disk_add(w.client, &o, NULL, &w.err));
	ck_assert_msg(access(log, F_OK), "%s is still there", log);
	ck_assert_msg(!access(other, F_OK), "%s is gone", other);
	down();
}
END_TEST

START_TEST(a_log_in_the_disk_s_own_directory_is_refused)
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	char path[96], log[112];

	up(1, 1);
	snprintf(path, sizeof(path), "%s/other", w.dir);
	snprintf(log, sizeof(log), "%s/logs", path);
	mkdir(path, 0700);
	mkdir(log, 0700);
	o.node = "n1";
	o.path = path;
	o.pool = "p";
	o.log = path;
	ck_assert_int_eq(hci_disk_add(w.client, &o, NULL, &w.err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, path));
	o.log = log;
	ck_assert_int_eq(hci_disk_add(w.client, &o, NULL, &w.err), HCI_E_INVAL);
	ck_assert_int_eq(rmdir(log), 0);
	/* One whose name only begins so is another one. */
	snprintf(log, sizeof(log), "%s-logs", path);
	mkdir(log, 0700);
	o.log_size = 16 * MiB;
	ok(hci_disk_add(w.client, &o, NULL, &w.err));
	down();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_extlog");
	TCase *t = tcase_create("extlog");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_log_that_comes_back_in_time_goes_on);
	tcase_add_test(t, a_log_that_is_lost_makes_a_new_disk);
	tcase_add_test(t, the_new_disk_is_not_made_anew_when_its_directory_is_empty);
	tcase_add_test(t, the_last_copy_waits_for_its_log);
	tcase_add_test(t, the_log_of_a_disk_that_was_emptied_and_removed_goes);
	tcase_add_test(t, the_log_of_a_disk_that_failed_makes_room_when_nobody_counts_on_it);
	tcase_add_test(t, a_log_in_the_disk_s_own_directory_is_refused);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
