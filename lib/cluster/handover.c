/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's end of a live migration. It owns the VM until libvirt has said that the domain is gone
 * from here; only then does it tell the destination FINISH, which moves vmrun and lets the guest's I/O
 * go on. The volumes themselves may be let go of earlier, on RELEASE: the guest is stopped here by then,
 * and held there, so nobody writes; if it comes to nothing they are attached again.
 */
#include "cluster/handover_impl.h"

#define PREPARE_TIME (20 * NS_PER_S)
#define RESTART_TIME (10 * NS_PER_S) /* a destination's service that is just being started anew has this long */
#define GIVE_UP_TIME (15 * NS_PER_S) /* for libvirt, after it was told to */
#define AGAIN (200 * NS_PER_MS)

/* ---- before anything moves ---- */

static int read_paths(struct rd *r, char (*out)[NVM_SOCKET], uint32_t most, uint32_t *n)
{
	uint32_t cnt = rd_array(r);

	for (*n = 0; cnt-- && !r->bad;) {
		if (*n == most)
			return HCI_E_PROTO;
		rd_strcpy(r, out[(*n)++], NVM_SOCKET);
	}
	return 0;
}

static int read_plan(struct handover_out *o, struct rd *r)
{
	uint32_t n = rd_map(r);

	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "memory")) {
			rd_strcpy(r, o->memory, sizeof(o->memory));
		} else if (rd_is(k, "libvirt")) {
			rd_strcpy(r, o->libvirt, sizeof(o->libvirt));
		} else if (rd_is(k, "console")) {
			rd_strcpy(r, o->console, sizeof(o->console));
		} else if (rd_is(k, "sockets")) {
			if (read_paths(r, o->sockets, REC_VM_DISKS_MAX, &o->nsockets))
				return HCI_E_PROTO;
		} else if (rd_is(k, "usb")) {
			if (read_paths(r, o->usb, REC_VM_USB_MAX, &o->nusb))
				return HCI_E_PROTO;
		} else {
			rd_skip(r);
		}
	}
	return r->bad ? HCI_E_PROTO : 0;
}

/* Without it more is sent. */
static void share(struct nvm *m, struct handover_out *o)
{
	struct content_set *s;
	struct hci_error err;

	if (content_set_out(m->n->vms->content, m, o->to, &s, &err))
		log_info(env_log(m->n->e), "VM %s: %s", m->name, err.message);
	else
		ho_out_content(o->path, s);
}

/* With what the destination is to have, so that it can say all that it lacks. */
static int body_with_needs(struct buf *b, struct nvm *m, const struct handover_out *o, const char *job, struct hci_error *err)
{
	struct compute_needs *n = MEM_NEW(struct compute_needs);
	int rc = n ? vm_compute_needs(m->n, m->name, n, err) : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);

	*b = BUF_INIT;
	if (!rc) {
		n->postcopy = compute_may_postcopy(&o->cm);
		pk_map(b, 9);
		pk_kv_str(b, "vm", m->name);
		pk_kv_str(b, "job", job);
		handover_needs_pack(n, b);
	}
	mem_free(n);
	return rc;
}

static int ask(struct nvm *m, struct handover_out *o, const char *job, struct hci_error *err)
{
	struct rpc_call call;
	struct buf body;
	int rc = body_with_needs(&body, m, o, job, err);

	if (rc)
		return rc;
	rc = handover_call(m->n, o->to, HO_PREPARE, &body, PREPARE_TIME, &call, err);
	if (!rc && (read_plan(o, &call.reply) || o->nsockets != m->ndisks))
		rc = err_set(err, HCI_E_PROTO, "VM %s: node %s answers nonsense", m->name, o->to);
	if (!rc && o->nusb != m->rec.nusb)
		rc = err_set(err, HCI_E_UNSUPPORTED, "VM %s: it has USB devices, which the node service of %s does not know: update that",
			     m->name, o->to);
	rpc_call_free(&call);
	return rc;
}

/* Its service: not reached, or begun so lately that it takes no such request yet (or does without libvirt). */
static bool may_be_starting(int rc, uint64_t for_ns)
{
	return rc == HCI_E_UNSUPPORTED ? for_ns < RESTART_TIME / 5 :
					 (rc == HCI_E_UNAVAILABLE || rc == HCI_E_CLOSED) && for_ns < RESTART_TIME;
}

