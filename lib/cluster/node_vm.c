/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs of this node: makes domains match the records, in whatever state a crash left both.
 *
 *   node_vm.c         this file: the lease, and the rounds that compare what is with what should be
 *   node_vm_run.c     one VM up and down
 *   node_vm_disk.c    its volumes and their exports
 *   node_vm_net.c     tells which bridges it has
 *   node_vm_usb.c     its USB devices, and those of this node that VMs anywhere have
 *   node_vm_thread.c  calls that block
 *
 * The lease that vmrun/<name> keys hang on is ours alone (not the heartbeat's). If it cannot be renewed
 * the guests are suspended before it ends, so that none runs here while another node may start it; if
 * it is got back before anybody did, they go on.
 */
#include "cluster/node_vm_impl.h"

#define ROUND NS_PER_S
#define RETRY (5 * NS_PER_S)
#define STRAY (30 * NS_PER_S)
#define STRAY_ARRIVING (600 * NS_PER_S) /* a migration may take long; it does not run meanwhile */

/* ---- the VMs we know ---- */

struct nvm *nvm_find(struct node *n, const char *name)
{
	struct nvm *m;

	list_for_each(m, &n->vms->vms, link)
		if (!strcmp(m->name, name))
			return m;
	return NULL;
}

struct nvm *nvm_get(struct node *n, const char *name)
{
	struct nvm *m = nvm_find(n, name);

	if (m)
		return m;
	m = MEM_NEW(struct nvm);
	if (!m)
		return NULL;
	m->n = n;
	snprintf(m->name, sizeof(m->name), "%s", name);
	fiber_mutex_init(&m->lock);
	list_push(&n->vms->vms, &m->link);
	return m;
}

void nvm_lock(struct nvm *m)
{
	fiber_mutex_lock(m->n->e, &m->lock);
}

void nvm_unlock(struct nvm *m)
{
	nvm_usb_settle(m);
	m->changed_at = env_now(m->n->e);
	fiber_mutex_unlock(m->n->e, &m->lock);
}

int vm_fiber(struct node *n, void (*fn)(void *arg), void *arg, const char *name)
{
	int rc;

	n->vms->fibers++;
	rc = fiber_spawn(n->e, fn, arg, name);
	if (rc)
		n->vms->fibers--;
	return rc;
}

void vm_fiber_end(struct node *n)
{
	n->vms->fibers--;
	fiber_cond_signal(n->e, &n->vms->wake);
}

/* ---- the lease ---- */

static uint64_t ttl(const struct node *n)
{
	return 3 * n->o.heartbeat_ns;
}

static void lease_counts_from(struct node *n, uint64_t asked_at)
{
	n->vms->lease_until = asked_at + ttl(n) - ttl(n) / 6;
}

static int lease_new(struct node *n, struct hci_error *err)
{
	uint64_t asked_at = env_now(n->e);
	int rc = store_lease_grant(core_store(n->core), ttl(n), &n->vms->lease, err);

	if (!rc)
		lease_counts_from(n, asked_at);
	return rc;
}

static bool lease_holds(const struct node *n)
{
	return env_now(n->e) < n->vms->lease_until;
}

bool nvm_has_right(const struct nvm *m)
{
	return m->owned && !m->suspended && lease_holds(m->n);
}

/* The lease is a new one, after the old one was lost: what is still ours hangs on it from now on. Tried again with each renewal. */
static void keep_all(struct node *n)
{
	struct hci_error err;
	struct nvm *m;

	list_for_each(m, &n->vms->vms, link) {
		int rc = m->owned && m->run_lease != n->vms->lease ? nvm_keep_run(m, &err) : 0;

		if (rc)
			log_warn(env_log(n->e), "VM %s: %s: %s", m->name, rc == HCI_E_BUSY ? "lost" : "our right to run it is not renewed yet",
				 err.message);
		if (rc == HCI_E_BUSY)
			m->owned = false;
	}
}

static void lease_fiber(void *arg)
{
	struct node *n = arg;
	struct node_vm_state *s = n->vms;
	struct hci_error err;

	while (!n->stopping) {
		uint64_t at = env_now(n->e), next = at + n->o.heartbeat_ns;
		int rc = store_lease_keepalive(core_store(n->core), s->lease, &err);

		if (!rc)
			lease_counts_from(n, at);
		else if (rc == HCI_E_NOTFOUND)
			rc = lease_new(n, &err);
		if (!rc)
			keep_all(n);
		else
			log_warn(env_log(n->e), "node %s: the lease of its VMs is not renewed: %s", n->name, err.message);
		while (!n->stopping && env_now(n->e) < next)
			fiber_cond_wait_until(n->e, &s->wake, next);
	}
	vm_fiber_end(n);
}

/* Not in a round's fiber, which may be waiting for the very store that does not answer. */
static void guard_fiber(void *arg)
{
	struct node *n = arg;
	struct node_vm_state *s = n->vms;
	struct hci_error err;
	struct nvm *m;

	while (!n->stopping) {
		if (lease_holds(n)) {
			fiber_cond_wait_until(n->e, &s->wake, s->lease_until);
			continue;
		}
		list_for_each(m, &s->vms, link) {
			if (!m->owned || !m->running || m->suspended)
				continue;
			m->suspended = m->cancel = true;
			log_warn(env_log(n->e), "VM %s: suspended, as the store does not renew our right to run it", m->name);
			if (vm_compute_suspend(n, m->name, &err))
				log_error(env_log(n->e), "VM %s: %s", m->name, err.message);
		}
		fiber_cond_wait_until(n->e, &s->wake, env_now(n->e) + 100 * NS_PER_MS);
	}
	vm_fiber_end(n);
}

/* ---- what one VM needs; each in a fiber of its own ---- */

static void act_end(struct nvm *m, int rc, const struct hci_error *err)
{
	struct node *n = m->n;

	if (rc) {
		log_warn(env_log(n->e), "VM %s: tried again in %u s: %s", m->name, (unsigned)(RETRY / NS_PER_S), err->message);
		m->retry_at = env_now(n->e) + RETRY;
	}
	nvm_unlock(m);
	vm_fiber_end(n);
}

static void act_up(void *arg)
{
	struct hci_error err;
	struct nvm *m = arg;
	int rc;

	nvm_lock(m);
	rc = nvm_up(m, &err);
	act_end(m, rc, &err);
}

/*
 * The domain ended without our doing: the guest was shut down inside, somebody had libvirt end it, or QEMU died. libvirt does not remember
 * which, but the disks do: a QEMU that ends, of itself or by a signal that asks it to, takes its leave of them first.
 */
static void act_ended(void *arg)
{
	struct compute_state st;
	struct hci_error err;
	struct nvm *m = arg;
	bool crashed;
	int rc = 0;

	nvm_lock(m);
	if (m->owned && m->running && vm_compute_find(m->n, m->name, &st, &err) == HCI_E_NOTFOUND) {
		crashed = nvm_cut(m);
		if (crashed)
			log_warn(env_log(m->n->e), "VM %s: its QEMU is gone without having been told to end", m->name);
		else
			log_info(env_log(m->n->e), "VM %s: it has ended", m->name);
		rc = nvm_ended(m, crashed, &err);
		if (!rc || rc == HCI_E_NOTFOUND) {
			nvm_release(m);
			rc = 0;
		}
	}
	act_end(m, rc, &err);
}

/* Another node has the right to run it. */
static void act_lost(void *arg)
{
	struct hci_error err;
	struct nvm *m = arg;
	int rc;

	nvm_lock(m);
	rc = vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &err);
	if (!rc)
		nvm_unexport(m);
	if (!rc)
		m->running = m->suspended = m->owned = false;
	act_end(m, rc, &err);
}

