/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store driver `sqlite`: one file, no server, shared by the processes of one machine. SQLite
 * blocks, so each open store has a thread of its own: requests go to it through a queue, answers
 * come back as tasks of the loop. The thread answers reads in one snapshot and writes in one
 * commit, as many as have gathered, so the sync to the disk is paid once for all of them.
 *
 * This file is the queue, the thread and the order of its work; see sqlite_impl.h for the rest.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/fiber.h"
#include "store/sqlite_impl.h"

#define OPEN_TIMEOUT (5 * NS_PER_S)
#define LEASE_CHECK (250 * NS_PER_MS)
#define BUSY_SLICE \
	(20 * NS_PER_MS) /* reads wait no longer for writes that wait for another process */
#define RETRY_MS 2
#define POLL_MS 250 /* in case a bell was not heard */
#define POLL_NO_BELL_MS 20

/* ---- the thread ---- */

static bool is_read(const struct store_req *r)
{
	return r->kind == STORE_REQ_GET || r->kind == STORE_REQ_RANGE;
}

static uint64_t req_until(const struct store_req *r)
{
	return r->priv[0];
}

/* False: it is over. */
static bool take_work(struct sq *q)
{
	struct list in;
	struct sq_watch *w, *tmp;
	bool stop, fresh;

	list_init(&in);
	pthread_mutex_lock(&q->lock);
	q->asleep = false;
	stop = q->stop;
	list_splice(&in, &q->inbox);
	fresh = !list_empty(&q->new_watches);
	list_splice(&q->watches, &q->new_watches);
	list_for_each_safe(w, tmp, &q->watches, link) {
		if (w->closed) {
			list_del(&w->link);
			sq_watch_free(w);
		}
	}
	pthread_mutex_unlock(&q->lock);
	while (!list_empty(&in)) {
		struct store_req *r = list_entry(list_pop(&in), struct store_req, link);

		list_push(is_read(r) ? &q->reads : &q->writes, &r->link);
	}
	q->changed |= fresh;
	return !stop;
}

static void post_req(struct sq *q, struct store_req *r)
{
	list_del(&r->link);
	env_post(q->env, &r->task);
}

static void fail_req(struct sq *q, struct store_req *r, const struct hci_error *err)
{
	r->code = err->code;
	err_copy(&r->err, err, err->code);
	post_req(q, r);
}

static void fail_all(struct sq *q, struct list *l, const struct hci_error *err)
{
	while (!list_empty(l))
		fail_req(q, list_first(l, struct store_req, link), err);
}

/* What has waited to its end for a lock of another process. */
static void fail_late(struct sq *q, struct list *l)
{
	struct store_req *r, *tmp;
	uint64_t now = sq_mono_ns();
	struct hci_error err;

	err_set(&err, HCI_E_UNAVAILABLE,
		"store %s: another process held its lock all the time; is one hanging?", q->path);
	list_for_each_safe(r, tmp, l, link)
		if (req_until(r) <= now)
			fail_req(q, r, &err);
	q->retry = true;
}

static void serve_reads(struct sq *q)
{
	struct store_req *r, *tmp;
	struct hci_error err;
	int rc;

	if (list_empty(&q->reads))
		return;
	rc = sqdb_begin(&q->db, false, sq_mono_ns() + BUSY_SLICE, &err);
	if (rc == HCI_E_BUSY) {
		fail_late(q, &q->reads);
		return;
	}
	if (rc) {
		fail_all(q, &q->reads, &err);
		return;
	}
	list_for_each_safe(r, tmp, &q->reads, link) {
		rc = sqdb_request(&q->db, r, &r->err);
		if (rc)
			r->code = rc;
		post_req(q, r);
	}
	sqdb_rollback(&q->db);
}

/* Up to SQ_GROUP_MAX of the waiting writes, and expired leases before them, in one commit. */
static int write_group(struct sq *q, struct list *group, uint64_t *before, struct hci_error *err)
{
	struct store_req *r;
	unsigned n = 0;
	int rc = sqdb_begin(&q->db, true, sq_mono_ns() + BUSY_SLICE, err);

	if (rc == HCI_E_BUSY)
		return rc;
	*before = q->db.rev;
	while (n++ < SQ_GROUP_MAX && !list_empty(&q->writes))
		list_push(group, list_pop(&q->writes));
	if (!rc)
		rc = sqdb_expire(&q->db, err);
	list_for_each(r, group, link) {
		if (rc)
			break;
		rc = sqdb_request(&q->db, r, err);
	}
	if (!rc)
		return sqdb_commit(&q->db, err);
	sqdb_rollback(&q->db);
	return rc;
}

