/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is full: writes fail or wait, as the volume was made; what is there can be read; what is
 * given back can be written again. The disks are small file systems of a mount namespace of the test's own.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)
#define DISK "size=256m"
#define VOLUME (120ull * MiB) /* one fits on the disks, two do not */

static struct world w;
static uint8_t *buf, *got;

static void fill(uint8_t *p, uint64_t n)
{
	for (uint32_t i = 0; i < MiB; i++)
		p[i] = (uint8_t)(i * 7 + n * 13 + (i >> 12) + 1);
}

/* False: no mounts here, or no O_DIRECT on them (before Linux 6.6). */
static int small_pool(void)
{
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;

	w.ram_disks = 1;
	for (int i = 0; i < 2; i++) {
		world_node_stop(&w, i);
		world_node_start(&w, i);
	}
	p.name = "p";
	ok(hci_pool_create(w.client, &p, &w.err));
	for (int i = 0; i < 2; i++) {
		struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
		char node[8], path[128];

		snprintf(node, sizeof(node), "n%d", i + 1);
		snprintf(path, sizeof(path), "%s/%s-small", w.dir, node);
		mkdir(path, 0700);
		if (mount("hci-test", path, "tmpfs", 0, DISK))
			return 0;
		o.node = node;
		o.path = path;
		o.pool = "p";
		o.timeout_ms = 20000;
		if (hci_disk_add(w.client, &o, NULL, &w.err)) {
			fprintf(stderr, "%s\n", w.err.message);
			return 0;
		}
	}
	return 1;
}

static void small_down(void)
{
	char path[128];

	hci_buffer_free(buf);
	hci_buffer_free(got);
	/* Nodes first: what they hold open keeps a mount busy. */
	hci_cluster_unref(w.client);
	w.client = NULL;
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/n%d-small", w.dir, i + 1);
		umount(path);
	}
	world_down(&w);
}

static hci_volume *small_up(uint32_t on_full)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v;

	/* Before there are threads: the mounts are seen by nobody else and go with this process. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "skipped: no mount namespace of our own\n");
		return NULL;
	}
	world_up(&w, 0);
	ok(hci_buffer_alloc((void **)&buf, MiB, &w.err));
	ok(hci_buffer_alloc((void **)&got, MiB, &w.err));
	if (!small_pool()) {
		fprintf(stderr, "skipped: no small file system to be had\n");
		small_down();
		return NULL;
	}
	o.pool = "p";
	o.bytes = VOLUME;
	o.segment_bytes = 4 * MiB;
	o.write_timeout_ms = 2000;
	o.on_full = on_full;
	/* Volumes are thin: both are made while there is room for either. */
	o.name = "filler";
	ok(hci_volume_create(w.client, &o, &w.err));
	o.name = "v";
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&v, w.client, "filler", NULL, &w.err));
	for (uint64_t n = 0; n < VOLUME / MiB; n++) {
		fill(buf, n);
		ok(hci_volume_pwrite(v, buf, MiB, n * MiB, &w.err));
	}
	hci_volume_unref(v);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	return v;
}

static void check_all_readable(hci_volume *v, uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n < to; n++) {
		fill(buf, n);
		ok(hci_volume_pread(v, got, MiB, n * MiB, &w.err));
		ck_assert_msg(!memcmp(buf, got, MiB), "MiB %llu is not what was written", (unsigned long long)n);
	}
}

static void compare_replicas(void)
{
	struct hci_replica_info *r;
	uint64_t n;

	ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
	for (uint64_t i = 0; i + 1 < n; i += 2) {
		if (r[i].state != HCI_REPLICA_IN_SYNC || r[i + 1].state != HCI_REPLICA_IN_SYNC)
			continue;
		for (uint64_t off = 0; off < 4 * MiB; off += MiB) {
			ok(hci_volume_read_replica(w.client, "v", r[i].disk, r[i].segment, buf, MiB, off, &w.err));
			ok(hci_volume_read_replica(w.client, "v", r[i + 1].disk, r[i].segment, got, MiB, off, &w.err));
			ck_assert_msg(!memcmp(buf, got, MiB), "segment %u differs", r[i].segment);
		}
	}
	hci_list_free(r);
}

/* The next event of this type and a disk of the pool; its UUID. */
static void wait_event(int32_t type, int seconds, char uuid[256])
{
	struct hci_event e;

	for (int i = 0; i < seconds * 10; i++) {
		int rc = hci_event_next(w.client, &e, sizeof(e), 100, &w.err);

		ok(rc);
		if (rc && e.type == type && (!uuid[0] || !strcmp(uuid, e.object))) {
			if (type == HCI_EVENT_DISK_FULL)
				ck_assert_ptr_nonnull(strstr(e.text, "add disks to pool p"));
			snprintf(uuid, 256, "%s", e.object);
			return;
		}
	}
	ck_abort_msg("no event %s", hci_event_name(type));
}

static void reason_of(const char *uuid, char out[256])
{
	struct hci_disk_info *d;
	uint64_t n;

	out[0] = '\0';
	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(d[i].uuid, uuid))
			snprintf(out, 256, "%s", d[i].reason);
	hci_list_free(d);
}

