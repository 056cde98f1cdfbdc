/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing where copies are, of hci/volume.h, hci/disk.h, hci/node.h and hci/pool.h: checks what is wanted, and makes
 * the job that some node does (lib/cluster/node_reconf.c).
 */
#include "api/job.h"

#include "cluster/plan.h"
#include "cluster/reconf_jobs.h"

struct set_args {
	const char *name;
	struct hci_volume_set_opts o;
	char id[HCI_NAME_MAX];
};

/* One at a time: two that want different things of one object would never end. */
static int check_free(hci_cluster *c, const char *type, const char *target, struct hci_error *err)
{
	struct rec_list jobs;
	int rc = rec_job_list(c->store, PREFIX_JOB, &jobs, err);

	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < jobs.n; i++) {
		const struct rec_job *j = REC_AT(&jobs, i, struct rec_job);

		if ((j->state == REC_JOB_PENDING || j->state == REC_JOB_RUNNING) && !strcmp(j->type, type) &&
		    !strcmp(j->target, target))
			rc = err_set(err, HCI_E_BUSY, "%s %s: job %s is at it: wait for its end, or cancel it", type, target, j->id);
	}
	rec_list_free(&jobs);
	return rc;
}

/* ---- a volume's replicas and policy ---- */

static int check_place(hci_cluster *c, const struct rec_volume *v, uint32_t replicas, const char *policy, struct hci_error *err)
{
	struct core_explained *e = NULL;
	struct policy *p;
	uint32_t chosen = 0;
	size_t n = 0;
	int rc;

	if (*policy) {
		rc = core_policy_get(c->core, policy, &p, err);
		if (!rc && policy_kind(p) != HCI_POLICY_PLACEMENT)
			rc = err_set(err, HCI_E_INVAL, "volume %s: policy %s is no placement policy", v->name, policy);
		if (rc)
			return rc;
	}
	if (replicas <= v->replicas)
		return 0;
	rc = core_explain(c->core, policy, v->pool, replicas, &e, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		chosen += e[i].rank > 0;
	mem_free(e);
	if (!rc && chosen < replicas)
		rc = err_set(err, HCI_E_NOPLACE,
			     "volume %s: pool %s has no place for %u replicas: add disks on other nodes (hcictl policy explain tells more)",
			     v->name, v->pool, replicas);
	return rc;
}

static int set_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct set_args *a = arg;
	struct rec_volume v;
	char uuid[HCI_UUID_STR], replicas[16], was[16];
	const char *policy;
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, &v, err);

	if (!rc && v.state != REC_VOLUME_READY)
		rc = err_set(err, HCI_E_STATE, "volume %s: it is %s", a->name, rec_volume_state_name(v.state));
	if (rc)
		return rc;
	policy = a->o.policy ? a->o.policy : v.policy;
	rc = check_place(c, &v, a->o.replicas ? a->o.replicas : v.replicas, policy, err);
	if (!rc)
		rc = check_free(c, JOB_VOLUME_SET, v.name, err);
	if (!rc) {
		const char *const args[] = { "uuid", uuid, "replicas", replicas, "policy", policy,
					     "was_replicas", was, "was_policy", v.policy, NULL };

		uuid_print(&id, uuid);
		snprintf(replicas, sizeof(replicas), "%u", a->o.replicas ? a->o.replicas : v.replicas);
		snprintf(was, sizeof(was), "%u", v.replicas);
		rc = core_job_create(c->core, JOB_VOLUME_SET, v.name, NULL, args, a->id, err);
	}
	return rc;
}

int hci_volume_set(hci_cluster *c, const char *name, const struct hci_volume_set_opts *opts, hci_job **job, struct hci_error *err)
{
	static const struct hci_volume_set_opts defaults = HCI_VOLUME_SET_OPTS_INIT;
	struct set_args a = { .name = name };
	int rc;

	if (!c || !name || !opts)
		return api_null(!c ? "c" : !name ? "name" : "opts", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_volume_set_opts, policy), "hci_volume_set_opts",
		       err);
	if (!rc && a.o.replicas > REC_REPLICAS_MAX)
		rc = err_set(err, HCI_E_INVAL, "volume %s: %u replicas: choose 1..%u", name, a.o.replicas, REC_REPLICAS_MAX);
	if (!rc && !a.o.replicas && !a.o.policy)
		rc = err_set(err, HCI_E_INVAL, "volume %s: neither replicas nor policy is to be set", name);
	if (!rc && a.o.policy && *a.o.policy)
		rc = name_check(a.o.policy, "policy", err);
	return rc ? rc : api_job_start(c, set_on_loop, &a, a.id, job, err);
}

