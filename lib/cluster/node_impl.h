/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the node service share. */
#ifndef CLUSTER_NODE_IMPL_H
#define CLUSTER_NODE_IMPL_H

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "cluster/node.h"
#include "volume/disk_keep.h"

#define LOG_SUB "node"

struct node_disk {
	struct list link;
	struct uuid uuid;
	char path[REC_PATH_MAX];
	char log[REC_PATH_MAX + 64]; /* file or device of its log, when that is on another one */
	struct repl_disk *disk; /* NULL: not open */
	uint64_t fs;            /* env_fs.id of it */
	bool failed;            /* failed under us: not opened again until the record says new or offline anew */
	struct hci_error fail_err;
	struct node *node;
	uint64_t retry_at, gc_at, stat_at, probe_at, rot_at, load_at;
	struct rec_diskload *load; /* as it was told last, at load_told; NULL: not known */
	uint64_t load_told;
	uint32_t refused; /* CRC of why it could not be opened; 0: it could */
	struct disk_keep keep; /* what is known of its log, if that is away */
	uint64_t scrub_asked, scrub_period, scrub_rate; /* as the disk was told */
	uint32_t log_level;                             /* likewise */
	bool emptied;                                   /* it is evacuating, as of its record: removed, it holds nothing */
	bool full_told;                                 /* its record says that it is full */
	struct metric *m_full;
	bool rot_told;                                  /* a volrot/ record of ours may be there */
	bool probing; /* a fiber is reading from it: d stays until that ends */
	struct env_task fail_task;
};

struct node_vm_state; /* node_vm.c */

struct node {
	struct core *core;
	struct env *e;
	struct node_opts o;
	char name[HCI_NAME_MAX], listen[REC_PATH_MAX], run_dir[REC_PATH_MAX];
	uint64_t nonce, lease;
	struct repl_service *service;
	struct list disks; /* struct node_disk */
	bool stopping, joined;
	uint32_t fibers;
	struct fiber_cond wake; /* reconcile loops look again */
	struct core_watcher watcher;
	struct node_vm_state *vms;
};

static inline void node_fiber_end(struct node *n)
{
	n->fibers--;
	fiber_cond_signal(n->e, &n->wake);
}
/* Starts a fiber of the service; node_stop waits for it. */
int node_fiber(struct node *n, void (*fn)(void *arg), const char *name);

int node_disk_start(struct node *n);
void node_disk_stop(struct node *n);
/* node_disk_gc.c */
void node_disk_drop_deleted(struct node_disk *d);
void node_disk_deleted(struct node *n, const struct uuid *volume); /* it has a tombstone now; NULL: any may have */
/* node_load.c: tells the store how much the disk is used */
void node_load_turn(struct node_disk *d);
/* node_scrub.c: tells the disk what its record says, and the store what the scrub found. */
void node_scrub_turn(struct node_disk *d);
bool node_scrub_put(struct node_disk *d, struct rec_diskstat *s, const struct rec_diskstat *old); /* worth telling? */
#define PREFIX_VOLROT "volrot/" /* <volume>/<disk>: damaged blocks were found there; its value is text for people */
int node_repair_start(struct node *n);
int node_reconf_start(struct node *n);
/* Without n->o.compute it serves USB devices of this node to VMs of others, and that is all. */
int node_vm_start(struct node *n, struct hci_error *err);
/* Before the end: until no guest is between two nodes, which would be its end, too. From a fiber. */
void node_vm_settle(struct node *n);
void node_vm_stop(struct node *n);
void node_vm_changed(struct node *n, const char *key); /* a vm/, vmrun/ or job/ record changed */
int node_job_start(struct node *n);

#endif
