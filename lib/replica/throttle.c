/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of writers when the log fills faster than the medium below takes its content. Up to its level nobody is
 * held back. Above, batches are let in at a rate that comes down to one that the log can bear: what is free in it must
 * last until write-back has freed more. So it never quite fills up, latency rises by and by, and writers see a
 * disk as fast as the one below instead of one that stops and goes.
 *
 * When does write-back free something? Regions go oldest first, but a region's oldest block may be old and most of its blocks
 * new: with a few regions written all over again and again, all must be written before the tail moves far. So the work is
 * counted by where in the ring a region's oldest block lies (PARTS): to move the tail past a part, the work of all
 * parts up to it has to be done. Where a pass takes single blocks (wb_take.c), each is counted where it lies itself. With v the speed of write-back, the rate is v times the least of
 *
 *	(free + space of the parts before) / (work of these and the next)
 *
 * where "free" leaves out a reserve, as a pass gives its space back all at once.
 *
 * Write-back frees little for a while and then much at once: it takes neighbours of the oldest regions along, however new. If writers
 * went as fast as they can whenever much is free, all that is in the log would be of the same age again, and come due together.
 * So once they were held back they stay "steady": they go at the pace in which space became free lately, also below the level,
 * and write-back goes on meanwhile, until most of the log is free.
 */
#include "replica/replica_impl.h"

#define PARTS THROTTLE_PARTS
#define RESERVE 15u               /* percent of the ring */
#define RAMP 20u                  /* percent of the ring above the level, over which the rate comes down */
#define SLICE 20u                 /* batches a second at least */
#define WAIT_MAX (NS_PER_S / 4)
#define STEADY_PART 16u           /* of the level: with less than this in the log writers are free again */
#define STEADY_AIM 80u            /* percent of the ring that is in use then: the more, the more is moved with one stroke */
#define STEADY_MIN (2 * NS_PER_S)
#define STEADY_MAX (60 * NS_PER_S)
#define FIRST_PART 32u            /* of the first pass: done, it tells a speed */
#define FIRST_PASS 8u             /* seconds it may take: nothing is known of the medium before */

static uint32_t percent(const struct repl_disk *d, unsigned n)
{
	return (uint32_t)((uint64_t)d->log.blocks * n / 100);
}

uint32_t throttle_level(const struct repl_disk *d)
{
	return percent(d, d->level);
}

unsigned throttle_urgency(const struct repl_disk *d)
{
	uint32_t level = throttle_level(d), used = ring_used(&d->log), ramp = percent(d, RAMP) / 4;

	/* All of it where writers become steady: what the first pass does slowly they have to wait for. */
	if (d->log_waits || used >= level + ramp || d->throttle.steady)
		return 100;
	return used <= level ? 0 : (used - level) * 100 / ramp;
}

/* ---- work ---- */

static unsigned part_of(const struct repl_disk *d, uint32_t pos)
{
	return (unsigned)((uint64_t)pos * PARTS / d->log.blocks);
}

/* Of whole regions: all of it is due when its oldest block is. */
void throttle_list(struct repl_disk *d, struct node *n)
{
	if (!wb_whole(d))
		return;
	uint64_t lsn = MIN(MAX(n->lsn, d->log.tail_lsn), d->log.next_lsn);

	n->part = (uint8_t)part_of(d, ring_pos_of(&d->log, lsn));
	d->throttle.work[n->part] += n->data;
}

void throttle_unlist(struct repl_disk *d, struct node *n)
{
	if (n->part != THROTTLE_NO_PART)
		d->throttle.work[n->part] -= n->data;
	n->part = THROTTLE_NO_PART;
}

static void count(struct repl_disk *d, uint32_t loc, uint32_t by)
{
	if (loc_is_data(loc))
		d->throttle.work[part_of(d, loc - 1)] += by;
}

/* What a pass has taken is counted no more. */
void throttle_block(struct node *n, unsigned i, uint32_t loc)
{
	struct repl_disk *d = n->seg->d;
	uint32_t old = n->loc[i];

	if (!wb_whole(d)) {
		count(d, loc, 1);
		if (!n->snap || n->snap->loc[i] != old)
			count(d, old, UINT32_MAX);
	} else if (n->part != THROTTLE_NO_PART) {
		d->throttle.work[n->part] += (uint32_t)loc_is_data(loc) - (uint32_t)loc_is_data(old);
	} else {
		d->throttle.again += loc_is_data(loc);
	}
}

