/* SPDX-License-Identifier: Apache-2.0 */
/* hci/vm.h: VMs as records; what is to be done to them as jobs for their node. */
#include "api/job.h"

#include "cluster/handover.h"
#include "cluster/schedule.h"
#include "volume/volume.h"

#define MEMORY_DEFAULT (256 * MiB)

/* ---- define ---- */

static int define_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct hci_vm_opts *o = arg;
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	char key[REC_KEY];
	uint8_t rnd[16];
	struct uuid id;
	int rc = 0;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", o->name);
	if (o->node && !core_node(c->core, o->node))
		rc = err_set(err, HCI_E_NOTFOUND, "VM %s: there is no node %s: hcictl node list shows those there are",
			     o->name, o->node);
	env_random(c->env, rnd, sizeof(rnd));
	uuid_from_random(&r->uuid, rnd);
	API_TEXT(r->name, o->name);
	API_TEXT(r->node, o->node ? o->node : "");
	r->vcpus = o->vcpus ? o->vcpus : 1;
	r->memory_bytes = o->memory_bytes ? o->memory_bytes : MEMORY_DEFAULT;
	API_TEXT(r->kernel, o->kernel ? o->kernel : "");
	API_TEXT(r->initrd, o->initrd ? o->initrd : "");
	API_TEXT(r->cmdline, o->cmdline ? o->cmdline : "");
	r->created = env_realtime(c->env);
	for (uint32_t i = 0; !rc && i < o->nvolumes; i++) {
		API_TEXT(r->disks[i].volume, o->volumes[i]);
		API_TEXT(r->disks[i].bus, "virtio");
		rc = api_volume_find(c, o->volumes[i], &id, NULL, err);
		for (uint32_t k = 0; !rc && k < i; k++)
			if (!strcmp(o->volumes[k], o->volumes[i]))
				rc = err_set(err, HCI_E_INVAL, "VM %s: volume %s is named twice", o->name, o->volumes[i]);
	}
	r->ndisks = o->nvolumes;
	if (!rc)
		rc = api_vm_nics_fill(c, o, r, err);
	if (!rc)
		rc = api_vm_usb_fill(c, o, r, err);
	key_vm(key, o->name);
	if (!rc) {
		rc = rec_vm_put(c->store, key, r, 0, 0, NULL, err);
		if (rc == HCI_E_CONFLICT)
			rc = err_set(err, HCI_E_EXISTS, "VM %s: there is one of this name: choose another", o->name);
	}
	mem_free(r);
	return rc;
}

static int check_path(const char *p, const char *what, const struct hci_vm_opts *o, struct hci_error *err)
{
	if (p && (p[0] != '/' || strlen(p) >= REC_PATH_MAX))
		return err_set(err, HCI_E_INVAL, "VM %s: %s must be an absolute path of at most %u bytes", o->name, what,
			       REC_PATH_MAX - 1);
	return 0;
}

