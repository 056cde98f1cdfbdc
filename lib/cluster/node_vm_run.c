/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM brought up and down on this node. The order is what keeps it from running twice: first
 * vmrun/<name> under our lease, then the volumes, then the domain; and the other way round.
 */
#include "cluster/node_vm_impl.h"

/* ---- records ---- */

int nvm_read(struct nvm *m, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	if ((size_t)snprintf(m->console, sizeof(m->console), "%s/%s.console", m->n->run_dir, m->name) >= sizeof(m->console))
		return err_set(err, HCI_E_RANGE, "VM %s: the run directory %s is too long", m->name, m->n->run_dir);
	key_vm(key, m->name);
	rc = rec_vm_get(core_store(m->n->core), key, &m->rec, NULL, err);
	return rc == HCI_E_NOTFOUND ? err_set(err, rc, "VM %s: there is none of this name", m->name) : rc;
}

static int write_record(struct nvm *m, enum rec_vm_wanted wanted, bool crashed, const char *node, const char *console,
			struct hci_error *err)
{
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	key_vm(key, m->name);
	do {
		rc = rec_vm_get(core_store(m->n->core), key, &m->rec, &rev, err);
		if (rc)
			return rc;
		if (m->rec.wanted == wanted && m->rec.crashed == crashed && (!node || !strcmp(node, m->rec.node)) &&
		    (!console || !strcmp(console, m->rec.console_log)))
			return 0;
		m->rec.wanted = wanted;
		m->rec.crashed = crashed;
		if (node)
			snprintf(m->rec.node, sizeof(m->rec.node), "%s", node);
		if (console)
			snprintf(m->rec.console_log, sizeof(m->rec.console_log), "%s", console);
		rc = rec_vm_put(core_store(m->n->core), key, &m->rec, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	return rc;
}

int nvm_write(struct nvm *m, enum rec_vm_wanted wanted, const char *node, const char *console, struct hci_error *err)
{
	return write_record(m, wanted, false, node, console, err);
}

int nvm_ended(struct nvm *m, bool crashed, struct hci_error *err)
{
	return write_record(m, REC_VM_STOPPED, crashed, NULL, NULL, err);
}

/* ---- up ---- */

static void fill_nics(const struct rec_vm *r, struct compute_nic *out)
{
	for (uint32_t i = 0; i < r->nnics; i++) {
		const struct rec_vm_nic *n = &r->nics[i];

		snprintf(out[i].bridge, sizeof(out[i].bridge), "%s", n->bridge);
		snprintf(out[i].mac, sizeof(out[i].mac), "%s", n->mac);
		ether_port(&r->uuid, i, out[i].port);
		out[i].e1000e = n->model == REC_NIC_E1000E;
		out[i].mtu = n->mtu;
		out[i].down = n->down;
	}
}

static int fill_usb(const struct nvm *m, struct compute_usb *out, struct hci_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < m->rec.nusb && !rc; i++)
		rc = nvm_usb_socket(m, i, out[i].socket, err);
	return rc;
}

static int start_domain(struct nvm *m, struct hci_error *err)
{
	struct compute_usb usb[REC_VM_USB_MAX] = { 0 };
	struct compute_nic nics[REC_VM_NICS_MAX] = { 0 };
	struct compute_disk *disks = mem_calloc(REC_VM_DISKS_MAX, sizeof(*disks));
	struct compute_vm vm = { .name = m->name,
				 .uuid = m->rec.uuid,
				 .vcpus = m->rec.vcpus,
				 .memory_bytes = m->rec.memory_bytes,
				 .console_log = m->console,
				 .disks = disks,
				 .ndisks = m->ndisks,
				 .nics = nics,
				 .nnics = m->rec.nnics,
				 .usb = usb,
				 .nusb = m->rec.nusb,
				 .node = m->n->name };
	int rc;

	if (!disks)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	if (*m->rec.kernel) {
		vm.kernel = m->rec.kernel;
		vm.initrd = *m->rec.initrd ? m->rec.initrd : NULL;
		vm.cmdline = *m->rec.cmdline ? m->rec.cmdline : NULL;
	}
	for (uint32_t i = 0; i < m->ndisks; i++) {
		snprintf(disks[i].socket, sizeof(disks[i].socket), "%s", m->disks[i].socket);
		snprintf(disks[i].export_name, sizeof(disks[i].export_name), "%s", m->disks[i].name);
		disks[i].size = m->disks[i].size;
	}
	fill_nics(&m->rec, nics);
	rc = fill_usb(m, usb, err);
	if (!rc)
		rc = vm_compute_start(m->n, &vm, err);
	mem_free(disks);
	return rc ? err_prefix(err, "node %s", m->n->name) : 0;
}

/* It is here already, from an earlier life of the node service: its disks are back, so it may go on. */
static int take_over(struct nvm *m, const struct compute_state *st, struct hci_error *err)
{
	struct compute_state now;
	int rc;

	if (!uuid_eq(&st->uuid, &m->rec.uuid))
		return err_set(err, HCI_E_EXISTS,
			       "VM %s: libvirt runs another domain of this name: stop it, or name the VM otherwise", m->name);
	log_info(env_log(m->n->e), "VM %s: found running, its disks are there again", m->name);
	nvm_connect(m);
	/* Of an I/O error it may have been paused since. */
	rc = vm_compute_find(m->n, m->name, &now, err);
	if (!rc && now.state == HCI_VM_PAUSED && !now.migrating)
		rc = vm_compute_resume(m->n, m->name, err);
	return rc;
}

static int open_disks(struct nvm *m, struct hci_error *err)
{
	int rc = m->ndisks ? 0 : nvm_export(m, NULL, err);

	if (!rc)
		rc = nvm_attach(m, REC_ATT_USER, err);
	return rc ? rc : nvm_resume_io(m, err);
}

int nvm_up(struct nvm *m, struct hci_error *err)
{
	struct compute_state st;
	bool found;
	int rc;

	if (m->owned && m->running)
		return 0;
	rc = nvm_read(m, err);
	if (rc)
		return rc;
	rc = vm_compute_find(m->n, m->name, &st, err);
	found = !rc;
	/* Or libvirtd ended as it made it: there may be no process. If there is one, its guest has hardly begun. */
	if (found && (st.broken || st.starting)) {
		rc = vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, err);
		found = false;
	}
	if (rc == HCI_E_NOTFOUND)
		rc = 0;
	if (!rc)
		rc = nvm_take_run(m, NULL, err);
	if (rc)
		return rc;
	rc = open_disks(m, err);
	if (!rc && found)
		rc = take_over(m, &st, err);
	else if (!rc)
		rc = nvm_usb_open(m, err);
	if (!rc && !found)
		rc = start_domain(m, err);
	if (!rc) {
		m->running = true;
		rc = nvm_write(m, REC_VM_RUNNING, m->n->name, m->console, err);
		if (rc && !found)
			(void)vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, NULL);
	}
	if (!rc && found)
		nvm_usb_try_open(m);
	/* A domain that was there stays ours, without disks for now: the next round tries again. */
	if (rc && found)
		m->running = false;
	else if (rc)
		nvm_release(m);
	return rc;
}

/* ---- down ---- */

void nvm_anew(struct nvm *m)
{
	struct hci_error err;

	log_warn(env_log(m->n->e), "VM %s: the rest of its memory was lost with the node it came from: it is started anew", m->name);
	if (vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &err)) {
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, err.message);
		return;
	}
	handover_in_free(m);
	nvm_release(m);
}

void nvm_release(struct nvm *m)
{
	nvm_unexport(m);
	m->running = m->suspended = false;
	nvm_drop_run(m);
}

int nvm_down(struct nvm *m, uint32_t how, struct hci_error *err)
{
	char node[HCI_NAME_MAX];
	int rc;

	if (!m->owned && !nvm_runner(m, node, NULL) && strcmp(node, m->n->name))
		return err_set(err, HCI_E_STATE, "VM %s: it runs on node %s now: ask again", m->name, node);
	rc = nvm_write(m, REC_VM_STOPPED, NULL, NULL, err);
	if (!rc)
		rc = vm_compute_stop(m->n, m->name, how, err);
	if (!rc)
		nvm_release(m);
	return rc;
}
