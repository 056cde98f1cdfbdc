/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs addressed to this node: "vm-start", "vm-stop" (how), "vm-migrate" (to, bandwidth, max_downtime_ms,
 * timeout_ms, storage, postcopy_ms, postcopy_passes, no_auto_converge, inflight_ms). Those found running at the start were left
 * by a crash: the first two are simply done again, as each step looks before it acts; a migration is looked into. Other kinds of jobs of an earlier life
 * are ended, since what they told about is no more.
 */
#include <stdlib.h>

#include "cluster/node_reconf.h"
#include "cluster/node_vm_impl.h"

#define AGAIN (50 * NS_PER_MS)
#define MIGRATIONS 4u /* from a node at a time, and to it, unless its record says another number */

/* ---- the kinds ---- */

static uint64_t arg_u64(const struct core_job *j, const char *key)
{
	const char *s = core_job_arg(j, key);

	return s ? strtoull(s, NULL, 10) : 0;
}

static int run_start(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	struct compute_state st;

	(void)core_job_progress(j, 0, 0, "starting");
	if (m->owned && m->running && vm_compute_find(m->n, m->name, &st, err) == HCI_E_NOTFOUND)
		nvm_release(m);
	return nvm_up(m, err);
}

static int run_stop(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	const char *how = core_job_arg(j, "how");

	(void)core_job_progress(j, 0, 0, "stopping");
	return nvm_down(m, how && !strcmp(how, "destroy") ? HCI_VM_STOP_DESTROY : HCI_VM_STOP_SHUTDOWN, err);
}

void vm_migrate_opts(const struct core_job *j, struct handover_opts *o)
{
	*o = (struct handover_opts){
		.to = core_job_arg(j, "to"),
		.bandwidth = arg_u64(j, "bandwidth"),
		.timeout_ns = arg_u64(j, "timeout_ms") * NS_PER_MS,
		.postcopy_ns = arg_u64(j, "postcopy_ms") * NS_PER_MS,
		.postcopy_passes = (uint32_t)MIN(arg_u64(j, "postcopy_passes"), UINT32_MAX),
		.inflight_ns = arg_u64(j, "inflight_ms") * NS_PER_MS,
		.no_auto_converge = arg_u64(j, "no_auto_converge"),
		.max_downtime_ms = (uint32_t)MIN(arg_u64(j, "max_downtime_ms"), UINT32_MAX),
	};
}

static int run_migrate(struct nvm *m, struct core_job *j, bool again, char *result, size_t cap, struct hci_error *err)
{
	struct handover_opts o;

	vm_migrate_opts(j, &o);
	if (!o.to)
		return err_set(err, HCI_E_INVAL, "VM %s: the job does not say where to migrate to", m->name);
	if (again && (m->n->o.mutate & HO_MUTATE_NO_JOB_LOOK))
		return err_set(err, HCI_E_CLOSED, "VM %s: not looked into", m->name);
	return again ? handover_recover(m, o.to, j, result, cap, err) : handover_run(m, &o, j, result, cap, err);
}

uint32_t vm_migrations(void *arg)
{
	const struct node *n = arg;
	const struct rec_node *r = core_node(n->core, n->name);

	return r && r->migrations ? r->migrations : MIGRATIONS;
}

struct waiting {
	struct node *n;
	struct core_job *j;
};

static bool wants_out(void *arg)
{
	struct waiting *w = arg;

	return w->n->stopping || core_job_progress(w->j, 0, 0, "waiting for its turn");
}

/* Cancelled while it waits: nothing was done. */
static int turn_begin(struct node *n, struct core_job *j, struct hci_error *err)
{
	struct waiting w = { n, j };

	return turns_begin(&n->vms->leaving, wants_out, &w) ?
		       0 :
		       err_set(err, HCI_E_CANCELLED, "VM %.63s: cancelled before its migration began", j->rec->target);
}

static bool is_move(const struct rec_job *r)
{
	return !strcmp(r->type, "vm-migrate");
}

