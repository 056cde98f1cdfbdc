/* SPDX-License-Identifier: Apache-2.0 */
/* hci/node.h: the node service in this process, and the nodes of the cluster. */
#include "api/api_impl.h"

#include <hci/vm.h>

#include "cluster/node.h"
#include "compute/compute.h"

#define GUEST_INDEX_MIB 64u      /* unless told otherwise: 16 GiB of guests */
#define GUEST_INDEX_MIB_MAX 65536u

struct hci_node {
	hci_cluster *c;
	struct node *node;
	struct compute *compute;
	char address[REC_PATH_MAX];
};

struct start_args {
	hci_node *h;
	const struct hci_node_opts *o;
};

static uint64_t guest_index(uint32_t mib)
{
	return mib == HCI_GUEST_INDEX_OFF ? 0 : (mib ? mib : GUEST_INDEX_MIB) * MiB;
}

static int start_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct start_args *a = arg;
	struct node_opts o = {
		.name = a->o->name,
		.listen = a->o->listen,
		.run_dir = a->o->run_dir ? a->o->run_dir : "/run/hci",
		.heartbeat_ns = (uint64_t)a->o->heartbeat_ms * NS_PER_MS,
		.compute = a->h->compute,
		.copy_depth = a->o->copy_depth,
		.ram_disks = a->o->ram_disks,
		.guest_index = guest_index(a->o->guest_index_mib),
	};
	int rc = node_start(c->core, &o, &a->h->node, err);

	if (!rc)
		API_TEXT(a->h->address, node_address(a->h->node));
	return rc;
}

static int stop_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	hci_node *h = arg;

	(void)c;
	(void)err;
	node_stop(h->node);
	return 0;
}

static int check_opts(const struct hci_node_opts *o, struct hci_error *err)
{
	if (!o->name || !o->listen)
		return err_set(err, HCI_E_INVAL, "node: %s is missing", o->name ? "listen" : "name");
	if (o->heartbeat_ms && (o->heartbeat_ms < 50 || o->heartbeat_ms > 60000))
		return err_set(err, HCI_E_INVAL, "node %s: heartbeat of %u ms is not in 50..60000", o->name, o->heartbeat_ms);
	if (o->ram_disks > 1)
		return err_set(err, HCI_E_INVAL, "node %s: ram_disks %u is not known", o->name, o->ram_disks);
	if (o->guest_index_mib > GUEST_INDEX_MIB_MAX && o->guest_index_mib != HCI_GUEST_INDEX_OFF)
		return err_set(err, HCI_E_INVAL, "node %s: %u MiB to know guests' pages are more than %u", o->name, o->guest_index_mib,
			       GUEST_INDEX_MIB_MAX);
	if (o->copy_depth > 256)
		return err_set(err, HCI_E_INVAL, "node %s: copy depth of %u is not in 1..256", o->name, o->copy_depth);
	return name_check(o->name, "node", err);
}

int hci_node_start(hci_node **out, hci_cluster *cluster, const struct hci_node_opts *opts, struct hci_error *err)
{
	static const struct hci_node_opts defaults = HCI_NODE_OPTS_INIT;
	struct hci_node_opts o;
	struct start_args a = { .o = &o };
	int rc;

	if (!out || !cluster)
		return api_null(out ? "cluster" : "out", err);
	*out = NULL;
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_node_opts, libvirt_uri),
		       "hci_node_opts", err);
	if (!rc)
		rc = opts_reserved(o.reserved, "hci_node_opts", err);
	if (!rc)
		rc = check_opts(&o, err);
	if (rc)
		return rc;
	a.h = MEM_NEW(hci_node);
	if (!a.h)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", o.name);
	a.h->c = hci_cluster_ref(cluster);
	if (o.libvirt_uri) {
		struct compute_opts co = { .uri = o.libvirt_uri, .log = *env_log(cluster->env) };

		rc = compute_open(&co, &a.h->compute, err);
	}
	if (!rc)
		rc = api_call(cluster, start_on_loop, &a, err);
	if (rc) {
		compute_close(a.h->compute);
		hci_cluster_unref(cluster);
		mem_free(a.h);
		return rc;
	}
	*out = a.h;
	return 0;
}

void hci_node_stop(hci_node *h)
{
	if (!h)
		return;
	(void)api_call(h->c, stop_on_loop, h, NULL);
	compute_close(h->compute);
	hci_cluster_unref(h->c);
	mem_free(h);
}

