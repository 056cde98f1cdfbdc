/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where copies are changes while a volume is in use: replicas, policies, disks that are emptied, pools that are evened out;
 * jobs are cancelled, and go on at another node when theirs goes.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)
#define SEGMENT (2u * MiB)
#define SEGMENTS 12u
#define BLOCK 4096u
#define BLOCKS (SEGMENT * SEGMENTS / BLOCK)

static struct world w;

/* ---- somebody who reads and writes all the while, and knows what there must be ---- */

struct user {
	hci_volume *v;
	uint32_t stamp[BLOCKS]; /* of the last write to each block */
	atomic_bool stop;
	uint64_t ops;
	pthread_t thread;
	char wrong[200];
};

static void stamp_fill(uint32_t *p, uint32_t block, uint32_t stamp)
{
	for (uint32_t i = 0; i < BLOCK / 4; i++)
		p[i] = stamp ? stamp * 2654435761u + block * 40503u + i : 0;
}

static void user_one(struct user *u, uint32_t *buf, uint32_t *want, uint32_t block, bool write)
{
	struct hci_error err;

	if (write) {
		stamp_fill(buf, block, ++u->stamp[block]);
		if (hci_volume_pwrite(u->v, buf, BLOCK, (uint64_t)block * BLOCK, &err))
			snprintf(u->wrong, sizeof(u->wrong), "write of block %u: %.150s", block, err.message);
		return;
	}
	stamp_fill(want, block, u->stamp[block]);
	if (hci_volume_pread(u->v, buf, BLOCK, (uint64_t)block * BLOCK, &err))
		snprintf(u->wrong, sizeof(u->wrong), "read of block %u: %.150s", block, err.message);
	else if (memcmp(buf, want, BLOCK))
		snprintf(u->wrong, sizeof(u->wrong), "block %u is not what was written last", block);
}

static void user_check_all(struct user *u, uint32_t *want)
{
	uint8_t *buf = aligned_alloc(BLOCK, MiB);
	struct hci_error err;

	for (uint32_t b = 0; b < BLOCKS && !u->wrong[0]; b++) {
		uint32_t in = b % (MiB / BLOCK);

		if (!in && hci_volume_pread(u->v, buf, MiB, (uint64_t)b * BLOCK, &err))
			snprintf(u->wrong, sizeof(u->wrong), "read at the end: %.150s", err.message);
		stamp_fill(want, b, u->stamp[b]);
		if (!u->wrong[0] && memcmp(buf + (size_t)in * BLOCK, want, BLOCK))
			snprintf(u->wrong, sizeof(u->wrong), "block %u is not what was written last", b);
	}
	free(buf);
}

static void *user_thread(void *arg)
{
	struct user *u = arg;
	uint32_t *buf = aligned_alloc(BLOCK, BLOCK), *want = aligned_alloc(BLOCK, BLOCK);
	uint32_t x = 12345;

	while (!u->stop && !u->wrong[0]) {
		x = x * 1664525u + 1013904223u;
		user_one(u, buf, want, (x >> 8) % BLOCKS, x >> 31);
		u->ops++;
		usleep(500);
	}
	if (!u->wrong[0])
		user_check_all(u, want);
	free(buf);
	free(want);
	return NULL;
}

static struct user *user_start(const char *volume)
{
	struct user *u = calloc(1, sizeof(*u));
	uint32_t *buf = aligned_alloc(BLOCK, BLOCK);

	ok(hci_volume_attach(&u->v, w.client, volume, NULL, &w.err));
	for (uint32_t b = 0; b < BLOCKS; b += SEGMENT / BLOCK) { /* no segment is empty */
		stamp_fill(buf, b, ++u->stamp[b]);
		ok(hci_volume_pwrite(u->v, buf, BLOCK, (uint64_t)b * BLOCK, &w.err));
	}
	free(buf);
	ck_assert_int_eq(pthread_create(&u->thread, NULL, user_thread, u), 0);
	return u;
}