/* ---- a volume's copies to a node ---- */

struct move_args {
	const char *name;
	struct hci_volume_move_opts o;
	char id[HCI_NAME_MAX];
};

static int move_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct move_args *a = arg;
	const char *from = a->o.from ? a->o.from : "";
	char uuid[HCI_UUID_STR];
	struct rec_volume v;
	struct plan plan;
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, &v, err);

	if (!rc && v.state != REC_VOLUME_READY)
		rc = err_set(err, HCI_E_STATE, "volume %s: it is %s", a->name, rec_volume_state_name(v.state));
	if (!rc && (!core_node(c->core, a->o.to) || (*from && !core_node(c->core, from))))
		rc = api_none("node", "node", core_node(c->core, a->o.to) ? from : a->o.to, err);
	if (!rc)
		rc = check_free(c, JOB_VOLUME_MOVE, v.name, err);
	if (!rc)
		rc = plan_to_node(c->core, &id, from, a->o.to, &plan, err);
	if (!rc) {
		const char *const args[] = { "uuid", uuid, "from", from, "to", a->o.to, NULL };

		plan_free(&plan);
		uuid_print(&id, uuid);
		rc = core_job_create(c->core, JOB_VOLUME_MOVE, v.name, NULL, args, a->id, err);
	}
	return rc;
}

int hci_volume_move(hci_cluster *c, const char *name, const struct hci_volume_move_opts *opts, hci_job **job, struct hci_error *err)
{
	static const struct hci_volume_move_opts defaults = HCI_VOLUME_MOVE_OPTS_INIT;
	struct move_args a = { .name = name };
	int rc;

	if (!c || !name || !opts)
		return api_null(!c ? "c" : !name ? "name" : "opts", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_volume_move_opts, from), "hci_volume_move_opts",
		       err);
	if (!rc)
		rc = opts_reserved(a.o.reserved, "hci_volume_move_opts", err);
	if (!rc && !a.o.to)
		rc = api_null("opts->to", err);
	if (!rc)
		rc = name_check(a.o.to, "node", err);
	if (!rc && a.o.from)
		rc = name_check(a.o.from, "node", err);
	if (!rc && a.o.from && !strcmp(a.o.from, a.o.to))
		rc = err_set(err, HCI_E_INVAL, "volume %s: from node %s to itself", name, a.o.to);
	return rc ? rc : api_job_start(c, move_on_loop, &a, a.id, job, err);
}

/* ---- disks and nodes that are to be emptied, and used again ---- */

struct object_args {
	const char *name, *pool;
	bool fill_only;
	char id[HCI_NAME_MAX];
};

static int get_disk(hci_cluster *c, const char *prefix, struct rec_disk *r, uint64_t *rev, struct hci_error *err)
{
	char key[REC_KEY];
	struct uuid id;
	int rc = api_disk_find(c, prefix, &id, err);

	key_disk(key, &id);
	return rc ? rc : rec_disk_get(c->store, key, r, rev, err);
}

static int put_disk(hci_cluster *c, const struct rec_disk *r, uint64_t rev, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	key_disk(key, &r->uuid);
	rc = rec_disk_put(c->store, key, r, rev, 0, NULL, err);
	return rc == HCI_E_CONFLICT ? err_set(err, rc, "disk %s of node %s: it changed meanwhile: try again", r->path, r->node) : rc;
}

static int evacuate_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct object_args *a = arg;
	char id[HCI_UUID_STR];
	struct rec_disk r;
	int rc = get_disk(c, a->name, &r, NULL, err);

	if (!rc && r.state != REC_DISK_ONLINE && r.state != REC_DISK_EVACUATING)
		rc = err_set(err, HCI_E_STATE, "disk %s of node %s: it is %s: remove it, and what it held is rebuilt", r.path, r.node,
			     rec_disk_state_name(r.state));
	uuid_print(&r.uuid, id);
	if (!rc)
		rc = check_free(c, JOB_DISK_EVACUATE, id, err);
	if (!rc)
		rc = plan_can_empty(c->core, NULL, &r.uuid, err);
	return rc ? rc : core_job_create(c->core, JOB_DISK_EVACUATE, id, NULL, NULL, a->id, err);
}

