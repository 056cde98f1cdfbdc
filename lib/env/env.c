/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an env that are the same in the real and the simulated world: deferred tasks and the
 * calls that go straight through the table. Timers are in timer.c, fibers in fiber.c, whole small
 * files in wholefile.c. No clock, no system call here.
 */
#include "env/env_impl.h"

void env_init(struct env *e, const struct env_ops *ops, const struct log *log,
	      struct metrics *metrics, struct fiber_stacks *stacks)
{
	memset(e, 0, sizeof(*e));
	e->ops = ops;
	if (log)
		e->log = *log;
	e->metrics = metrics;
	e->stacks = stacks;
	list_init(&e->tasks);
	list_init(&e->running);
	list_init(&e->fibers);
}

/* ---- tasks ---- */

void env_defer_posted(struct env *e, struct env_task *t)
{
	bool first = list_empty(&e->tasks);

	list_push(&e->tasks, &t->link);
	if (first && e->ops->deferred)
		e->ops->deferred(e);
}

void env_defer(struct env *e, struct env_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	env_defer_posted(e, t);
}

void env_undefer(struct env *e, struct env_task *t)
{
	if (!t->queued)
		return;
	if (e->ops->collect)
		e->ops->collect(e);
	list_del(&t->link);
	t->queued = false;
}

void env_post(struct env *e, struct env_task *t)
{
	e->ops->post(e, t);
}

static bool run_first(struct list *l)
{
	struct list *n = list_pop(l);
	struct env_task *t;

	if (!n)
		return false;
	t = list_entry(n, struct env_task, link);
	t->queued = false;
	t->fn(t);
	return true;
}

bool env_run_deferred(struct env *e)
{
	bool any = false;

	list_splice(&e->running, &e->tasks);
	while (run_first(&e->running))
		any = true;
	return any;
}

bool env_run_one(struct env *e)
{
	return run_first(&e->tasks);
}

/* ---- straight through the table ---- */

bool env_on_loop(struct env *e)
{
	return e->ops->on_loop(e);
}

void env_mark_hit(struct env *e, const struct env_mark *m, unsigned state)
{
	if (e->ops->mark)
		e->ops->mark(e, m, state);
}

uint64_t env_now(struct env *e)
{
	return e->now;
}

uint64_t env_realtime(struct env *e)
{
	return e->ops->realtime(e);
}

void env_random(struct env *e, void *out, size_t len)
{
	e->ops->random(e, out, len);
}

const struct log *env_log(struct env *e)
{
	return &e->log;
}

struct metrics *env_metrics(struct env *e)
{
	return e->metrics;
}

void env_work(struct env *e, struct env_work *w)
{
	e->ops->work(e, w);
}

void env_submit(struct env *e, struct env_io *io)
{
	e->ops->submit(e, io);
}

int env_open(struct env *e, const char *path, unsigned flags, struct env_file **out)
{
	return e->ops->open(e, path, flags, out);
}

void env_close(struct env *e, struct env_file *f)
{
	e->ops->close(e, f);
}

int env_file_size(struct env *e, struct env_file *f, uint64_t *out)
{
	return e->ops->file_size(e, f, out);
}

int env_truncate(struct env *e, struct env_file *f, uint64_t size)
{
	return e->ops->truncate(e, f, size);
}

int env_unlink(struct env *e, const char *path)
{
	return e->ops->unlink(e, path);
}

int env_rename(struct env *e, const char *from, const char *to)
{
	return e->ops->rename(e, from, to);
}

int env_mkdir(struct env *e, const char *path)
{
	return e->ops->mkdir(e, path);
}

int env_rmdir(struct env *e, const char *path)
{
	return e->ops->rmdir(e, path);
}

int env_sync_dir(struct env *e, const char *path)
{
	return e->ops->sync_dir(e, path);
}

int env_statfs(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
	return e->ops->statfs(e, path, free_bytes, total_bytes);
}

int env_fs_of(struct env *e, const char *path, struct env_fs *out)
{
	*out = (struct env_fs){ 0 };
	return e->ops->fs_of(e, path, out);
}

int env_listdir(struct env *e, const char *path, char ***out)
{
	return e->ops->listdir(e, path, out);
}

struct env_conn *env_connect(struct env *e, const char *addr, struct env_tls *tls,
			     const struct env_conn_ops *ops, void *arg, struct hci_error *err)
{
	return e->ops->connect(e, addr, tls, ops, arg, err);
}

struct env_listener *env_listen(struct env *e, const char *addr, struct env_tls *tls,
				void (*on_accept)(void *arg, struct env_conn *c), void *arg,
				struct hci_error *err)
{
	return e->ops->listen(e, addr, tls, on_accept, arg, err);
}

const char *env_listener_addr(const struct env_listener *l)
{
	return l->env->ops->listener_addr(l);
}

void env_listener_close(struct env_listener *l)
{
	if (l)
		l->env->ops->listener_close(l);
}

void env_conn_set_ops(struct env_conn *c, const struct env_conn_ops *ops, void *arg)
{
	c->env->ops->conn_set_ops(c, ops, arg);
}

int64_t env_conn_recv(struct env_conn *c, void *buf, size_t len)
{
	return c->env->ops->conn_recv(c, buf, len);
}

int64_t env_conn_send(struct env_conn *c, const struct iovec *iov, int n)
{
	return c->env->ops->conn_send(c, iov, n);
}

void env_conn_pause(struct env_conn *c, bool paused)
{
	c->env->ops->conn_pause(c, paused);
}

int env_conn_start_tls(struct env_conn *c, struct env_tls *tls, bool server, struct hci_error *err)
{
	return c->env->ops->conn_start_tls(c, tls, server, err);
}

const char *env_tls_name(const struct env_tls *t)
{
	return t->name;
}

const char *env_conn_peer_name(const struct env_conn *c)
{
	return c->env->ops->conn_peer_name(c);
}

void env_conn_close(struct env_conn *c, bool abort_now)
{
	if (c)
		c->env->ops->conn_close(c, abort_now);
}

struct env_tls *env_tls_new(struct env *e, const char *ca_file, const char *cert_file,
			    const char *key_file, bool verify_peer, struct hci_error *err)
{
	return e->ops->tls_new(e, ca_file, cert_file, key_file, verify_peer, err);
}

void env_tls_free(struct env_tls *t)
{
	if (t)
		t->env->ops->tls_free(t);
}
