/* SPDX-License-Identifier: Apache-2.0 */
/* All floors together through the public API: volumes survive nodes that leave and return. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)

static struct world w;

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * 31 + seed) ^ (i >> 8));
}

static hci_volume *make_volume(const char *name, uint64_t bytes, uint32_t replicas)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v;

	o.name = name;
	o.pool = "p";
	o.bytes = bytes;
	o.replicas = replicas;
	o.segment_bytes = 4 * MiB;
	o.write_timeout_ms = 1000;
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&v, w.client, name, NULL, &w.err));
	return v;
}

static uint32_t out_now(hci_volume *v)
{
	struct hci_volume_status s;

	ok(hci_volume_status(v, &s, sizeof(s), &w.err));
	return s.replicas_out + s.segments_degraded;
}

static void wait_healthy(hci_volume *v)
{
	for (int i = 0; i < 900 && out_now(v); i++)
		usleep(100000);
	ck_assert_uint_eq(out_now(v), 0);
}

static bool in_sync(const char *name)
{
	struct hci_replica_info *r;
	bool all = true;
	uint64_t n;

	ok(hci_volume_replicas(w.client, name, &r, &n, sizeof(*r), &w.err));
	for (uint64_t i = 0; i < n; i++)
		all &= r[i].state == HCI_REPLICA_IN_SYNC;
	hci_list_free(r);
	return all;
}

/* Both replicas of every segment hold the same; when there are both: on a busy machine a disk may have been too slow for a write. */
static void compare(const char *name)
{
	struct hci_replica_info *r;
	uint64_t n;
	uint8_t *a = malloc(MiB), *b = malloc(MiB);

	for (int i = 0; i < 900 && !in_sync(name); i++)
		usleep(100000);
	ok(hci_volume_replicas(w.client, name, &r, &n, sizeof(*r), &w.err));
	ck_assert_uint_gt(n, 0);
	for (uint64_t i = 0; i + 1 < n; i++) {
		if (r[i].segment != r[i + 1].segment)
			continue;
		ck_assert_int_eq(r[i].state, HCI_REPLICA_IN_SYNC);
		for (uint64_t off = 0; off < 4 * MiB; off += MiB) {
			ok(hci_volume_read_replica(w.client, name, r[i].disk, r[i].segment, a, MiB, off, &w.err));
			ok(hci_volume_read_replica(w.client, name, r[i + 1].disk, r[i].segment, b, MiB, off, &w.err));
			ck_assert_msg(!memcmp(a, b, MiB), "segment %u differs", r[i].segment);
		}
	}
	hci_list_free(r);
	free(a);
	free(b);
}

START_TEST(a_volume_reads_what_was_written)
{
	uint8_t *buf = malloc(3 * MiB), *got = malloc(3 * MiB);
	hci_volume *v;

	world_up(&w, _i);
	world_pool(&w, 0);
	v = make_volume("v", 32 * MiB, 2);
	fill(buf, 3 * MiB, 7);
	ok(hci_volume_pwrite(v, buf, 3 * MiB, 4 * MiB - 4096, &w.err));
	ok(hci_volume_pread(v, got, 3 * MiB, 4 * MiB - 4096, &w.err));
	ck_assert(!memcmp(buf, got, 3 * MiB));
	ok(hci_volume_pread(v, got, MiB, 20 * MiB, &w.err));
	for (size_t i = 0; i < MiB; i++)
		ck_assert_uint_eq(got[i], 0);
	ok(hci_volume_zero(v, MiB, 4 * MiB, &w.err));
	ok(hci_volume_pread(v, got, MiB, 4 * MiB, &w.err));
	for (size_t i = 0; i < MiB; i++)
		ck_assert_uint_eq(got[i], 0);
	hci_volume_unref(v);
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	ok(hci_volume_pread(v, got, 4096, 4 * MiB - 4096, &w.err));
	ck_assert(!memcmp(buf, got, 4096));
	hci_volume_unref(v);
	compare("v");
	ok(hci_volume_delete(w.client, "v", &w.err));
	world_down(&w);
	free(buf);
	free(got);
}
END_TEST

