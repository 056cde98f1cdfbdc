/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Membership: the node's record, its heartbeat lease, and the start and end of the other parts of the
 * service. The lease is the heartbeat: alive/<name> is there as long as the node renews it.
 */
#include "cluster/node_impl.h"

#include <hci/version.h>

#include "base/names.h"
#include "compute/hypervisor.h"

#define HEARTBEAT (2 * NS_PER_S)
#define LEASES 20 /* that may end before what is to hang on them is there, where the store is slow */

int node_fiber(struct node *n, void (*fn)(void *arg), const char *name)
{
	int rc;

	n->fibers++;
	rc = fiber_spawn(n->e, fn, n, name);
	if (rc)
		n->fibers--;
	return rc;
}

const char *node_address(const struct node *n)
{
	return rpc_listen_addr(core_rpc(n->core));
}

static uint64_t lease_ttl(const struct node *n)
{
	return 3 * n->o.heartbeat_ns;
}

/* What the node's record is to be, at which revision it is now (0: none), and whether there is anything to write. */
static int next_record(struct node *n, struct rec_node *r, uint64_t *rev, bool *changed, struct hci_error *err)
{
	char key[REC_KEY];
	uint8_t rnd[16];
	int rc;

	key_node(key, n->name);
	rc = rec_node_get(core_store(n->core), key, r, rev, err);
	if (rc == HCI_E_NOTFOUND) {
		memset(r, 0, sizeof(*r));
		snprintf(r->name, sizeof(r->name), "%s", n->name);
		env_random(n->e, rnd, sizeof(rnd));
		uuid_from_random(&r->uuid, rnd);
		r->wanted = REC_NODE_UP;
		*rev = 0;
		rc = 0;
	}
	*changed = !rc && strcmp(r->addr, node_address(n)) != 0;
	snprintf(r->addr, sizeof(r->addr), "%s", node_address(n));
	return rc;
}

/* alive/<name>, which was at revision rev, under a new lease, and the record where it changes: both or neither. */
static int write_alive(struct node *n, const struct rec_alive *a, uint64_t rev, struct hci_error *err)
{
	struct rec_node *r = MEM_NEW(struct rec_node);
	struct buf ab = BUF_INIT, nb = BUF_INIT;
	char akey[REC_KEY], nkey[REC_KEY];
	bool changed = false;
	uint64_t nrev = 0, lease = 0;
	int rc = r ? next_record(n, r, &nrev, &changed, err) : err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);

	key_alive(akey, n->name);
	key_node(nkey, n->name);
	if (!rc && (rec_alive_encode(a, &ab) || rec_node_encode(r, &nb)))
		rc = err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	/* Last, as its time is running from here on. */
	if (!rc)
		rc = store_lease_grant(core_store(n->core), lease_ttl(n), &lease, err);
	if (!rc) {
		struct store_cmp cmp[] = { { STORE_CMP_MOD_REV, akey, rev }, { STORE_CMP_MOD_REV, nkey, nrev } };
		struct store_op op[] = { { STORE_PUT, akey, ab.data, (uint32_t)ab.len, lease },
					 { STORE_PUT, nkey, nb.data, (uint32_t)nb.len, 0 } };

		rc = store_txn(core_store(n->core), cmp, changed ? 2 : 1, op, changed ? 2 : 1, NULL, err);
		if (rc)
			(void)store_lease_revoke(core_store(n->core), lease, NULL);
		else
			n->lease = lease;
	}
	buf_free(&ab);
	buf_free(&nb);
	mem_free(r);
	return rc;
}

/*
 * alive/<name> under a new lease, and with it the node's record: a start that is refused has changed nothing. An entry of ours from
 * before a crash is taken over: only one process can listen on the address in it.
 */
static int join_once(struct node *n, struct hci_error *err)
{
	struct rec_alive a = { 0 }, old;
	char key[REC_KEY];
	uint64_t rev = 0;
	int rc;

	snprintf(a.addr, sizeof(a.addr), "%s", node_address(n));
	snprintf(a.version, sizeof(a.version), "%s", HCI_VERSION_STRING);
	a.nonce = n->nonce;
	a.started_at = env_realtime(n->e);
	key_alive(key, n->name);
	rc = rec_alive_get(core_store(n->core), key, &old, &rev, err);
	if (!rc && old.nonce != n->nonce && strcmp(old.addr, a.addr))
		return err_set(err, HCI_E_BUSY, "node %s: alive at %s already: stop it there, or choose another name",
			       n->name, old.addr);
	if (rc && rc != HCI_E_NOTFOUND)
		return rc;
	return write_alive(n, &a, rev, err);
}

