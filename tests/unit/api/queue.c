/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues of threads that come back at once, which run the loop themselves, beside those that do not: every request has its
 * completion and the data, whoever has the loop, and nobody waits for one that stays away.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#define LEN 4096u
#define DEPTH 8u
#define SPAN 256u /* blocks of each thread */

static struct world w;
static hci_volume *vol;
static atomic_bool over;

static void up(void)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	world_up(&w, 0);
	world_pool(&w, 600000);
	o.name = "v";
	o.pool = "p";
	o.bytes = 16u << 20;
	o.replicas = 2;
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&vol, w.client, "v", NULL, &w.err));
	atomic_store(&over, false);
}

static void down(void)
{
	hci_volume_unref(vol);
	world_down(&w);
}

struct user {
	hci_queue *q;
	uint8_t *buf;
	uint32_t first; /* block */
	uint32_t stamp, stamps[SPAN];
};

static void user_init(struct user *u, uint32_t first)
{
	struct hci_error err;

	memset(u, 0, sizeof(*u));
	u->first = first;
	ck_assert_int_eq(hci_queue_create(&u->q, w.client, DEPTH, &err), 0);
	ck_assert_int_eq(hci_buffer_alloc((void **)&u->buf, DEPTH * LEN, &err), 0);
}

static void user_fini(struct user *u)
{
	hci_queue_unref(u->q);
	hci_buffer_free(u->buf);
}

static void start(struct user *u, bool write, uint32_t i, uint32_t block)
{
	uint32_t *p = (uint32_t *)(void *)(u->buf + i * LEN);
	uint64_t off = (uint64_t)(u->first + block) * LEN;
	struct hci_error err;
	int rc;

	if (write)
		for (uint32_t k = 0; k < LEN / 4; k++)
			p[k] = u->stamp + 1;
	if (write)
		u->stamps[block] = ++u->stamp;
	rc = write ? hci_volume_submit_write(vol, u->q, p, LEN, off, i, NULL, &err)
		   : hci_volume_submit_read(vol, u->q, p, LEN, off, i, NULL, &err);
	ck_assert_int_eq(rc, 0);
}

/* So many blocks from a random one on, all at once; then they are read. */
static void round_of(struct user *u, uint32_t n)
{
	uint32_t block = (uint32_t)random() % (SPAN - n);
	struct hci_completion c[DEPTH];

	for (int read = 0; read < 2; read++) {
		uint32_t open = n;

		for (uint32_t i = 0; i < n; i++)
			start(u, !read, i, block + i);
		while (open) {
			int got = hci_queue_reap(u->q, c, DEPTH, 20000);

			ck_assert_int_gt(got, 0);
			for (int i = 0; i < got; i++)
				ck_assert_int_eq(c[i].status, 0);
			open -= (uint32_t)got;
		}
	}
	for (uint32_t i = 0; i < n; i++)
		ck_assert_uint_eq(((uint32_t *)(void *)(u->buf + i * LEN))[LEN / 4 - 1], u->stamps[block + i]);
}

START_TEST(one_by_one_and_many_at_once)
{
	struct user u;

	up();
	user_init(&u, 0);
	for (unsigned i = 0; i < 300; i++)
		round_of(&u, i / 100 % 2 ? DEPTH : 1);
	user_fini(&u);
	down();
}
END_TEST

static void *user_main(void *arg)
{
	for (unsigned i = 0; !atomic_load(&over); i++) {
		round_of(arg, i % DEPTH + 1);
		if (i % 64 == 0)
			usleep(3000); /* stays away */
	}
	return NULL;
}

static void *caller_main(void *arg)
{
	struct hci_volume_status st;
	struct hci_error err;

	(void)arg;
	while (!atomic_load(&over)) {
		ck_assert_int_eq(hci_volume_status(vol, &st, sizeof(st), &err), 0);
		usleep(500);
	}
	return NULL;
}

START_TEST(several_threads_with_queues_and_one_with_plain_calls)
{
	pthread_t t[3];
	struct user u[3];

	up();
	for (unsigned i = 0; i < 3; i++)
		user_init(&u[i], i * SPAN);
	for (unsigned i = 1; i < 3; i++)
		pthread_create(&t[i], NULL, user_main, &u[i]);
	pthread_create(&t[0], NULL, caller_main, NULL);
	for (unsigned i = 0; i < 300; i++)
		round_of(&u[0], i % DEPTH + 1);
	atomic_store(&over, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < 3; i++)
		user_fini(&u[i]);
	down();
}
END_TEST

/* The queue has seen it come back at once for long, and then it does not: the loop's own thread takes over. */
START_TEST(who_waits_at_the_descriptor_instead_is_told)
{
	struct hci_completion c;
	struct user u;

	up();
	user_init(&u, 0);
	for (unsigned i = 0; i < 20; i++) {
		struct pollfd p = { .fd = hci_queue_fd(u.q), .events = POLLIN };

		for (unsigned k = 0; k < 20; k++)
			round_of(&u, 1);
		start(&u, true, 0, i);
		do /* it may be readable for a completion that is taken already */
			ck_assert_int_eq(poll(&p, 1, 20000), 1);
		while (!hci_queue_reap(u.q, &c, 1, 0));
		ck_assert_int_eq(c.status, 0);
	}
	user_fini(&u);
	down();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api queue");
	TCase *tc = tcase_create("queue");

	tcase_set_timeout(tc, 90);
	tcase_add_test(tc, one_by_one_and_many_at_once);
	tcase_add_test(tc, several_threads_with_queues_and_one_with_plain_calls);
	tcase_add_test(tc, who_waits_at_the_descriptor_instead_is_told);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