START_TEST(a_queue_completes_each_request_once)
{
	struct hci_completion done[64];
	unsigned seen[256] = { 0 }, n = 0;
	hci_queue *q;
	hci_volume *v;
	void *buf;

	world_up(&w, 0);
	world_pool(&w, 0);
	v = make_volume("v", 16 * MiB, 2);
	ok(hci_queue_create(&q, w.client, 64, &w.err));
	ok(hci_buffer_alloc(&buf, 256 * 4096, &w.err));
	fill(buf, 256 * 4096, 3);
	for (unsigned i = 0; i < 256;) {
		int rc = hci_volume_submit_write(v, q, (char *)buf + i * 4096, 4096, i * 4096, i, NULL, &w.err);
		int got;

		if (!rc) {
			i++;
			continue;
		}
		ck_assert_int_eq(rc, HCI_E_BUSY);
		got = hci_queue_reap(q, done, 64, 10000);
		ck_assert_int_gt(got, 0);
		for (int k = 0; k < got; k++, n++) {
			ck_assert_int_eq(done[k].status, 0);
			seen[done[k].tag]++;
		}
	}
	while (n < 256) {
		int got = hci_queue_reap(q, done, 64, 10000);

		ck_assert_int_gt(got, 0);
		for (int k = 0; k < got; k++, n++)
			seen[done[k].tag]++;
	}
	for (unsigned i = 0; i < 256; i++)
		ck_assert_uint_eq(seen[i], 1);
	ck_assert_int_eq(hci_queue_reap(q, done, 64, 0), 0);
	hci_queue_unref(q);
	hci_volume_unref(v);
	compare("v");
	hci_buffer_free(buf);
	world_down(&w);
}
END_TEST

/*
 * A program that sleeps on the descriptor in a loop of its own, and takes completions one at a time in
 * either way: whatever hci_queue_reap() leaves in the queue keeps the descriptor readable.
 */
START_TEST(the_descriptor_tells_of_what_a_reap_left)
{
	struct hci_completion done;
	hci_queue *q;
	hci_volume *v;
	void *buf;

	world_up(&w, 0);
	world_pool(&w, 0);
	v = make_volume("v", 16 * MiB, 2);
	ok(hci_queue_create(&q, w.client, 16, &w.err));
	ok(hci_buffer_alloc(&buf, 16 * 4096, &w.err));
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 16; i++)
			ok(hci_volume_submit_read(v, q, (char *)buf + i * 4096, 4096, i * 4096, i, NULL, &w.err));
		for (unsigned i = 0; i < 16; i++) {
			struct pollfd p = { .fd = hci_queue_fd(q), .events = POLLIN };
			bool sleeps = (i + round) % 3;

			/* It may be readable for nothing, never the other way round. */
			do {
				if (sleeps)
					ck_assert_int_eq(poll(&p, 1, 10000), 1);
			} while (hci_queue_reap(q, &done, 1, sleeps ? 0 : 10000) == 0);
			ck_assert_int_eq(done.status, 0);
		}
		ck_assert_int_eq(hci_queue_reap(q, &done, 1, 0), 0);
	}
	hci_queue_unref(q);
	hci_volume_unref(v);
	hci_buffer_free(buf);
	world_down(&w);
}
END_TEST

START_TEST(a_node_that_returns_gets_what_it_missed)
{
	uint8_t *buf = malloc(16 * MiB), *got = malloc(16 * MiB);
	struct hci_volume_status before, s;
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 0);
	v = make_volume("v", 16 * MiB, 2);
	fill(buf, 16 * MiB, 1);
	ok(hci_volume_pwrite(v, buf, 16 * MiB, 0, &w.err));
	/* On a busy machine a node may have been too slow for all that, have left and come back. */
	wait_healthy(v);
	ok(hci_volume_status(v, &before, sizeof(before), &w.err));
	sleep(1); /* else it may get what was in flight last, too: its own log says only what was stable before that */
	world_node_stop(&w, 2);
	fill(buf + 5 * MiB, 256 * 1024, 99);
	ok(hci_volume_pwrite(v, buf + 5 * MiB, 256 * 1024, 5 * MiB, &w.err));
	fill(buf + 13 * MiB, 64 * 1024, 98);
	ok(hci_volume_pwrite(v, buf + 13 * MiB, 64 * 1024, 13 * MiB, &w.err));
	/* Something to each segment, so that every replica there is missed before the node is back. */
	for (uint64_t off = 0; off < 16 * MiB; off += 4 * MiB)
		ok(hci_volume_pwrite(v, buf + off, 4096, off, &w.err));
	world_node_start(&w, 2);
	wait_healthy(v);
	ok(hci_volume_status(v, &s, sizeof(s), &w.err));
	/* At most what was written meanwhile; the rest was not copied again. */
	ck_assert_uint_le(s.resync_copied - before.resync_copied, 2 * (320 + 4 * 64) * 1024);
	ok(hci_volume_pread(v, got, 16 * MiB, 0, &w.err));
	ck_assert(!memcmp(buf, got, 16 * MiB));
	hci_volume_unref(v);
	compare("v");
	world_down(&w);
	free(buf);
	free(got);
}
END_TEST

