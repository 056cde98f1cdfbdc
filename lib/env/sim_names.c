/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of env.h on names of simulated files: they park the fiber and take effect at the end. What names there are is in
 * sim_ns.c, reads and writes are in sim_disk.c.
 */
#include "env/sim_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum call_kind { CALL_OPEN, CALL_UNLINK, CALL_RENAME, CALL_MKDIR, CALL_RMDIR, CALL_SYNC_DIR, CALL_LISTDIR, CALL_TRUNCATE };

struct call_op {
	struct sim_op op;
	enum call_kind kind;
	struct fiber *fiber;
	bool done, fails, stale;
	int result;
	const char *rel, *rel2;
	unsigned flags;
	struct sim_inode *inode; /* OPEN, TRUNCATE */
	struct env_file *file;   /* OPEN: the answer */
	uint64_t arg;            /* TRUNCATE: size; SYNC_DIR: up to which change */
	char **names;
};

static int call_fault(const struct call_op *c)
{
	bool reads = c->kind == CALL_LISTDIR || c->kind == CALL_SYNC_DIR ||
		     (c->kind == CALL_OPEN && !(c->flags & ENV_O_CREATE));

	if (c->op.disk->fault == SIM_DISK_EIO || c->fails || c->stale)
		return -EIO;
	if (c->op.disk->fault == SIM_DISK_GONE)
		return -ENOENT;
	if (c->op.disk->fault == SIM_DISK_READONLY && !reads)
		return -EROFS;
	return 0;
}

static int call_once(struct call_op *c)
{
	struct sim_disk *d = c->op.disk;

	switch (c->kind) {
	case CALL_OPEN:
		return sim_ns_open(d, c->rel, c->flags, &c->inode);
	case CALL_UNLINK:
		return sim_ns_unlink(d, c->rel);
	case CALL_RENAME:
		return sim_ns_rename(d, c->rel, c->rel2);
	case CALL_MKDIR:
		return sim_ns_mkdir(d, c->rel);
	case CALL_RMDIR:
		return sim_ns_rmdir(d, c->rel);
	case CALL_SYNC_DIR:
		return sim_ns_sync_dir(d, c->rel, c->arg);
	case CALL_LISTDIR:
		return sim_ns_listdir(d, c->rel, &c->names);
	case CALL_TRUNCATE:
		if (c->inode->dead)
			return -EIO;
		sim_inode_truncate(c->inode, c->arg);
		return 0;
	}
	return -EINVAL;
}

static int call_effect(struct call_op *c)
{
	int rc = call_once(c);

	if (rc != -ENOSPC)
		return rc;
	sim_ns_commit(c->op.disk, 0);
	return call_once(c);
}

static void call_drop(struct sim_op *op, bool power_loss)
{
	struct call_op *c = container_of(op, struct call_op, op);

	(void)power_loss;
	if (!op->disk || c->kind == CALL_LISTDIR || call_fault(c) || !sim_chance(op->ev.sim, 500))
		return;
	if (call_effect(c) == 0 && c->kind == CALL_OPEN)
		sim_inode_unref(c->inode);
}

static struct env_file *file_new(struct sim_node *n, struct sim_inode *i, unsigned flags)
{
	struct env_file *f = sim_calloc(1, sizeof(*f));

	f->inode = i;
	f->flags = flags;
	list_push(&n->files, &f->link);
	return f;
}

static void call_fire(struct sim_ev *ev)
{
	struct call_op *c = container_of(ev, struct call_op, op.ev);
	struct sim_node *n = ev->node;
	struct sim_enter en;

	if (sim_disk_stall(&c->op))
		return;
	sim_op_end(&c->op);
	en = sim_enter(n);
	if (!c->op.disk)
		c->result = -ENOENT;
	else
		c->result = call_fault(c);
	if (c->result == 0)
		c->result = call_effect(c);
	if (c->result == 0 && c->kind == CALL_OPEN)
		c->file = file_new(n, c->inode, c->flags); /* the node's from here on, also if it dies before the fiber runs */
	sim_fold(ev->sim, (uint64_t)c->result ^ (uint64_t)c->kind << 56);
	c->done = true;
	fiber_wake(&n->env->env, c->fiber);
	sim_leave(n, en);
}

/* c lies on the fiber's stack; a crash drops the operation before the stack. */
static int call(struct env *e, struct call_op *c, enum call_kind kind)
{
	struct sim_node *n = sim_node_of(e);
	struct sim *s = n->sim;

	c->kind = kind;
	c->fiber = fiber_self(e);
	if (!c->fiber) {
		fprintf(stderr, "simulator: file call outside of a fiber on node %s\n", n->name);
		abort();
	}
	c->op.drop = call_drop;
	c->fails = sim_fail_now(s, SIM_FAIL_IO);
	sim_op_start(&c->op, n, SIM_EV_NAMESPACE, call_fire,
		     sim_disk_slow(c->op.disk, sim_range(s, s->o.work_min, s->o.work_max)));
	while (!c->done)
		fiber_park(e);
	return c->result;
}

