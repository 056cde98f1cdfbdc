/* SPDX-License-Identifier: Apache-2.0 */
/* What events say of volumes is so: healthy is one whose segments have all their copies, and no other. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)
#define SIZE (32u * MiB)

static struct world w;
static char uuid[HCI_UUID_STR];

static struct hci_volume_info info(const char *name)
{
	struct hci_volume_info *v, out = { 0 };
	uint64_t n;

	ok(hci_volume_list(w.client, &v, &n, sizeof(*v), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, name))
			out = v[i];
	hci_list_free(v);
	ck_assert_str_eq(out.name, name);
	return out;
}

static void make(const char *name, uint32_t replicas)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	o.name = name;
	o.pool = "p";
	o.bytes = SIZE;
	o.replicas = replicas;
	o.segment_bytes = MiB;
	o.write_timeout_ms = 1000;
	ok(hci_volume_create(w.client, &o, &w.err));
}

static void write_all(hci_volume *v, int c)
{
	uint8_t *buf = malloc(SIZE);

	memset(buf, c, SIZE);
	ok(hci_volume_pwrite(v, buf, SIZE, 0, &w.err));
	free(buf);
}

/* Segments that have not all their copies in sync, and copies that are being made. */
static unsigned lacking(const char *name, uint32_t replicas)
{
	struct hci_replica_info *r;
	uint8_t good[SIZE / MiB] = { 0 };
	unsigned bad = 0;
	uint64_t n;

	ok(hci_volume_replicas(w.client, name, &r, &n, sizeof(*r), &w.err));
	for (uint64_t i = 0; i < n; i++) {
		good[r[i].segment] += r[i].state == HCI_REPLICA_IN_SYNC;
		bad += r[i].state == HCI_REPLICA_JOINING;
	}
	for (unsigned s = 0; s < SIZE / MiB; s++)
		bad += good[s] < replicas;
	hci_list_free(r);
	return bad;
}

/* The next that says how volume @id is; 0: none in time. */
static int next_of(const char *id, int seconds)
{
	struct hci_event e;

	for (int i = 0; i < seconds * 10; i++) {
		int rc = hci_event_next(w.client, &e, sizeof(e), 100, &w.err);

		ok(rc);
		if (rc && !strcmp(e.object, id) && (e.type == HCI_EVENT_VOLUME_DEGRADED || e.type == HCI_EVENT_VOLUME_HEALTHY))
			return e.type;
	}
	return 0;
}

/*
 * Until the volume is healthy; and it is. On a busy machine a node may be too slow just after: then that is told, and it
 * becomes healthy once more.
 */
static void wait_whole(const char *name, uint32_t replicas)
{
	for (;;) {
		int type = next_of(uuid, 90);
		unsigned bad;

		ck_assert_msg(type, "no event says that volume %s is healthy", name);
		if (type != HCI_EVENT_VOLUME_HEALTHY)
			continue;
		bad = lacking(name, replicas);
		if (!bad)
			return;
		ck_assert_msg(next_of(uuid, 5) == HCI_EVENT_VOLUME_DEGRADED,
			      "volume %s is healthy, says an event, but for %u segments", name, bad);
	}
}

START_TEST(healthy_comes_at_the_end_of_a_rebuild)
{
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 1000);
	make("v", 2);
	snprintf(uuid, sizeof(uuid), "%s", info("v").uuid);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	while (lacking("v", 2))
		usleep(100000);
	ok(hci_event_subscribe(w.client, 0, &w.err));
	world_node_stop(&w, 1);
	write_all(v, 2);
	ck_assert_int_eq(next_of(uuid, 30), HCI_EVENT_VOLUME_DEGRADED);
	wait_whole("v", 2);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

START_TEST(attaching_a_degraded_volume_does_not_call_it_healthy)
{
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 600000);
	make("v", 3);
	snprintf(uuid, sizeof(uuid), "%s", info("v").uuid);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	while (lacking("v", 3))
		usleep(100000);
	hci_volume_unref(v);
	world_node_stop(&w, 2);
	ok(hci_event_subscribe(w.client, 0, &w.err));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 2);
	ck_assert_int_eq(next_of(uuid, 30), HCI_EVENT_VOLUME_DEGRADED);
	hci_volume_unref(v);
	/* Nor does attaching it again, as it is. */
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	ck_assert_int_ne(next_of(uuid, 2), HCI_EVENT_VOLUME_HEALTHY);
	world_node_start(&w, 2);
	wait_whole("v", 3);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

START_TEST(who_subscribes_while_it_is_degraded_hears_the_end)
{
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 600000);
	make("other", 2);
	make("v", 3);
	snprintf(uuid, sizeof(uuid), "%s", info("v").uuid);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	world_node_stop(&w, 2);
	write_all(v, 1);
	ck_assert_uint_gt(lacking("v", 3), 0);
	ok(hci_event_subscribe(w.client, 0, &w.err));
	world_node_start(&w, 2);
	wait_whole("v", 3);
	hci_volume_unref(v);
	/* One that was whole all the time gives no news when it is made, attached or let go. */
	snprintf(uuid, sizeof(uuid), "%s", info("other").uuid);
	ok(hci_volume_attach(&v, w.client, "other", NULL, &w.err));
	hci_volume_unref(v);
	ck_assert_int_ne(next_of(uuid, 1), HCI_EVENT_VOLUME_HEALTHY);
	world_down(&w);
}
END_TEST

START_TEST(more_replicas_are_told_when_they_are_there)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;
	struct hci_volume_info i;
	hci_volume *v;
	hci_job *job;
	unsigned bad;

	world_up(&w, 0);
	world_pool(&w, 600000);
	ok(hci_event_subscribe(w.client, 0, &w.err));
	make("v", 2);
	snprintf(uuid, sizeof(uuid), "%s", info("v").uuid);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	write_all(v, 1);
	o.replicas = 3;
	ok(hci_volume_set(w.client, "v", &o, &job, &w.err));
	/* Nor does the list say so earlier, also not before a copy has been begun. */
	do {
		i = info("v");
		bad = lacking("v", 3);
		ck_assert_msg(!bad || i.replicas != 3 || i.replicas_out + i.rebuilding > 0, "%u segments lack a copy", bad);
	} while (bad);
	hci_job_unref(job);
	ck_assert_int_eq(next_of(uuid, 30), HCI_EVENT_VOLUME_DEGRADED);
	wait_whole("v", 3);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_events");
	TCase *t = tcase_create("events");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, healthy_comes_at_the_end_of_a_rebuild);
	tcase_add_test(t, attaching_a_degraded_volume_does_not_call_it_healthy);
	tcase_add_test(t, who_subscribes_while_it_is_degraded_hears_the_end);
	tcase_add_test(t, more_replicas_are_told_when_they_are_there);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