/* A volume's lease was lost; its export holds. Attach anew: as long as vmrun is ours nobody else should have it. */
static void act_refence(void *arg)
{
	struct hci_error err;
	struct nvm *m = arg;
	int rc;

	nvm_lock(m);
	log_info(env_log(m->n->e), "VM %s: its disks wait until they are attached again", m->name);
	nvm_detach(m);
	rc = nvm_attach(m, REC_ATT_USER, &err);
	if (!rc)
		rc = nvm_resume_io(m, &err);
	act_end(m, rc, &err);
}

static void act_resume(void *arg)
{
	struct compute_state st;
	struct hci_error err;
	struct nvm *m = arg;
	int rc;

	nvm_lock(m);
	m->suspended = false;
	nvm_connect(m); /* or it is paused again */
	rc = vm_compute_find(m->n, m->name, &st, &err);
	if (!rc && st.state == HCI_VM_PAUSED && !st.migrating)
		rc = vm_compute_resume(m->n, m->name, &err);
	if (!rc)
		log_info(env_log(m->n->e), "VM %s: goes on", m->name);
	/* Not at first: it takes a moment, and the store may be away. */
	if (m->io_errors > 1 && m->owned && m->told != REC_VM_PAUSED)
		(void)nvm_tell(m, REC_VM_PAUSED, NULL);
	act_end(m, rc == HCI_E_NOTFOUND ? 0 : rc, &err);
}

/* As others are to see it. False: it is not for us to say, or between two states. */
static bool runs_how(const struct compute_state *st, enum rec_vm_runs *out)
{
	*out = st->state == HCI_VM_PAUSED ? REC_VM_PAUSED : st->state == HCI_VM_CRASHED ? REC_VM_CRASHED : REC_VM_RUNS;
	return !st->migrating && !st->postcopy && st->state != HCI_VM_STOPPED;
}

