/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the medium to memory: slot records and region tables (recover_tables.c), then every batch of the log from its
 * tail to its end, where no batch is whole any more and none was (recover_gap.c). Nothing is moved to its place here, the
 * index points into the log. Applying a batch again, on top of tables that already have it, ends in the same state,
 * so recovery may be cut off and begun anew at any point.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/recover.h"

#define WINDOW_MIN 32u /* blocks */

static int load_checkpoint(struct rec *r)
{
	struct repl_disk *d = r->d;
	struct ring *g = &d->log;
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	const struct ckpt_page *c;
	unsigned which = 0;
	enum page_state st;
	int64_t n = pair ? fiber_read(d->e, d->logf, pair, PAGE_PAIR, 0) : -ENOMEM;
	int rc = 0;

	if (n != PAGE_PAIR) {
		mem_free_aligned(pair);
		return n < 0 ? disk_sys_error(d, (int)n, "cannot read the log", r->err)
			     : rec_corrupt(r, "log", "the file is cut short");
	}
	st = page_pick(pair, CKPT_MAGIC, CKPT_VERSION, &d->uuid, &which, &r->ckpt_damaged);
	c = (const void *)(pair + which * HCI_BLOCK);
	if (st != PAGE_VALID) {
		rc = rec_page_error(r, "log", st);
	} else if (c->tail_block >= g->blocks || c->tail_lsn == 0) {
		rc = rec_corrupt(r, "log", "the checkpoint makes no sense");
	} else {
		g->head = g->tail = (uint32_t)c->tail_block;
		g->next_lsn = g->tail_lsn = c->tail_lsn;
		g->applied = c->tail_lsn - 1;
		g->min_epoch = r->epoch = c->min_epoch;
		g->ckpt_serial = c->h.serial;
		/* Each opening says it here first (begin_epoch): the superblock's copy that says it, too, may be damaged. */
		d->super->epoch = g->epoch = MAX(d->super->epoch, c->epoch);
	}
	mem_free_aligned(pair);
	return rc;
}

/* A little first: most logs are nearly empty. Each further piece is twice as long, and holds what is known to be needed. */
int rec_fill(struct rec *r, uint32_t pos, uint32_t need)
{
	struct repl_disk *d = r->d;
	uint32_t n = MIN(MAX(MAX(r->n * 2, WINDOW_MIN), need), (uint32_t)(REC_WINDOW / HCI_BLOCK));
	int64_t got;

	n = MIN(n, d->log.blocks - pos);
	got = fiber_read(d->e, d->logf, r->buf, (uint64_t)n * HCI_BLOCK, ring_off(pos));
	if (got < 0)
		return disk_sys_error(d, (int)got, "cannot read the log", r->err);
	r->first = pos;
	r->n = (uint32_t)(got / HCI_BLOCK);
	return 0;
}

/* Is the next batch at pos? *found says so; an error is one of reading. */
static int batch_at(struct rec *r, uint32_t pos, struct logf_view *v, bool *found)
{
	const struct ring *g = &r->d->log;
	enum logf_result res = LOGF_SHORT;
	int rc;

	*found = false;
	memset(v, 0, sizeof(*v));
	for (unsigned tries = 0; tries < 2 && res == LOGF_SHORT; tries++) {
		if (tries || pos < r->first || pos >= r->first + r->n) {
			rc = rec_fill(r, pos, v->blocks);
			if (rc)
				return rc;
		}
		res = logf_parse(r->buf + (size_t)(pos - r->first) * HCI_BLOCK,
				 (size_t)(r->first + r->n - pos) * HCI_BLOCK, &r->d->uuid, v);
	}
	if (v->torn && r->d->mutate & REPL_MUTATE_TORN_BATCH)
		res = LOGF_OK;
	*found = res == LOGF_OK && v->hdr->lsn == g->next_lsn && v->hdr->key == r->d->super->log_key &&
		 (v->hdr->epoch >= r->epoch || r->d->mutate & REPL_MUTATE_OLD_EPOCH) &&
		 v->hdr->epoch <= r->d->log.epoch && r->taken + v->blocks < g->blocks;
	if (v->torn && v->hdr->lsn == g->next_lsn)
		ENV_MARK(r->d->e, "recovery ends at a torn batch");
	if (res == LOGF_OK && v->hdr->lsn == g->next_lsn && v->hdr->epoch < r->epoch)
		ENV_MARK(r->d->e, "recovery ends at a leftover");
	return 0;
}

static int apply_data(struct rec *r, struct vol *v, const struct logf_entry *x, uint32_t pos, const uint32_t *sums)
{
	struct seg *s = seg_get(v, x->segment);
	bool zero = x->kind == LOGF_ZERO;
	uint64_t lsn = r->d->log.applied;
	int rc = s ? seg_prepare(s, x->block, x->nblocks) : HCI_E_NOMEM;

	if (rc)
		return rc;
	seg_real(s);
	/* Unless it is dropped later on in the log. */
	s->broken |= x->kind == LOGF_DIRECT && !s->on_disk;
	if (x->kind == LOGF_DIRECT)
		rc = index_direct(s, x->block, x->nblocks, !!(x->flags & LOGF_F_SIDE), sums, lsn, false);
	else
		rc = zero ? index_zero(s, x->block, x->nblocks, lsn)
		  : index_write(s, x->block, x->nblocks, pos, NULL, sums, lsn);
	if (rc)
		return rc;
	index_seq(s, x->block, x->nblocks, zero, x->seq, x->flags & LOGF_F_SETSEQ);
	v->last = MAX(v->last, x->seq);
	v->meta_dirty = true;
	return 0;
}

