/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a disk of an empty directory. The superblock comes last: a directory where this was cut
 * off is not a disk, and doing it again is fine. The log is written full of zeroes, so that
 * appending is overwriting from the first day: the file system has nothing to allocate or to
 * journal then.
 */
#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define CHUNK MiB
#define LOG_DEFAULT (256 * MiB)

static int fail(struct hci_error *err, const char *path, int rc, const char *what)
{
	return err_sys(err, err_from_errno(-rc), -rc, "cannot format disk %s: %s", path, what);
}

/* What a format that was cut off leaves behind is no hindrance: without a superblock it is no disk.
 */
static bool is_leftover(const char *name)
{
	return strcmp(name, "lost+found") == 0 || strcmp(name, "vol") == 0 ||
	       strcmp(name, "lock") == 0 || strcmp(name, "log") == 0;
}

static int check_empty(struct env *e, const char *path, struct hci_error *err)
{
	char **names = NULL, found[64] = "";
	int rc = env_listdir(e, path, &names);

	if (rc)
		return fail(err, path, rc, "cannot list the directory");
	for (unsigned i = 0; names[i]; i++) {
		if (!is_leftover(names[i]) && !*found)
			strncat(found, names[i], sizeof(found) - 1);
		mem_free(names[i]);
	}
	mem_free(names);
	if (*found)
		return err_set(
			err, HCI_E_EXISTS,
			"cannot format disk %s: the directory is not empty (%s): remove what is in "
			"it if it is not needed",
			path, found);
	return 0;
}

static int log_size(struct env *e, const char *path, const struct repl_disk_opts *o, uint64_t *size,
		    struct hci_error *err)
{
	uint64_t reserve = o->reserve ? o->reserve : 64 * MiB, free_bytes, total;
	int rc = env_statfs(e, path, &free_bytes, &total);

	if (rc)
		return fail(err, path, rc, "cannot tell its free space");
	*size = o->log_size ? o->log_size : ROUND_DOWN(MIN(LOG_DEFAULT, total / 8), MiB);
	*size = ROUND_DOWN(MAX(*size, LOG_SIZE_MIN), HCI_BLOCK);
	if (*size > LOG_SIZE_MAX)
		return err_set(err, HCI_E_RANGE,
			       "cannot format disk %s: a log of more than 64 GiB is not supported",
			       path);
	if (free_bytes < *size + reserve)
		return err_set(
			err, HCI_E_NOSPACE,
			"cannot format disk %s: %llu bytes are free, log and reserve need %llu: "
			"ask for a smaller log or use a larger disk",
			path, (unsigned long long)free_bytes,
			(unsigned long long)(*size + reserve));
	return 0;
}

static int write_log(struct env *e, struct env_file *f, uint64_t size, const struct uuid *uuid)
{
	uint8_t *buf = mem_alloc_aligned(CHUNK);
	struct ckpt_page *c = (void *)buf;
	int64_t n = 0;
	int rc = buf ? fiber_falloc(e, f, 0, RING_OFF + size) : -ENOMEM;

	if (buf)
		memset(buf, 0, CHUNK);
	for (uint64_t off = 0; !rc && off < RING_OFF + size; off += CHUNK) {
		n = fiber_write(e, f, buf, MIN(CHUNK, RING_OFF + size - off), off, 0);
		rc = n < 0 ? (int)n : 0;
	}
	if (!rc) {
		c->tail_lsn = 1;
		page_seal(c, CKPT_MAGIC, CKPT_VERSION, 1, uuid);
		n = fiber_write(e, f, c, HCI_BLOCK, HCI_BLOCK, 0);
		rc = n < 0 ? (int)n : 0;
	}
	mem_free_aligned(buf);
	return rc ? rc : fiber_fsync(e, f);
}

static int write_super(struct env *e, struct env_file *f, uint64_t size,
		       const struct repl_disk_opts *o)
{
	struct super_page *s = mem_alloc_aligned(PAGE_PAIR);
	int64_t n;

	if (!s)
		return -ENOMEM;
	memset(s, 0, PAGE_PAIR);
	s->cluster = o->cluster;
	s->log_size = size;
	s->created = env_realtime(e);
	s->flags = SUPER_CLEAN;
	s->block = HCI_BLOCK;
	s->region = REPL_REGION;
	page_seal(s, SUPER_MAGIC, SUPER_VERSION, 1, &o->uuid);
	memcpy((uint8_t *)s + HCI_BLOCK, s, HCI_BLOCK);
	n = fiber_write(e, f, s, PAGE_PAIR, 0, 0);
	mem_free_aligned(s);
	return n < 0 ? (int)n : fiber_fsync(e, f);
}

/* Makes a file and hands it to fill(). */
static int make(struct env *e, const char *dir, const char *name, uint64_t size,
		const struct repl_disk_opts *o)
{
	char *path = mem_printf("%s/%s", dir, name);
	struct env_file *f = NULL;
	int rc = path ? env_open(e, path, ENV_O_CREATE | ENV_O_DIRECT, &f) : -ENOMEM;

	mem_free(path);
	if (rc)
		return rc;
	if (strcmp(name, "log") == 0)
		rc = write_log(e, f, size, &o->uuid);
	else if (strcmp(name, "superblock") == 0)
		rc = write_super(e, f, size, o);
	env_close(e, f);
	return rc;
}

static int make_vol_dir(struct env *e, const char *dir)
{
	char *path = mem_printf("%s/vol", dir);
	int rc = path ? env_mkdir(e, path) : -ENOMEM;

	mem_free(path);
	return rc;
}

int repl_disk_format(struct env *e, const char *path, const struct repl_disk_opts *o,
		     struct hci_error *err)
{
	uint64_t size = 0;
	int rc;

	if (uuid_is_null(&o->uuid))
		return err_set(err, HCI_E_INVAL, "cannot format disk %s: it needs a UUID", path);
	rc = check_empty(e, path, err);
	if (!rc)
		rc = log_size(e, path, o, &size, err);
	if (rc)
		return rc;
	rc = make_vol_dir(e, path);
	if (!rc)
		rc = make(e, path, "lock", 0, o);
	if (!rc)
		rc = make(e, path, "log", size, o);
	if (!rc)
		rc = env_sync_dir(e, path);
	if (!rc)
		rc = make(e, path, "superblock", size, o);
	if (!rc)
		rc = env_sync_dir(e, path);
	return rc ? fail(err, path, rc, "cannot write its files") : 0;
}
