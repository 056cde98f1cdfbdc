/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads. Each is put together from memory, from the log and from the segment file, as the index
 * says at one moment; nothing that is not durable is ever returned, so what a read saw stays so. A
 * read behind a write to the same blocks that is not yet durable waits for it.
 *
 * The sums that the blocks should have are taken down at that same moment. They are compared by whoever
 * gets them, on the writer's side of the network, so that it costs once and covers all of the way; here
 * only for those who ask.
 *
 * A pass may take away what a read under way looks at (a place in the log, blocks of the file): it
 * waits with readers_wait() for the reads that began before. Two counters in turn tell them apart.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

struct part {
	struct list link;
	struct env_io io;
	struct repl_op *op;
	struct repl_disk *d;
	bool of_log;
};

enum source { SRC_ZERO, SRC_MEM, SRC_LOG, SRC_FILE, SRC_DIRECT /* the file, too, with its sum in the index */ };

static void read_finish(struct repl_disk *d, struct repl_op *op, int status)
{
	struct op_priv *p = op_priv(op);
	uint32_t wrong = 0;

	if (!status && (p->own_sums || op->flags & REPL_F_VERIFY))
		wrong = block_sums_wrong(op->buf, (uint32_t)(op->len / HCI_BLOCK), op->sums);
	if (wrong) {
		metric_add(d->m_corrupt, wrong);
		status = HCI_E_CORRUPT;
	}
	if (p->own_sums) {
		mem_free(op->sums);
		op->sums = NULL;
		p->own_sums = false;
	}
	op_finish(d, op, status);
}

static void read_unref(struct repl_disk *d, struct repl_op *op)
{
	struct op_priv *p = op_priv(op);

	if (--p->left > 0)
		return;
	list_del(&op->link);
	if (--d->readers[p->phase] == 0)
		fiber_cond_signal(d->e, &d->readers_gone);
	if (p->seg) {
		seg_unref(p->seg);
		p->seg = NULL;
	}
	read_finish(d, op, p->err);
}

static void part_done(struct env_io *io)
{
	struct part *x = container_of(io, struct part, io);
	struct repl_disk *d = x->d;
	struct repl_op *op = x->op;

	if (io->result != (int64_t)io->iov1.iov_len)
		op_priv(op)->err = disk_fail(d, io->result < 0 ? (int)-io->result : 0,
					     x->of_log ? "cannot read the log"
						       : "cannot read a segment's file");
	list_push_front(&d->free_reads, &x->link);
	read_unref(d, op);
}

static void part_submit(struct repl_disk *d, struct repl_op *op, bool of_log, struct env_file *f,
			uint64_t off, void *buf, uint64_t len)
{
	struct list *l = list_pop(&d->free_reads);
	struct part *x = l ? list_entry(l, struct part, link) : mem_alloc(sizeof(*x));

	if (!x) {
		op_priv(op)->err = HCI_E_NOMEM;
		return;
	}
	list_init(&x->link);
	x->op = op;
	x->d = d;
	x->of_log = of_log;
	op_priv(op)->left++;
	env_io_prep(&x->io, ENV_READ, f, buf, len, off, part_done);
	env_submit(d->e, &x->io);
}

/* Where a block is; *at: its frame or its place in the ring. */
static enum source source(const struct seg *s, uint32_t block, const uint8_t **mem, uint32_t *loc)
{
	const struct node *n = index_node(s, block / REGION_BLOCKS);
	unsigned i = block % REGION_BLOCKS;

	*loc = n ? n->loc[i] : 0;
	if (*loc == 0)
		return seg_valid(s, block / REGION_BLOCKS) >> i & 1 ? SRC_FILE : SRC_ZERO;
	if (*loc == LOC_ZERO)
		return SRC_ZERO;
	if (*loc == LOC_FILE)
		return SRC_DIRECT;
	*mem = n->mem[i];
	return *mem ? SRC_MEM : SRC_LOG;
}

static bool needs(const struct seg *s, uint32_t block, uint32_t n, bool sums)
{
	const uint8_t *mem;
	uint32_t loc;

	for (uint32_t b = block; b < block + n; b++) {
		enum source src = source(s, b, &mem, &loc);

		if (src == SRC_FILE || (src == SRC_DIRECT && !sums))
			return true;
	}
	return false;
}

/* What n blocks from the same kind of place should have. */
static void note_sums(const struct seg *s, uint32_t block, uint32_t n, enum source src, uint32_t *out)
{
	for (uint32_t b = block; b < block + n; b++) {
		if (src == SRC_ZERO)
			*out++ = SUM_ZEROES;
		else if (src == SRC_FILE)
			*out++ = *sums_at(s, b);
		else
			*out++ = index_node(s, b / REGION_BLOCKS)->sum[b % REGION_BLOCKS];
	}
}

/* The pages of sums of what comes from the file: false when the read waits for one, or failed. */
static bool have_sums(struct repl_op *op, struct seg *s)
{
	uint32_t block = (uint32_t)(op->off / HCI_BLOCK), end = block + (uint32_t)(op->len / HCI_BLOCK);

	while (block < end) {
		uint32_t page = block / SUM_BLOCKS, stop = MIN(end, (page + 1) * SUM_BLOCKS);

		if (!sums_ready(s, page) && needs(s, block, stop - block, true)) {
			struct sums *x = sums_want(s, page);

			if (x && !x->ready) {
				sums_wait_read(x, op);
				return false;
			}
			if (!x) {
				read_finish(s->d, op, HCI_E_NOMEM);
				return false;
			}
		}
		if (sums_ready(s, page))
			sums_touch(s->sums[page]);
		block = stop;
	}
	return true;
}

