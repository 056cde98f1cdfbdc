/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the real env: O_DIRECT and buffered I/O, batches beyond what the kernel takes, errors,
 * names. */
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "env/real_impl.h"
#include "unit/env/real.h"

static void many_body(struct env *e);

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 31 + seed + (i >> 12));
}

/* ---- reading and writing ---- */

static void rw_body(struct env *e, unsigned flags)
{
	size_t len = 64 * HCI_BLOCK;
	uint8_t *w = mem_alloc_aligned(len), *r = mem_alloc_aligned(len);
	struct env_file *f;
	uint64_t size;

	ck_assert_int_eq(env_open(e, scratch_path("rw"), ENV_O_CREATE | flags, &f), 0);
	fill(w, len, 1);
	ck_assert_int_eq(fiber_write(e, f, w, len, HCI_BLOCK, 0), (int64_t)len);
	ck_assert_int_eq(fiber_fsync(e, f), 0);
	ck_assert_int_eq(env_file_size(e, f, &size), 0);
	ck_assert_uint_eq(size, len + HCI_BLOCK);
	ck_assert_int_eq(fiber_read(e, f, r, len, HCI_BLOCK), (int64_t)len);
	ck_assert_int_eq(memcmp(w, r, len), 0);
	/* The hole before it, the end after it. */
	ck_assert_int_eq(fiber_read(e, f, r, HCI_BLOCK, 0), HCI_BLOCK);
	ck_assert_uint_eq(r[0] | r[HCI_BLOCK - 1], 0);
	ck_assert_int_eq(fiber_read(e, f, r, len, len), HCI_BLOCK);
	ck_assert_int_eq(fiber_read(e, f, r, len, 4 * len), 0);
	ck_assert_int_eq(fiber_write(e, f, w, HCI_BLOCK, 0, ENV_IO_DSYNC), HCI_BLOCK);
	ck_assert_int_eq(fiber_punch(e, f, HCI_BLOCK, HCI_BLOCK), 0);
	ck_assert_int_eq(fiber_read(e, f, r, 3 * HCI_BLOCK, 0), 3 * HCI_BLOCK);
	ck_assert_int_eq(memcmp(r, w, HCI_BLOCK), 0);
	ck_assert_uint_eq(r[HCI_BLOCK] | r[2 * HCI_BLOCK - 1], 0);
	ck_assert_int_eq(memcmp(r + 2 * HCI_BLOCK, w + HCI_BLOCK, HCI_BLOCK), 0);
	ck_assert_int_eq(fiber_falloc(e, f, len * 4, len), 0);
	ck_assert_int_eq(env_file_size(e, f, &size), 0);
	ck_assert_uint_eq(size, len * 5);
	ck_assert_int_eq(env_truncate(e, f, HCI_BLOCK), 0);
	ck_assert_int_eq(fiber_read(e, f, r, len, 0), HCI_BLOCK);
	env_close(e, f);
	mem_free_aligned(w);
	mem_free_aligned(r);
}

static void direct_body(struct env *e)
{
	rw_body(e, ENV_O_DIRECT);
}

static void buffered_body(struct env *e)
{
	rw_body(e, 0);
}

/* As when fs.aio-max-nr is used up. */
static void threads_body(struct env *e)
{
	real_of(e)->aio.tried = true;
	rw_body(e, ENV_O_DIRECT);
	many_body(e);
}

START_TEST(direct_files_where_aio_is_not_to_be_had)
{
	with_env(threads_body);
}
END_TEST

START_TEST(direct_files)
{
	with_env(direct_body);
}
END_TEST

START_TEST(buffered_files)
{
	with_env(buffered_body);
}
END_TEST

/* ---- scattered, and more in flight than the kernel's queue holds ---- */

#define MANY 3000

struct one {
	struct env_io io;
	struct many *m;
	uint8_t *buf;
	unsigned n, dones;
};
struct many {
	struct env *env;
	struct fiber *fiber;
	unsigned left, bad;
	struct one *ones;
};

static void one_done(struct env_io *io)
{
	struct one *o = container_of(io, struct one, io);

	o->dones++;
	if (io->result != HCI_BLOCK)
		o->m->bad++;
	if (!--o->m->left)
		fiber_wake(o->m->env, o->m->fiber);
}

