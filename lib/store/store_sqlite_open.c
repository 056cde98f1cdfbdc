/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the file of the sqlite store: looks at it through a read-only connection first, so that a
 * file of another program, another version or a damaged one is refused untouched; makes a new one
 * in one transaction; prepares the statements. Turns SQLite's errors into ours.
 *
 * The file itself is never opened other than through SQLite: closing a descriptor of ours would
 * drop the POSIX locks that another connection of this process holds on it
 * (sqlite.org/howtocorrupt.html, 2.2).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/boot_id.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/sqlite_impl.h"

static const char schema[] =
	"CREATE TABLE kv(key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL,"
	" create_rev INTEGER NOT NULL, mod_rev INTEGER NOT NULL, lease INTEGER NOT NULL)"
	" STRICT, WITHOUT ROWID;"
	"CREATE INDEX kv_lease ON kv(lease) WHERE lease <> 0;"
	"CREATE TABLE history(rev INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL,"
	" deleted INTEGER NOT NULL, value BLOB NOT NULL, create_rev INTEGER NOT NULL,"
	" lease INTEGER NOT NULL, PRIMARY KEY(rev, seq)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE leases(id INTEGER PRIMARY KEY NOT NULL, ttl INTEGER NOT NULL,"
	" deadline INTEGER NOT NULL, boot TEXT NOT NULL) STRICT;"
	"CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), rev INTEGER NOT NULL,"
	" compact_rev INTEGER NOT NULL, next_lease INTEGER NOT NULL,"
	" hist_bytes INTEGER NOT NULL) STRICT;"
	"INSERT INTO meta VALUES(1, 0, 0, 1, 0);";

#define KV_COLUMNS "SELECT key, value, create_rev, mod_rev, lease FROM kv "
#define HIST_DELETE                                                                           \
	"INSERT INTO history SELECT ?1, ?2 + row_number() OVER (ORDER BY key), key, 1, x'', " \
	"0, 0 FROM kv "

/* NOLINTBEGIN(bugprone-suspicious-missing-comma): long statements are in parts */
static const char *const sql[SQ_STMTS] = {
	[SQ_BEGIN_READ] = "BEGIN",
	[SQ_BEGIN_WRITE] = "BEGIN IMMEDIATE",
	[SQ_COMMIT] = "COMMIT",
	[SQ_ROLLBACK] = "ROLLBACK",
	[SQ_META_GET] = "SELECT rev, compact_rev, next_lease, hist_bytes FROM meta",
	[SQ_META_SET] =
		"UPDATE meta SET rev = ?1, compact_rev = ?2, next_lease = ?3, hist_bytes = ?4",
	[SQ_GET] = KV_COLUMNS "WHERE key = ?1",
	[SQ_RANGE_FROM] = KV_COLUMNS "WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
	[SQ_RANGE_AFTER] = KV_COLUMNS "WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3",
	[SQ_PUT] = "INSERT INTO kv VALUES(?1, ?2, ?3, ?3, ?4) ON CONFLICT(key) DO UPDATE"
		   " SET value = excluded.value, mod_rev = excluded.mod_rev, lease = excluded.lease"
		   " RETURNING create_rev",
	[SQ_DELETE] = "DELETE FROM kv WHERE key = ?1",
	[SQ_HIST_PUT] = "INSERT INTO history VALUES(?1, ?2, ?3, 0, ?4, ?5, ?6)",
	[SQ_HIST_DELETE] = "INSERT INTO history VALUES(?1, ?2, ?3, 1, x'', 0, 0)",
	[SQ_HIST_DELETE_RANGE] = HIST_DELETE "WHERE key >= ?3 AND key < ?4",
	[SQ_DELETE_RANGE] = "DELETE FROM kv WHERE key >= ?1 AND key < ?2",
	[SQ_HIST_DELETE_LEASE] = HIST_DELETE "WHERE lease = ?3 AND lease <> 0",
	[SQ_DELETE_LEASE_KEYS] = "DELETE FROM kv WHERE lease = ?1 AND lease <> 0",
	[SQ_LEASE_GRANT] = "INSERT INTO leases VALUES(?1, ?2, ?3, ?4)",
	[SQ_LEASE_LIVES] = "SELECT 1 FROM leases WHERE id = ?1 AND deadline > ?2 AND boot = ?3",
	[SQ_LEASE_KEEP] = "UPDATE leases SET deadline = ?2 + ttl"
			  " WHERE id = ?1 AND deadline > ?2 AND boot = ?3",
	[SQ_LEASE_DROP] = "DELETE FROM leases WHERE id = ?1",
	[SQ_LEASE_EXPIRED] = "SELECT id FROM leases WHERE deadline <= ?1 OR boot <> ?2"
			     " ORDER BY deadline, id LIMIT 1",
	[SQ_LEASE_NEXT] = "SELECT min(CASE WHEN boot = ?1 THEN deadline ELSE 0 END) FROM leases",
	[SQ_HIST_READ] = "SELECT rev, key, deleted, value, create_rev, lease FROM history"
			 " WHERE rev > ?1 ORDER BY rev, seq",
	[SQ_HIST_CUT] = "DELETE FROM history WHERE rev <= ?1",
	[SQ_HIST_BYTES] = "SELECT coalesce(sum(length(value) + 64), 0) FROM history",
	[SQ_DATA_VERSION] = "PRAGMA data_version",
};
/* NOLINTEND(bugprone-suspicious-missing-comma) */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t sq_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t sq_boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

