/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of writes and the batches that carry them to the log. Group commit without a delay:
 * what arrives while a batch is being written makes up the next one. At most BATCHES are in flight;
 * they are applied and acknowledged in order, so that what is acknowledged is always a prefix of
 * the log. Where a batch goes is ring.c's business, what it says log_format.c's.
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

static void finish_run(struct repl_disk *d)
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
	finish_run(container_of(t, struct repl_disk, finish_task));
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

/* ---- making a batch ---- */

static bool is_control(const struct repl_op *op)
{
	return op->kind == (enum repl_op_kind)OP_FENCE || op->kind == (enum repl_op_kind)OP_DROP;
}

static uint32_t data_blocks(const struct repl_op *op)
{
	return op->kind == REPL_WRITE && op_priv((struct repl_op *)(uintptr_t)op)->direct != DIRECT_DONE
		       ? (uint32_t)(op->len / HCI_BLOCK)
		       : 0;
}

/* How many sums it has in the header. */
static uint32_t sum_blocks(const struct repl_op *op)
{
	return op->kind == REPL_WRITE ? (uint32_t)(op->len / HCI_BLOCK) : 0;
}

static uint32_t blocks_with(const struct repl_disk *d, const struct logf_batch *f, const struct repl_op *op)
{
	uint32_t data = f->data_blocks + data_blocks(op), sums = f->data_blocks + f->direct_blocks + sum_blocks(op);

	return logf_hdr_blocks(f->nvols + 1, f->nentries + 1, sums, d->prev_bytes) + data;
}

enum fit { FIT, FIT_NEXT, FIT_WAIT };

static enum fit fits(struct repl_disk *d, const struct batch *b, const struct repl_op *op)
{
	const struct logf_batch *f = b->f;
	uint32_t pos;

	if (f->nentries == LOGF_ENTRIES_MAX || f->nvols == LOGF_VOLS_MAX ||
	    f->data_blocks + f->direct_blocks + sum_blocks(op) > LOGF_DATA_MAX)
		return FIT_NEXT;
	if (ring_place(&d->log, blocks_with(d, f, op), is_control(op) ? 0 : CTL_RESERVE, &pos))
		return FIT;
	return f->nentries ? FIT_NEXT : FIT_WAIT;
}

static uint16_t batch_vol(struct repl_disk *d, struct logf_batch *f, struct vol *v)
{
	struct logf_vol *x;

	if (v->batch_lsn != d->log.next_lsn) {
		v->batch_lsn = d->log.next_lsn;
		v->batch_idx = f->nvols++;
		x = &f->vols[v->batch_idx];
		memset(x, 0, sizeof(*x));
		x->uuid = v->uuid;
		x->segsize = v->segsize;
	}
	x = &f->vols[v->batch_idx];
	x->stable = v->stable;
	/* An entry that is not a fence is of the admitted writer: older ones were turned away. */
	x->generation = MAX(v->max_gen, 1u);
	return (uint16_t)v->batch_idx;
}

static void add_data(struct batch *b, const struct repl_op *op)
{
	uint32_t n = sum_blocks(op), *sums = b->f->crcs + b->f->data_blocks + b->f->direct_blocks;

	if (op->sums)
		memcpy(sums, op->sums, n * sizeof(sums[0]));
	else
		block_sums(op->buf, n, sums);
	if (op_priv((struct repl_op *)(uintptr_t)op)->direct == DIRECT_DONE) {
		b->f->direct_blocks += n;
		return;
	}
	b->f->data_blocks += n;
	b->iov[b->niov].iov_base = op->buf;
	b->iov[b->niov++].iov_len = (size_t)op->len;
}

static void add(struct repl_disk *d, struct batch *b, struct repl_op *op)
{
	static const uint8_t kinds[] = { [REPL_WRITE] = LOGF_WRITE, [REPL_ZERO] = LOGF_ZERO };
	struct logf_batch *f = b->f;
	struct op_priv *p = op_priv(op);
	struct logf_entry *x = &f->entries[f->nentries++];

	memset(x, 0, sizeof(*x));
	if (op->stable > p->vol->stable && !is_control(op))
		p->vol->stable = op->stable;
	x->vol = batch_vol(d, f, p->vol);
	x->segment = op->segment;
	if (is_control(op)) {
		x->kind = op->kind == (enum repl_op_kind)OP_FENCE ? LOGF_FENCE : LOGF_DROP;
		p->vol->drops += x->kind == LOGF_DROP;
	} else {
		x->kind = p->direct == DIRECT_DONE ? LOGF_DIRECT : kinds[op->kind];
		x->flags = (op->flags & REPL_F_SETSEQ ? LOGF_F_SETSEQ : 0) |
			   (op->flags & REPL_F_ASIS ? LOGF_F_ASIS : 0) |
			   (p->direct == DIRECT_DONE && p->side ? LOGF_F_SIDE : 0);
		x->block = (uint32_t)(op->off / HCI_BLOCK);
		x->nblocks = (uint32_t)(op->len / HCI_BLOCK);
		x->seq = op->seq & REPL_SEQ_MASK;
	}
	if (op->kind == REPL_WRITE)
		add_data(b, op);
	list_del(&op->link);
	list_push(&b->ops, &op->link);
}