int hci_disk_evacuate(hci_cluster *c, const char *uuid, hci_job **job, struct hci_error *err)
{
	struct object_args a = { .name = uuid };
	int rc;

	if (!c || !uuid)
		return api_null(c ? "uuid" : "c", err);
	rc = api_disk_prefix(uuid, err);
	return rc ? rc : api_job_start(c, evacuate_on_loop, &a, a.id, job, err);
}

static int use_on_loop(hci_cluster *c, struct rec_disk *r, uint64_t rev, struct hci_error *err)
{
	char id[HCI_UUID_STR];
	int rc;

	if (r->state != REC_DISK_EVACUATING)
		return 0;
	uuid_print(&r->uuid, id);
	rc = check_free(c, JOB_DISK_EVACUATE, id, err);
	if (rc)
		return rc;
	r->state = REC_DISK_ONLINE;
	r->state_since = env_realtime(c->env);
	r->reason[0] = '\0';
	return put_disk(c, r, rev, err);
}

static int activate_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rec_disk r;
	uint64_t rev;
	int rc = get_disk(c, arg, &r, &rev, err);

	return rc ? rc : use_on_loop(c, &r, rev, err);
}

int hci_disk_activate(hci_cluster *c, const char *uuid, struct hci_error *err)
{
	int rc;

	if (!c || !uuid)
		return api_null(c ? "uuid" : "c", err);
	rc = api_disk_prefix(uuid, err);
	return rc ? rc : api_call_fresh(c, activate_on_loop, (void *)(uintptr_t)uuid, err);
}

static int node_evacuate_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct object_args *a = arg;
	int rc = core_node(c->core, a->name) ? check_free(c, JOB_NODE_EVACUATE, a->name, err)
					     : api_none("node", "node", a->name, err);

	if (!rc)
		rc = plan_can_empty(c->core, a->name, NULL, err);
	return rc ? rc : core_job_create(c->core, JOB_NODE_EVACUATE, a->name, NULL, NULL, a->id, err);
}

int hci_node_evacuate(hci_cluster *c, const char *name, hci_job **job, struct hci_error *err)
{
	struct object_args a = { .name = name };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "node", err);
	return rc ? rc : api_job_start(c, node_evacuate_on_loop, &a, a.id, job, err);
}

struct disks_of {
	const char *node;
	char ids[256][HCI_UUID_STR];
	size_t n;
};

static bool disk_of(void *arg, const struct rec_disk *d)
{
	struct disks_of *x = arg;

	if (!strcmp(d->node, x->node) && d->state == REC_DISK_EVACUATING && x->n < ARRAY_SIZE(x->ids))
		uuid_print(&d->uuid, x->ids[x->n++]);
	return true;
}

static int node_activate_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct disks_of *x = MEM_NEW(struct disks_of);
	struct rec_node r;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!x)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", (const char *)arg);
	x->node = arg;
	key_node(key, x->node);
	rc = rec_node_get(c->store, key, &r, &rev, err);
	if (rc == HCI_E_NOTFOUND)
		api_none("node", "node", x->node, err);
	if (!rc)
		rc = check_free(c, JOB_NODE_EVACUATE, x->node, err);
	if (!rc && r.wanted != REC_NODE_UP) {
		r.wanted = REC_NODE_UP;
		rc = rec_node_put(c->store, key, &r, rev, 0, NULL, err);
	}
	core_each_disk(c->core, disk_of, x);
	for (size_t i = 0; !rc && i < x->n; i++)
		rc = activate_on_loop(c, x->ids[i], err);
	mem_free(x);
	return rc;
}

int hci_node_activate(hci_cluster *c, const char *name, struct hci_error *err)
{
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "node", err);
	return rc ? rc : api_call_fresh(c, node_activate_on_loop, (void *)(uintptr_t)name, err);
}

/* ---- a pool's disks ---- */

