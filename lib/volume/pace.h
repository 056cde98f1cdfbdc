/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much may be copied at a time, found out by what it does to the volumes' users: requests are timed while
 * copies run and while none does, and the bytes in flight follow. See pace.c.
 */
#ifndef VOLUME_PACE_H
#define VOLUME_PACE_H

#include "env/env.h"

#define PACE_LEAST (256u << 10)     /* bytes in flight; then gaps are made between copies */
#define PACE_MAX (32 * MiB)
#define PACE_START (4 * MiB)
#define PACE_TOOK (100 * NS_PER_MS) /* of a copy: the queues are long enough */
#define PACE_GAP_MAX (8 * NS_PER_MS) /* so that a copy always ends, and soon: 32 MiB/s at the least */
#define PACE_TICK (100 * NS_PER_MS)
#define PACE_CLASSES 6u  /* reads and writes, small, middle and large */
#define PACE_BUCKETS 200u /* of latency: eight an octave from 1 us on */

struct pace_hist {
	uint32_t n;
	uint32_t count[PACE_BUCKETS];
};

struct pace {
	uint64_t window;  /* bytes of copies in flight */
	uint64_t max;     /* PACE_MAX */
	uint64_t took;    /* by a copy, ns, a moving average */
	uint64_t gap;     /* ns between two copies; 0 unless the window is at its least */
	uint64_t next_at; /* no copy before */
	uint32_t impact;  /* the least of those whose requests were timed since the last tick; 0: none were */
	uint64_t idle_since; /* no copy has run since; UINT64_MAX: one runs */
	uint64_t user_at; /* when the last of those was timed */
	uint64_t base_at; /* when the undisturbed was last known well */
	uint64_t probe_at; /* not before: a pause to time requests in */
	uint32_t slow;    /* percent of the undisturbed, at the last tick that had enough to say */
	struct pace_hist base[PACE_CLASSES], now[PACE_CLASSES];
};

void pace_init(struct pace *p, uint64_t now);
/* Copies began to run, or the last one ended. */
void pace_running(struct pace *p, bool yes, uint64_t now);
/* A copy took so long. */
void pace_copied(struct pace *p, uint64_t ns);
/* A request of a user took so long; impact: percent that it may. */
void pace_sample(struct pace *p, bool write, uint64_t len, uint64_t ns, uint32_t impact, uint64_t now);
/* Each PACE_TICK while there is something to copy. */
void pace_tick(struct pace *p, uint64_t now);

#endif