static void submit_all(struct many *m, struct env_file *f, enum env_io_op op)
{
	unsigned i;

	m->left = MANY;
	for (i = 0; i < MANY; i++) {
		struct one *o = &m->ones[i];

		o->m = m;
		o->n = i;
		env_io_prep(&o->io, op, f, o->buf, HCI_BLOCK, (uint64_t)i * HCI_BLOCK, one_done);
		env_submit(m->env, &o->io);
		ck_assert_uint_eq(m->left, MANY); /* never from inside */
	}
	while (m->left)
		fiber_park(m->env);
}

static void many_body(struct env *e)
{
	struct many m = { .env = e, .fiber = fiber_self(e) };
	struct env_file *f;
	unsigned i;

	m.ones = calloc(MANY, sizeof(*m.ones));
	for (i = 0; i < MANY; i++) {
		m.ones[i].buf = mem_alloc_aligned(HCI_BLOCK);
		fill(m.ones[i].buf, HCI_BLOCK, i);
	}
	ck_assert_int_eq(env_open(e, scratch_path("many"), ENV_O_CREATE | ENV_O_DIRECT, &f), 0);
	submit_all(&m, f, ENV_WRITE);
	for (i = 0; i < MANY; i++)
		memset(m.ones[i].buf, 0, HCI_BLOCK);
	submit_all(&m, f, ENV_READ);
	ck_assert_uint_eq(m.bad, 0);
	for (i = 0; i < MANY; i++) {
		uint8_t want[HCI_BLOCK];

		fill(want, sizeof(want), i);
		ck_assert_int_eq(memcmp(m.ones[i].buf, want, HCI_BLOCK), 0);
		ck_assert_uint_eq(m.ones[i].dones, 2);
		mem_free_aligned(m.ones[i].buf);
	}
	free(m.ones);
	env_close(e, f);
}

START_TEST(more_in_flight_than_the_kernel_takes)
{
	with_env(many_body);
}
END_TEST

static void vec_done(struct env_io *io)
{
	struct one *o = container_of(io, struct one, io);

	o->dones++;
	fiber_wake(o->m->env, o->m->fiber);
}

static void vec_body(struct env *e)
{
	struct many m = { .env = e, .fiber = fiber_self(e) };
	struct one o = { .m = &m };
	uint8_t *buf = mem_alloc_aligned(40 * HCI_BLOCK), *back = mem_alloc_aligned(40 * HCI_BLOCK);
	struct iovec v[20];
	struct env_file *f;
	unsigned i;

	fill(buf, 40 * HCI_BLOCK, 9);
	for (i = 0; i < 20; i++)
		v[i] = (struct iovec){ buf + (size_t)(19 - i) * 2 * HCI_BLOCK, 2 * HCI_BLOCK };
	ck_assert_int_eq(env_open(e, scratch_path("vec"), ENV_O_CREATE | ENV_O_DIRECT, &f), 0);
	env_io_prep(&o.io, ENV_WRITE, f, NULL, 0, 0, vec_done);
	o.io.iov = v;
	o.io.niov = 20;
	env_submit(e, &o.io);
	fiber_park(e);
	ck_assert_int_eq(o.io.result, 40 * HCI_BLOCK);
	ck_assert_int_eq(fiber_read(e, f, back, 40 * HCI_BLOCK, 0), 40 * HCI_BLOCK);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(
			memcmp(back + (size_t)i * 2 * HCI_BLOCK, v[i].iov_base, 2 * HCI_BLOCK), 0);
	/* A read over the end gives what is there. */
	o.io.op = ENV_READ;
	o.io.off = 20 * HCI_BLOCK;
	env_submit(e, &o.io);
	fiber_park(e);
	ck_assert_int_eq(o.io.result, 20 * HCI_BLOCK);
	env_close(e, f);
	mem_free_aligned(buf);
	mem_free_aligned(back);
}

START_TEST(scattered_buffers)
{
	with_env(vec_body);
}
END_TEST

/* ---- errors ---- */

