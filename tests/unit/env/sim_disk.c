/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "unit/env/sim_fixture.h"

static struct sim *sim;
static struct sim_node *node;
static struct sim_disk *disk;
static uint8_t *page; /* aligned, lives through crashes */

static void world(uint64_t seed)
{
	sim = sim_of_seed(seed);
	node = sim_node_new(sim, "a");
	disk = sim_disk_new(node, "/d1", 64 * MiB);
	page = mem_alloc_aligned(16 * HCI_BLOCK);
}

static void end(void)
{
	sim_free(sim);
	mem_free_aligned(page);
}

static struct env_file *must_open(struct env *e, const char *path, unsigned flags)
{
	struct env_file *f;

	ck_assert_int_eq(env_open(e, path, flags, &f), 0);
	return f;
}

static void fill(int c, size_t blocks)
{
	memset(page, c, blocks * HCI_BLOCK);
}

/* ---- plain use ---- */

static void use_files(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/x", ENV_O_CREATE | ENV_O_DIRECT), *g;
	uint64_t size;

	fill(7, 2);
	ck_assert_int_eq(fiber_write(e, f, page, 2 * HCI_BLOCK, 3 * HCI_BLOCK, 0), 2 * HCI_BLOCK);
	ck_assert_int_eq(env_file_size(e, f, &size), 0);
	ck_assert_uint_eq(size, 5 * HCI_BLOCK);
	ck_assert_uint_eq(sim_disk_used(disk), 2 * HCI_BLOCK);
	fill(1, 16);
	ck_assert_int_eq(fiber_read(e, f, page, 16 * HCI_BLOCK, 0), 5 * HCI_BLOCK);
	for (size_t k = 0; k < 5 * HCI_BLOCK; k++)
		ck_assert_int_eq(page[k], k < 3 * HCI_BLOCK ? 0 : 7);
	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, 9 * HCI_BLOCK), 0);
	ck_assert_int_eq(fiber_punch(e, f, 3 * HCI_BLOCK, HCI_BLOCK), 0);
	ck_assert_uint_eq(sim_disk_used(disk), HCI_BLOCK);
	ck_assert_int_eq(fiber_falloc(e, f, 0, 10 * HCI_BLOCK), 0);
	ck_assert_uint_eq(sim_disk_used(disk), 10 * HCI_BLOCK);
	ck_assert_int_eq(fiber_read(e, f, page, 16 * HCI_BLOCK, 0), 10 * HCI_BLOCK);
	ck_assert_int_eq(page[3 * HCI_BLOCK], 0);
	ck_assert_int_eq(page[4 * HCI_BLOCK], 7);
	ck_assert_int_eq(env_truncate(e, f, 0), 0);
	ck_assert_uint_eq(sim_disk_used(disk), 0);

	ck_assert_int_eq(fiber_read(e, f, page + 512, HCI_BLOCK, 0), -EINVAL);
	ck_assert_int_eq(fiber_write(e, f, page, 512, 0, 0), -EINVAL);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 512, 0), -EINVAL);
	ck_assert_int_eq(env_open(e, "/d1/x", ENV_O_CREATE | ENV_O_EXCL, &g), -EEXIST);
	ck_assert_int_eq(env_open(e, "/d1/none", ENV_O_RDONLY, &g), -ENOENT);
	ck_assert_int_eq(env_open(e, "/elsewhere", ENV_O_CREATE, &g), -ENOENT);
	ck_assert_int_eq(env_open(e, "/d1/x/y", ENV_O_CREATE, &g), -ENOTDIR);
	g = must_open(e, "/d1/x", ENV_O_RDONLY);
	ck_assert_int_eq(fiber_write(e, g, page, HCI_BLOCK, 0, 0), -EBADF);
	env_close(e, g);

	g = must_open(e, "/d1/small", ENV_O_CREATE);
	ck_assert_int_eq(fiber_write(e, g, "hello", 5, 4094, 0), 5);
	ck_assert_int_eq(fiber_read(e, g, page, 100, 4094), 5);
	ck_assert_mem_eq(page, "hello", 5);
	env_close(e, g);
	env_close(e, f);
}