static void user_stop(struct user *u)
{
	u->stop = true;
	pthread_join(u->thread, NULL);
	ck_assert_msg(!u->wrong[0], "%s", u->wrong);
	ck_assert_uint_gt(u->ops, 10);
	hci_volume_unref(u->v);
	free(u);
}

/* ---- what is where ---- */

static void make_volume(const char *name, uint32_t replicas, const char *policy)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	o.name = name;
	o.pool = "p";
	o.policy = policy;
	o.bytes = SEGMENT * SEGMENTS;
	o.replicas = replicas;
	o.segment_bytes = SEGMENT;
	o.write_timeout_ms = 1000;
	ok(hci_volume_create(w.client, &o, &w.err));
}

/* Every segment has so many copies in sync, on distinct nodes, with the same content. At rest. */
static void check_copies(const char *name, uint32_t replicas)
{
	uint8_t *a = malloc(MiB), *b = malloc(MiB);
	struct hci_replica_info *r;
	uint64_t n;

	ok(hci_volume_replicas(w.client, name, &r, &n, sizeof(*r), &w.err));
	ck_assert_uint_eq(n, SEGMENTS * replicas);
	for (uint64_t i = 0; i < n; i++) {
		ck_assert_uint_eq(r[i].segment, i / replicas);
		ck_assert_uint_eq(r[i].state, HCI_REPLICA_IN_SYNC);
		for (uint64_t k = i / replicas * replicas; k < i; k++) {
			ck_assert_str_ne(r[i].node, r[k].node);
			for (uint64_t off = 0; off < SEGMENT; off += MiB) {
				ok(hci_volume_read_replica(w.client, name, r[i].disk, r[i].segment, a, MiB, off, &w.err));
				ok(hci_volume_read_replica(w.client, name, r[k].disk, r[k].segment, b, MiB, off, &w.err));
				ck_assert_msg(!memcmp(a, b, MiB), "copies of segment %u differ", r[i].segment);
			}
		}
	}
	hci_list_free(r);
	free(a);
	free(b);
}

static uint32_t copies_on(const char *name, const char *disk)
{
	struct hci_replica_info *r;
	uint32_t found = 0;
	uint64_t n;

	ok(hci_volume_replicas(w.client, name, &r, &n, sizeof(*r), &w.err));
	for (uint64_t i = 0; i < n; i++)
		found += !strcmp(r[i].disk, disk);
	hci_list_free(r);
	return found;
}

static struct hci_disk_info disk_now(const char *node, int which)
{
	struct hci_disk_info *d, out = { 0 };
	uint64_t n;

	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(d[i].node, node) && which-- == 0)
			out = d[i];
	hci_list_free(d);
	return out;
}

/* One that has something to move. Other programs that fill the file system may keep a disk from getting any. */
static struct hci_disk_info some_disk(const char *volume)
{
	struct hci_replica_info *r;
	struct hci_disk_info *d, out = { 0 };
	uint64_t nr, n;

	ok(hci_volume_replicas(w.client, volume, &r, &nr, sizeof(*r), &w.err));
	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(d[i].uuid, r[0].disk))
			out = d[i];
	hci_list_free(d);
	hci_list_free(r);
	return out;
}

static struct hci_disk_info disk_again(const struct hci_disk_info *was)
{
	struct hci_disk_info *d, out = { 0 };
	uint64_t n;

	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(d[i].uuid, was->uuid))
			out = d[i];
	hci_list_free(d);
	return out;
}

/* At once, but for a node whose heartbeat is late on a busy machine: its disks are shown offline until it comes. */
static void disk_is(const struct hci_disk_info *d, uint32_t state)
{
	for (int i = 0; i < 300 && disk_again(d).state == HCI_DISK_OFFLINE; i++)
		usleep(100000);
	ck_assert_uint_eq(disk_again(d).state, state);
}

