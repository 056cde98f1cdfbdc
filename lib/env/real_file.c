/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, sizes and directories of a real env: each call does its system calls on a worker thread
 * while the fiber that asked is parked. Reading and writing is in real_aio.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "env/real_impl.h"

struct req {
	const char *path, *path2;
	unsigned flags;
	int fd;
	struct env_file *file;
	uint64_t a, b;
	char **names;
	int result; /* 0 or -errno */
};

static int call(struct env *e, void (*run)(void *), struct req *q)
{
	if (fiber_self(e))
		fiber_work(e, run, q);
	else
		run(q); /* at start and end, when no loop runs yet or any more */
	return q->result;
}

/* ---- open, close, size ---- */

static void run_open(void *arg)
{
	struct req *q = arg;
	struct stat st;
	int fl = (q->flags & ENV_O_RDONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC;

	fl |= q->flags & ENV_O_CREATE ? O_CREAT : 0;
	fl |= q->flags & ENV_O_EXCL ? O_EXCL : 0;
	fl |= q->flags & ENV_O_DIRECT ? O_DIRECT : 0;
	q->fd = open(q->path, fl, 0600);
	if (q->fd < 0 || fstat(q->fd, &st)) {
		q->result = -errno;
	} else if (S_ISDIR(st.st_mode)) {
		q->result = -EISDIR;
	} else if (q->flags & ENV_O_LOCK && flock(q->fd, LOCK_EX | LOCK_NB)) {
		q->result = errno == EWOULDBLOCK ? -EBUSY : -errno;
	} else {
		q->b = S_ISBLK(st.st_mode);
		return;
	}
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
}

int real_open(struct env *e, const char *path, unsigned flags, struct env_file **out)
{
	struct req q = { .path = path, .flags = flags, .fd = -1 };
	struct env_file *f = MEM_NEW(struct env_file);
	int r = f ? call(e, run_open, &q) : -ENOMEM;

	*out = NULL;
	if (r) {
		mem_free(f);
		return r;
	}
	f->fd = q.fd;
	f->direct = flags & ENV_O_DIRECT;
	f->blockdev = q.b;
	if (f->direct)
		aio_setup(real_of(e));
	*out = f;
	return 0;
}

static void run_close(void *arg)
{
	struct req *q = arg;

	close(q->fd);
}

void real_close(struct env *e, struct env_file *f)
{
	struct req q = { .fd = f->fd };

	call(e, run_close, &q);
	mem_free(f);
}

static void run_size(void *arg)
{
	struct req *q = arg;
	struct stat st;

	if (q->file->blockdev) {
		q->result = ioctl(q->file->fd, BLKGETSIZE64, &q->a) ? -errno : 0;
		return;
	}
	q->result = fstat(q->file->fd, &st) ? -errno : 0;
	q->a = q->result ? 0 : (uint64_t)st.st_size;
}

int real_file_size(struct env *e, struct env_file *f, uint64_t *out)
{
	struct req q = { .file = f };
	int r = call(e, run_size, &q);

	*out = q.a;
	return r;
}

static void run_truncate(void *arg)
{
	struct req *q = arg;

	q->result = ftruncate(q->file->fd, (off_t)q->a) ? -errno : 0;
}

int real_truncate(struct env *e, struct env_file *f, uint64_t size)
{
	struct req q = { .file = f, .a = size };

	return call(e, run_truncate, &q);
}

/* ---- names ---- */

static void run_unlink(void *arg)
{
	struct req *q = arg;

	q->result = unlink(q->path) ? -errno : 0;
}

int real_unlink(struct env *e, const char *path)
{
	struct req q = { .path = path };

	return call(e, run_unlink, &q);
}

static void run_rename(void *arg)
{
	struct req *q = arg;

	q->result = rename(q->path, q->path2) ? -errno : 0;
}

int real_rename(struct env *e, const char *from, const char *to)
{
	struct req q = { .path = from, .path2 = to };

	return call(e, run_rename, &q);
}

static void run_mkdir(void *arg)
{
	struct req *q = arg;
	struct stat st;

	if (!mkdir(q->path, 0700))
		return;
	q->result = -errno;
	if (q->result == -EEXIST && !stat(q->path, &st) && S_ISDIR(st.st_mode))
		q->result = 0;
}

int real_mkdir(struct env *e, const char *path)
{
	struct req q = { .path = path };

	return call(e, run_mkdir, &q);
}

static void run_rmdir(void *arg)
{
	struct req *q = arg;

	q->result = rmdir(q->path) ? -errno : 0;
}

int real_rmdir(struct env *e, const char *path)
{
	struct req q = { .path = path };

	return call(e, run_rmdir, &q);
}

static void run_sync_dir(void *arg)
{
	struct req *q = arg;
	int fd = open(q->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		q->result = -errno;
	if (fd >= 0)
		close(fd);
}

int real_sync_dir(struct env *e, const char *path)
{
	struct req q = { .path = path };

	return call(e, run_sync_dir, &q);
}

static void run_statfs(void *arg)
{
	struct req *q = arg;
	struct statvfs s;

	if (statvfs(q->path, &s)) {
		q->result = -errno;
		return;
	}
	q->a = (uint64_t)s.f_bavail * s.f_frsize;
	q->b = (uint64_t)s.f_blocks * s.f_frsize;
}

int real_statfs(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct req q = { .path = path };
	int r = call(e, run_statfs, &q);

	*free_bytes = q.a;
	*total_bytes = q.b;
	return r;
}

static void run_fs_of(void *arg)
{
	struct req *q = arg;
	struct stat st;
	struct statfs fs;

	if (stat(q->path, &st) || statfs(q->path, &fs)) {
		q->result = -errno;
		return;
	}
	q->a = st.st_dev;
	q->b = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

int real_fs_of(struct env *e, const char *path, struct env_fs *out)
{
	struct req q = { .path = path };
	int r = call(e, run_fs_of, &q);

	out->id = q.a;
	out->in_ram = q.b != 0;
	return r;
}

/* ---- listing ---- */

static void free_names(char **names)
{
	char **n;

	for (n = names; n && *n; n++)
		mem_free(*n);
	mem_free(names);
}

/* names has room for cap pointers, n of them used, the last always NULL. */
static int add_name(char ***names, size_t *n, size_t *cap, const char *name)
{
	char *copy;

	if (*n + 2 > *cap) {
		size_t more = *cap ? *cap * 2 : 16;
		char **p = mem_realloc(*names, more * sizeof(*p));

		if (!p)
			return -ENOMEM;
		*names = p;
		*cap = more;
	}
	if (!name) {
		(*names)[*n] = NULL;
		return 0;
	}
	copy = mem_strdup(name);
	(*names)[*n] = copy;
	if (!copy)
		return -ENOMEM;
	(*names)[++*n] = NULL;
	return 0;
}

static void run_listdir(void *arg)
{
	struct req *q = arg;
	size_t n = 0, cap = 0;
	struct dirent *d;
	DIR *dir = opendir(q->path);

	if (!dir) {
		q->result = -errno;
		return;
	}
	q->result = add_name(&q->names, &n, &cap, NULL);
	while (!q->result && (errno = 0, d = readdir(dir))) {
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			q->result = add_name(&q->names, &n, &cap, d->d_name);
	}
	if (!q->result && errno)
		q->result = -errno;
	closedir(dir);
	if (q->result) {
		free_names(q->names);
		q->names = NULL;
	}
}

int real_listdir(struct env *e, const char *path, char ***out)
{
	struct req q = { .path = path };
	int r = call(e, run_listdir, &q);

	*out = q.names;
	return r;
}
