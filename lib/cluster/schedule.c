/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot that scheduler policies decide from: nodes, what runs on them, where the VM's data are.
 * Memory of a node is not known to the store yet: then only what is promised counts.
 */
#include "cluster/schedule.h"

#include "cluster/core_impl.h"

struct snap {
	struct core *c;
	struct hci_scheduler_node *nodes;
	uint32_t n, cap;
	bool failed;
};

static bool add_node(void *arg, const struct rec_node *r)
{
	struct snap *x = arg;
	struct hci_scheduler_node *s;

	if (x->n == x->cap) {
		uint32_t cap = x->cap ? x->cap * 2 : 16;

		s = mem_realloc(x->nodes, cap * sizeof(*s));
		if (!s) {
			x->failed = true;
			return false;
		}
		x->nodes = s;
		x->cap = cap;
	}
	s = &x->nodes[x->n++];
	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", r->name);
	if (!core_alive(x->c, r->name))
		snprintf(s->why_not, sizeof(s->why_not), "the node is down");
	else if (r->wanted == REC_NODE_MAINTENANCE)
		snprintf(s->why_not, sizeof(s->why_not), "the node is in maintenance");
	else
		s->usable = 1;
	return true;
}

static struct hci_scheduler_node *find(struct snap *x, const char *name)
{
	for (uint32_t i = 0; i < x->n; i++)
		if (!strcmp(x->nodes[i].name, name))
			return &x->nodes[i];
	return NULL;
}

/* What runs where, by the leases of running VMs. */
static int add_vms(struct snap *x, struct hci_error *err)
{
	struct rec_list vms = { 0 }, runs = { 0 };
	int rc = rec_vm_list(x->c->o.store, PREFIX_VM, &vms, err);

	if (!rc)
		rc = rec_vmrun_list(x->c->o.store, PREFIX_VMRUN, &runs, err);
	for (size_t i = 0; !rc && i < runs.n; i++) {
		const char *vm = key_tail(runs.keys[i], PREFIX_VMRUN);
		struct hci_scheduler_node *s = find(x, REC_AT(&runs, i, struct rec_vmrun)->node);

		for (size_t k = 0; s && k < vms.n; k++) {
			const struct rec_vm *v = REC_AT(&vms, k, struct rec_vm);

			if (strcmp(v->name, vm))
				continue;
			s->vms++;
			s->vcpus += v->vcpus;
		}
	}
	rec_list_free(&vms);
	rec_list_free(&runs);
	return rc;
}

/* Bytes of the VM's volumes with a copy on each node: segments there, times their size. */
static int add_local(struct snap *x, const struct rec_vm *vm, uint64_t *volume_bytes, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	char key[REC_KEY];
	struct uuid id;
	int rc = m && v ? 0 : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", vm->name);

	for (uint32_t d = 0; !rc && d < vm->ndisks; d++) {
		rc = vol_lookup(&x->c->vol_ctx, vm->disks[d].volume, &id, v, err);
		if (rc)
			break;
		*volume_bytes += v->size;
		for (uint32_t ch = 0; !rc && ch * REC_VOLMAP_CHUNK * v->segment_size < v->size; ch++) {
			key_volmap(key, &id, ch);
			rc = rec_volmap_get(x->c->o.store, key, m, NULL, err);
			for (uint32_t i = 0; !rc && i < m->n; i++)
				for (uint32_t k = 0; k < m->seg[i].n; k++) {
					const struct rec_disk *disk = core_disk(x->c, &m->seg[i].r[k].disk);
					struct hci_scheduler_node *s = disk ? find(x, disk->node) : NULL;

					if (s)
						s->local_bytes += v->segment_size;
				}
		}
	}
	mem_free(m);
	mem_free(v);
	return rc;
}

static const struct rec_bridge *bridge(const struct rec_nodenet *r, const char *name)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (!strcmp(r->bridges[i].name, name))
			return &r->bridges[i];
	return NULL;
}

/* A node that does not tell all of its bridges, or nothing (it runs no VMs, or has just begun), may have it. */
static void check_nic(struct hci_scheduler_node *s, const struct rec_nodenet *r, const struct rec_vm_nic *nic)
{
	const struct rec_bridge *b = bridge(r, nic->bridge);

	if (!s->usable || (!b && r->more) || (b && b->mtu >= nic->mtu))
		return;
	s->usable = 0;
	if (b)
		snprintf(s->why_not, sizeof(s->why_not), "its bridge %s has an MTU of %u, an interface needs %u", nic->bridge, b->mtu, nic->mtu);
	else
		snprintf(s->why_not, sizeof(s->why_not), "it has no bridge %s", nic->bridge);
}