void throttle_take(struct repl_disk *d, const struct snap *sn)
{
	throttle_unlist(d, sn->node);
	for (unsigned i = 0; i < REGION_BLOCKS && !wb_whole(d); i++)
		count(d, sn->loc[i], UINT32_MAX);
}

void throttle_untake(struct repl_disk *d, const struct snap *sn)
{
	for (unsigned i = 0; i < REGION_BLOCKS && !wb_whole(d); i++)
		if (sn->node->loc[i] == sn->loc[i])
			count(d, sn->loc[i], 1);
}

/* ---- the speed of write-back, in blocks of data a second ---- */

static uint64_t elapsed(const struct repl_disk *d)
{
	uint64_t now = env_now(d->e);

	return now > d->throttle.pass_start ? now - d->throttle.pass_start : 1;
}

void throttle_pass_begin(struct repl_disk *d)
{
	struct throttle *p = &d->throttle;

	/* As many as a pass has at most: what it really takes is known when slot records are written, which takes time. */
	p->blocks = p->steps = d->log.blocks / 8;
	p->done = 0;
	p->again = 0;
	p->again_part = part_of(d, d->log.head);
	p->pass_start = env_now(d->e);
	/* A few blocks, written because nothing else was to do, say nothing of what the medium can. */
	p->learn = p->steady || ring_used(&d->log) > throttle_level(d);
}

void throttle_pass_takes(struct repl_disk *d, uint64_t blocks)
{
	d->throttle.blocks = d->throttle.steps = blocks;
}

void throttle_steps(struct repl_disk *d, uint32_t more)
{
	d->throttle.steps += more;
}

void throttle_progress(struct repl_disk *d, uint32_t steps)
{
	d->throttle.done += steps;
}

void throttle_pass_end(struct repl_disk *d, bool ok)
{
	struct throttle *p = &d->throttle;

	if (ok && p->learn && p->blocks) {
		uint64_t now = MAX(p->blocks * NS_PER_S / elapsed(d), 1);

		/* Being too slow is cheaper than to find the log full. */
		p->speed = now > p->speed && p->speed ? (p->speed + now) / 2 : (p->speed + 7 * now) / 8;
	}
	p->blocks = p->steps = p->done = 0;
	p->again = 0; /* is listed now */
}

/*
 * What was known before counts for as much as the pass is not done, but for no more than what the pass shows so far,
 * taken kindly: media are a hundred times slower at random places than in sequence. 0: nothing is known.
 */
static uint64_t speed(const struct repl_disk *d)
{
	const struct throttle *p = &d->throttle;
	uint64_t done = MIN(p->done, p->steps), ns = elapsed(d), now, most;

	if (!p->learn || !p->blocks || !p->steps)
		return p->speed;
	now = p->blocks * done / p->steps * NS_PER_S / ns;
	if (!p->speed) /* the first pass: it is the best that is known, when it has done a bit */
		return done > p->steps / FIRST_PART ? now : 0;
	most = p->blocks * (done + p->steps / 16 + 1) / p->steps * NS_PER_S / ns;
	return MAX(MIN((p->speed * (p->steps - done) + now * done) / p->steps, most), 1);
}

/* ---- the rate, in blocks of the ring a second ---- */

static uint64_t room(const struct repl_disk *d)
{
	uint32_t free = d->log.blocks - ring_used(&d->log);

	return free - MIN(free, percent(d, RESERVE)) + percent(d, 1);
}

static uint64_t bearable(const struct repl_disk *d)
{
	const struct throttle *p = &d->throttle;
	uint32_t size = MAX(d->log.blocks / PARTS, 1u), n = ring_used(&d->log) / size + 1;
	uint64_t v = speed(d), space = room(d), least = UINT64_MAX;
	uint64_t work = p->steps ? p->blocks - p->blocks * MIN(p->done, p->steps) / p->steps : 0;
	unsigned first = part_of(d, d->log.tail);

	if (!v)
		return space / FIRST_PASS;
	if (work)
		least = v * space / work;
	for (unsigned i = 0; i < MIN(n, PARTS); i++) {
		work += p->work[(first + i) % PARTS];
		if ((first + i) % PARTS == p->again_part)
			work += p->again;
		if (work)
			least = MIN(least, v * space / work);
		space += size;
	}
	return least;
}

