/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration of a VM with its volumes' writer. Two ends:
 *
 *   handover.c     the source: runs the job, owns the decision
 *   handover_stays.c the source: what the guest writes once its memory has left
 *   handover_in.c  the destination: holds the guest's I/O until it may have the volumes
 *   handover_check.c both: what would stop it, asked before
 *   handover_path.c  both: how libvirt's and QEMU's bytes get from here to there
 *
 * The messages between them, and who owns the VM when: docs/compute.md and docs/wire-format.md.
 */
#ifndef CLUSTER_HANDOVER_H
#define CLUSTER_HANDOVER_H

#include "cluster/node.h"
#include "compute/problems.h"

struct nvm;
struct handover_out;
struct handover_in;

enum handover_method {
	HO_PREPARE = 0x200, /* source -> destination: exports that hold */
	HO_RELEASE = 0x201, /* destination -> source: my guest asks for its disks */
	HO_FINISH = 0x202,  /* source -> destination: it is yours */
	HO_CANCEL = 0x203,  /* source -> destination: it is not */
	HO_CHECK = 0x204,   /* anybody -> source: what would stop it? */
	HO_LACKS = 0x205,   /* source -> destination: what do you lack for it? */
};

int handover_register(struct node *n, struct hci_error *err);
int handover_in_register(struct node *n, struct hci_error *err);
int handover_check_register(struct node *n, struct hci_error *err);

/* From a fiber of any program: asks the VM's node what would stop a migration to another; adds to p. */
int handover_ask(struct core *c, const char *node, const char *vm, const char *to, bool postcopy, struct problems *p,
		 struct hci_error *err);

struct handover_opts {
	const char *to;
	uint64_t bandwidth, timeout_ns, postcopy_ns, inflight_ns; /* 0: none, respectively the default */
	uint32_t max_downtime_ms, postcopy_passes;
	bool no_auto_converge;
	bool waited; /* the destination had no room for it before */
	void (*taken)(void *arg); /* it takes it now */
	void *arg;
};
/* From the fiber of a job, with the VM's lock held. result: JSON. no_room: the destination takes no more at present, and nothing was done. */
int handover_run(struct nvm *m, const struct handover_opts *o, struct core_job *j, char *result, size_t cap, bool *no_room,
		 struct hci_error *err);
/* The same job, found running after a restart of the node service: sees what became of it. */
int handover_recover(struct nvm *m, const char *to, struct core_job *j, char *result, size_t cap, struct hci_error *err);

/* A write of the guest is held, as it may have gone on here after its memory had left. Does not park. */
void handover_ran_on(struct nvm *m);

/* Post-copy: its memory is at two nodes, and is lost with either end of the hand-over. */
bool handover_is_split(const struct nvm *m);

/* With the VM's lock held: a hand-over whose source is gone is finished or given up, as the domain says. */
void handover_in_look(struct nvm *m);
/* Gives it up and frees it. With the VM's lock held. NULL is fine. */
void handover_in_drop(struct nvm *m);
void handover_in_free(struct nvm *m); /* only frees it, at the end of the service */

/* One call and its answer, from a fiber. body is freed. reply: the call is the caller's, rpc_call_free(). */
int handover_call(struct node *n, const char *to, uint32_t method, struct buf *body, uint64_t timeout_ns,
		  struct rpc_call *call, struct hci_error *err);

#endif
