/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the log is: a file of the disk's directory, or on another device, which may be gone one day. Makes it,
 * finds it, and tells whether it is the newest: the disk's superblock and the log's checkpoint both carry the
 * epoch, and the checkpoint gets each new one first. So a log with an epoch below the superblock's is an old
 * copy, and a disk that was not closed clean must not be opened without the log that goes with it.
 *
 * The log is written full of zeroes when it is made: appending is overwriting from the first day, the file system
 * has nothing to allocate or to journal then.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define CHUNK MiB
#define LOG_DEFAULT (256 * MiB)
#define LOG_DEFAULT_EXT (4 * GiB)
#define PROBE (128 * KiB) /* of a device: signatures of file systems and volume managers lie in here */

static int fail(struct hci_error *err, const char *path, int rc, const char *what)
{
	return err_sys(err, err_from_errno(-rc), -rc, "write log %s: %s", path, what);
}

static void free_names(char **names)
{
	for (unsigned i = 0; names && names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

/* The file or device. -errno: there is nothing at log_path. */
static int find(struct env *e, const char *disk, const char *log_path, const struct uuid *uuid, char **out, bool *device)
{
	char u[HCI_UUID_STR], **names = NULL;
	int rc;

	*device = false;
	if (!log_path) {
		*out = mem_printf("%s/log", disk);
		return *out ? 0 : -ENOMEM;
	}
	uuid_print(uuid, u);
	rc = env_listdir(e, log_path, &names);
	free_names(names);
	*device = rc == -ENOTDIR;
	if (rc && !*device)
		return rc;
	*out = *device ? mem_strdup(log_path) : mem_printf("%s/hci-%s.log", log_path, u);
	return *out ? 0 : -ENOMEM;
}

/* ---- making ---- */

static int device_size(struct env *e, const char *path, uint64_t *size)
{
	struct env_file *f;
	int rc = env_open(e, path, ENV_O_DIRECT, &f);

	if (rc)
		return rc;
	rc = env_file_size(e, f, size);
	env_close(e, f);
	return rc;
}

/* What there is room for, all in all. */
static int room_of(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t *room, bool *device)
{
	uint64_t total;
	char *path = NULL;
	int rc = find(e, disk, o->log_path, &o->uuid, &path, device);

	if (!rc && *device)
		rc = device_size(e, path, room);
	else if (!rc)
		rc = env_statfs(e, o->log_path ? o->log_path : disk, room, &total);
	mem_free(path);
	return rc;
}

int logfile_size(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t *size, struct hci_error *err)
{
	const char *where = o->log_path ? o->log_path : disk;
	uint64_t reserve = o->reserve ? o->reserve : 64 * MiB, room, total = 0, keep;
	bool device;
	int rc = room_of(e, disk, o, &room, &device);

	if (!rc && !o->log_path)
		rc = env_statfs(e, disk, &room, &total);
	if (rc)
		return fail(err, where, rc, o->log_path ? "no directory or device to put it in" : "cannot tell the free space");
	keep = device ? RING_OFF : o->log_path ? RING_OFF + MiB : reserve;
	room -= MIN(room, keep);
	if (o->log_size)
		*size = o->log_size;
	else if (!o->log_path)
		*size = ROUND_DOWN(MIN(LOG_DEFAULT, total / 8), MiB);
	else
		*size = ROUND_DOWN(MIN(LOG_DEFAULT_EXT, device ? room : room / 2), MiB);
	*size = ROUND_DOWN(MAX(*size, LOG_SIZE_MIN), HCI_BLOCK);
	if (*size > LOG_SIZE_MAX)
		return err_set(err, HCI_E_RANGE, "write log %s: more than 64 GiB is not supported", where);
	if (room < *size)
		return err_set(err, HCI_E_NOSPACE,
			       "write log %s: %llu bytes are free for it, it needs %llu: ask for a smaller log or use a larger "
			       "device",
			       where, (unsigned long long)room, (unsigned long long)*size);
	return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* A device is taken if nobody seems to use it, or if it holds the log of this very disk, or of the one it replaces. */
static int check_unused(struct env *e, struct env_file *f, const char *path, const struct repl_disk_opts *o,
			struct hci_error *err)
{
	uint8_t *p = mem_alloc_aligned(PROBE);
	int64_t n = p ? fiber_read(e, f, p, PROBE, 0) : -ENOMEM;
	const struct page_hdr *h;
	unsigned which;
	bool ours = false;

	if (n == PROBE && page_pick(p, CKPT_MAGIC, CKPT_VERSION, NULL, &which, NULL) == PAGE_VALID) {
		h = (const void *)(p + which * HCI_BLOCK);
		ours = uuid_eq(&h->disk, &o->uuid) || uuid_eq(&h->disk, &o->replaces);
	}
	ours |= n == PROBE && all_zero(p, PROBE);
	mem_free_aligned(p);
	if (n < 0)
		return fail(err, path, (int)n, "cannot read the device");
	return ours ? 0
		    : err_set(err, HCI_E_EXISTS,
			      "write log %s: the device is not empty: if what is on it is not needed, overwrite its "
			      "beginning with zeroes",
			      path);
}

/*
 * The ring first, the checkpoints last: a device on which this was cut off shows whose it was (check_unused). Of a checkpoint's page only
 * the first sector is not zero, so it is not torn.
 */
static int fill(struct env *e, struct env_file *f, uint64_t size, bool device, const struct uuid *uuid, uint64_t epoch,
		uint64_t lsn)
{
	uint8_t *buf = mem_alloc_aligned(CHUNK);
	struct ckpt_page *c = (void *)buf;
	int64_t n = 0;
	int rc = buf ? 0 : -ENOMEM;

	if (!rc && !device)
		rc = fiber_falloc(e, f, 0, RING_OFF + size);
	if (buf)
		memset(buf, 0, CHUNK);
	for (uint64_t off = RING_OFF; !rc && off < RING_OFF + size; off += CHUNK) {
		n = fiber_write(e, f, buf, MIN(CHUNK, RING_OFF + size - off), off, 0);
		rc = n < 0 ? (int)n : 0;
	}
	if (!rc)
		rc = fiber_fsync(e, f);
	if (!rc) {
		n = fiber_write(e, f, buf, HCI_BLOCK, 0, ENV_IO_DSYNC);
		rc = n < 0 ? (int)n : 0;
	}
	if (!rc) {
		c->tail_lsn = lsn;
		c->min_epoch = c->epoch = epoch;
		page_seal(c, CKPT_MAGIC, CKPT_VERSION, 1, uuid);
		n = fiber_write(e, f, c, HCI_BLOCK, HCI_BLOCK, 0);
		rc = n < 0 ? (int)n : 0;
	}
	mem_free_aligned(buf);
	return rc ? rc : fiber_fsync(e, f);
}

int logfile_make(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t size, uint64_t epoch,
		 uint64_t lsn, struct hci_error *err)
{
	const char *where = o->log_path ? o->log_path : disk;
	struct env_file *f;
	char *path = NULL;
	bool device;
	int rc = find(e, disk, o->log_path, &o->uuid, &path, &device);

	if (!rc)
		rc = env_open(e, path, ENV_O_DIRECT | ENV_O_LOCK | (device ? 0 : ENV_O_CREATE), &f);
	if (rc) {
		mem_free(path);
		return fail(err, where, rc, rc == -EBUSY ? "it is the log of another disk that is open" : "cannot make it");
	}
	rc = device ? check_unused(e, f, path, o, err) : 0;
	if (!rc) {
		/* The name first: if the device went away and another is in its place now, what is open on it tells by the end. */
		rc = device ? 0 : env_sync_dir(e, where);
		if (!rc)
			rc = fill(e, f, size, device, &o->uuid, epoch, lsn);
		rc = rc ? fail(err, where, rc, "cannot write it") : 0;
	}
	env_close(e, f);
	mem_free(path);
	return rc;
}

/*
 * A disk that was given up for its log may have it back by now, too late: nobody will ever want it, and it takes the room of the
 * new one. If it cannot be removed the new one says what it has no room for.
 */
void logfile_forget(struct env *e, const char *disk, const struct repl_disk_opts *o, const struct uuid *of)
{
	char *path = NULL;
	bool device;

	if (!o->log_path)
		return;
	if (!find(e, disk, o->log_path, of, &path, &device) && !device && !env_unlink(e, path) &&
	    !env_sync_dir(e, o->log_path)) /* now there is room */
		log_info(env_log(e), "disk %s: the write log %s, which is of no use, is removed", disk, path);
	mem_free(path);
}

/* ---- finding it again ---- */

enum { LOST_GONE, LOST_OTHER, LOST_OLD, LOST_SHORT };

/* A log that is not the one that belongs to the disk, and what that means. */
static int lost(struct repl_disk *d, const struct repl_disk_opts *o, int why, const char *path, int os_errno,
		struct hci_error *err)
{
	static const char *const text[] = { [LOST_GONE] = "cannot be opened or read",
					    [LOST_OTHER] = "is not the log of this disk",
					    [LOST_OLD] = "is an old copy",
					    [LOST_SHORT] = "is cut short" };
	bool clean = d->super->flags & SUPER_CLEAN;
	bool final = (why == LOST_OLD || why == LOST_SHORT || o->log_renew) && !clean;
	int rc = final ? HCI_E_STATE : HCI_E_UNAVAILABLE;

	ENV_MARK_STATE(d->e, "log is lost:gone,another's,old,short", why, 4);
	if (final)
		return err_set(err, rc,
			       "disk %s: its write log %s %s%s%s: what it held last is lost with it, the disk has to be emptied "
			       "and filled again from the other replicas",
			       d->path, path, text[why], os_errno ? ": " : "", os_errno ? strerror(os_errno) : "");
	return err_set(err, rc, "disk %s: its write log %s %s%s%s: bring the device back%s", d->path, path, text[why],
		       os_errno ? ": " : "", os_errno ? strerror(os_errno) : "",
		       clean ? "; nothing is lost, the log was empty" : "");
}

/* 0, or negative with *why. */
static int check_bound(struct repl_disk *d, struct env_file *f, int *why)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	const struct ckpt_page *c;
	uint64_t size = 0;
	unsigned which = 0;
	enum page_state st;
	int64_t n = pair ? fiber_read(d->e, f, pair, PAGE_PAIR, 0) : -ENOMEM;
	int rc = n < 0 ? (int)n : env_file_size(d->e, f, &size);

	*why = LOST_GONE;
	if (!rc) {
		st = n == PAGE_PAIR ? page_pick(pair, CKPT_MAGIC, CKPT_VERSION, NULL, &which, NULL) : PAGE_EMPTY;
		c = (const void *)(pair + which * HCI_BLOCK);
		rc = -ESTALE;
		if (st == PAGE_VERSION)
			rc = 0; /* recovery says so */
		else if (st != PAGE_VALID || !uuid_eq(&c->h.disk, &d->uuid))
			*why = LOST_OTHER;
		else if (c->epoch < d->super->epoch)
			*why = LOST_OLD;
		else if (size < RING_OFF + d->super->log_size)
			*why = LOST_SHORT;
		else
			rc = 0;
	}
	mem_free_aligned(pair);
	return rc;
}

static int renew(struct repl_disk *d, const char *log_path, const char *path, struct hci_error *err)
{
	struct repl_disk_opts o = { .uuid = d->uuid, .log_path = log_path };
	bool clean = d->super->flags & SUPER_CLEAN; /* always, but for REPL_MUTATE_LOG_RENEWED */
	int rc = logfile_make(d->e, d->path, &o, d->super->log_size, d->super->epoch, clean ? d->super->lsn : UINT64_C(1) << 40, err);

	ENV_MARK(d->e, "empty log is made anew");
	if (!rc)
		log_warn(env_log(d->e), "disk %s: its write log %s was lost while it was empty: made anew", d->path, path);
	return rc == HCI_E_EXISTS ? rc : rc ? HCI_E_UNAVAILABLE : 0;
}

static int try_open(struct repl_disk *d, const char *path, int *why, int *os_errno)
{
	struct env_file *f;
	int rc = env_open(d->e, path, ENV_O_DIRECT | ENV_O_LOCK, &f);

	*why = LOST_GONE;
	*os_errno = rc == -EBUSY ? EBUSY : rc ? -rc : 0;
	if (rc)
		return rc;
	rc = check_bound(d, f, why);
	if (rc) {
		*os_errno = *why == LOST_GONE ? -rc : 0;
		env_close(d->e, f);
		return rc;
	}
	d->logf = f;
	return 0;
}

static int open_ext(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err)
{
	char old[sizeof(d->super->log_path) + 1];
	const char *log_path = o->log_path ? o->log_path : old;
	int why = LOST_GONE, os_errno = 0, rc;
	bool device;

	snprintf(old, sizeof(old), "%.*s", (int)sizeof(d->super->log_path), d->super->log_path);
	rc = find(d->e, d->path, log_path, &d->uuid, &d->log_path, &device);
	if (rc == -ENOMEM)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory", d->path);
	if (rc)
		return lost(d, o, LOST_GONE, log_path, -rc, err);
	rc = try_open(d, d->log_path, &why, &os_errno);
	if (rc && o->log_renew && os_errno != EBUSY &&
	    (d->super->flags & SUPER_CLEAN || d->mutate & REPL_MUTATE_LOG_RENEWED)) {
		rc = renew(d, log_path, d->log_path, err);
		if (rc)
			return rc;
		rc = try_open(d, d->log_path, &why, &os_errno);
	}
	return rc ? lost(d, o, why, d->log_path, os_errno, err) : 0;
}

static int open_int(struct repl_disk *d, struct hci_error *err)
{
	uint64_t size, want = RING_OFF + d->super->log_size;
	int rc;

	d->log_path = disk_path(d, "log");
	rc = d->log_path ? env_open(d->e, d->log_path, ENV_O_DIRECT, &d->logf) : -ENOMEM;
	if (rc)
		return rc == -ENOENT ? err_set(err, HCI_E_CORRUPT, "disk %s: its log is gone: take the disk out of its pool",
					       d->path)
				     : disk_sys_error(d, rc, "cannot open the log", err);
	rc = env_file_size(d->e, d->logf, &size);
	if (rc)
		return disk_sys_error(d, rc, "cannot tell the size of the log", err);
	if (size < want)
		return err_set(err, HCI_E_CORRUPT,
			       "disk %s: the log has %llu bytes instead of %llu: take the disk out of its pool", d->path,
			       (unsigned long long)size, (unsigned long long)want);
	return 0;
}

int logfile_open(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err)
{
	return d->super->flags & SUPER_EXT_LOG ? open_ext(d, o, err) : open_int(d, err);
}
