/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the VM side of the node service share. All of it belongs to the loop. */
#ifndef CLUSTER_NODE_VM_IMPL_H
#define CLUSTER_NODE_VM_IMPL_H

#include <pthread.h>

#include <hci/vm.h>

#include "cluster/content.h"
#include "cluster/handover.h"
#include "cluster/handover_path.h"
#include "cluster/node_impl.h"
#include "cluster/report.h"
#include "cluster/turns.h"
#include "compute/hypervisor.h"
#include "export/nbd_volume.h"
#include "rpc/join.h"
#include "rpc/relay.h"

#define VM_ATTACH_WAIT (15 * NS_PER_S) /* longer than a dead writer's lease */

#define NVM_SOCKET 108u /* bytes of a socket's path: as long as a unix socket's may be */

struct nvm;

/* One disk of a VM here: the volume, and the export that the domain's disk is connected to. */
struct nvm_disk {
	struct nvm *vm;
	struct uuid volume;
	char name[HCI_NAME_MAX];
	uint64_t size;
	char socket[NVM_SOCKET];
	struct vol *v;    /* NULL: not attached */
	struct core_report *report;
	struct content_index *index; /* NULL: none */
	struct nbd_volume *backend;
	struct nbd_server *server;
	struct nbd_export *x;
	bool fenced;
	struct env_timer patience; /* armed while v is being let go of */
};

/* A USB device of a VM that runs here: where its QEMU connects, and what carries that to the device's node. node_vm_usb.c */
struct nvm_usb {
	struct nvm *vm;
	struct rec_vm_usb rec;         /* as it was when it was opened */
	struct env_listener *listener; /* NULL: not open */
	struct rpc_relay *relay;       /* to another node; NULL: QEMU is not connected */
	struct rpc_join *join;         /* the same to a server of this one */
	struct metric *m_connected;
	bool connected, told;          /* it has answered; that it does not is in the log */
	bool over;                     /* the line is, QEMU's connection is kept: the VM is moving */
};

/* A VM that this node has to do with. */
struct nvm {
	struct list link;
	struct node *n;
	char name[HCI_NAME_MAX];
	struct rec_vm rec;
	struct nvm_disk disks[REC_VM_DISKS_MAX];
	uint32_t ndisks;
	struct nvm_usb usb[REC_VM_USB_MAX];
	char console[REC_PATH_MAX];
	struct fiber_mutex lock; /* one operation at a time */
	bool owned;              /* vmrun/<name> is ours */
	uint64_t run_lease;      /* that it hangs on then, as far as we were told */
	enum rec_vm_runs told;   /* of its domain, with that key */
	uint32_t io_errors;      /* rounds in a row that found it paused by one */
	bool running;            /* its domain was started or found here */
	bool suspended;          /* by us, as our lease was about to end */
	bool unsettled;          /* a migration has failed: should libvirt, then or later, leave it paused, it goes on all the same */
	bool cancel;             /* somebody wants a migration under way to end */
	uint32_t stops;          /* jobs that are to stop it, waiting or at work: no migration begins meanwhile */
	uint64_t changed_at;     /* when the last operation ended */
	uint64_t retry_at, stray_since;
	struct handover_out *out; /* it is leaving */
	struct handover_in *in;   /* it is coming */
};

struct handover_in {
	uint64_t id;               /* tells two of them apart after parking */
	char source[HCI_NAME_MAX]; /* node */
	char job[HCI_NAME_MAX];
	struct ho_in *path;
	uint64_t asked_at;         /* when the guest's first request was held; 0: none was yet */
	uint64_t pause_ms;         /* how long that was */
	uint64_t released[REC_VM_DISKS_MAX]; /* generations that the source had when it let go of the volumes; 0: not heard of */
	bool taken;                /* post-copy: it runs here, by right, and the rest of its memory is still coming */
};

struct node_vm_state {
	struct node *n;
	struct list vms;      /* struct nvm */
	struct list jobs;     /* under way: struct executor of node_job.c */
	struct core_watcher job_watcher;
	bool scan_jobs, jobs_seen; /* seen: those that the last life left */
	uint32_t fibers;      /* of ours */
	struct turns leaving; /* VMs */
	struct fiber_cond wake;
	uint64_t lease, lease_until; /* until: on env_now(), with a margin */
	bool first_round_over;
	struct content *content; /* NULL: no VMs here */
	struct list usb_lines;   /* to devices here, of VMs anywhere: struct usb_line of node_vm_usb.c */
	uint32_t n_usb_lines;
};

/* ---- node_vm.c ---- */

/* Finds or makes it. NULL: out of memory. */
struct nvm *nvm_get(struct node *n, const char *name);
struct nvm *nvm_find(struct node *n, const char *name);
/* Starts a fiber that node_vm_stop() waits for; it ends with vm_fiber_end(). */
int vm_fiber(struct node *n, void (*fn)(void *arg), void *arg, const char *name);
void vm_fiber_end(struct node *n);
/* It is ours beyond doubt: also when we were stopped for long, and the guard of the lease has not had its turn yet. */
bool nvm_has_right(const struct nvm *m);
void nvm_lock(struct nvm *m);
void nvm_unlock(struct nvm *m);

