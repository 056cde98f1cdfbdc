/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of a pass: the blocks of its snapshots, merged to runs per segment, many in flight. What
 * is no longer in memory was read back from the log first (wb_back.c). A region is allocated as a whole before
 * the first write to it (by a worker: asynchronous writes into holes would make the loop wait for
 * the file system's journal), and punched out when nothing but zeroes is left. Zeroed blocks cost
 * no write: they are no longer valid, which is said in the table. Syncing and the tables are
 * writeback.c's.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define UNIT_BLOCKS 128u
#define UNITS_BUSY 4u /* in flight beside foreground requests */
#define UNITS_MAX 32u
#define IOS_MAX 64u

/* One write to a segment file. */
struct unit {
	struct list link;
	struct env_io io;
	struct wb *w;
	uint64_t off; /* in the segment file */
	uint32_t n;
	const uint8_t *mem[UNIT_BLOCKS];
	struct iovec iov[UNIT_BLOCKS];
};

struct wb_req {
	struct list link;
	struct env_io io;
	struct wb *w;
	void *buf; /* freed when done */
};

struct wb *wb_new(struct repl_disk *d)
{
	struct wb *w = MEM_NEW(struct wb);

	if (!w)
		return NULL;
	w->d = d;
	list_init(&w->segs);
	list_init(&w->rest);
	list_init(&w->free_units);
	list_init(&w->free_ios);
	fiber_cond_init(&w->cond);
	return w;
}

void wb_free(struct wb *w)
{
	struct list *l;

	if (!w)
		return;
	while ((l = list_pop(&w->free_units)))
		mem_free(list_entry(l, struct unit, link));
	while ((l = list_pop(&w->free_ios)))
		mem_free(list_entry(l, struct wb_req, link));
	mem_free(w->snaps);
	mem_free(w->sums);
	mem_free(w);
}

static void one_done(struct wb *w, int64_t result, int64_t want)
{
	if (result < 0 && !w->err)
		w->err = (int)result;
	else if (result < want && !w->err)
		w->err = -EIO;
	w->inflight--;
	fiber_cond_signal(w->d->e, &w->cond);
}

/* ---- single requests ---- */

static void req_done(struct env_io *io)
{
	struct wb_req *r = container_of(io, struct wb_req, io);
	bool sized = io->op == ENV_WRITE || io->op == ENV_READ;
	struct wb *w = r->w;

	mem_free_aligned(r->buf);
	list_push_front(&w->free_ios, &r->link);
	if (io->op != ENV_READ)
		throttle_progress(w->d, 1);
	one_done(w, io->result, sized ? (int64_t)io->iov1.iov_len : 0);
}

static struct wb_req *req_new(struct wb *w)
{
	struct list *l = list_pop(&w->free_ios);
	struct wb_req *r = l ? list_entry(l, struct wb_req, link) : mem_alloc(sizeof(*r));

	if (!r)
		return NULL;
	list_init(&r->link);
	r->w = w;
	r->buf = NULL;
	return r;
}

static int io_start(struct wb *w, enum env_io_op op, struct env_file *f, void *buf, uint64_t len, uint64_t off, void *own)
{
	struct wb_req *r = req_new(w);

	if (!r) {
		mem_free_aligned(own);
		return -ENOMEM;
	}
	r->buf = own;
	w->inflight++;
	if (op != ENV_READ) /* they tell nothing of the medium below */
		throttle_steps(w->d, 1);
	env_io_prep(&r->io, op, f, buf, len, off, req_done);
	env_submit(w->d->e, &r->io);
	return 0;
}

int wb_io(struct wb *w, enum env_io_op op, struct env_file *f, void *buf, uint64_t len, uint64_t off)
{
	while (w->inflight >= IOS_MAX)
		fiber_cond_wait(w->d->e, &w->cond);
	return io_start(w, op, f, buf, len, off, buf);
}

int wb_read(struct wb *w, struct env_file *f, void *buf, uint64_t len, uint64_t off)
{
	/* Of long ones a few do. */
	uint32_t most = len > REPL_REGION ? MAX(wb_depth(w->d) / 4, 2u) : wb_depth(w->d);

	while (w->inflight >= most)
		fiber_cond_wait(w->d->e, &w->cond);
	return io_start(w, ENV_READ, f, buf, len, off, NULL);
}

int wb_wait(struct wb *w)
{
	while (w->inflight)
		fiber_cond_wait(w->d->e, &w->cond);
	return w->err;
}

/* ---- units ---- */

static void unit_free(struct unit *u)
{
	list_push_front(&u->w->free_units, &u->link);
}

static void unit_written(struct env_io *io)
{
	struct unit *u = container_of(io, struct unit, io);
	struct wb *w = u->w;
	int64_t want = (int64_t)u->n * HCI_BLOCK;

	metric_add(w->d->m_wb, (uint64_t)want);
	throttle_progress(w->d, u->n);
	unit_free(u);
	one_done(w, io->result, want);
}

static void unit_write(struct unit *u)
{
	int k = 0;

	if (u->w->err) {
		u->io.result = u->w->err;
		unit_written(&u->io);
		return;
	}
	for (uint32_t i = 0; i < u->n; i++) {
		struct iovec *v = &u->iov[k - (k > 0)];

		if (k > 0 && (const uint8_t *)v->iov_base + v->iov_len == u->mem[i]) {
			v->iov_len += HCI_BLOCK;
			continue;
		}
		u->iov[k].iov_base = (void *)(uintptr_t)u->mem[i];
		u->iov[k++].iov_len = HCI_BLOCK;
	}
	u->io.iov = u->iov;
	u->io.niov = k;
	env_submit(u->w->d->e, &u->io);
}

static void unit_send(struct unit *u, struct seg *s)
{
	env_io_prep(&u->io, ENV_WRITE, s->data, NULL, 0, u->off, unit_written);
	u->w->inflight++;
	unit_write(u);
}

uint32_t wb_depth(const struct repl_disk *d)
{
	return d->open_ops > 0 ? UNITS_BUSY + (UNITS_MAX - UNITS_BUSY) * throttle_urgency(d) / 100 : UNITS_MAX;
}

static struct unit *unit_new(struct wb *w, uint64_t off)
{
	struct list *l;
	struct unit *u;

	while (w->inflight >= wb_depth(w->d))
		fiber_cond_wait(w->d->e, &w->cond);
	l = list_pop(&w->free_units);
	u = l ? list_entry(l, struct unit, link) : mem_alloc(sizeof(*u));
	if (!u)
		return NULL;
	list_init(&u->link);
	u->w = w;
	u->off = off;
	u->n = 0;
	return u;
}

/* ---- from snapshots to requests ---- */

struct walk {
	struct wb *w;
	struct seg *seg;
	struct unit *u;
	enum env_io_op op; /* ALLOC or PUNCH of a run */
	uint64_t off;      /* in the file */
	uint32_t n;        /* regions */
};

static void flush_unit(struct walk *k)
{
	if (k->u)
		unit_send(k->u, k->seg);
	k->u = NULL;
}

static int flush_run(struct walk *k)
{
	int rc = 0;

	if (k->n)
		rc = wb_io(k->w, k->op, k->seg->data, NULL, (uint64_t)k->n * REPL_REGION, k->off);
	k->n = 0;
	return rc;
}

static int put_region(struct walk *k, enum env_io_op op, uint32_t region, unsigned side)
{
	uint64_t off = seg_place(k->seg, side, (uint64_t)region * REPL_REGION);
	int rc = 0;

	if (k->n && (k->op != op || k->off + (uint64_t)k->n * REPL_REGION != off))
		rc = flush_run(k);
	if (!k->n)
		k->off = off;
	k->op = op;
	k->n++;
	return rc;
}

static int put_block(struct walk *k, uint32_t block, const uint8_t *mem)
{
	struct unit *u = k->u;
	uint64_t off = seg_off(k->seg, block);

	if (u && (u->n == UNIT_BLOCKS || u->off + (uint64_t)u->n * HCI_BLOCK != off)) {
		flush_unit(k);
		u = NULL;
	}
	if (!u)
		u = k->u = unit_new(k->w, off);
	if (!u)
		return -ENOMEM;
	u->mem[u->n++] = mem;
	return 0;
}

struct sums *wb_sums(struct wb *w, struct seg *s, uint32_t page)
{
	struct sums *x;

	if (s->sums[page] && s->sums[page]->in_pass)
		return s->sums[page];
	if (w->nsums == w->sums_cap) {
		uint32_t cap = MAX(w->sums_cap * 2, 64u);
		struct sums **more = mem_realloc(w->sums, cap * sizeof(struct sums *));

		if (!more)
			return NULL;
		w->sums = more;
		w->sums_cap = cap;
	}
	x = sums_want(s, page);
	if (!x)
		return NULL;
	sums_hold(x);
	x->in_pass = true;
	w->sums[w->nsums++] = x;
	/* Each may be a read: no more at once than of anything else. One that fails is found by who waits for all. */
	while (w->nsums - w->sums_seen > wb_depth(w->d))
		(void)sums_wait(w->sums[w->sums_seen++]);
	return x;
}

/* First round: what there is to be done about space. The checksums of the neighbours are brought in meanwhile. */
static int prepare(struct walk *k, struct snap *sn)
{
	uint32_t region = sn->node->region;
	uint16_t zero = 0, valid = seg_valid(k->seg, region);
	unsigned side;
	int rc = 0;

	for (unsigned i = 0; i < REGION_BLOCKS; i++) {
		if (loc_is_data(sn->loc[i]))
			sn->written |= (uint16_t)(1u << i);
		else if (sn->loc[i] == LOC_FILE)
			sn->filed |= (uint16_t)(1u << i);
		else if (sn->loc[i])
			zero |= (uint16_t)(1u << i);
	}
	sn->cleared = sn->node->recovered ? zero : zero & valid;
	if ((sn->written || sn->filed || sn->cleared) && !wb_sums(k->w, k->seg, sums_page(region)))
		return -ENOMEM;
	if (k->seg->dead) /* meanwhile */
		return 0;
	side = seg_side(k->seg, region);
	/* What was in the other half counts no more since the entry is in the log: see direct.c. */
	if (sn->direct && !sn->kept)
		rc = put_region(k, ENV_PUNCH, region, !side);
	if (!rc && sn->written && !valid && !sn->direct)
		return put_region(k, ENV_ALLOC, region, side);
	if (!rc && !sn->written && !sn->filed && (valid || sn->direct || sn->node->recovered) && !(valid & ~zero))
		return put_region(k, ENV_PUNCH, region, side);
	return rc;
}

/* Second round: the blocks. */
static int write_snap(struct walk *k, struct snap *sn)
{
	int rc = 0;

	for (unsigned i = 0; i < REGION_BLOCKS && !rc; i++) {
		if (sn->written >> i & 1)
			rc = put_block(k, sn->node->region * REGION_BLOCKS + i,
				       sn->mem[i] ? sn->mem[i] : wb_back(k->w, sn->loc[i]));
	}
	return rc;
}

static int by_place(const void *a, const void *b)
{
	const struct node *x = ((const struct snap *)a)->node, *y = ((const struct snap *)b)->node;
	int c = memcmp(&x->seg->vol->uuid, &y->seg->vol->uuid, sizeof(struct uuid));

	if (c)
		return c;
	if (x->seg->no != y->seg->no)
		return x->seg->no < y->seg->no ? -1 : 1;
	return x->region < y->region ? -1 : x->region > y->region;
}

/* The segment stays open until the pass lets go of it. */
static int enter_seg(struct walk *k, struct seg *s)
{
	int rc;

	flush_unit(k);
	rc = flush_run(k);
	k->seg = s;
	if (rc)
		return rc;
	if (!s->touched) {
		s->touched = true;
		s->refs++;
		list_push(&k->w->segs, &s->touched_link);
	}
	return seg_open_files(s, true);
}

static int each_snap(struct wb *w, int (*fn)(struct walk *k, struct snap *sn))
{
	struct walk k = { .w = w };
	int rc = 0, err;

	for (uint32_t i = 0; i < w->n && !rc && !w->err; i++) {
		struct snap *sn = &w->snaps[i];

		if (sn->node->seg->dead)
			continue;
		if (sn->node->seg != k.seg)
			rc = enter_seg(&k, sn->node->seg);
		if (!rc)
			rc = fn(&k, sn);
	}
	if (!rc) {
		flush_unit(&k);
		rc = flush_run(&k);
	} else if (k.u) {
		unit_free(k.u);
	}
	err = wb_wait(w);
	return rc ? rc : err;
}

int wb_write_data(struct wb *w)
{
	int rc;

	qsort(w->snaps, w->n, sizeof(w->snaps[0]), by_place);
	for (uint32_t i = 0; i < w->n; i++)
		w->snaps[i].node->snap = &w->snaps[i];
	rc = each_snap(w, prepare);
	if (!rc)
		rc = wb_read_back(w);
	if (!rc)
		rc = each_snap(w, write_snap);
	wb_back_free(w);
	return rc;
}