/* What is on disks follows what the map says, a little later: space is given back. */
static void wait_segments(uint64_t want)
{
	struct hci_disk_info *d;
	uint64_t n, held = 0;

	for (int i = 0; i < 900; i++, usleep(100000)) {
		ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
		held = 0;
		for (uint64_t k = 0; k < n; k++)
			held += d[k].segments;
		hci_list_free(d);
		if (held == want)
			return;
	}
	ck_abort_msg("%llu segments are on disks instead of %llu", (unsigned long long)held, (unsigned long long)want);
}

static void set_replicas(const char *name, uint32_t n)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;

	o.replicas = n;
	ok(hci_volume_set(w.client, name, &o, NULL, &w.err));
}

/* ---- */

START_TEST(replicas_change_while_the_volume_is_used)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;
	struct user *u;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	u = user_start("v");
	set_replicas("v", 3);
	set_replicas("v", 1);
	set_replicas("v", 2);
	user_stop(u);
	check_copies("v", 2);
	wait_segments(2 * SEGMENTS);
	/* Nobody has it attached. */
	set_replicas("v", 3);
	check_copies("v", 3);
	o.replicas = 4;
	ck_assert_int_eq(hci_volume_set(w.client, "v", &o, NULL, &w.err), HCI_E_NOPLACE);
	ck_assert_ptr_nonnull(strstr(w.err.message, "4 replicas"));
	o.replicas = 6;
	ck_assert_int_eq(hci_volume_set(w.client, "v", &o, NULL, &w.err), HCI_E_INVAL);
	o.replicas = 0;
	ck_assert_int_eq(hci_volume_set(w.client, "v", &o, NULL, &w.err), HCI_E_INVAL);
	o.policy = "nope";
	ck_assert_int_eq(hci_volume_set(w.client, "v", &o, NULL, &w.err), HCI_E_NOTFOUND);
	world_down(&w);
}
END_TEST

START_TEST(a_disk_is_emptied_under_load_and_removed)
{
	struct hci_disk_info d;
	hci_job *job;
	struct user *u;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	make_volume("idle", 2, NULL);
	u = user_start("v");
	d = some_disk("v");
	ck_assert_uint_gt(copies_on("v", d.uuid) + copies_on("idle", d.uuid), 0);
	ck_assert_int_eq(hci_disk_remove(w.client, d.uuid, &w.err), HCI_E_STATE);
	ok(hci_disk_evacuate(w.client, d.uuid, &job, &w.err));
	ck_assert_int_eq(hci_disk_evacuate(w.client, d.uuid, NULL, &w.err), HCI_E_BUSY);
	ok(hci_job_wait(job, 60000, &w.err));
	hci_job_unref(job);
	ck_assert_uint_eq(copies_on("v", d.uuid) + copies_on("idle", d.uuid), 0);
	/* It may be used again, and be emptied again. */
	ok(hci_disk_activate(w.client, d.uuid, &w.err));
	disk_is(&d, HCI_DISK_ONLINE);
	ok(hci_disk_evacuate(w.client, d.uuid, NULL, &w.err));
	disk_is(&d, HCI_DISK_EVACUATING);
	ok(hci_disk_set_pool(w.client, d.uuid, NULL, &w.err));
	ck_assert_str_eq(disk_again(&d).pool, "");
	disk_is(&d, HCI_DISK_ONLINE);
	ok(hci_disk_set_pool(w.client, d.uuid, "p", &w.err));
	ck_assert_int_eq(hci_disk_set_pool(w.client, d.uuid, NULL, &w.err), HCI_E_STATE);
	ok(hci_disk_evacuate(w.client, d.uuid, NULL, &w.err));
	ok(hci_disk_remove(w.client, d.uuid, &w.err));
	user_stop(u);
	check_copies("v", 2);
	check_copies("idle", 2);
	world_down(&w);
}
END_TEST