/* How many blocks from b on come from the same place in a row. */
static uint32_t run_length(const struct seg *s, uint32_t b, uint32_t end, enum source src,
			   uint32_t loc)
{
	uint32_t n = 1, next;
	const uint8_t *mem;

	while (b + n < end && src != SRC_MEM && source(s, b + n, &mem, &next) == src &&
	       (src != SRC_LOG || next == loc + n) &&
	       ((src != SRC_FILE && src != SRC_DIRECT) ||
		seg_off(s, b + n) == seg_off(s, b) + (uint64_t)n * HCI_BLOCK))
		n++;
	return n;
}

static void assemble(struct repl_disk *d, struct repl_op *op, struct seg *s)
{
	uint32_t first = (uint32_t)(op->off / HCI_BLOCK),
		 end = first + (uint32_t)(op->len / HCI_BLOCK);
	uint32_t b = first, n;

	for (; b < end; b += n) {
		uint8_t *to = (uint8_t *)op->buf + (size_t)(b - first) * HCI_BLOCK;
		const uint8_t *mem = NULL;
		uint32_t loc;
		enum source src = source(s, b, &mem, &loc);

		n = run_length(s, b, end, src, loc);
		note_sums(s, b, n, src, op->sums + (b - first));
		if (src == SRC_ZERO)
			memset(to, 0, (size_t)n * HCI_BLOCK);
		else if (src == SRC_MEM)
			memcpy(to, mem, HCI_BLOCK);
		else if (src == SRC_LOG)
			part_submit(d, op, true, d->logf, ring_off(loc - 1), to,
				    (uint64_t)n * HCI_BLOCK);
		else
			part_submit(d, op, false, s->data, seg_off(s, b), to,
				    (uint64_t)n * HCI_BLOCK);
	}
}

void read_go(struct repl_op *op)
{
	struct op_priv *p = op_priv(op);
	struct repl_disk *d = p->vol->d;
	int status = 0;
	struct seg *s;

	list_del(&op->link);
	if (d->failed)
		status = HCI_E_IO;
	if (!status && !op->sums) {
		op->sums = mem_alloc(op->len / HCI_BLOCK * sizeof(op->sums[0]));
		p->own_sums = op->sums;
		status = op->sums ? 0 : HCI_E_NOMEM;
	}
	if (!status && !op_stale(op, &status) && op->flags & REPL_F_LENT && slot_has_dropped(op->slot, op->segment))
		status = HCI_E_CLOSED;
	if (status) {
		read_finish(d, op, status);
		return;
	}
	s = seg_find(p->vol, op->segment);
	if (!s) {
		memset(op->buf, 0, (size_t)op->len);
		for (uint64_t i = 0; i < op->len / HCI_BLOCK; i++)
			op->sums[i] = SUM_ZEROES;
		read_finish(d, op, 0);
		return;
	}
	if (!s->data &&
	    needs(s, (uint32_t)(op->off / HCI_BLOCK), (uint32_t)(op->len / HCI_BLOCK), false)) {
		seg_want_file(s, op);
		return;
	}
	if (!have_sums(op, s))
		return;
	if (s->data) {
		list_del(&s->lru);
		list_push(&d->open_segs, &s->lru);
	}
	load_count(s, op);
	p->seg = s;
	s->refs++;
	p->left = 1;
	p->err = 0;
	p->phase = d->phase;
	d->readers[p->phase]++;
	p->began = ++d->reads_begun;
	list_push(&d->reading, &op->link);
	assemble(d, op, s);
	read_unref(d, op);
}

static bool overlap(const struct repl_op *a, const struct repl_op *b)
{
	return a->segment == b->segment && a->off < b->off + b->len && b->off < a->off + a->len;
}

/* Waits for the last write of the same blocks up to `last`, in the order of submission; or goes on. */
void read_behind(struct repl_op *op, struct list *last)
{
	struct vol *v = op_priv(op)->vol;

	for (struct list *l = last; l != &v->pending; l = l->prev) {
		struct op_priv *w = list_entry(l, struct op_priv, pend);

		if (overlap(container_of(w, struct repl_op, priv), op)) {
			list_push(&w->waiters, &op->link);
			return;
		}
	}
	read_go(op);
}

void read_submit(struct repl_op *op)
{
	struct vol *v = op_priv(op)->vol;

	metric_add(v->d->m_reads, 1);
	read_behind(op, v->pending.prev);
}

bool readers_gone(const struct repl_disk *d, uint64_t begun)
{
	const struct repl_op *first;

	if (list_empty(&d->reading))
		return true;
	first = list_first(&d->reading, struct repl_op, link);
	return op_priv((struct repl_op *)(uintptr_t)first)->began > begun;
}

void readers_wait(struct repl_disk *d)
{
	unsigned old = d->phase;

	d->phase = !old;
	while (d->readers[old])
		fiber_cond_wait(d->e, &d->readers_gone);
}

void read_fini(struct repl_disk *d)
{
	struct list *l;

	while ((l = list_pop(&d->free_reads)))
		mem_free(list_entry(l, struct part, link));
}
