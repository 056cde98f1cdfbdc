/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What requests do, in SQL: reads, transactions, leases, and the history that watches are fed from.
 * Everything runs inside a transaction that the caller began; nothing here waits or retries.
 */
#include "base/err.h"
#include "base/mem.h"
#include "store/sqlite_impl.h"

sqlite3_stmt *sq_stmt(struct sqdb *db, enum sq_stmt which)
{
	sqlite3_reset(db->st[which]);
	return db->st[which];
}

static void bind_u64(sqlite3_stmt *st, int i, uint64_t v)
{
	sqlite3_bind_int64(st, i, (int64_t)v);
}

static void bind_text(sqlite3_stmt *st, int i, const char *s)
{
	sqlite3_bind_text(st, i, s, -1, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *st, int i, const void *p, uint32_t n)
{
	if (n)
		sqlite3_bind_blob(st, i, p, (int)n, SQLITE_STATIC);
	else
		sqlite3_bind_zeroblob(st, i, 0); /* NULL would not do */
}

/* Keys are below 0x7f: the first key that has no such prefix any more. */
static void bind_end(sqlite3_stmt *st, int i, const char *prefix)
{
	size_t n = strlen(prefix);
	char end[STORE_KEY_MAX + 2];

	memcpy(end, prefix, n + 1);
	if (n)
		end[n - 1]++;
	else
		memcpy(end, "\x7f", 2);
	sqlite3_bind_text(st, i, end, -1, SQLITE_TRANSIENT);
}

/* For statements that return no rows, or one that the caller has read. */
static int run(struct sqdb *db, sqlite3_stmt *st, const char *what, struct hci_error *err)
{
	int rc = sqlite3_step(st);

	while (rc == SQLITE_ROW)
		rc = sqlite3_step(st);
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : sqdb_fail(db, rc, what, err);
}

/* ---- transactions ---- */

static int load_meta(struct sqdb *db, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_META_GET);
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW) {
		db->rev = (uint64_t)sqlite3_column_int64(st, 0);
		db->compact_rev = (uint64_t)sqlite3_column_int64(st, 1);
		db->next_lease = (uint64_t)sqlite3_column_int64(st, 2);
		db->hist_bytes = (uint64_t)sqlite3_column_int64(st, 3);
		db->meta_dirty = false;
	}
	sqlite3_reset(st);
	return rc == SQLITE_ROW ? 0
				: sqdb_fail(db, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc,
					    "reading table meta", err);
}

/* Whoever writes to a file that was deleted or replaced would write for nobody. */
static int check_moved(struct sqdb *db, struct hci_error *err)
{
	int moved = 0;

	if (sqlite3_file_control(db->h, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	    moved)
		return err_set(err, HCI_E_UNAVAILABLE,
			       "store %s: the file was deleted or replaced; put it back or restart",
			       db->path);
	return 0;
}

int sqdb_begin(struct sqdb *db, bool write, uint64_t busy_until, struct hci_error *err)
{
	int rc;

	db->busy_until = busy_until;
	rc = run(db, sq_stmt(db, write ? SQ_BEGIN_WRITE : SQ_BEGIN_READ), "begin", err);
	if (rc)
		return rc;
	rc = load_meta(db, err);
	if (!rc && write)
		rc = check_moved(db, err);
	if (rc)
		sqdb_rollback(db);
	return rc;
}

void sqdb_rollback(struct sqdb *db)
{
	if (!sqlite3_get_autocommit(db->h))
		run(db, sq_stmt(db, SQ_ROLLBACK), "rollback", NULL);
}

static int compact(struct sqdb *db, struct hci_error *err)
{
	uint64_t keep = SQ_HISTORY_REVS;
	sqlite3_stmt *st;
	int rc;

	if (db->hist_bytes > SQ_HISTORY_BYTES)
		keep = MIN(keep, (db->rev - db->compact_rev) / 2);
	else if (db->rev - db->compact_rev <= SQ_HISTORY_REVS + SQ_HISTORY_REVS / 10)
		return 0;
	db->compact_rev = db->rev - keep;
	st = sq_stmt(db, SQ_HIST_CUT);
	bind_u64(st, 1, db->compact_rev);
	rc = run(db, st, "compact", err);
	if (rc)
		return rc;
	st = sq_stmt(db, SQ_HIST_BYTES);
	if (sqlite3_step(st) == SQLITE_ROW)
		db->hist_bytes = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return 0;
}

static int save_meta(struct sqdb *db, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_META_SET);

	bind_u64(st, 1, db->rev);
	bind_u64(st, 2, db->compact_rev);
	bind_u64(st, 3, db->next_lease);
	bind_u64(st, 4, db->hist_bytes);
	return run(db, st, "writing table meta", err);
}