/* The lease of our last life may end between the look and the transaction; or the new one before the transaction gets there. */
static int join(struct node *n, struct hci_error *err)
{
	unsigned left = LEASES;
	int rc;

	do
		rc = join_once(n, err);
	while ((rc == HCI_E_CONFLICT || (rc == HCI_E_FENCED && --left)) && !n->stopping);
	return rc;
}

static void heartbeat_fiber(void *arg)
{
	struct node *n = arg;
	struct hci_error err;

	while (!n->stopping) {
		uint64_t next = env_now(n->e) + n->o.heartbeat_ns;
		int rc;

		while (!n->stopping && env_now(n->e) < next)
			fiber_cond_wait_until(n->e, &n->wake, next);
		if (n->stopping)
			break;
		rc = store_lease_keepalive(core_store(n->core), n->lease, &err);
		if (rc == HCI_E_NOTFOUND)
			rc = join(n, &err);
		if (rc)
			log_warn(env_log(n->e), "node %s: no heartbeat: %s", n->name, err.message);
	}
	node_fiber_end(n);
}

static void on_record(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	struct node *n = container_of(w, struct node, watcher);
	struct uuid deleted;

	(void)value;
	(void)len;
	(void)revision;
	if (!key || !strncmp(key, PREFIX_VM, strlen(PREFIX_VM)) || !strncmp(key, PREFIX_VMRUN, strlen(PREFIX_VMRUN)) ||
	    !strncmp(key, PREFIX_JOB, strlen(PREFIX_JOB)))
		node_vm_changed(n, key);
	if (!key || !strncmp(key, PREFIX_DISK, strlen(PREFIX_DISK)))
		fiber_cond_signal(n->e, &n->wake);
	if (!key || key_parse_uuid(key, "tomb/", &deleted))
		node_disk_deleted(n, key ? &deleted : NULL);
}

static int check_opts(const struct node_opts *o, struct core *c, struct hci_error *err)
{
	int rc = name_check(o->name, "node", err);

	if (rc)
		return rc;
	if (strcmp(o->name, core_self(c)))
		return err_set(err, HCI_E_INVAL,
			       "node %s: the cluster was opened as %s: open it with the node's name and certificate", o->name,
			       core_self(c));
	return 0;
}

int node_start(struct core *c, const struct node_opts *o, struct node **out, struct hci_error *err)
{
	struct node *n;
	int rc = check_opts(o, c, err);

	*out = NULL;
	if (rc)
		return rc;
	n = MEM_NEW(struct node);
	if (!n)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", o->name);
	n->core = c;
	n->e = core_env(c);
	n->o = *o;
	if (!n->o.heartbeat_ns)
		n->o.heartbeat_ns = HEARTBEAT;
	if (!n->o.hypervisor)
		n->o.hypervisor = &hypervisor_libvirt;
	snprintf(n->name, sizeof(n->name), "%s", o->name);
	snprintf(n->run_dir, sizeof(n->run_dir), "%s", o->run_dir ? o->run_dir : "");
	list_init(&n->disks);
	list_init(&n->watcher.link);
	fiber_cond_init(&n->wake);
	env_random(n->e, &n->nonce, sizeof(n->nonce));
	rc = rpc_listen(core_rpc(c), o->listen, err);
	if (!rc)
		rc = join(n, err);
	if (!rc) {
		n->joined = true;
		n->service = repl_service_new(n->e, core_rpc(c));
		if (!n->service)
			rc = err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	}
	if (!rc) {
		repl_service_peers(n->service, core_peers(c));
		repl_service_share(n->service, o->copy_depth);
	}
	if (!rc)
		rc = node_fiber(n, heartbeat_fiber, "node-heartbeat");
	if (!rc)
		rc = node_disk_start(n);
	if (!rc)
		rc = node_vm_start(n, err);
	if (!rc)
		rc = node_job_start(n);
	if (!rc && !o->no_repair)
		rc = node_repair_start(n);
	if (!rc)
		rc = node_reconf_start(n);
	if (rc) {
		node_stop(n);
		return rc == HCI_E_NOMEM ? err_set(err, rc, "node: out of memory") : rc;
	}
	n->watcher.fn = on_record;
	core_watch(c, &n->watcher);
	*out = n;
	return 0;
}

void node_stop(struct node *n)
{
	if (!n)
		return;
	node_vm_settle(n);
	n->stopping = true;
	core_unwatch(n->core, &n->watcher);
	node_vm_stop(n);
	fiber_cond_signal(n->e, &n->wake);
	fiber_cond_signal(n->e, core_changed(n->core));
	while (n->fibers)
		fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + 20 * NS_PER_MS);
	node_disk_stop(n);
	if (n->service)
		repl_service_free(n->service);
	if (n->lease)
		(void)store_lease_revoke(core_store(n->core), n->lease, NULL);
	mem_free(n);
}