/* Takes from the queue what fits. False: nothing went in. */
static bool gather(struct repl_disk *d, struct batch *b, uint32_t budget)
{
	struct logf_batch *f = b->f;

	while (!list_empty(&d->queue) && (!f->nentries || f->data_blocks < budget)) {
		struct repl_op *op = list_first(&d->queue, struct repl_op, link);
		int status = 0;
		enum fit fit;

		if (op_stale(op, &status)) {
			log_unadmit(d, op_priv(op));
			op_finish(d, op, status);
			continue;
		}
		if (!is_control(op) && d->ndirect && direct_blocks(op))
			break;
		if (direct_take(d, op))
			continue;
		fit = fits(d, b, op);
		if (fit == FIT_WAIT && d->full) {
			log_unadmit(d, op_priv(op));
			op_finish(d, op, HCI_E_NOSPACE);
			continue;
		}
		if (fit == FIT_WAIT)
			ENV_MARK(d->e, "log is full");
		if (fit != FIT) {
			d->log_waits = fit == FIT_WAIT;
			break;
		}
		/* What follows a drop in the log must find the index without what was dropped. */
		if (op_priv(op)->vol->drops)
			break;
		status = ring_reserve(&d->log);
		if (!status && !is_control(op) && op_priv(op)->direct != DIRECT_DONE)
			status = log_admit(d, op, 0);
		if (status) {
			log_unadmit(d, op_priv(op));
			op_finish(d, op, status);
			continue;
		}
		add(d, b, op);
	}
	return f->nentries > 0;
}

static void batch_done(struct env_io *io);

void log_remember(struct repl_disk *d, const struct logf_hdr *h)
{
	d->prev_bytes = logf_own(h);
	memcpy(d->prev_hdr, h, d->prev_bytes);
}

static void batch_send(struct repl_disk *d, struct batch *b)
{
	struct logf_batch *f = b->f;
	uint32_t hdr;

	f->disk = d->uuid;
	f->lsn = d->log.next_lsn;
	f->epoch = d->log.epoch;
	f->tail_lsn = d->log.tail_lsn;
	f->durable = d->log.applied;
	f->key = d->super->log_key;
	f->prev = d->prev_hdr;
	f->prev_bytes = d->prev_bytes;
	hdr = logf_encode(f, b->hdr);
	log_remember(d, (const struct logf_hdr *)b->hdr);
	b->blocks = hdr + f->data_blocks;
	if (d->log.tail_lsn == d->log.next_lsn)
		fiber_cond_signal(d->e, &d->wb); /* it need not look at an empty log */
	ring_place(&d->log, b->blocks, 0, &b->pos);
	if (b->pos < d->log.head)
		ENV_MARK(d->e, "log begins anew");
	ring_take(&d->log, b->pos, b->blocks);
	b->iov[0].iov_base = b->hdr;
	b->iov[0].iov_len = hdr * HCI_BLOCK;
	env_io_prep(&b->io, ENV_WRITE, d->logf, NULL, 0, ring_off(b->pos), batch_done);
	b->io.flags = d->mutate & REPL_MUTATE_LOG_UNSYNCED ? 0 : ENV_IO_DSYNC;
	b->io.iov = b->iov;
	b->io.niov = b->niov;
	metric_add(d->m_batches, 1);
	env_submit(d->e, &b->io);
}

void log_kick(struct repl_disk *d)
{
	d->log_waits = false;
	while (!d->failed && !list_empty(&d->queue) && !list_empty(&d->free_batches)) {
		struct batch *b = list_first(&d->free_batches, struct batch, link);
		uint32_t budget = throttle_budget(d);

		if (!budget)
			break;
		b->f->nvols = b->f->nentries = b->f->data_blocks = b->f->direct_blocks = 0;
		b->niov = 1;
		b->done = false;
		if (!gather(d, b, budget))
			break;
		list_del(&b->link);
		list_push(&d->inflight, &b->link);
		batch_send(d, b);
		throttle_took(d, b->blocks);
	}
	metric_set(d->m_log, (int64_t)ring_used(&d->log) * HCI_BLOCK);
	if (d->log_waits || ring_used(&d->log) > throttle_level(d))
		fiber_cond_signal(d->e, &d->wb);
	if (d->failed)
		log_fail_all(d);
}

