/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of a stream is under way at a time. A sender that fills every buffer on the way sees its own pace and
 * not the link's, and QEMU reckons from that when it may stop the guest: so no more is under way than the
 * link carries in a set time on top of one round trip. Rate and round trip are measured as in BBR (Cardwell et
 * al., ACM Queue 2016): the rate as the bytes taken between a message's sending and its answer, largest of the
 * last spells; the round trip as the smallest seen.
 */
#include "rpc/stream_impl.h"

#define SPELL (500 * NS_PER_MS)
#define LIMIT_MIN (128u << 10)
#define LIMIT_FIRST (256u << 10) /* while nothing is known */

uint64_t stream_pace_limit(const struct stream_pace *p)
{
	uint64_t rate = MAX(p->rate, p->rate_now);

	if (!p->ns)
		return UINT64_MAX;
	if (!rate)
		return LIMIT_FIRST;
	return MAX((uint64_t)((double)rate * (double)(p->ns + p->min_rtt) / (double)NS_PER_S), LIMIT_MIN);
}

void stream_pace_sent(const struct stream_pace *p, struct stream_message *m, uint64_t now)
{
	m->sent_at = now;
	m->delivered = p->delivered;
}

void stream_pace_taken(struct stream_pace *p, const struct stream_message *m, uint64_t now)
{
	uint64_t rtt = MAX(now - m->sent_at, 1000), rate;

	p->delivered += m->call.payload_len;
	rate = (uint64_t)((double)(p->delivered - m->delivered) * (double)NS_PER_S / (double)rtt);
	p->min_rtt = p->min_rtt ? MIN(p->min_rtt, rtt) : rtt;
	if (now >= p->spell_end) {
		if (p->held_back || p->rate_now > p->rate)
			p->rate = p->rate_now;
		p->rate_now = 0;
		p->held_back = false;
		p->spell_end = now + SPELL;
	}
	p->rate_now = MAX(p->rate_now, rate);
}

void rpc_stream_pace(struct rpc_stream *s, uint64_t ns)
{
	s->pace.ns = ns;
}

uint64_t rpc_stream_rate(const struct rpc_stream *s)
{
	return MAX(s->pace.rate, s->pace.rate_now);
}
