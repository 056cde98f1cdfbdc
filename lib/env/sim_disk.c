/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated disks: when an I/O completes and whether it fails; the file calls of env.h for simulated
 * nodes. What is in files is in sim_file.c, names are in sim_ns.c.
 *
 * An I/O takes effect when it completes, with the caller's buffer as it is then: who touches the
 * buffer before done() is found out. One that was under way when the program was killed happened or
 * did not; at a power loss it may be torn besides.
 */
#include "env/sim_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct env_file {
	struct list link; /* node->files */
	struct sim_inode *inode;
	unsigned flags;
	unsigned inflight;
};

/* ---- disks ---- */

struct sim_disk *sim_disk_new(struct sim_node *n, const char *prefix, uint64_t capacity)
{
	struct sim_disk *d = sim_calloc(1, sizeof(*d));

	d->sim = n->sim;
	d->node = n;
	d->prefix = sim_strdup(prefix);
	d->prefix_len = strlen(prefix);
	while (d->prefix_len > 1 && prefix[d->prefix_len - 1] == '/')
		d->prefix[--d->prefix_len] = '\0';
	d->capacity = capacity;
	list_init(&d->inodes);
	list_init(&d->stalled);
	sim_ns_init(&d->ns);
	list_push(&n->disks, &d->link);
	return d;
}

void sim_disk_free(struct sim_disk *d)
{
	sim_ns_free(&d->ns);
	list_del(&d->link);
	free(d->prefix);
	free(d);
}

void sim_disk_fault(struct sim_disk *d, enum sim_disk_fault f)
{
	struct list *l;

	sim_fold(d->sim, SIM_EV_FAULT | (uint64_t)f << 8 | (uint64_t)d->node->index << 32);
	d->fault = f;
	if (f == SIM_DISK_STALL)
		return;
	while ((l = list_pop(&d->stalled)))
		sim_ev_in(&list_entry(l, struct sim_op, stalled)->ev, sim_range(d->sim, 0, d->sim->o.disk_max));
}

void sim_disk_set_capacity(struct sim_disk *d, uint64_t capacity)
{
	d->capacity = capacity;
}

uint64_t sim_disk_used(const struct sim_disk *d)
{
	return d->used;
}

void sim_disk_wipe(struct sim_disk *d)
{
	struct sim_inode *i;

	list_for_each(i, &d->inodes, all)
		i->dead = true;
	sim_ns_free(&d->ns);
	sim_ns_init(&d->ns);
	d->used = 0;
	sim_disk_fault(d, SIM_DISK_OK);
}

bool sim_disk_rot(struct sim_disk *d, const char *match)
{
	uint64_t n = 0, first;

	while (sim_ns_match(d, match, n))
		n++;
	if (n == 0)
		return false;
	first = sim_rand_below(d->sim, n);
	for (uint64_t k = 0; k < n; k++) {
		if (sim_inode_rot(sim_ns_match(d, match, (first + k) % n)))
			return true;
	}
	return false;
}

bool sim_disk_lie(struct sim_disk *d, const char *match, enum sim_disk_lie lie)
{
	uint64_t n = 0;

	while (sim_ns_match(d, match, n))
		n++;
	if (n == 0)
		return false;
	sim_ns_match(d, match, sim_rand_below(d->sim, n))->lie = (uint8_t)lie;
	return true;
}

void sim_disk_power_loss(struct sim_disk *d)
{
	struct sim_inode *i;

	sim_ns_power_loss(d);
	list_for_each(i, &d->inodes, all)
		sim_inode_power_loss(i);
}

static struct sim_disk *disk_of(struct sim_node *n, const char *path, const char **rel)
{
	struct sim_disk *d, *best = NULL;

	list_for_each(d, &n->disks, link) {
		if (strncmp(path, d->prefix, d->prefix_len) != 0)
			continue;
		if (path[d->prefix_len] != '\0' && path[d->prefix_len] != '/')
			continue;
		if (!best || d->prefix_len > best->prefix_len)
			best = d;
	}
	if (best && rel)
		*rel = path + best->prefix_len;
	return best;
}

static uint64_t slow(const struct sim_disk *d, uint64_t ns)
{
	return d && d->fault == SIM_DISK_SLOW ? ns * 100 : ns;
}

/* Accepted, but the disk does not answer at present: fire again when it does. */
static bool stall(struct sim_op *op)
{
	if (!op->disk || op->disk->fault != SIM_DISK_STALL)
		return false;
	list_push(&op->disk->stalled, &op->stalled);
	return true;
}

