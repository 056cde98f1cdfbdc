/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated disks: when an I/O completes and whether it fails; disks that are pulled out, put in again, elsewhere, or with
 * what they held before. What is in files is in sim_file.c, names are in sim_ns.c, calls on them in sim_names.c.
 *
 * An I/O takes effect when it completes, with the caller's buffer as it is then: who touches the
 * buffer before done() is found out. One that was under way when the program was killed happened or
 * did not; at a power loss it may be torn besides.
 */
#include "env/sim_impl.h"

#include <errno.h>
#include <stdlib.h>

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

bool sim_disk_rot_old(struct sim_disk *d, const char *match, uint64_t spare)
{
	uint64_t n = 0, first;

	while (sim_ns_match(d, match, n))
		n++;
	if (n == 0)
		return false;
	first = sim_rand_below(d->sim, n);
	for (uint64_t k = 0; k < n; k++) {
		if (sim_inode_rot(sim_ns_match(d, match, (first + k) % n), spare))
			return true;
	}
	return false;
}

bool sim_disk_rot(struct sim_disk *d, const char *match)
{
	return sim_disk_rot_old(d, match, 0);
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

struct sim_disk *sim_disk_of(struct sim_node *n, const char *path, const char **rel)
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

uint64_t sim_disk_slow(const struct sim_disk *d, uint64_t ns)
{
	return d && d->fault == SIM_DISK_SLOW ? ns * 100 : ns;
}

/* Accepted, but the disk does not answer at present: fire again when it does. */
bool sim_disk_stall(struct sim_op *op)
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
	if (io->file->stale || io->file->inode->dead || d->fault == SIM_DISK_EIO)
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

/* It was under way when something ended it. */
static void io_cut(struct io_op *o, bool power_loss)
{
	struct sim *s = o->op.ev.sim;

	if (o->refused || o->io->op == ENV_READ || o->inode->dead || !sim_chance(s, 500))
		return;
	if (power_loss && o->io->op == ENV_WRITE)
		sim_inode_write_torn(o->inode, o->io->iov, o->io->niov, o->io->off);
	else if (o->io->op == ENV_WRITE && sim_chance(s, 500)) /* in the disk's volatile cache */
		sim_inode_write(o->inode, o->io->iov, o->io->niov, o->io->off, false);
	else
		io_effect(o);
}

static void io_drop(struct sim_op *op, bool power_loss)
{
	struct io_op *o = container_of(op, struct io_op, op);

	io_cut(o, power_loss);
	io_free(o);
}

static void io_fire(struct sim_ev *ev)
{
	struct io_op *o = container_of(ev, struct io_op, op.ev);
	struct env_io *io = o->io;
	struct sim_node *n = ev->node;
	struct sim_disk *d = o->inode->disk;
	struct sim_enter en;

	if (sim_disk_stall(&o->op))
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

void sim_file_submit(struct env *e, struct env_io *io)
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
	sim_op_start(&o->op, n, SIM_EV_IO, io_fire, sim_disk_slow(i->disk, ns));
}

/* ---- disks that are pulled out ---- */

void sim_disk_pull(struct sim_disk *d)
{
	struct sim_op *op;
	struct env_file *f;

	list_for_each(op, &d->node->pending, link) {
		struct io_op *o = container_of(op, struct io_op, op);

		if (op->drop != io_drop || o->inode->disk != d)
			continue;
		io_cut(o, true);
		o->refused = -EIO;
	}
	sim_disk_power_loss(d);
	list_for_each(f, &d->node->files, link)
		f->stale |= f->inode->disk == d;
	sim_disk_fault(d, SIM_DISK_GONE);
}

static void list_swap(struct list *a, struct list *b)
{
	struct list t;

	list_init(&t);
	list_splice(&t, a);
	list_splice(a, b);
	list_splice(b, &t);
}

static void take_over(struct sim_disk *d)
{
	struct sim_inode *i;

	list_for_each(i, &d->inodes, all)
		i->disk = d;
}

void sim_disk_swap(struct sim_disk *a, struct sim_disk *b)
{
	struct sim_dent *root = a->ns.root;
	uint64_t used = a->used;

	if (a->fault != SIM_DISK_GONE || b->fault != SIM_DISK_GONE)
		abort();
	/* Nothing is in their journals: see sim_disk_pull(). */
	a->ns.root = b->ns.root;
	b->ns.root = root;
	a->used = b->used;
	b->used = used;
	list_swap(&a->inodes, &b->inodes);
	take_over(a);
	take_over(b);
}

void sim_disk_partition(struct sim_disk *d, const char *rel, uint64_t size)
{
	struct sim_inode *i;

	if (sim_ns_open(d, rel, ENV_O_CREATE, &i) || sim_inode_alloc(i, 0, size))
		abort();
	sim_inode_sync(i, i->write_seq, i->size, i->size_seq);
	sim_inode_unref(i);
	sim_ns_commit(d, 0);
}

/* ---- what a disk held before ---- */

struct sim_image {
	unsigned n;
	struct sim_image_file {
		char *path;
		uint64_t size;
		uint8_t *bytes;
	} *file;
};

static void keep_file(void *arg, const char *path, struct sim_inode *i)
{
	struct sim_image *m = arg;
	struct sim_image_file *f;
	struct iovec v;

	m->file = sim_realloc(m->file, (m->n + 1) * sizeof(*m->file));
	f = &m->file[m->n++];
	*f = (struct sim_image_file){ sim_strdup(path), i->size, sim_calloc(1, i->size + 1) };
	v = (struct iovec){ f->bytes, i->size };
	sim_inode_read(i, &v, 1, 0);
}

struct sim_image *sim_disk_image(struct sim_disk *d)
{
	struct sim_image *m = sim_calloc(1, sizeof(*m));

	sim_ns_each(d, keep_file, m);
	return m;
}

void sim_disk_restore(struct sim_disk *d, const struct sim_image *m)
{
	enum sim_disk_fault fault = d->fault;

	sim_disk_wipe(d);
	for (unsigned k = 0; k < m->n; k++) {
		struct iovec v = { m->file[k].bytes, m->file[k].size };
		struct sim_inode *i;

		if (sim_ns_open(d, m->file[k].path, ENV_O_CREATE, &i) || sim_inode_write(i, &v, 1, 0, true))
			abort();
		sim_inode_unref(i);
	}
	sim_ns_commit(d, 0);
	sim_disk_fault(d, fault);
}

void sim_image_free(struct sim_image *m)
{
	for (unsigned k = 0; m && k < m->n; k++) {
		free(m->file[k].path);
		free(m->file[k].bytes);
	}
	if (m)
		free(m->file);
	free(m);
}