/* ---- node_vm_run.c; all from a fiber, with the VM's lock held ---- */

/*
 * Makes it run here: takes vmrun, attaches, exports, starts the domain, or finds it running. 0 also when all is so
 * already. After a failure nothing is left behind, unless the domain was there before.
 */
int nvm_up(struct nvm *m, struct hci_error *err);
/* Its domain cannot go on, nor go back: ended as in a power cut. The next round starts it. */
void nvm_anew(struct nvm *m);
/* The opposite: wanted is stopped from now on. */
int nvm_down(struct nvm *m, uint32_t how, struct hci_error *err);
/* The domain is gone, or ours no more: gives up everything that belongs to it. */
void nvm_release(struct nvm *m);
/* Reads the record into m->rec, and sets where its console goes. */
int nvm_read(struct nvm *m, struct hci_error *err);
/* Writes what is wanted; node and console NULL: as they are. */
int nvm_write(struct nvm *m, enum rec_vm_wanted wanted, const char *node, const char *console, struct hci_error *err);
/* It has ended by itself: wanted is stopped from now on. crashed: so has its QEMU, without being told to. */
int nvm_ended(struct nvm *m, bool crashed, struct hci_error *err);

/* ---- node_vm_right.c; all from a fiber ---- */

/* vmrun/<name>: absent, ours from an earlier life, or from's (may be NULL) -> ours. */
int nvm_take_run(struct nvm *m, const char *from, struct hci_error *err);
void nvm_drop_run(struct nvm *m);
/*
 * Ours, under a lease of before: under the present one from now on. The only one of these that is called without the VM's lock, so it may be
 * given up at the same moment: then it stays so. HCI_E_BUSY: another node has it.
 */
int nvm_keep_run(struct nvm *m, struct hci_error *err);
/* Ours: its domain is like this. With the VM's lock held; a key that changes at the same moment is told the next time. */
int nvm_tell(struct nvm *m, enum rec_vm_runs runs, struct hci_error *err);
/* HCI_E_NOTFOUND when nobody runs it. */
int nvm_runner(struct nvm *m, char node[HCI_NAME_MAX], struct hci_error *err);
/* A guest came here: nvm_take_run(), and its record says that it is wanted running, here. Both or nothing. */
int nvm_take_over_run(struct nvm *m, const char *from, struct hci_error *err);
/* A guest is at that node, which does not answer: ours -> absent, and its record names it. 0 also when another node has it. */
int nvm_give_run(struct nvm *m, const char *to, struct hci_error *err);

/* ---- node_vm_disk.c; all from a fiber ---- */

/* Where QEMU finds a disk or device of this name: the same path as long as the VM is on this node. */
int nvm_socket_path(const struct nvm *m, const char *what, char path[NVM_SOCKET], struct hci_error *err);
/* Looks the disks up and exports them, held and without a backend. */
int nvm_export(struct nvm *m, void (*first_io)(void *arg, struct nbd_export *x, int status), struct hci_error *err);
/* Attaches those that are not. */
int nvm_attach(struct nvm *m, uint32_t purpose, struct hci_error *err);
/* Lets the exports go on with what is attached. */
int nvm_resume_io(struct nvm *m, struct hci_error *err);
/* What the guest writes waits in its exports, whatever else is done with them, or not any more. Does not park. */
void nvm_hold_writes(struct nvm *m, bool hold);
/* Holds the exports, waits for what is under way, and detaches. */
void nvm_detach(struct nvm *m);
/* Closes exports and USB devices, detaches. */
void nvm_unexport(struct nvm *m);
/* Some disk's last connection was one of a QEMU that did not take its leave. */
bool nvm_cut(const struct nvm *m);
/* Some disk has lost its volume, or has none. */
bool nvm_waits(const struct nvm *m);

/* ---- node_vm_usb.c ---- */

/* What the domain's i-th USB device is connected to. */
int nvm_usb_socket(const struct nvm *m, uint32_t i, char path[NVM_SOCKET], struct hci_error *err);
/*
 * QEMU may connect, where it could not yet. The VM runs here: for others the devices' nodes refuse. From a fiber, with the VM's lock held.
 * It asks libvirt, so not before the guest's disks go on; a round does it again where it failed.
 */
int nvm_usb_open(struct nvm *m, struct hci_error *err);
/* The same of a guest that goes on in any case: a failure is logged. */
void nvm_usb_try_open(struct nvm *m);
/* Some of its devices' sockets are not open. */
bool nvm_usb_waits(const struct nvm *m);
/* It does not move any more: connections that have lost their lines meanwhile end. Does not park. */
void nvm_usb_settle(struct nvm *m);
/* The guest sees its devices unplugged. Does not park. */
void nvm_usb_close(struct nvm *m);
/* Streams from VMs of any node to devices of this one. */
int vm_usb_register(struct node *n, struct hci_error *err);
void vm_usb_stop(struct node *n);

/* ---- node_vm_connect.c; all from a fiber, with the VM's lock held ---- */

