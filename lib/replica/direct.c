/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large writes pass the log: the data go straight to the segment file, and when they are durable there an entry
 * without data, but with the sums, goes to the log. Until that is durable nothing has happened: the data are put where
 * no block that counts is. A region has two places in the file, one in each half ("sides"); it is written to the one that
 * is not in use, and the entry names it. So a torn overwrite is never seen, and the blocks are old or new as a whole entry is
 * there or not.
 *
 * Data that are written while others of the file are become durable together: each is written without a sync of its own, and
 * one fdatasync covers all that were complete when it began; those that complete meanwhile make up the next. With O_DSYNC
 * each would end in a commit of the file system's journal, as its space was allocated just before.
 *
 * In the index such blocks are at LOC_FILE until a pass has put side, valid bits and sums in the tables; then
 * the other side is punched out.
 *
 * What one such write left, the next may write over before a pass came by: to the side from before the first, which no table
 * or entry needs any more (until the second's entry is durable the first's is in the log, and names the other one). Both
 * sides stay allocated then, and the file system has no journal to write. No pass may have begun with such a region (it would
 * punch that side out; one that begins meanwhile does not), and no read from before the first may still be looking at it.
 *
 * Recovery does entries again, and what is in the file must then still be what the last of them says. Hence a
 * region with anything else in the index is not written this way (its entries are still to be done again on top of each other, and
 * one of them may be the one that names the other side), and none while a DROP is in the log: the file would be
 * removed when that is done again, and with it what no log holds.
 */
#include <errno.h>

#include "base/mem.h"
#include "replica/replica_impl.h"

#define DIRECT_MIN (2 * REPL_REGION)
#define DIRECTS_MAX 32u

static uint32_t first_region(const struct repl_op *op)
{
	return (uint32_t)(op->off / REPL_REGION);
}

static uint32_t end_region(const struct repl_op *op)
{
	return (uint32_t)((op->off + op->len) / REPL_REGION);
}

static bool overlap(const struct repl_op *a, const struct repl_op *b)
{
	return a->segment == b->segment && ROUND_DOWN(a->off, REPL_REGION) < ROUND_UP(b->off + b->len, REPL_REGION) &&
	       ROUND_DOWN(b->off, REPL_REGION) < ROUND_UP(a->off + a->len, REPL_REGION);
}

/* Is there one before op, of those that `which` names, in the same regions? */
static bool behind(const struct repl_op *op, bool any)
{
	const struct vol *v = ((const struct op_priv *)op->priv)->vol;
	const struct op_priv *p;

	list_for_each(p, &v->pending, pend) {
		const struct repl_op *o = container_of(p, const struct repl_op, priv);

		if (o == op)
			return false;
		if ((any || p->direct == DIRECT_RUNS) && overlap(o, op))
			return true;
	}
	return false;
}

bool direct_blocks(const struct repl_op *op)
{
	return behind(op, false);
}

/* What the log has of it is one entry like this write's, and nobody reads the other side any more. */
static bool again(const struct seg *s, const struct node *n)
{
	return index_all_direct(n) &&
	       (readers_gone(s->d, n->reads) || s->d->mutate & REPL_MUTATE_DIRECT_UNDER_READS);
}

/*
 * The side to write to, or -1: the regions are not all alike, or have something in the log. *reuse: it is allocated on
 * that side.
 */
static int free_side(const struct seg *s, const struct repl_op *op, bool *reuse)
{
	int used = -1;

	*reuse = true;
	for (uint32_t r = first_region(op); r < end_region(op); r++) {
		const struct node *n = index_node(s, r);
		int side = seg_side(s, r);

		if (n && !again(s, n))
			return -1;
		*reuse &= n && n->both;
		if (!n && !seg_valid(s, r))
			continue;
		if (used >= 0 && used != side)
			return -1;
		used = side;
	}
	if (s->d->mutate & REPL_MUTATE_DIRECT_IN_PLACE)
		return MAX(used, 0);
	return used < 0 ? 0 : !used;
}