static int apply_vols(struct rec *r, const struct logf_view *b, struct vol **vols)
{
	for (uint32_t i = 0; i < b->hdr->nvols; i++) {
		const struct logf_vol *x = &b->vols[i];
		struct vol *v = vol_find(r->d, &x->uuid);

		if (!v)
			v = vol_new(r->d, &x->uuid, x->segsize);
		if (!v)
			return HCI_E_NOMEM;
		if (v->segsize != x->segsize)
			return rec_corrupt(r, "log", "a slot has two segment sizes");
		v->gen = v->max_gen = MAX(v->gen, x->generation);
		v->stable = MAX(v->stable, x->stable);
		v->meta_dirty = true;
		vols[i] = v;
	}
	return 0;
}

static int apply_batch(struct rec *r, const struct logf_view *b, uint32_t pos)
{
	struct vol **vols = mem_calloc(LOGF_VOLS_MAX, sizeof(struct vol *));
	const uint32_t *sums = b->crcs;
	int rc = vols ? apply_vols(r, b, vols) : HCI_E_NOMEM;

	pos += b->hdr->hdr_blocks;
	for (uint32_t i = 0; i < b->hdr->nentries && !rc; i++) {
		const struct logf_entry *x = &b->entries[i];

		if (x->kind == LOGF_DROP)
			drop_apply(vols[x->vol], x->segment);
		else if (x->kind != LOGF_FENCE && !vols[x->vol]->gone)
			rc = apply_data(r, vols[x->vol], x, pos, sums);
		if (x->kind == LOGF_WRITE)
			pos += x->nblocks;
		if (x->kind == LOGF_WRITE || x->kind == LOGF_DIRECT)
			sums += x->nblocks;
	}
	mem_free(vols);
	return rc == HCI_E_NOMEM ? rec_nomem(r, " for the index of the log") : rc;
}

int rec_take(struct rec *r, const struct logf_view *b, uint32_t pos)
{
	struct ring *g = &r->d->log;

	if (ring_reserve(g))
		return rec_nomem(r, " for the index of the log");
	ring_take(g, pos, b->blocks);
	g->applied++;
	r->taken += b->blocks;
	r->epoch = b->hdr->epoch;
	log_remember(r->d, b->hdr);
	return apply_batch(r, b, pos);
}

static int scan(struct rec *r)
{
	struct logf_view v;
	bool found, over = false;
	int rc = 0;

	while (!rc && !over) {
		uint32_t pos = r->d->log.head;

		rc = batch_at(r, pos, &v, &found);
		if (!rc && !found && pos != 0)
			rc = batch_at(r, pos = 0, &v, &found);
		if (!rc)
			rc = found ? rec_take(r, &v, pos) : rec_gap(r, &over);
	}
	return rc;
}

static int check_broken(struct rec *r)
{
	struct vol *v;

	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		list_for_each(v, &r->d->vols[i], link) {
			for (uint32_t k = 0; k < v->nsegs; k++) {
				char name[16];

				if (!v->segs[k]->broken)
					continue;
				snprintf(name, sizeof(name), "%08x.seg", v->segs[k]->no);
				return rec_corrupt(r, name,
					       "the segment's data file is missing, or its table "
					       "is cut short");
			}
		}
	}
	return 0;
}

/* Batches that had been durable are not there any more: what was acknowledged is lost. */
static int check_end(struct rec *r)
{
	struct repl_disk *d = r->d;
	bool ext = d->super->flags & SUPER_EXT_LOG;

	if (d->log.next_lsn >= d->log.must_lsn)
		return 0;
	ENV_MARK(d->e, "recovery misses what was durable");
	return err_set(r->err, ext ? HCI_E_STATE : HCI_E_CORRUPT,
		       "disk %s: its write log %s ends at batch %llu, but %llu had been written: it is damaged or an old copy; "
		       "what the disk held last is lost, it has to be emptied and filled again from the other replicas",
		       d->path, d->log_path, (unsigned long long)d->log.next_lsn - 1,
		       (unsigned long long)d->log.must_lsn - 1);
}

static int finish(struct rec *r)
{
	struct repl_disk *d = r->d;
	int rc = check_end(r); /* first: what an old log says of segments may have been true once */

	if (!rc)
		rc = check_broken(r);
	if (rc)
		return rc;

	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		struct vol *v;

		list_for_each(v, &d->vols[i], link)
			rebuild_seqs(v);
	}
	ENV_MARK(d->e, "recovery syncs the log");
	/* A batch may have been found that nobody was told is durable: what reads see must stay. */
	rc = d->mutate & REPL_MUTATE_RECOVERY_UNSYNCED ? 0 : fiber_fsync(d->e, d->logf);
	if (!rc)
		rc = drop_unlink(d);
	return rc ? disk_sys_error(d, rc, "cannot finish recovery", r->err) : 0;
}

int recover(struct repl_disk *d, struct hci_error *err)
{
	struct rec r = { .d = d, .err = err, .clean = d->super->flags & SUPER_CLEAN };
	int rc;

	ENV_MARK_STATE(d->e, "recovery begins:unclean,clean", r.clean, 2);
	rc = rec_load_vols(&r);
	ENV_MARK(d->e, "recovery has the tables");
	if (!rc)
		rc = load_checkpoint(&r);
	r.buf = rc ? NULL : mem_alloc_aligned(REC_WINDOW);
	if (!rc && !r.buf)
		rc = rec_nomem(&r, " for recovery");
	if (!rc && r.ckpt_damaged && !(d->mutate & REPL_MUTATE_CKPT_OLDER))
		rc = rec_find_tail(&r);
	if (!rc)
		rc = scan(&r);
	mem_free_aligned(r.buf);
	ENV_MARK_STATE(d->e, "recovery has the log:yes,no", rc != 0, 2);
	if (rc)
		return rc;
	d->log.first_lsn = d->log.next_lsn;
	return finish(&r);
}
