/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a disk of an empty directory. The superblock comes last: a directory where this was cut
 * off is not a disk, and doing it again is fine. The log is logfile.c's.
 *
 * A disk that lost its log is wiped and made anew here, under another UUID: its superblock goes
 * first, so that nobody ever takes what is left of it for a disk.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define NEW_SUPER "superblock.new" /* until it is whole on the medium */

static int fail(struct hci_error *err, const char *path, int rc, const char *what)
{
	return err_sys(err, err_from_errno(-rc), -rc, "cannot format disk %s: %s", path, what);
}

/* What a format that was cut off leaves behind is no hindrance: without a superblock it is no disk.
 */
static bool is_leftover(const char *name)
{
	return strcmp(name, "lost+found") == 0 || strcmp(name, "vol") == 0 ||
	       strcmp(name, "lock") == 0 || strcmp(name, "log") == 0 || strcmp(name, "scrub") == 0 ||
	       strcmp(name, NEW_SUPER) == 0;
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
		return err_set(err, HCI_E_EXISTS,
			       "cannot format disk %s: the directory is not empty (%s): give an empty one, such as a new one below it",
			       path, found);
	return 0;
}

/* The superblock's pair: 0, -ENOENT when there is none. */
static int super_load(struct env *e, const char *path, uint8_t *pair)
{
	char *name = mem_printf("%s/superblock", path);
	struct env_file *f;
	int rc = name ? env_open(e, name, ENV_O_DIRECT, &f) : -ENOMEM;
	int64_t n;

	mem_free(name);
	if (rc)
		return rc;
	memset(pair, 0, PAGE_PAIR);
	n = fiber_read(e, f, pair, PAGE_PAIR, 0);
	env_close(e, f);
	return n < 0 ? (int)n : 0;
}

/* What was a disk once may hold the last copy of something: whoever empties it is to know what it is. */
static int check_no_disk(struct env *e, const char *path, struct hci_error *err)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	char id[HCI_UUID_STR];
	unsigned which;
	int rc = pair ? super_load(e, path, pair) : -ENOMEM;

	if (rc || page_pick(pair, SUPER_MAGIC, SUPER_VERSION, NULL, &which, NULL) != PAGE_VALID) {
		mem_free_aligned(pair);
		return 0; /* check_empty() says what is there */
	}
	uuid_print(&((struct super_page *)(pair + which * (size_t)HCI_BLOCK))->h.disk, id);
	mem_free_aligned(pair);
	return err_set(err, HCI_E_EXISTS, "cannot format disk %s: it was disk %s of libhci: empty it to use it again", path, id);
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
	s->lsn = 1;
	if (o->log_path) {
		s->flags = SUPER_EXT_LOG;
		snprintf(s->log_path, sizeof(s->log_path), "%s", o->log_path);
	}
	s->created = env_realtime(e);
	s->flags |= SUPER_CLEAN;
	s->block = HCI_BLOCK;
	s->region = REPL_REGION;
	env_random(e, &s->log_key, sizeof(s->log_key));
	page_seal(s, SUPER_MAGIC, SUPER_VERSION, 1, &o->uuid);
	memcpy((uint8_t *)s + HCI_BLOCK, s, HCI_BLOCK);
	n = fiber_write(e, f, s, PAGE_PAIR, 0, 0);
	mem_free_aligned(s);
	return n < 0 ? (int)n : fiber_fsync(e, f);
}