static bool suits(const struct repl_disk *d, const struct repl_op *op)
{
	return op->kind == REPL_WRITE && !(op->flags & REPL_F_ASIS) && op->len >= DIRECT_MIN &&
	       op->off % REPL_REGION == 0 && op->len % REPL_REGION == 0 && d->ndirect < DIRECTS_MAX && !d->full &&
	       (d->drop_lsn < d->log.tail_lsn || d->mutate & REPL_MUTATE_DIRECT_AFTER_DROP);
}

/* ---- on its way ---- */

static void back_to_queue(struct repl_op *op, int state)
{
	struct op_priv *p = op_priv(op);
	struct repl_disk *d = p->vol->d;

	d->ndirect--;
	/* Dropped meanwhile: nothing may hold its files any longer. */
	if (p->seg->dead)
		state = DIRECT_NOT;
	p->direct = (uint8_t)state;
	if (state == DIRECT_NOT)
		log_unadmit(d, p);
	list_push_front(&d->queue, &op->link);
	env_defer(d->e, &d->kick_task);
}

static void over(struct direct_io *x)
{
	struct repl_op *op = x->op;

	list_push_front(&op_priv(op)->vol->d->free_directs, &x->link);
	back_to_queue(op, DIRECT_DONE);
}

static void synced(struct env_io *io);

/* One sync of the file at a time, for all that is written to it by now. */
static void sync_file(struct seg *s)
{
	struct direct_io *x;

	if (s->syncing || list_empty(&s->written))
		return;
	ENV_MARK(s->d->e, "writes that passed the log are synced together");
	s->syncing = true;
	x = list_entry(list_pop(&s->written), struct direct_io, link);
	list_splice(&x->with, &s->written);
	env_io_prep(&x->io, ENV_SYNC, s->data, NULL, 0, 0, synced);
	env_submit(s->d->e, &x->io);
}

static void synced(struct env_io *io)
{
	struct direct_io *x = container_of(io, struct direct_io, io);
	struct seg *s = op_priv(x->op)->seg;
	struct list *l;

	if (io->result < 0)
		disk_fail(s->d, (int)-io->result, "cannot sync a segment's file");
	s->syncing = false;
	sync_file(s); /* the ends below may let go of the segment */
	while ((l = list_pop(&x->with)))
		over(list_entry(l, struct direct_io, link));
	over(x);
}

static void written(struct env_io *io)
{
	struct direct_io *x = container_of(io, struct direct_io, io);
	struct seg *s = op_priv(x->op)->seg;
	struct repl_disk *d = s->d;

	if (io->result != (int64_t)x->op->len) {
		disk_fail(d, io->result < 0 ? (int)-io->result : 0, "cannot write a segment's file");
		over(x);
	} else if (io->flags & ENV_IO_DSYNC || d->mutate & REPL_MUTATE_DIRECT_UNSYNCED) {
		over(x);
	} else {
		list_push(&s->written, &x->link);
		sync_file(s);
	}
}

static void write_data(struct direct_io *x, uint64_t off)
{
	struct repl_op *op = x->op;
	struct repl_disk *d = op_priv(op)->vol->d;

	env_io_prep(&x->io, ENV_WRITE, op_priv(op)->seg->data, op->buf, op->len, off, written);
	/* One by itself is sooner through with one request. */
	x->io.flags = d->ndirect > 1 || d->mutate & REPL_MUTATE_DIRECT_UNSYNCED ? 0 : ENV_IO_DSYNC;
	env_submit(d->e, &x->io);
}

static void allocated(struct env_io *io)
{
	struct direct_io *x = container_of(io, struct direct_io, io);
	struct repl_op *op = x->op;
	struct op_priv *p = op_priv(op);
	struct repl_disk *d = p->vol->d;

	if (io->result < 0 || d->failed || p->seg->dead) {
		if (io->result < 0 && io->result != -ENOSPC && io->result != -EDQUOT)
			disk_fail(d, (int)-io->result, "cannot allocate space in a segment's file");
		list_push_front(&d->free_directs, &x->link);
		back_to_queue(op, DIRECT_NOT);
		return;
	}
	d->fs_free -= MIN(d->fs_free, op->len);
	write_data(x, io->off);
}