static void serve_writes(struct sq *q, bool leases_due)
{
	struct hci_error err = { 0 };
	struct list group;
	uint64_t before = 0;
	int rc;

	if (list_empty(&q->writes) && !leases_due)
		return;
	list_init(&group);
	rc = write_group(q, &group, &before, &err);
	if (rc == HCI_E_BUSY && list_empty(&group)) {
		q->lease_check = 0;
		fail_late(q, &q->writes);
		return;
	}
	if (rc) {
		fail_all(q, &group, &err);
		return;
	}
	if (q->db.rev > before) {
		sq_bell_ring(q);
		q->changed = true;
	}
	while (!list_empty(&group))
		post_req(q, list_first(&group, struct store_req, link));
}

static bool leases_due(struct sq *q)
{
	uint64_t now = sq_mono_ns(), boot, next;

	if (now < q->lease_check)
		return false;
	boot = sq_boot_ns();
	next = sqdb_next_expiry(&q->db);
	q->lease_check = now + LEASE_CHECK;
	if (next <= boot)
		return true;
	if (next - boot < LEASE_CHECK)
		q->lease_check = now + (next - boot);
	return false;
}

static int wait_ms(const struct sq *q, uint64_t now)
{
	uint64_t ms = q->bell_fd >= 0 && q->inotify_fd >= 0 ? POLL_MS : POLL_NO_BELL_MS;
	uint64_t lease = q->lease_check > now ? (q->lease_check - now) / NS_PER_MS + 1 : 0;

	if (q->retry)
		ms = RETRY_MS;
	return (int)MIN(ms, lease);
}

