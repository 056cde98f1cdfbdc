/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest outlives the node service, its disks' connections do not: here QEMU is made to connect to the exports of the next
 * service, before its guest asks for something (lib/compute/nudge.c says what happens then), and a VM is made ready for what needs it whole.
 */
#include "cluster/node_vm_impl.h"

#define PATIENCE (5 * NS_PER_S)      /* for one read */
/*
 * A request without a connection makes QEMU (7.2) begin one in a thread of its own, and fails; that thread tries again 1, 2, 4, ... 16 s
 * after the last time, whoever asks meanwhile. So where the guest asked while no service was there it takes up to 16 s.
 */
#define CONNECT_TIME (20 * NS_PER_S)
#define AGAIN_MIN (20 * NS_PER_MS)
#define AGAIN_MAX (500 * NS_PER_MS)

static uint32_t conns(const struct nvm_disk *d, uint64_t *made)
{
	struct nbd_stats s;

	if (!d->x)
		return 0;
	nbd_export_stats(d->x, &s);
	if (made)
		*made += s.conns_total;
	return s.conns;
}

void nvm_conns(const struct nvm *m, struct nvm_conns *out)
{
	*out = (struct nvm_conns){ 0 };
	for (uint32_t i = 0; i < m->ndisks; i++)
		if (!conns(&m->disks[i], &out->made))
			out->missing = true;
}

/* The volume does not answer, so QEMU waits, and all that it does: better that it gets an error for a read that nobody wants. */
static void drop(void *arg)
{
	struct nvm_disk *d = arg;

	nbd_export_drop(d->x);
}

/* False: there is no use in trying again. */
static bool nudge(struct nvm *m, struct hci_error *err)
{
	for (uint32_t i = 0; i < m->ndisks; i++) {
		struct nvm_disk *d = &m->disks[i];

		if (d->x && !conns(d, NULL) && vm_compute_nudge(m->n, m->name, i, PATIENCE, drop, d, err))
			return false;
	}
	return true;
}

void nvm_connect(struct nvm *m)
{
	struct env *e = m->n->e;
	uint64_t start = env_now(e), again = AGAIN_MIN;
	struct nvm_conns now;
	struct hci_error err = { 0 };

	for (;;) {
		nvm_conns(m, &now);
		if (!now.missing || m->cancel || m->n->stopping || env_now(e) - start > CONNECT_TIME || !nudge(m, &err))
			break;
		fiber_sleep(e, again);
		again = MIN(2 * again, AGAIN_MAX);
	}
	if (now.missing)
		log_info(env_log(e), "VM %s: its disks are connected when the guest asks for them%s%s", m->name, err.code ? ": " : "",
			 err.message);
}

int nvm_ready(struct nvm *m, struct hci_error *err)
{
	struct compute_state st;
	int rc = vm_compute_find(m->n, m->name, &st, err);

	if (m->in || rc == HCI_E_NOTFOUND)
		return err_set(err, HCI_E_STATE, "VM %s: it does not run on node %s", m->name, m->n->name);
	if (!rc && (!m->owned || !m->running)) {
		rc = nvm_up(m, err);
	} else if (!rc && nvm_waits(m)) {
		nvm_detach(m);
		rc = nvm_attach(m, REC_ATT_USER, err);
		if (!rc)
			rc = nvm_resume_io(m, err);
	}
	if (rc)
		return rc;
	nvm_connect(m);
	rc = vm_compute_find(m->n, m->name, &st, err);
	if (!rc && st.state == HCI_VM_PAUSED && st.io_error)
		rc = vm_compute_resume(m->n, m->name, err);
	return rc;
}
