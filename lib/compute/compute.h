/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs through libvirt. Every call here blocks in libvirt and is therefore made from a thread that may
 * block, never from a loop; a struct compute may be used by several threads at once. Knows domains,
 * not volumes: disks are given as NBD unix sockets.
 *
 * libvirt's events are not used: their loop is one a process and belongs to the embedding program.
 * Whoever wants to know of changes asks compute_list() now and then. docs/compute.md says more.
 */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include <hci/vm.h>

#include "base/base.h"
#include "base/ether.h"
#include "base/log.h"
#include "compute/bridge.h"
#include "compute/problems.h"

struct compute;

struct compute_opts {
	const char *uri; /* "qemu:///system" */
	struct log log;
};

/* Connects and keeps connected (libvirtd may restart). HCI_E_LIBVIRT with libvirt's own message. */
int compute_open(const struct compute_opts *o, struct compute **out, struct hci_error *err);
void compute_close(struct compute *c);

struct compute_disk {
	char socket[256]; /* NBD unix socket on this node, the same path on every node */
	char export_name[64];
	uint64_t size;
};
struct compute_nic {
	char bridge[ETHER_IF_NAME];
	char port[ETHER_IF_NAME]; /* what the host's end is called */
	char mac[ETHER_MAC_STR];
	bool e1000e;   /* virtio otherwise */
	bool down;     /* no carrier */
	uint32_t mtu;  /* 0: the bridge's */
};
struct compute_usb {
	char socket[108]; /* unix socket on this node that a usbredir server answers at, now or later */
};
struct compute_vm {
	const char *name;
	struct uuid uuid;
	uint32_t vcpus;
	uint64_t memory_bytes;
	const char *kernel, *initrd, *cmdline; /* NULL: from disk */
	const char *console_log;
	const struct compute_disk *disks;
	uint32_t ndisks;
	const struct compute_nic *nics;
	uint32_t nnics;
	const struct compute_usb *usb;
	uint32_t nusb;
	const char *node; /* this one, for messages */
};

/* Start as a transient domain: libvirt forgets it when it stops, the store remembers. HCI_E_EXISTS when it runs,
 * HCI_E_STATE when a bridge is missing or its MTU too small. */
int compute_start(struct compute *c, const struct compute_vm *vm, struct hci_error *err);
/* how: HCI_VM_STOP_*. Returns when it is gone; 0 also when it was not there. */
int compute_stop(struct compute *c, const char *name, uint32_t how, uint64_t timeout_ns, struct hci_error *err);

struct compute_state {
	char name[64];
	struct uuid uuid;
	int state;      /* HCI_VM_* */
	bool migrating;    /* paused by a migration under way: its target, or its source at the end */
	bool starting;     /* its process may not have begun; if libvirtd ended meanwhile it never does, and the domain stays until destroyed */
	bool io_error;     /* paused because a disk did not answer: compute_resume() when it does again */
	bool postcopy;     /* its memory is at two nodes: it runs at the other one, or here, and what it lacks is still coming */
	bool broken;       /* and will not come any more: it can neither go on nor back */
};
/* Domains that libhci made (marked in their metadata), mem_free(*out). */
int compute_list(struct compute *c, struct compute_state **out, size_t *n, struct hci_error *err);
/* HCI_E_NOTFOUND. */
int compute_find(struct compute *c, const char *name, struct compute_state *out, struct hci_error *err);
/* 0 also when it was not running, respectively was. */
int compute_suspend(struct compute *c, const char *name, struct hci_error *err);
int compute_resume(struct compute *c, const char *name, struct hci_error *err);
/* Makes QEMU send a request to a disk, by number, and so find out that its connection has ended: see nudge.c. Its result is not told. */
int compute_nudge(struct compute *c, const char *name, unsigned disk, struct hci_error *err);

/* A path of a disk's or USB device's socket or of the console's log that is another one at the destination. */
struct compute_path {
	const char *here, *there;
};
/* How far it is, as QEMU has it. */
struct compute_progress {
	uint64_t done, total, remaining; /* bytes */
	uint64_t dirty_rate;             /* bytes/s that the guest changes */
	uint64_t downtime_ms;            /* expected */
	uint64_t pass;                   /* over its memory */
	bool postcopy;                   /* the rest follows the guest */
};
/* Passes that left as much as the one before, or nearly. */
struct converge {
	uint64_t pass, dirty; /* at the first look at that pass */
	uint32_t vain;        /* in a row */
};
void converge_look(struct converge *c, uint64_t pass, uint64_t remaining);