static void act_tell(void *arg)
{
	enum rec_vm_runs runs;
	struct compute_state st;
	struct hci_error err;
	struct nvm *m = arg;
	int rc = 0;

	nvm_lock(m);
	if (m->owned && m->running && !vm_compute_find(m->n, m->name, &st, &err) && runs_how(&st, &runs) && runs != m->told)
		rc = nvm_tell(m, runs, &err);
	act_end(m, rc == HCI_E_CONFLICT ? 0 : rc, &err);
}

/* Of its USB devices' sockets some could not be opened yet. */
static void act_usb(void *arg)
{
	struct hci_error err;
	struct nvm *m = arg;
	int rc;

	nvm_lock(m);
	rc = m->owned && m->running ? nvm_usb_open(m, &err) : 0;
	act_end(m, rc, &err);
}

static void act_anew(void *arg)
{
	struct nvm *m = arg;

	nvm_lock(m);
	if (m->owned)
		nvm_anew(m);
	act_end(m, 0, NULL);
}

static void act_look(void *arg)
{
	struct nvm *m = arg;

	nvm_lock(m);
	handover_in_look(m);
	m->retry_at = env_now(m->n->e) + ROUND;
	act_end(m, 0, NULL);
}

/* ---- a round ---- */

static const struct compute_state *find_state(const struct compute_state *st, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(st[i].name, name))
			return &st[i];
	return NULL;
}

/* By a libvirtd that ended in the middle of a migration. One that somebody paused by hand stays so. */
static bool is_left_paused(struct nvm *m, const struct compute_state *st)
{
	m->unsettled &= st->state != HCI_VM_RUNNING;
	return m->unsettled && st->state == HCI_VM_PAUSED && !st->migrating;
}

/* With a domain here: what is to be done, if anything. */
static void (*for_domain(struct nvm *m, const struct rec_vm *r, const struct compute_state *st))(void *arg)
{
	struct node *n = m->n;
	char runner[HCI_NAME_MAX];
	uint64_t patience = STRAY;
	enum rec_vm_runs runs;
	int rc;

	m->io_errors = st->io_error ? m->io_errors + 1 : 0;
	if (m->owned && m->running) {
		if (st->broken)
			return act_anew;
		if (nvm_waits(m))
			return act_refence;
		if (m->suspended ? lease_holds(n) && m->run_lease == n->vms->lease : st->io_error || is_left_paused(m, st))
			return act_resume;
		if (!m->suspended && runs_how(st, &runs) && runs != m->told)
			return act_tell;
		return nvm_usb_waits(m) ? act_usb : NULL;
	}
	rc = nvm_runner(m, runner, NULL);
	/*
	 * Nobody's, and the record names another node: it came, and is not ours unless that node says so. It may have run on there, and
	 * what is here be its memory of then.
	 */
	if (rc == HCI_E_NOTFOUND) {
		snprintf(runner, sizeof(runner), "%s", r->node);
		rc = 0;
	}
	/* A migration that is left brings it up itself, when it has noted that the guest stays. */
	if (!rc && !strcmp(runner, n->name))
		return vm_moves_left(n, m->name) && !(n->o.mutate & HO_MUTATE_UP_EARLY) ? NULL : act_up;
	if (rc)
		return NULL;
	/* It has got no memory yet, and nobody here waits for it: the domain alone is left of a libvirtd that ended as it made it. */
	if (st->migrating && !st->starting)
		patience = STRAY_ARRIVING;
	/* It runs elsewhere by right. If that is a migration under way whose other end will tell, give it time. */
	if (!m->stray_since)
		m->stray_since = env_now(n->e);
	if (m->running || env_now(n->e) - m->stray_since > patience) {
		log_warn(env_log(n->e), "VM %s: stopped here, as node %s has the right to run it", m->name, runner);
		return act_lost;
	}
	return NULL;
}

static void look_at(struct node *n, const struct rec_vm *r, const struct compute_state *st, uint64_t seen_at)
{
	struct nvm *m = nvm_find(n, r->name);
	void (*act)(void *arg) = NULL;
	bool mine = r->wanted == REC_VM_RUNNING && !strcmp(r->node, n->name);

	if (!m && !mine && !(st && uuid_eq(&st->uuid, &r->uuid)))
		return;
	m = nvm_get(n, r->name);
	if (!m || m->lock.held || m->changed_at >= seen_at || env_now(n->e) < m->retry_at)
		return;
	if (!st)
		m->stray_since = 0;
	if (m->in)
		act = act_look;
	else if (st)
		act = for_domain(m, r, st);
	else if (m->owned && m->running)
		act = act_ended;
	/* Not anew what a migration has taken elsewhere: its job, found running, is looked into first. */
	else if (mine && lease_holds(n) && !vm_job_left(n, r->name))
		act = act_up;
	if (act && !m->lock.held && vm_fiber(n, act, m, "vm"))
		log_warn(env_log(n->e), "VM %s: out of memory", r->name);
}

