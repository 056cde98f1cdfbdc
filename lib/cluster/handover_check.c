/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Would a migration be stopped by something? Both ends' part of the list: what the source sees by itself, what the destination
 * lacks; and the question itself, which any program of the cluster may ask the VM's node. Nothing is changed by it, and no lock of
 * the VM is taken: it is answered while the VM is being migrated, too.
 */
#include "base/names.h"
#include "cluster/node_vm_impl.h"

#define LACKS_TIME (20 * NS_PER_S)
#define CHECK_TIME (40 * NS_PER_S)
#define RUN_DIR_MAX 80u /* sockets are made in it */

/* ---- the destination ---- */

struct looked {
	struct rec_volmap map;
	struct rec_volsync sync;
	struct rec_volume v;
};

static bool has_copy(struct core *c, const struct looked *l, const struct rec_segment *seg)
{
	for (uint32_t i = 0; i < seg->n; i++) {
		const struct rec_disk *d = core_disk(c, &seg->r[i].disk);

		if (d && !rec_volsync_out(&l->sync, &seg->r[i].disk) && core_alive(c, d->node))
			return true;
	}
	return !seg->n;
}

/* Without one of each segment, attaching there would wait, and the guest with it. */
static int count_lost(struct core *c, struct looked *l, uint64_t *lost, uint64_t *all, struct hci_error *err)
{
	uint64_t chunks;
	char key[REC_KEY];
	int rc;

	*all = (l->v.size + l->v.segment_size - 1) / l->v.segment_size;
	*lost = 0;
	chunks = (*all + REC_VOLMAP_CHUNK - 1) / REC_VOLMAP_CHUNK;
	key_volsync(key, &l->v.uuid);
	rc = rec_volsync_get(core_store(c), key, &l->sync, NULL, err);
	if (rc == HCI_E_NOTFOUND)
		l->sync.n = 0;
	else if (rc)
		return rc;
	for (uint32_t k = 0; k < chunks; k++) {
		key_volmap(key, &l->v.uuid, k);
		rc = rec_volmap_get(core_store(c), key, &l->map, NULL, err);
		if (rc)
			return rc;
		for (uint32_t i = 0; i < l->map.n; i++)
			*lost += !has_copy(c, l, &l->map.seg[i]);
	}
	return 0;
}

static void check_volume(struct node *n, const char *name, struct looked *l, struct problems *p)
{
	uint64_t lost = 0, all = 0;
	char what[HCI_NAME_MAX];
	struct hci_error err;
	struct uuid id;
	int rc = vol_lookup(core_vol_ctx(n->core), name, &id, &l->v, &err);

	snprintf(what, sizeof(what), "volume %.55s", name);
	if (rc) {
		problems_add(p, rc, what, "see hcictl volume list", "%s", err.message);
		return;
	}
	rc = l->v.segment_size ? count_lost(n->core, l, &lost, &all, &err) : 0;
	if (rc)
		problems_add(p, rc, what, "see whether the store is reached", "%s", err.message);
	else if (lost)
		problems_add(p, HCI_E_UNAVAILABLE, what, "bring the nodes of its copies back: hcictl volume show",
			     "of %llu of its %llu segments no whole copy is on a node that is alive", (unsigned long long)lost,
			     (unsigned long long)all);
}

static void check_volumes(struct node *n, const struct rec_vm *vm, struct problems *p)
{
	struct looked *l = MEM_NEW(struct looked);

	p->failed |= !l;
	for (uint32_t i = 0; l && i < vm->ndisks; i++)
		check_volume(n, vm->disks[i].volume, l, p);
	mem_free(l);
}

static bool lists(const struct problems *p, const char *what)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (!strcmp(p->v[i].what, what))
			return true;
	return false;
}

void handover_lacks(struct nvm *m, struct compute_needs *needs, struct problems *p)
{
	struct node *n = m->n;
	struct compute_state st;
	struct hci_error err;
	int rc = vm_compute_find(n, m->name, &st, &err);

	if (!rc && !m->in)
		problems_add(p, HCI_E_EXISTS, "domain", "end that one with virsh, or rename it",
			     "VM %s: libvirt on node %s runs a domain of this name", m->name, n->name);
	if (strlen(n->run_dir) > RUN_DIR_MAX)
		problems_add(p, HCI_E_RANGE, "run directory", "start the node service with a shorter one",
			     "%.100s is too long for sockets: at most %u bytes", n->run_dir, RUN_DIR_MAX);
	needs->memory_bytes = m->rec.memory_bytes;
	needs->kernel = m->rec.kernel;
	needs->initrd = m->rec.initrd;
	needs->usb = m->rec.nusb;
	needs->node = n->name;
	vm_compute_preflight(n, needs, p);
	if (rc && rc != HCI_E_NOTFOUND && !lists(p, "libvirt"))
		problems_add(p, rc, "libvirt", "see the log of libvirtd there", "%s", err.message);
	check_volumes(n, &m->rec, p);
}

