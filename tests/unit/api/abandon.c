/* SPDX-License-Identifier: Apache-2.0 */
/* A program ends while no replica can be reached: with hci_volume_abandon() at once, without it in the time the header says. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#define LEN 4096u

static struct world w;
static hci_volume *vol;
static hci_queue *queue;
static uint8_t *buf;

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Two requests of a queue that nothing can finish. */
static void stuck_requests(void)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	world_up(&w, 0);
	world_pool(&w, 600000);
	o.name = "v";
	o.pool = "p";
	o.bytes = 4u << 20;
	o.replicas = 2;
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&vol, w.client, "v", NULL, &w.err));
	ok(hci_buffer_alloc((void **)&buf, 3 * LEN, &w.err));
	memset(buf, 0x5a, 3 * (size_t)LEN);
	ok(hci_volume_pwrite(vol, buf, LEN, 0, &w.err));
	ok(hci_queue_create(&queue, w.client, 4, &w.err));
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	ok(hci_volume_submit_write(vol, queue, buf, LEN, 0, 1, NULL, &w.err));
	ok(hci_volume_submit_read(vol, queue, buf + LEN, LEN, 1u << 20, 2, NULL, &w.err));
	sleep(1);
}

static void expect_closed(int n)
{
	struct hci_completion c[4];

	for (int got = 0; got < n;) {
		int k = hci_queue_reap(queue, c, 4, 5000);

		ck_assert_int_gt(k, 0);
		for (int i = 0; i < k; i++)
			ck_assert_int_eq(c[i].status, HCI_E_CLOSED);
		got += k;
	}
}

static void *plain_read(void *arg)
{
	struct hci_error err;

	*(int *)arg = hci_volume_pread(vol, buf + 2 * (size_t)LEN, LEN, 0, &err);
	return NULL;
}

START_TEST(an_abandoned_volume_gives_everything_back)
{
	struct hci_completion c;
	double t;
	pthread_t reader;
	int rc = 1;

	stuck_requests();
	ck_assert_int_eq(pthread_create(&reader, NULL, plain_read, &rc), 0);
	ck_assert_int_eq(hci_queue_reap(queue, &c, 1, 1000), 0);
	t = seconds();
	ok(hci_volume_abandon(vol, &w.err));
	ok(hci_volume_abandon(vol, &w.err));
	expect_closed(2);
	pthread_join(reader, NULL);
	ck_assert_int_eq(rc, HCI_E_CLOSED);
	/* So does what comes later, and a queue that nobody has reaped can go before its volume. */
	ok(hci_volume_submit_write(vol, queue, buf, LEN, 0, 3, NULL, &w.err));
	hci_queue_unref(queue);
	hci_volume_unref(vol);
	ck_assert_double_lt(seconds() - t, 10);
	ck_assert_int_eq(hci_volume_abandon(NULL, &w.err), HCI_E_INVAL);

	/* The lease was given back, and the volume is as it was left. */
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_start(&w, i);
	ok(hci_volume_attach(&vol, w.client, "v", NULL, &w.err));
	ok(hci_volume_pread(vol, buf + LEN, LEN, 0, &w.err));
	ck_assert_mem_eq(buf, buf + LEN, LEN);
	hci_volume_unref(vol);
	hci_buffer_free(buf);
	world_down(&w);
}
END_TEST

START_TEST(detaching_waits_no_longer_than_it_says)
{
	double t;

	stuck_requests();
	t = seconds();
	hci_volume_unref(vol);
	ck_assert_double_gt(seconds() - t, 25);
	ck_assert_double_lt(seconds() - t, 40);
	expect_closed(2);
	hci_queue_unref(queue);
	hci_buffer_free(buf);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api abandon");
	TCase *tc = tcase_create("abandon");

	tcase_set_timeout(tc, 90);
	tcase_add_test(tc, an_abandoned_volume_gives_everything_back);
	tcase_add_test(tc, detaching_waits_no_longer_than_it_says);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