START_TEST(a_node_is_emptied_and_used_again)
{
	hci_job *job;
	struct user *u;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	u = user_start("v");
	ok(hci_node_evacuate(w.client, "n2", NULL, &w.err));
	for (int k = 0; k < 3; k++)
		ck_assert_uint_eq(copies_on("v", disk_now("n2", k).uuid), 0);
	ok(hci_node_activate(w.client, "n2", &w.err));
	set_replicas("v", 3);
	user_stop(u);
	check_copies("v", 3);
	/* Three copies on three nodes: the third can never go. A disk can, to another one of its node. */
	ck_assert_int_eq(hci_node_evacuate(w.client, "n2", &job, &w.err), HCI_E_NOPLACE);
	ck_assert_ptr_nonnull(strstr(w.err.message, "volume v has 3 replicas"));
	ck_assert_ptr_nonnull(strstr(w.err.message, "volume set v --replicas 2"));
	ok(hci_disk_evacuate(w.client, some_disk("v").uuid, NULL, &w.err));
	set_replicas("v", 2);
	/* A node that is down comes back: for it a job can wait. */
	world_node_stop(&w, 2);
	ok(hci_node_evacuate(w.client, "n2", &job, &w.err));
	ok(hci_job_cancel(job, &w.err));
	(void)hci_job_wait(job, 60000, &w.err);
	hci_job_unref(job);
	world_node_start(&w, 2);
	ck_assert_int_eq(hci_node_evacuate(w.client, "n9", NULL, &w.err), HCI_E_NOTFOUND);
	world_down(&w);
}
END_TEST

static uint64_t copies_at(const char *volume, const char *node)
{
	uint64_t n = 0;

	for (int k = 0; k < 3; k++)
		n += copies_on(volume, disk_now(node, k).uuid);
	return n;
}

START_TEST(a_volume_is_taken_to_a_node)
{
	struct hci_volume_move_opts o = HCI_VOLUME_MOVE_OPTS_INIT;
	const char *from, *to;
	struct user *u;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	u = user_start("v");
	o.to = "n3";
	ok(hci_volume_move(w.client, "v", &o, NULL, &w.err));
	ck_assert_uint_eq(copies_at("v", "n3"), SEGMENTS);
	/* The others are on n1 and n2; all on n2, when n1 was late to say that it is there. */
	from = copies_at("v", "n1") ? "n1" : "n2";
	to = !strcmp(from, "n1") ? "n2" : "n1";
	ck_assert_uint_gt(copies_at("v", from), 0);
	o.to = to;
	o.from = from;
	ok(hci_volume_move(w.client, "v", &o, NULL, &w.err));
	ck_assert_uint_eq(copies_at("v", from), 0);
	ck_assert_uint_eq(copies_at("v", to), SEGMENTS);
	user_stop(u);
	check_copies("v", 2);
	ck_assert_int_eq(hci_volume_move(w.client, "nope", &o, NULL, &w.err), HCI_E_NOTFOUND);
	o.from = to;
	ck_assert_int_eq(hci_volume_move(w.client, "v", &o, NULL, &w.err), HCI_E_INVAL);
	o.from = "n9";
	ck_assert_int_eq(hci_volume_move(w.client, "v", &o, NULL, &w.err), HCI_E_NOTFOUND);
	o.from = o.to = NULL;
	ck_assert_int_eq(hci_volume_move(w.client, "v", &o, NULL, &w.err), HCI_E_INVAL);
	ok(hci_node_evacuate(w.client, "n1", NULL, &w.err));
	o.to = "n1";
	ck_assert_int_eq(hci_volume_move(w.client, "v", &o, NULL, &w.err), HCI_E_NOPLACE);
	world_down(&w);
}
END_TEST

static void add_disk(const char *node, const char *name)
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s-%s", w.dir, node, name);
	mkdir(path, 0700);
	o.node = node;
	o.path = path;
	o.pool = "p";
	ok(hci_disk_add(w.client, &o, NULL, &w.err));
}