/* Copies of all volumes that are not good, or on that node. */
static unsigned bad_copies(const char *node)
{
	struct hci_volume_info *v;
	struct hci_replica_info *r;
	uint64_t nv, nr;
	unsigned bad = 0;

	ok(hci_volume_list(w.client, &v, &nv, sizeof(*v), &w.err));
	for (uint64_t i = 0; i < nv; i++) {
		ok(hci_volume_replicas(w.client, v[i].name, &r, &nr, sizeof(*r), &w.err));
		for (uint64_t k = 0; k < nr; k++)
			bad += r[k].state != HCI_REPLICA_IN_SYNC || !strcmp(r[k].node, node);
		hci_list_free(r);
	}
	hci_list_free(v);
	return bad;
}

/* Until that is none: the node's loss has been noticed, and all that it had is elsewhere. */
static void wait_off(const char *node)
{
	for (int i = 0; i < 900 && bad_copies(node); i++)
		usleep(100000);
	ck_assert_uint_eq(bad_copies(node), 0);
}

START_TEST(a_lost_node_is_rebuilt_elsewhere)
{
	uint8_t *buf = malloc(16 * MiB), *got = malloc(16 * MiB);
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 1000);
	v = make_volume("v", 16 * MiB, 2);
	fill(buf, 16 * MiB, 1);
	ok(hci_volume_pwrite(v, buf, 16 * MiB, 0, &w.err));
	world_node_stop(&w, 1);
	fill(buf + 4 * MiB, MiB, 5);
	ok(hci_volume_pwrite(v, buf + 4 * MiB, MiB, 4 * MiB, &w.err));
	wait_off("n2");
	wait_healthy(v);
	world_node_stop(&w, 0);
	ok(hci_volume_pread(v, got, 16 * MiB, 0, &w.err));
	ck_assert(!memcmp(buf, got, 16 * MiB));
	hci_volume_unref(v);
	world_down(&w);
	free(buf);
	free(got);
}
END_TEST

/* Which of n2 and n3 is needed: volumes of two copies may well have none on one of them. */
static int with_copies(void)
{
	return bad_copies("n2") ? 1 : 2;
}

START_TEST(volumes_that_nobody_has_heal)
{
	uint8_t *buf = malloc(MiB), *got = malloc(MiB);
	char name[16];
	hci_volume *v;
	int gone;

	world_up(&w, 0);
	world_pool(&w, 1000);
	fill(buf, MiB, 1);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "v%d", i);
		v = make_volume(name, 8 * MiB, 2);
		ok(hci_volume_pwrite(v, buf, MiB, 4 * MiB - 65536, &w.err));
		hci_volume_unref(v);
	}
	gone = with_copies();
	ck_assert_uint_gt(bad_copies(gone == 1 ? "n2" : "n3"), 0);
	world_node_stop(&w, gone);
	wait_off(gone == 1 ? "n2" : "n3");
	ok(hci_volume_attach(&v, w.client, "v1", NULL, &w.err));
	ok(hci_volume_pread(v, got, MiB, 4 * MiB - 65536, &w.err));
	ck_assert(!memcmp(buf, got, MiB));
	hci_volume_unref(v);
	compare("v1");
	world_down(&w);
	free(buf);
	free(got);
}
END_TEST