static void errors_body(struct env *e)
{
	uint8_t *b = mem_alloc_aligned(HCI_BLOCK);
	struct env_file *f;
	struct buf got = BUF_INIT;

	ck_assert_int_eq(env_open(e, scratch_path("none"), ENV_O_RDONLY, &f), -ENOENT);
	ck_assert_ptr_null(f);
	ck_assert_int_eq(
		env_open(e, scratch_path("x"), ENV_O_CREATE | ENV_O_EXCL | ENV_O_DIRECT, &f), 0);
	env_close(e, f);
	ck_assert_int_eq(env_open(e, scratch_path("x"), ENV_O_CREATE | ENV_O_EXCL, &f), -EEXIST);
	ck_assert_int_eq(env_open(e, scratch(), ENV_O_RDONLY, &f), -EISDIR);
	/* Read-only: refused by AIO and by the workers alike. */
	ck_assert_int_eq(env_open(e, scratch_path("x"), ENV_O_RDONLY | ENV_O_DIRECT, &f), 0);
	ck_assert_int_eq(fiber_write(e, f, b, HCI_BLOCK, 0, 0), -EBADF);
	ck_assert_int_eq(fiber_punch(e, f, 0, HCI_BLOCK), -EBADF);
	env_close(e, f);
	/* Misaligned. */
	ck_assert_int_eq(env_open(e, scratch_path("x"), ENV_O_DIRECT, &f), 0);
	ck_assert_int_eq(fiber_write(e, f, b, HCI_BLOCK, 100, 0), -EINVAL);
	env_close(e, f);
	ck_assert_int_eq(env_unlink(e, scratch_path("none")), -ENOENT);
	ck_assert_int_eq(env_read_file(e, scratch_path("none"), 10, &got), -ENOENT);
	mem_free_aligned(b);
}

START_TEST(errors_come_back_as_errno)
{
	with_env(errors_body);
}
END_TEST

/* A file system that fills up under a write. Needs root for the mount; a mount namespace of its
 * own. */
static void full_body(struct env *e)
{
	size_t len = 1 << 20;
	uint8_t *b = mem_alloc_aligned(len);
	struct env_file *f;
	uint64_t free_bytes, total, off = 0;
	int64_t r;
	char path[200];

	memset(b, 7, len);
	snprintf(path, sizeof(path), "%s/f", scratch_path("tmpfs"));
	ck_assert_int_eq(env_open(e, path, ENV_O_CREATE, &f), 0);
	while ((r = fiber_write(e, f, b, len, off, 0)) > 0)
		off += len;
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_le(off, 4 << 20);
	ck_assert_int_eq(fiber_falloc(e, f, 64 << 20, len), -ENOSPC);
	ck_assert_int_eq(env_statfs(e, scratch_path("tmpfs"), &free_bytes, &total), 0);
	ck_assert_uint_eq(total, 4 << 20);
	ck_assert_uint_lt(free_bytes, len);
	env_close(e, f);
	ck_assert_int_eq(env_unlink(e, path), 0);
	mem_free_aligned(b);
}

START_TEST(a_full_file_system)
{
	const char *dir = scratch_path("tmpfs");

	if (geteuid() || mkdir(dir, 0700) || mount("tmpfs", dir, "tmpfs", 0, "size=4m")) {
		fprintf(stderr, "a_full_file_system: left out: cannot mount a tmpfs here\n");
		return;
	}
	with_env(full_body);
	umount2(dir, MNT_DETACH);
}
END_TEST

