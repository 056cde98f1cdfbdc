/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operator or a boot does to a node's service, in a third of the seeds (trouble.stops): it is stopped in an orderly way
 * (TR_STOP), so that its disks are closed as if they were not to be opened for long; or it comes back and finds directories of disks
 * empty, because nothing is mounted there yet (TR_UNMOUNT). All choices are made from numbers of their own: the other
 * seeds run as if none of this were here.
 */
#ifndef TESTS_SIM_STOPS_H
#define TESTS_SIM_STOPS_H

#include "sim/trouble.h"

void stops_start(struct trouble *t);
/* What strikes in place of this. */
enum trouble_kind stops_instead(struct trouble *t, enum trouble_kind kind, const struct cl_node *at);
void stops_fault(struct trouble *t, enum trouble_kind kind, struct cl_node *at);
/* What is to come waits until the node is down, in a few seconds; it is started again later. False: it goes on. */
bool stops_first(struct trouble *t, struct cl_node *n);
void stops_undo(enum trouble_kind kind, struct cl_node *at);
void stops_mend(struct trouble *t); /* who has not ended by now is killed, all is mounted */

#endif
