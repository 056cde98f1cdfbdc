/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness tested with toys: a "volume" that is a file on the node's own disk. Under kill -9 it
 * passes; under power losses (a bare file tears) or with a mistake in it, it is found out.
 */
#include "sim/workload.h"
#include "unit/harness.h"

#define BLOCKS 64

enum mistake { NONE, TORN, NO_SYNC, WRONG_BLOCK, ACK_BEFORE_WRITE, STALE_CACHE };

static enum mistake mistake;
static struct sim *sim;
static struct sim_node *node;
static struct sim_disk *disk;
static struct workload wl;
static struct wl_writer writer;

struct toy {
	struct env *env;
	struct env_file *file;
	uint8_t *cache; /* of block 0 */
	struct fiber_mutex mutex;
};

struct toy_io {
	struct wl_io *io;
	struct toy *toy;
};

static int toy_attach(struct env *e, void *arg, void **handle)
{
	struct toy *t = MEM_NEW(struct toy);

	(void)arg;
	t->env = e;
	fiber_mutex_init(&t->mutex);
	if (env_open(e, "/d/volume", ENV_O_CREATE | ENV_O_DIRECT, &t->file) || env_sync_dir(e, "/d"))
		return HCI_E_IO;
	if (mistake == STALE_CACHE) {
		t->cache = mem_alloc_aligned(HCI_BLOCK);
		fiber_read(e, t->file, t->cache, HCI_BLOCK, 0);
	}
	*handle = t;
	return 0;
}

static void toy_do(struct toy *t, struct wl_io *io)
{
	unsigned flags = mistake == NO_SYNC ? 0 : ENV_IO_DSYNC;
	uint64_t off = io->off;
	int64_t n = 0;

	if (mistake == WRONG_BLOCK && sim_rand_below(sim, 500) == 0)
		off = (off + HCI_BLOCK) % (BLOCKS * HCI_BLOCK);
	if (io->op == WL_READ) {
		memset(io->buf, 0, io->len);
		n = fiber_read(t->env, t->file, io->buf, io->len, io->off);
		if (t->cache && io->off == 0 && sim_rand_below(sim, 4) == 0)
			memcpy(io->buf, t->cache, HCI_BLOCK);
	} else if (io->op == WL_WRITE) {
		n = fiber_write(t->env, t->file, io->buf, io->len, off, flags);
	} else if (io->op == WL_ZERO) {
		fiber_punch(t->env, t->file, io->off, io->len);
		n = mistake == NO_SYNC ? 0 : fiber_fsync(t->env, t->file);
	}
	io->status = n < 0 ? HCI_E_IO : 0;
}

static void toy_fiber(void *arg)
{
	struct toy_io *ti = arg;
	struct wl_io *io = ti->io;
	struct toy *t = ti->toy;

	mem_free(ti);
	/* One at a time: a bare file promises nothing of writes that overlap. */
	fiber_mutex_lock(t->env, &t->mutex);
	toy_do(t, io);
	fiber_mutex_unlock(t->env, &t->mutex);
	io->done(io);
}

/* Says done first; works on a copy, as the caller goes on at once. */
static void toy_late(void *arg)
{
	struct toy_io *ti = arg;
	struct wl_io copy = *ti->io;
	struct toy *t = ti->toy;

	copy.buf = mem_alloc_aligned(copy.len);
	memcpy(copy.buf, ti->io->buf, copy.len);
	ti->io->done(ti->io);
	mem_free(ti);
	fiber_mutex_lock(t->env, &t->mutex);
	toy_do(t, &copy);
	fiber_mutex_unlock(t->env, &t->mutex);
	mem_free_aligned(copy.buf);
}

static void toy_submit(void *handle, struct wl_io *io)
{
	struct toy_io *ti = MEM_NEW(struct toy_io);
	bool late = mistake == ACK_BEFORE_WRITE && io->op == WL_WRITE;

	ti->io = io;
	ti->toy = handle;
	ck_assert_int_eq(fiber_spawn(ti->toy->env, late ? toy_late : toy_fiber, ti, "toy"), 0);
}

static bool toy_over(void *handle)
{
	(void)handle;
	return false;
}

static void toy_detach(void *handle)
{
	struct toy *t = handle;

	env_close(t->env, t->file);
	mem_free_aligned(t->cache);
	mem_free(t);
}

static const struct wl_ops toy_ops = { toy_attach, toy_submit, toy_over, toy_detach };

static void writer_fiber(void *arg)
{
	wl_writer_run(arg, &writer);
}

static void boot(struct env *e, void *arg)
{
	(void)arg;
	ck_assert_int_eq(fiber_spawn(e, writer_fiber, e, "writer"), 0);
}

/* True: the history was broken. */
static bool play(uint64_t seed, uint64_t *digest)
{
	struct sim_opts o = SIM_OPTS_INIT;
	bool broken;

	o.seed = seed;
	sim = sim_new(&o);
	node = sim_node_new(sim, "a");
	disk = sim_disk_new(node, "/d", 64 * MiB);
	wl_init(&wl, sim, BLOCKS, seed, &toy_ops);
	wl.think_ns = 2 * NS_PER_MS;
	writer = (struct wl_writer){ .wl = &wl };
	for (int k = 0; k < 12 && !history_violation(wl.history); k++) {
		sim_node_boot(node, boot, NULL);
		sim_run(sim, sim_rand_below(sim, NS_PER_S));
		if (mistake == TORN || mistake == NO_SYNC)
			sim_node_power_loss(node);
		else
			sim_node_crash(node);
		wl_writer_crashed(&writer);
	}
	broken = history_violation(wl.history) != NULL;
	if (broken && mistake == NONE)
		fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, history_violation(wl.history));
	*digest = sim_digest(sim) ^ history_digest(wl.history);
	ck_assert_uint_gt(wl.reads + wl.writes, 50);
	sim_free(sim);
	wl_free(&wl);
	return broken;
}

START_TEST(proper_one_passes)
{
	uint64_t digest, again;

	mistake = NONE;
	for (uint64_t seed = 0; seed < 30; seed++)
		ck_assert(!play(seed, &digest));
	play(7, &digest);
	play(7, &again);
	ck_assert_uint_eq(digest, again);
}
END_TEST

START_TEST(mistakes_are_found)
{
	uint64_t seed, digest;

	mistake = (enum mistake)_i;
	for (seed = 0; seed < 20; seed++) {
		if (play(seed, &digest))
			break;
	}
	ck_assert_uint_lt(seed, 20);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_workload");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, proper_one_passes);
	tcase_add_loop_test(t, mistakes_are_found, TORN, STALE_CACHE + 1);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
