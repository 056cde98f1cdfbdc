/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the sqlite driver, and by nobody else:
 *   store_sqlite.c        the loop's side, the thread, the order of work
 *   store_sqlite_open.c   opening, checking and making the file; errors
 *   store_sqlite_ops.c    transactions, leases, history: SQL
 *   store_sqlite_watch.c  feeding watches, the doorbell
 */
#ifndef STORE_SQLITE_IMPL_H
#define STORE_SQLITE_IMPL_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/boot_id.h"
#include "store/driver.h"

#define SQ_APPLICATION_ID 0x48434953 /* "HCIS" */
#define SQ_SCHEMA 1
#define SQ_HISTORY_REVS 10000u      /* that watches can go back */
#define SQ_HISTORY_BYTES (64 * MiB) /* or fewer, when they are large */
#define SQ_ANSWER_BYTES (32 * MiB)  /* of one range, which then says there is more */
#define SQ_GROUP_MAX 64u            /* requests in one commit */

enum sq_stmt {
	SQ_BEGIN_READ,
	SQ_BEGIN_WRITE,
	SQ_COMMIT,
	SQ_ROLLBACK,
	SQ_META_GET,
	SQ_META_SET,
	SQ_GET,
	SQ_RANGE_FROM,
	SQ_RANGE_AFTER,
	SQ_PUT,
	SQ_DELETE,
	SQ_HIST_PUT,
	SQ_HIST_DELETE,
	SQ_HIST_DELETE_RANGE,
	SQ_DELETE_RANGE,
	SQ_HIST_DELETE_LEASE,
	SQ_DELETE_LEASE_KEYS,
	SQ_LEASE_GRANT,
	SQ_LEASE_LIVES,
	SQ_LEASE_KEEP,
	SQ_LEASE_DROP,
	SQ_LEASE_EXPIRED,
	SQ_LEASE_NEXT,
	SQ_HIST_READ,
	SQ_HIST_CUT,
	SQ_HIST_BYTES,
	SQ_DATA_VERSION,
	SQ_STMTS,
};

/* One connection; only its thread touches it. */
struct sqdb {
	sqlite3 *h;
	char *path;
	char boot[BOOT_ID]; /* boot_id of the machine: leases of another one are over */
	sqlite3_stmt *st[SQ_STMTS];
	uint64_t busy_until; /* mono_ns() when waiting for another process' lock ends */
	uint32_t jitter;
	/* of the transaction under way */
	uint64_t rev, compact_rev, next_lease, hist_bytes;
	uint64_t seq; /* events of the revision being made */
	bool meta_dirty;
};

uint64_t sq_mono_ns(void);
uint64_t sq_boot_ns(void); /* the clock of leases: one for all processes of the machine */

/* store_sqlite_open.c */
int sqdb_open(struct sqdb *db, const char *path, uint64_t deadline, struct hci_error *err);
void sqdb_close(struct sqdb *db);
int sqdb_fail(struct sqdb *db, int rc, const char *what, struct hci_error *err);

/* store_sqlite_ops.c. begin: HCI_E_BUSY when another process holds the lock until busy_until. */
int sqdb_begin(struct sqdb *db, bool write, uint64_t busy_until, struct hci_error *err);
int sqdb_commit(struct sqdb *db, struct hci_error *err);
void sqdb_rollback(struct sqdb *db);
/* Within a transaction: the answer goes into req. Negative: the whole transaction is broken. */
int sqdb_request(struct sqdb *db, struct store_req *req, struct hci_error *err);
/* Within a write transaction: ends what leases have run out. */
int sqdb_expire(struct sqdb *db, struct hci_error *err);
/* When the next lease ends, by sq_boot_ns(); UINT64_MAX: there is none or it cannot be told. */
uint64_t sqdb_next_expiry(struct sqdb *db);
/* A number that changes when another connection has committed. */
int64_t sqdb_data_version(struct sqdb *db);
sqlite3_stmt *sq_stmt(struct sqdb *db, enum sq_stmt which);
bool sq_column_kv(sqlite3_stmt *st, int key, int value, struct store_kv *kv);

/* One watch, seen from the thread. */
struct sq_watch {
	struct list link;
	uint64_t id;
	char *prefix;
	uint64_t pos; /* delivered up to here */
	bool closed;  /* under sq.lock */
	struct sq_batch *batch;
};

struct sq {
	struct env *env;
	struct store *store;
	char *path;
	pthread_t thread;
	/* shared */
	pthread_mutex_t lock;
	struct list inbox; /* store_req.link */
	struct list new_watches;
	bool stop, asleep;
	int wake_fd;
	unsigned batches; /* posted and not run yet; atomic */
	/* the thread's */
	struct sqdb db;
	struct list reads, writes, watches;
	uint64_t lease_check; /* mono_ns() of the next look for expired leases */
	int64_t data_version;
	bool changed;            /* we committed a revision that was not told to watches yet */
	bool retry;              /* something is to be tried again soon */
	int bell_fd, inotify_fd; /* -1: not to be had, then we poll often */
	/* the loop's */
	struct env_task posted; /* the thread has opened, or ended */
	struct fiber *waiter;
	bool done;
	int open_code;
	struct hci_error open_err;
};

/* store_sqlite_watch.c */
void sq_bell_open(struct sq *q);
void sq_bell_ring(struct sq *q);
void sq_bell_drain(struct sq *q);
void sq_bell_close(struct sq *q);
/* Reads the history and posts what is new to the watches. */
void sq_feed_watches(struct sq *q);
void sq_watch_free(struct sq_watch *w);

#endif