START_TEST(files)
{
	world((uint64_t)_i);
	sim_run_on(sim, node, use_files);
	end();
}
END_TEST

static void use_names(struct env *e)
{
	struct buf b = BUF_INIT;
	char **names;
	int n = 0;

	ck_assert_int_eq(env_mkdir(e, "/d1/dir"), 0);
	ck_assert_int_eq(env_mkdir(e, "/d1/dir"), 0);
	ck_assert_int_eq(env_mkdir(e, "/d1/no/dir"), -ENOENT);
	ck_assert_int_eq(env_write_file(e, "/d1/dir/f", "abc", 3), 0);
	ck_assert_int_eq(env_read_file(e, "/d1/dir/f", 100, &b), 0);
	ck_assert_uint_eq(b.len, 3);
	buf_free(&b);
	ck_assert_int_eq(env_rmdir(e, "/d1/dir"), -ENOTEMPTY);
	ck_assert_int_eq(env_unlink(e, "/d1/dir"), -EISDIR);
	ck_assert_int_eq(env_write_file(e, "/d1/dir/g", "x", 1), 0);
	ck_assert_int_eq(env_rename(e, "/d1/dir/f", "/d1/dir/g"), 0);
	ck_assert_int_eq(env_rename(e, "/d1/dir", "/d1/dir/sub"), -EINVAL);
	ck_assert_int_eq(env_rename(e, "/d1/dir", "/d1/dir2"), 0);
	ck_assert_int_eq(env_read_file(e, "/d1/dir2/g", 100, &b), 0);
	ck_assert_mem_eq(b.data, "abc", 3);
	buf_free(&b);
	ck_assert_int_eq(env_listdir(e, "/d1/dir2", &names), 0);
	for (n = 0; names[n]; n++)
		mem_free(names[n]);
	ck_assert_int_eq(n, 1);
	mem_free(names);
	ck_assert_int_eq(env_unlink(e, "/d1/dir2/g"), 0);
	ck_assert_int_eq(env_rmdir(e, "/d1/dir2"), 0);
}

START_TEST(names)
{
	world((uint64_t)_i);
	sim_run_on(sim, node, use_names);
	end();
}
END_TEST

/* ---- power loss ---- */

static void write_synced_then_not(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_CREATE | ENV_O_DIRECT);

	ck_assert_int_eq(env_sync_dir(e, "/d1"), 0);
	fill('A', 8);
	ck_assert_int_eq(fiber_write(e, f, page, 8 * HCI_BLOCK, 0, 0), 8 * HCI_BLOCK);
	ck_assert_int_eq(fiber_fsync(e, f), 0);
	fill('B', 4);
	ck_assert_int_eq(fiber_write(e, f, page, 4 * HCI_BLOCK, 0, 0), 4 * HCI_BLOCK);
	fill('C', 1);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 5 * HCI_BLOCK, ENV_IO_DSYNC), HCI_BLOCK);
	env_close(e, f);
}

static int lost, kept, torn, grown;

static void check_power_loss(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_RDONLY | ENV_O_DIRECT);

	ck_assert_int_eq(fiber_read(e, f, page, 8 * HCI_BLOCK, 0), 8 * HCI_BLOCK);
	for (size_t b = 0; b < 8; b++) {
		unsigned as = 0, bs = 0;

		for (size_t s = 0; s < 8; s++) {
			uint8_t *sec = page + b * HCI_BLOCK + s * 512;

			ck_assert(memcmp(sec, sec + 1, 511) == 0);
			as += sec[0] == 'A';
			bs += sec[0] == 'B';
		}
		if (b == 5) {
			ck_assert_int_eq(page[b * HCI_BLOCK], 'C');
		} else if (b >= 4) {
			ck_assert_uint_eq(as, 8);
		} else {
			ck_assert_uint_eq(as + bs, 8);
			lost += as == 8;
			kept += bs == 8;
			torn += as && bs;
		}
	}
	env_close(e, f);
}

