/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batches that carry queued writes to the log. Group commit without a delay: what arrives while a batch is being
 * written makes up the next one. At most BATCHES are in flight; they are applied and acknowledged in order, so that what is
 * acknowledged is always a prefix of the log. Where a batch goes is ring.c's business, what it says log_format.c's.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

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
	load_count(s, op);
	index_unpromise(d, p->promised);
	p->promised = 0;
	if (p->direct == DIRECT_DONE)
		rc = index_direct(s, block, n, p->side, *sums, d->log.applied, true);
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
	uint64_t writes = 0;
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
		op_finish(d, op, ok ? 0 : HCI_E_IO);
		writes++;
	}
	metric_add(d->m_writes, writes); /* atomic: it waits for the stores before, so not after each copy */
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
	log_tell(d);
}

/* ---- beginning and end ---- */

int batch_init(struct repl_disk *d)
{
	list_init(&d->inflight);
	list_init(&d->free_batches);
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

void batch_fini(struct repl_disk *d)
{
	for (unsigned i = 0; i < BATCHES; i++) {
		if (!d->batches[i])
			continue;
		mem_free(d->batches[i]->f);
		mem_free_aligned(d->batches[i]->hdr);
		mem_free(d->batches[i]);
	}
	mem_free(d->prev_hdr);
}
