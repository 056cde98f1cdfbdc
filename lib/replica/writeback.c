/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write-back: from the log to the segment files, in passes. A pass takes the oldest regions of the
 * index, writes and syncs their blocks, then the region tables, then moves the log's tail. Until
 * the tail moves the log covers everything, so a pass may be cut off at any point and done again.
 *
 * The order inside a pass is what crash safety hangs on; see docs/disk-format.md, "Write-back".
 */
#include <errno.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

#define RETRY_NS (1 * NS_PER_S)
#define STATFS_NS (5 * NS_PER_S)

/* ---- the parts of a pass ---- */

static struct vol *next_dirty_vol(struct repl_disk *d, uint64_t pass)
{
	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		struct vol *v;

		list_for_each(v, &d->vols[i], link) {
			if (v->meta_dirty && v->meta_pass != pass && vol_real(v) && !v->gone)
				return v;
		}
	}
	return NULL;
}

/* Slot records first: a segment's files need their directory. */
static int write_metas(struct repl_disk *d)
{
	struct vol *v;
	int rc = 0;

	while (!rc && (v = next_dirty_vol(d, d->passes))) {
		v->meta_pass = d->passes;
		v->refs++;
		rc = vol_write_meta(v);
		vol_put(v);
	}
	return rc;
}

int wb_sync(struct wb *w, bool maps)
{
	struct seg *s;
	int rc = 0, err;

	list_for_each(s, &w->segs, touched_link) {
		if (!rc && !s->dead)
			rc = wb_io(w, ENV_SYNC, maps ? s->map : s->data, NULL, 0, 0);
	}
	err = wb_wait(w);
	rc = rc ? rc : err;
	if (maps && !rc) {
		list_for_each(s, &w->segs, touched_link)
			s->unsure = false;
	}
	return rc;
}

static int sums_wait_all(struct wb *w)
{
	int rc = 0;

	for (uint32_t i = 0; i < w->nsums; i++) {
		int one = sums_wait(w->sums[i]);

		rc = rc ? rc : one;
	}
	return rc;
}

/* The sums are the writer's: if the log gave back something else, it is found out at the next read. */
static void set_sums(struct snap *sn)
{
	struct seg *s = sn->node->seg;
	uint32_t region = sn->node->region;

	if (!(sn->written | sn->filed | sn->cleared) || !sums_ready(s, sums_page(region)))
		return; /* the latter: the segment was dropped */
	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if ((sn->written | sn->filed) >> i & 1)
			*sums_at(s, region * REGION_BLOCKS + i) = sn->sum[i];
		else if (sn->cleared >> i & 1)
			*sums_at(s, region * REGION_BLOCKS + i) = SUM_NONE;
	}
	s->sums[sums_page(region)]->dirty = true;
	seg_dirty(s);
}

static void mark_valid(struct repl_disk *d, struct wb *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		struct snap *sn = &w->snaps[i];
		struct seg *s = sn->node->seg;
		uint16_t was = seg_valid(s, sn->node->region);
		uint16_t now = (uint16_t)((was | sn->written | sn->filed) & ~sn->cleared);

		if (!was && now && !sn->direct)
			d->fs_free -= MIN(d->fs_free, REPL_REGION);
		index_valid(s, sn->node->region, now);
		set_sums(sn);
	}
}

static void forget_empty(struct seg *s)
{
	for (uint32_t i = 0; i < s->npages && s->inflight == 0; i++) {
		struct mpage *p = s->pages[i];

		if (!p || p->nnodes)
			continue;
		mem_free(p->nodes);
		p->nodes = NULL;
	}
}

static void let_go(struct repl_disk *d, struct wb *w)
{
	struct list *l;

	(void)sums_wait_all(w);
	for (uint32_t i = 0; i < w->nsums; i++) {
		w->sums[i]->in_pass = false;
		sums_put(w->sums[i]);
	}
	w->nsums = w->sums_seen = 0;
	sums_trim(d);
	while ((l = list_pop(&w->segs))) {
		struct seg *s = list_entry(l, struct seg, touched_link);

		s->touched = false;
		if (!s->dead)
			forget_empty(s);
		seg_unref(s);
	}
	index_trim(d);
}