static int pool_disk_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct object_args *a = arg;
	struct rec_disk r;
	uint64_t rev, copies = 0;
	int rc = get_disk(c, a->name, &r, &rev, err);

	if (rc)
		return rc;
	if (a->pool && !core_pool(c->core, a->pool))
		return api_none("pool", "pool", a->pool, err);
	if (!strcmp(r.pool, a->pool ? a->pool : ""))
		return 0;
	/* Only what is being evacuated gets nothing new while we look. */
	if (*r.pool && r.state != REC_DISK_EVACUATING)
		return err_set(err, HCI_E_STATE, "disk %s of node %s: it serves pool %s: empty it first with hcictl disk evacuate",
			       r.path, r.node, r.pool);
	rc = *r.pool ? plan_count_copies(c->core, &r.uuid, 1, &copies, err) : 0;
	if (!rc && copies)
		rc = err_set(err, HCI_E_BUSY, "disk %s of node %s: it still has %llu copies: wait for the end of its evacuation",
			     r.path, r.node, (unsigned long long)copies);
	if (rc)
		return rc;
	API_TEXT(r.pool, a->pool ? a->pool : "");
	return r.state == REC_DISK_EVACUATING ? use_on_loop(c, &r, rev, err) : put_disk(c, &r, rev, err);
}

int hci_disk_set_pool(hci_cluster *c, const char *uuid, const char *pool, struct hci_error *err)
{
	struct object_args a = { .name = uuid, .pool = pool };
	int rc;

	if (!c || !uuid)
		return api_null(c ? "uuid" : "c", err);
	rc = api_disk_prefix(uuid, err);
	if (!rc && pool)
		rc = name_check(pool, "pool", err);
	return rc ? rc : api_call_fresh(c, pool_disk_on_loop, &a, err);
}

/* ---- evening out ---- */

static int check_pool(hci_cluster *c, const char *name, struct hci_error *err)
{
	return core_pool(c->core, name) ? 0 : api_none("pool", "pool", name, err);
}

static int balance_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	static const char *const args[] = { JOB_FILL_ONLY, "yes", NULL };
	struct object_args *a = arg;
	int rc = check_pool(c, a->name, err);

	if (!rc)
		rc = check_free(c, JOB_POOL_BALANCE, a->name, err);
	return rc ? rc : core_job_create(c->core, JOB_POOL_BALANCE, a->name, NULL, a->fill_only ? args : NULL, a->id, err);
}

static int balance_opts(const struct hci_pool_balance_opts *opts, struct hci_pool_balance_opts *o, struct hci_error *err)
{
	static const struct hci_pool_balance_opts none = HCI_POOL_BALANCE_OPTS_INIT;
	int rc = opts_take(o, &none, sizeof(*o), opts, OPTS_UP_TO(struct hci_pool_balance_opts, fill_only), "hci_pool_balance_opts", err);

	if (!rc && o->fill_only > 1)
		rc = err_set(err, HCI_E_INVAL, "hci_pool_balance_opts: fill_only is 0 or 1, not %u", o->fill_only);
	return rc;
}

int hci_pool_balance(hci_cluster *c, const char *name, const struct hci_pool_balance_opts *opts, hci_job **job,
		     struct hci_error *err)
{
	struct object_args a = { .name = name };
	struct hci_pool_balance_opts o;
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "pool", err);
	if (!rc)
		rc = balance_opts(opts, &o, err);
	if (!rc)
		a.fill_only = o.fill_only != 0;
	return rc ? rc : api_job_start(c, balance_on_loop, &a, a.id, job, err);
}

struct plan_args {
	const char *name;
	bool fill_only;
	struct hci_pool_balance_info i;
};

static int plan_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct plan_args *a = arg;
	struct plan p;
	int rc = check_pool(c, a->name, err);

	if (!rc)
		rc = plan_balance(c->core, a->name, !a->fill_only, &p, err);
	if (rc)
		return rc;
	a->i.copies = p.n;
	a->i.bytes = p.bytes;
	a->i.most_before = p.most;
	a->i.least_before = p.least;
	a->i.most_after = p.most_after;
	a->i.least_after = p.least_after;
	a->i.load_copies = p.nload;
	a->i.load_most_before = p.load_most;
	a->i.load_least_before = p.load_least;
	a->i.load_most_after = p.load_most_after;
	a->i.load_least_after = p.load_least_after;
	plan_free(&p);
	return 0;
}

int hci_pool_balance_plan(hci_cluster *c, const char *name, const struct hci_pool_balance_opts *opts,
			  struct hci_pool_balance_info *out, uint64_t info_size, struct hci_error *err)
{
	struct plan_args a = { .name = name };
	struct hci_pool_balance_opts o;
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "pool", err);
	if (!rc)
		rc = balance_opts(opts, &o, err);
	if (!rc)
		a.fill_only = o.fill_only != 0;
	if (!rc)
		rc = api_call_fresh(c, plan_on_loop, &a, err);
	return rc ? rc : api_info_out(out, info_size, &a.i, sizeof(a.i), "balance info", err);
}