/* Asks until the destination takes it, or says no, maybe as it takes no more at present. */
static int ask_again(struct nvm *m, struct handover_out *o, struct core_job *j, struct hci_error *err)
{
	uint64_t start = env_now(m->n->e);
	int rc = ask(m, o, j->rec->id, err);

	turns_rest(&m->n->vms->leaving, true); /* nothing of it is sent meanwhile */
	while (may_be_starting(rc, env_now(m->n->e) - start) && !m->cancel && !m->n->stopping &&
	       !core_job_progress(j, 0, 0, "waiting for the destination's service")) {
		fiber_sleep(m->n->e, AGAIN);
		rc = ask(m, o, j->rec->id, err);
	}
	turns_rest(&m->n->vms->leaving, false);
	o->no_room = rc == HCI_E_BUSY;
	return rc;
}

static void on_memory_end(void *arg)
{
	handover_memory_ended(arg);
}

static void on_memory_over(void *arg)
{
	struct handover_out *o = arg;

	o->memory_left = true;
}

/* What is in the domain's description and another path over there. */
static int paths(struct nvm *m, struct handover_out *o, struct hci_error *err)
{
	int rc = 0;

	o->cm.npaths = 0;
	for (uint32_t i = 0; i < m->ndisks; i++)
		if (strcmp(o->sockets[i], m->disks[i].socket))
			o->paths[o->cm.npaths++] = (struct compute_path){ m->disks[i].socket, o->sockets[i] };
	for (uint32_t i = 0; i < o->nusb && !rc; i++) {
		rc = nvm_usb_socket(m, i, o->usb_here[i], err);
		if (!rc && strcmp(o->usb[i], o->usb_here[i]))
			o->paths[o->cm.npaths++] = (struct compute_path){ o->usb_here[i], o->usb[i] };
	}
	if (*o->console && strcmp(o->console, m->console))
		o->paths[o->cm.npaths++] = (struct compute_path){ m->console, o->console };
	return rc;
}

static int prepare(struct nvm *m, struct handover_out *o, struct core_job *j, struct hci_error *err)
{
	int rc = ask_again(m, o, j, err);

	if (rc)
		return err_prefix(err, "VM %s: node %s cannot take it", m->name, o->to);
	rc = ho_out_open(m->n,
			 &(struct ho_out_opts){
				 .to = o->to,
				 .vm = m->name,
				 .job = j->rec->id,
				 .memory = o->memory,
				 .libvirt = o->libvirt,
				 .inflight_ns = o->inflight_ns,
				 .memory_end = on_memory_end,
				 .memory_over = on_memory_over,
				 .arg = o },
			 &o->path, err);
	if (rc)
		return rc;
	share(m, o);
	o->cm.peer_uri = ho_out_peer_uri(o->path);
	o->cm.migrate_uri = ho_out_migrate_uri(o->path);
	return paths(m, o, err);
}

/* ---- the migration ---- */

static bool on_progress(void *arg, const struct compute_progress *p)
{
	struct handover_out *o = arg;

	pthread_mutex_lock(&o->progress_lock);
	o->progress = *p;
	pthread_mutex_unlock(&o->progress_lock);
	return atomic_load(&o->cancel);
}

/* True: it is to be cancelled. */
static bool tell_progress(struct handover_out *o, struct core_job *j)
{
	struct compute_progress p;
	struct ho_stat st;
	char phase[220];

	pthread_mutex_lock(&o->progress_lock);
	p = o->progress;
	pthread_mutex_unlock(&o->progress_lock);
	ho_out_stat(o->path, &st);
	handover_phase(&p, &st, phase, sizeof(phase));
	handover_figures(&p, &st, j->rec->message, sizeof(j->rec->message));
	return core_job_progress(j, p.done, p.total, p.total ? phase : "copying memory");
}

static void migrate_thread(void *arg)
{
	struct handover_out *o = arg;

	o->rc = o->hypervisor->migrate(o->compute, &o->cm, &o->err);
}

static bool in_postcopy(struct handover_out *o)
{
	bool begun;

	pthread_mutex_lock(&o->progress_lock);
	begun = o->progress.postcopy;
	pthread_mutex_unlock(&o->progress_lock);
	return begun;
}

bool handover_is_split(const struct nvm *m)
{
	return (m->out && m->out->committed) || (m->in && m->in->taken);
}

/*
 * Our leases were lost for a moment while the domain was leaving. If QEMU is about to stop the guest it waits for
 * requests that our exports hold, and libvirt for QEMU: so what a round would do later is done here.
 */
static void look_after(struct nvm *m, struct handover_out *o)
{
	struct hci_error err;
	int rc = 0;

	/* Half of the guest is here and cannot run; the other one, which can, may have taken it over without our hearing of it. */
	if (in_postcopy(o))
		return;
	if (!m->owned) {
		rc = vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &err);
	} else if (!o->released && nvm_waits(m)) {
		fiber_mutex_lock(m->n->e, &o->lock);
		if (!o->released) {
			nvm_detach(m);
			rc = nvm_attach(m, REC_ATT_USER, &err);
			if (!rc)
				rc = nvm_resume_io(m, &err);
		}
		fiber_mutex_unlock(m->n->e, &o->lock);
	}
	if (rc)
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, err.message);
}