static int one_round(struct node *n, struct hci_error *err)
{
	uint64_t seen_at = env_now(n->e);
	struct compute_state *st;
	struct rec_list recs;
	size_t nst;
	int rc = vm_compute_list(n, &st, &nst, err);

	if (rc)
		return rc;
	content_guests(n->vms->content, st, nst);
	rc = rec_vm_list(core_store(n->core), PREFIX_VM, &recs, err);
	for (size_t i = 0; !rc && i < recs.n && !n->stopping; i++) {
		const struct rec_vm *r = REC_AT(&recs, i, struct rec_vm);

		look_at(n, r, find_state(st, nst, r->name), seen_at);
	}
	if (!rc)
		rec_list_free(&recs);
	mem_free(st);
	return rc;
}

static void round_fiber(void *arg)
{
	struct node *n = arg;
	struct node_vm_state *s = n->vms;
	bool told = false;

	while (!n->stopping) {
		struct hci_error err;
		int rc = one_round(n, &err);

		if (rc && !told)
			log_warn(env_log(n->e), "node %s: its VMs cannot be looked after: %s", n->name, err.message);
		told = rc != 0;
		fiber_cond_wait_until(n->e, &s->wake, env_now(n->e) + ROUND);
		/* Changes come in bursts. */
		if (!n->stopping)
			fiber_sleep(n->e, 50 * NS_PER_MS);
	}
	vm_fiber_end(n);
}

/* ---- start and end ---- */

int node_vm_start(struct node *n, struct hci_error *err)
{
	struct node_vm_state *s = MEM_NEW(struct node_vm_state);
	int rc;

	if (!s)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	s->n = n;
	list_init(&s->vms);
	list_init(&s->jobs);
	list_init(&s->usb_lines);
	list_init(&s->job_watcher.link);
	fiber_cond_init(&s->wake);
	turns_init(&s->leaving, n->e, vm_migrations, n);
	n->vms = s;
	rc = vm_usb_register(n, err);
	if (rc || !n->o.compute)
		return rc;
	rc = env_mkdir(n->e, n->run_dir);
	if (rc)
		return err_sys(err, HCI_E_SYS, -rc, "node %s: run directory %s cannot be made", n->name, n->run_dir);
	ho_clean(n);
	rc = content_new(n, &s->content, err);
	if (!rc)
		rc = lease_new(n, err);
	if (!rc)
		rc = handover_register(n, err);
	if (!rc)
		rc = handover_in_register(n, err);
	if (!rc)
		rc = handover_check_register(n, err);
	if (!rc)
		rc = vm_fiber(n, lease_fiber, n, "vm-lease");
	if (!rc)
		rc = vm_fiber(n, guard_fiber, n, "vm-guard");
	if (!rc)
		rc = vm_fiber(n, round_fiber, n, "vm-round");
	if (!rc)
		rc = vm_fiber(n, vm_net_fiber, n, "vm-net");
	return rc;
}

void node_vm_changed(struct node *n, const char *key)
{
	if (!n->vms || (key && !strncmp(key, PREFIX_JOB, strlen(PREFIX_JOB))))
		return;
	fiber_cond_signal(n->e, &n->vms->wake);
}

void node_vm_settle(struct node *n)
{
	bool again = n->vms;

	while (again) {
		struct nvm *m;

		again = false;
		list_for_each(m, &n->vms->vms, link)
			again |= handover_is_split(m);
		if (again)
			fiber_sleep(n->e, 100 * NS_PER_MS);
	}
}

/* Exports go; a guest that asks for its disk meanwhile is paused by QEMU until we are back. */
void node_vm_stop(struct node *n)
{
	struct node_vm_state *s = n->vms;
	struct list *l;

	if (!s)
		return;
	core_unwatch(n->core, &s->job_watcher);
	rpc_forget(core_rpc(n->core), s);
	fiber_cond_signal(n->e, &s->wake);
	while (s->fibers)
		fiber_cond_wait_until(n->e, &s->wake, env_now(n->e) + 20 * NS_PER_MS);
	vm_usb_stop(n);
	while ((l = list_pop(&s->vms))) {
		struct nvm *m = list_entry(l, struct nvm, link);

		handover_in_free(m);
		nvm_unexport(m);
		mem_free(m);
	}
	while (s->fibers) /* that end what these had open */
		fiber_cond_wait_until(n->e, &s->wake, env_now(n->e) + 20 * NS_PER_MS);
	content_free(s->content);
	if (s->lease)
		(void)store_lease_revoke(core_store(n->core), s->lease, NULL);
	n->vms = NULL;
	mem_free(s);
}
