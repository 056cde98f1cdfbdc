/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of writes: what is checked before one goes in, what it may fail for, and its end. The batches that
 * carry them to the log are batch.c's.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

/* ---- the end of a request ---- */

void op_init(struct repl_op *op)
{
	struct op_priv *p = op_priv(op);

	memset(p, 0, sizeof(*p));
	list_init(&op->link);
	list_init(&p->pend);
	list_init(&p->waiters);
	op->status = 0;
}

/* Reads that stood behind a write go on, or wait for one before it: writes do not end in order, one that was refused is
 * over at once, and one that passes the log takes longer. */
static void wake_waiters(struct op_priv *p, struct list *before)
{
	struct list *l;

	while ((l = list_pop(&p->waiters)))
		read_behind(list_entry(l, struct repl_op, link), before);
}

void op_finish(struct repl_disk *d, struct repl_op *op, int status)
{
	struct op_priv *p = op_priv(op);

	op->status = status;
	list_del(&op->link);
	list_push(&d->finished, &op->link);
	if (p->data) {
		struct list *before = p->pend.prev;

		p->data = false;
		list_del(&p->pend);
		wake_waiters(p, before);
	}
	env_defer(d->e, &d->finish_task);
}

void log_tell(struct repl_disk *d)
{
	struct list now, *l;

	list_init(&now);
	list_splice(&now, &d->finished);
	while ((l = list_pop(&now))) {
		d->open_ops--;
		list_entry(l, struct repl_op, link)->done(list_entry(l, struct repl_op, link));
	}
	if (d->open_ops == 0)
		fiber_cond_signal(d->e, &d->drained);
}

static void finish_task(struct env_task *t)
{
	log_tell(container_of(t, struct repl_disk, finish_task));
}

/* ---- admission ---- */

void log_unadmit(struct repl_disk *d, struct op_priv *p)
{
	d->resv_pending -= p->resv;
	p->resv = 0;
	index_unpromise(d, p->promised);
	p->promised = 0;
	if (p->seg) {
		p->seg->inflight--;
		seg_unref(p->seg);
		p->seg = NULL;
	}
}

/* All that a write can fail for is found out here, before it is in the log. */
int log_admit(struct repl_disk *d, struct repl_op *op, uint32_t more)
{
	struct op_priv *p = op_priv(op);
	uint32_t block = (uint32_t)(op->off / HCI_BLOCK), n = (uint32_t)(op->len / HCI_BLOCK);
	uint32_t regions = (block + n - 1) / REGION_BLOCKS - block / REGION_BLOCKS + 1;
	struct seg *s = seg_find(p->vol, op->segment);
	uint64_t need = op->kind == REPL_WRITE ? index_new_blocks(s, block, n) : 0;

	need += more;
	if (!s || !s->real)
		need += seg_files_blocks(p->vol->segsize);
	if (need && !space_has(d, need)) {
		if (more)
			return HCI_E_NOSPACE; /* there is another way */
		ENV_MARK(d->e, "write refused for space");
		d->short_of_space = true;
		fiber_cond_signal(d->e, &d->wb);
		return HCI_E_NOSPACE;
	}
	s = seg_get(p->vol, op->segment);
	if (!s || seg_prepare(s, block, n) || !index_promise(d, regions))
		return HCI_E_NOMEM;
	p->promised = regions;
	p->resv = need;
	d->resv_pending += need;
	p->seg = s;
	s->refs++;
	s->inflight++;
	return 0;
}

/* ---- submission ---- */

static int check_range(const struct repl_op *op)
{
	const struct vol *v = op->slot->vol;

	if (op->off % HCI_BLOCK || op->len % HCI_BLOCK || op->len == 0)
		return HCI_E_ALIGN;
	if (op->off >= v->segsize || op->len > v->segsize - op->off)
		return HCI_E_RANGE;
	if (op->kind != REPL_ZERO && (op->len > REPL_IO_MAX || (uintptr_t)op->buf % HCI_BLOCK))
		return op->len > REPL_IO_MAX ? HCI_E_RANGE : HCI_E_ALIGN;
	if (op->kind != REPL_READ && op->slot->ro)
		return HCI_E_READONLY;
	if (op->kind != REPL_READ && (op->seq & REPL_SEQ_MASK) == 0)
		return HCI_E_INVAL;
	return 0;
}

