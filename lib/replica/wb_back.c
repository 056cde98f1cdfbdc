/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pass moves that is in the log only: read back before it writes, in the order in which it lies in the log.
 * From a log on the disk itself a pass takes what is next to each other there (wb_take.c), so these are a few long reads; what
 * nobody needs any more between two blocks is read with them if it is little, and as long as all that is read is no more than a
 * pass may move: of a region that a large write made anew all blocks go, wherever in the log they are. From a log elsewhere
 * no more than is needed.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "replica/replica_impl.h"

#define RUN_BLOCKS 128u
#define GAP_BLOCKS 16u

struct back {
	uint32_t from, n; /* blocks behind the tail */
	uint8_t *buf;
};

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t list_missing(const struct wb *w, uint32_t *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		const struct snap *sn = &w->snaps[i];

		for (unsigned k = 0; k < REGION_BLOCKS; k++) {
			if (!(sn->written >> k & 1) || sn->mem[k])
				continue;
			if (out)
				out[n] = ring_dist(&w->d->log, sn->loc[k] - 1);
			n++;
		}
	}
	return n;
}

static int read_run(struct wb *w, uint32_t from, uint32_t n)
{
	struct back *b = &w->backs[w->nbacks];
	uint32_t pos = (uint32_t)(((uint64_t)w->d->log.tail + from) % w->d->log.blocks);

	b->buf = mem_alloc_aligned((size_t)n * HCI_BLOCK);
	if (!b->buf)
		return -ENOMEM;
	b->from = from;
	b->n = n;
	w->nbacks++;
	return wb_read(w, w->d->logf, b->buf, (uint64_t)n * HCI_BLOCK, ring_off(pos));
}

static int read_runs(struct wb *w, const uint32_t *at, uint32_t n)
{
	uint32_t end = w->d->log.blocks - w->d->log.tail; /* of the ring: no run goes beyond it */
	uint32_t gaps = wb_whole(w->d) ? 0 : w->most - MIN(n, w->most); /* blocks that may be read for nothing */
	int rc = 0;

	for (uint32_t i = 0, k; i < n && !rc && !w->err; i = k) {
		for (k = i + 1; k < n && at[k] - at[k - 1] <= MIN(gaps, GAP_BLOCKS) + 1 && at[k] - at[i] < RUN_BLOCKS; k++) {
			if (at[i] < end && at[k] >= end)
				break;
			gaps -= at[k] - at[k - 1] - 1;
		}
		rc = read_run(w, at[i], at[k - 1] - at[i] + 1);
	}
	return rc;
}

int wb_read_back(struct wb *w)
{
	uint32_t n = list_missing(w, NULL), *at;
	int rc, err;

	if (!n)
		return 0;
	at = mem_alloc(n * sizeof(*at));
	w->backs = mem_alloc(n * sizeof(*w->backs));
	if (at && w->backs) {
		list_missing(w, at);
		qsort(at, n, sizeof(*at), ascending);
		rc = read_runs(w, at, n);
	} else {
		rc = -ENOMEM;
	}
	mem_free(at);
	err = wb_wait(w); /* they fill our buffers */
	return rc ? rc : err;
}

const uint8_t *wb_back(const struct wb *w, uint32_t loc)
{
	uint32_t at = ring_dist(&w->d->log, loc - 1), lo = 0, hi = w->nbacks;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (w->backs[mid].from <= at)
			lo = mid;
		else
			hi = mid;
	}
	return w->backs[lo].buf + (size_t)(at - w->backs[lo].from) * HCI_BLOCK;
}

void wb_back_free(struct wb *w)
{
	for (uint32_t i = 0; i < w->nbacks; i++)
		mem_free_aligned(w->backs[i].buf);
	mem_free(w->backs);
	w->backs = NULL;
	w->nbacks = 0;
}
