/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a VM on this node: volumes attached, exports on unix sockets that QEMU is connected to. An
 * export outlives the attachment: while there is none it holds the guest's I/O.
 */
#include "base/crc32c.h"
#include "cluster/node_vm_impl.h"

#define PATIENCE (30 * NS_PER_S)

/* RUN_DIR/<vm>-<what>.sock, or a hash of that when it is too long for a socket. */
int nvm_socket_path(const struct nvm *m, const char *what, char path[NVM_SOCKET], struct hci_error *err)
{
	struct node *n = m->n;
	int len = snprintf(path, NVM_SOCKET, "%s/%s-%s.sock", n->run_dir, m->name, what);

	if (len >= (int)NVM_SOCKET) {
		uint32_t a = crc32c(0, m->name, strlen(m->name)), b = crc32c(0, what, strlen(what));

		len = snprintf(path, NVM_SOCKET, "%s/%08x%08x.sock", n->run_dir, a, b);
	}
	if (len >= (int)NVM_SOCKET)
		return err_set(err, HCI_E_RANGE, "VM %s: the run directory %s is too long for sockets: at most 80 bytes", m->name,
			       n->run_dir);
	return 0;
}

static int socket_path(struct nvm_disk *d, struct hci_error *err)
{
	char path[NVM_SOCKET]; /* the disk lies in the VM whose name goes into it: gcc's -Wrestrict minds */
	int rc = nvm_socket_path(d->vm, d->name, path, err);

	if (!rc)
		memcpy(d->socket, path, sizeof(path));
	return rc;
}

static int look_up(struct nvm *m, struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	int rc = v ? 0 : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);

	m->ndisks = 0;
	for (uint32_t i = 0; i < m->rec.ndisks && !rc; i++) {
		struct nvm_disk *d = &m->disks[i];

		memset(d, 0, sizeof(*d));
		d->vm = m;
		rc = vol_lookup(core_vol_ctx(m->n->core), m->rec.disks[i].volume, &d->volume, v, err);
		if (rc) {
			err_prefix(err, "VM %s", m->name);
			break;
		}
		snprintf(d->name, sizeof(d->name), "%s", v->name);
		d->size = v->size;
		rc = socket_path(d, err);
		if (!rc)
			m->ndisks++;
	}
	mem_free(v);
	return rc;
}

static void on_held_write(void *arg, struct nbd_export *x)
{
	(void)x;
	handover_ran_on(arg);
}

int nvm_export(struct nvm *m, void (*first_io)(void *arg, struct nbd_export *x, int status), struct hci_error *err)
{
	int rc = look_up(m, err);

	for (uint32_t i = 0; i < m->ndisks && !rc; i++) {
		struct nvm_disk *d = &m->disks[i];
		char addr[sizeof(d->socket) + 8];
		struct nbd_server_opts so = { .addr = addr };
		struct nbd_export_opts xo = { .name = d->name,
					      .size = d->size,
					      .held = true,
					      .hold_on_fence = true,
					      .on_first_held_io = first_io,
					      .on_first_held_write = on_held_write,
					      .arg = m };

		snprintf(addr, sizeof(addr), "unix:%s", d->socket);
		d->server = nbd_server_open(m->n->e, &so, err);
		if (d->server)
			d->x = nbd_export_add(d->server, &xo, err);
		if (!d->x)
			rc = err_prefix(err, "VM %s", m->name);
	}
	if (rc)
		nvm_unexport(m);
	return rc;
}

static void on_fenced(void *arg, struct vol *v)
{
	struct nvm_disk *d = arg;

	(void)v;
	d->fenced = true;
	fiber_cond_signal(d->vm->n->e, &d->vm->n->vms->wake);
}

/* Which other VM has it, and is not to be asked for: the lease names only the node. */
static int name_user(const struct nvm_disk *d, int rc, struct hci_error *err)
{
	struct rec_list vms = { 0 };
	char key[REC_KEY];

	if (rc != HCI_E_BUSY || rec_vm_list(core_store(d->vm->n->core), PREFIX_VM, &vms, NULL))
		return err_prefix(err, "VM %s", d->vm->name);
	for (size_t k = 0; k < vms.n; k++) {
		const struct rec_vm *r = REC_AT(&vms, k, struct rec_vm);
		struct rec_vmrun run;
		bool has = false;

		for (uint32_t i = 0; i < r->ndisks; i++)
			has |= !strcmp(r->disks[i].volume, d->name);
		key_vmrun(key, r->name);
		if (!has || !strcmp(r->name, d->vm->name) || rec_vmrun_get(core_store(d->vm->n->core), key, &run, NULL, NULL))
			continue;
		err_set(err, rc, "VM %s: VM %s, which runs on node %s, has its volume %s: stop that one, or give this one another volume",
			d->vm->name, r->name, run.node, d->name);
		rec_list_free(&vms);
		return rc;
	}
	rec_list_free(&vms);
	return err_prefix(err, "VM %s", d->vm->name);
}