/* What the metric of the disk says, at whichever node it is. */
static int metric_of(const char *uuid)
{
	char want[128], *text, *at;
	int value = -1;
	uint64_t len;

	snprintf(want, sizeof(want), "hci_disk_full{disk=\"%s\"} ", uuid);
	for (int i = 0; i < 2; i++) {
		ok(hci_metrics_text(&text, &len, w.cluster[i], &w.err));
		at = strstr(text, want);
		if (at)
			value = at[strlen(want)] - '0';
		hci_metrics_free(text);
	}
	return value;
}

static void volume_reason(char out[256])
{
	struct hci_volume_info *v;
	uint64_t n;

	ok(hci_volume_list(w.client, &v, &n, sizeof(*v), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, "v"))
			snprintf(out, 256, "%s", v[i].reason);
	hci_list_free(v);
}

START_TEST(writes_fail_when_so_configured)
{
	hci_volume *v = small_up(HCI_VOLUME_FULL_FAIL);
	uint64_t n = 0;
	int rc = 0;

	if (!v)
		return;
	for (; n < VOLUME / MiB && !rc; n += !rc) {
		fill(buf, n);
		rc = hci_volume_pwrite(v, buf, MiB, n * MiB, &w.err);
	}
	ck_assert_msg(rc == HCI_E_NOSPACE, "%s after %llu MiB", hci_strerror(rc), (unsigned long long)n);
	ck_assert_ptr_nonnull(strstr(w.err.message, "volume v"));
	ck_assert_msg(strstr(w.err.message, "pool p") && strstr(w.err.message, "-small of node n") && strstr(w.err.message, "add disks"),
		      "%s", w.err.message);
	ck_assert_uint_gt(n, 4);
	check_all_readable(v, 0, n);
	/* And again, in case it was only the log. */
	sleep(1);
	check_all_readable(v, 0, n);
	ok(hci_volume_zero(v, n / 2 * MiB, 0, &w.err));
	for (int i = 0; i < 200 && rc; i++, usleep(100000)) {
		fill(buf, n);
		rc = hci_volume_pwrite(v, buf, MiB, n * MiB, &w.err);
	}
	ck_assert_msg(!rc, "no space again after half was given back: %s", w.err.message);
	check_all_readable(v, n / 2, n + 1);
	hci_volume_unref(v);
	compare_replicas();
	small_down();
}
END_TEST

START_TEST(writes_wait_when_so_configured)
{
	hci_volume *v = small_up(HCI_VOLUME_FULL_WAIT);
	char uuid[256] = "", reason[256];
	struct hci_completion done;
	uint64_t n = 0;
	hci_queue *q;
	void *third;

	if (!v)
		return;
	ok(hci_event_subscribe(w.client, 0, &w.err));
	ok(hci_queue_create(&q, w.client, 4, &w.err));
	ok(hci_buffer_alloc(&third, MiB, &w.err));
	for (; n < VOLUME / MiB; n++) {
		fill(third, n);
		ok(hci_volume_submit_write(v, q, third, MiB, n * MiB, n, NULL, &w.err));
		if (hci_queue_reap(q, &done, 1, 5000) != 1)
			break;
		ck_assert_int_eq(done.status, 0);
	}
	ck_assert_uint_gt(n, 4);
	ck_assert_uint_lt(n, VOLUME / MiB);
	check_all_readable(v, 0, n);
	ck_assert_int_eq(hci_queue_reap(q, &done, 1, 0), 0);
	wait_event(HCI_EVENT_DISK_FULL, 20, uuid);
	reason_of(uuid, reason);
	ck_assert_msg(!strncmp(reason, "full: ", 6), "%s", reason);
	volume_reason(reason);
	ck_assert_msg(strstr(reason, "new data waits in ") && strstr(reason, "-small of node n"), "%s", reason);
	ck_assert_int_eq(metric_of(uuid), 1);
	ok(hci_volume_zero(v, n / 2 * MiB, 0, &w.err));
	ck_assert_msg(hci_queue_reap(q, &done, 1, 20000) == 1, "the write waits although half was given back");
	ck_assert_int_eq(done.status, 0);
	check_all_readable(v, n / 2, n + 1);
	wait_event(HCI_EVENT_DISK_STATE, 30, uuid);
	reason_of(uuid, reason);
	ck_assert_str_eq(reason, "");
	for (int i = 0; i < 300; i++, usleep(100000)) { /* the other disk's a little later, perhaps */
		volume_reason(reason);
		if (!*reason)
			break;
	}
	ck_assert_str_eq(reason, "");
	ck_assert_int_eq(metric_of(uuid), 0);
	hci_volume_unref(v);
	hci_queue_unref(q);
	hci_buffer_free(third);
	compare_replicas();
	small_down();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_fulldisk");
	TCase *t = tcase_create("fulldisk");

	tcase_set_timeout(t, 200);
	tcase_add_test(t, writes_fail_when_so_configured);
	tcase_add_test(t, writes_wait_when_so_configured);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