static int check_define(const struct hci_vm_opts *o, struct hci_error *err)
{
	int rc;

	if (!o->name)
		return err_set(err, HCI_E_INVAL, "VM: name is missing");
	rc = name_check(o->name, "VM", err);
	if (!rc && o->node)
		rc = name_check(o->node, "node", err);
	if (!rc)
		rc = check_path(o->kernel, "kernel", o, err);
	if (!rc)
		rc = check_path(o->initrd, "initrd", o, err);
	if (rc)
		return rc;
	if (!o->kernel && (o->initrd || o->cmdline))
		return err_set(err, HCI_E_INVAL, "VM %s: %s goes with a kernel only: give one, or leave it to the boot loader on its disk",
			       o->name, o->initrd ? "initrd" : "cmdline");
	if (o->cmdline && strlen(o->cmdline) >= REC_TEXT_MAX)
		return err_set(err, HCI_E_INVAL, "VM %s: cmdline is longer than %u bytes", o->name, REC_TEXT_MAX - 1);
	if (o->nvolumes > HCI_VM_DISKS_MAX)
		return err_set(err, HCI_E_INVAL, "VM %s: %u volumes: at most %d", o->name, o->nvolumes, HCI_VM_DISKS_MAX);
	if (o->vcpus > 256)
		return err_set(err, HCI_E_INVAL, "VM %s: %u vcpus: at most 256", o->name, o->vcpus);
	if (o->memory_bytes && (o->memory_bytes < 16 * MiB || o->memory_bytes > (UINT64_C(1) << 44)))
		return err_set(err, HCI_E_INVAL, "VM %s: %llu bytes of memory are not in 16 MiB..16 TiB", o->name,
			       (unsigned long long)o->memory_bytes);
	for (uint32_t i = 0; !rc && i < o->nvolumes; i++)
		rc = o->volumes[i] ? name_check(o->volumes[i], "volume", err) : api_null("volumes[]", err);
	if (!rc)
		rc = api_vm_nics_check(o, err);
	return rc ? rc : api_vm_usb_check(o, err);
}

int hci_vm_define(hci_cluster *c, const struct hci_vm_opts *opts, struct hci_error *err)
{
	static const struct hci_vm_opts defaults = HCI_VM_OPTS_INIT;
	struct hci_vm_opts o;
	int rc;

	if (!c)
		return api_null("c", err);
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_vm_opts, nnics),
		       "hci_vm_opts", err);
	if (!rc)
		rc = check_define(&o, err);
	return rc ? rc : api_call_fresh(c, define_on_loop, &o, err);
}

int api_vm_get(hci_cluster *c, const char *name, struct rec_vm *r, uint64_t *rev, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	key_vm(key, name);
	rc = rec_vm_get(c->store, key, r, rev, err);
	return rc == HCI_E_NOTFOUND ? api_none("VM", "vm", name, err) : rc;
}

/*
 * Without vmrun it may run all the same: its node's service is away for a moment, or for longer, and the guest is not. A domain that has no
 * record is nobody's, so it is kept until somebody has stopped it, or its node is not one of ours any more.
 */
static int is_to_run(hci_cluster *c, const struct rec_vm *r, struct hci_error *err)
{
	if (r->wanted != REC_VM_RUNNING || !core_node(c->core, r->node))
		return 0;
	if (core_alive(c->core, r->node))
		return err_set(err, HCI_E_STATE, "VM %s: it is to run on node %s: hcictl vm stop %s first", r->name, r->node, r->name);
	return err_set(err, HCI_E_STATE,
		       "VM %s: it may run on node %s, which is down: start the node service there, or the VM elsewhere, and stop it; or "
		       "hcictl node remove %s",
		       r->name, r->node, r->node);
}

static int undefine_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const char *name = arg;
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	struct rec_vmrun run;
	char key[REC_KEY], runkey[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", name);
	key_vm(key, name);
	key_vmrun(runkey, name);
	rc = api_vm_get(c, name, r, &rev, err);
	if (!rc && !rec_vmrun_get(c->store, runkey, &run, NULL, NULL))
		rc = err_set(err, HCI_E_STATE, "VM %s: it runs on node %s: stop it first", name, run.node);
	if (!rc)
		rc = is_to_run(c, r, err);
	if (!rc)
		rc = rec_delete(c->store, key, rev, NULL, err);
	mem_free(r);
	return rc;
}

int hci_vm_undefine(hci_cluster *c, const char *name, struct hci_error *err)
{
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "VM", err);
	return rc ? rc : api_call_fresh(c, undefine_on_loop, (void *)(uintptr_t)name, err);
}

/* ---- jobs ---- */

struct job_args {
	const char *name, *type;
	const char *const *args;
	bool needs_running, needs_stopped;
	const char *to; /* migration: another node, that is alive */
	const char *on; /* start: the same; NULL: its own */
	char id[HCI_NAME_MAX];
};