static void check_nothing_lost(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_RDONLY | ENV_O_DIRECT);

	ck_assert_int_eq(fiber_read(e, f, page, 8 * HCI_BLOCK, 0), 8 * HCI_BLOCK);
	ck_assert_int_eq(page[0], 'B');
	env_close(e, f);
}

START_TEST(power_loss_of_blocks)
{
	lost = kept = torn = 0;
	for (uint64_t seed = 0; seed < 200; seed++) {
		world(seed);
		sim_run_on(sim, node, write_synced_then_not);
		sim_node_power_loss(node);
		sim_run_on(sim, node, check_power_loss);
		end();
	}
	ck_assert_int_gt(lost, 100);
	ck_assert_int_gt(kept, 100);
	ck_assert_int_gt(torn, 50);
}
END_TEST

START_TEST(kill_loses_nothing_written)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		world(seed);
		sim_run_on(sim, node, write_synced_then_not);
		sim_node_crash(node);
		sim_run_on(sim, node, check_nothing_lost);
		end();
	}
}
END_TEST

static void make_names(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/durable", ENV_O_CREATE);

	ck_assert_int_eq(env_mkdir(e, "/d1/sub"), 0);
	ck_assert_int_eq(env_sync_dir(e, "/d1"), 0);
	env_close(e, f);
	f = must_open(e, "/d1/maybe", ENV_O_CREATE);
	env_close(e, f);
	f = must_open(e, "/d1/maybe2", ENV_O_CREATE);
	env_close(e, f);
	f = must_open(e, "/d1/sub/own", ENV_O_CREATE);
	ck_assert_int_eq(env_sync_dir(e, "/d1/sub"), 0);
	env_close(e, f);
}

static void check_names(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/durable", 0);
	int a, b;

	env_close(e, f);
	f = must_open(e, "/d1/sub/own", 0);
	env_close(e, f);
	a = env_open(e, "/d1/maybe", 0, &f);
	if (a == 0)
		env_close(e, f);
	b = env_open(e, "/d1/maybe2", 0, &f);
	if (b == 0)
		env_close(e, f);
	if (a)
		ck_assert_int_ne(b, 0);
	kept += a == 0;
	lost += a != 0;
	torn += a == 0 && b != 0;
}

START_TEST(power_loss_of_names)
{
	lost = kept = torn = 0;
	for (uint64_t seed = 0; seed < 200; seed++) {
		world(seed);
		sim_run_on(sim, node, make_names);
		sim_node_power_loss(node);
		sim_run_on(sim, node, check_names);
		end();
	}
	ck_assert_int_gt(lost, 20);
	ck_assert_int_gt(kept, 20);
	ck_assert_int_gt(torn, 20);
}
END_TEST

static void write_first(struct env *e)
{
	ck_assert_int_eq(env_write_file(e, "/d1/conf", "old", 3), 0);
}

static void write_second(struct env *e)
{
	(void)env_write_file(e, "/d1/conf", "newer", 5);
}

static void check_whole(struct env *e)
{
	struct buf b = BUF_INIT;

	ck_assert_int_eq(env_read_file(e, "/d1/conf", 100, &b), 0);
	if (b.len == 3) {
		ck_assert_mem_eq(b.data, "old", 3);
		lost++;
	} else {
		ck_assert_uint_eq(b.len, 5);
		ck_assert_mem_eq(b.data, "newer", 5);
		kept++;
	}
	buf_free(&b);
}