int sqdb_fail(struct sqdb *db, int rc, const char *what, struct hci_error *err)
{
	const char *text = db->h ? sqlite3_errmsg(db->h) : sqlite3_errstr(rc);
	int os = db->h ? sqlite3_system_errno(db->h) : 0;
	const char *slash;

	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(err, HCI_E_BUSY, "store %s: %s: locked by another process", db->path,
			       what);
	case SQLITE_NOMEM:
		return err_set(err, HCI_E_NOMEM, "store %s: %s: out of memory", db->path, what);
	case SQLITE_FULL:
		return err_set(err, HCI_E_NOSPACE,
			       "store %s: %s: its file system is full; free some space", db->path,
			       what);
	case SQLITE_IOERR:
		return err_sys(err, HCI_E_IO, os, "store %s: %s: %s; check the disk it is on",
			       db->path, what, text);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(err, HCI_E_CORRUPT, "store %s: %s: %s; restore it from a backup",
			       db->path, what, text);
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return err_set(
			err, HCI_E_READONLY,
			"store %s: %s: cannot be written; check the owner and mode of the file "
			"and its directory",
			db->path, what);
	case SQLITE_CANTOPEN:
		if (os == ENOENT && (slash = strrchr(db->path, '/')))
			return err_set(err, HCI_E_NOTFOUND, "store %s: cannot be made: the folder %.*s is not there",
				       db->path, slash == db->path ? 1 : (int)(slash - db->path), db->path);
		return err_sys(err, os ? err_from_errno(os) : HCI_E_SYS, os,
			       "store %s: %s: cannot be opened; check the path", db->path, what);
	default:
		return err_set(err, HCI_E_INTERNAL, "store %s: %s: %s", db->path, what, text);
	}
}

/* Waits in short steps: commits take a fraction of a millisecond, SQLite's own steps go up to 100
 * ms. */
static int busy(void *arg, int n)
{
	struct sqdb *db = arg;
	uint64_t us = n < 6 ? 50u << n : 2000;

	if (sq_mono_ns() >= db->busy_until)
		return 0;
	db->jitter = db->jitter * 1103515245u + 12345u;
	usleep((useconds_t)(us / 2 + (db->jitter >> 16) % us));
	return 1;
}

static int connect_file(struct sqdb *db, const char *path, int flags, struct hci_error *err)
{
	int rc = sqlite3_open_v2(path, &db->h, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
				 NULL);

	if (rc != SQLITE_OK)
		return sqdb_fail(db, rc, "open", err);
	sqlite3_busy_handler(db->h, busy, db);
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	return 0;
}

static int exec(struct sqdb *db, const char *text, const char *what, struct hci_error *err)
{
	int rc = sqlite3_exec(db->h, text, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sqdb_fail(db, rc, what, err);
}

/* The first column of the first row: a number into *num, or a text into out. */
static int query(struct sqdb *db, const char *text, int64_t *num, char *out, size_t cap,
		 struct hci_error *err)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->h, text, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW && num)
		*num = sqlite3_column_int64(st, 0);
	if (rc == SQLITE_ROW && out)
		snprintf(out, cap, "%s", (const char *)sqlite3_column_text(st, 0));
	rc = rc == SQLITE_ROW ? 0
			      : sqdb_fail(db, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc,
					  "reading its header", err);
	sqlite3_finalize(st);
	return rc;
}

/* 0 and *empty, or why this file is not for us. */
static int check_identity(struct sqdb *db, bool *empty, struct hci_error *err)
{
	int64_t app = 0, version = 0, objects = 0;
	int rc = query(db, "PRAGMA application_id", &app, NULL, 0, err);

	if (!rc)
		rc = query(db, "PRAGMA user_version", &version, NULL, 0, err);
	if (!rc)
		rc = query(db, "SELECT count(*) FROM sqlite_schema", &objects, NULL, 0, err);
	if (rc)
		return rc;
	*empty = app == 0 && version == 0 && objects == 0;
	if (*empty)
		return 0;
	if (app != SQ_APPLICATION_ID)
		return err_set(err, HCI_E_CORRUPT,
			       "store %s: is a database of another program; give another path",
			       db->path);
	if (version != SQ_SCHEMA)
		return err_set(err, HCI_E_VERSION,
			       "store %s: its format is version %lld, this library knows %d; use "
			       "the libhci that made it",
			       db->path, (long long)version, SQ_SCHEMA);
	return 0;
}

