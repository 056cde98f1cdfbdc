/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node service: everything a server of the cluster does. One struct node on the loop; runs under the
 * simulator as well (VMs with a hypervisor of the simulator's own).
 *
 *   node.c         membership: the node's record, its heartbeat lease
 *   node_disk.c    opens and formats the disks the store gives it, tells their state, drops what moved away; what it does about
 *                  write logs that are away is decided in lib/volume/disk_keep.c
 *   node_repair.c  attaches degraded volumes that nobody has, so that they heal
 *   node_reconf.c  does the jobs that change where copies are: replicas, policies, evacuation, balance
 *   node_vm.c      makes domains match the VM records; exports for them
 *   node_job.c     executes jobs addressed to this node
 *   handover.c     moves a volume's writer from node to node during live migration
 */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H

#include "cluster/core.h"
#include "replica/replica.h"

struct node;
struct compute;
struct hypervisor;

/* Bugs that the simulator must find: docs/testing.md. */
#define HO_MUTATE_NO_KEY 1u          /* the destination takes a guest over without taking vmrun */
#define HO_MUTATE_NO_RELEASE 2u      /* the source says that it has let go of the volumes, and has not */
#define HO_MUTATE_RELEASE_RUNNING 4u /* the source lets go of the volumes though its guest runs */
#define HO_MUTATE_GIVE_BLIND 8u      /* the source gives up the key, and the record still names it */
#define HO_MUTATE_IO_EARLY 16u       /* the destination lets its guest's requests run before FINISH */
#define HO_MUTATE_NO_JOB_LOOK 32u    /* a job found running after a restart is not looked into */
#define HO_MUTATE_FINISH_BLIND 64u   /* a domain that is not at the source any more has left well, whatever may have been */
#define HO_MUTATE_NO_GATE 128u       /* a guest whose memory has left writes at the source before it is noted that it stays */
#define HO_MUTATE_UP_EARLY 256u      /* a restarted service takes a guest over before it has looked into its migration */

struct node_opts {
	const char *name;
	const char *listen;       /* env address */
	const char *run_dir;      /* for sockets and console logs; NULL in the simulator */
	uint64_t heartbeat_ns;    /* 0: 2 s; lease is three of them */
	struct compute *compute;  /* NULL: no VMs */
	const struct hypervisor *hypervisor; /* whose calls take that; NULL: libvirt */
	uint32_t copy_depth;      /* repl_service_share */
	uint64_t guest_index;     /* bytes for what the pages of guests here contain, for migrations that come; 0: these are not read */
	bool ram_disks;           /* disks on a file system in memory are taken: tests */
	bool no_repair;           /* tests */
	uint32_t mutate;          /* HO_MUTATE_*: rules of the hand-over that it is to break; tests */
};

/* From a fiber. */
int node_start(struct core *c, const struct node_opts *o, struct node **out, struct hci_error *err);
void node_stop(struct node *n);
const char *node_address(const struct node *n);

#endif