static int attach(struct nvm_disk *d, uint32_t purpose, struct hci_error *err)
{
	struct node *n = d->vm->n;
	struct vol_attach_opts o = { .purpose = purpose,
				     .wait_ns = VM_ATTACH_WAIT,
				     .export_addr = d->socket,
				     .steal_repair = true,
				     .on_fenced = on_fenced,
				     .arg = d };
	int rc;

	d->fenced = false;
	rc = vol_attach(core_vol_ctx(n->core), &d->volume, &o, &d->v, err);
	if (rc) {
		d->v = NULL;
		return name_user(d, rc, err);
	}
	d->report = core_report_start(n->core, d->v);
	d->index = content_index_start(n->vms->content, d->v);
	return 0;
}

int nvm_attach(struct nvm *m, uint32_t purpose, struct hci_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < m->ndisks && !rc; i++)
		if (!m->disks[i].v)
			rc = attach(&m->disks[i], purpose, err);
	return rc;
}

int nvm_resume_io(struct nvm *m, struct hci_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < m->ndisks && !rc; i++) {
		struct nvm_disk *d = &m->disks[i];
		struct nbd_backend b;

		if (d->backend)
			continue;
		nbd_export_hold(d->x);
		nbd_export_drain(d->x);
		d->backend = nbd_volume_new(m->n->e, d->v, &b);
		rc = d->backend ? nbd_export_resume(d->x, &b, err)
				: err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	}
	return rc;
}

/* No copy of something can be reached: requests wait for one that may never come. */
static void patience_ends(struct env_timer *t)
{
	struct nvm_disk *d = container_of(t, struct nvm_disk, patience);

	if (d->v)
		vol_abandon(d->v);
}

/* Until detach() it takes this long, whoever still has requests open: the guest, or the scan of the blocks. */
static void let_go(struct nvm_disk *d)
{
	struct env *e = d->vm->n->e;

	if (!d->v || env_timer_armed(&d->patience))
		return;
	env_timer_init(&d->patience, patience_ends);
	env_timer_arm(e, &d->patience, env_now(e) + PATIENCE);
}

static void detach(struct nvm_disk *d)
{
	let_go(d);
	if (d->backend)
		nbd_volume_free(d->backend);
	d->backend = NULL;
	if (d->v) {
		content_index_stop(d->index);
		core_report_stop(d->report);
		env_timer_disarm(d->vm->n->e, &d->patience);
		vol_detach(d->v);
	}
	d->v = NULL;
	d->report = NULL;
	d->index = NULL;
	d->fenced = false;
}

void nvm_hold_writes(struct nvm *m, bool hold)
{
	for (uint32_t i = 0; i < m->ndisks; i++)
		if (m->disks[i].x && hold)
			nbd_export_hold_writes(m->disks[i].x);
		else if (m->disks[i].x)
			nbd_export_allow_writes(m->disks[i].x);
}

void nvm_detach(struct nvm *m)
{
	for (uint32_t i = 0; i < m->ndisks; i++)
		if (m->disks[i].x) {
			nbd_export_hold(m->disks[i].x);
			let_go(&m->disks[i]);
		}
	for (uint32_t i = 0; i < m->ndisks; i++) {
		if (m->disks[i].x)
			nbd_export_drain(m->disks[i].x);
		detach(&m->disks[i]);
	}
}

struct closing {
	struct env *e;
	struct fiber_cond cond;
	bool done;
};

static void server_closed(void *arg)
{
	struct closing *c = arg;

	c->done = true;
	fiber_cond_signal(c->e, &c->cond);
}

void nvm_unexport(struct nvm *m)
{
	nvm_usb_close(m);
	for (uint32_t i = 0; i < m->ndisks; i++) {
		struct nvm_disk *d = &m->disks[i];
		struct closing c = { .e = m->n->e };

		let_go(d);
		/* Not an error for what is asked meanwhile: a QEMU that runs on asks the next one. */
		if (d->x)
			nbd_export_drop(d->x);
		if (d->server) {
			fiber_cond_init(&c.cond);
			nbd_server_close(d->server, server_closed, &c);
			while (!c.done)
				fiber_cond_wait(c.e, &c.cond);
		}
		d->server = NULL;
		d->x = NULL;
		detach(d);
	}
	m->ndisks = 0;
}

bool nvm_cut(const struct nvm *m)
{
	struct nbd_stats s = { 0 };

	for (uint32_t i = 0; i < m->ndisks && !s.cut; i++)
		if (m->disks[i].x)
			nbd_export_stats(m->disks[i].x, &s);
	return s.cut;
}

bool nvm_waits(const struct nvm *m)
{
	for (uint32_t i = 0; i < m->ndisks; i++)
		if (m->disks[i].fenced || !m->disks[i].v)
			return true;
	return false;
}
