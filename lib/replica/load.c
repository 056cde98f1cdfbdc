/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the segments of a disk are used. Each counts its users' requests (load_count()); whoever wants to know takes the
 * counts every few seconds, and the average of the last minute or so moves on: that of a segment that is younger is over its life,
 * so that one that came from another disk has its figure at once. Integers, so that runs of the simulator are equal in all builds.
 */
#include <stdlib.h>

#include "base/uuid.h"
#include "replica/replica_impl.h"

#define SPAN_MS 60000u

static uint64_t moved_on(uint64_t avg, uint64_t rate, uint64_t age, uint64_t ms)
{
	return (avg * age + rate * ms) / (age + ms);
}

static void take(struct seg_load *l, uint64_t ms)
{
	uint32_t counts = (uint32_t)MIN(ms, SPAN_MS); /* for so long */

	l->avg_ops = moved_on(l->avg_ops, l->ops * 1000 * 1000 / ms, l->age_ms, counts);
	l->avg_bytes = moved_on(l->avg_bytes, l->bytes * 1000 / ms, l->age_ms, counts);
	l->age_ms = MIN(l->age_ms + counts, SPAN_MS);
	l->ops = l->bytes = 0;
}

static int by_load(const void *x, const void *y)
{
	const struct repl_hot *a = x, *b = y;
	uint64_t la = repl_load_of(a->ops, a->bytes), lb = repl_load_of(b->ops, b->bytes);
	int c;

	if (la != lb)
		return la > lb ? -1 : 1;
	c = memcmp(&a->volume, &b->volume, sizeof(a->volume));
	return c ? c : a->segment < b->segment ? -1 : a->segment > b->segment;
}

/* The list is unsorted while it grows; the least used goes when it is full. */
static void note(struct repl_load *out, const struct seg *s)
{
	struct repl_hot x = { s->vol->uuid, s->no, s->load.avg_ops / 1000, s->load.avg_bytes };
	uint32_t last = 0;

	if (!repl_load_of(x.ops, x.bytes))
		return;
	if (out->nhot < REPL_HOT_MAX) {
		out->hot[out->nhot++] = x;
		return;
	}
	for (uint32_t i = 1; i < out->nhot; i++)
		if (by_load(&out->hot[i], &out->hot[last]) > 0)
			last = i;
	if (by_load(&x, &out->hot[last]) < 0)
		out->hot[last] = x;
}

void repl_load_take(struct repl_disk *d, struct repl_load *out)
{
	uint64_t now = env_now(d->e), ms = (now - d->load_at) / NS_PER_MS, ops = 0;

	memset(out, 0, sizeof(*out));
	if (ms)
		d->load_at = now;
	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		struct vol *v;

		list_for_each(v, &d->vols[i], link) {
			for (uint32_t k = 0; k < v->nsegs; k++) {
				struct seg *s = v->segs[k];

				if (ms)
					take(&s->load, ms);
				ops += s->load.avg_ops;
				out->bytes += s->load.avg_bytes;
				note(out, s);
			}
		}
	}
	out->ops = ops / 1000;
	if (out->nhot)
		qsort(out->hot, out->nhot, sizeof(out->hot[0]), by_load);
}
