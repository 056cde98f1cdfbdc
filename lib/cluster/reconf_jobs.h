/* SPDX-License-Identifier: Apache-2.0 */
/* The types of jobs that change where copies are: lib/api makes them, node_reconf.c does them. */
#ifndef CLUSTER_RECONF_JOBS_H
#define CLUSTER_RECONF_JOBS_H

/* target: the volume's name; args uuid, replicas, policy, was_replicas, was_policy */
#define JOB_VOLUME_SET "volume-set"
/* target: the volume's name; args uuid, to (a node), from (a node, "": any) */
#define JOB_VOLUME_MOVE "volume-move"
#define JOB_DISK_EVACUATE "disk-evacuate" /* target: the disk's UUID */
#define JOB_NODE_EVACUATE "node-evacuate" /* target: the node */
#define JOB_POOL_BALANCE "pool-balance"   /* target: the pool; arg: */
#define JOB_FILL_ONLY "fill-only"         /* how much disks are used does not count */

#endif