const char *hci_node_address(const hci_node *h)
{
	return h->address;
}

/* ---- the nodes of the cluster ---- */

struct list_args {
	struct api_list l;
	hci_cluster *c;
	struct rec_list vms;
	int rc;
	struct hci_error *err;
};

struct count {
	const char *node;
	uint32_t n;
};

static bool count_disk(void *arg, const struct rec_disk *d)
{
	struct count *x = arg;

	x->n += d->state != REC_DISK_REMOVED && !strcmp(d->node, x->node);
	return true;
}

static bool list_one(void *arg, const struct rec_node *n)
{
	struct list_args *a = arg;
	const struct rec_alive *alive = core_alive(a->c->core, n->name);
	struct count disks = { .node = n->name };
	struct hci_node_info i = { 0 };

	API_TEXT(i.name, n->name);
	API_TEXT(i.address, alive ? alive->addr : n->addr);
	i.state = !alive ? HCI_NODE_DOWN : n->wanted == REC_NODE_MAINTENANCE ? HCI_NODE_MAINTENANCE : HCI_NODE_ALIVE;
	if (alive) {
		API_TEXT(i.version, alive->version);
		i.started_at = alive->started_at;
	}
	core_each_disk(a->c->core, count_disk, &disks);
	i.disks = disks.n;
	i.migrations = n->migrations;
	i.migrate_bandwidth = n->migrate_bandwidth;
	for (size_t k = 0; k < a->vms.n; k++)
		i.vms += !strcmp(REC_AT(&a->vms, k, struct rec_vmrun)->node, n->name);
	a->rc = api_list_add(&a->l, &i, sizeof(i), a->err);
	return !a->rc;
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct list_args *a = arg;
	int rc = rec_vmrun_list(c->store, PREFIX_VMRUN, &a->vms, err);

	if (rc)
		return rc;
	a->c = c;
	a->err = err;
	core_each_node(c->core, list_one, a);
	rec_list_free(&a->vms);
	return a->rc;
}

int hci_node_list(hci_cluster *c, struct hci_node_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct list_args a = { 0 };

	return api_list_call(c, list_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_node_info), err);
}

struct limit_args {
	const char *name;
	struct hci_node_limits l;
};

static int limit_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct limit_args *a = arg;
	struct rec_node r;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	key_node(key, a->name);
	rc = rec_node_get(c->store, key, &r, &rev, err);
	if (rc)
		return rc == HCI_E_NOTFOUND ? api_none("node", "node", a->name, err) : rc;
	r.migrations = a->l.migrations;
	r.migrate_bandwidth = a->l.migrate_bandwidth;
	rc = rec_node_put(c->store, key, &r, rev, 0, NULL, err);
	return rc ? err_prefix(err, "node %s", a->name) : 0;
}

int hci_node_limit(hci_cluster *c, const char *name, const struct hci_node_limits *limits, struct hci_error *err)
{
	static const struct hci_node_limits defaults = HCI_NODE_LIMITS_INIT;
	struct limit_args a = { .name = name };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = opts_take(&a.l, &defaults, sizeof(a.l), limits, OPTS_UP_TO(struct hci_node_limits, migrate_bandwidth),
		       "hci_node_limits", err);
	if (!rc)
		rc = name_check(name, "node", err);
	if (!rc && a.l.migrations > 64)
		rc = err_set(err, HCI_E_INVAL, "node %s: %u migrations at a time are not in 1..64", name, a.l.migrations);
	return rc ? rc : api_call(c, limit_on_loop, &a, err);
}

static int remove_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const char *name = arg;
	struct count disks = { .node = name };
	char key[REC_KEY];

	if (!core_node(c->core, name))
		return api_none("node", "node", name, err);
	if (core_alive(c->core, name))
		return err_set(err, HCI_E_STATE, "node %s: it is alive: stop its service first", name);
	core_each_disk(c->core, count_disk, &disks);
	if (disks.n)
		return err_set(err, HCI_E_STATE, "node %s: it has %u disks: remove them first", name, disks.n);
	key_node(key, name);
	return rec_delete(c->store, key, REC_REV_ANY, NULL, err);
}

int hci_node_remove(hci_cluster *c, const char *name, struct hci_error *err)
{
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "node", err);
	return rc ? rc : api_call_fresh(c, remove_on_loop, (void *)(uintptr_t)name, err);
}