static void too_many(uint64_t *over5, uint64_t *over6)
{
	struct hci_disk_info *d;
	uint64_t n;

	*over5 = *over6 = 0;
	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	for (uint64_t i = 0; i < n; i++) {
		uint32_t c = copies_on("v", d[i].uuid) + copies_on("idle", d[i].uuid);

		*over5 += c > 5 ? c - 5 : 0;
		*over6 += c > 6 ? c - 6 : 0;
	}
	hci_list_free(d);
}

START_TEST(a_pool_is_evened_out_with_the_least_moves)
{
	struct hci_pool_balance_opts fill = HCI_POOL_BALANCE_OPTS_INIT; /* how load is evened out: balance.c */
	struct hci_pool_balance_info plan, after;
	uint64_t over5, over6;
	struct hci_job_info info;
	hci_job *job;
	struct user *u;

	fill.fill_only = 1;
	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	make_volume("idle", 2, NULL);
	add_disk("n1", "new1");
	add_disk("n2", "new2");
	add_disk("n3", "new3");
	ok(hci_pool_balance_plan(w.client, "p", &fill, &plan, sizeof(plan), &w.err));
	/* 48 copies on 9 data disks: what is above 5 or 6 on one has to go, and nothing else. */
	too_many(&over5, &over6);
	ck_assert_uint_ge(over6, 1);
	ck_assert_uint_ge(plan.copies, over6);
	ck_assert_uint_le(plan.copies, over5);
	ck_assert(plan.least_before == 0 && plan.least_after > 0);
	u = user_start("v");
	ok(hci_pool_balance(w.client, "p", &fill, &job, &w.err));
	ok(hci_job_wait(job, 60000, &w.err));
	ok(hci_job_info(job, &info, sizeof(info), &w.err));
	hci_job_unref(job);
	user_stop(u);
	/* What it said before is what it moved. */
	ck_assert_uint_ge(info.total + 2, plan.copies);
	ck_assert_uint_le(info.total, plan.copies + 2);
	ck_assert_uint_eq(info.done, info.total);
	ok(hci_pool_balance_plan(w.client, "p", &fill, &after, sizeof(after), &w.err));
	ck_assert_uint_eq(after.copies, 0);
	ck_assert_msg(after.most_before <= plan.most_after + 1e-9 && after.least_before >= plan.least_after - 1e-9, "%s", info.message);
	check_copies("v", 2);
	check_copies("idle", 2);
	ok(hci_pool_balance(w.client, "p", &fill, NULL, &w.err)); /* nothing to do is no error */
	ck_assert_int_eq(hci_pool_balance(w.client, "q", NULL, NULL, &w.err), HCI_E_NOTFOUND);
	world_down(&w);
}
END_TEST

START_TEST(a_policy_is_changed_and_followed)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;
	struct hci_replica_info *r;
	struct user *u;
	uint64_t n;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, "pack");
	u = user_start("v");
	o.policy = "chained";
	ok(hci_volume_set(w.client, "v", &o, NULL, &w.err));
	user_stop(u);
	check_copies("v", 2);
	ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
	/* Each segment's nodes are neighbours, and the first of them goes round. */
	for (uint32_t s = 0; s + 1 < SEGMENTS; s++) {
		bool shared = false;

		for (int i = 0; i < 2; i++)
			for (int k = 0; k < 2; k++)
				shared |= !strcmp(r[2 * s + i].node, r[2 * s + 2 + k].node);
		ck_assert(shared);
		ck_assert(strcmp(r[2 * s].node, r[2 * s + 2].node) || strcmp(r[2 * s + 1].node, r[2 * s + 3].node));
	}
	hci_list_free(r);
	world_down(&w);
}
END_TEST

