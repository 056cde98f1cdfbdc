/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live migration's source lets go of the VM's volumes: when the destination's guest asks for them (RELEASE), or libvirt
 * has said that the domain is gone. Owns that request, and that it happens once and not after the migration has failed.
 */
#include "cluster/handover_impl.h"

int handover_release(struct nvm *m, struct handover_out *o, bool gone)
{
	int rc = 0;

	fiber_mutex_lock(m->n->e, &o->lock);
	if (o->failed || (o->ran_on && !gone)) {
		rc = HCI_E_STATE;
	} else if (!o->released) {
		for (uint32_t i = 0; i < m->ndisks; i++)
			o->generations[i] = m->disks[i].v ? vol_generation(m->disks[i].v) : 0;
		nvm_usb_close(m);
		if (!(m->n->o.mutate & HO_MUTATE_NO_RELEASE))
			nvm_detach(m);
		o->released = true;
	}
	fiber_mutex_unlock(m->n->e, &o->lock);
	return rc;
}

struct rpc_job {
	struct node *n;
	struct rpc_req *req;
	char vm[HCI_NAME_MAX], peer[HCI_NAME_MAX];
};

static int releasing(struct rpc_job *x, struct buf *reply, struct hci_error *err)
{
	struct nvm *m = nvm_find(x->n, x->vm);
	struct handover_out *o;
	struct compute_state st;
	uint64_t id;
	int rc;

	if (!m || !m->out || strcmp(m->out->to, x->peer))
		return err_set(err, HCI_E_STATE, "VM %s: it is not being migrated to node %s", x->vm, x->peer);
	id = m->out->id;
	rc = vm_compute_find(x->n, x->vm, &st, err);
	if (!rc && st.state == HCI_VM_RUNNING && !(x->n->o.mutate & HO_MUTATE_RELEASE_RUNNING))
		return err_set(err, HCI_E_AGAIN, "VM %s: it still runs on node %s", x->vm, x->n->name);
	if (rc && rc != HCI_E_NOTFOUND)
		return rc;
	/* We parked: it may have failed, and another may have begun, whose guest runs. */
	o = m->out;
	if (!o || o->id != id)
		return err_set(err, HCI_E_STATE, "VM %s: its migration has failed", x->vm);
	o->users++;
	rc = handover_release(m, o, false);
	pk_map(reply, 1);
	pk_str(reply, "generations");
	pk_array(reply, o->nsockets);
	for (uint32_t i = 0; i < o->nsockets; i++)
		pk_u64(reply, o->generations[i]);
	o->users--;
	return rc ? err_set(err, HCI_E_STATE, "VM %s: its migration has failed", x->vm) : 0;
}

static void release_fiber(void *arg)
{
	struct rpc_job *x = arg;
	struct node *n = x->n;
	struct buf reply = BUF_INIT;
	struct hci_error err;
	int rc = releasing(x, &reply, &err);

	if (!rc && reply.failed)
		rc = err_set(&err, HCI_E_NOMEM, "VM %s: out of memory", x->vm);
	rpc_reply(x->req, rc, rc ? err.message : NULL, rc ? NULL : &reply, NULL, 0, NULL, NULL);
	buf_free(&reply);
	mem_free(x);
	vm_fiber_end(n);
}

static void on_release(void *arg, struct rpc_req *req)
{
	struct node_vm_state *s = arg;
	struct rpc_job *x = MEM_NEW(struct rpc_job);
	uint32_t pairs = rd_map(&req->args);

	while (x && pairs--) {
		struct rd_key k = rd_key(&req->args);

		if (rd_is(k, "vm"))
			rd_strcpy(&req->args, x->vm, sizeof(x->vm));
		else
			rd_skip(&req->args);
	}
	if (!x || req->args.bad) {
		rpc_reply(req, x ? HCI_E_PROTO : HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(x);
		return;
	}
	x->n = s->n;
	x->req = req;
	snprintf(x->peer, sizeof(x->peer), "%s", rpc_conn_peer(req->conn));
	if (vm_fiber(s->n, release_fiber, x, "vm-release")) {
		rpc_reply(req, HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(x);
	}
}

int handover_register(struct node *n, struct hci_error *err)
{
	return rpc_register(core_rpc(n->core), HO_RELEASE, on_release, n->vms) ?
		       err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name) :
		       0;
}