/* Migrations that the last life left: what they find out and note comes before anything else is done with the VM. */
static int wait_for_moves(struct node *n, struct core_job *j, struct hci_error *err)
{
	while (vm_moves_left(n, j->rec->target)) {
		if (n->stopping) {
			j->lost = true; /* as it is, for the next life */
			return err_set(err, HCI_E_CANCELLED, "VM %.63s: the node service was stopped", j->rec->target);
		}
		fiber_sleep(n->e, AGAIN);
	}
	return 0;
}

static int execute(struct node *n, struct core_job *j, bool again, char *result, size_t cap, struct hci_error *err)
{
	struct rec_vm *vm = NULL;
	struct nvm *m;
	bool turn;
	int rc = 0;

	if (!n->o.compute)
		return err_set(err, HCI_E_UNSUPPORTED, "VM %.63s: node %s runs no VMs: its service was started without libvirt",
			       j->rec->target, n->name);
	m = nvm_get(n, j->rec->target);
	if (!m)
		return err_set(err, HCI_E_NOMEM, "VM %.63s: out of memory", j->rec->target);
	if (!strcmp(j->rec->type, "vm-stop"))
		m->cancel = true;
	if (!again || !is_move(j->rec))
		rc = wait_for_moves(n, j, err);
	turn = is_move(j->rec) && !again;
	if (turn && !rc)
		rc = turn_begin(n, j, err);
	if (rc)
		return rc;
	nvm_lock(m);
	m->cancel = false;
	m->retry_at = 0;
	if (!strcmp(j->rec->type, "vm-start"))
		rc = run_start(m, j, err);
	else if (!strcmp(j->rec->type, "vm-stop"))
		rc = run_stop(m, j, err);
	else
		rc = run_migrate(m, j, again, result, cap, err);
	if (!rc && arg_u64(j, "storage")) {
		vm = MEM_NEW(struct rec_vm);
		rc = vm ? 0 : err_set(err, HCI_E_NOMEM, "VM %s: it has moved, its disks have not: out of memory", m->name);
	}
	if (vm)
		*vm = m->rec;
	nvm_unlock(m);
	if (turn)
		turns_end(&n->vms->leaving);
	if (vm)
		rc = vm_storage_follow(n, j, vm, core_job_arg(j, "to"), err);
	mem_free(vm);
	return rc;
}

/* ---- one job ---- */

struct executor {
	struct list link; /* node_vm_state.jobs */
	struct node *n;
	bool again, moves;
	char id[HCI_NAME_MAX], vm[HCI_NAME_MAX];
};

/* Tried again while the store is not reached, or somebody asks for cancelling at the same moment. */
static int begin(struct node *n, const char *id, struct core_job *j, struct hci_error *err)
{
	bool told = false;
	int rc;

	for (;;) {
		rc = core_job_begin(n->core, id, j, err);
		if (!rc || rc == HCI_E_STATE || rc == HCI_E_NOTFOUND || n->stopping)
			break;
		if (!told)
			log_warn(env_log(n->e), "job %s cannot be begun yet: %s", id, err->message);
		told = true;
		fiber_sleep(n->e, 500 * NS_PER_MS);
	}
	if (!rc)
		j->stopping = &n->stopping;
	return rc;
}

static void job_fiber(void *arg)
{
	struct executor *x = arg;
	struct node *n = x->n;
	struct hci_error err = { 0 };
	char result[512] = "";
	struct core_job j;
	int rc;

	if (!begin(n, x->id, &j, &err)) {
		rc = execute(n, &j, x->again, result, sizeof(result), &err);
		core_job_end(&j, rc, rc ? err.message : result);
	}
	list_del(&x->link);
	mem_free(x);
	vm_fiber_end(n);
}

/* Told of by the watch and found by a scan: once is enough. */
static bool is_executing(struct node *n, const char *id)
{
	struct executor *x;

	list_for_each(x, &n->vms->jobs, link)
		if (!strcmp(x->id, id))
			return true;
	return false;
}

bool vm_job_left(struct node *n, const char *vm)
{
	struct executor *x;

	list_for_each(x, &n->vms->jobs, link)
		if (x->again && !strcmp(x->vm, vm))
			return true;
	return !n->vms->jobs_seen;
}

