/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of repairs: node_repair.c does them, node_repair_need.c finds out who needs it. */
#ifndef CLUSTER_NODE_REPAIR_H
#define CLUSTER_NODE_REPAIR_H

#include "cluster/node_impl.h"

bool repair_elected(struct node *n, const struct uuid *volume); /* is it ours to repair? */
bool repair_any_bad_disk(struct node *n);
/*
 * 1: yes, and *left is how endangered it is: good copies of the segment that has the fewest. 0: no. Less: the store does
 * not tell now.
 */
int repair_needed(struct node *n, const struct rec_volume *v, bool bad_disks, unsigned *left);
/* Another number when a disk or node was lost or came back. */
uint64_t repair_health(struct node *n);

#endif