static int not_there(hci_cluster *c, const char *name, const char *node, struct hci_error *err)
{
	if (core_alive(c->core, node))
		return 0;
	if (!core_node(c->core, node))
		return err_set(err, HCI_E_NOTFOUND, "VM %s: node %s is not known: hcictl node list shows those there are", name, node);
	return err_set(err, HCI_E_UNAVAILABLE, "VM %s: node %s is down: start its node service, or choose another node", name, node);
}

/* What can be done for it all the same. */
static int its_node_is_down(const struct job_args *a, const char *node, struct hci_error *err)
{
	return err_set(err, HCI_E_UNAVAILABLE,
		       "VM %s: its node %s is down: start the node service there%s: hcictl vm start %s --node NODE", a->name, node,
		       a->to		? ", or start the VM anew elsewhere, as a dead node's memory cannot be moved" :
		       a->needs_running ? ", or let the VM start elsewhere and stop it there" :
					  ", or start the VM elsewhere when that machine is off",
		       a->name);
}

/* Where somebody wants it to be started. A node that is alive and is to run it starts it by itself, if it does not yet. */
static int start_there(hci_cluster *c, const struct job_args *a, const struct rec_vm *vm, char node[HCI_NAME_MAX], struct hci_error *err)
{
	int rc = not_there(c, a->name, a->on, err);

	if (!rc && vm->wanted == REC_VM_RUNNING && *vm->node && strcmp(vm->node, a->on) && core_alive(c->core, vm->node))
		rc = err_set(err, HCI_E_STATE, "VM %s: node %s is alive and about to run it: hcictl vm stop %s first", a->name, vm->node, a->name);
	snprintf(node, HCI_NAME_MAX, "%s", a->on);
	return rc;
}

/* The node that has to act: where it runs, else where it is to run, else where the scheduler puts it. */
static int choose_node(hci_cluster *c, const struct job_args *a, const struct rec_vm *vm, char node[HCI_NAME_MAX],
		       struct hci_error *err)
{
	struct rec_vmrun run;
	char key[REC_KEY];
	bool runs;

	key_vmrun(key, a->name);
	runs = !rec_vmrun_get(c->store, key, &run, NULL, NULL);
	if (runs && a->needs_stopped && core_alive(c->core, run.node))
		return err_set(err, HCI_E_STATE, "VM %s: it runs on node %s already", a->name, run.node);
	if (a->on)
		return start_there(c, a, vm, node, err);
	if (runs) {
		snprintf(node, HCI_NAME_MAX, "%s", run.node);
		return 0;
	}
	/* One that is to run may be without it for a moment, while its node's service is started anew. */
	if (a->needs_running && vm->wanted != REC_VM_RUNNING)
		return err_set(err, HCI_E_STATE, "VM %s: it does not run%s", a->name, a->to ? ": start it first" : ": there is nothing to stop");
	if (*vm->node) {
		snprintf(node, HCI_NAME_MAX, "%s", vm->node);
		return 0;
	}
	return core_schedule(c->core, NULL, a->name, node, NULL, NULL, err);
}

/*
 * A migration of it by that node which has not ended. One that copies volumes only, to where the VM is by now, is of another node.
 */
static int check_moves(hci_cluster *c, const char *name, const char *node, struct hci_error *err)
{
	struct rec_list jobs;
	int rc = rec_job_list(c->store, PREFIX_JOB, &jobs, err);

	if (rc)
		return rc;
	for (size_t k = 0; !rc && k < jobs.n; k++) {
		const struct rec_job *r = REC_AT(&jobs, k, struct rec_job);

		if ((r->state == REC_JOB_PENDING || r->state == REC_JOB_RUNNING) && !strcmp(r->type, "vm-migrate") &&
		    !strcmp(r->target, name) && !strcmp(r->node, node))
			rc = err_set(err, HCI_E_BUSY, "VM %s: job %s migrates it already: wait for its end, or hcictl job cancel %s", name, r->id,
				     r->id);
	}
	rec_list_free(&jobs);
	return rc;
}