/* Looks without touching: nothing is written through a read-only connection. */
static int inspect(struct sqdb *db, const char *path, struct hci_error *err)
{
	char text[120] = "";
	bool empty = false;
	int rc = connect_file(db, path, SQLITE_OPEN_READONLY, err);

	if (!rc)
		rc = check_identity(db, &empty, err);
	if (!rc && !empty) {
		rc = query(db, "PRAGMA quick_check(1)", NULL, text, sizeof(text), err);
		if (!rc && strcmp(text, "ok") != 0)
			rc = err_set(err, HCI_E_CORRUPT,
				     "store %s: is damaged (%s); restore it from a backup", path,
				     text);
	}
	sqlite3_close(db->h);
	db->h = NULL;
	return rc;
}

static int set_wal(struct sqdb *db, uint64_t deadline, struct hci_error *err)
{
	char mode[16];
	int rc;

	/* Changing the mode does not go through the busy handler. */
	while ((rc = query(db, "PRAGMA journal_mode=WAL", NULL, mode, sizeof(mode), err)) ==
		       HCI_E_BUSY &&
	       sq_mono_ns() < deadline)
		usleep(2000);
	if (rc)
		return rc;
	if (strcmp(mode, "wal") != 0)
		return err_set(err, HCI_E_UNSUPPORTED,
			       "store %s: its file system cannot share memory between processes "
			       "(write-ahead log refused); put it on a local ext4, XFS or btrfs",
			       db->path);
	return 0;
}

/* The schema and the file's identity come in one transaction, whoever of several processes is
 * first. */
static int create(struct sqdb *db, struct hci_error *err)
{
	char ids[96];
	bool empty;
	int rc = check_identity(db, &empty, err);

	if (rc || !empty)
		return rc;
	rc = exec(db, "BEGIN IMMEDIATE", "create", err);
	if (rc)
		return rc;
	rc = check_identity(db, &empty, err);
	if (!rc && empty) {
		snprintf(ids, sizeof(ids), "PRAGMA application_id=%d; PRAGMA user_version=%d",
			 SQ_APPLICATION_ID, SQ_SCHEMA);
		rc = exec(db, schema, "create", err);
		if (!rc)
			rc = exec(db, ids, "create", err);
	}
	if (!rc)
		rc = exec(db, "COMMIT", "create", err);
	if (rc)
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static int prepare(struct sqdb *db, struct hci_error *err)
{
	for (int i = 0; i < SQ_STMTS; i++) {
		int rc = sqlite3_prepare_v3(db->h, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
					    &db->st[i], NULL);

		if (rc == SQLITE_ERROR) /* a table or column is not there */
			rc = SQLITE_CORRUPT;
		if (rc != SQLITE_OK)
			return sqdb_fail(db, rc, "its tables are not as they should be", err);
	}
	return 0;
}

static int open_checked(struct sqdb *db, const char *path, uint64_t deadline, struct hci_error *err)
{
	struct stat st;
	int rc = boot_id(db->boot, err) ? err_prefix(err, "store %s", db->path) : 0;

	if (!rc && stat(path, &st) == 0) {
		if (!S_ISREG(st.st_mode))
			rc = err_set(err, HCI_E_INVAL,
				     "store %s: is not a regular file; give the path of one", path);
		else if (st.st_size > 0)
			rc = inspect(db, path, err);
	}
	if (!rc)
		rc = connect_file(db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (!rc && sqlite3_db_readonly(db->h, "main") == 1)
		rc = sqdb_fail(db, SQLITE_READONLY, "open", err);
	if (!rc)
		rc = set_wal(db, deadline, err);
	if (!rc)
		rc = exec(db,
			  "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA "
			  "journal_size_limit=33554432",
			  "open", err);
	if (!rc)
		rc = create(db, err);
	return rc ? rc : prepare(db, err);
}

int sqdb_open(struct sqdb *db, const char *path, uint64_t deadline, struct hci_error *err)
{
	int rc;

	*db = (struct sqdb){ .busy_until = deadline, .jitter = (uint32_t)sq_mono_ns() };
	db->path = mem_strdup(path);
	if (!db->path)
		return err_set(err, HCI_E_NOMEM, "store %s: out of memory", path);
	rc = open_checked(db, path, deadline, err);
	if (rc)
		sqdb_close(db);
	return rc;
}

void sqdb_close(struct sqdb *db)
{
	for (int i = 0; i < SQ_STMTS; i++)
		sqlite3_finalize(db->st[i]);
	sqlite3_close(db->h);
	mem_free(db->path);
	*db = (struct sqdb){ 0 };
}
