/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rot in the file of one replica of a volume that nobody has attached: a scrub finds it, a repair attaches the volume and
 * mends it, and the disk tells.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "env/fiber.h"
#include "store/store.h"
#include "world.h"

#define SIZE (4u << 20)

static struct world w;
static int spoiled;

/* Eight blocks of the first segment file that is found. */
static int spoil_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	size_t n = strlen(path);
	int fd;

	(void)st;
	(void)f;
	if (flag != FTW_F || n < 4 || strcmp(path + n - 4, ".seg") != 0)
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	for (int k = 0; k < 8; k++)
		ck_assert_int_eq(pwrite(fd, "rot", 3, 4096 * 33 * k + 7), 3);
	ck_assert_int_eq(fsync(fd), 0);
	close(fd);
	spoiled = 1;
	return 1;
}

/* Of all disks together. */
static struct hci_disk_info sum_up(int *running)
{
	struct hci_disk_info *d, sum = { .capacity = 0 };
	uint64_t n;

	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	*running = 0;
	for (uint64_t i = 0; i < n; i++) {
		sum.scrub_corrupt += d[i].scrub_corrupt;
		sum.scrub_waiting += d[i].scrub_waiting;
		sum.scrub_done += d[i].scrub_done;
		*running += d[i].scrub_started > d[i].scrub_finished;
	}
	hci_list_free(d);
	return sum;
}

START_TEST(rot_in_an_unattended_volume_is_mended)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_scrub_opts so = HCI_SCRUB_OPTS_INIT;
	struct hci_disk_info s;
	hci_volume *v;
	int running;
	uint8_t *buf;

	world_up(&w, 0);
	world_pool(&w, 600000);
	o.name = "v";
	o.pool = "p";
	o.bytes = SIZE;
	o.replicas = 2;
	ok(hci_volume_create(w.client, &o, &w.err));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	ok(hci_buffer_alloc((void **)&buf, SIZE, &w.err));
	memset(buf, 0x5a, SIZE);
	ok(hci_volume_pwrite(v, buf, SIZE, 0, &w.err));
	hci_volume_unref(v);
	sleep(3); /* all of it is in the segment files */
	nftw(w.dir, spoil_one, 16, FTW_PHYS);
	ck_assert(spoiled);
	ok(hci_disk_scrub(w.client, NULL, &so, &w.err));
	for (int k = 0; k < 120; k++) {
		s = sum_up(&running);
		if (s.scrub_corrupt && !s.scrub_waiting && !running)
			break;
		usleep(500000);
	}
	ck_assert_uint_eq(s.scrub_corrupt, 8);
	ck_assert_uint_eq(s.scrub_waiting, 0);
	sleep(2);
	ok(hci_disk_scrub(w.client, NULL, &so, &w.err));
	for (int k = 0; k < 120; k++) {
		sleep(1);
		s = sum_up(&running);
		if (!running && !s.scrub_corrupt)
			break;
	}
	ck_assert_uint_eq(s.scrub_corrupt, 0);
	ck_assert_int_eq(hci_disk_scrub(w.client, "ffffffff", &so, &w.err), HCI_E_NOTFOUND);
	so.start = 2;
	ck_assert_int_eq(hci_disk_scrub(w.client, NULL, &so, &w.err), HCI_E_INVAL);
	hci_buffer_free(buf);
	world_down(&w);
}
END_TEST

/* ---- what is left behind in the store ---- */

#define GONE "11111111-1111-4111-8111-111111111111"

struct look {
	struct env *e;
	const char *disk; /* put records of it and of one that nobody knows; NULL: count them */
	size_t found;
};

static void look_fiber(void *arg)
{
	struct look *l = arg;
	struct hci_error err = { 0 };
	struct store_result r;
	struct store *s;
	char key[2][128];

	ck_assert_msg(!store_open(l->e, w.store, &s, &err), "%s", err.message);
	for (int i = 0; l->disk && i < 2; i++) {
		struct store_op op = { STORE_PUT, key[i], "x", 1, 0 };

		snprintf(key[i], sizeof(key[i]), "volrot/%s/%s", GONE, i ? GONE : l->disk);
		ck_assert_msg(!store_txn(s, NULL, 0, &op, 1, NULL, &err), "%s", err.message);
	}
	ck_assert_msg(!store_range(s, "volrot/", NULL, 0, &r, &err), "%s", err.message);
	l->found = r.n;
	store_result_free(&r);
	store_close(s);
	env_stop(l->e);
}

static size_t look(const char *disk)
{
	struct env_real_opts o = { .name = "look" };
	struct look l = { .disk = disk };
	struct hci_error err;

	l.e = env_real_new(&o, &err);
	ck_assert_ptr_nonnull(l.e);
	ck_assert_int_eq(fiber_spawn(l.e, look_fiber, &l, "look"), 0);
	env_run(l.e);
	env_free(l.e);
	return l.found;
}

/* Of a volume that was deleted while the disk was away, and of a disk that was removed for good. */
START_TEST(records_of_rot_do_not_outlive_what_they_are_about)
{
	struct hci_disk_info *d;
	char disk[64];
	uint64_t n;

	world_up(&w, 0);
	world_pool(&w, 600000);
	ok(hci_disk_list(w.client, &d, &n, sizeof(*d), &w.err));
	ck_assert_uint_gt(n, 0);
	snprintf(disk, sizeof(disk), "%s", d[0].uuid);
	hci_list_free(d);
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	ck_assert_uint_eq(look(disk), 2);
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_start(&w, i);
	for (int k = 0; k < 60 && look(NULL); k++)
		sleep(1);
	ck_assert_uint_eq(look(NULL), 0);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api scrub");
	TCase *t = tcase_create("scrub");

	tcase_set_timeout(t, 280);
	tcase_add_test(t, rot_in_an_unattended_volume_is_mended);
	tcase_add_test(t, records_of_rot_do_not_outlive_what_they_are_about);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
