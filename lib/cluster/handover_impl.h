/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a live migration's source share: handover.c runs it, handover_end.c ends it.
 */
#ifndef CLUSTER_HANDOVER_IMPL_H
#define CLUSTER_HANDOVER_IMPL_H

#include <stdatomic.h>

#include "cluster/node_vm_impl.h"

struct handover_out {
	const char *to;
	uint64_t id; /* tells two of them apart after parking */
	uint64_t bandwidth;
	struct fiber_mutex lock;
	bool released; /* the volumes are detached */
	bool failed;   /* and will not be any more */
	unsigned users; /* requests that look at this */
	/* what the destination said */
	char memory[COMPUTE_SOCKET_MAX], libvirt[64], console[REC_PATH_MAX];
	char sockets[REC_VM_DISKS_MAX][108];
	uint32_t nsockets;
	struct ho_out *path; /* NULL: closed, as libvirt said that it failed; stat is what it was */
	struct ho_stat stat;
	/* with the thread that migrates */
	struct compute *compute;
	struct compute_migrate cm;
	struct compute_path paths[REC_VM_DISKS_MAX + 1];
	pthread_mutex_t progress_lock;
	struct compute_progress progress;
	_Atomic bool cancel;
	int rc;
	struct hci_error err;
};

/* What the destination says of it at its end. */
struct finished {
	uint64_t total_ms, downtime_ms, bytes, io_pause_ms;
};

/* ---- handover_end.c ---- */

/*
 * The domain is at the destination, or nowhere. Whatever comes: it is not ours any more, and if the
 * destination does not hear us it will find vmrun free and take it.
 */
int handover_finish(struct nvm *m, const char *to, struct finished *f, struct hci_error *err);
void handover_cancel(struct nvm *m, const char *to);
/* As if nothing had been. If the volumes do not come back at once, the rounds of node_vm.c go on trying. */
void handover_restore(struct nvm *m, struct handover_out *o);
/* Another node took the VM while we could not renew our right to it. */
int handover_lost(struct nvm *m, struct handover_out *o, struct hci_error *err);
/* s: NULL when it is not known. */
void handover_result(const struct finished *f, const struct mst_stats *s, char *out, size_t cap);

#endif