/* ---- reads and writes ---- */

struct io_op {
	struct sim_op op;
	struct env_io *io;
	struct sim_inode *inode;
	uint64_t seq, size, size_seq; /* of SYNC: what it covers */
	int refused;                  /* known at once, told later */
};

static uint64_t io_len(const struct env_io *io)
{
	uint64_t len = 0;

	if (io->op == ENV_PUNCH || io->op == ENV_ALLOC)
		return io->len;
	for (int k = 0; io->op != ENV_SYNC && k < io->niov; k++)
		len += io->iov[k].iov_len;
	return len;
}

static bool aligned(const struct env_io *io)
{
	if (io->off % HCI_BLOCK)
		return false;
	for (int k = 0; k < io->niov; k++) {
		if ((uintptr_t)io->iov[k].iov_base % HCI_BLOCK || io->iov[k].iov_len % HCI_BLOCK)
			return false;
	}
	return true;
}

static int io_refused(const struct env_io *io)
{
	const struct sim_disk *d = io->file->inode->disk;
	bool transfer = io->op == ENV_READ || io->op == ENV_WRITE;
	bool changes = io->op != ENV_READ && io->op != ENV_SYNC;

	if (changes && io->file->flags & ENV_O_RDONLY)
		return -EBADF;
	if (transfer && io->file->flags & ENV_O_DIRECT && !aligned(io))
		return -EINVAL;
	if (io->file->inode->dead || d->fault == SIM_DISK_EIO)
		return -EIO;
	if (changes && d->fault == SIM_DISK_READONLY)
		return -EROFS;
	return 0;
}

/* Is anything written at all? */
static bool write_truly(struct io_op *o)
{
	if (o->inode->lie != SIM_LIE_LOST)
		return true;
	o->inode->lie = SIM_LIE_NONE;
	return false;
}

static uint64_t lied_offset(struct io_op *o)
{
	uint64_t size = ROUND_DOWN(o->inode->size, (uint64_t)HCI_BLOCK), len = io_len(o->io);

	if (o->inode->lie != SIM_LIE_MISDIRECTED || size <= len)
		return o->io->off;
	o->inode->lie = SIM_LIE_NONE;
	return ROUND_DOWN(sim_rand_below(o->inode->disk->sim, size - len), (uint64_t)HCI_BLOCK);
}

static int64_t io_once(struct io_op *o)
{
	struct env_io *io = o->io;
	int rc;

	switch (io->op) {
	case ENV_READ:
		return (int64_t)sim_inode_read(o->inode, io->iov, io->niov, io->off);
	case ENV_WRITE:
		rc = write_truly(o) ? sim_inode_write(o->inode, io->iov, io->niov, lied_offset(o), io->flags & ENV_IO_DSYNC) : 0;
		return rc ? rc : (int64_t)io_len(io);
	case ENV_SYNC:
		sim_inode_sync(o->inode, o->seq, o->size, o->size_seq);
		return 0;
	case ENV_PUNCH:
		sim_inode_punch(o->inode, io->off, io->len);
		return 0;
	case ENV_ALLOC:
		return sim_inode_alloc(o->inode, io->off, io->len);
	}
	return -EINVAL;
}

/* Space of files that are gone returns with the journal's commit, which a full disk brings on. */
static int64_t io_effect(struct io_op *o)
{
	int64_t rc = io_once(o);

	if (rc != -ENOSPC)
		return rc;
	sim_ns_commit(o->inode->disk, 0);
	return io_once(o);
}

static void io_free(struct io_op *o)
{
	sim_inode_unref(o->inode);
	free(o);
}

static void io_drop(struct sim_op *op, bool power_loss)
{
	struct io_op *o = container_of(op, struct io_op, op);
	struct sim *s = op->ev.sim;

	if (!o->refused && o->io->op != ENV_READ && !o->inode->dead && sim_chance(s, 500)) {
		if (power_loss && o->io->op == ENV_WRITE)
			sim_inode_write_torn(o->inode, o->io->iov, o->io->niov, o->io->off);
		else if (o->io->op == ENV_WRITE && sim_chance(s, 500)) /* in the disk's volatile cache */
			sim_inode_write(o->inode, o->io->iov, o->io->niov, o->io->off, false);
		else
			io_effect(o);
	}
	io_free(o);
}

