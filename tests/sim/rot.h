/* SPDX-License-Identifier: Apache-2.0 */
/* Bits flip in what a disk has to tell, while it is not open. */
#ifndef TESTS_SIM_ROT_H
#define TESTS_SIM_ROT_H

#include "env/sim.h"

/*
 * From a fiber. In one of the batches that recovery needs, if there is one that is whole and so are those around it, and if
 * some were begun after it was durable: the last ones cannot be told from torn ones. ROT_LAST: in the very last, all the same. ROT_TWO: in
 * the heads of two that follow each other, so that nothing tells what the first one wrote; in the very last if there are too few.
 */
enum rot_where { ROT_ONE, ROT_LAST, ROT_TWO };
void rot_log(struct env *e, struct sim *sim, const char *path, const struct uuid *disk, enum rot_where where);
/*
 * Of pages that are there twice one copy, if the other one is whole: the superblock's; the log's checkpoint's; those of a volume's
 * record and of the tables, the checksums, or both, of its segments; lied: not of checksums.
 */
void rot_super(struct env *e, struct sim *sim, const char *path);
void rot_checkpoint(struct env *e, struct sim *sim, const char *log);
void rot_slot(struct env *e, struct sim *sim, const char *disk, bool lied);

#endif
