/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan for a pool is made from: where its copies are, and how much they are used. */
#include "cluster/balance_impl.h"

#include <stdlib.h>

#include "base/uuid.h"
#include "replica/replica.h"

/* ---- what is there ---- */

static bool segs_grow(struct balance *b)
{
	uint32_t cap = b->cap ? b->cap * 2 : 256;
	struct copy *s;

	if (b->nsegs < b->cap)
		return true;
	s = mem_realloc(b->segs, cap * sizeof(*s));
	if (!s)
		return false;
	b->segs = s;
	b->cap = cap;
	return true;
}

static int read_chunk(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct balance *b = arg;
	const struct rec_volume *v = REC_AT(&b->vols, b->vol, struct rec_volume);

	for (uint32_t i = 0; i < m->n; i++) {
		struct copy *s;
		bool at_rest = m->seg[i].n == v->replicas;

		if (!segs_grow(b))
			return err_set(err, HCI_E_NOMEM, "pool %s: out of memory", v->pool);
		s = &b->segs[b->nsegs];
		*s = (struct copy){ .vol = b->vol, .segment = first + i, .n = m->seg[i].n };
		for (uint32_t k = 0; k < s->n; k++) {
			s->disk[k] = snap_find(&b->snap, &m->seg[i].r[k].disk);
			at_rest &= !m->seg[i].r[k].joining && s->disk[k] != UINT32_MAX;
			if (s->disk[k] != UINT32_MAX)
				b->placed[s->disk[k]] += v->segment_size;
		}
		b->nsegs += at_rest; /* others are being changed already */
	}
	return 0;
}

int balance_read_maps(struct balance *b, const char *pool, struct hci_error *err)
{
	int rc = rec_volume_list(b->c->o.store, PREFIX_VOLUME, &b->vols, err);

	if (rc)
		return rc;
	b->p->vols = mem_calloc(b->vols.n + 1, sizeof(*b->p->vols));
	if (!b->p->vols)
		return err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	b->p->nvols = (uint32_t)b->vols.n;
	for (b->vol = 0; !rc && b->vol < b->vols.n; b->vol++) {
		const struct rec_volume *v = REC_AT(&b->vols, b->vol, struct rec_volume);

		b->p->vols[b->vol] = v->uuid;
		if (strcmp(v->pool, pool) || v->state != REC_VOLUME_READY)
			continue;
		b->smallest = MIN(b->smallest ? b->smallest : v->segment_size, v->segment_size);
		rc = plan_each_chunk(b->c, v, read_chunk, b, err);
		rc = rc == HCI_E_NOTFOUND ? 0 : rc; /* deleted meanwhile */
	}
	return rc;
}

/* ---- how much of it is used ---- */

static int by_uuid(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct uuid));
}

/* Volumes come in the order of their keys, segments in that of their volumes. */
static struct copy *find_segment(struct balance *b, const struct uuid *volume, uint32_t segment)
{
	const struct uuid *v = bsearch(volume, b->p->vols, b->p->nvols, sizeof(*v), by_uuid);
	uint32_t vol = v ? (uint32_t)(v - b->p->vols) : 0, lo = 0, hi = v ? b->nsegs : 0;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct copy *s = &b->segs[mid];

		if (s->vol == vol && s->segment == segment)
			return s;
		if (s->vol < vol || (s->vol == vol && s->segment < segment))
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static void note_load(struct balance *b, uint32_t disk, const struct rec_hot *h, bool moved)
{
	struct copy *s = find_segment(b, &h->volume, h->segment);
	uint64_t load = repl_load_of(h->ops, h->bytes);
	int k = s ? balance_position(s, disk) : -1;

	if (!s || (k >= 0) == moved)
		return;
	if (k >= 0) {
		s->load[k] = load;
		return;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->load[i])
			continue;
		s->load[i] = load;
		b->load[disk] -= MIN(b->load[disk], load);
		b->load[s->disk[i]] += load;
		return;
	}
}

/*
 * Figures are some seconds old, the map is not: what a disk told of a copy that has left it is the load of one of the segment's
 * copies that has no figure yet.
 */
int balance_read_loads(struct balance *b, struct hci_error *err)
{
	struct rec_list l;
	int rc = rec_diskload_list(b->c->o.store, PREFIX_DISKLOAD, &l, err);

	for (int moved = 0; !rc && moved < 2; moved++) {
		for (size_t i = 0; i < l.n; i++) {
			const struct rec_diskload *r = REC_AT(&l, i, struct rec_diskload);
			struct uuid id;
			uint32_t disk = key_parse_uuid(l.keys[i], PREFIX_DISKLOAD, &id) ? snap_find(&b->snap, &id) : UINT32_MAX;

			if (disk == UINT32_MAX)
				continue;
			if (!moved)
				b->load[disk] += repl_load_of(r->ops, r->bytes);
			for (uint32_t k = 0; k < r->n; k++)
				note_load(b, disk, &r->hot[k], moved);
		}
	}
	if (!rc)
		rec_list_free(&l);
	return rc;
}