/*
 * What was damaged on its way here, or changed by its owner while it was sent, must not be acknowledged: nobody
 * could read it afterwards. This takes the place of computing the sums for the log, which keeps the writer's.
 */
static int check_sums(const struct repl_op *op)
{
	if (op->kind != REPL_WRITE || !op->sums || op->flags & REPL_F_ASIS)
		return 0;
	return block_sums_wrong(op->buf, (uint32_t)(op->len / HCI_BLOCK), op->sums) ? HCI_E_CORRUPT : 0;
}

static void tell_stable(struct repl_op *op)
{
	struct vol *v = op->slot->vol;

	if (op->slot->ro || op->stable <= v->stable)
		return;
	v->stable = op->stable;
	v->meta_dirty = true;
}

void repl_submit(struct repl_op *op)
{
	struct repl_slot *slot = op->slot;
	struct repl_disk *d = slot->d;
	struct op_priv *p = op_priv(op);
	int status = 0;

	op_init(op);
	p->vol = slot->vol;
	d->open_ops++;
	if (!(op->flags & REPL_F_BACKGROUND))
		d->last_io = env_now(d->e);
	if (d->failed)
		status = HCI_E_IO;
	else if (d->closing)
		status = HCI_E_CLOSED;
	else if (!op_stale(op, &status) && op->kind != REPL_STABLE)
		status = check_range(op);
	if (!status)
		status = check_sums(op);
	if (status || op->kind == REPL_STABLE) {
		if (!status)
			tell_stable(op);
		op_finish(d, op, status);
	} else if (op->kind == REPL_READ) {
		read_submit(op);
	} else {
		p->data = true;
		list_push(&d->queue, &op->link);
		list_push(&slot->vol->pending, &p->pend);
		env_defer(d->e, &d->kick_task);
	}
}

static void ctl_done(struct repl_op *op)
{
	struct ctl *c = container_of(op, struct ctl, op);

	c->done = true;
	fiber_wake(op_priv(op)->vol->d->e, c->fiber);
}

int log_control(struct repl_disk *d, struct ctl *c)
{
	struct op_priv *p = op_priv(&c->op);
	struct vol *v = p->vol;

	op_init(&c->op);
	p->vol = v;
	c->op.done = ctl_done;
	c->fiber = fiber_self(d->e);
	c->done = false;
	if (d->failed)
		return HCI_E_IO;
	v->refs++;
	d->open_ops++;
	list_push(&d->queue, &c->op.link);
	env_defer(d->e, &d->kick_task);
	while (!c->done)
		fiber_park(d->e);
	vol_put(v);
	return c->op.status;
}

/* The disk failed: what is queued is over; what is in flight ends when its I/O does. */
void log_fail_all(struct repl_disk *d)
{
	struct list *l;

	while ((l = list_pop(&d->queue))) {
		log_unadmit(d, op_priv(list_entry(l, struct repl_op, link)));
		op_finish(d, list_entry(l, struct repl_op, link), HCI_E_IO);
	}
}

/* ---- beginning and end ---- */

static void kick_task(struct env_task *t)
{
	log_kick(container_of(t, struct repl_disk, kick_task));
}

int log_init(struct repl_disk *d)
{
	list_init(&d->queue);
	list_init(&d->finished);
	list_init(&d->free_directs);
	env_task_init(&d->kick_task, kick_task);
	env_task_init(&d->finish_task, finish_task);
	fiber_cond_init(&d->drained);
	throttle_init(d);
	return batch_init(d);
}

void log_fini(struct repl_disk *d)
{
	env_undefer(d->e, &d->kick_task);
	env_undefer(d->e, &d->finish_task);
	throttle_fini(d);
	direct_fini(d);
	batch_fini(d);
	mem_free(d->log.pos);
}
