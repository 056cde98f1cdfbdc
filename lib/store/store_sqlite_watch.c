/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches of the sqlite store: who committed rings a bell, a small file next to the database that
 * the others watch through inotify (it acts across namespaces as long as they see the same inode);
 * whoever hears it reads the history after the place of its watches. Runs on the driver's thread;
 * only the last step, the delivery, runs on the loop.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/sqlite_impl.h"

#define FEED_ROWS 2000u
#define FEED_BYTES (4 * MiB)

/* The events of one watch on their way to the loop. */
struct sq_batch {
	struct env_task task;
	struct sq *q;
	uint64_t watch;
	bool lost; /* the place: go on from lost_at */
	uint64_t lost_at;
	struct store_event *ev;
	size_t n, cap;
};

/* ---- the bell ---- */

void sq_bell_open(struct sq *q)
{
	const char *file = sqlite3_db_filename(q->db.h, "main");
	char *path = mem_printf("%s-bell", file && file[0] ? file : q->path);

	if (!path)
		return;
	q->bell_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	q->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (q->inotify_fd >= 0 &&
	    inotify_add_watch(q->inotify_fd, path, IN_MODIFY | IN_ATTRIB) < 0) {
		close(q->inotify_fd);
		q->inotify_fd = -1;
	}
	mem_free(path);
}

void sq_bell_close(struct sq *q)
{
	if (q->bell_fd >= 0)
		close(q->bell_fd);
	if (q->inotify_fd >= 0)
		close(q->inotify_fd);
	q->bell_fd = q->inotify_fd = -1;
}

void sq_bell_ring(struct sq *q)
{
	if (q->bell_fd < 0)
		return;
	/* The content is of no use, the change is. On a full disk a new time does as well. */
	if (pwrite(q->bell_fd, &q->db.rev, sizeof(q->db.rev), 0) < 0)
		(void)futimens(q->bell_fd, NULL);
}

void sq_bell_drain(struct sq *q)
{
	char events[1024];
	struct stat st;

	if (q->inotify_fd < 0)
		return;
	while (read(q->inotify_fd, events, sizeof(events)) > 0)
		;
	/* Somebody deleted it: the others would ring another one. */
	if (q->bell_fd >= 0 && fstat(q->bell_fd, &st) == 0 && st.st_nlink == 0) {
		sq_bell_close(q);
		sq_bell_open(q);
	}
}

/* ---- delivery, on the loop ---- */

static void batch_free(struct sq_batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		store_kv_clear(&b->ev[i].kv);
	mem_free(b->ev);
	mem_free(b);
}

static void batch_arrived(struct env_task *t)
{
	struct sq_batch *b = container_of(t, struct sq_batch, task);
	struct sq *q = b->q;
	struct store_watch *w = store_watch_find(q->store, b->watch);
	size_t i = 0, j;

	if (w && b->lost)
		store_watch_deliver(w, NULL, 0, b->lost_at);
	for (; w && i < b->n; i = j) {
		uint64_t rev = b->ev[i].kv.mod_rev;

		for (j = i; j < b->n && b->ev[j].kv.mod_rev == rev; j++)
			;
		store_watch_deliver(w, &b->ev[i], j - i, rev);
		w = store_watch_find(q->store, b->watch); /* closed by its own callback? */
	}
	batch_free(b);
	__atomic_sub_fetch(&q->batches, 1, __ATOMIC_RELAXED);
}

/* ---- reading the history, on the thread ---- */

void sq_watch_free(struct sq_watch *w)
{
	if (w->batch)
		batch_free(w->batch);
	mem_free(w->prefix);
	mem_free(w);
}

static struct sq_batch *batch_of(struct sq *q, struct sq_watch *w)
{
	if (!w->batch) {
		w->batch = MEM_NEW(struct sq_batch);
		if (w->batch) {
			env_task_init(&w->batch->task, batch_arrived);
			w->batch->q = q;
			w->batch->watch = w->id;
		}
	}
	return w->batch;
}

