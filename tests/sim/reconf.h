/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator does to a volume's copies while it is in use: written to the store behind everybody's back. */
#ifndef TESTS_SIM_RECONF_H
#define TESTS_SIM_RECONF_H

#include "sim/trouble.h"

/* TR_REPLICAS, TR_EVACUATE, TR_MOVE */
void reconf_trouble(struct trouble *t, enum trouble_kind kind);
/* Nothing is to be evacuated any more. */
void reconf_end(struct trouble *t);
bool reconf_volume(struct trouble *t, unsigned volume, struct rec_volume *out);
/* Somebody asked for a change that is not done yet. */
bool reconf_pending(struct trouble *t, unsigned volume);

#endif
