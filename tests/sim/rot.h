/* SPDX-License-Identifier: Apache-2.0 */
/* A bit flips in what a disk's write log has to tell, while the disk is not open. */
#ifndef TESTS_SIM_ROT_H
#define TESTS_SIM_ROT_H

#include "env/sim.h"

/*
 * From a fiber. In one of the batches that recovery needs, if there is one that is whole and so are those around it, and if
 * some were begun after it was durable: the last ones cannot be told from torn ones. last: in the very last, all the same.
 */
void rot_log(struct env *e, struct sim *sim, const char *path, const struct uuid *disk, bool last);
/* The newest copy of the superblock, if the other one is whole. */
void rot_super(struct env *e, struct sim *sim, const char *path);

#endif