static void end_snaps(struct wb *w, uint64_t lsn, struct list *before, bool done)
{
	for (uint32_t i = 0; i < w->n; i++) {
		struct node *n = w->snaps[i].node;
		struct seg *s = n->seg;

		if (done && w->snaps[i].part) {
			index_node_done(n, w->rest_lsn, &w->rest);
		} else if (done) {
			index_node_done(n, lsn, before);
		} else {
			n->lsn = w->d->log.tail_lsn; /* they are no longer in order */
			index_node_requeue(n, before);
		}
		seg_unref(s);
	}
	w->n = 0;
}

int wb_checkpoint(struct repl_disk *d, uint64_t tail_lsn)
{
	struct ring *r = &d->log;
	struct ckpt_page *c = mem_alloc_aligned(HCI_BLOCK);
	uint32_t used;
	int64_t n;

	if (!c)
		return -ENOMEM;
	memset(c, 0, HCI_BLOCK);
	if (tail_lsn >= r->first_lsn)
		r->min_epoch = r->epoch;
	c->tail_lsn = tail_lsn;
	c->min_epoch = r->min_epoch;
	c->epoch = r->epoch;
	c->tail_block = ring_pos_of(r, tail_lsn);
	r->ckpt_serial++;
	page_seal(c, CKPT_MAGIC, CKPT_VERSION, r->ckpt_serial, &d->uuid);
	n = fiber_write(d->e, d->logf, c, HCI_BLOCK, (r->ckpt_serial & 1) * HCI_BLOCK,
			ENV_IO_DSYNC);
	mem_free_aligned(c);
	if (n < 0)
		return (int)n;
	ENV_MARK(d->e, "tail has moved");
	used = ring_used(r);
	ring_release(r, tail_lsn);
	throttle_freed(d, used - ring_used(r));
	return 0;
}

static int pass_data(struct repl_disk *d, struct wb *w)
{
	int rc;

	/* Reads from before the snapshot may look at what is about to be overwritten in the files.
	 */
	readers_wait(d);
	ENV_MARK(d->e, "write-back begins");
	rc = wb_write_data(w);
	ENV_MARK(d->e, "write-back has written");
	if (!rc && !(d->mutate & REPL_MUTATE_FILES_UNSYNCED))
		rc = wb_sync(w, false);
	if (!rc)
		rc = sums_wait_all(w);
	if (rc)
		return rc;
	ENV_MARK(d->e, "write-back has synced");
	mark_valid(d, w);
	return wb_write_tables(d, w);
}

/*
 * The tail may move to the oldest batch that the index still needs, but not past what was applied when the pass
 * began: only that much is sure to be in the tables and records it wrote. Settled when the snapshots are taken, since
 * it also says which pages of tables must be written.
 */
static uint64_t new_tail(const struct wb *w, const struct list *mark, uint64_t limit)
{
	const struct list *first = w->d->dirty.next == &w->rest ? w->rest.next : w->d->dirty.next;

	limit = MIN(limit, w->rest_lsn); /* of what was left out of the snapshots, too */
	return first == mark ? limit : MIN(limit, list_entry(first, struct node, dirty)->lsn);
}

int wb_pass(struct repl_disk *d)
{
	struct wb *w = d->pass;
	uint64_t limit = d->log.applied + 1;
	struct list mark;
	int rc;

	d->passes++;
	d->early = false;
	w->err = 0;
	throttle_pass_begin(d);
	rc = drop_unlink(d);
	if (!rc)
		rc = write_metas(d);
	if (rc) {
		throttle_pass_end(d, false);
		return rc;
	}
	list_push(&d->dirty, &mark);
	rc = wb_take(d, w, &mark);
	throttle_pass_takes(d, w->blocks);
	w->tail = new_tail(w, &mark, limit);
	if (!rc)
		rc = pass_data(d, w);
	end_snaps(w, limit, rc ? d->dirty.next : &mark, !rc);
	list_del(&mark);
	list_del(&w->rest);
	let_go(d, w);
	if (rc) {
		throttle_pass_end(d, false);
		return rc;
	}
	ENV_MARK(d->e, "write-back has the tables");
	/* Nor may the log's space be used again while a read from before still looks at it. */
	readers_wait(d);
	if (w->tail != d->log.tail_lsn)
		rc = wb_checkpoint(d, w->tail);
	throttle_pass_end(d, !rc);
	env_defer(d->e, &d->kick_task);
	return rc;
}

