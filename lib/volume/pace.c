/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of copying. There is no rate that is right for a disk we do not know, so the rate is found: the bytes
 * in flight grow while requests of users take no longer than they may (rebuild_impact percent of what they took
 * without copies), and shrink by a share when they do: additive increase, multiplicative decrease, steered by delay
 * as TCP Vegas (Brakmo and Peterson, 1995) and LEDBAT (RFC 6817) are. While nobody else wants anything they double.
 *
 * What counts is the tail, the 99th of a hundred where there are so many, and the middle. Requests are told apart by
 * kind and size, so that a load that changes is not taken for a disk that is busy. What is undisturbed is known
 * from the time before the copies; where it is not, or long ago, copies pause for a moment to find it out, as BBR does
 * (Cardwell et al., 2016).
 */
#include "volume/pace.h"

#define STEP (256 * KiB)
#define ENOUGH 20u                  /* requests of a class, to say something of it */
#define REMEMBER 4096u              /* requests that make up the undisturbed, roughly */
#define QUIET (30 * NS_PER_MS)      /* after the last copy, until requests count as undisturbed */
#define PROBE (150 * NS_PER_MS)
#define PROBE_EVERY (5 * NS_PER_S)
#define BASE_OLD (60 * NS_PER_S)
#define GONE NS_PER_S               /* after the last request: too few to say something will not become more */

void pace_init(struct pace *p, uint64_t now)
{
	memset(p, 0, sizeof(*p));
	p->window = PACE_START;
	p->max = PACE_MAX;
	p->idle_since = now;
}

void pace_running(struct pace *p, bool yes, uint64_t now)
{
	p->idle_since = yes ? UINT64_MAX : now;
}

/* ---- latencies ---- */

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned octave, i;

	if (us < 8)
		return (unsigned)us;
	octave = 63 - (unsigned)__builtin_clzll(us);
	i = octave * 8 - 16 + (unsigned)(us >> (octave - 3) & 7);
	return MIN(i, PACE_BUCKETS - 1);
}

static uint64_t bucket_us(unsigned i)
{
	unsigned octave = (i + 16) / 8;

	return i < 8 ? i + 1 : UINT64_C(1) << octave | (uint64_t)((i & 7) + 1) << (octave - 3);
}

static void hist_add(struct pace_hist *h, uint64_t ns)
{
	h->n++;
	h->count[bucket_of(ns)]++;
}

static void hist_halve(struct pace_hist *h)
{
	h->n = 0;
	for (unsigned i = 0; i < PACE_BUCKETS; i++)
		h->n += h->count[i] /= 2;
}

static uint64_t quantile_us(const struct pace_hist *h, uint32_t percent)
{
	uint64_t want = ((uint64_t)h->n * percent + 99) / 100, sum = 0;

	for (unsigned i = 0; i < PACE_BUCKETS; i++) {
		sum += h->count[i];
		if (sum >= want)
			return bucket_us(i);
	}
	return bucket_us(PACE_BUCKETS - 1);
}

void pace_sample(struct pace *p, bool write, uint64_t len, uint64_t ns, uint32_t impact, uint64_t now)
{
	unsigned c = (write ? 3 : 0) + (len > 128 * KiB ? 2 : len > 16 * KiB);

	/* UINT64_MAX: a copy runs. */
	if (p->idle_since < now && now - p->idle_since >= ns + QUIET) {
		if (p->base[c].n >= REMEMBER)
			hist_halve(&p->base[c]);
		hist_add(&p->base[c], ns);
		if (p->base[c].n >= ENOUGH)
			p->base_at = now;
		return;
	}
	hist_add(&p->now[c], ns);
	p->user_at = now;
	if (!p->impact || impact < p->impact)
		p->impact = impact;
}

/* ---- what follows ---- */

/* The slowest class, in percent of itself without copies; 0: too few requests to say. *unknown: of one there are
 * enough, but how it is without copies is not known. */
static uint32_t slowness(const struct pace *p, bool *unknown)
{
	uint64_t worst = 0;

	*unknown = false;
	for (unsigned c = 0; c < PACE_CLASSES; c++) {
		const struct pace_hist *h = &p->now[c], *b = &p->base[c];
		uint32_t tail = h->n >= 100 ? 99 : 90;

		if (h->n < ENOUGH)
			continue;
		if (b->n < ENOUGH) {
			*unknown = true;
			continue;
		}
		worst = MAX(worst, quantile_us(h, tail) * 100 / quantile_us(b, b->n >= 100 ? tail : 90));
		worst = MAX(worst, quantile_us(h, 50) * 100 / quantile_us(b, 50));
	}
	return (uint32_t)MIN(worst, (uint64_t)UINT32_MAX);
}

static void slower(struct pace *p, bool much)
{
	if (p->window > PACE_LEAST)
		p->window = MAX(much ? p->window / 2 : p->window * 3 / 4, (uint64_t)PACE_LEAST);
	else
		p->gap = MIN(p->gap ? p->gap * 2 : NS_PER_MS, PACE_GAP_MAX);
}

static void faster(struct pace *p, bool much)
{
	if (p->gap)
		p->gap = p->gap > NS_PER_MS ? p->gap / 2 : 0;
	else
		p->window += much ? p->window : MIN(p->window, STEP);
	p->window = MIN(p->window, p->max);
}

/*
 * Nobody to be careful of: more, as long as it is for the medium to work on and not for copies to wait in longer queues.
 * What slow media cannot take at once would only stand before the first request of a user who comes.
 */
static void alone(struct pace *p)
{
	if (p->took < PACE_TOOK)
		faster(p, true);
	else if (p->took > 2 * PACE_TOOK && p->window > PACE_START)
		p->window = MAX(p->window * 3 / 4, (uint64_t)PACE_START);
}

void pace_copied(struct pace *p, uint64_t ns)
{
	p->took = p->took ? (p->took * 15 + ns) / 16 : ns;
}

static void forget(struct pace *p)
{
	for (unsigned c = 0; c < PACE_CLASSES; c++)
		if (p->now[c].n)
			memset(&p->now[c], 0, sizeof(p->now[c]));
	p->impact = 0;
}

void pace_tick(struct pace *p, uint64_t now)
{
	uint64_t any = 0;
	bool unknown;
	uint32_t s = slowness(p, &unknown);

	for (unsigned c = 0; c < PACE_CLASSES; c++)
		any += p->now[c].n;
	p->window = MIN(p->window, p->max);
	if (any && now - p->user_at >= GONE) {
		forget(p);
		any = 0;
	}
	if (!any) {
		if (p->idle_since == UINT64_MAX)
			alone(p);
		return;
	}
	if ((unknown || now - p->base_at > BASE_OLD) && now >= p->probe_at) {
		p->probe_at = now + PROBE_EVERY;
		p->next_at = MAX(p->next_at, now + PROBE);
		forget(p);
		return;
	}
	if (!s)
		return; /* more at the next tick */
	p->slow = s;
	/* What is aimed at is a little less than what is allowed. */
	if (s > p->impact)
		slower(p, s > 2 * p->impact);
	else if (s < p->impact * 85 / 100)
		faster(p, false);
	forget(p);
}
