/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the medium to memory: slot records and region tables, then every batch of the log from its
 * tail to the first that is not whole. Nothing is moved to its place here, the index points into
 * the log. Applying a batch again, on top of tables that already have it, ends in the same state,
 * so recovery may be cut off and begun anew at any point.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define WINDOW (4 * MiB)
#define WINDOW_MIN 32u /* blocks */

struct rec {
	struct repl_disk *d;
	struct hci_error *err;
	uint8_t *buf;      /* a piece of the ring */
	uint32_t first, n; /* blocks that it holds */
	uint32_t taken;    /* blocks of batches so far */
	uint64_t epoch;
	bool clean;
};

static int corrupt(struct rec *r, const char *path, const char *what)
{
	return err_set(r->err, HCI_E_CORRUPT,
		       "disk %s: %s: %s: take the disk out of its pool, its volumes are rebuilt "
		       "from the other replicas",
		       r->d->path, path, what);
}

static int page_error(struct rec *r, const char *path, enum page_state st)
{
	if (st == PAGE_VERSION)
		return err_set(r->err, HCI_E_VERSION,
			       "disk %s: %s is of a newer version: use the libhci that wrote it",
			       r->d->path, path);
	return corrupt(r, path, "both copies of a page are damaged");
}

/* A clean disk has no torn pages: then a bad copy is rot, and the other copy may be stale. */
static enum page_state pick(struct rec *r, const void *pair, uint64_t magic, uint16_t version,
			    unsigned *which)
{
	bool torn;
	enum page_state st = page_pick(pair, magic, version, &r->d->uuid, which, &torn);

	return torn && r->clean ? PAGE_BAD : st;
}

/* ---- records and tables ---- */

/* Reads a small file whole: *len bytes, 0 when it is not there. */
static int read_whole(struct rec *r, const char *path, size_t cap, uint8_t **out, size_t *len)
{
	struct env *e = r->d->e;
	struct env_file *f;
	int64_t n;
	int rc = env_open(e, path, ENV_O_DIRECT, &f);

	*len = 0;
	*out = NULL;
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return disk_sys_error(r->d, rc, path, r->err);
	*out = mem_alloc_aligned(cap);
	n = *out ? fiber_read(e, f, *out, cap, 0) : -ENOMEM;
	env_close(e, f);
	if (n < 0)
		return disk_sys_error(r->d, (int)n, path, r->err);
	*len = (size_t)n;
	return 0;
}

static int load_meta(struct rec *r, const struct uuid *u, const char *path, struct vol **out)
{
	uint8_t *b;
	size_t len;
	unsigned which = 0;
	enum page_state st = PAGE_EMPTY;
	int rc = read_whole(r, path, PAGE_PAIR, &b, &len);

	*out = NULL;
	if (!rc && len == PAGE_PAIR)
		st = pick(r, b, META_MAGIC, META_VERSION, &which);
	if (!rc && st != PAGE_VALID && st != PAGE_EMPTY)
		rc = page_error(r, path, st);
	if (!rc && st == PAGE_VALID) {
		const struct meta_page *m = (const void *)(b + which * HCI_BLOCK);
		struct vol *v;

		if (!uuid_eq(&m->volume, u) || m->segsize < LOGF_SEGMENT_MIN ||
		    m->segsize > LOGF_SEGMENT_MAX || m->segsize % REPL_REGION ||
		    m->generation == 0) {
			rc = corrupt(r, path, "the record makes no sense");
		} else if (!(v = *out = vol_new(r->d, u, m->segsize))) {
			rc = err_set(r->err, HCI_E_NOMEM, "disk %s: out of memory", r->d->path);
		} else {
			v->gen = v->max_gen = m->generation;
			v->last = m->last_seq;
			v->stable = m->stable_seq;
			v->meta_serial = m->h.serial;
			r->d->log.must_lsn = MAX(r->d->log.must_lsn, m->lsn);
			v->dir = true;
		}
	}
	mem_free_aligned(b);
	return rc;
}