/* A QEMU that was there before us is made to connect to the exports, which may take 16 s. Nothing if it has. Whether it did nvm_conns() tells. */
void nvm_connect(struct nvm *m);
/* Connections that QEMU has made to the disks so far, and whether one is missing now: two calls tell whether one was lost meanwhile. */
struct nvm_conns {
	uint64_t made;
	bool missing;
};
void nvm_conns(const struct nvm *m, struct nvm_conns *out);
/* It is here, maybe of an earlier life of the service: ours again, its disks attached and connected, and no I/O error keeps it paused. */
int nvm_ready(struct nvm *m, struct hci_error *err);

/* ---- node_job.c ---- */

/* A job of an earlier life of the service that is about this VM has not been looked into yet, or is being: it says where the guest is. */
bool vm_job_left(struct node *n, const char *vm);
/*
 * The same of migrations alone: so many, and one more while it is not known. Until that is 0 the guest, should it be here, gets no disks but
 * from these jobs: it must not write before it is noted that it stays.
 */
uint32_t vm_moves_left(struct node *n, const char *vm);
/* The job that migrates it from here, or is to. NULL: none. Valid until the caller parks. */
const char *vm_moves_by(struct node *n, const char *vm);
/* So many VMs may leave a node at a time, and so many may come to it. arg: struct node. */
uint32_t vm_migrations(void *arg);
/* What the job's arguments ask for; text in it is the job's. to: NULL when it does not say. */
void vm_migrate_opts(const struct core_job *j, struct handover_opts *o);

/* ---- handover_take.c ---- */

/* The guest that came is ours, and its I/O goes on. from: who may have vmrun now; NULL: nobody. HCI_E_AGAIN: it still arrives.
 * HCI_E_NOTFOUND: there is none, and the right to run it was let go of. */
int handover_take_over(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err);
/* The same if it is certain that the source's has not run on. HCI_E_STATE: it is not; nothing was done. */
int handover_take_unbroken(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err);

/* ---- handover_check.c; all from a fiber ---- */

/* The whole list, at the source. job: this is its job, with the VM's lock held, which will see to the domain's state itself; unless
 * there is something already it leaves the destination's part to PREPARE. */
void handover_problems(struct node *n, const char *vm, const char *to, bool postcopy, bool job, struct problems *p);
/* What this node lacks for the VM of m->rec, which is to come. */
void handover_lacks(struct nvm *m, struct compute_needs *needs, struct problems *p);
/* Seven pairs of a map; takes the value if the key is one of these. */
void handover_needs_pack(const struct compute_needs *n, struct buf *b);
bool handover_needs_read(struct compute_needs *n, struct rd_key k, struct rd *r);

/* ---- node_vm_storage.c ---- */

/* From a fiber, after the VM has moved; without its lock. Cancelled with the job. */
int vm_storage_follow(struct node *n, struct core_job *j, const struct rec_vm *vm, const char *to, struct hci_error *err);

/* ---- node_vm_net.c ---- */

void vm_net_fiber(void *arg); /* struct node; until it stops */

/* ---- node_vm_thread.c: libvirt blocks, and for long, so it gets threads of its own ---- */

struct vm_thread {
	struct env *e;
	void (*run)(void *arg);
	void *arg;
	pthread_t thread;
	struct env_task task;
	struct fiber_cond cond;
	bool done, is_fiber;
};
/* 0 or HCI_E_SYS. *t stays until vm_thread_join(). */
int vm_thread_start(struct node *n, struct vm_thread *t, void (*run)(void *arg), void *arg, struct hci_error *err);
/* False when it is not done by then. */
bool vm_thread_wait(struct vm_thread *t, uint64_t deadline);
void vm_thread_join(struct vm_thread *t);

/* Calls of compute.h from a fiber. */
int vm_compute_start(struct node *n, const struct compute_vm *vm, struct hci_error *err);
int vm_compute_stop(struct node *n, const char *name, uint32_t how, struct hci_error *err);
int vm_compute_list(struct node *n, struct compute_state **out, size_t *cnt, struct hci_error *err);
int vm_compute_find(struct node *n, const char *name, struct compute_state *out, struct hci_error *err);
int vm_compute_suspend(struct node *n, const char *name, struct hci_error *err);
int vm_compute_resume(struct node *n, const char *name, struct hci_error *err);
/* late: called when it takes longer than this, to end what it waits for. */
int vm_compute_nudge(struct node *n, const char *name, uint32_t disk, uint64_t patience_ns, void (*late)(void *arg), void *arg,
		     struct hci_error *err);
int vm_compute_needs(struct node *n, const char *name, struct compute_needs *out, struct hci_error *err);
void vm_compute_may_leave(struct node *n, const char *name, bool state, struct problems *p);
void vm_compute_preflight(struct node *n, const struct compute_needs *needs, struct problems *p);
int vm_compute_socket_give(struct node *n, const char *path, struct hci_error *err);
int vm_compute_migrated(struct node *n, const char *name, struct compute_migrated *out, struct hci_error *err);

#endif
