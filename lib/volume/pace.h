/* SPDX-License-Identifier: Apache-2.0 */
/* How many bytes may be copied at a time: see pace.c. */
#ifndef VOLUME_PACE_H
#define VOLUME_PACE_H

#include "env/env.h"

#define PACE_MAX (16 * MiB)
#define PACE_START (4 * MiB)

struct pace {
	uint64_t window; /* bytes of copies in flight */
	uint64_t next_at; /* no copy before */
	uint64_t gap;    /* ns between two copies; 0 unless the window is at its least */
};

void pace_init(struct pace *p);

#endif