int sqdb_commit(struct sqdb *db, struct hci_error *err)
{
	int rc = 0;

	if (db->meta_dirty) {
		rc = compact(db, err);
		if (!rc)
			rc = save_meta(db, err);
	}
	if (!rc) {
		rc = run(db, sq_stmt(db, SQ_COMMIT), "commit", err);
		/* The log may hold the commit although its sync failed: nobody knows. */
		if (rc == HCI_E_IO && err)
			rc = err->code = HCI_E_UNAVAILABLE;
		else if (rc == HCI_E_IO)
			rc = HCI_E_UNAVAILABLE;
	}
	if (rc)
		sqdb_rollback(db);
	return rc;
}

int64_t sqdb_data_version(struct sqdb *db)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_DATA_VERSION);
	int64_t v = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;

	sqlite3_reset(st);
	return v;
}

/* ---- reads ---- */

bool sq_column_kv(sqlite3_stmt *st, int key, int value, struct store_kv *kv)
{
	const char *k = (const char *)sqlite3_column_text(st, key);
	const void *v = sqlite3_column_blob(st, value);
	int n = sqlite3_column_bytes(st, value);

	kv->key = k ? mem_strdup(k) : NULL;
	kv->value = mem_alloc(n ? (size_t)n : 1);
	kv->value_len = (uint32_t)n;
	if (!kv->key || !kv->value) {
		store_kv_clear(kv);
		return false;
	}
	if (n)
		memcpy(kv->value, v, (size_t)n);
	return true;
}

static int no_memory(struct sqdb *db, struct hci_error *err)
{
	return err_set(err, HCI_E_NOMEM, "store %s: out of memory", db->path);
}

static int add_row(struct store_result *r, size_t *cap, sqlite3_stmt *st)
{
	struct store_kv *kv;

	if (r->n == *cap) {
		size_t want = *cap ? *cap * 2 : 8;

		kv = mem_realloc(r->kvs, want * sizeof(*kv));
		if (!kv)
			return HCI_E_NOMEM;
		r->kvs = kv;
		*cap = want;
	}
	kv = &r->kvs[r->n];
	*kv = (struct store_kv){
		.create_rev = (uint64_t)sqlite3_column_int64(st, 2),
		.mod_rev = (uint64_t)sqlite3_column_int64(st, 3),
		.lease = (uint64_t)sqlite3_column_int64(st, 4),
	};
	if (!sq_column_kv(st, 0, 1, kv))
		return HCI_E_NOMEM;
	r->n++;
	return 0;
}

static int read_rows(struct sqdb *db, sqlite3_stmt *st, struct store_req *q, uint32_t limit,
		     struct hci_error *err)
{
	struct store_result *r = &q->result;
	uint64_t bytes = 0;
	size_t cap = 0;
	int rc;

	r->revision = db->rev;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (r->n == limit || bytes > SQ_ANSWER_BYTES) {
			r->more = true;
			rc = SQLITE_DONE;
			break;
		}
		if (add_row(r, &cap, st)) {
			sqlite3_reset(st);
			store_result_free(r);
			return no_memory(db, err);
		}
		bytes += r->kvs[r->n - 1].value_len;
	}
	sqlite3_reset(st);
	if (rc == SQLITE_DONE)
		return 0;
	store_result_free(r);
	return sqdb_fail(db, rc, "reading", err);
}

static int do_get(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_GET);

	bind_text(st, 1, q->key);
	return read_rows(db, st, q, 1, err);
}

