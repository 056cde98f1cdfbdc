/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs addressed to this node: "vm-start", "vm-stop" (how), "vm-migrate" (to, bandwidth, max_downtime_ms,
 * timeout_ms, storage, postcopy_ms, postcopy_passes, no_auto_converge, inflight_ms). Those found running at the start were left
 * by a crash: the first two are simply done again, as each step looks before it acts; a migration is looked into. Other kinds of jobs of an earlier life
 * are ended, since what they told about is no more. A stop ends migrations, and is handed on to the node where the VM is then.
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

/* The right of a dead node to run it ends with its lease, which may be somewhat later than its heartbeat. */
static int wait_for_right(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	char node[HCI_NAME_MAX], phase[128];

	while (!m->owned && !nvm_runner(m, node, NULL) && strcmp(node, m->n->name) && !core_alive(m->n->core, node)) {
		snprintf(phase, sizeof(phase), "waiting until the right of node %.63s to run it has ended", node);
		if (core_job_progress(j, 0, 0, phase) || m->stops || m->n->stopping)
			return err_set(err, HCI_E_CANCELLED, "VM %s: cancelled before it was started", m->name);
		fiber_sleep(m->n->e, AGAIN);
	}
	return 0;
}

static int run_start(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	struct compute_state st;
	int rc = wait_for_right(m, j, err);

	if (rc)
		return rc;
	(void)core_job_progress(j, 0, 0, "starting");
	if (m->owned && m->running && vm_compute_find(m->n, m->name, &st, err) == HCI_E_NOTFOUND)
		nvm_release(m);
	return nvm_up(m, err);
}

/* The node that has the right to run it, or, nobody having it, is to run it: us, unless it has moved. */
static int whose(struct nvm *m, char node[HCI_NAME_MAX], struct hci_error *err)
{
	int rc = m->owned ? 0 : nvm_runner(m, node, err);

	if (m->owned)
		snprintf(node, HCI_NAME_MAX, "%s", m->n->name);
	if (rc != HCI_E_NOTFOUND)
		return rc;
	rc = nvm_read(m, err);
	if (!rc)
		snprintf(node, HCI_NAME_MAX, "%s", m->rec.wanted == REC_VM_RUNNING && *m->rec.node ? m->rec.node : m->n->name);
	return rc;
}

