/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much may be under way. Owns the measured rate of the path (messages from here until the other VMM took their bytes)
 * and the window that follows from it: what the path carries in a set time, and its own latency on top.
 *
 * The rate is the largest of the last one to two seconds' samples, each the bytes that arrived while one message was under way
 * (as in BBR, Cardwell and others 2016): a source that has little to send does not look like a slow path for long, since a
 * window of more than the path's latency lets the rate grow again with every turn.
 */
#ifndef MEMSTREAM_CREDIT_H
#define MEMSTREAM_CREDIT_H

#include "base/base.h"

#define CREDIT_FLOOR (256u << 10) /* bytes that may always be under way */

struct credit {
	uint64_t inflight_ns;     /* as set; ~0: no limit */
	uint64_t flying;          /* bytes sent, not acknowledged */
	uint64_t arrived;         /* bytes acknowledged */
	uint64_t arrived_at;
	uint64_t rtt_min;         /* 0: none yet */
	uint64_t max[2];          /* bytes a second: of this period, of the one before */
	uint64_t period;          /* when this one began */
};

/* What to remember with each message. */
struct credit_mark {
	uint64_t sent_at, arrived, arrived_at;
};

void credit_init(struct credit *c, uint64_t inflight_ns, uint64_t now);
bool credit_allows(const struct credit *c, uint32_t bytes);
void credit_sent(struct credit *c, uint32_t bytes, uint64_t now, struct credit_mark *mark);
void credit_arrived(struct credit *c, uint32_t bytes, uint64_t now, const struct credit_mark *mark);
uint64_t credit_rate(const struct credit *c);
/* Bytes that may be under way at present. */
uint64_t credit_window(const struct credit *c);

#endif
