/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evening out how much disks are used, once their shares are even: much used copies leave a disk that is used well above the
 * average of its class for one below it. (To even out between classes would take from fast disks to give to slow ones.) If
 * the shares would be less even than a plan for them leaves them, another copy that is hardly used comes back for it: so
 * that this plan and the other one never undo each other.
 *
 * The figures are averages of a minute, told when they changed a good deal, and tomorrow's load is another one. So little is
 * done about them: only for a disk that is far above the average, only what lowers the larger of the two loads clearly, what
 * does so for the fewest bytes first, no copy twice, and so many moves at the most. A single copy that is all of a disk's load
 * stays: elsewhere it would be the same.
 */
#include "cluster/balance_impl.h"

#include <stdlib.h>

#define OVER_PERCENT 125u /* of the average: more is too much */
#define LEAST 20u         /* requests a second above it: less matters to nobody */
#define GAIN_PERCENT 10u  /* of the disk's load, that a move has to take off */
#define MOVES_MAX 64u
#define TRIES 32u    /* of moves that the policy may refuse, for one step */
#define PARTNERS 8u  /* that may come back for a copy */

struct option {
	double score; /* load that goes, by byte */
	uint32_t seg, to;
	uint64_t to_load;
	bool swap;
};

static bool same_class(const struct balance *b, uint32_t i, uint32_t k)
{
	return b->snap.disks[i].disk_class == b->snap.disks[k].disk_class;
}

static uint64_t average(const struct balance *b, uint32_t disk)
{
	uint64_t sum = 0, n = 0;

	for (uint32_t i = 0; i < b->snap.n; i++) {
		if (!balance_counts(b, i) || !same_class(b, i, disk))
			continue;
		sum += b->load[i];
		n++;
	}
	return n ? sum / n : 0;
}

void balance_load_spread(const struct balance *b, double *most, double *least)
{
	bool any = false;

	*most = *least = 0;
	for (uint32_t i = 0; i < b->snap.n; i++) {
		double l = (double)b->load[i];

		if (!balance_counts(b, i))
			continue;
		*most = MAX(*most, l);
		*least = any ? MIN(*least, l) : l;
		any = true;
	}
}

/* The disk that is the farthest above its average; UINT32_MAX: none is far enough. */
static uint32_t hottest(const struct balance *b, const bool *done)
{
	uint32_t best = UINT32_MAX;
	uint64_t most = 0;

	for (uint32_t i = 0; i < b->snap.n; i++) {
		uint64_t avg = balance_counts(b, i) && !done[i] ? average(b, i) : UINT64_MAX;

		if (avg == UINT64_MAX || b->load[i] < avg + LEAST || b->load[i] * 100 <= avg * OVER_PERCENT)
			continue;
		if (b->load[i] - avg > most) {
			best = i;
			most = b->load[i] - avg;
		}
	}
	return best;
}

/* What the larger of both loads falls by if so much goes from one to the other; 0: not enough to be worth it. */
static uint64_t gain(const struct balance *b, uint32_t from, uint32_t to, uint64_t load)
{
	uint64_t after, was = b->load[from];

	if (load > was)
		return 0;
	after = MAX(was - load, b->load[to] + load);
	return after < was && was - after >= MAX(was * GAIN_PERCENT / 100, LEAST / 2) ? was - after : 0;
}

/* Would a plan for the shares leave it there? */
static bool shares_stay(const struct balance *b, uint32_t from, uint32_t to, uint64_t bytes)
{
	double half = (double)b->smallest / 2;

	return (double)(b->placed[to] + bytes) - half < b->share * (double)b->snap.disks[to].capacity &&
	       (double)b->placed[from] - (double)bytes / 2 > b->share * (double)b->snap.disks[from].capacity;
}

static int by_score(const void *x, const void *y)
{
	const struct option *a = x, *b = y;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	if (a->to_load != b->to_load)
		return a->to_load < b->to_load ? -1 : 1;
	if (a->seg != b->seg)
		return a->seg < b->seg ? -1 : 1;
	return a->to < b->to ? -1 : a->to > b->to;
}