static int do_range(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	bool after = q->after && strcmp(q->after, q->key) >= 0;
	sqlite3_stmt *st = sq_stmt(db, after ? SQ_RANGE_AFTER : SQ_RANGE_FROM);

	bind_text(st, 1, after ? q->after : q->key);
	bind_end(st, 2, q->key);
	bind_u64(st, 3, (uint64_t)q->limit + 1);
	return read_rows(db, st, q, q->limit, err);
}

/* ---- writes; db->rev + 1 is the revision in the making, db->seq counts its events ---- */

static int revision_end(struct sqdb *db)
{
	if (db->seq) {
		db->rev++;
		db->meta_dirty = true;
		db->hist_bytes += db->seq * 64;
	}
	db->seq = 0;
	return 0;
}

/* One row, or none: its first column, or 0. */
static int first_u64(struct sqdb *db, sqlite3_stmt *st, uint64_t *out, struct hci_error *err)
{
	int rc = sqlite3_step(st);

	*out = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	if (rc == SQLITE_ROW)
		rc = SQLITE_DONE;
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? 0 : sqdb_fail(db, rc, "reading", err);
}

static int put(struct sqdb *db, const struct store_op *op, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_PUT);
	uint64_t create_rev = 0;
	int rc;

	bind_text(st, 1, op->key);
	bind_blob(st, 2, op->value, op->value_len);
	bind_u64(st, 3, db->rev + 1);
	bind_u64(st, 4, op->lease);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		create_rev = (uint64_t)sqlite3_column_int64(st, 0);
		rc = sqlite3_step(st);
	}
	sqlite3_reset(st);
	if (rc != SQLITE_DONE)
		return sqdb_fail(db, rc, "put", err);
	st = sq_stmt(db, SQ_HIST_PUT);
	bind_u64(st, 1, db->rev + 1);
	bind_u64(st, 2, ++db->seq);
	bind_text(st, 3, op->key);
	bind_blob(st, 4, op->value, op->value_len);
	bind_u64(st, 5, create_rev);
	bind_u64(st, 6, op->lease);
	db->hist_bytes += op->value_len;
	return run(db, st, "put", err);
}

static int delete_key(struct sqdb *db, const char *key, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_DELETE);
	int rc;

	bind_text(st, 1, key);
	rc = run(db, st, "delete", err);
	if (rc || sqlite3_changes(db->h) == 0)
		return rc;
	st = sq_stmt(db, SQ_HIST_DELETE);
	bind_u64(st, 1, db->rev + 1);
	bind_u64(st, 2, ++db->seq);
	bind_text(st, 3, key);
	return run(db, st, "delete", err);
}

static int delete_prefix(struct sqdb *db, const char *prefix, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_HIST_DELETE_RANGE);
	int rc;

	bind_u64(st, 1, db->rev + 1);
	bind_u64(st, 2, db->seq);
	bind_text(st, 3, prefix);
	bind_end(st, 4, prefix);
	rc = run(db, st, "delete", err);
	if (rc)
		return rc;
	db->seq += (uint64_t)sqlite3_changes(db->h);
	st = sq_stmt(db, SQ_DELETE_RANGE);
	bind_text(st, 1, prefix);
	bind_end(st, 2, prefix);
	return run(db, st, "delete", err);
}

static int apply(struct sqdb *db, const struct store_op *op, struct hci_error *err)
{
	switch (op->kind) {
	case STORE_PUT:
		return put(db, op, err);
	case STORE_DELETE:
		return delete_key(db, op->key, err);
	default:
		return delete_prefix(db, op->key, err);
	}
}

static int compare(struct sqdb *db, const struct store_cmp *c, bool *holds, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_GET);
	uint64_t mod = 0;
	int rc;

	bind_text(st, 1, c->key);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		mod = (uint64_t)sqlite3_column_int64(st, 3);
		rc = SQLITE_DONE;
	}
	sqlite3_reset(st);
	*holds = c->kind == STORE_CMP_EXISTS ? mod != 0 : mod == c->rev;
	return rc == SQLITE_DONE ? 0 : sqdb_fail(db, rc, "reading", err);
}

static int lease_lives(struct sqdb *db, uint64_t lease, bool *lives, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_LIVES);
	uint64_t one = 0;
	int rc;

	bind_u64(st, 1, lease);
	bind_u64(st, 2, sq_boot_ns());
	bind_text(st, 3, db->boot);
	rc = first_u64(db, st, &one, err);
	*lives = one == 1;
	return rc;
}