uint32_t vm_moves_left(struct node *n, const char *vm)
{
	uint32_t left = !n->vms->jobs_seen;
	struct executor *x;

	list_for_each(x, &n->vms->jobs, link)
		left += x->again && x->moves && !strcmp(x->vm, vm);
	return left;
}

static void job_begin(struct node *n, const struct rec_job *r, bool again)
{
	const char *id = r->id;
	struct executor *x;

	if (is_executing(n, id))
		return;
	x = MEM_NEW(struct executor);
	if (x) {
		x->n = n;
		x->again = again;
		x->moves = is_move(r);
		snprintf(x->id, sizeof(x->id), "%s", id);
		snprintf(x->vm, sizeof(x->vm), "%.63s", r->target);
		list_push(&n->vms->jobs, &x->link);
		if (!vm_fiber(n, job_fiber, x, "vm-job"))
			return;
		list_del(&x->link);
	}
	mem_free(x);
	log_error(env_log(n->e), "job %s: out of memory", id);
}

/* ---- which ---- */

static bool is_ours(const struct node *n, const struct rec_job *r)
{
	return !strcmp(r->node, n->name) &&
	       (!strcmp(r->type, "vm-start") || !strcmp(r->type, "vm-stop") || !strcmp(r->type, "vm-migrate"));
}

static void on_job(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	struct node_vm_state *s = container_of(w, struct node_vm_state, job_watcher);
	struct rec_job *r;

	(void)revision;
	if (!key) {
		s->scan_jobs = true;
		fiber_cond_signal(s->n->e, &s->wake);
		return;
	}
	if (!value || !key_tail(key, PREFIX_JOB))
		return;
	r = MEM_NEW(struct rec_job);
	/* Pending is written once, when it is made. */
	if (r && !rec_job_decode(value, len, r, NULL) && r->state == REC_JOB_PENDING && is_ours(s->n, r))
		job_begin(s->n, r, false);
	mem_free(r);
}

static void end_job(struct node *n, const char *id)
{
	struct hci_error err;
	struct core_job j;

	if (!begin(n, id, &j, &err))
		core_job_end(&j, HCI_E_CANCELLED, "the program that did it has ended");
}

static int scan(struct node *n, bool first)
{
	uint64_t started = env_realtime(n->e);
	struct rec_list l;
	int rc = rec_job_list(core_store(n->core), PREFIX_JOB, &l, NULL);

	if (rc)
		return rc;
	for (size_t i = 0; i < l.n && !n->stopping; i++) {
		const struct rec_job *r = REC_AT(&l, i, struct rec_job);
		bool running = r->state == REC_JOB_RUNNING;

		if (is_ours(n, r) && (r->state == REC_JOB_PENDING || (running && first)))
			job_begin(n, r, running);
		else if (running && first && !strcmp(r->node, n->name) && !reconf_is_job(r->type) && r->updated + 5 * NS_PER_S < started)
			end_job(n, r->id);
	}
	rec_list_free(&l);
	return 0;
}

static void scan_fiber(void *arg)
{
	struct node *n = arg;
	struct node_vm_state *s = n->vms;
	bool first = true;

	while (!n->stopping) {
		if (s->scan_jobs && !scan(n, first)) {
			s->scan_jobs = first = false;
			s->jobs_seen = true;
			fiber_cond_signal(n->e, &s->wake); /* rounds wait for that */
		}
		fiber_cond_wait_until(n->e, &s->wake, env_now(n->e) + (s->scan_jobs ? NS_PER_S : 60 * NS_PER_S));
	}
	vm_fiber_end(n);
}

int node_job_start(struct node *n)
{
	struct node_vm_state *s = n->vms;
	int rc;

	if (!s)
		return 0;
	s->scan_jobs = true;
	s->job_watcher.fn = on_job;
	core_watch(n->core, &s->job_watcher);
	rc = vm_fiber(n, scan_fiber, n, "vm-jobs");
	return rc;
}