/* ---- writers that go on after the log was full ---- */

bool throttle_steady(const struct repl_disk *d)
{
	return d->throttle.steady && ring_used(&d->log) > throttle_level(d) / STEADY_PART;
}

static void look_if_steady(struct repl_disk *d)
{
	struct throttle *p = &d->throttle;
	uint32_t level = throttle_level(d), used = ring_used(&d->log);

	if (p->steady && used <= level / STEADY_PART) {
		p->steady = false;
	} else if (!p->steady && p->speed && used >= level + percent(d, RAMP) / 4) {
		p->steady = true;
		p->freed = p->speed;
		p->freed_at = p->steady_at = env_now(d->e);
	}
}

/*
 * An average over about the time in which the whole log is freed once: the work of write-back comes round in that time. Not
 * over more than writers have been steady for: the speed that it begins with is that of a pass that was alone with a burst.
 */
void throttle_freed(struct repl_disk *d, uint32_t blocks)
{
	struct throttle *p = &d->throttle;
	uint64_t now = env_now(d->e), ns = now - p->freed_at, span = (uint64_t)d->log.blocks * NS_PER_S / MAX(p->freed, 1);

	if (!p->steady)
		return;
	span = MIN(MIN(span, now - p->steady_at), STEADY_MAX);
	span = MAX(span, STEADY_MIN);
	p->freed = MAX((uint64_t)(((unsigned __int128)p->freed * span + (uint64_t)blocks * NS_PER_S) / (span + ns)), 1);
	p->freed_at = now;
}

/* What write-back frees, and more the less there is in the log: it neither fills up nor runs empty. */
static uint64_t steady_rate(const struct repl_disk *d)
{
	uint64_t aim = percent(d, STEADY_AIM), used = MIN(ring_used(&d->log), 2 * aim - 1);

	/* What was written back is freed in the end; at first it lies between what was not. */
	return d->throttle.steady ? MAX(d->throttle.freed, d->throttle.speed) * (2 * aim - used) / aim : UINT64_MAX;
}

/* What the burst takes here is missed until write-back has been through the log: a third of it is left for that at most. */
static uint32_t ramp_of(const struct repl_disk *d)
{
	unsigned above = 100 - RESERVE - MIN(d->level, 100 - RESERVE);

	return MAX(percent(d, MIN(RAMP, above / 3)), 1);
}

/* UINT64_MAX: any. */
static uint64_t allowed(const struct repl_disk *d)
{
	uint32_t level = throttle_level(d), used = ring_used(&d->log), ramp = ramp_of(d);
	uint64_t r, most = steady_rate(d);

	if (d->full)
		return UINT64_MAX;
	if (used <= level)
		return MAX(most, 1);
	r = bearable(d);
	if (used - level < ramp && r < UINT64_MAX / ramp)
		r = r * ramp / (used - level);
	return MAX(MIN(r, most), 1);
}

uint32_t throttle_budget(struct repl_disk *d)
{
	uint64_t now = env_now(d->e), r;

	look_if_steady(d);
	r = allowed(d);
	if (r == UINT64_MAX)
		return UINT32_MAX;
	if (d->throttle.next > now) {
		if (!env_timer_armed(&d->throttle.timer)) {
			metric_add(d->m_paced, 1);
			env_timer_arm(d->e, &d->throttle.timer, d->throttle.next);
		}
		return 0;
	}
	return (uint32_t)MIN(MAX(r / SLICE, 1), UINT32_MAX - 1);
}

void throttle_took(struct repl_disk *d, uint32_t blocks)
{
	uint64_t now = env_now(d->e), r = allowed(d);

	d->throttle.next = r == UINT64_MAX ? now : now + MIN(blocks * NS_PER_S / r, WAIT_MAX);
}

static void due(struct env_timer *t)
{
	log_kick(container_of(t, struct repl_disk, throttle.timer));
}

void throttle_init(struct repl_disk *d)
{
	env_timer_init(&d->throttle.timer, due);
}

void throttle_fini(struct repl_disk *d)
{
	env_timer_disarm(d->e, &d->throttle.timer);
}
