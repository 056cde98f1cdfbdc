/* SPDX-License-Identifier: Apache-2.0 */
/* The records of what goes on: jobs and virtual machines. */
#include "store/rec_codec.h"

static const char *const job_state[] = { "pending", "running", "done", "failed", "cancelled" };
static const char *const vm_wanted[] = { "stopped", "running" };

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

static const struct rec_field vm_fields[] = {
	FIELD_NAME(struct rec_vm, name, "name"),
	FIELD_UUID(struct rec_vm, uuid, "uuid"),
	FIELD_NAME_OPT(struct rec_vm, node, "node"),
	FIELD_ENUM(struct rec_vm, wanted, "wanted", vm_wanted),
	FIELD_U32(struct rec_vm, vcpus, "vcpus", 0, 0),
	FIELD_U64(struct rec_vm, memory_bytes, "memory", 0, 0),
	FIELD_STR(struct rec_vm, kernel, "kernel"),
	FIELD_STR(struct rec_vm, initrd, "initrd"),
	FIELD_STR(struct rec_vm, cmdline, "cmdline"),
	FIELD_LIST(struct rec_vm, ndisks, disks, "disks", vm_disk_fields),
	FIELD_STR(struct rec_vm, console_log, "console"),
	FIELD_U64(struct rec_vm, created, "created", 0, 0),
};
REC_TYPE(vm, vm_fields, NULL);

static const struct rec_field vmrun_fields[] = {
	FIELD_NAME(struct rec_vmrun, node, "node"),
	FIELD_U64(struct rec_vmrun, since, "since", 0, 0),
};
REC_TYPE(vmrun, vmrun_fields, NULL);

const char *rec_job_state_name(enum rec_job_state v)
{
	return rec_enum_name(job_state, ARRAY_SIZE(job_state), v);
}

const char *rec_vm_wanted_name(enum rec_vm_wanted v)
{
	return rec_enum_name(vm_wanted, ARRAY_SIZE(vm_wanted), v);
}