/* ---- the source ---- */

void handover_needs_pack(const struct compute_needs *n, struct buf *b)
{
	pk_kv_bool(b, "kvm", n->kvm);
	pk_kv_bool(b, "postcopy", n->postcopy);
	pk_kv_str(b, "machine", n->machine);
	pk_kv_str(b, "arch", n->arch);
	pk_kv_str(b, "emulator", n->emulator);
	pk_kv_str(b, "cpu", n->cpu);
	pk_str(b, "ports");
	pk_array(b, n->nports);
	for (uint32_t i = 0; i < n->nports; i++) {
		pk_map(b, 2);
		pk_kv_str(b, "bridge", n->ports[i].bridge);
		pk_kv_u64(b, "mtu", n->ports[i].mtu);
	}
}

static void read_port(struct compute_needs *n, struct rd *r)
{
	struct bridge_port p = { 0 };
	uint32_t pairs = rd_map(r);

	while (pairs-- && !r->bad) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "bridge"))
			rd_strcpy(r, p.bridge, sizeof(p.bridge));
		else if (rd_is(k, "mtu"))
			p.mtu = rd_u32(r);
		else
			rd_skip(r);
	}
	if (r->bad || n->nports == ARRAY_SIZE(n->ports) || !ether_if_name(p.bridge))
		r->bad = true;
	else
		n->ports[n->nports++] = p;
}

static void read_ports(struct compute_needs *n, struct rd *r)
{
	uint32_t count = rd_array(r);

	for (n->nports = 0; count && !r->bad; count--)
		read_port(n, r);
}

bool handover_needs_read(struct compute_needs *n, struct rd_key k, struct rd *r)
{
	if (rd_is(k, "kvm"))
		n->kvm = rd_bool(r);
	else if (rd_is(k, "postcopy"))
		n->postcopy = rd_bool(r);
	else if (rd_is(k, "machine"))
		rd_strcpy(r, n->machine, sizeof(n->machine));
	else if (rd_is(k, "arch"))
		rd_strcpy(r, n->arch, sizeof(n->arch));
	else if (rd_is(k, "emulator"))
		rd_strcpy(r, n->emulator, sizeof(n->emulator));
	else if (rd_is(k, "cpu"))
		rd_strcpy(r, n->cpu, sizeof(n->cpu));
	else if (rd_is(k, "ports"))
		read_ports(n, r);
	else
		return false;
	return true;
}

static int read_list(struct problems *p, struct rd *r)
{
	uint32_t n = rd_map(r);

	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "problems"))
			(void)problems_read(p, r);
		else
			rd_skip(r);
	}
	return r->bad ? HCI_E_PROTO : 0;
}

/* Who reads the list is at neither end. */
static void name_node(struct problems *p, uint32_t from, const char *node)
{
	char why[sizeof(p->v->why)], name[HCI_NAME_MAX + 8];

	snprintf(name, sizeof(name), "node %s", node);
	for (uint32_t i = from; i < p->n; i++) {
		if (strstr(p->v[i].why, name))
			continue;
		snprintf(why, sizeof(why), "%s: %.180s", name, p->v[i].why);
		memcpy(p->v[i].why, why, sizeof(why));
	}
}

static void ask_lacks(struct node *n, const char *vm, const char *to, bool postcopy, struct problems *p)
{
	struct compute_needs *needs = MEM_NEW(struct compute_needs);
	struct buf body = BUF_INIT;
	struct rpc_call call;
	struct hci_error err;
	char what[HCI_NAME_MAX];
	uint32_t from = p->n;
	int rc = needs ? vm_compute_needs(n, vm, needs, &err) : err_set(&err, HCI_E_NOMEM, "out of memory");

	if (rc == HCI_E_NOTFOUND)
		rc = 0; /* told already; the rest of the list is told all the same */
	snprintf(what, sizeof(what), "node %.58s", to);
	if (!rc) {
		needs->postcopy = postcopy;
		pk_map(&body, 8);
		pk_kv_str(&body, "vm", vm);
		handover_needs_pack(needs, &body);
		rc = handover_call(n, to, HO_LACKS, &body, LACKS_TIME, &call, &err);
		if (!rc && read_list(p, &call.reply))
			rc = err_set(&err, HCI_E_PROTO, "it answers nonsense");
		name_node(p, from, to);
		rpc_call_free(&call);
	}
	mem_free(needs);
	if (rc)
		problems_add(p, rc, what, "see its node service's log; it needs the same libhci, started with libvirt", "%s",
			     err.message);
}

