/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that has come is taken over: when the source says FINISH, or when the source has lost its right to it, the domain is here,
 * and it is certain that the source's has not run on. Or it is given up. All with the VM's lock held.
 */
#include "cluster/node_vm_impl.h"

#define LOST_TIME (10 * NS_PER_S) /* for libvirt to say so */

static int take_over(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err)
{
	struct compute_state st;
	int rc = vm_compute_find(m->n, m->name, &st, err);

	*pause_ms = 0;
	if (rc)
		return rc;
	if (st.migrating)
		return err_set(err, HCI_E_AGAIN, "VM %s: it is still arriving", m->name);
	rc = nvm_read(m, err);
	/* Without m->in it came while another life of this service waited for it. */
	if (!rc && !m->ndisks)
		rc = nvm_export(m, NULL, err);
	if (!rc)
		rc = nvm_attach(m, REC_ATT_MIGRATE, err);
	if (!rc && !(m->n->o.mutate & HO_MUTATE_NO_KEY))
		rc = nvm_take_over_run(m, from, err);
	if (!rc)
		rc = nvm_resume_io(m, err);
	if (rc)
		return rc;
	/* Suspended at the source while it moved. */
	if (st.state == HCI_VM_PAUSED && vm_compute_resume(m->n, m->name, err))
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, err->message);
	if (m->in && m->in->asked_at)
		*pause_ms = m->in->pause_ms = (env_now(m->n->e) - m->in->asked_at) / NS_PER_MS;
	m->running = true;
	if (m->in && st.postcopy)
		m->in->taken = true;
	else
		handover_in_free(m);
	log_info(env_log(m->n->e), "VM %s: runs here now", m->name);
	nvm_usb_try_open(m);
	return 0;
}

/* Nothing is here to take over: then the right to run it, which this try or one before it may have got, is not kept. */
static int or_drop_run(struct nvm *m, int rc)
{
	if (rc == HCI_E_NOTFOUND)
		nvm_drop_run(m);
	return rc;
}

int handover_take_over(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err)
{
	return or_drop_run(m, take_over(m, from, pause_ms, err));
}

/*
 * Nobody has attached the volumes since the source let go of them for us, and we did next. Else its guest has run on, and written, after
 * the migration had failed there: then what is here is its memory of before, and worth nothing. A source that died before it let go may
 * have been there, too.
 */
static int unbroken(struct nvm *m, struct hci_error *err)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	int rc = s ? 0 : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);

	if (!rc && !m->in)
		rc = err_set(err, HCI_E_STATE, "VM %s: it is not known whether it has run on at its source", m->name);
	for (uint32_t i = 0; i < m->ndisks && !rc; i++) {
		struct nvm_disk *d = &m->disks[i];
		char key[REC_KEY];

		key_volsync(key, &d->volume);
		rc = rec_volsync_get(core_store(m->n->core), key, s, NULL, err);
		if (!rc && (!d->v || !m->in->released[i] || vol_generation(d->v) != m->in->released[i] + 1 ||
			    vol_generation(d->v) != s->generation))
			rc = err_set(err, HCI_E_STATE, "VM %s: it may have run on at node %s", m->name, m->in->source);
	}
	mem_free(s);
	return rc;
}

static int take_unbroken(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err)
{
	struct compute_state st;
	int rc = nvm_read(m, err);
	bool given = !rc && !strcmp(m->rec.node, m->n->name); /* the source has said so */

	if (!rc && !given)
		rc = unbroken(m, err);
	if (!rc)
		rc = vm_compute_find(m->n, m->name, &st, err);
	if (rc)
		return rc;
	if (st.migrating)
		return err_set(err, HCI_E_AGAIN, "VM %s: it is still arriving", m->name);
	/* The right comes first: from then on nobody else attaches. */
	rc = nvm_take_run(m, from, err);
	if (rc)
		return rc;
	rc = given ? 0 : unbroken(m, err);
	if (rc == HCI_E_STATE)
		nvm_drop_run(m);
	return rc ? rc : take_over(m, from, pause_ms, err);
}

int handover_take_unbroken(struct nvm *m, const char *from, uint64_t *pause_ms, struct hci_error *err)
{
	return or_drop_run(m, take_unbroken(m, from, pause_ms, err));
}

static bool job_is_over(struct nvm *m)
{
	struct rec_job *r = MEM_NEW(struct rec_job);
	char key[REC_KEY];
	bool over = false;
	int rc;

	if (!r)
		return false;
	key_job(key, m->in->job);
	rc = rec_job_get(core_store(m->n->core), key, r, NULL, NULL);
	if (!rc)
		over = r->state != REC_JOB_PENDING && r->state != REC_JOB_RUNNING;
	mem_free(r);
	return over || rc == HCI_E_NOTFOUND;
}

/*
 * The rest of its memory will never come, whatever libvirt says: a guest under TCG that waits for a page amid an interrupt stops QEMU's
 * main loop, too, which then tells libvirt nothing any more (seen with QEMU 7.2).
 */
static bool memory_lost(const struct nvm *m)
{
	uint64_t at = ho_in_lost_at(m->in->path);

	return at && env_now(m->n->e) - at > LOST_TIME;
}

/* Post-copy: until all its memory is here, or never will be. */
static void look_taken(struct nvm *m)
{
	struct compute_state st;
	struct hci_error err;
	int rc = vm_compute_find(m->n, m->name, &st, &err);

	if (rc == HCI_E_NOTFOUND || (!rc && !st.postcopy))
		handover_in_free(m);
	else if (!rc && (st.broken || memory_lost(m)))
		nvm_anew(m);
}

/*
 * Nobody has the right to run it: its source is gone, or hangs, or has given it to us and could not say so, which the record tells. What
 * cannot be told now its source will tell: it asks again, or its next life does.
 */
static void inherit(struct nvm *m)
{
	struct hci_error err;
	uint64_t pause;
	int rc = nvm_read(m, &err);

	if (!rc && strcmp(m->rec.node, m->n->name) && job_is_over(m)) {
		handover_in_drop(m);
		return;
	}
	if (!rc)
		rc = handover_take_unbroken(m, NULL, &pause, &err);
	if (rc == HCI_E_NOTFOUND)
		handover_in_drop(m);
	else if (rc && rc != HCI_E_AGAIN && rc != HCI_E_STATE)
		log_warn(env_log(m->n->e), "VM %s: its source is gone: %s", m->name, err.message);
}

void handover_in_look(struct nvm *m)
{
	char runner[HCI_NAME_MAX];
	struct hci_error err;
	uint64_t pause;
	int rc;

	if (!m->in)
		return;
	if (m->in->taken) {
		look_taken(m);
		return;
	}
	rc = nvm_runner(m, runner, &err);
	if (!rc && !strcmp(runner, m->in->source)) {
		if (job_is_over(m))
			handover_in_drop(m);
		return;
	}
	/* Ours is what an earlier attempt took without hearing that it had. */
	if (!rc && strcmp(runner, m->n->name)) {
		handover_in_drop(m);
		return;
	}
	if (rc && rc != HCI_E_NOTFOUND)
		return;
	if (rc)
		inherit(m);
	else if (handover_take_over(m, NULL, &pause, &err) == HCI_E_NOTFOUND)
		handover_in_drop(m);
}