/* What the migration itself may have, and its share of what the node may have for all: both may change meanwhile. */
static void limit(struct nvm *m, struct handover_out *o)
{
	const struct rec_node *r = core_node(m->n->core, m->n->name);
	uint64_t share = turns_share(&m->n->vms->leaving, r ? r->migrate_bandwidth : 0);

	ho_out_limit(o->path, o->bandwidth && share ? MIN(o->bandwidth, share) : o->bandwidth ? o->bandwidth : share);
}

/*
 * libvirt was told to give up, but it may wait for the other libvirt, and that for a QEMU which says nothing any more. What
 * the end of its connection means is known: a link can be cut at any moment. But not in post-copy, which may have begun before
 * we hear of it.
 */
static void insist(struct nvm *m, struct handover_out *o, uint64_t *told)
{
	uint64_t now = env_now(m->n->e);
	struct hci_error why;

	if (compute_may_postcopy(&o->cm))
		return;
	if (!*told && (atomic_load(&o->cancel) || now > o->limit))
		*told = now;
	if (!*told || now < *told + GIVE_UP_TIME)
		return;
	err_set(&why, HCI_E_TIMEOUT, "VM %s: its migration does not end though libvirt was told so", m->name);
	ho_out_cut(o->path, &why);
}

static int migrate(struct nvm *m, struct handover_out *o, struct core_job *j, struct hci_error *err)
{
	struct env *e = m->n->e;
	struct vm_thread t;
	bool dead = false;
	/* Somewhat early: it is looked at now and then only. */
	uint64_t post = o->cm.postcopy_ns ? env_now(e) + o->cm.postcopy_ns - MIN(o->cm.postcopy_ns, AGAIN) : UINT64_MAX, told = 0;
	int rc;

	o->limit = o->cm.timeout_ns ? env_now(e) + o->cm.timeout_ns : UINT64_MAX;
	limit(m, o);
	rc = vm_thread_start(m->n, &t, migrate_thread, o, err);
	if (rc)
		return rc;
	while (!vm_thread_wait(&t, env_now(e) + AGAIN)) {
		dead |= !core_alive(m->n->core, o->to);
		if (dead || m->cancel || m->n->stopping)
			atomic_store(&o->cancel, true);
		look_after(m, o);
		if ((env_now(e) >= post || in_postcopy(o)) && o->path)
			ho_out_hurry(o->path);
		if (in_postcopy(o))
			handover_commit(m, o);
		limit(m, o);
		insist(m, o, &told);
		if (!t.done && tell_progress(o, j))
			atomic_store(&o->cancel, true);
	}
	vm_thread_join(&t);
	if (o->rc == HCI_E_CANCELLED && dead)
		return err_set(err, HCI_E_UNAVAILABLE, "VM %s: node %s died while it was being migrated there: it runs on at %s",
			       m->name, o->to, m->n->name);
	if (o->rc == HCI_E_CANCELLED && m->suspended)
		return err_set(err, HCI_E_UNAVAILABLE, "VM %s: not migrated: the store did not renew the right of node %s to run it",
			       m->name, m->n->name);
	return o->rc ? err_copy(err, &o->err, o->rc) : 0;
}

static int check(struct nvm *m, const struct handover_opts *o, struct hci_error *err)
{
	struct problems p = { 0 };
	int rc;

	handover_problems(m->n, m->name, o->to, o->postcopy_ns || o->postcopy_passes, true, &p);
	rc = problems_error(&p, m->name, o->to, err);
	problems_free(&p);
	return rc ? err_prefix(err, "VM %s", m->name) : nvm_ready(m, err);
}

/* Its libvirt could not say: it has ended, and maybe after the guest had gone. False: it is not known. */
static bool find_out(struct nvm *m, struct handover_out *o, struct core_job *j)
{
	struct compute_state st;
	struct hci_error err;
	int rc;

	if (o->cm.gone || o->cm.split)
		return true;
	rc = handover_look(m, j, &st, &err);
	o->cm.gone = rc == HCI_E_NOTFOUND;
	o->cm.split = !rc && st.postcopy;
	return !rc || o->cm.gone;
}