/* on: set to the node that is to stop it instead, as it is there by now. */
static int run_stop(struct nvm *m, struct core_job *j, char on[HCI_NAME_MAX], struct hci_error *err)
{
	const char *how = core_job_arg(j, "how");
	char node[HCI_NAME_MAX];
	int rc;

	(void)core_job_progress(j, 0, 0, "stopping");
	rc = whose(m, node, err);
	if (rc)
		return rc;
	if (strcmp(node, m->n->name)) {
		if (!core_alive(m->n->core, node))
			return err_set(err, HCI_E_UNAVAILABLE, "VM %s: it has moved to node %s, which is down: start its node service", m->name,
				       node);
		snprintf(on, HCI_NAME_MAX, "%s", node);
		return 0;
	}
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

uint32_t vm_migrations(void *arg)
{
	const struct node *n = arg;
	const struct rec_node *r = core_node(n->core, n->name);

	return r && r->migrations ? r->migrations : MIGRATIONS;
}

static bool is_move(const struct rec_job *r)
{
	return !strcmp(r->type, "vm-migrate");
}

static bool is_stop(const struct rec_job *r)
{
	return !strcmp(r->type, "vm-stop");
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

struct executor {
	struct list link; /* node_vm_state.jobs */
	struct node *n;
	bool again;
	bool moves;       /* migrates it, and is not over with that */
	bool no_room;     /* where it is to go: it waits for its turn anew */
	struct turn turn; /* of one that moves */
	char id[HCI_NAME_MAX], vm[HCI_NAME_MAX];
	char on[HCI_NAME_MAX]; /* "": done here; else this node is to do it instead */
	char result[512];
};

/* One migration of a VM at a time: two that were asked for in the same moment. */
static int move_alone(const struct executor *x, struct hci_error *err)
{
	const struct executor *o;

	list_for_each(o, &x->n->vms->jobs, link) {
		if (o == x)
			break;
		if (o->moves && !strcmp(o->vm, x->vm))
			return err_set(err, HCI_E_BUSY, "VM %s: job %s migrates it already", x->vm, o->id);
	}
	return 0;
}

struct waiting {
	struct nvm *m;
	struct core_job *j;
};

static bool wants_out(void *arg, bool there)
{
	struct waiting *w = arg;

	return w->m->n->stopping || w->m->stops ||
	       core_job_progress(w->j, 0, 0, there ? "waiting for its turn at the destination" : "waiting for its turn");
}

/* Cancelled while it waits: nothing was done. */
static int turn_begin(struct executor *x, struct nvm *m, struct core_job *j, struct hci_error *err)
{
	struct turns *t = &x->n->vms->leaving;
	struct waiting w = { m, j };

	x->turn.to = core_job_arg(j, "to");
	if (!x->turn.to)
		return err_set(err, HCI_E_INVAL, "VM %s: the job does not say where to migrate to", m->name);
	if (x->no_room ? turns_refused(t, &x->turn, wants_out, &w) : turns_begin(t, &x->turn, wants_out, &w))
		return 0;
	return err_set(err, HCI_E_CANCELLED, "VM %s: %s before its migration began", m->name, m->stops ? "stopped" : "cancelled");
}

/* May it have the VM's lock now? A migration that is to begin needs its turn, which it has then. */
static int get_ready(struct executor *x, struct nvm *m, struct core_job *j, struct hci_error *err)
{
	bool begins = x->moves && !x->again;
	int rc = 0;

	if (begins || !is_move(j->rec))
		rc = wait_for_moves(x->n, j, err);
	if (!rc && begins)
		rc = move_alone(x, err);
	if (!rc && begins)
		rc = turn_begin(x, m, j, err);
	return rc;
}

static void on_taken(void *arg)
{
	struct executor *x = arg;

	turns_taken(&x->n->vms->leaving, &x->turn);
}

static int run_migrate(struct executor *x, struct nvm *m, struct core_job *j, struct hci_error *err)
{
	struct handover_opts o;

	vm_migrate_opts(j, &o);
	if (!o.to)
		return err_set(err, HCI_E_INVAL, "VM %s: the job does not say where to migrate to", m->name);
	if (x->again && (m->n->o.mutate & HO_MUTATE_NO_JOB_LOOK))
		return err_set(err, HCI_E_CLOSED, "VM %s: not looked into", m->name);
	if (x->again)
		return handover_recover(m, o.to, j, x->result, sizeof(x->result), err);
	o.waited = x->no_room;
	o.taken = on_taken;
	o.arg = x;
	return handover_run(m, &o, j, x->result, sizeof(x->result), &x->no_room, err);
}

static int run(struct executor *x, struct nvm *m, struct core_job *j, struct hci_error *err)
{
	if (is_stop(j->rec))
		return run_stop(m, j, x->on, err);
	if (!is_move(j->rec))
		return run_start(m, j, err);
	if (m->stops && !x->again)
		return err_set(err, HCI_E_CANCELLED, "VM %s: stopped before its migration began", m->name);
	return run_migrate(x, m, j, err);
}

static int lock_and_run(struct executor *x, struct nvm *m, struct core_job *j, struct hci_error *err)
{
	nvm_lock(m);
	m->cancel = false;
	m->retry_at = 0;
	return run(x, m, j, err);
}

static int with_lock(struct executor *x, struct nvm *m, struct core_job *j, struct rec_vm **storage, struct hci_error *err)
{
	bool turn = x->moves && !x->again;
	int rc = get_ready(x, m, j, err);

	if (rc)
		return rc;
	rc = lock_and_run(x, m, j, err);
	/* Neither the VM nor a place among those that leave is kept from others while it waits. */
	while (rc && x->no_room) {
		nvm_unlock(m);
		rc = turn_begin(x, m, j, err);
		if (rc)
			return rc;
		rc = lock_and_run(x, m, j, err);
	}
	if (!rc && arg_u64(j, "storage")) {
		*storage = MEM_NEW(struct rec_vm);
		rc = *storage ? 0 : err_set(err, HCI_E_NOMEM, "VM %s: it has moved, its disks have not: out of memory", m->name);
	}
	if (*storage)
		**storage = m->rec;
	x->moves = false;
	nvm_unlock(m);
	if (turn)
		turns_end(&x->n->vms->leaving, &x->turn);
	return rc;
}

static int execute(struct executor *x, struct core_job *j, struct hci_error *err)
{
	struct node *n = x->n;
	struct rec_vm *storage = NULL;
	bool stop = is_stop(j->rec);
	struct nvm *m;
	int rc;

	if (!n->o.compute)
		return err_set(err, HCI_E_UNSUPPORTED, "VM %.63s: node %s runs no VMs: its service was started without libvirt",
			       j->rec->target, n->name);
	m = nvm_get(n, j->rec->target);
	if (!m)
		return err_set(err, HCI_E_NOMEM, "VM %.63s: out of memory", j->rec->target);
	m->cancel |= stop;
	m->stops += stop;
	rc = with_lock(x, m, j, &storage, err);
	m->stops -= stop;
	if (!rc && storage)
		rc = vm_storage_follow(n, j, storage, core_job_arg(j, "to"), err);
	mem_free(storage);
	return rc;
}

/* ---- one job ---- */

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
	struct core_job j = { 0 };
	int rc = begin(n, x->id, &j, &err);

	if (!rc)
		rc = execute(x, &j, &err);
	if (j.rec && !*x->on)
		core_job_end(&j, rc, rc ? err.message : x->result);
	/* Before it can come back. */
	list_del(&x->link);
	if (j.rec)
		core_job_hand_on(&j, x->on);
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

const char *vm_moves_by(struct node *n, const char *vm)
{
	struct executor *x;

	list_for_each(x, &n->vms->jobs, link)
		if (x->moves && !strcmp(x->vm, vm))
			return x->id;
	return NULL;
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
	/* Pending is written when it is made, and when another node hands it on to us. */
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
