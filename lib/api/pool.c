/* SPDX-License-Identifier: Apache-2.0 */
/* hci/pool.h */
#include "api/api_impl.h"

#include "api/tune.h"

static int create_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct hci_pool_opts *o = arg;
	struct rec_pool r = { 0 };
	struct policy *p;
	char key[REC_KEY];
	int rc = core_policy_get(c->core, o->policy ? o->policy : "spread", &p, err);

	if (!rc && policy_kind(p) != HCI_POLICY_PLACEMENT)
		rc = err_set(err, HCI_E_INVAL, "pool %s: policy %s is no placement policy", o->name, o->policy);
	if (rc)
		return rc;
	API_TEXT(r.name, o->name);
	API_TEXT(r.policy, o->policy ? o->policy : "spread");
	API_TEXT(r.domain, "node");
	r.rebuild_delay_ns = (o->rebuild_delay_ms ? o->rebuild_delay_ms : TUNE_REBUILD_DELAY_MS) * NS_PER_MS;
	r.rebuild_impact = o->rebuild_impact;
	r.created = env_realtime(c->env);
	key_pool(key, o->name);
	rc = rec_pool_put(c->store, key, &r, 0, 0, NULL, err);
	return rc == HCI_E_CONFLICT ? err_set(err, HCI_E_EXISTS, "pool %s: there is one of this name: choose another", o->name)
				    : rc;
}

int hci_pool_create(hci_cluster *c, const struct hci_pool_opts *opts, struct hci_error *err)
{
	static const struct hci_pool_opts defaults = HCI_POOL_OPTS_INIT;
	struct hci_pool_opts o;
	int rc;

	if (!c)
		return api_null("c", err);
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_pool_opts, policy),
		       "hci_pool_opts", err);
	if (!rc)
		rc = opts_reserved(o.reserved, "hci_pool_opts", err);
	if (!rc && !o.name)
		rc = err_set(err, HCI_E_INVAL, "pool: name is missing");
	if (!rc)
		rc = name_check(o.name, "pool", err);
	if (!rc && o.policy)
		rc = name_check(o.policy, "policy", err);
	if (!rc)
		rc = tune_check_impact("pool", o.name, o.rebuild_impact, err);
	return rc ? rc : api_call_fresh(c, create_on_loop, &o, err);
}

/* ---- what is in a pool ---- */

struct content {
	hci_cluster *c;
	struct hci_pool_info *i;
};

static bool add_disk(void *arg, const struct rec_disk *d)
{
	struct content *x = arg;
	const struct rec_diskstat *st = core_diskstat(x->c->core, &d->uuid);

	if (strcmp(d->pool, x->i->name) || d->state == REC_DISK_REMOVED)
		return true;
	x->i->disks_failed += d->state == REC_DISK_FAILED;
	if (d->role == REC_DISK_SPARE) {
		x->i->spares++;
		return true;
	}
	x->i->disks++;
	if (d->state == REC_DISK_ONLINE && core_alive(x->c->core, d->node)) {
		x->i->capacity += d->capacity;
		x->i->free += st ? st->free : d->capacity;
	}
	return true;
}

static void fill(hci_cluster *c, const struct rec_pool *r, const struct rec_list *vols, struct hci_pool_info *i)
{
	struct content x = { c, i };

	API_TEXT(i->name, r->name);
	API_TEXT(i->policy, r->policy);
	i->rebuild_delay_ms = r->rebuild_delay_ns / NS_PER_MS;
	i->rebuild_impact = r->rebuild_impact ? r->rebuild_impact : TUNE_IMPACT;
	core_each_disk(c->core, add_disk, &x);
	for (size_t k = 0; k < vols->n; k++)
		i->volumes += !strcmp(REC_AT(vols, k, struct rec_volume)->pool, r->name);
}

struct list_args {
	struct api_list l;
	hci_cluster *c;
	struct rec_list vols;
	struct hci_error *err;
	int rc;
};

static bool list_one(void *arg, const struct rec_pool *r)
{
	struct list_args *a = arg;
	struct hci_pool_info i = { 0 };

	fill(a->c, r, &a->vols, &i);
	a->rc = api_list_add(&a->l, &i, sizeof(i), a->err);
	return !a->rc;
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct list_args *a = arg;
	int rc = rec_volume_list(c->store, PREFIX_VOLUME, &a->vols, err);

	if (rc)
		return rc;
	a->c = c;
	a->err = err;
	core_each_pool(c->core, list_one, a);
	rec_list_free(&a->vols);
	return a->rc;
}

int hci_pool_list(hci_cluster *c, struct hci_pool_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct list_args a = { 0 };

	return api_list_call(c, list_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_pool_info), err);
}

static int delete_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const char *name = arg;
	struct hci_pool_info i = { 0 };
	struct rec_list vols;
	struct rec_pool r;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	key_pool(key, name);
	rc = rec_pool_get(c->store, key, &r, &rev, err);
	if (rc == HCI_E_NOTFOUND)
		return api_none("pool", "pool", name, err);
	if (!rc)
		rc = rec_volume_list(c->store, PREFIX_VOLUME, &vols, err);
	if (rc)
		return rc;
	fill(c, &r, &vols, &i);
	rec_list_free(&vols);
	if (i.disks || i.spares || i.volumes)
		return err_set(err, HCI_E_BUSY, "pool %s: it has %u disks, %u spares and %u volumes: remove them first", name,
			       i.disks, i.spares, i.volumes);
	return rec_delete(c->store, key, rev, NULL, err);
}

int hci_pool_delete(hci_cluster *c, const char *name, struct hci_error *err)
{
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "pool", err);
	return rc ? rc : api_call_fresh(c, delete_on_loop, (void *)(uintptr_t)name, err);
}