/* ---- when ---- */

static bool log_live(const struct repl_disk *d)
{
	return d->log.tail_lsn <= d->log.applied;
}

/* What a slot was told to be stable after its last batch is in memory only: worth a write when the disk is closed. */
bool wb_records_lag(struct repl_disk *d)
{
	return next_dirty_vol(d, d->passes + 1) != NULL;
}

static bool wanted(struct repl_disk *d)
{
	if (d->failed || (!log_live(d) && !(d->drain && wb_records_lag(d))))
		return false;
	/* Short of space: what is zeroed in the log gives some back once it is applied. */
	return d->drain || d->early || d->log_waits || d->short_of_space || ring_used(&d->log) > throttle_level(d) || throttle_steady(d) ||
	       env_now(d->e) - d->last_io >= IDLE_NS;
}

static void pass_failed(struct repl_disk *d, int rc)
{
	if (rc == -ENOSPC || rc == -EDQUOT) {
		if (!d->full)
			log_warn(env_log(d->e),
				 "disk %s is full: what was written stays in its log, new blocks "
				 "are refused until "
				 "space is freed",
				 d->path);
		ENV_MARK(d->e, "write-back finds no space");
		d->full = true;
		fiber_cond_signal(d->e, &d->drained);
		env_defer(d->e, &d->kick_task); /* what waits for the log must not wait for ever */
	} else if (rc != -ENOMEM && rc != -EAGAIN) {
		disk_fail(d, -rc, "cannot write back to the segments' files");
	}
}

/* A drop may give space back: then at once. */
static void wait_to_retry(struct repl_disk *d)
{
	uint64_t deadline = env_now(d->e) + RETRY_NS;

	while (env_now(d->e) < deadline && !d->stop && !d->failed && list_empty(&d->dying_segs))
		fiber_cond_wait_until(d->e, &d->wb, deadline);
}

static void run_pass(struct repl_disk *d)
{
	int rc;

	fiber_mutex_lock(d->e, &d->wb_lock);
	rc = d->failed ? 0 : wb_pass(d);
	if (!d->failed && (!rc || rc == -ENOSPC) &&
	    (d->short_of_space || env_now(d->e) - d->statfs_at > RETRY_NS / 4) && !space_refresh(d))
		d->short_of_space = d->short_of_space && !space_has(d, REPL_IO_MAX / HCI_BLOCK);
	fiber_mutex_unlock(d->e, &d->wb_lock);
	if (!rc && d->full) {
		d->full = false;
		log_info(env_log(d->e), "disk %s has room again", d->path);
	}
	if (rc) {
		pass_failed(d, rc);
		if (rc != -EAGAIN)
			wait_to_retry(d);
	}
}

static uint64_t next_look(const struct repl_disk *d)
{
	uint64_t now = env_now(d->e);

	if (d->short_of_space)
		return now + RETRY_NS;
	if (d->log.tail_lsn == d->log.next_lsn)
		return now + STATFS_NS;
	return d->last_io + IDLE_NS > now ? d->last_io + IDLE_NS : now + IDLE_NS;
}

static void look_at_space(struct repl_disk *d)
{
	if (d->failed || env_now(d->e) - d->statfs_at < (d->short_of_space ? RETRY_NS : STATFS_NS))
		return;
	if (space_refresh(d) == 0 && d->short_of_space)
		d->short_of_space = !space_has(d, REPL_IO_MAX / HCI_BLOCK);
}

void wb_fiber(void *disk)
{
	struct repl_disk *d = disk;

	while (!d->stop) {
		if (wanted(d)) {
			run_pass(d);
			continue;
		}
		look_at_space(d);
		if (d->stop || wanted(d))
			continue;
		fiber_cond_signal(d->e, &d->drained);
		if (d->failed)
			fiber_cond_wait(d->e, &d->wb);
		else
			fiber_cond_wait_until(d->e, &d->wb, next_look(d));
	}
	d->fibers--;
	fiber_cond_signal(d->e, &d->fibers_end);
}