static void kick_task(struct env_task *t)
{
	log_kick(container_of(t, struct repl_disk, kick_task));
}

/* ---- applying ---- */

/* The data follow each other in the ring in the order of the entries. */
static int apply_op(struct repl_disk *d, struct repl_op *op, uint32_t *pos, const uint32_t **sums)
{
	struct op_priv *p = op_priv(op);
	struct seg *s = p->seg;
	uint32_t block = (uint32_t)(op->off / HCI_BLOCK), n = (uint32_t)(op->len / HCI_BLOCK);
	uint64_t seq = op->seq & REPL_SEQ_MASK;
	int rc = 0;

	if (op->kind == (enum repl_op_kind)OP_FENCE) {
		p->vol->gen = MAX(p->vol->gen, op->seq);
		p->vol->meta_dirty = true;
		return 0;
	}
	if (op->kind == (enum repl_op_kind)OP_DROP) {
		p->vol->drops--;
		drop_apply(p->vol, op->segment);
		return 0;
	}
	seg_real(s);
	index_unpromise(d, p->promised);
	p->promised = 0;
	if (p->direct == DIRECT_DONE)
		rc = index_direct(s, block, n, p->side, *sums, d->log.applied);
	else if (op->kind == REPL_WRITE)
		rc = index_write(s, block, n, *pos, op->buf, *sums, d->log.applied);
	else
		rc = index_zero(s, block, n, d->log.applied);
	index_seq(s, block, n, op->kind == REPL_ZERO, seq, op->flags & REPL_F_SETSEQ);
	p->vol->last = MAX(p->vol->last, seq);
	p->vol->meta_dirty = true;
	*pos += data_blocks(op);
	*sums += sum_blocks(op);
	return rc;
}

static void batch_apply(struct repl_disk *d, struct batch *b)
{
	uint32_t pos = b->pos + b->blocks - b->f->data_blocks;
	bool ok = b->io.result == (int64_t)b->blocks * HCI_BLOCK && !d->failed;
	const uint32_t *sums = b->f->crcs;
	struct list *l;

	if (!ok && !d->failed)
		disk_fail(d, b->io.result < 0 ? (int)-b->io.result : 0, "cannot write the log");
	if (ok)
		d->log.applied++;
	while ((l = list_pop(&b->ops))) {
		struct repl_op *op = list_entry(l, struct repl_op, link);

		if (ok && apply_op(d, op, &pos, &sums))
			disk_fail(d, 0, "out of memory for the index of the log");
		log_unadmit(d, op_priv(op));
		metric_add(d->m_writes, 1);
		op_finish(d, op, ok ? 0 : HCI_E_IO);
	}
}

static void batch_done(struct env_io *io)
{
	struct batch *b = container_of(io, struct batch, io);
	struct repl_disk *d = b->d;

	b->done = true;
	while (!list_empty(&d->inflight)) {
		b = list_first(&d->inflight, struct batch, link);
		if (!b->done)
			break;
		batch_apply(d, b);
		list_del(&b->link);
		list_push(&d->free_batches, &b->link);
	}
	log_kick(d);
	finish_run(d);
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

int log_init(struct repl_disk *d)
{
	list_init(&d->queue);
	list_init(&d->inflight);
	list_init(&d->free_batches);
	list_init(&d->finished);
	list_init(&d->free_directs);
	env_task_init(&d->kick_task, kick_task);
	env_task_init(&d->finish_task, finish_task);
	fiber_cond_init(&d->drained);
	throttle_init(d);
	d->prev_hdr = mem_alloc(LOGF_OWN_MAX);
	if (!d->prev_hdr)
		return HCI_E_NOMEM;
	for (unsigned i = 0; i < BATCHES; i++) {
		struct batch *b = MEM_NEW(struct batch);

		d->batches[i] = b;
		if (!b)
			return HCI_E_NOMEM;
		b->d = d;
		list_init(&b->ops);
		b->f = mem_alloc(sizeof(*b->f));
		b->hdr = mem_alloc_aligned(LOGF_HDR_MAX * HCI_BLOCK);
		if (!b->f || !b->hdr)
			return HCI_E_NOMEM;
		list_push(&d->free_batches, &b->link);
	}
	return 0;
}

void log_fini(struct repl_disk *d)
{
	env_undefer(d->e, &d->kick_task);
	env_undefer(d->e, &d->finish_task);
	throttle_fini(d);
	direct_fini(d);
	for (unsigned i = 0; i < BATCHES; i++) {
		if (!d->batches[i])
			continue;
		mem_free(d->batches[i]->f);
		mem_free_aligned(d->batches[i]->hdr);
		mem_free(d->batches[i]);
	}
	mem_free(d->prev_hdr);
	mem_free(d->log.pos);
}
