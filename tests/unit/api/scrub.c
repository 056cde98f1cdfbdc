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

static Suite *suite(void)
{
	Suite *s = suite_create("api scrub");
	TCase *t = tcase_create("scrub");

	tcase_set_timeout(t, 280);
	tcase_add_test(t, rot_in_an_unattended_volume_is_mended);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
