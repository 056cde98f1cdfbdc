/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to the SSDs with write logs. Passing trouble, at any moment: errors in place (TR_SSD), out and back with all it held, soon
 * or later than anybody waits (TR_SSD_AWAY), a blank one (TR_SSD_BLANK) or another node's (TR_SSD_SWAP) in its place meanwhile. And
 * what costs the copies of its node, so only when the promise allows it: lost for good (TR_SSD_LOST), back with what it held
 * before (TR_SSD_OLD).
 */
#ifndef TESTS_SIM_SSD_H
#define TESTS_SIM_SSD_H

#include "sim/trouble.h"

void ssd_trouble(struct trouble *t, enum trouble_kind kind, struct cl_node *at); /* the passing ones */
void ssd_out(struct trouble *t, struct cl_ssd *s, uint64_t ns); /* TR_SSD_AWAY, for so long */
void ssd_undo(struct trouble *t, enum trouble_kind kind, struct cl_node *at);
void ssd_log_made_anew(struct cl_node *at); /* marked in the engine */
void ssd_mend(struct trouble *t); /* all that can be is back in its place */

/* A node whose SSD may be lost now, from the k-th on; NULL: none. */
struct cl_node *ssd_mortal(struct trouble *t, uint64_t k);
void ssd_dies(struct trouble *t, struct cl_node *n);
/* The first time it only takes a copy, for later: false. */
bool ssd_old_ready(struct trouble *t);
void ssd_old(struct trouble *t);
void ssd_removed(struct trouble *t); /* somebody sees that they will not come back, and says so */

#endif
