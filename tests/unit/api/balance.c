/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume whose much used segments are all on one disk: balancing its pool parts them among the disks, while they are read
 * and written, and what nodes tell of their disks afterwards says so.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)
#define SEGMENT (2u * MiB)
#define SEGMENTS 24u
#define BLOCK 4096u
#define PER_SEGMENT (SEGMENT / BLOCK)
#define DEPTH 8u

static struct world w;

struct load {
	hci_volume *v;
	uint32_t hot[SEGMENTS], nhot;
	uint32_t stamp[SEGMENTS * PER_SEGMENT];
	atomic_bool stop;
	pthread_t thread;
	char wrong[200];
};

static void fill(uint32_t *p, uint32_t block, uint32_t stamp)
{
	for (uint32_t i = 0; i < BLOCK / 4; i++)
		p[i] = stamp ? stamp * 2654435761u + block * 40503u + i : 0;
}

/* Requests to as many blocks of hot segments at a time as the queue takes, each second one a read. */
static void *load_thread(void *arg)
{
	struct load *l = arg;
	uint32_t x = 1, block[DEPTH], want[BLOCK / 4];
	struct hci_error err;
	hci_queue *q;
	uint8_t *buf;

	ck_assert_int_eq(hci_queue_create(&q, w.client, DEPTH, &err), 0);
	ck_assert_int_eq(hci_buffer_alloc((void **)&buf, DEPTH * BLOCK, &err), 0);
	for (uint32_t turn = 0; !l->stop && !l->wrong[0]; turn++) {
		for (uint32_t i = 0; i < DEPTH; i++) {
			uint8_t *p = buf + (size_t)i * BLOCK;
			int rc;

			x = x * 1664525u + 1013904223u;
			/* No two the same. */
			block[i] = l->hot[(x >> 24) % l->nhot] * PER_SEGMENT + ((x >> 10) % (PER_SEGMENT / DEPTH)) * DEPTH + i;
			if (turn % 2)
				fill((uint32_t *)p, block[i], ++l->stamp[block[i]]);
			rc = turn % 2 ? hci_volume_submit_write(l->v, q, p, BLOCK, (uint64_t)block[i] * BLOCK, i, NULL, &err)
				      : hci_volume_submit_read(l->v, q, p, BLOCK, (uint64_t)block[i] * BLOCK, i, NULL, &err);
			if (rc)
				snprintf(l->wrong, sizeof(l->wrong), "block %u: %.150s", block[i], err.message);
		}
		for (uint32_t n = 0; n < DEPTH && !l->wrong[0];) {
			struct hci_completion c;

			if (hci_queue_reap(q, &c, 1, 60000) != 1 || c.status) {
				snprintf(l->wrong, sizeof(l->wrong), "a request failed: %d", c.status);
				break;
			}
			n++;
			fill(want, block[c.tag], l->stamp[block[c.tag]]);
			if (memcmp(buf + c.tag * BLOCK, want, BLOCK))
				snprintf(l->wrong, sizeof(l->wrong), "block %u is not what was written last", block[c.tag]);
		}
		usleep(15000);
	}
	hci_queue_unref(q);
	hci_buffer_free(buf);
	return NULL;
}

static uint32_t hot_on(const struct load *l, const char *disk)
{
	struct hci_replica_info *r;
	uint32_t found = 0;
	uint64_t n;

	ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
	for (uint64_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < l->nhot; k++)
			found += r[i].segment == l->hot[k] && !strcmp(r[i].disk, disk);
	hci_list_free(r);
	return found;
}

/* The load that the most used disk has, when it is told to be within these. */
static struct hci_pool_balance_info wait_load(double least, double most)
{
	struct hci_pool_balance_info i = { 0 };

	for (unsigned t = 0; t < 600; t++, usleep(200000)) {
		ok(hci_pool_balance_plan(w.client, "p", NULL, &i, sizeof(i), &w.err));
		if (i.load_most_before >= least && i.load_most_before <= most)
			return i;
	}
	ck_abort_msg("the most used disk has %.0f requests a second, not %.0f to %.0f", i.load_most_before, least, most);
	return i;
}

static void make_volume(void)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	o.name = "v";
	o.pool = "p";
	o.bytes = SEGMENT * SEGMENTS;
	o.replicas = 1;
	o.segment_bytes = SEGMENT;
	ok(hci_volume_create(w.client, &o, &w.err));
}

START_TEST(hot_segments_of_one_disk_are_parted)
{
	struct hci_pool_balance_opts o = HCI_POOL_BALANCE_OPTS_INIT;
	struct load *l = calloc(1, sizeof(*l));
	struct hci_pool_balance_info i;
	struct hci_replica_info *r;
	char disk[HCI_UUID_STR];
	uint32_t before;
	double most;
	uint64_t n;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume();
	ok(hci_pool_balance(w.client, "p", NULL, NULL, &w.err)); /* shares are even from here on */
	ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
	snprintf(disk, sizeof(disk), "%s", r[0].disk);
	for (uint64_t k = 0; k < n; k++)
		if (!strcmp(r[k].disk, disk))
			l->hot[l->nhot++] = r[k].segment;
	hci_list_free(r);
	ck_assert_uint_ge(l->nhot, 3);
	ok(hci_volume_attach(&l->v, w.client, "v", NULL, &w.err));
	ck_assert_int_eq(pthread_create(&l->thread, NULL, load_thread, l), 0);

	i = wait_load(50, 1e9);
	most = i.load_most_before;
	ck_assert_uint_ge(i.load_copies, 2);
	ck_assert(i.load_most_after <= most / 2 && i.load_least_before <= most / 10);
	o.fill_only = 1;
	ok(hci_pool_balance_plan(w.client, "p", &o, &i, sizeof(i), &w.err));
	ck_assert(i.copies == 0 && i.load_most_before == 0);
	ok(hci_pool_balance(w.client, "p", &o, NULL, &w.err));
	before = hot_on(l, disk);
	ck_assert_uint_eq(before, l->nhot);
	ok(hci_pool_balance(w.client, "p", NULL, NULL, &w.err));
	ck_assert_uint_le(hot_on(l, disk), before / 2);
	/* Not only planned: each of the disks tells what it has now. */
	i = wait_load(1, most * 0.7);
	ck_assert_uint_eq(i.copies - i.load_copies, 0);

	l->stop = true;
	pthread_join(l->thread, NULL);
	ck_assert_msg(!l->wrong[0], "%s", l->wrong);
	hci_volume_unref(l->v);
	free(l);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_balance");
	TCase *t = tcase_create("load");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, hot_segments_of_one_disk_are_parted);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