/* Whenever the power goes, the file is the old or the new one. */
START_TEST(whole_file_is_atomic)
{
	struct sim_run r = { .fn = write_second };

	lost = kept = 0;
	for (uint64_t seed = 0; seed < 300; seed++) {
		world(seed);
		sim_run_on(sim, node, write_first);
		r.done = false;
		sim_node_boot(node, sim_run_spawn_, &r);
		sim_run(sim, sim_rand_below(sim, 4 * NS_PER_MS));
		if (seed % 2)
			sim_node_power_loss(node);
		else
			sim_node_crash(node);
		sim_run_on(sim, node, check_whole);
		end();
	}
	ck_assert_int_gt(lost, 30);
	ck_assert_int_gt(kept, 30);
}
END_TEST

static void grow_file(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_CREATE | ENV_O_DIRECT);

	ck_assert_int_eq(env_sync_dir(e, "/d1"), 0);
	fill('A', 4);
	ck_assert_int_eq(fiber_write(e, f, page, 4 * HCI_BLOCK, 0, ENV_IO_DSYNC), 4 * HCI_BLOCK);
	ck_assert_int_eq(env_truncate(e, f, HCI_BLOCK), 0);
	env_close(e, f);
}

static void check_grown(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", 0);
	uint64_t size;

	ck_assert_int_eq(env_file_size(e, f, &size), 0);
	ck_assert(size == HCI_BLOCK || size == 4 * HCI_BLOCK);
	ck_assert_int_eq(fiber_read(e, f, page, size, 0), (int64_t)size);
	ck_assert(page[0] == 'A' && memcmp(page, page + 1, size - 1) == 0);
	grown += size == HCI_BLOCK;
	env_close(e, f);
}

/* An unsynced truncation happened as a whole, or not at all. */
START_TEST(truncation_is_atomic)
{
	grown = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		world(seed);
		sim_run_on(sim, node, grow_file);
		sim_node_power_loss(node);
		sim_run_on(sim, node, check_grown);
		end();
	}
	ck_assert_int_gt(grown, 10);
	ck_assert_int_lt(grown, 90);
}
END_TEST

/* ---- faults ---- */

static void use_broken(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_CREATE | ENV_O_DIRECT), *g;

	fill('A', 1);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, 0), HCI_BLOCK);
	sim_disk_fault(disk, SIM_DISK_EIO);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, 0), -EIO);
	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, 0), -EIO);
	ck_assert_int_eq(fiber_fsync(e, f), -EIO);
	ck_assert_int_eq(env_open(e, "/d1/f", 0, &g), -EIO);
	sim_disk_fault(disk, SIM_DISK_READONLY);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, 0), -EROFS);
	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, 0), HCI_BLOCK);
	sim_disk_fault(disk, SIM_DISK_OK);
	ck_assert_int_eq(fiber_fsync(e, f), 0);

	sim_disk_set_capacity(disk, 3 * HCI_BLOCK);
	ck_assert_int_eq(fiber_write(e, f, page, 4 * HCI_BLOCK, 0, 0), -ENOSPC);
	ck_assert_int_eq(fiber_falloc(e, f, 0, 4 * HCI_BLOCK), -ENOSPC);
	ck_assert_int_eq(fiber_write(e, f, page, 3 * HCI_BLOCK, 0, 0), 3 * HCI_BLOCK);
	env_close(e, f);
	/* Space of an unlinked file comes back. */
	ck_assert_int_eq(env_unlink(e, "/d1/f"), 0);
	f = must_open(e, "/d1/g", ENV_O_CREATE | ENV_O_DIRECT);
	ck_assert_int_eq(fiber_write(e, f, page, 3 * HCI_BLOCK, 0, 0), 3 * HCI_BLOCK);
	sim_disk_wipe(disk);
	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, 0), -EIO);
	ck_assert_uint_eq(sim_disk_used(disk), 0);
	env_close(e, f);
	ck_assert_int_eq(env_open(e, "/d1/g", 0, &f), -ENOENT);
}

START_TEST(faults)
{
	world((uint64_t)_i);
	sim_run_on(sim, node, use_broken);
	end();
}
END_TEST