static int run(struct nvm *m, struct handover_out *o, struct core_job *j, struct finished *f, struct hci_error *err)
{
	char runner[HCI_NAME_MAX];
	bool sure;
	int rc;

	env_random(m->n->e, &o->id, sizeof(o->id));
	snprintf(j->rec->unit, sizeof(j->rec->unit), "bytes");
	if (!o->opts->waited)
		(void)core_job_progress(j, 0, 0, "preparing");
	rc = prepare(m, o, j, err);
	if (!rc)
		o->opts->taken(o->opts->arg);
	/* From now on there is nothing at the destination that could be of before what a first try noted. */
	if (!rc && o->stays)
		rc = core_job_note(j, NOTE_STAYS, "", err);
	if (rc) {
		handover_cancel(m, o->to);
		return rc;
	}
	o->stays = false;
	m->out = o;
	rc = migrate(m, o, j, err);
	if (rc) { /* before the destination is told, so that its libvirt, too, has seen the end */
		ho_out_stat(o->path, &o->stat);
		ho_out_close(o->path, err);
		o->path = NULL;
		if (!find_out(m, o, j)) {
			m->out = NULL;
			return rc;
		}
	}
	if (rc && o->cm.split)
		return handover_split(m, o, err);
	/* Not ours any more: fine if the destination has it, as it should. */
	if (!m->owned && (rc || nvm_runner(m, runner, NULL) || strcmp(runner, o->to))) {
		m->out = NULL;
		return handover_lost(m, o, err);
	}
	if (rc && !o->cm.gone) {
		handover_restore(m, o);
		m->out = NULL;
		return rc;
	}
	sure = handover_has_left(o, rc);
	(void)handover_release(m, o, true);
	m->out = NULL;
	f->total_ms = o->cm.total_ms;
	f->bytes = o->cm.bytes;
	f->postcopy = o->committed;
	return handover_finish(m, o->to, sure, f, err);
}

/*
 * QEMU lost a disk's connection meanwhile, which fails a migration (lib/compute/nudge.c). Nothing has moved, and the guest can
 * be brought to run again as it was: so may the migration.
 */
static bool may_repeat(struct nvm *m, const struct handover_out *o, const struct nvm_conns *before)
{
	struct nvm_conns now;

	nvm_conns(m, &now);
	return o->rc == HCI_E_LIBVIRT && !o->released && !o->cm.gone && !o->cancel && m->owned && !m->cancel && !m->n->stopping &&
	       (now.missing || now.made != before->made) && core_alive(m->n->core, o->to);
}

static int run_twice(struct nvm *m, struct handover_out *o, struct core_job *j, struct finished *f, struct hci_error *err)
{
	struct nvm_conns before;
	struct hci_error why;
	int rc;

	nvm_conns(m, &before);
	rc = run(m, o, j, f, err);
	if (!rc || !may_repeat(m, o, &before) || nvm_ready(m, &why))
		return rc;
	log_info(env_log(m->n->e), "VM %s: its migration begins again, as a disk's connection was lost: %s", m->name, err->message);
	o->failed = o->memory_left = o->ran_on = false;
	return run(m, o, j, f, err);
}

int handover_run(struct nvm *m, const struct handover_opts *opts, struct core_job *j, char *result, size_t cap, bool *no_room,
		 struct hci_error *err)
{
	struct finished f = { 0 };
	struct handover_out *o;
	char machine[BOOT_ID];
	const char *stays;
	int rc = check(m, opts, err);

	*no_room = false;
	if (!rc)
		rc = m->n->o.hypervisor->machine(m->n->o.compute, machine, err);
	/* One that has waited says it already. */
	if (!rc && !opts->waited)
		rc = core_job_note(j, NOTE_MACHINE, machine, err);
	if (rc)
		return rc;
	o = MEM_NEW(struct handover_out);
	if (!o)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	fiber_mutex_init(&o->lock);
	pthread_mutex_init(&o->progress_lock, NULL);
	o->vm = m;
	o->job = j;
	o->to = opts->to;
	o->opts = opts;
	stays = core_job_arg(j, NOTE_STAYS); /* of a try before it had to wait */
	o->stays = stays && *stays;
	o->bandwidth = opts->bandwidth;
	o->inflight_ns = opts->inflight_ns;
	o->hypervisor = m->n->o.hypervisor;
	o->compute = m->n->o.compute;
	o->cm = (struct compute_migrate){
		.name = m->name,
		.max_downtime_ms = opts->max_downtime_ms,
		.timeout_ns = opts->timeout_ns,
		.postcopy_ns = opts->postcopy_ns,
		.postcopy_passes = opts->postcopy_passes,
		.no_auto_converge = opts->no_auto_converge,
		.paths = o->paths,
		.progress = on_progress,
		.arg = o,
	};
	rc = run_twice(m, o, j, &f, err);
	if (!rc) {
		if (o->path)
			ho_out_stat(o->path, &o->stat);
		handover_result(&f, &o->stat, result, cap);
	}
	*no_room = rc && o->no_room;
	ho_out_close(o->path, rc ? err : NULL);
	while (o->users)
		fiber_sleep(m->n->e, NS_PER_MS);
	pthread_mutex_destroy(&o->progress_lock);
	mem_free(o);
	return rc;
}