/* All that can refuse the transaction is asked before anything is changed. */
static int do_txn(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	int rc = 0;
	bool ok = true;

	for (size_t i = 0; i < q->ncmp && ok && !rc; i++)
		rc = compare(db, &q->cmps[i], &ok, err);
	if (rc)
		return rc;
	if (!ok) {
		q->code = HCI_E_CONFLICT;
		return 0;
	}
	for (size_t i = 0; i < q->nop && ok && !rc; i++)
		if (q->ops[i].kind == STORE_PUT && q->ops[i].lease)
			rc = lease_lives(db, q->ops[i].lease, &ok, err);
	if (rc)
		return rc;
	if (!ok) {
		q->code = HCI_E_FENCED;
		return 0;
	}
	for (size_t i = 0; i < q->nop && !rc; i++)
		rc = apply(db, &q->ops[i], err);
	if (!rc)
		revision_end(db);
	q->revision = db->rev;
	return rc;
}

/* ---- leases ---- */

static int end_lease(struct sqdb *db, uint64_t lease, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_DROP);
	int rc;

	bind_u64(st, 1, lease);
	rc = run(db, st, "ending a lease", err);
	if (rc || lease == 0)
		return rc;
	st = sq_stmt(db, SQ_HIST_DELETE_LEASE);
	bind_u64(st, 1, db->rev + 1);
	bind_u64(st, 2, db->seq);
	bind_u64(st, 3, lease);
	rc = run(db, st, "ending a lease", err);
	if (rc)
		return rc;
	db->seq += (uint64_t)sqlite3_changes(db->h);
	st = sq_stmt(db, SQ_DELETE_LEASE_KEYS);
	bind_u64(st, 1, lease);
	rc = run(db, st, "ending a lease", err);
	return rc ? rc : revision_end(db);
}

int sqdb_expire(struct sqdb *db, struct hci_error *err)
{
	for (;;) {
		sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_EXPIRED);
		uint64_t id;
		int rc;

		bind_u64(st, 1, sq_boot_ns());
		bind_text(st, 2, db->boot);
		rc = first_u64(db, st, &id, err);
		if (rc || id == 0)
			return rc;
		rc = end_lease(db, id, err);
		if (rc)
			return rc;
	}
}

uint64_t sqdb_next_expiry(struct sqdb *db)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_NEXT);
	uint64_t at = UINT64_MAX;

	bind_text(st, 1, db->boot);
	db->busy_until = 0;
	if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL)
		at = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return at;
}

static int do_grant(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_GRANT);

	q->lease = db->next_lease++;
	db->meta_dirty = true;
	bind_u64(st, 1, q->lease);
	bind_u64(st, 2, q->ttl_ns);
	bind_u64(st, 3, sq_boot_ns() + q->ttl_ns);
	bind_text(st, 4, db->boot);
	return run(db, st, "granting a lease", err);
}

static int do_keepalive(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	sqlite3_stmt *st = sq_stmt(db, SQ_LEASE_KEEP);
	int rc;

	bind_u64(st, 1, q->lease);
	bind_u64(st, 2, sq_boot_ns());
	bind_text(st, 3, db->boot);
	rc = run(db, st, "keeping a lease", err);
	if (!rc && sqlite3_changes(db->h) == 0)
		q->code = HCI_E_NOTFOUND;
	return rc;
}

int sqdb_request(struct sqdb *db, struct store_req *q, struct hci_error *err)
{
	q->code = 0;
	db->seq = 0;
	switch (q->kind) {
	case STORE_REQ_GET:
		return do_get(db, q, err);
	case STORE_REQ_RANGE:
		return do_range(db, q, err);
	case STORE_REQ_TXN:
		return do_txn(db, q, err);
	case STORE_REQ_GRANT:
		return do_grant(db, q, err);
	case STORE_REQ_KEEPALIVE:
		return do_keepalive(db, q, err);
	case STORE_REQ_REVOKE:
		return end_lease(db, q->lease, err);
	}
	return err_set(err, HCI_E_INTERNAL, "store %s: unknown request", db->path);
}
