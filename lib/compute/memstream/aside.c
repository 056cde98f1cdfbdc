/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the codec steps aside: see aside.h. */
#include "compute/memstream/aside.h"

#define SPELL 4u                    /* batches, for one measurement of full_ns */
#define HELD_UP (15 * NS_PER_MS)    /* a message that takes longer than that, and the path's latency: the link has a queue */
#define STUCK (60 * NS_PER_MS)      /* ... and that: it is not what it was */
#define MIX 4u                      /* times full_ns that a plain batch may take on a link which would have nothing to do */
#define LARGE (128u << 10)          /* messages that say what the link carries */
#define ENOUGH (1400u << 10)        /* bytes of them to know it */
#define LATELY (4u << 20)           /* ... that count */
#define KNOWN (2 * NS_PER_S)        /* for so long */
#define PROBE 3u                    /* batches */
#define PROBE_FIRST (1500 * NS_PER_MS) /* until the next look, after one in vain; then twice as long */
#define PROBE_MOST (12 * NS_PER_S)
#define PLAIN_MOST NS_PER_S         /* until full_ns is measured again */
#define AGAIN 8u

void aside_init(struct aside *a, enum aside_mode mode, uint64_t now)
{
	*a = (struct aside){ .mode = mode, .probe_wait = PROBE_FIRST };
	credit_init(&a->link, UINT64_MAX, now);
}

static uint64_t scaled(uint64_t n, uint64_t by, uint64_t of)
{
	return (uint64_t)((unsigned __int128)n * by / MAX(of, (uint64_t)1));
}

/* How long the oldest message has been waiting beyond the path's own latency. */
static uint64_t late(const struct aside *a, uint64_t oldest, uint64_t now)
{
	uint64_t age = oldest && now > oldest ? now - oldest : 0;

	return age > a->link.rtt_min ? age - a->link.rtt_min : 0;
}

static enum aside_step by_number(const struct aside *a, uint32_t seq)
{
	static const uint8_t dance[] = { ASIDE_FULL, ASIDE_PLAIN, ASIDE_FULL, ASIDE_LIGHT, ASIDE_PLAIN, ASIDE_LIGHT };

	switch (a->mode) {
	case ASIDE_ALWAYS_LIGHT:
		return ASIDE_LIGHT;
	case ASIDE_ALWAYS_PLAIN:
		return ASIDE_PLAIN;
	case ASIDE_DANCES:
		return dance[seq % ARRAY_SIZE(dance)];
	default:
		return ASIDE_FULL;
	}
}

/* Bytes a second, 0: not known. */
static uint64_t carries(const struct aside *a, uint64_t now)
{
	if (a->carried.bytes < ENOUGH || now - a->carried.at > KNOWN)
		return 0;
	return scaled(a->carried.bytes, NS_PER_S, a->carried.ns);
}

static void forget(struct aside *a)
{
	a->carried.bytes = a->carried.ns = 0;
}

/* Some batches to see what the link carries. In vain, unless it changes what is thought of it. */
static enum aside_step probe(struct aside *a, uint64_t waited, uint64_t now)
{
	if (now < a->probe_at || waited > HELD_UP / 4)
		return ASIDE_FULL;
	a->probe_at = now + a->probe_wait;
	a->probe_wait = MIN(a->probe_wait * 2, PROBE_MOST);
	a->probing = PROBE - 1;
	forget(a);
	return ASIDE_PLAIN;
}

static enum aside_step decide(struct aside *a, uint32_t bytes, uint32_t behind, uint64_t waited, uint64_t now)
{
	uint64_t rate = carries(a, now), full = scaled(a->full_ns, bytes, ASIDE_UNIT), plain, line;

	if (waited > STUCK) {
		/* What it carried a while ago is no guide any more. */
		if (rate) {
			forget(a);
			a->probe_at = now + a->probe_wait;
			a->probe_wait = MIN(a->probe_wait * 2, PROBE_MOST);
		}
		return ASIDE_FULL;
	}
	if (a->probing) {
		a->probing--;
		return ASIDE_PLAIN;
	}
	if (!rate || !full)
		return a->link.arrived ? probe(a, waited, now) : ASIDE_FULL;
	if (rate < ASIDE_SLOWEST)
		return ASIDE_FULL;
	plain = scaled(bytes, NS_PER_S, rate);
	line = scaled(a->link.flying, NS_PER_S, rate);
	if (plain <= full + (a->last == ASIDE_PLAIN ? full / 2 : 0)) {
		a->probe_wait = PROBE_FIRST;
		return ASIDE_PLAIN;
	}
	if (plain > MIX * full)
		return ASIDE_FULL;
	a->probe_wait = PROBE_FIRST;
	return behind && line <= full ? ASIDE_LIGHT : ASIDE_FULL;
}

enum aside_step aside_choose(struct aside *a, uint32_t seq, uint32_t bytes, uint32_t behind, uint64_t oldest, uint64_t now)
{
	enum aside_step step;

	if (a->mode != ASIDE_FOLLOWS)
		return by_number(a, seq);
	step = a->again ? ASIDE_FULL : decide(a, bytes, behind, late(a, oldest, now), now);
	a->again -= a->again > 0;
	if (step != ASIDE_PLAIN || !a->plain_since) {
		a->plain_since = step == ASIDE_PLAIN ? now : 0;
	} else if (now - a->plain_since > PLAIN_MOST) {
		a->plain_since = 0;
		a->again = AGAIN;
	}
	a->last = a->again ? a->last : step;
	return step;
}

void aside_ready(struct aside *a, uint32_t wire, uint64_t now, struct credit_mark *mark)
{
	credit_sent(&a->link, wire, now, mark);
	if (!a->spell.from)
		a->spell.from = now;
}

void aside_held(struct aside *a, uint64_t now, struct credit_mark *mark)
{
	*mark = (struct credit_mark){ .sent_at = now, .arrived = a->link.arrived, .arrived_at = now };
}

void aside_received(struct aside *a, uint32_t wire, uint64_t now, const struct credit_mark *mark)
{
	uint64_t from = MAX(mark->sent_at, a->received_at);

	credit_arrived(&a->link, wire, now, mark);
	a->received_at = now;
	if (wire < LARGE)
		return;
	if (now - a->carried.at > KNOWN)
		forget(a);
	a->carried.at = now;
	a->carried.bytes += wire;
	a->carried.ns += now > from ? now - from : 0;
	if (a->carried.bytes > LATELY) {
		a->carried.bytes /= 2;
		a->carried.ns /= 2;
	}
}

static void spell(struct aside *a, uint64_t from)
{
	a->spell.from = from;
	a->spell.bytes = a->spell.wire = a->spell.n = 0;
}

void aside_taken(struct aside *a, enum aside_step step, uint32_t bytes, uint32_t wire, bool idle, uint64_t oldest, uint64_t now)
{
	uint64_t took;

	if (idle || step != ASIDE_FULL || !a->spell.from || late(a, oldest, now) > HELD_UP) {
		spell(a, idle ? 0 : now);
		return;
	}
	a->spell.bytes += bytes;
	a->spell.wire += wire;
	if (++a->spell.n < SPELL)
		return;
	took = now - a->spell.from;
	/* Where the link took much of it, it says nothing of all else. */
	if (carries(a, now) && scaled(a->spell.wire, NS_PER_S, carries(a, now)) <= took / 2) {
		took = scaled(took, ASIDE_UNIT, a->spell.bytes);
		a->full_ns = a->full_ns ? (3 * a->full_ns + took) / 4 : took;
	}
	spell(a, now);
}