START_TEST(a_cancelled_change_is_taken_back)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;
	struct hci_volume_info *v;
	struct hci_disk_info d;
	struct user *u;
	hci_job *job;
	uint64_t n;
	int rc;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	u = user_start("v");
	o.replicas = 3;
	ok(hci_volume_set(w.client, "v", &o, &job, &w.err));
	usleep(100000);
	rc = hci_job_cancel(job, &w.err);
	ck_assert_int_eq(rc, 0);
	rc = hci_job_wait(job, 60000, &w.err);
	hci_job_unref(job);
	ck_assert(rc == HCI_E_CANCELLED || rc == 0);
	if (rc) {
		for (int i = 0; i < 900; i++, usleep(100000)) {
			struct hci_replica_info *r;

			ok(hci_volume_replicas(w.client, "v", &r, &n, sizeof(*r), &w.err));
			hci_list_free(r);
			if (n == 2 * SEGMENTS)
				break;
		}
		ok(hci_volume_list(w.client, &v, &n, sizeof(*v), &w.err));
		ck_assert_uint_eq(v[0].replicas, 2);
		hci_list_free(v);
	}
	d = some_disk("v");
	ok(hci_disk_evacuate(w.client, d.uuid, &job, &w.err));
	ok(hci_job_cancel(job, &w.err));
	rc = hci_job_wait(job, 60000, &w.err);
	hci_job_unref(job);
	ck_assert(rc == HCI_E_CANCELLED || rc == 0);
	if (rc)
		disk_is(&d, HCI_DISK_ONLINE);
	user_stop(u);
	world_down(&w);
}
END_TEST

/* Its node goes in the middle, without a word: another one takes it over; and its copies are rebuilt when it returns. */
START_TEST(a_job_outlives_its_node)
{
	struct hci_job_info info = { 0 };
	struct hci_disk_info d;
	char before[HCI_NAME_MAX];
	struct user *u;
	hci_job *job;
	int node;

	world_up(&w, 0);
	world_pool(&w, 0);
	make_volume("v", 2, NULL);
	u = user_start("v");
	d = some_disk("v");
	ok(hci_disk_evacuate(w.client, d.uuid, &job, &w.err));
	for (int i = 0; i < 6000 && !info.node[0]; i++, usleep(10000))
		ok(hci_job_info(job, &info, sizeof(info), &w.err));
	ck_assert_int_eq(info.node[0], 'n');
	node = info.node[1] - '1';
	world_node_stop(&w, node);
	usleep(2500000);
	/* Whether it can end there depends on where the copies were: with two nodes left, a copy of each is all there is. */
	snprintf(before, sizeof(before), "%s", info.node);
	for (int i = 0; i < 600 && info.state == HCI_JOB_RUNNING && !strcmp(info.node, before); i++, usleep(100000))
		ok(hci_job_info(job, &info, sizeof(info), &w.err));
	ck_assert(info.state == HCI_JOB_DONE || strcmp(info.node, before));
	world_node_start(&w, node);
	ok(hci_job_wait(job, 60000, &w.err));
	hci_job_unref(job);
	for (int i = 0; i < 900; i++, usleep(100000)) {
		struct hci_volume_status s;

		ok(hci_volume_status(u->v, &s, sizeof(s), &w.err));
		if (!s.replicas_out && !s.segments_degraded)
			break;
	}
	user_stop(u);
	ck_assert_uint_eq(copies_on("v", d.uuid), 0);
	check_copies("v", 2);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	const struct {
		const char *name;
		const TTest *test;
	} cases[] = {
		{ "replicas", replicas_change_while_the_volume_is_used }, { "disk", a_disk_is_emptied_under_load_and_removed },
		{ "node", a_node_is_emptied_and_used_again },             { "balance", a_pool_is_evened_out_with_the_least_moves },
		{ "policy", a_policy_is_changed_and_followed },           { "cancel", a_cancelled_change_is_taken_back },
		{ "outlives", a_job_outlives_its_node },                  { "move", a_volume_is_taken_to_a_node },
	};
	Suite *s = suite_create("api_reconf");

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		TCase *t = tcase_create(cases[i].name);

		tcase_set_timeout(t, 200);
		tcase_add_test(t, cases[i].test);
		suite_add_tcase(s, t);
	}
	return s;
}

HARNESS_MAIN(suite)
