/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node service needs of a machine's hypervisor, behind one table: the calls of compute.h, which are libvirt and QEMU, or a
 * model of both in the simulator (tests/sim/vmm.h). So the very same hand-over runs in both. Owns no state: the first
 * argument is whose table it is.
 */
#ifndef COMPUTE_HYPERVISOR_H
#define COMPUTE_HYPERVISOR_H

#include "base/boot_id.h"
#include "compute/compute.h"
#include "compute/memstream/memstream.h"

struct hypervisor {
	/* The calls of the first group park the fiber that makes them instead of blocking its thread, so they need no thread. */
	bool parks;

	/* As the functions of compute.h of the same names. */
	int (*start)(struct compute *c, const struct compute_vm *vm, struct hci_error *err);
	int (*stop)(struct compute *c, const char *name, uint32_t how, uint64_t timeout_ns, struct hci_error *err);
	int (*list)(struct compute *c, struct compute_state **out, size_t *n, struct hci_error *err);
	int (*find)(struct compute *c, const char *name, struct compute_state *out, struct hci_error *err);
	int (*suspend)(struct compute *c, const char *name, struct hci_error *err);
	int (*resume)(struct compute *c, const char *name, struct hci_error *err);
	int (*nudge)(struct compute *c, const char *name, unsigned disk, struct hci_error *err);
	int (*migrate)(struct compute *c, struct compute_migrate *m, struct hci_error *err);
	int (*migrated)(struct compute *c, const char *name, struct compute_migrated *out, struct hci_error *err);
	int (*needs)(struct compute *c, const char *name, struct compute_needs *out, struct hci_error *err);
	void (*may_leave)(struct compute *c, const char *name, bool state, struct problems *out);
	void (*preflight)(struct compute *c, const struct compute_needs *n, struct problems *out);
	int (*socket_give)(struct compute *c, const char *path, struct hci_error *err); /* to QEMU's user */

	/* What guests' interfaces can be ports of: bridge_list(). */
	uint32_t (*bridges)(struct compute *c, struct bridge *out, uint32_t cap);

	/* Of this life of the machine, with which all domains end; boot_id(). On the loop, it does not block. */
	int (*machine)(struct compute *c, char id[BOOT_ID], struct hci_error *err);

	/* The places where sockets are: on the loop, these do not block. */
	int (*local)(struct compute *c, struct compute_local *out, struct hci_error *err);
	int (*meet_make)(struct compute *c, const char *dir, char path[COMPUTE_SOCKET_MAX], struct hci_error *err);
	bool (*meet_take)(struct compute *c, const char *path, char at[COMPUTE_SOCKET_MAX]);
	void (*meet_remove)(struct compute *c, const char *path);
	void (*meet_clean)(struct compute *c, const char *dir);
	int (*meet_prepare)(struct compute *c, const char *path, unsigned *made, struct hci_error *err);
	void (*meet_link)(struct compute *c, const char *path, const char *to);
	void (*meet_unlink)(struct compute *c, const char *path, unsigned made);
	void (*socket_clean)(struct compute *c, const char *path);
	void (*socket_remove)(struct compute *c, const char *path);
	int (*socket_private)(struct compute *c, const char *path, struct hci_error *err); /* nobody else's */

	/* What the codec may have of this machine. */
	void (*codec)(struct compute *c, struct mst_opts *o);
};

/* libvirt and the file system. */
extern const struct hypervisor hypervisor_libvirt;

#endif