static int job_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct job_args *a = arg;
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	char node[HCI_NAME_MAX];
	int rc;

	if (!vm)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", a->name);
	rc = api_vm_get(c, a->name, vm, NULL, err);
	if (!rc)
		rc = choose_node(c, a, vm, node, err);
	mem_free(vm);
	if (rc)
		return rc;
	if (!core_alive(c->core, node))
		return its_node_is_down(a, node, err);
	if (a->to && !strcmp(a->to, node))
		return err_set(err, HCI_E_INVAL, "VM %s: it runs on node %s already", a->name, node);
	rc = a->to ? not_there(c, a->name, a->to, err) : 0;
	if (!rc && a->to)
		rc = check_moves(c, a->name, node, err);
	return rc ? rc : core_job_create(c->core, a->type, a->name, node, a->args, a->id, err);
}

static int job(hci_cluster *c, struct job_args *a, hci_job **out, struct hci_error *err)
{
	int rc = name_check(a->name, "VM", err);

	return rc ? rc : api_job_start(c, job_on_loop, a, a->id, out, err);
}

int hci_vm_start_on(hci_cluster *c, const char *name, const struct hci_vm_start_opts *opts, hci_job **out, struct hci_error *err)
{
	static const struct hci_vm_start_opts defaults = HCI_VM_START_OPTS_INIT;
	struct job_args a = { .name = name, .type = "vm-start", .needs_stopped = true };
	struct hci_vm_start_opts o;
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_vm_start_opts, node), "hci_vm_start_opts", err);
	if (!rc && o.reserved)
		rc = err_set(err, HCI_E_INVAL, "VM %s: reserved of hci_vm_start_opts is not 0: use HCI_VM_START_OPTS_INIT", name);
	if (!rc && o.node)
		rc = name_check(o.node, "node", err);
	a.on = rc ? NULL : o.node;
	return rc ? rc : job(c, &a, out, err);
}

int hci_vm_start(hci_cluster *c, const char *name, hci_job **out, struct hci_error *err)
{
	return hci_vm_start_on(c, name, NULL, out, err);
}

int hci_vm_stop(hci_cluster *c, const char *name, uint32_t how, hci_job **out, struct hci_error *err)
{
	const char *const args[] = { "how", how == HCI_VM_STOP_DESTROY ? "destroy" : "shutdown", NULL };
	struct job_args a = { .name = name, .type = "vm-stop", .args = args, .needs_running = true };

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	if (how > HCI_VM_STOP_DESTROY)
		return err_set(err, HCI_E_INVAL, "VM %s: way %u to stop is not known", name, how);
	return job(c, &a, out, err);
}

static int migrate_opts(const char *name, const struct hci_migrate_opts *opts, struct hci_migrate_opts *o, struct hci_error *err)
{
	static const struct hci_migrate_opts defaults = HCI_MIGRATE_OPTS_INIT;
	int rc = opts_take(o, &defaults, sizeof(*o), opts, OPTS_UP_TO(struct hci_migrate_opts, timeout_ms), "hci_migrate_opts", err);

	if (!rc)
		rc = opts_reserved(o->reserved, "hci_migrate_opts", err);
	if (!rc && !o->to)
		rc = err_set(err, HCI_E_INVAL, "VM %s: the node to migrate to is missing", name);
	if (!rc)
		rc = name_check(o->to, "node", err);
	if (!rc && o->with_storage > 1)
		rc = err_set(err, HCI_E_INVAL, "VM %s: with_storage is 0 or 1, not %u", name, o->with_storage);
	if (!rc && o->auto_converge > HCI_AUTO_CONVERGE_NEVER)
		rc = err_set(err, HCI_E_INVAL, "VM %s: auto_converge %u is not known: HCI_AUTO_CONVERGE_*", name, o->auto_converge);
	if (!rc && o->inflight_ms > HCI_MIGRATE_INFLIGHT_MAX)
		rc = err_set(err, HCI_E_INVAL, "VM %s: inflight_ms %u: at most %d", name, o->inflight_ms, HCI_MIGRATE_INFLIGHT_MAX);
	return rc;
}

