/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a live migration's source share: handover.c runs it, handover_release.c lets the volumes go, handover_stays.c holds what
 * is written after its memory has left, handover_end.c ends it.
 */
#ifndef CLUSTER_HANDOVER_IMPL_H
#define CLUSTER_HANDOVER_IMPL_H

#include <stdatomic.h>

#include "cluster/node_vm_impl.h"

struct handover_out {
	struct nvm *vm;
	struct core_job *job;
	const char *to;
	const struct handover_opts *opts;
	uint64_t id; /* tells two of them apart after parking */
	uint64_t bandwidth;
	uint64_t inflight_ns;
	uint64_t limit; /* of its time */
	struct fiber_mutex lock;
	bool no_room;  /* at the destination */
	bool released; /* the volumes are detached */
	uint64_t generations[REC_VM_DISKS_MAX]; /* that they had then; 0: it had not even one */
	bool memory_left; /* all of it */
	bool ran_on;      /* and then the guest wrote something here, which is held ... */
	bool stays;       /* ... until this is in the job's record */
	bool committed; /* post-copy: it is the destination's, though its memory is not all there */
	bool failed;   /* and will not be any more */
	unsigned users; /* requests that look at this */
	/* what the destination said */
	char memory[COMPUTE_SOCKET_MAX], libvirt[64], console[REC_PATH_MAX];
	char sockets[REC_VM_DISKS_MAX][NVM_SOCKET], usb[REC_VM_USB_MAX][NVM_SOCKET];
	uint32_t nsockets, nusb;
	struct ho_out *path; /* NULL: closed, as libvirt said that it failed; stat is what it was */
	struct ho_stat stat;
	/* with the thread that migrates */
	const struct hypervisor *hypervisor;
	struct compute *compute;
	struct compute_migrate cm;
	char usb_here[REC_VM_USB_MAX][NVM_SOCKET];
	struct compute_path paths[REC_VM_DISKS_MAX + REC_VM_USB_MAX + 1];
	pthread_mutex_t progress_lock;
	struct compute_progress progress;
	_Atomic bool cancel;
	int rc;
	struct hci_error err;
};

/* What the destination says of it at its end. */
struct finished {
	uint64_t total_ms, downtime_ms, bytes, io_pause_ms;
	bool postcopy;
};

/* What a job notes in its record for the service's next life. */
#define NOTE_MACHINE "machine" /* its life, when the migration began */
#define NOTE_STAYS "stays"     /* the guest goes on at the source: what is at the destination is its memory of before */

/* ---- handover_stays.c ---- */

/* QEMU's stream of memory has ended here, however: from now on writes are held until it is noted that the guest stays. Does not park. */
void handover_memory_ended(struct handover_out *o);
/* Notes it: one try; or until it is done, unless the hand-over ends otherwise or the service is stopped. Then writes are held no more. */
bool handover_try_stays(struct nvm *m, struct handover_out *o, struct hci_error *err);
void handover_stays(struct nvm *m, struct handover_out *o);
/* The same in the service's next life. An error: it is stopped, and leaves the job as it is. */
int handover_note_stays(struct nvm *m, struct core_job *j, struct hci_error *err);
/*
 * The domain is gone. rc: of libvirt. Where that did not say that it has left it may have gone on here first, and ended then: not if it could
 * not write any more, or has not.
 */
bool handover_has_left(const struct handover_out *o, int rc);

/* ---- handover_end.c ---- */

/*
 * The domain is at the destination, or nowhere. Whatever comes: it is not ours any more, and if the
 * destination does not hear us it will find vmrun free and take it. sure: it cannot have run on here after its
 * memory had left; else the destination has to know that, or it is started anew, here.
 */
int handover_finish(struct nvm *m, const char *to, bool sure, struct finished *f, struct hci_error *err);
/* Post-copy has begun, the guest does not run here any more: the destination is told so. Again until it is done. */
void handover_commit(struct nvm *m, struct handover_out *o);
/* The link was lost in post-copy: half a guest is of no use to anybody. Who has the right to run it starts it anew. */
int handover_split(struct nvm *m, struct handover_out *o, struct hci_error *err);
/*
 * The domain's state here: asked for until libvirt says it, HCI_E_NOTFOUND too. The destination is told nothing before: its guest may be the
 * only one. Another error: the service is to end before it knows, and leaves the job as it is for its next life.
 */
int handover_look(struct nvm *m, struct core_job *j, struct compute_state *st, struct hci_error *err);
/* Lets go of the volumes, once. gone: the domain is. HCI_E_STATE: it has failed, or goes on here. */
int handover_release(struct nvm *m, struct handover_out *o, bool gone);
void handover_cancel(struct nvm *m, const char *to);
/* As if nothing had been. If the volumes do not come back at once, the rounds of node_vm.c go on trying. */
void handover_restore(struct nvm *m, struct handover_out *o);
/* Another node took the VM while we could not renew our right to it. */
int handover_lost(struct nvm *m, struct handover_out *o, struct hci_error *err);
/* Bytes of pages of a class that did not have to be sent. */
uint64_t handover_saved(const struct mst_stats *s, unsigned class);
/* JSON, while it runs: include/hci/vm.h names the members. */
/* What the path carries: the link, or what it may have of it. */
uint64_t handover_rate(const struct ho_stat *st);
/* What a job says of itself, for people. */
void handover_phase(const struct compute_progress *p, const struct ho_stat *st, char *out, size_t cap);
void handover_figures(const struct compute_progress *p, const struct ho_stat *st, char *out, size_t cap);
/* st: NULL when it is not known. */
void handover_result(const struct finished *f, const struct ho_stat *st, char *out, size_t cap);

#endif