START_TEST(wrong_calls_name_the_object)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v, *second;
	char buf[8192];

	world_up(&w, 0);
	world_pool(&w, 0);
	o.name = "x y";
	o.pool = "p";
	o.bytes = MiB;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "x y"));
	o.name = "v";
	o.replicas = 4;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_NOPLACE);
	o.replicas = 9;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_INVAL);
	o.replicas = 2;
	o.bytes = 1ull << 49;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_NOSPACE);
	o.bytes = 4097;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_INVAL);
	o.pool = "nope";
	o.bytes = MiB;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(w.err.message, "nope"));
	o.size = 7;
	ck_assert_int_eq(hci_volume_create(w.client, &o, &w.err), HCI_E_INVAL);
	v = make_volume("v", 8 * MiB, 2);
	ck_assert_int_eq(hci_volume_attach(&second, w.cluster[0], "v", NULL, &w.err), HCI_E_BUSY);
	ck_assert_ptr_nonnull(strstr(w.err.message, "client"));
	ck_assert_int_eq(hci_volume_delete(w.client, "v", &w.err), HCI_E_BUSY);
	ck_assert_int_eq(hci_volume_pwrite(v, buf, 100, 0, &w.err), HCI_E_ALIGN);
	ck_assert_int_eq(hci_volume_pwrite(v, buf, 4096, 8 * MiB, &w.err), HCI_E_RANGE);
	ck_assert_int_eq(hci_volume_pwrite(v, buf, 4096, UINT64_MAX - 4095, &w.err), HCI_E_RANGE);
	ck_assert_int_eq(hci_volume_resize(w.client, "v", 4 * MiB, &w.err), HCI_E_INVAL);
	ok(hci_volume_resize(w.client, "v", 12 * MiB, &w.err));
	for (int i = 0; i < 100 && hci_volume_size(v) != 12 * MiB; i++)
		usleep(50000);
	ck_assert_uint_eq(hci_volume_size(v), 12 * MiB);
	ok(hci_volume_pwrite(v, buf, 4096, 12 * MiB - 4096, &w.err));
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

/* What is in the store of a node: its address, "" if there is no record. */
static void node_record(const char *name, int32_t *state, char address[256])
{
	struct hci_node_info *v;
	uint64_t n;

	*address = '\0';
	ok(hci_node_list(w.client, &v, &n, sizeof(*v), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, name)) {
			*state = v[i].state;
			snprintf(address, 256, "%s", v[i].address);
		}
	hci_list_free(v);
}

START_TEST(a_node_whose_start_is_refused_changes_nothing)
{
	struct hci_cluster_opts co = HCI_CLUSTER_OPTS_INIT;
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	hci_cluster *c;
	hci_node *second;
	char address[256];
	int32_t state;

	world_up(&w, 0);
	co.store_url = w.store;
	co.client_name = o.name = "n2";
	o.listen = "tcp:127.0.0.1:0";
	o.heartbeat_ms = 500;
	ok(hci_cluster_open(&c, &co, &w.err));
	ck_assert_int_eq(hci_node_start(&second, c, &o, &w.err), HCI_E_BUSY);
	ck_assert_ptr_nonnull(strstr(w.err.message, w.addr[1]));
	world_node_stop(&w, 1);
	node_record("n2", &state, address);
	ck_assert_int_eq(state, HCI_NODE_DOWN);
	ck_assert_str_eq(address, w.addr[1]);
	/* With the name free it may have it, and is where it says. */
	ok(hci_node_start(&second, c, &o, &w.err));
	node_record("n2", &state, address);
	ck_assert_int_eq(state, HCI_NODE_ALIVE);
	ck_assert_str_eq(address, hci_node_address(second));
	ck_assert_str_ne(address, w.addr[1]);
	hci_node_stop(second);
	node_record("n2", &state, address);
	ck_assert_str_ne(address, w.addr[1]);
	hci_cluster_unref(c);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_cluster");
	TCase *t = tcase_create("cluster");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, a_volume_reads_what_was_written, 0, 2);
	tcase_add_test(t, a_queue_completes_each_request_once);
	tcase_add_test(t, the_descriptor_tells_of_what_a_reap_left);
	tcase_add_test(t, a_node_that_returns_gets_what_it_missed);
	tcase_add_test(t, a_lost_node_is_rebuilt_elsewhere);
	tcase_add_test(t, volumes_that_nobody_has_heal);
	tcase_add_test(t, wrong_calls_name_the_object);
	tcase_add_test(t, a_node_whose_start_is_refused_changes_nothing);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
