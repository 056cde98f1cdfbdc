/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of a pass: which pages of region tables and checksums are due, and writing them. A pair's older page is written
 * over, so one that is cut off costs nothing. The order within a pass is writeback.c's.
 */
#include <errno.h>

#include "base/mem.h"
#include "replica/replica_impl.h"

static int write_map_page(struct wb *w, struct seg *s, uint32_t i)
{
	struct mpage *p = s->pages[i];
	struct map_page *m = mem_alloc_aligned(HCI_BLOCK);

	if (!m)
		return -ENOMEM;
	memset(m, 0, HCI_BLOCK);
	m->volume = s->vol->uuid;
	m->segment = s->no;
	m->first_region = i * MAP_REGIONS;
	m->regions = MAP_REGIONS;
	memcpy(m->seq, p->seq, sizeof(m->seq));
	memcpy(m->valid, p->valid, sizeof(m->valid));
	memcpy(m->side, p->side, sizeof(m->side));
	page_seal_stamped(m, MAP_MAGIC, MAP_VERSION, ++p->serial, &s->d->uuid);
	p->dirty = p->again;
	p->dirty_lsn = 0;
	w->again |= p->again;
	p->again = false;
	return wb_io(w, ENV_WRITE, s->map, m, HCI_BLOCK,
		     (uint64_t)i * PAGE_PAIR + (p->serial & 1) * HCI_BLOCK);
}

static int write_sum_page(struct wb *w, struct seg *s, uint32_t i)
{
	struct sums *x = wb_sums(w, s, i);
	struct sum_page *m = x ? mem_alloc_aligned(HCI_BLOCK) : NULL;
	uint64_t serial = s->sums_serial[i] + 1;

	if (!m)
		return -ENOMEM;
	sums_fill_page(x, m);
	page_seal_stamped(m, SUM_MAGIC, SUM_VERSION, serial, &s->d->uuid);
	s->sums_serial[i] = serial;
	x->dirty = x->again;
	w->again |= x->again;
	x->again = false;
	return wb_io(w, ENV_WRITE, s->map, m, HCI_BLOCK, sums_off(s, i) + (serial & 1) * HCI_BLOCK);
}

/* Pages that only lack what stays in the log are left for later. */
static bool page_due(const struct wb *w, const struct seg *s, uint32_t i)
{
	return s->pages[i] && s->pages[i]->dirty && s->pages[i]->dirty_lsn < w->tail;
}

static bool sums_due(const struct seg *s, uint32_t i)
{
	return s->sums[i] && s->sums[i]->dirty && s->sums[i]->ready;
}

static bool map_due(const struct wb *w, const struct seg *s)
{
	bool due = false;

	for (uint32_t i = 0; i < s->npages && !due; i++)
		due = page_due(w, s, i);
	for (uint32_t i = 0; i < s->nsums && !due; i++)
		due = sums_due(s, i);
	return due;
}

static int write_map(struct wb *w, struct seg *s)
{
	int rc = 0;

	if (!s->touched) {
		s->touched = true;
		s->refs++;
		list_push(&w->segs, &s->touched_link);
	}
	rc = seg_open_files(s, true);
	/* Of a pair the place before the last is written over: that must not be all that is durable. */
	if (!rc && s->unsure)
		rc = fiber_fsync(s->d->e, s->map);
	s->unsure = true;
	for (uint32_t i = 0; i < s->npages && !rc && !s->dead; i++) {
		if (page_due(w, s, i))
			rc = write_map_page(w, s, i);
	}
	for (uint32_t i = 0; i < s->nsums && !rc && !s->dead; i++) {
		if (sums_due(s, i))
			rc = write_sum_page(w, s, i);
	}
	return rc;
}

static bool still_dirty(const struct seg *s)
{
	for (uint32_t i = 0; i < s->npages; i++) {
		if (s->pages[i] && s->pages[i]->dirty)
			return true;
	}
	for (uint32_t i = 0; i < s->nsums; i++) {
		if (s->sums[i] && s->sums[i]->dirty)
			return true;
	}
	return false;
}

/* Of what failed nobody knows which places are good: both are written. */
static void redirty(struct wb *w)
{
	struct seg *s;

	list_for_each(s, &w->segs, touched_link) {
		for (uint32_t i = 0; i < s->npages; i++) {
			if (!s->pages[i])
				continue;
			s->pages[i]->dirty = s->pages[i]->again = true;
			s->pages[i]->dirty_lsn = 0;
		}
		seg_dirty(s);
	}
	for (uint32_t i = 0; i < w->nsums; i++) {
		w->sums[i]->dirty |= w->sums[i]->ready;
		w->sums[i]->again |= w->sums[i]->ready;
	}
}

static int write_once(struct repl_disk *d, struct wb *w)
{
	uint64_t n = 0;
	struct list todo, later, *l;
	int rc = 0, err;

	list_init(&todo);
	list_init(&later);
	list_splice(&todo, &d->dirty_segs);
	while (!rc && (l = list_pop(&todo))) {
		struct seg *s = list_entry(l, struct seg, dirty_link);

		/* Its volume is newer than this pass, and has no folder yet: for the next one. */
		if (!s->dead && (!s->vol->dir || !map_due(w, s))) {
			list_push(&later, l);
			continue;
		}
		s->dirty = false;
		n++;
		if (!s->dead)
			rc = write_map(w, s);
		if (still_dirty(s))
			seg_dirty(s);
	}
	list_splice(&d->dirty_segs, &todo);
	list_splice(&d->dirty_segs, &later);
	err = wb_wait(w);
	rc = rc ? rc : err;
	if (!rc && n)
		rc = wb_sync(w, true);
	if (rc)
		redirty(w);
	return rc;
}

int wb_write_tables(struct repl_disk *d, struct wb *w)
{
	int rc;

	do {
		w->again = false;
		rc = write_once(d, w);
	} while (!rc && w->again);
	return rc;
}