/* ---- names ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_body(struct env *e)
{
	char **names, path[200];
	unsigned i, n = 0;
	struct buf b = BUF_INIT;
	const char *d = scratch_path("dir");

	ck_assert_int_eq(env_mkdir(e, d), 0);
	ck_assert_int_eq(env_mkdir(e, d), 0);
	for (i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "%s/n%02u", d, i);
		ck_assert_int_eq(env_write_file(e, path, path, i), 0);
	}
	ck_assert_int_eq(env_sync_dir(e, d), 0);
	ck_assert_int_eq(env_listdir(e, d, &names), 0);
	while (names[n])
		n++;
	ck_assert_uint_eq(n, 100);
	qsort(names, n, sizeof(*names), by_name);
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "n%02u", i);
		ck_assert_str_eq(names[i], path);
		mem_free(names[i]);
	}
	mem_free(names);
	snprintf(path, sizeof(path), "%s/n42", d);
	ck_assert_int_eq(env_read_file(e, path, 41, &b), -EFBIG);
	ck_assert_int_eq(env_read_file(e, path, 42, &b), 0);
	ck_assert_uint_eq(b.len, 42);
	ck_assert_int_eq(memcmp(b.data, path, 42 > strlen(path) ? strlen(path) : 42), 0);
	ck_assert_int_eq(env_write_file(e, path, "new", 3), 0);
	buf_reset(&b);
	ck_assert_int_eq(env_read_file(e, path, 100, &b), 0);
	ck_assert_uint_eq(b.len, 3);
	buf_free(&b);
	ck_assert_int_eq(env_rename(e, path, scratch_path("moved")), 0);
	ck_assert_int_eq(env_rmdir(e, d), -ENOTEMPTY);
	for (i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "%s/n%02u", d, i);
		ck_assert_int_eq(env_unlink(e, path), i == 42 ? -ENOENT : 0);
	}
	ck_assert_int_eq(env_listdir(e, d, &names), 0);
	ck_assert_ptr_null(names[0]);
	mem_free(names);
	ck_assert_int_eq(env_rmdir(e, d), 0);
	ck_assert_int_eq(env_listdir(e, d, &names), -ENOENT);
	ck_assert_int_eq(env_write_file(e, scratch_path("no/such"), "x", 1), -ENOENT);
}

START_TEST(names_and_whole_files)
{
	with_env(names_body);
}
END_TEST

/* ---- the end with I/O in flight ---- */

static void late_done(struct env_io *io)
{
	struct one *o = container_of(io, struct one, io);

	o->dones++;
	ck_assert(io->result == HCI_BLOCK || io->result == -ECANCELED);
	/* Asking for more during the end is refused, and that too arrives. */
	if (o->dones == 1)
		env_submit(o->m->env, io);
}

static struct one *late;
static struct env_file *late_file;
static struct many late_many;

static void late_body(struct env *e)
{
	unsigned i;

	ck_assert_int_eq(env_open(e, scratch_path("late"), ENV_O_CREATE | ENV_O_DIRECT, &late_file),
			 0);
	late_many.env = e;
	for (i = 0; i < 500; i++) {
		late[i].m = &late_many;
		late[i].buf = mem_alloc_aligned(HCI_BLOCK);
		memset(late[i].buf, 1, HCI_BLOCK);
		env_io_prep(&late[i].io, i % 3 ? ENV_WRITE : ENV_READ, late_file, late[i].buf,
			    HCI_BLOCK, i % 3 ? i * HCI_BLOCK : 0, late_done);
		if (i % 3 == 0)
			late[i].io.op = ENV_WRITE;
		env_submit(e, &late[i].io);
	}
}

START_TEST(an_end_with_io_in_flight_completes_it_once)
{
	struct env_real_opts o = { .name = "test" };
	struct hci_error err;
	struct env *e = env_real_new(&o, &err);
	unsigned i;

	late = calloc(500, sizeof(*late));
	ck_assert_ptr_nonnull(e);
	late_many.env = e;
	late_body(e); /* outside a fiber: opens without parking */
	env_free(e);
	for (i = 0; i < 500; i++) {
		ck_assert_uint_eq(late[i].dones, 2);
		mem_free_aligned(late[i].buf);
	}
	free(late);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_file");
	TCase *t = tcase_create("file");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, scratch_remove);
	tcase_add_test(t, direct_files);
	tcase_add_test(t, buffered_files);
	tcase_add_test(t, direct_files_where_aio_is_not_to_be_had);
	tcase_add_test(t, more_in_flight_than_the_kernel_takes);
	tcase_add_test(t, scattered_buffers);
	tcase_add_test(t, errors_come_back_as_errno);
	tcase_add_test(t, a_full_file_system);
	tcase_add_test(t, names_and_whole_files);
	tcase_add_test(t, an_end_with_io_in_flight_completes_it_once);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