void direct_opened(struct repl_op *op)
{
	struct op_priv *p = op_priv(op);
	struct seg *s = p->seg;
	struct repl_disk *d = p->vol->d;
	struct list *l;
	struct direct_io *x;

	list_del(&op->link);
	if (!s->data || s->dead || d->failed) {
		back_to_queue(op, DIRECT_NOT);
		return;
	}
	l = list_pop(&d->free_directs);
	x = l ? list_entry(l, struct direct_io, link) : mem_alloc(sizeof(*x));
	if (!x) {
		back_to_queue(op, DIRECT_NOT);
		return;
	}
	list_init(&x->link);
	list_init(&x->with);
	x->op = op;
	if (p->reuse) {
		ENV_MARK(d->e, "write passes the log to where one did before");
		write_data(x, seg_place(s, p->side, op->off));
		return;
	}
	env_io_prep(&x->io, ENV_ALLOC, s->data, NULL, op->len, seg_place(s, p->side, op->off), allocated);
	env_submit(d->e, &x->io);
}

bool direct_take(struct repl_disk *d, struct repl_op *op)
{
	struct op_priv *p = op_priv(op);
	struct seg *s;
	int side;

	if (p->direct != DIRECT_UNTRIED || !suits(d, op))
		return false;
	if (!p->vol->dir) {
		d->early = true; /* its directory and record are wanted now */
		fiber_cond_signal(d->e, &d->wb);
		return false;
	}
	s = seg_find(p->vol, op->segment);
	p->reuse = false;
	side = s ? free_side(s, op, &p->reuse) : 0;
	if (side < 0 || p->vol->drops || behind(op, true) || log_admit(d, op, (uint32_t)(op->len / HCI_BLOCK)))
		return false;
	ENV_MARK_STATE(d->e, "write passes the log:new,other side", s && seg_valid(s, first_region(op)), 2);
	p->side = (uint8_t)side;
	p->direct = DIRECT_RUNS;
	d->ndirect++;
	list_del(&op->link);
	if (p->seg->data)
		direct_opened(op);
	else
		seg_want_file(p->seg, op);
	return true;
}

static void keep(struct repl_disk *d, const struct vol *v, const struct repl_op *op)
{
	const struct seg *s = seg_find(v, op->segment);

	for (uint32_t r = first_region(op); s && r < end_region(op); r++) {
		struct node *n = index_node(s, r);

		if (n)
			n->kept = d->passes;
	}
}

/*
 * A pass would punch out the side they are written to. From take to the end of the request: until then the entry is not
 * in the index. What comes after the pass has its snapshots finds them in the nodes. That the pass leaves them out would not
 * do: with a full log their entries wait for room, which only the pass can make.
 */
void direct_keep(struct repl_disk *d)
{
	if (d->mutate & REPL_MUTATE_DIRECT_PUNCHED)
		return;
	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		struct vol *v;

		list_for_each(v, &d->vols[i], link) {
			struct op_priv *p;

			list_for_each(p, &v->pending, pend) {
				if (p->direct == DIRECT_RUNS || p->direct == DIRECT_DONE)
					keep(d, v, container_of(p, const struct repl_op, priv));
			}
		}
	}
}

void direct_forget(struct seg *s)
{
	struct repl_disk *d = s->d;
	struct repl_op *op;

	list_for_each(op, &d->queue, link) {
		struct op_priv *p = op_priv(op);

		if (p->direct != DIRECT_DONE || p->seg != s)
			continue;
		ENV_MARK(d->e, "what passed the log was dropped");
		p->direct = DIRECT_NOT;
		log_unadmit(d, p);
	}
}

void direct_fini(struct repl_disk *d)
{
	struct list *l;

	while ((l = list_pop(&d->free_directs)))
		mem_free(list_entry(l, struct direct_io, link));
}
