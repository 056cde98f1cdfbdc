/* SPDX-License-Identifier: Apache-2.0 */
/* hci/policy.h */
#include "api/api_impl.h"

#include "cluster/schedule.h"

/* ---- add and remove ---- */

struct add_args {
	const char *name, *plugin, *config;
};

struct try_load {
	const struct add_args *a;
	struct policy *p;
	struct hci_error err;
	int rc;
};

static void try_work(void *arg)
{
	struct try_load *t = arg;

	t->rc = policy_load(t->a->name, t->a->plugin, t->a->config, NULL, &t->p, &t->err);
}

static int add_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct try_load *t = MEM_NEW(struct try_load);
	struct rec_policy r = { 0 };
	const struct add_args *a = arg;
	char key[REC_KEY];
	int rc;

	if (!t)
		return err_set(err, HCI_E_NOMEM, "policy %s: out of memory", a->name);
	t->a = a;
	fiber_work(c->env, try_work, t);
	rc = t->rc;
	if (rc)
		err_copy(err, &t->err, rc);
	policy_unref(t->p);
	mem_free(t);
	if (rc)
		return rc;
	API_TEXT(r.name, a->name);
	API_TEXT(r.plugin, a->plugin);
	API_TEXT(r.config, a->config ? a->config : "");
	key_policy(key, a->name);
	rc = rec_policy_put(c->store, key, &r, 0, 0, NULL, err);
	return rc == HCI_E_CONFLICT
		       ? err_set(err, HCI_E_EXISTS, "policy %s: there is one of this name: remove it first", a->name)
		       : rc;
}

int hci_policy_add(hci_cluster *c, const char *name, const char *plugin, const char *config, struct hci_error *err)
{
	struct add_args a = { name, plugin, config };
	int rc;

	if (!c || !name || !plugin)
		return api_null(!c ? "c" : !name ? "name" : "plugin", err);
	rc = name_check(name, "policy", err);
	if (!rc && (strlen(plugin) >= REC_PATH_MAX || (config && strlen(config) >= REC_TEXT_MAX)))
		rc = err_set(err, HCI_E_INVAL, "policy %s: its path or configuration is too long (%u and %u bytes)", name,
			     REC_PATH_MAX - 1, REC_TEXT_MAX - 1);
	return rc ? rc : api_call_fresh(c, add_on_loop, &a, err);
}

struct used {
	const char *name;
	const char *by;
};

static bool pool_uses(void *arg, const struct rec_pool *p)
{
	struct used *u = arg;

	if (!strcmp(p->policy, u->name))
		u->by = p->name;
	return !u->by;
}

static bool is_builtin(const char *name)
{
	char path[REC_PATH_MAX];
	const char *one;

	for (size_t i = 0; (one = core_policy_builtin(i, path, sizeof(path))); i++)
		if (!strcmp(one, name))
			return true;
	return false;
}

static int remove_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct used u = { .name = arg };
	struct rec_list vols;
	char key[REC_KEY];
	int rc;

	if (!core_policy(c->core, u.name) && is_builtin(u.name))
		return err_set(err, HCI_E_STATE, "policy %s: it comes with libhci and is always there: nothing is to be removed", u.name);
	if (!core_policy(c->core, u.name))
		return api_none("policy", "policy", u.name, err);
	core_each_pool(c->core, pool_uses, &u);
	if (u.by)
		return err_set(err, HCI_E_BUSY, "policy %s: pool %s places by it", u.name, u.by);
	rc = rec_volume_list(c->store, PREFIX_VOLUME, &vols, err);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < vols.n; i++)
		if (!strcmp(REC_AT(&vols, i, struct rec_volume)->policy, u.name))
			rc = err_set(err, HCI_E_BUSY, "policy %s: volume %s is placed by it", u.name,
				     REC_AT(&vols, i, struct rec_volume)->name);
	rec_list_free(&vols);
	if (rc)
		return rc;
	key_policy(key, u.name);
	return rec_delete(c->store, key, REC_REV_ANY, NULL, err);
}

int hci_policy_remove(hci_cluster *c, const char *name, struct hci_error *err)
{
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "policy", err);
	return rc ? rc : api_call_fresh(c, remove_on_loop, (void *)(uintptr_t)name, err);
}

/* ---- list ---- */

static int list_add(hci_cluster *c, struct api_list *l, const char *name, const char *plugin, const char *config,
		    struct hci_error *err)
{
	struct hci_policy_info i = { 0 };
	struct hci_error why;
	struct policy *p;