static void wait_for_work(struct sq *q)
{
	struct pollfd p[2] = { { .fd = q->wake_fd, .events = POLLIN },
			       { .fd = q->inotify_fd, .events = POLLIN } };
	uint64_t count;
	bool idle;

	pthread_mutex_lock(&q->lock);
	idle = list_empty(&q->inbox) && list_empty(&q->new_watches) && !q->stop;
	q->asleep = idle;
	pthread_mutex_unlock(&q->lock);
	if (!idle)
		return;
	poll(p, q->inotify_fd >= 0 ? 2 : 1, wait_ms(q, sq_mono_ns()));
	if (p[0].revents && read(q->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		q->retry = true;
	if (p[1].revents)
		sq_bell_drain(q);
}

static void look_for_changes(struct sq *q)
{
	int64_t v = sqdb_data_version(&q->db);

	if (v != q->data_version)
		q->changed = true;
	q->data_version = v;
}

static void serve(struct sq *q)
{
	struct hci_error closed;
	struct sq_watch *w, *tmp;

	while (take_work(q)) {
		q->retry = false;
		serve_reads(q);
		serve_writes(q, leases_due(q));
		look_for_changes(q);
		if (q->changed)
			sq_feed_watches(q);
		if (list_empty(&q->writes) && !q->changed)
			wait_for_work(q);
		else if (q->retry)
			usleep(RETRY_MS * 1000);
	}
	err_set(&closed, HCI_E_CLOSED, "store %s: closed before the request was answered", q->path);
	fail_all(q, &q->reads, &closed);
	fail_all(q, &q->writes, &closed);
	list_for_each_safe(w, tmp, &q->watches, link) {
		list_del(&w->link);
		sq_watch_free(w);
	}
}

static void *thread_main(void *arg)
{
	struct sq *q = arg;

	q->open_code = sqdb_open(&q->db, q->path, sq_mono_ns() + OPEN_TIMEOUT, &q->open_err);
	if (q->open_code == 0) {
		sq_bell_open(q);
		env_post(q->env, &q->posted);
		serve(q);
		sq_bell_close(q);
		sqdb_close(&q->db);
	}
	env_post(q->env, &q->posted);
	return NULL;
}

/* ---- the loop's side ---- */

static void thread_spoke(struct env_task *t)
{
	struct sq *q = container_of(t, struct sq, posted);

	q->done = true;
	fiber_wake(q->env, q->waiter);
}

static void wait_thread(struct sq *q)
{
	q->waiter = fiber_self(q->env);
	while (!q->done)
		fiber_park(q->env);
	q->done = false;
}

/* Under the lock. */
static void wake_thread(struct sq *q)
{
	uint64_t one = 1;
	ssize_t n;

	if (!q->asleep)
		return;
	q->asleep = false;
	n = write(q->wake_fd, &one, sizeof(one));
	(void)n; /* an eventfd that is full wakes as well */
}

static void req_answered(struct env_task *t)
{
	store_req_done(container_of(t, struct store_req, task));
}

static void sq_submit(void *d, struct store_req *r)
{
	struct sq *q = d;
	uint64_t now = env_now(q->env);

	env_task_init(&r->task, req_answered);
	r->priv[0] = sq_mono_ns() + (r->deadline > now ? r->deadline - now : 0);
	pthread_mutex_lock(&q->lock);
	list_push(&q->inbox, &r->link);
	wake_thread(q);
	pthread_mutex_unlock(&q->lock);
}

static int sq_watch_new(void *d, struct store_watch *sw)
{
	struct sq *q = d;
	struct sq_watch *w = MEM_NEW(struct sq_watch);

	if (!w)
		return HCI_E_NOMEM;
	w->prefix = mem_strdup(sw->prefix);
	if (!w->prefix) {
		mem_free(w);
		return HCI_E_NOMEM;
	}
	w->id = sw->id;
	w->pos = sw->rev;
	sw->driver_priv = w;
	pthread_mutex_lock(&q->lock);
	list_push(&q->new_watches, &w->link);
	wake_thread(q);
	pthread_mutex_unlock(&q->lock);
	return 0;
}

static void sq_unwatch(void *d, struct store_watch *sw)
{
	struct sq *q = d;
	struct sq_watch *w = sw->driver_priv;

	pthread_mutex_lock(&q->lock);
	w->closed = true;
	pthread_mutex_unlock(&q->lock);
}

static void sq_free(struct sq *q)
{
	if (q->wake_fd >= 0)
		close(q->wake_fd);
	pthread_mutex_destroy(&q->lock);
	mem_free(q->path);
	mem_free(q);
}

static void sq_close(void *d)
{
	struct sq *q = d;

	pthread_mutex_lock(&q->lock);
	q->stop = true;
	wake_thread(q);
	pthread_mutex_unlock(&q->lock);
	wait_thread(q);
	pthread_join(q->thread, NULL);
	while (__atomic_load_n(&q->batches, __ATOMIC_RELAXED))
		fiber_sleep(q->env, NS_PER_MS);
	sq_free(q);
}

static const struct store_driver sqlite_driver = {
	.name = "sqlite",
	.submit = sq_submit,
	.watch = sq_watch_new,
	.unwatch = sq_unwatch,
	.close = sq_close,
};

static struct sq *sq_new(struct env *e, const char *path)
{
	struct sq *q = MEM_NEW(struct sq);

	if (!q)
		return NULL;
	q->env = e;
	q->path = mem_strdup(path);
	pthread_mutex_init(&q->lock, NULL);
	list_init(&q->inbox);
	list_init(&q->new_watches);
	list_init(&q->reads);
	list_init(&q->writes);
	list_init(&q->watches);
	q->bell_fd = q->inotify_fd = -1;
	env_task_init(&q->posted, thread_spoke);
	q->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!q->path) {
		sq_free(q);
		return NULL;
	}
	return q;
}

/* No signal of the program's ever runs on this thread. */
static int start_thread(struct sq *q)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&q->thread, NULL, thread_main, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(q->thread, "hci-store");
	return rc;
}

int store_sqlite_open(struct env *e, const char *path, struct store **out, struct hci_error *err)
{
	struct sq *q;
	int rc;

	*out = NULL;
	if (!path[0] || path[0] == ':' || strlen(path) > 4000)
		return err_set(err, HCI_E_INVAL, "store \"sqlite:%.100s\": not the path of a file: write sqlite:/path/of/file",
			       path);
	q = sq_new(e, path);
	if (!q)
		return err_set(err, HCI_E_NOMEM, "store %s: out of memory", path);
	rc = q->wake_fd < 0 ? errno : start_thread(q);
	if (rc) {
		sq_free(q);
		return err_sys(err, HCI_E_SYS, rc,
			       "store %s: no thread or descriptor to be had; raise the limits",
			       path);
	}
	wait_thread(q);
	if (q->open_code) {
		rc = err_copy(err, &q->open_err, q->open_code);
		pthread_join(q->thread, NULL);
		sq_free(q);
		return rc;
	}
	q->store = store_new(e, &sqlite_driver, q);
	if (!q->store) {
		sq_close(q);
		return err_set(err, HCI_E_NOMEM, "store %s: out of memory", path);
	}
	*out = q->store;
	return 0;
}
