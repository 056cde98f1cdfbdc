/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The right to run a VM: vmrun/<name>, under our lease. Where it passes from node to node, the VM's record goes with it in the same
 * transaction: whoever finds the key absent starts the VM where the record says, so at no moment may that be a node which has
 * given the guest away.
 */
#include "cluster/node_vm_impl.h"

int nvm_runner(struct nvm *m, char node[HCI_NAME_MAX], struct hci_error *err)
{
	struct rec_vmrun r;
	char key[REC_KEY];
	int rc;

	key_vmrun(key, m->name);
	rc = rec_vmrun_get(core_store(m->n->core), key, &r, NULL, err);
	if (!rc)
		snprintf(node, HCI_NAME_MAX, "%s", r.node);
	return rc;
}

/* Who has it, at which revision (0: nobody). HCI_E_BUSY: neither we nor from (may be NULL). */
static int look(struct nvm *m, const char *from, struct rec_vmrun *r, uint64_t *rev, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	key_vmrun(key, m->name);
	rc = rec_vmrun_get(core_store(m->n->core), key, r, rev, err);
	if (rc == HCI_E_NOTFOUND) {
		*rev = 0;
		return 0;
	}
	if (!rc && strcmp(r->node, m->n->name) && (!from || strcmp(r->node, from)))
		return err_set(err, HCI_E_BUSY, "VM %s: it runs on node %s", m->name, r->node);
	return rc;
}

static void ours(struct nvm *m, struct rec_vmrun *r)
{
	memset(r, 0, sizeof(*r));
	snprintf(r->node, sizeof(r->node), "%s", m->n->name);
	r->since = env_realtime(m->n->e);
}

static void is_ours(struct nvm *m, uint64_t lease)
{
	m->owned = true;
	m->run_lease = lease;
	m->told = REC_VM_RUNS;
}

int nvm_take_run(struct nvm *m, const char *from, struct hci_error *err)
{
	struct node_vm_state *s = m->n->vms;
	struct rec_vmrun r;
	char key[REC_KEY];
	uint64_t rev, lease;
	int rc;

	key_vmrun(key, m->name);
	for (unsigned tries = 0;; tries++) {
		rc = look(m, from, &r, &rev, err);
		if (rc)
			return rc;
		ours(m, &r);
		lease = s->lease;
		rc = rec_vmrun_put(core_store(m->n->core), key, &r, rev, lease, NULL, err);
		if (!rc)
			is_ours(m, lease);
		if (rc != HCI_E_CONFLICT || tries > 10)
			return rc;
	}
}

int nvm_keep_run(struct nvm *m, struct hci_error *err)
{
	uint64_t lease = m->n->vms->lease, rev;
	struct rec_vmrun r;
	char key[REC_KEY];
	int rc = HCI_E_CONFLICT;

	key_vmrun(key, m->name);
	while (rc == HCI_E_CONFLICT && m->owned) {
		rc = look(m, NULL, &r, &rev, err);
		if (rc || !m->owned)
			return rc;
		ours(m, &r);
		rc = rec_vmrun_put(core_store(m->n->core), key, &r, rev, lease, &rev, err);
	}
	if (!rc && m->owned)
		is_ours(m, lease);
	else if (!rc) /* given up meanwhile; whoever has taken it since has another revision */
		(void)rec_delete(core_store(m->n->core), key, rev, NULL, NULL);
	return m->owned ? rc : 0;
}

int nvm_tell(struct nvm *m, enum rec_vm_runs runs, struct hci_error *err)
{
	uint64_t lease = m->n->vms->lease, rev;
	struct rec_vmrun r;
	char key[REC_KEY];
	int rc = look(m, NULL, &r, &rev, err);

	if (!rc && (!rev || !m->owned))
		return 0; /* who takes it anew begins with what a domain is as a rule */
	key_vmrun(key, m->name);
	r.runs = runs;
	if (!rc)
		rc = rec_vmrun_put(core_store(m->n->core), key, &r, rev, lease, NULL, err);
	if (rc || !m->owned)
		return rc;
	is_ours(m, lease);
	m->told = runs;
	return 0;
}

void nvm_drop_run(struct nvm *m)
{
	struct rec_vmrun r;
	struct hci_error err;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	m->owned = false;
	key_vmrun(key, m->name);
	do {
		rc = rec_vmrun_get(core_store(m->n->core), key, &r, &rev, &err);
		if (!rc && !strcmp(r.node, m->n->name))
			rc = rec_delete(core_store(m->n->core), key, rev, NULL, &err);
	} while (rc == HCI_E_CONFLICT);
	if (rc && rc != HCI_E_NOTFOUND)
		log_warn(env_log(m->n->e), "VM %s: %s: it counts as running here until the node's lease ends", m->name,
			 err.message);
}

/* ---- with the record ---- */

/* run NULL: the key goes, if there is one; else under that lease. The record names that node, and its console if not NULL. */
static int both(struct nvm *m, const struct rec_vmrun *run, uint64_t run_rev, uint64_t lease, const char *node, const char *console,
		struct hci_error *err)
{
	struct store *st = core_store(m->n->core);
	struct buf rb = BUF_INIT, vb = BUF_INIT;
	char rkey[REC_KEY], vkey[REC_KEY];
	uint64_t rev;
	int rc;

	key_vmrun(rkey, m->name);
	key_vm(vkey, m->name);
	rc = rec_vm_get(st, vkey, &m->rec, &rev, err);
	if (rc)
		return rc;
	if (run)
		m->rec.wanted = REC_VM_RUNNING;
	snprintf(m->rec.node, sizeof(m->rec.node), "%s", node);
	if (console)
		snprintf(m->rec.console_log, sizeof(m->rec.console_log), "%s", console);
	rc = rec_vm_encode(&m->rec, &vb);
	if (!rc && run)
		rc = rec_vmrun_encode(run, &rb);
	if (!rc) {
		struct store_cmp cmp[] = { { STORE_CMP_MOD_REV, rkey, run_rev }, { STORE_CMP_MOD_REV, vkey, rev } };
		struct store_op op[] = { { STORE_PUT, vkey, vb.data, (uint32_t)vb.len, 0 },
					 { run ? STORE_PUT : STORE_DELETE, rkey, rb.data, (uint32_t)rb.len, lease } };

		rc = store_txn(st, cmp, ARRAY_SIZE(cmp), op, run || run_rev ? 2 : 1, NULL, err);
	} else {
		err_set(err, rc, "VM %s: out of memory", m->name);
	}
	buf_free(&rb);
	buf_free(&vb);
	return rc;
}

int nvm_take_over_run(struct nvm *m, const char *from, struct hci_error *err)
{
	struct rec_vmrun r;
	uint64_t rev, lease;
	int rc;

	for (unsigned tries = 0;; tries++) {
		rc = look(m, from, &r, &rev, err);
		if (rc)
			return rc;
		ours(m, &r);
		lease = m->n->vms->lease;
		rc = both(m, &r, rev, lease, m->n->name, m->console, err);
		if (!rc)
			is_ours(m, lease);
		if (rc != HCI_E_CONFLICT || tries > 10)
			return rc;
	}
}

int nvm_give_run(struct nvm *m, const char *to, struct hci_error *err)
{
	struct rec_vmrun r;
	uint64_t rev;
	int rc;

	m->owned = false; /* nobody is to keep it up, nvm_keep_run() */
	do {
		rc = look(m, NULL, &r, &rev, err);
		if (rc == HCI_E_BUSY)
			return 0;
		if (!rc)
			rc = both(m, NULL, rev, 0, to, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	return rc == HCI_E_NOTFOUND ? 0 : rc;
}