static bool add_event(struct sq *q, struct sq_watch *w, uint64_t rev, sqlite3_stmt *st)
{
	struct sq_batch *b = batch_of(q, w);
	struct store_event *ev;

	if (!b)
		return false;
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 4;

		ev = mem_realloc(b->ev, cap * sizeof(*ev));
		if (!ev)
			return false;
		b->ev = ev;
		b->cap = cap;
	}
	ev = &b->ev[b->n];
	*ev = (struct store_event){
		.deleted = sqlite3_column_int(st, 2) != 0,
		.kv = { .mod_rev = rev,
			.create_rev = (uint64_t)sqlite3_column_int64(st, 4),
			.lease = (uint64_t)sqlite3_column_int64(st, 5) },
	};
	if (!sq_column_kv(st, 1, 3, &ev->kv))
		return false;
	b->n++;
	return true;
}

/* Marks those whose place is no longer in the history (or not yet: a restored file); the lowest
 * place of the rest. */
static bool find_places(struct sq *q, uint64_t *from)
{
	struct sq_watch *w;

	*from = q->db.rev;
	list_for_each(w, &q->watches, link) {
		if (w->pos < q->db.compact_rev || w->pos > q->db.rev) {
			struct sq_batch *b = batch_of(q, w);

			if (!b)
				return false;
			b->lost = true;
			b->lost_at = q->db.rev;
			w->pos = q->db.rev;
		}
		*from = MIN(*from, w->pos);
	}
	return true;
}

/* Revisions after `from` into the batches; *upto: the last one that was taken whole. */
static bool read_history(struct sq *q, uint64_t from, uint64_t *upto)
{
	sqlite3_stmt *st = sq_stmt(&q->db, SQ_HIST_READ);
	uint64_t bytes = 0, last = from;
	unsigned rows = 0;
	bool ok = true;
	int rc;

	*upto = q->db.rev;
	sqlite3_bind_int64(st, 1, (int64_t)from);
	while (ok && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		uint64_t rev = (uint64_t)sqlite3_column_int64(st, 0);
		const char *key = (const char *)sqlite3_column_text(st, 1);
		struct sq_watch *w;

		if (rev != last && (rows >= FEED_ROWS || bytes >= FEED_BYTES)) {
			*upto = last;
			rc = SQLITE_DONE;
			break;
		}
		last = rev;
		rows++;
		bytes += (uint64_t)sqlite3_column_bytes(st, 3);
		list_for_each(w, &q->watches, link)
			if (ok && key && w->pos < rev && store_key_matches(key, w->prefix))
				ok = add_event(q, w, rev, st);
	}
	sqlite3_reset(st);
	return ok && rc == SQLITE_DONE;
}

static void post_batches(struct sq *q, uint64_t upto)
{
	struct sq_watch *w;

	list_for_each(w, &q->watches, link) {
		struct sq_batch *b = w->batch;

		w->pos = MAX(w->pos, upto);
		w->batch = NULL;
		if (!b)
			continue;
		__atomic_add_fetch(&q->batches, 1, __ATOMIC_RELAXED);
		env_post(q->env, &b->task);
	}
}

/* Out of memory or the file unreadable: nothing was delivered, the next round starts at the same
 * place. */
static void drop_batches(struct sq *q)
{
	struct sq_watch *w;

	list_for_each(w, &q->watches, link) {
		if (!w->batch)
			continue;
		if (w->batch->lost)
			w->pos = UINT64_MAX;
		batch_free(w->batch);
		w->batch = NULL;
	}
	q->changed = q->retry = true;
}

void sq_feed_watches(struct sq *q)
{
	uint64_t from, upto;
	bool ok;

	q->changed = false;
	if (list_empty(&q->watches))
		return;
	if (sqdb_begin(&q->db, false, sq_mono_ns() + 20 * NS_PER_MS, NULL)) {
		q->changed = q->retry = true;
		return;
	}
	upto = q->db.rev;
	ok = find_places(q, &from);
	if (ok && from < q->db.rev)
		ok = read_history(q, from, &upto);
	sqdb_rollback(&q->db);
	if (!ok) {
		drop_batches(q);
		return;
	}
	post_batches(q, upto);
	q->changed = upto < q->db.rev; /* more to read: at once */
}