static int call_path(struct env *e, const char *path, enum call_kind kind)
{
	struct call_op c = { 0 };

	c.op.disk = sim_disk_of(sim_node_of(e), path, &c.rel);
	if (kind == CALL_SYNC_DIR && c.op.disk)
		c.arg = c.op.disk->ns.seq;
	return call(e, &c, kind);
}

static int node_open(struct env *e, const char *path, unsigned flags, struct env_file **out)
{
	struct sim_node *n = sim_node_of(e);
	struct call_op c = { .flags = flags };
	int rc;

	c.op.disk = sim_disk_of(n, path, &c.rel);
	rc = call(e, &c, CALL_OPEN);
	if (!rc)
		*out = c.file;
	return rc;
}

static void file_free(struct env_file *f)
{
	list_del(&f->link);
	sim_inode_unref(f->inode);
	free(f);
}

static void node_close(struct env *e, struct env_file *f)
{
	if (!f)
		return;
	if (f->inflight) {
		fprintf(stderr, "simulator: file closed with %u I/O under way on node %s\n", f->inflight,
			sim_node_of(e)->name);
		abort();
	}
	file_free(f);
}

void sim_files_drop(struct sim_node *n)
{
	while (!list_empty(&n->files))
		file_free(list_first(&n->files, struct env_file, link));
}

static int node_file_size(struct env *e, struct env_file *f, uint64_t *out)
{
	(void)e;
	if (f->inode->dead || f->stale)
		return -EIO;
	*out = f->inode->size;
	return 0;
}

static int node_truncate(struct env *e, struct env_file *f, uint64_t size)
{
	struct call_op c = { .inode = f->inode, .arg = size, .stale = f->stale };
	int rc;

	if (f->flags & ENV_O_RDONLY)
		return -EINVAL;
	c.op.disk = f->inode->disk;
	f->inflight++;
	rc = call(e, &c, CALL_TRUNCATE);
	f->inflight--;
	return rc;
}

static int node_unlink(struct env *e, const char *path)
{
	return call_path(e, path, CALL_UNLINK);
}

static int node_mkdir(struct env *e, const char *path)
{
	return call_path(e, path, CALL_MKDIR);
}

static int node_rmdir(struct env *e, const char *path)
{
	return call_path(e, path, CALL_RMDIR);
}

static int node_sync_dir(struct env *e, const char *path)
{
	return call_path(e, path, CALL_SYNC_DIR);
}

static int node_rename(struct env *e, const char *from, const char *to)
{
	struct sim_node *n = sim_node_of(e);
	struct call_op c = { 0 };

	c.op.disk = sim_disk_of(n, from, &c.rel);
	if (c.op.disk && sim_disk_of(n, to, &c.rel2) != c.op.disk)
		return -EXDEV;
	return call(e, &c, CALL_RENAME);
}

static int node_listdir(struct env *e, const char *path, char ***out)
{
	struct call_op c = { 0 };
	int rc;

	c.op.disk = sim_disk_of(sim_node_of(e), path, &c.rel);
	rc = call(e, &c, CALL_LISTDIR);
	if (rc == 0 && sim_names_list(sim_node_of(e), path, &c.names))
		rc = -ENOMEM; /* the rest is the arena's */
	if (rc == 0)
		*out = c.names;
	return rc;
}

/* A disk is a file system of its own. */
static int node_fs_of(struct env *e, const char *path, struct env_fs *out)
{
	struct sim_disk *d = sim_disk_of(sim_node_of(e), path, NULL), *other;

	if (!d || d->fault == SIM_DISK_GONE)
		return -ENOENT;
	list_for_each(other, &sim_node_of(e)->disks, link) {
		out->id++;
		if (other == d)
			break;
	}
	return 0;
}

static int node_statfs(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct sim_disk *d = sim_disk_of(sim_node_of(e), path, NULL);

	if (!d || d->fault == SIM_DISK_GONE)
		return -ENOENT;
	if (d->fault == SIM_DISK_EIO)
		return -EIO;
	*total_bytes = d->capacity;
	*free_bytes = d->capacity > d->used ? d->capacity - d->used : 0;
	return 0;
}

void sim_env_file_ops(struct env_ops *o)
{
	o->submit = sim_file_submit;
	o->open = node_open;
	o->close = node_close;
	o->file_size = node_file_size;
	o->truncate = node_truncate;
	o->unlink = node_unlink;
	o->rename = node_rename;
	o->mkdir = node_mkdir;
	o->rmdir = node_rmdir;
	o->sync_dir = node_sync_dir;
	o->statfs = node_statfs;
	o->fs_of = node_fs_of;
	o->listdir = node_listdir;
}