static int make(struct env *e, const char *dir, const char *name, uint64_t size,
		const struct repl_disk_opts *o)
{
	char *path = mem_printf("%s/%s", dir, name);
	struct env_file *f = NULL;
	int rc = path ? env_open(e, path, ENV_O_CREATE | ENV_O_DIRECT, &f) : -ENOMEM;

	mem_free(path);
	if (rc)
		return rc;
	if (strcmp(name, NEW_SUPER) == 0)
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

/* ---- wiping ---- */

static int unlink_in(struct env *e, const char *dir, const char *name)
{
	char *path = mem_printf("%s/%s", dir, name);
	int rc = path ? env_unlink(e, path) : -ENOMEM;

	mem_free(path);
	return rc == -ENOENT ? 0 : rc;
}

static void free_names(char **names)
{
	for (unsigned i = 0; names && names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

static int wipe_vol(struct env *e, const char *vol, const char *name)
{
	char *dir = mem_printf("%s/%s", vol, name), **names = NULL;
	int rc = dir ? env_listdir(e, dir, &names) : -ENOMEM;

	for (unsigned i = 0; !rc && names[i]; i++)
		rc = unlink_in(e, dir, names[i]);
	free_names(names);
	if (!rc)
		rc = env_rmdir(e, dir);
	mem_free(dir);
	return rc;
}

/* Only what is named like a slot: whatever else is in there is not ours, and makes the format fail. */
static int wipe_vols(struct env *e, const char *path)
{
	char *vol = mem_printf("%s/vol", path), **names = NULL;
	struct uuid u;
	int rc = vol ? env_listdir(e, vol, &names) : -ENOMEM;

	if (rc == -ENOENT)
		rc = 0;
	for (unsigned i = 0; !rc && names && names[i]; i++)
		rc = uuid_parse(names[i], &u) ? wipe_vol(e, vol, names[i]) : -ENOTEMPTY;
	free_names(names);
	if (!rc && vol)
		rc = env_rmdir(e, vol);
	mem_free(vol);
	return rc == -ENOENT ? 0 : rc;
}

static int remove_super(struct env *e, const char *path)
{
	char *lock = mem_printf("%s/lock", path);
	struct env_file *f;
	int rc = lock ? env_open(e, lock, ENV_O_CREATE | ENV_O_LOCK, &f) : -ENOMEM;

	mem_free(lock);
	if (rc)
		return rc;
	rc = unlink_in(e, path, "superblock");
	env_close(e, f);
	return rc ? rc : env_sync_dir(e, path);
}

/* Of no other disk than the one that is replaced, or of what is left of it, is a byte touched. */
static int wipe(struct env *e, const char *path, const struct repl_disk_opts *o, struct hci_error *err)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	unsigned which;
	int rc = pair ? super_load(e, path, pair) : -ENOMEM;
	bool other = !rc && page_pick(pair, SUPER_MAGIC, SUPER_VERSION, &o->replaces, &which, NULL) != PAGE_VALID;

	mem_free_aligned(pair);
	if (other)
		return 0; /* the directory is not empty: that is said next */
	ENV_MARK_STATE(e, "disk that lost its log is wiped:whole,what is left", rc != 0, 2);
	if (!rc)
		rc = remove_super(e, path);
	if (!rc || rc == -ENOENT)
		rc = wipe_vols(e, path);
	if (!rc)
		logfile_forget(e, path, o, &o->replaces);
	return rc ? fail(err, path, rc, "cannot wipe the disk that was there") : 0;
}

static int make_super(struct env *e, const char *path, uint64_t size, const struct repl_disk_opts *o)
{
	char *from = mem_printf("%s/" NEW_SUPER, path), *to = mem_printf("%s/superblock", path);
	int rc = from && to ? make(e, path, NEW_SUPER, size, o) : -ENOMEM;

	if (!rc)
		rc = env_rename(e, from, to);
	mem_free(from);
	mem_free(to);
	return rc ? rc : env_sync_dir(e, path);
}

int repl_disk_format(struct env *e, const char *path, const struct repl_disk_opts *o,
		     struct hci_error *err)
{
	uint64_t size = 0;
	int rc = 0;

	if (uuid_is_null(&o->uuid))
		return err_set(err, HCI_E_INVAL, "cannot format disk %s: it needs a UUID", path);
	if (o->log_path && strlen(o->log_path) >= sizeof(((struct super_page *)0)->log_path))
		return err_set(err, HCI_E_RANGE, "cannot format disk %s: the log's path is too long", path);
	if (!uuid_is_null(&o->replaces))
		rc = wipe(e, path, o, err);
	if (!rc)
		rc = check_no_disk(e, path, err);
	if (!rc)
		rc = check_empty(e, path, err);
	if (!rc) /* what a format that was cut off left takes the room of what this one makes */
		logfile_forget(e, path, o, &o->uuid);
	if (!rc)
		rc = logfile_size(e, path, o, &size, err);
	if (rc)
		return rc;
	rc = make_vol_dir(e, path);
	if (!rc)
		rc = make(e, path, "lock", 0, o);
	if (rc)
		return fail(err, path, rc, "cannot write its files");
	if (logfile_make(e, path, o, size, 0, 1, err))
		return err_prefix(err, "cannot format disk %s", path);
	rc = env_sync_dir(e, path);
	if (!rc)
		rc = make_super(e, path, size, o);
	return rc ? fail(err, path, rc, "cannot write its files") : 0;
}