static int check_nics(struct snap *x, const struct rec_vm *vm, struct hci_error *err)
{
	struct rec_list nets = { 0 };
	int rc = vm->nnics ? rec_nodenet_list(x->c->o.store, PREFIX_NODENET, &nets, err) : 0;

	for (size_t k = 0; !rc && k < nets.n; k++) {
		struct hci_scheduler_node *s = find(x, key_tail(nets.keys[k], PREFIX_NODENET));

		for (uint32_t i = 0; s && i < vm->nnics; i++)
			check_nic(s, REC_AT(&nets, k, struct rec_nodenet), &vm->nics[i]);
	}
	if (!rc)
		rec_list_free(&nets);
	return rc;
}

static int give(const struct snap *x, char (*reasons)[256], const double *scores, struct core_vm_candidate **out, size_t *n,
		struct hci_error *err)
{
	struct core_vm_candidate *e = mem_calloc(x->n, sizeof(*e));

	if (!e)
		return err_set(err, HCI_E_NOMEM, "scheduler: out of memory");
	for (uint32_t i = 0; i < x->n; i++) {
		snprintf(e[i].node, sizeof(e[i].node), "%s", x->nodes[i].name);
		e[i].score = scores[i];
		snprintf(e[i].reason, sizeof(e[i].reason), "%s", reasons[i][0] ? reasons[i] : x->nodes[i].why_not);
	}
	*out = e;
	*n = x->n;
	return 0;
}

int core_schedule(struct core *c, const char *policy, const char *name, char node[HCI_NAME_MAX],
		  struct core_vm_candidate **out, size_t *n, struct hci_error *err)
{
	struct hci_scheduler_request r = { .size = sizeof(r) };
	struct hci_scheduler_snapshot s = { .size = sizeof(s), .node_stride = sizeof(struct hci_scheduler_node) };
	struct snap x = { .c = c };
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	struct rec_vmrun run;
	struct policy *p = NULL;
	char(*reasons)[256] = NULL;
	double *scores = NULL;
	char key[REC_KEY];
	uint32_t at = UINT32_MAX;
	int rc;

	node[0] = '\0';
	if (!vm)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", name);
	key_vm(key, name);
	rc = rec_vm_get(c->o.store, key, vm, NULL, err);
	if (!rc)
		rc = core_policy_get(c, policy && *policy ? policy : "balance", &p, err);
	if (!rc) {
		core_each_node(c, add_node, &x);
		rc = x.failed ? err_set(err, HCI_E_NOMEM, "VM %s: out of memory", name) : add_vms(&x, err);
	}
	if (!rc)
		rc = add_local(&x, vm, &r.volume_bytes, err);
	if (!rc)
		rc = check_nics(&x, vm, err);
	if (!rc && !x.n)
		rc = err_set(err, HCI_E_NOPLACE, "VM %s: the cluster has no nodes", name);
	if (!rc) {
		reasons = mem_calloc(x.n, sizeof(*reasons));
		scores = mem_calloc(x.n, sizeof(*scores));
		if (!reasons || !scores)
			rc = err_set(err, HCI_E_NOMEM, "VM %s: out of memory", name);
	}
	if (!rc) {
		s.nnodes = x.n;
		s.nodes = x.nodes;
		r.vcpus = vm->vcpus;
		r.memory = vm->memory_bytes;
		memcpy(&r.seed, vm->uuid.b, sizeof(r.seed));
		snprintf(r.vm, sizeof(r.vm), "%s", name);
		key_vmrun(key, name);
		if (!rec_vmrun_get(c->o.store, key, &run, NULL, NULL))
			snprintf(r.current, sizeof(r.current), "%s", run.node);
		rc = policy_schedule(p, &s, &r, &at, reasons, scores, err);
		if (!rc)
			snprintf(node, HCI_NAME_MAX, "%s", x.nodes[at].name);
		/* Asked for reasons, "nowhere" is an answer. */
		if (out && (!rc || rc == HCI_E_NOPLACE))
			rc = give(&x, reasons, scores, out, n, err);
	}
	mem_free(reasons);
	mem_free(scores);
	mem_free(x.nodes);
	mem_free(vm);
	return rc;
}