static int load_map_page(struct rec *r, struct seg *s, const char *path, const uint8_t *pair,
			 uint32_t i)
{
	const struct map_page *m;
	struct mpage *p;
	unsigned which = 0;
	bool damaged;
	enum page_state st = page_pick(pair, MAP_MAGIC, MAP_VERSION, &r->d->uuid, &which, &damaged);

	if (st == PAGE_EMPTY && !damaged)
		return 0;
	if (st == PAGE_VERSION)
		return page_error(r, path, st);
	m = (const void *)(pair + which * HCI_BLOCK);
	if (st == PAGE_VALID && (!uuid_eq(&m->volume, &s->vol->uuid) || m->segment != s->no ||
				 m->first_region != i * MAP_REGIONS || m->regions != MAP_REGIONS))
		st = PAGE_BAD;
	p = s->pages[i] = MEM_NEW(struct mpage);
	if (!p)
		return err_set(r->err, HCI_E_NOMEM, "disk %s: out of memory", r->d->path);
	p->damaged = damaged;
	p->lost = st == PAGE_BAD;
	if (st != PAGE_VALID)
		return 0;
	memcpy(p->seq, m->seq, sizeof(p->seq));
	memcpy(p->valid, m->valid, sizeof(p->valid));
	memcpy(p->side, m->side, sizeof(p->side));
	p->serial = m->h.serial;
	return 0;
}

/* See rebuild.c. */
static int rebuild_damaged(struct rec *r, struct seg *s)
{
	int rc = 0;

	for (uint32_t i = 0; i < s->npages && !rc; i++) {
		if (s->pages[i] && (s->pages[i]->damaged || s->pages[i]->lost))
			rc = rebuild_valid(s, i, s->pages[i]->lost);
	}
	return rc ? disk_sys_error(r->d, rc, "cannot read checksums", r->err) : 0;
}

static int load_seg(struct rec *r, struct vol *v, uint32_t no, bool has_data)
{
	struct seg *s = seg_get(v, no);
	char *path = s ? seg_path(s, ".map") : NULL;
	uint8_t *b = NULL;
	size_t len = 0;
	int rc;

	if (!path)
		return err_set(r->err, HCI_E_NOMEM, "disk %s: out of memory", r->d->path);
	rc = read_whole(r, path, s->npages * (size_t)PAGE_PAIR, &b, &len);
	s->on_disk = has_data && len == s->npages * (size_t)PAGE_PAIR;
	for (uint32_t i = 0; !rc && (i + 1) * (size_t)PAGE_PAIR <= len; i++)
		rc = load_map_page(r, s, path, b + i * (size_t)PAGE_PAIR, i);
	/* Half of its files: it was being dropped, and the log says so; else they are damaged. */
	for (uint32_t i = 0; !s->on_disk && i < s->npages; i++)
		s->broken |= s->pages[i] != NULL;
	if (!rc && s->on_disk)
		rc = rebuild_damaged(r, s);
	seg_real(s);
	mem_free_aligned(b);
	mem_free(path);
	return rc;
}

static bool seg_name(const char *name, const char *suffix, uint32_t *no)
{
	char again[16];

	if (strlen(name) != 12 || sscanf(name, "%8x", no) != 1)
		return false;
	snprintf(again, sizeof(again), "%08x%s", *no, suffix);
	return strcmp(again, name) == 0;
}

static bool listed(char **names, const char *suffix, uint32_t no)
{
	uint32_t x;

	for (; *names; names++) {
		if (seg_name(*names, suffix, &x) && x == no)
			return true;
	}
	return false;
}

static void free_names(char **names)
{
	for (unsigned i = 0; names && names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

static int load_segs(struct rec *r, struct vol *v)
{
	char *dir = vol_path(v, ""), **names = NULL;
	int rc = dir ? env_listdir(r->d->e, dir, &names) : -ENOMEM;
	uint32_t no;

	/* A process that died may have made them and not yet synced: what is seen here must last. */
	if (!rc && !r->clean)
		rc = env_sync_dir(r->d->e, dir);
	if (rc)
		rc = disk_sys_error(r->d, rc, "cannot list a slot's directory", r->err);
	for (unsigned i = 0; !rc && names[i]; i++) {
		if (seg_name(names[i], ".map", &no))
			rc = load_seg(r, v, no, listed(names, ".seg", no));
	}
	free_names(names);
	mem_free(dir);
	return rc;
}

static int load_vol(struct rec *r, const struct uuid *u)
{
	char text[HCI_UUID_STR], *path;
	struct vol *v;
	int rc;

	uuid_print(u, text);
	path = mem_printf("%s/vol/%s/meta", r->d->path, text);
	if (!path)
		return err_set(r->err, HCI_E_NOMEM, "disk %s: out of memory", r->d->path);
	rc = load_meta(r, u, path, &v);
	mem_free(path);
	/* Without a record the directory was being made: the log has all there is. */
	return rc || !v ? rc : load_segs(r, v);
}

static int load_vols(struct rec *r)
{
	char *dir = disk_path(r->d, "vol"), **names = NULL;
	int rc = dir ? env_listdir(r->d->e, dir, &names) : -ENOMEM;
	struct uuid u;

	if (!rc && !r->clean)
		rc = env_sync_dir(r->d->e, dir); /* see load_segs */
	if (rc)
		rc = disk_sys_error(r->d, rc, "cannot list its slots", r->err);
	for (unsigned i = 0; !rc && names[i]; i++) {
		if (uuid_parse(names[i], &u))
			rc = load_vol(r, &u);
	}
	free_names(names);
	mem_free(dir);
	return rc;
}

/* ---- the log ---- */

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
			     : corrupt(r, "log", "the file is cut short");
	}
	st = page_pick(pair, CKPT_MAGIC, CKPT_VERSION, &d->uuid, &which, NULL);
	c = (const void *)(pair + which * HCI_BLOCK);
	if (st != PAGE_VALID) {
		rc = page_error(r, "log", st);
	} else if (c->tail_block >= g->blocks || c->tail_lsn == 0) {
		rc = corrupt(r, "log", "the checkpoint makes no sense");
	} else {
		g->head = g->tail = (uint32_t)c->tail_block;
		g->next_lsn = g->tail_lsn = c->tail_lsn;
		g->applied = c->tail_lsn - 1;
		g->min_epoch = r->epoch = c->min_epoch;
		g->ckpt_serial = c->h.serial;
	}
	mem_free_aligned(pair);
	return rc;
}