static void io_fire(struct sim_ev *ev)
{
	struct io_op *o = container_of(ev, struct io_op, op.ev);
	struct env_io *io = o->io;
	struct sim_node *n = ev->node;
	struct sim_disk *d = o->inode->disk;
	struct sim_enter en;

	if (stall(&o->op))
		return;
	sim_op_end(&o->op);
	io->result = o->refused;
	if (!o->refused && (o->inode->dead || d->fault == SIM_DISK_EIO)) {
		/* The disk died with it under way. Its medium may have it all the same. */
		if (io->op == ENV_WRITE && !o->inode->dead && sim_chance(ev->sim, 500))
			io_effect(o);
		io->result = -EIO;
	} else if (!o->refused) {
		io->result = io_effect(o);
	}
	sim_fold(ev->sim, (uint64_t)io->result ^ (uint64_t)io->op << 56);
	io->file->inflight--;
	io_free(o);
	en = sim_enter(n);
	io->done(io);
	sim_leave(n, en);
}

static void node_submit(struct env *e, struct env_io *io)
{
	struct sim_node *n = sim_node_of(e);
	struct sim *s = n->sim;
	struct io_op *o = sim_calloc(1, sizeof(*o));
	struct sim_inode *i = io->file->inode;
	uint64_t ns;

	o->io = io;
	o->inode = i;
	o->op.disk = i->disk;
	o->op.drop = io_drop;
	sim_inode_ref(i);
	io->file->inflight++;
	o->refused = io_refused(io);
	if (sim_fail_now(s, SIM_FAIL_IO))
		o->refused = -EIO;
	o->seq = i->write_seq;
	o->size = i->size;
	o->size_seq = i->size_seq;
	if (io->op == ENV_SYNC)
		ns = sim_range(s, s->o.sync_min, s->o.sync_max);
	else
		ns = sim_range(s, s->o.disk_min, s->o.disk_max);
	if (io->op == ENV_READ || io->op == ENV_WRITE)
		ns += io_len(io); /* 1 GB/s */
	if (io->op == ENV_WRITE && io->flags & ENV_IO_DSYNC)
		ns += s->o.sync_min;
	sim_op_start(&o->op, n, SIM_EV_IO, io_fire, slow(i->disk, ns));
}

/* ---- calls on names: they park the fiber, take effect at the end ---- */

enum call_kind { CALL_OPEN, CALL_UNLINK, CALL_RENAME, CALL_MKDIR, CALL_RMDIR, CALL_SYNC_DIR, CALL_LISTDIR, CALL_TRUNCATE };

struct call_op {
	struct sim_op op;
	enum call_kind kind;
	struct fiber *fiber;
	bool done, fails;
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

	if (c->op.disk->fault == SIM_DISK_EIO || c->fails)
		return -EIO;
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

	if (stall(&c->op))
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
		     slow(c->op.disk, sim_range(s, s->o.work_min, s->o.work_max)));
	while (!c->done)
		fiber_park(e);
	return c->result;
}

static int call_path(struct env *e, const char *path, enum call_kind kind)
{
	struct call_op c = { 0 };

	c.op.disk = disk_of(sim_node_of(e), path, &c.rel);
	if (kind == CALL_SYNC_DIR && c.op.disk)
		c.arg = c.op.disk->ns.seq;
	return call(e, &c, kind);
}

static int node_open(struct env *e, const char *path, unsigned flags, struct env_file **out)
{
	struct sim_node *n = sim_node_of(e);
	struct call_op c = { .flags = flags };
	int rc;

	c.op.disk = disk_of(n, path, &c.rel);
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
	if (f->inode->dead)
		return -EIO;
	*out = f->inode->size;
	return 0;
}

static int node_truncate(struct env *e, struct env_file *f, uint64_t size)
{
	struct call_op c = { .inode = f->inode, .arg = size };
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

	c.op.disk = disk_of(n, from, &c.rel);
	if (c.op.disk && disk_of(n, to, &c.rel2) != c.op.disk)
		return -EXDEV;
	return call(e, &c, CALL_RENAME);
}

static int node_listdir(struct env *e, const char *path, char ***out)
{
	struct call_op c = { 0 };
	int rc;

	c.op.disk = disk_of(sim_node_of(e), path, &c.rel);
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
	struct sim_disk *d = disk_of(sim_node_of(e), path, NULL), *other;

	if (!d)
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
	struct sim_disk *d = disk_of(sim_node_of(e), path, NULL);

	if (!d)
		return -ENOENT;
	if (d->fault == SIM_DISK_EIO)
		return -EIO;
	*total_bytes = d->capacity;
	*free_bytes = d->capacity > d->used ? d->capacity - d->used : 0;
	return 0;
}

void sim_env_file_ops(struct env_ops *o)
{
	o->submit = node_submit;
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