static void check_moves(struct node *n, const char *vm, struct problems *p)
{
	struct nvm *m = nvm_find(n, vm);
	const char *id = vm_moves_by(n, vm);
	char cure[160];

	snprintf(cure, sizeof(cure), "wait for its end, or hcictl job cancel %.63s", id ? id : "");
	if (id)
		problems_add(p, HCI_E_BUSY, "VM", cure, "it is being migrated: job %s", id);
	else if (m && (m->out || m->in))
		problems_add(p, HCI_E_STATE, "VM", "wait for its end", "it is being migrated");
}

void handover_problems(struct node *n, const char *vm, const char *to, bool postcopy, bool job, struct problems *p)
{
	char what[HCI_NAME_MAX];
	bool alive = core_alive(n->core, to);

	snprintf(what, sizeof(what), "node %.58s", to);
	if (!strcmp(to, n->name))
		problems_add(p, HCI_E_INVAL, what, "name another node", "VM %s is there already", vm);
	else if (!core_node(n->core, to))
		problems_add(p, HCI_E_NOTFOUND, what, "see hcictl node list", "it is not known");
	else if (!alive)
		problems_add(p, HCI_E_UNAVAILABLE, what, "start its node service, or choose another node", "it is not alive");
	if (!n->o.compute) {
		problems_add(p, HCI_E_UNSUPPORTED, "libvirt", "start the node service with libvirt", "node %s runs no VMs", n->name);
		return;
	}
	if (!job)
		check_moves(n, vm, p);
	vm_compute_may_leave(n, vm, !job, p);
	/* A job that has nothing against it hears of these from PREPARE. */
	if (alive && strcmp(to, n->name) && (!job || p->n))
		ask_lacks(n, vm, to, postcopy, p);
}

/* ---- the question ---- */

struct question {
	struct node *n;
	struct rpc_req *req;
	char vm[HCI_NAME_MAX], to[HCI_NAME_MAX];
	bool postcopy;
};

static void check_fiber(void *arg)
{
	struct question *q = arg;
	struct node *n = q->n;
	struct problems p = { 0 };
	struct buf reply = BUF_INIT;
	bool failed;

	handover_problems(n, q->vm, q->to, q->postcopy, false, &p);
	pk_map(&reply, 1);
	problems_pack(&p, &reply);
	failed = p.failed || reply.failed;
	rpc_reply(q->req, failed ? HCI_E_NOMEM : 0, NULL, failed ? NULL : &reply, NULL, 0, NULL, NULL);
	buf_free(&reply);
	problems_free(&p);
	mem_free(q);
	vm_fiber_end(n);
}

static void on_check(void *arg, struct rpc_req *req)
{
	struct node_vm_state *s = arg;
	struct question *q = MEM_NEW(struct question);
	uint32_t pairs = rd_map(&req->args);

	while (q && pairs--) {
		struct rd_key k = rd_key(&req->args);

		if (rd_is(k, "vm"))
			rd_strcpy(&req->args, q->vm, sizeof(q->vm));
		else if (rd_is(k, "to"))
			rd_strcpy(&req->args, q->to, sizeof(q->to));
		else if (rd_is(k, "postcopy"))
			q->postcopy = rd_bool(&req->args);
		else
			rd_skip(&req->args);
	}
	if (!q || req->args.bad || name_check(q->vm, "VM", NULL) || name_check(q->to, "node", NULL)) {
		rpc_reply(req, q ? HCI_E_PROTO : HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(q);
		return;
	}
	q->n = s->n;
	q->req = req;
	if (vm_fiber(s->n, check_fiber, q, "vm-check")) {
		rpc_reply(req, HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(q);
	}
}

int handover_check_register(struct node *n, struct hci_error *err)
{
	return rpc_register(core_rpc(n->core), HO_CHECK, on_check, n->vms) ?
		       err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name) : 0;
}

int handover_ask(struct core *c, const char *node, const char *vm, const char *to, bool postcopy, struct problems *p,
		 struct hci_error *err)
{
	struct rpc_call call = { .method = HO_CHECK, .timeout_ns = CHECK_TIME };
	struct rpc_conn *conn = rpc_peers_get(core_peers(c), node, err);
	int rc;

	if (!conn)
		return err_prefix(err, "VM %s: its node %s", vm, node);
	pk_map(&call.body, 3);
	pk_kv_str(&call.body, "vm", vm);
	pk_kv_str(&call.body, "to", to);
	pk_kv_bool(&call.body, "postcopy", postcopy);
	rc = rpc_call_wait(conn, &call);
	rpc_conn_unref(conn);
	if (rc)
		err_copy(err, &call.err, rc);
	else if (read_list(p, &call.reply))
		rc = err_set(err, HCI_E_PROTO, "it answers nonsense");
	rpc_call_free(&call);
	return rc ? err_prefix(err, "VM %s: its node %s", vm, node) : 0;
}