static bool stalled_done;

static void use_stalled(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_CREATE | ENV_O_DIRECT);

	sim_disk_fault(disk, SIM_DISK_STALL);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, 0), HCI_BLOCK);
	stalled_done = true;
	env_close(e, f);
}

START_TEST(stall)
{
	struct sim_run r = { .fn = use_stalled };

	world((uint64_t)_i);
	stalled_done = false;
	sim_node_boot(node, sim_run_spawn_, &r);
	sim_run(sim, 100 * NS_PER_S);
	ck_assert(!stalled_done);
	sim_disk_fault(disk, SIM_DISK_OK);
	sim_run(sim, NS_PER_S);
	ck_assert(stalled_done);
	/* and one that is never answered */
	r.done = stalled_done = false;
	sim_node_boot(node, sim_run_spawn_, &r);
	sim_run(sim, NS_PER_S);
	sim_node_power_loss(node);
	sim_run(sim, NS_PER_S);
	ck_assert(!stalled_done);
	end();
}
END_TEST

/* ---- pulled out ---- */

static struct env_file *held_open; /* by a node that goes on while its disk comes and goes */

static void open_two(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_CREATE | ENV_O_DIRECT);

	fill('A', 1);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, ENV_IO_DSYNC), HCI_BLOCK);
	ck_assert_int_eq(env_sync_dir(e, "/d1"), 0);
	fill('B', 1);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 4 * HCI_BLOCK, 0), HCI_BLOCK); /* not synced */
	held_open = f;
}

static void is_gone(struct env *e)
{
	struct env_file *f;
	char **list;

	ck_assert_int_eq(fiber_read(e, held_open, page, HCI_BLOCK, 0), -EIO);
	ck_assert_int_eq(fiber_write(e, held_open, page, HCI_BLOCK, 0, 0), -EIO);
	ck_assert_int_eq(env_open(e, "/d1/f", 0, &f), -ENOENT);
	ck_assert_int_eq(env_listdir(e, "/d1", &list), -ENOENT);
}

static int unsynced_kept;

static void is_back(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/f", ENV_O_DIRECT);

	ck_assert_int_eq(fiber_read(e, held_open, page, HCI_BLOCK, 0), -EIO); /* was open on it when it went */
	env_close(e, held_open);
	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, 0), HCI_BLOCK);
	ck_assert_int_eq(page[0], 'A');
	ck_assert_int_ge(fiber_read(e, f, page, HCI_BLOCK, 4 * HCI_BLOCK), 0);
	unsynced_kept += page[0] == 'B' && page[HCI_BLOCK - 1] == 'B';
	env_close(e, f);
}

START_TEST(what_is_pulled_out_comes_back_as_after_a_power_loss)
{
	unsynced_kept = 0;
	for (uint64_t seed = 0; seed < 40; seed++) {
		world(seed);
		sim_run_on(sim, node, open_two);
		sim_disk_pull(disk);
		sim_run_on(sim, node, is_gone);
		sim_disk_fault(disk, SIM_DISK_OK);
		sim_run_on(sim, node, is_back);
		end();
	}
	ck_assert_int_gt(unsynced_kept, 4);
	ck_assert_int_lt(unsynced_kept, 36);
}
END_TEST

static void expect_char(struct env *e, const char *path, uint64_t off, int c)
{
	struct env_file *f = must_open(e, path, ENV_O_DIRECT);

	ck_assert_int_eq(fiber_read(e, f, page, HCI_BLOCK, off), HCI_BLOCK);
	ck_assert_int_eq(page[0], c);
	env_close(e, f);
}

static void here_is_the_partition(struct env *e)
{
	struct env_file *f;
	char **list;

	expect_char(e, "/d1/p0", 7 * HCI_BLOCK, 0);
	expect_char(e, "/d2/f", 0, 'A');
	ck_assert_int_eq(env_open(e, "/d1/f", 0, &f), -ENOENT);
	ck_assert_int_eq(env_listdir(e, "/d1/p0", &list), -ENOTDIR);
}