/* What could be done for the disk. The figures of a disk are of REC_HOT_MAX copies at the most; room for that many. */
static uint32_t options(struct balance *b, uint32_t from, struct option *out, uint32_t max)
{
	uint64_t avg = average(b, from);
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->nsegs; i++) {
		const struct copy *s = &b->segs[i];
		uint64_t bytes = balance_bytes(b, s);
		int k = balance_position(s, from);

		if (k < 0 || !s->load[k] || s->moved)
			continue;
		for (uint32_t to = 0; to < b->snap.n && n < max; to++) {
			uint64_t less = b->load[to] < avg ? gain(b, from, to, s->load[k]) : 0;
			bool swap = !shares_stay(b, from, to, bytes);

			if (less && balance_counts(b, to) && same_class(b, from, to) && balance_position(s, to) < 0)
				out[n++] = (struct option){ (double)less / (double)(swap ? 2 * bytes : bytes), i, to, b->load[to], swap };
		}
	}
	if (n)
		qsort(out, n, sizeof(*out), by_score);
	return n;
}

static bool agrees(struct balance *b, const struct copy *s, uint32_t from, uint32_t to)
{
	uint32_t got;

	memset(b->may, 0, b->snap.n * sizeof(*b->may));
	b->may[to] = true;
	return !balance_ask(b, s, from, &got);
}

/* The least used copies on `to` that could come back for s. */
static uint32_t partners(struct balance *b, const struct copy *s, uint32_t from, uint32_t to, uint32_t out[PARTNERS])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < b->nsegs; i++) {
		const struct copy *x = &b->segs[i];
		int k = balance_position(x, to);
		uint32_t at;

		if (k < 0 || x->moved || x == s || balance_position(x, from) >= 0 || balance_bytes(b, x) != balance_bytes(b, s))
			continue;
		for (at = n; at > 0 && b->segs[out[at - 1]].load[balance_position(&b->segs[out[at - 1]], to)] > x->load[k]; at--)
			if (at < PARTNERS)
				out[at] = out[at - 1];
		if (at < PARTNERS)
			out[at] = i;
		n = MIN(n + 1, PARTNERS);
	}
	return n;
}

static bool swap(struct balance *b, struct copy *s, uint32_t from, uint32_t to)
{
	uint32_t back[PARTNERS], n = partners(b, s, from, to, back);
	uint64_t load = s->load[balance_position(s, from)];

	for (uint32_t i = 0; i < n; i++) {
		struct copy *x = &b->segs[back[i]];
		uint64_t other = x->load[balance_position(x, to)];

		if (other >= load || !gain(b, from, to, load - other))
			break; /* the others are used more */
		if (!agrees(b, x, to, from))
			continue;
		if (balance_move(b, s, from, to) && balance_move(b, x, to, from))
			b->p->nload += 2;
		return true;
	}
	return false;
}

/* One step for the disk; false: there is none. */
static bool relieve(struct balance *b, uint32_t from, struct option *o, uint32_t max)
{
	uint32_t n = options(b, from, o, max);

	for (uint32_t i = 0; i < MIN(n, TRIES) && !b->nomem; i++) {
		struct copy *s = &b->segs[o[i].seg];

		if (!agrees(b, s, from, o[i].to))
			continue;
		if (o[i].swap && swap(b, s, from, o[i].to))
			return true;
		if (!o[i].swap) {
			b->p->nload += balance_move(b, s, from, o[i].to);
			return true;
		}
	}
	return false;
}

void balance_load(struct balance *b)
{
	uint32_t max = REC_HOT_MAX * 2 * b->snap.n, from; /* as many again came from other disks */
	struct option *o = mem_calloc(max, sizeof(*o));
	bool *done = mem_calloc(b->snap.n, sizeof(*done));

	b->nomem |= !o || !done;
	while (!b->nomem && b->p->nload + 2 <= MOVES_MAX && (from = hottest(b, done)) != UINT32_MAX)
		done[from] = !relieve(b, from, o, max);
	mem_free(o);
	mem_free(done);
}
