/* SPDX-License-Identifier: Apache-2.0 */
/* The records of what goes on: jobs and virtual machines. */
#include <stdlib.h>

#include "store/rec_codec.h"

static const char *const job_state[] = { "pending", "running", "done", "failed", "cancelled" };
static const char *const vm_wanted[] = { "stopped", "running" };
static const char *const vm_runs[] = { "running", "paused", "crashed" };
static const char *const nic_model[] = { "virtio", "e1000e" };

static const struct rec_field arg_fields[] = {
	FIELD_STR(struct rec_arg, key, "k"),
	FIELD_STR(struct rec_arg, value, "v"),
};

static const struct rec_field job_fields[] = {
	FIELD_NAME(struct rec_job, id, "id"),
	FIELD_NAME(struct rec_job, type, "type"),
	FIELD_STR(struct rec_job, target, "target"),
	FIELD_LIST(struct rec_job, nargs, args, "args", arg_fields),
	FIELD_NAME_OPT(struct rec_job, node, "node"),
	FIELD_ENUM(struct rec_job, state, "state", job_state),
	FIELD_U64(struct rec_job, done, "done", 0, 0),
	FIELD_U64(struct rec_job, total, "total", 0, 0),
	FIELD_STR(struct rec_job, unit, "unit"),
	FIELD_STR(struct rec_job, phase, "phase"),
	FIELD_I32(struct rec_job, error, "error"),
	FIELD_STR(struct rec_job, message, "message"),
	FIELD_U64(struct rec_job, created, "created", 0, 0),
	FIELD_U64(struct rec_job, updated, "updated", 0, 0),
	FIELD_BOOL(struct rec_job, cancel_requested, "cancel"),
};
REC_TYPE(job, job_fields, NULL);

static const struct rec_field vm_disk_fields[] = {
	FIELD_NAME(struct rec_vm_disk, volume, "volume"),
	FIELD_STR(struct rec_vm_disk, bus, "bus"),
};

static const struct rec_field vm_nic_fields[] = {
	FIELD_STR(struct rec_vm_nic, bridge, "bridge"),
	FIELD_STR(struct rec_vm_nic, mac, "mac"),
	FIELD_ENUM(struct rec_vm_nic, model, "model", nic_model),
	FIELD_U32(struct rec_vm_nic, mtu, "mtu", 0, REC_MTU_MAX),
	FIELD_BOOL(struct rec_vm_nic, down, "down"),
};

static const struct rec_field vm_usb_fields[] = {
	FIELD_NAME(struct rec_vm_usb, name, "name"),
	FIELD_NAME(struct rec_vm_usb, node, "node"),
	FIELD_STR(struct rec_vm_usb, server, "server"),
};

static const struct rec_field vm_fields[] = {
	FIELD_NAME(struct rec_vm, name, "name"),
	FIELD_UUID(struct rec_vm, uuid, "uuid"),
	FIELD_NAME_OPT(struct rec_vm, node, "node"),
	FIELD_ENUM(struct rec_vm, wanted, "wanted", vm_wanted),
	FIELD_BOOL(struct rec_vm, crashed, "crashed"),
	FIELD_U32(struct rec_vm, vcpus, "vcpus", 0, 0),
	FIELD_U64(struct rec_vm, memory_bytes, "memory", 0, 0),
	FIELD_STR(struct rec_vm, kernel, "kernel"),
	FIELD_STR(struct rec_vm, initrd, "initrd"),
	FIELD_STR(struct rec_vm, cmdline, "cmdline"),
	FIELD_LIST(struct rec_vm, ndisks, disks, "disks", vm_disk_fields),
	FIELD_LIST(struct rec_vm, nnics, nics, "nics", vm_nic_fields),
	FIELD_LIST(struct rec_vm, nusb, usb, "usb", vm_usb_fields),
	FIELD_STR(struct rec_vm, console_log, "console"),
	FIELD_U64(struct rec_vm, created, "created", 0, 0),
};

bool rec_usb_server(const char *s)
{
	const char *port = strrchr(s, ':');
	char *end;

	if (!strncmp(s, "unix:/", 6))
		return strlen(s) < 5 + 108; /* as long as a unix socket's path may be */
	if (strncmp(s, "tcp:", 4) || port < s + 5 || port[1] < '1' || port[1] > '9' || strlen(port) > 6)
		return false;
	return strtoul(port + 1, &end, 10) <= UINT16_MAX && !*end;
}

static const char *usb_check(const struct rec_vm *r)
{
	for (uint32_t i = 0; i < r->nusb; i++) {
		if (!rec_usb_server(r->usb[i].server))
			return "a USB device's server has no valid address";
		for (uint32_t k = 0; k < i; k++)
			if (!strcmp(r->usb[k].name, r->usb[i].name))
				return "two USB devices have one name";
	}
	return NULL;
}

/* Both become parts of a domain's description and names of kernel objects. */
static const char *vm_check(const void *rec)
{
	const struct rec_vm *r = rec;
	char mac[ETHER_MAC_STR];

	for (uint32_t i = 0; i < r->nnics; i++) {
		if (!ether_if_name(r->nics[i].bridge))
			return "an interface's bridge has no valid name";
		if (ether_mac(r->nics[i].mac, mac) || strcmp(mac, r->nics[i].mac))
			return "an interface has no valid MAC address";
		if (r->nics[i].mtu && r->nics[i].mtu < REC_MTU_MIN)
			return "an interface's MTU is too small";
	}
	return usb_check(r);
}
REC_TYPE(vm, vm_fields, vm_check);

static const struct rec_field vmrun_fields[] = {
	FIELD_NAME(struct rec_vmrun, node, "node"),
	FIELD_U64(struct rec_vmrun, since, "since", 0, 0),
	FIELD_ENUM(struct rec_vmrun, runs, "runs", vm_runs),
};
REC_TYPE(vmrun, vmrun_fields, NULL);

static const struct rec_field bridge_fields[] = {
	FIELD_STR(struct rec_bridge, name, "name"),
	FIELD_U32(struct rec_bridge, mtu, "mtu", 0, 0),
};

static const struct rec_field nodenet_fields[] = {
	FIELD_LIST(struct rec_nodenet, n, bridges, "bridges", bridge_fields),
	FIELD_BOOL(struct rec_nodenet, more, "more"),
};
REC_TYPE(nodenet, nodenet_fields, NULL);

const char *rec_job_state_name(enum rec_job_state v)
{
	return rec_enum_name(job_state, ARRAY_SIZE(job_state), v);
}

const char *rec_vm_wanted_name(enum rec_vm_wanted v)
{
	return rec_enum_name(vm_wanted, ARRAY_SIZE(vm_wanted), v);
}

const char *rec_vm_runs_name(enum rec_vm_runs v)
{
	return rec_enum_name(vm_runs, ARRAY_SIZE(vm_runs), v);
}