struct compute_migrate {
	const char *name;
	const char *peer_uri;      /* libvirt of the destination, as our libvirtd reaches it */
	const char *migrate_uri;   /* where our QEMU sends its memory to: "unix:///PATH" */
	uint64_t bandwidth;        /* bytes/s, 0: none */
	uint32_t max_downtime_ms;  /* 0: default */
	uint64_t timeout_ns;       /* 0: none */
	uint64_t postcopy_ns;      /* not over by then: post-copy; 0: not for that */
	uint32_t postcopy_passes;  /* so many passes in a row were in vain: post-copy; 0: not for that */
	bool no_auto_converge;     /* the guest keeps its pace whatever it changes */
	const struct compute_path *paths;
	uint32_t npaths;
	/* Called about every 200 ms; returning true cancels. */
	bool (*progress)(void *arg, const struct compute_progress *p);
	void *arg;
	/* set when done, as seen from here; compute_migrated() at the destination knows more */
	uint64_t total_ms, bytes;
	bool gone; /* failed, but the domain is not here any more: ask the destination */
	bool split; /* failed in post-copy: what is here is half of it, and cannot run */
};
static inline bool compute_may_postcopy(const struct compute_migrate *m)
{
	return m->postcopy_ns || m->postcopy_passes;
}
/*
 * Live, peer to peer. 0: it runs at the destination and is gone here. Negative: it runs here as before,
 * unless m->gone or m->split says otherwise. HCI_E_CANCELLED when progress said so, HCI_E_TIMEOUT.
 */
int compute_migrate(struct compute *c, struct compute_migrate *m, struct hci_error *err);
/* preflight.c: what a domain that is to move needs where it goes. */
struct compute_needs {
	bool kvm, postcopy;
	bool usb; /* devices of other nodes */
	uint64_t memory_bytes;
	const char *kernel, *initrd; /* may be NULL */
	char machine[64], arch[32];  /* "pc-q35-7.2", "x86_64"; "": not known */
	char emulator[256];          /* path, "": any */
	char cpu[8192];              /* element of the domain's XML, "": any will do */
	uint32_t nports;
	struct bridge_port ports[HCI_VM_NICS_MAX]; /* of its interfaces */
	const char *node; /* the destination, for messages */
};
/* At the source: kvm, machine, arch, emulator, cpu and ports; the rest is left empty, for the destination. */
int compute_needs(struct compute *c, const char *name, struct compute_needs *out, struct hci_error *err);
/* Adds what stops it at the source: its libvirt, and, unless state is false, that the domain does not run. */
void compute_may_leave(struct compute *c, const char *name, bool state, struct problems *out);
/* At the destination: adds all that it does not have. */
void compute_preflight(struct compute *c, const struct compute_needs *n, struct problems *out);

/* Where libvirtd of a URI listens on this machine. HCI_E_UNSUPPORTED: the URI is not one of this machine. */
#define COMPUTE_SOCKET_MAX 108u /* as long as a unix socket's path may be */
struct compute_local {
	char socket[COMPUTE_SOCKET_MAX];
	char path[64]; /* "/system": what is asked for there */
};
int compute_local(const char *uri, struct compute_local *out, struct hci_error *err);
const char *compute_uri(const struct compute *c);
/* A unix socket in the file system becomes that of the user whom libvirt starts QEMU as, and nobody else's. */
int compute_socket_give(struct compute *c, const char *path, struct hci_error *err);

/*
 * meet.c: the unix path that both QEMUs of a migration are given, see there. These do not block, and may be called on the loop.
 * Destination: makes the directory and names the path; moves QEMU's socket aside if it listens by now: false: not yet; removes all.
 */
int compute_meet_make(const char *dir, char path[COMPUTE_SOCKET_MAX], struct hci_error *err);
bool compute_meet_take(const char *path, char at[COMPUTE_SOCKET_MAX]);
void compute_meet_remove(const char *path);
void compute_meet_clean(const char *dir); /* the same, of an earlier life */
void compute_socket_clean(const char *path); /* removes a socket that nobody listens at */
/*
 * Source: makes directories that are missing (how many: made); makes path lead to a socket of ours, where the directory is the
 * destination's own not before that has taken its QEMU's; removes that.
 */
int compute_meet_prepare(const char *path, unsigned *made, struct hci_error *err);
void compute_meet_link(const char *path, const char *to);
void compute_meet_unlink(const char *path, unsigned made);

struct compute_migrated {
	uint64_t total_ms, downtime_ms, bytes;
};
/* At the destination, after a migration: what it cost. */
int compute_migrated(struct compute *c, const char *name, struct compute_migrated *out, struct hci_error *err);

#endif