	API_TEXT(i.name, name);
	API_TEXT(i.plugin, plugin);
	API_TEXT(i.config, config);
	if (core_policy_get(c->core, name, &p, &why)) {
		snprintf(i.error, sizeof(i.error), "%.255s", why.message);
	} else {
		i.kind = policy_kind(p);
		API_TEXT(i.plugin_name, policy_plugin_name(p));
		API_TEXT(i.plugin_version, policy_plugin_version(p));
	}
	return api_list_add(l, &i, sizeof(i), err);
}

/* Those that come with libhci up to a name, and not that name: a record stands for it. */
static int list_builtins(hci_cluster *c, struct api_list *l, const char *before, size_t *at, struct hci_error *err)
{
	char path[REC_PATH_MAX];
	const char *name;
	int rc = 0;

	while (!rc && (name = core_policy_builtin(*at, path, sizeof(path))) && (!before || strcmp(name, before) <= 0)) {
		if (!before || strcmp(name, before))
			rc = list_add(c, l, name, path, "", err);
		++*at;
	}
	return rc;
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rec_list recs;
	size_t builtin = 0;
	int rc = rec_policy_list(c->store, PREFIX_POLICY, &recs, err);

	if (rc)
		return rc;
	for (size_t k = 0; !rc && k < recs.n; k++) {
		const struct rec_policy *r = REC_AT(&recs, k, struct rec_policy);

		rc = list_builtins(c, arg, r->name, &builtin, err);
		if (!rc)
			rc = list_add(c, arg, r->name, r->plugin, r->config, err);
	}
	if (!rc)
		rc = list_builtins(c, arg, NULL, &builtin, err);
	rec_list_free(&recs);
	return rc;
}

int hci_policy_list(hci_cluster *c, struct hci_policy_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct api_list l;

	return api_list_call(c, list_on_loop, &l, &l, out, n, info_size, sizeof(struct hci_policy_info), err);
}

/* ---- explain ---- */

struct explain_args {
	struct api_list l;
	const char *policy, *object;
	uint32_t replicas;
};

static int explain_placement(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct explain_args *a = arg;
	struct core_explained *e = NULL;
	size_t n = 0;
	int rc;

	if (!core_pool(c->core, a->object))
		return api_none("pool", "pool", a->object, err);
	rc = core_explain(c->core, a->policy, a->object, a->replicas, &e, &n, err);
	for (size_t k = 0; !rc && k < n; k++) {
		struct hci_policy_candidate i = { 0 };

		uuid_print(&e[k].disk, i.object);
		API_TEXT(i.node, e[k].node);
		API_TEXT(i.reason, e[k].reason);
		i.rank = e[k].rank;
		i.score = e[k].score;
		rc = api_list_add(&a->l, &i, sizeof(i), err);
	}
	mem_free(e);
	return rc;
}

static int explain_vm(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct explain_args *a = arg;
	struct core_vm_candidate *e = NULL;
	char node[HCI_NAME_MAX];
	size_t n = 0;
	int rc = core_schedule(c->core, a->policy, a->object, node, &e, &n, err);

	for (size_t k = 0; !rc && k < n; k++) {
		struct hci_policy_candidate i = { 0 };

		API_TEXT(i.object, e[k].node);
		API_TEXT(i.node, e[k].node);
		API_TEXT(i.reason, e[k].reason);
		i.rank = !strcmp(e[k].node, node);
		i.score = e[k].score;
		rc = api_list_add(&a->l, &i, sizeof(i), err);
	}
	mem_free(e);
	return rc;
}

static int explain(hci_cluster *c, int (*fn)(hci_cluster *, void *, struct hci_error *), struct explain_args *a,
		   struct hci_policy_candidate **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	return api_list_call(c, fn, a, &a->l, out, n, info_size, sizeof(struct hci_policy_candidate), err);
}

int hci_policy_explain_placement(hci_cluster *c, const char *policy, const char *pool, uint32_t replicas,
				 struct hci_policy_candidate **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct explain_args a = { .policy = policy, .object = pool, .replicas = replicas };
	int rc;

	if (!c || !pool)
		return api_null(c ? "pool" : "c", err);
	rc = name_check(pool, "pool", err);
	if (!rc && policy)
		rc = name_check(policy, "policy", err);
	return rc ? rc : explain(c, explain_placement, &a, out, n, info_size, err);
}

int hci_policy_explain_vm(hci_cluster *c, const char *policy, const char *vm, struct hci_policy_candidate **out, uint64_t *n,
			  uint64_t info_size, struct hci_error *err)
{
	struct explain_args a = { .policy = policy, .object = vm };
	int rc;

	if (!c || !vm)
		return api_null(c ? "vm" : "c", err);
	rc = name_check(vm, "VM", err);
	if (!rc && policy)
		rc = name_check(policy, "policy", err);
	return rc ? rc : explain(c, explain_vm, &a, out, n, info_size, err);
}