int hci_vm_migrate(hci_cluster *c, const char *name, const struct hci_migrate_opts *opts, hci_job **out,
		   struct hci_error *err)
{
	struct hci_migrate_opts o;
	char downtime[24], bandwidth[24], timeout[24], postcopy[24], storage[8], passes[24], inflight[24];
	const char *const args[] = { "to",	  NULL,	      "max_downtime_ms", downtime, "bandwidth",
				     bandwidth,	  "timeout_ms", timeout,	 "storage", storage,
				     "postcopy_ms", postcopy,	  "postcopy_passes", passes,
				     "inflight_ms", inflight,	  "no_auto_converge", NULL, NULL };
	const char *copy[ARRAY_SIZE(args)];
	struct job_args a = { .name = name, .type = "vm-migrate", .args = copy, .needs_running = true };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = migrate_opts(name, opts, &o, err);
	if (rc)
		return rc;
	snprintf(downtime, sizeof(downtime), "%u", o.max_downtime_ms);
	snprintf(bandwidth, sizeof(bandwidth), "%llu", (unsigned long long)o.bandwidth_bytes);
	snprintf(timeout, sizeof(timeout), "%llu", (unsigned long long)o.timeout_ms);
	snprintf(storage, sizeof(storage), "%u", o.with_storage != 0);
	snprintf(postcopy, sizeof(postcopy), "%u", o.postcopy_ms);
	snprintf(passes, sizeof(passes), "%u", o.postcopy_passes);
	snprintf(inflight, sizeof(inflight), "%u", o.inflight_ms);
	memcpy(copy, args, sizeof(args));
	copy[ARRAY_SIZE(args) - 2] = o.auto_converge == HCI_AUTO_CONVERGE_NEVER ? "1" : "0";
	copy[1] = a.to = o.to;
	return job(c, &a, out, err);
}

/* ---- what would stop a migration ---- */

struct check_args {
	const char *name, *to;
	bool postcopy;
	struct api_list l;
};

static int add_problem(struct api_list *l, int code, const char *what, const char *cure, const char *why, struct hci_error *err)
{
	struct hci_migrate_problem x = { .code = code };

	API_TEXT(x.what, what);
	API_TEXT(x.why, why);
	API_TEXT(x.cure, cure);
	return api_list_add(l, &x, sizeof(x), err);
}

static int ask_node(hci_cluster *c, struct check_args *a, const char *node, struct hci_error *err)
{
	struct problems p = { 0 };
	int rc = handover_ask(c->core, node, a->name, a->to, a->postcopy, &p, err);

	for (uint32_t i = 0; i < p.n && !rc; i++)
		rc = api_list_add(&a->l, &p.v[i], sizeof(p.v[i]), err);
	if (!rc && p.failed)
		rc = err_set(err, HCI_E_NOMEM, "VM %s: out of memory", a->name);
	problems_free(&p);
	return rc;
}

