/* SPDX-License-Identifier: Apache-2.0 */
/* The measured rate and the window: see credit.h. */
#include "compute/memstream/credit.h"

#define PERIOD NS_PER_S

void credit_init(struct credit *c, uint64_t inflight_ns, uint64_t now)
{
	*c = (struct credit){ .inflight_ns = inflight_ns, .arrived_at = now, .period = now };
}

uint64_t credit_rate(const struct credit *c)
{
	return MAX(c->max[0], c->max[1]);
}

uint64_t credit_window(const struct credit *c)
{
	unsigned __int128 window;

	if (c->inflight_ns == UINT64_MAX)
		return UINT64_MAX;
	window = (unsigned __int128)credit_rate(c) * (c->inflight_ns + c->rtt_min) / NS_PER_S;
	return window > UINT64_MAX ? UINT64_MAX : MAX((uint64_t)window, (uint64_t)CREDIT_FLOOR);
}

bool credit_allows(const struct credit *c, uint32_t bytes)
{
	return !c->flying || c->flying + bytes <= credit_window(c);
}

void credit_sent(struct credit *c, uint32_t bytes, uint64_t now, struct credit_mark *mark)
{
	/* After a pause the path was idle, which says nothing of its rate: this message's sample begins with itself. */
	if (!c->flying)
		c->arrived_at = now;
	*mark = (struct credit_mark){ .sent_at = now, .arrived = c->arrived, .arrived_at = c->arrived_at };
	c->flying += bytes;
}

void credit_arrived(struct credit *c, uint32_t bytes, uint64_t now, const struct credit_mark *mark)
{
	uint64_t rtt = MAX(now - mark->sent_at, (uint64_t)1), took, rate;

	c->flying -= MIN(c->flying, (uint64_t)bytes);
	c->arrived += bytes;
	c->arrived_at = now;
	if (!c->rtt_min || rtt < c->rtt_min)
		c->rtt_min = rtt;
	took = MAX(now - mark->arrived_at, rtt);
	rate = (uint64_t)((unsigned __int128)(c->arrived - mark->arrived) * NS_PER_S / took);
	if (now - c->period >= PERIOD) {
		c->max[1] = now - c->period >= 2 * PERIOD ? 0 : c->max[0];
		c->max[0] = 0;
		c->period = now;
	}
	c->max[0] = MAX(c->max[0], rate);
}
