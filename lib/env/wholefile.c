/* SPDX-License-Identifier: Apache-2.0 */
/* Whole small files over the calls of env.h, the same in the real and the simulated world. */
#include <errno.h>

#include "base/buf.h"
#include "base/mem.h"
#include "env/env_impl.h"

static int read_into(struct env *e, struct env_file *f, size_t max, struct buf *out)
{
	uint64_t size, got = 0;
	uint8_t *p;
	int r = env_file_size(e, f, &size);

	if (r)
		return r;
	if (size > max)
		return -EFBIG;
	p = mem_alloc(size ? size : 1);
	if (!p)
		return -ENOMEM;
	while (got < size) {
		int64_t n = fiber_read(e, f, p + got, size - got, got);

		if (n <= 0) {
			r = (int)n;
			break;
		}
		got += (uint64_t)n;
	}
	if (!r) {
		buf_append(out, p, got);
		r = out->failed ? -ENOMEM : 0;
	}
	mem_free(p);
	return r;
}

int env_read_file(struct env *e, const char *path, size_t max, struct buf *out)
{
	struct env_file *f;
	int r = env_open(e, path, ENV_O_RDONLY, &f);

	if (r)
		return r;
	r = read_into(e, f, max, out);
	env_close(e, f);
	return r;
}

/* The directory a path is in, to be freed. */
static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return mem_strdup("/");
	return mem_printf("%.*s", (int)(slash - path), path);
}

static int write_temp(struct env *e, const char *temp, const void *data, size_t len)
{
	struct env_file *f;
	int r = env_open(e, temp, ENV_O_CREATE, &f);

	if (r)
		return r;
	r = env_truncate(e, f, 0);
	if (!r && len) {
		int64_t n = fiber_write(e, f, data, len, 0, 0);

		r = n < 0 ? (int)n : 0;
	}
	if (!r)
		r = fiber_fsync(e, f);
	env_close(e, f);
	return r;
}

int env_write_file(struct env *e, const char *path, const void *data, size_t len)
{
	char *temp = mem_printf("%s.new", path), *dir = parent_of(path);
	int r = temp && dir ? 0 : -ENOMEM;

	if (!r)
		r = write_temp(e, temp, data, len);
	if (!r)
		r = env_rename(e, temp, path);
	if (!r)
		r = env_sync_dir(e, dir);
	else if (temp)
		env_unlink(e, temp);
	mem_free(temp);
	mem_free(dir);
	return r;
}