static int check_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct check_args *a = arg;
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	struct rec_vmrun run;
	char key[REC_KEY], why[256], cure[188], node[HCI_NAME_MAX] = "";
	int rc;

	if (!vm)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", a->name);
	rc = api_vm_get(c, a->name, vm, NULL, err);
	if (!rc && vm->wanted == REC_VM_RUNNING)
		snprintf(node, sizeof(node), "%s", vm->node);
	mem_free(vm);
	if (!rc && !core_node(c->core, a->to))
		rc = err_set(err, HCI_E_NOTFOUND, "VM %s: node %s is not known: hcictl node list shows those there are", a->name,
			     a->to);
	if (rc)
		return rc;
	key_vmrun(key, a->name);
	rc = rec_vmrun_get(c->store, key, &run, NULL, err);
	snprintf(cure, sizeof(cure), "hcictl vm start %.63s --node NODE", a->name);
	if (rc == HCI_E_NOTFOUND && *node && !core_alive(c->core, node)) {
		snprintf(why, sizeof(why), "it does not run, as its node %s is down", node);
		return add_problem(&a->l, HCI_E_UNAVAILABLE, "VM", cure, why, err);
	}
	if (rc == HCI_E_NOTFOUND) {
		rc = add_problem(&a->l, HCI_E_STATE, "VM", cure, "it does not run", err);
		if (!rc && !core_alive(c->core, a->to)) {
			snprintf(why, sizeof(why), "node %s is not alive", a->to);
			rc = add_problem(&a->l, HCI_E_UNAVAILABLE, a->to, "start its node service, or choose another node", why, err);
		}
		return rc;
	}
	if (rc)
		return rc;
	if (core_alive(c->core, run.node))
		return ask_node(c, a, run.node, err);
	snprintf(why, sizeof(why), "its node %s does not answer", run.node);
	return add_problem(&a->l, HCI_E_UNAVAILABLE, "VM", cure, why, err);
}

int hci_vm_check_migrate(hci_cluster *c, const char *name, const struct hci_migrate_opts *opts, struct hci_migrate_problem **out,
			 uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct hci_migrate_opts o;
	struct check_args a = { .name = name };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "VM", err);
	if (!rc)
		rc = migrate_opts(name, opts, &o, err);
	if (rc)
		return rc;
	a.to = o.to;
	a.postcopy = o.postcopy_ms || o.postcopy_passes;
	return api_list_call(c, check_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_migrate_problem), err);
}

/* ---- list ---- */

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct api_list *l = arg;
	struct rec_list vms;
	int rc = rec_vm_list(c->store, PREFIX_VM, &vms, err);

	if (rc)
		return rc;
	for (size_t k = 0; !rc && k < vms.n; k++) {
		static const int32_t states[] = { [REC_VM_RUNS] = HCI_VM_RUNNING,
						  [REC_VM_PAUSED] = HCI_VM_PAUSED,
						  [REC_VM_CRASHED] = HCI_VM_CRASHED };
		const struct rec_vm *r = REC_AT(&vms, k, struct rec_vm);
		struct hci_vm_info i = { 0 };
		struct rec_vmrun run;
		char key[REC_KEY];

		API_TEXT(i.name, r->name);
		uuid_print(&r->uuid, i.uuid);
		API_TEXT(i.node, r->node);
		API_TEXT(i.console_log, r->console_log);
		i.wanted = r->wanted == REC_VM_RUNNING ? HCI_VM_RUNNING : HCI_VM_STOPPED;
		i.vcpus = r->vcpus;
		i.memory_bytes = r->memory_bytes;
		i.nvolumes = r->ndisks;
		i.nnics = r->nnics;
		i.nusb = r->nusb;
		for (uint32_t d = 0; d < r->ndisks; d++)
			API_TEXT(i.volumes[d], r->disks[d].volume);
		i.state = r->crashed && r->wanted == REC_VM_STOPPED ? HCI_VM_CRASHED : HCI_VM_STOPPED;
		key_vmrun(key, r->name);
		if (!rec_vmrun_get(c->store, key, &run, NULL, NULL)) {
			API_TEXT(i.node, run.node);
			i.state = core_alive(c->core, run.node) ? states[run.runs] : HCI_VM_UNKNOWN;
		}
		rc = api_list_add(l, &i, sizeof(i), err);
	}
	rec_list_free(&vms);
	return rc;
}

int hci_vm_list(hci_cluster *c, struct hci_vm_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct api_list l;

	return api_list_call(c, list_on_loop, &l, &l, out, n, info_size, sizeof(struct hci_vm_info), err);
}
