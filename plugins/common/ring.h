/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's data disks in an order that everybody agrees on: failure domains by name, the disks of each by UUID. Disks
 * that cannot be used at present keep their place, so that nothing else moves when a node is down for a while.
 *
 * The order is kept between calls and checked at each (one pass); it is made anew when it does not fit the snapshot
 * any more, so the answer depends on the snapshot alone.
 */
#ifndef PLUGINS_COMMON_RING_H
#define PLUGINS_COMMON_RING_H

#include "place.h"

struct ring {
	const struct hci_placement_snapshot *s; /* of the call under way */
	uint32_t *disk;  /* indices of the data disks, in order */
	uint32_t *start; /* of each domain in disk[]; one more at the end */
	uint32_t n, ndomains, cap;
};

static const struct hci_placement_disk *ring_disk(const struct ring *r, uint32_t i)
{
	return disk_at(r->s, r->disk[i]);
}

static int disk_order(const struct hci_placement_disk *a, const struct hci_placement_disk *b)
{
	int d = strcmp(a->domain, b->domain);

	return d ? d : strcmp(a->uuid, b->uuid);
}

static int ring_cmp(const void *x, const void *y, void *snapshot)
{
	return disk_order(disk_at(snapshot, *(const uint32_t *)x), disk_at(snapshot, *(const uint32_t *)y));
}

static int ring_fits(const struct ring *r)
{
	uint32_t data = 0;

	for (uint32_t i = 0; i < r->s->ndisks; i++)
		data += disk_at(r->s, i)->role == HCI_DISK_DATA;
	if (data != r->n)
		return 0;
	for (uint32_t i = 0; i < r->n; i++)
		if (r->disk[i] >= r->s->ndisks || ring_disk(r, i)->role != HCI_DISK_DATA ||
		    (i && disk_order(ring_disk(r, i - 1), ring_disk(r, i)) >= 0))
			return 0;
	return 1;
}

static int ring_grow(struct ring *r)
{
	uint32_t *p;

	if (r->cap >= r->s->ndisks)
		return 1;
	p = realloc(r->disk, r->s->ndisks * sizeof(*p));
	if (!p)
		return 0;
	r->disk = p;
	p = realloc(r->start, ((size_t)r->s->ndisks + 1) * sizeof(*p));
	if (!p)
		return 0;
	r->start = p;
	r->cap = r->s->ndisks;
	return 1;
}

/* 0: out of memory. */
static int ring_make(struct ring *r, const struct hci_placement_snapshot *s)
{
	r->s = s;
	if (!ring_fits(r)) {
		r->n = 0;
		if (!ring_grow(r))
			return 0;
		for (uint32_t i = 0; i < s->ndisks; i++)
			if (disk_at(s, i)->role == HCI_DISK_DATA)
				r->disk[r->n++] = i;
		if (r->n)
			qsort_r(r->disk, r->n, sizeof(*r->disk), ring_cmp, (void *)(uintptr_t)s);
	}
	r->ndomains = 0;
	for (uint32_t i = 0; i < r->n; i++)
		if (!i || strcmp(ring_disk(r, i - 1)->domain, ring_disk(r, i)->domain))
			r->start[r->ndomains++] = i;
	if (r->cap)
		r->start[r->ndomains] = r->n;
	return 1;
}

static void ring_free(struct ring *r)
{
	free(r->disk);
	free(r->start);
}

/* The number at the beginning of a UUID is as good as random, and the same everywhere. */
static uint64_t text_hash(const char *text, uint64_t seed)
{
	uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return h ^ h >> 32;
}

/* Less is emptier. */
static double ring_fill(const struct hci_placement_disk *d)
{
	return fill_percent(d) + segments_part(d);
}

#endif
