/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is counted of a volume by who has it attached. It stays to be read when the volume is detached: whoever repairs one has it
 * for moments only. It goes when the volume was deleted.
 */
#ifndef VOLUME_VOL_METRICS_H
#define VOLUME_VOL_METRICS_H

#include "env/env.h"

struct vol;

void vol_metrics_begin(struct vol *v);
void vol_metrics_end(struct vol *v);
/* The volume of that name is deleted; NULL: some are, and nobody knows which, so all that are not attached here begin anew. */
void vol_metrics_forget(struct env *e, const char *name);

#endif