/* A little first: most logs are nearly empty. Each further piece is twice as long, and holds what is known to be needed. */
static int fill(struct rec *r, uint32_t pos, uint32_t need)
{
	struct repl_disk *d = r->d;
	uint32_t n = MIN(MAX(MAX(r->n * 2, WINDOW_MIN), need), (uint32_t)(WINDOW / HCI_BLOCK));
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
			rc = fill(r, pos, v->blocks);
			if (rc)
				return rc;
		}
		res = logf_parse(r->buf + (size_t)(pos - r->first) * HCI_BLOCK,
				 (size_t)(r->first + r->n - pos) * HCI_BLOCK, &r->d->uuid, v);
	}
	if (v->torn && r->d->mutate & REPL_MUTATE_TORN_BATCH)
		res = LOGF_OK;
	*found = res == LOGF_OK && v->hdr->lsn == g->next_lsn &&
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
		rc = index_direct(s, x->block, x->nblocks, !!(x->flags & LOGF_F_SIDE), sums, lsn);
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
			return corrupt(r, "log", "a slot has two segment sizes");
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
	if (rc == HCI_E_NOMEM)
		err_set(r->err, rc, "disk %s: out of memory for the index of the log", r->d->path);
	return rc;
}

static int scan(struct rec *r)
{
	struct ring *g = &r->d->log;
	struct logf_view v;
	bool found;

	for (;;) {
		uint32_t pos = g->head;
		int rc = batch_at(r, pos, &v, &found);

		if (!rc && !found && pos != 0)
			rc = batch_at(r, pos = 0, &v, &found);
		if (rc || !found)
			return rc;
		rc = ring_reserve(g);
		if (rc)
			return err_set(r->err, rc,
				       "disk %s: out of memory for the index of the log",
				       r->d->path);
		ring_take(g, pos, v.blocks);
		g->applied++;
		r->taken += v.blocks;
		r->epoch = v.hdr->epoch;
		rc = apply_batch(r, &v, pos);
		if (rc)
			return rc;
	}
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
				return corrupt(r, name,
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
	return err_set(r->err, ext ? HCI_E_STATE : HCI_E_CORRUPT,
		       "disk %s: its write log %s ends at batch %llu, but %llu had been written: it is damaged or an old copy; "
		       "what the disk held last is lost, it has to be emptied and filled again from the other replicas",
		       d->path, d->log_path, (unsigned long long)d->log.next_lsn - 1,
		       (unsigned long long)d->log.must_lsn - 1);
}

static int finish(struct rec *r)
{
	struct repl_disk *d = r->d;
	int rc = check_broken(r);

	if (!rc)
		rc = check_end(r);
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
	rc = load_vols(&r);
	ENV_MARK(d->e, "recovery has the tables");
	if (!rc)
		rc = load_checkpoint(&r);
	r.buf = rc ? NULL : mem_alloc_aligned(WINDOW);
	if (!rc && !r.buf)
		rc = err_set(err, HCI_E_NOMEM, "disk %s: out of memory for recovery", d->path);
	if (!rc)
		rc = scan(&r);
	mem_free_aligned(r.buf);
	ENV_MARK_STATE(d->e, "recovery has the log:yes,no", rc != 0, 2);
	if (rc)
		return rc;
	d->log.first_lsn = d->log.next_lsn;
	return finish(&r);
}