static void write_more(struct env *e)
{
	struct env_file *f = must_open(e, "/d2/f", ENV_O_DIRECT), *g = must_open(e, "/d2/g", ENV_O_CREATE | ENV_O_DIRECT);

	fill('C', 1);
	ck_assert_int_eq(fiber_write(e, f, page, HCI_BLOCK, 0, ENV_IO_DSYNC), HCI_BLOCK);
	env_close(e, f);
	env_close(e, g);
}

static void as_before(struct env *e)
{
	struct env_file *f;

	expect_char(e, "/d2/f", 0, 'A');
	ck_assert_int_eq(env_open(e, "/d2/g", 0, &f), -ENOENT);
}

START_TEST(disks_change_places_and_go_back_in_time)
{
	struct sim_disk *other;
	struct sim_image *old;
	uint64_t used;

	world(1);
	other = sim_disk_new(node, "/d2", 64 * MiB);
	sim_disk_partition(other, "/p0", 8 * HCI_BLOCK);
	sim_run_on(sim, node, open_two);
	sim_disk_pull(disk);
	sim_disk_pull(other);
	used = sim_disk_used(disk);
	sim_disk_swap(disk, other);
	ck_assert_uint_eq(sim_disk_used(disk), 8 * HCI_BLOCK);
	ck_assert_uint_eq(sim_disk_used(other), used);
	sim_disk_fault(disk, SIM_DISK_OK);
	sim_disk_fault(other, SIM_DISK_OK);
	sim_run_on(sim, node, here_is_the_partition);
	old = sim_disk_image(other);
	sim_run_on(sim, node, write_more);
	sim_disk_pull(other);
	sim_disk_restore(other, old);
	sim_disk_fault(other, SIM_DISK_OK);
	sim_run_on(sim, node, as_before);
	sim_image_free(old);
	end();
}
END_TEST

static void write_page(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/seg.7", ENV_O_CREATE | ENV_O_DIRECT);

	fill('A', 2);
	ck_assert_int_eq(fiber_write(e, f, page, 2 * HCI_BLOCK, 0, ENV_IO_DSYNC), 2 * HCI_BLOCK);
	env_close(e, f);
}

static void count_bits(struct env *e)
{
	struct env_file *f = must_open(e, "/d1/seg.7", ENV_O_DIRECT);
	int bits = 0;

	ck_assert_int_eq(fiber_read(e, f, page, 2 * HCI_BLOCK, 0), 2 * HCI_BLOCK);
	for (size_t k = 0; k < 2 * HCI_BLOCK; k++)
		bits += __builtin_popcount(page[k] ^ 'A');
	ck_assert_int_eq(bits, 1);
	env_close(e, f);
}

START_TEST(rot)
{
	world((uint64_t)_i);
	ck_assert(!sim_disk_rot(disk, "seg"));
	sim_run_on(sim, node, write_page);
	ck_assert(!sim_disk_rot(disk, "other"));
	ck_assert(sim_disk_rot(disk, "seg"));
	sim_run_on(sim, node, count_bits);
	end();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_disk");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, files, 0, 8);
	tcase_add_loop_test(t, names, 0, 8);
	tcase_add_test(t, power_loss_of_blocks);
	tcase_add_test(t, what_is_pulled_out_comes_back_as_after_a_power_loss);
	tcase_add_test(t, disks_change_places_and_go_back_in_time);
	tcase_add_test(t, kill_loses_nothing_written);
	tcase_add_test(t, power_loss_of_names);
	tcase_add_test(t, whole_file_is_atomic);
	tcase_add_test(t, truncation_is_atomic);
	tcase_add_loop_test(t, faults, 0, 8);
	tcase_add_loop_test(t, stall, 0, 8);
	tcase_add_loop_test(t, rot, 0, 8);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
