/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: makes the snapshot of a pool from the mirror, asks the policy, keeps count of what was placed
 * within one operation. Which plugin a policy's name means is in policy/<name>; those of builtins[]
 * are there without a record.
 */
#include <stdlib.h>

#include <hci/disk.h>

#include "base/crc32c.h"
#include "cluster/place.h"
#include "store/records.h"

struct loaded_policy {
	struct list link;
	char name[HCI_NAME_MAX], path[REC_PATH_MAX], config[REC_TEXT_MAX];
	struct policy *policy;
};

/* ---- policies by name ---- */

/* Policies that come with libhci are there without a record. */
static const struct {
	const char *name, *plugin;
} builtins[] = { /* by name */
	{ "balance", "scheduler-balance" },
	{ "chained", "placement-chained" },
	{ "copyset", "placement-copyset" },
	{ "pack", "placement-pack" },
	{ "spread", "placement-spread" },
};

static const char *builtin_plugin(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
		if (!strcmp(name, builtins[i].name))
			return builtins[i].plugin;
	return NULL;
}

const char *core_policy_builtin(size_t i, char *path, size_t cap)
{
	if (i >= ARRAY_SIZE(builtins))
		return NULL;
	plugin_shipped_path(builtins[i].plugin, path, cap);
	return builtins[i].name;
}

struct load {
	const char *name, *path, *config;
	const struct log *log;
	struct policy *policy;
	struct hci_error err;
	int rc;
};

static void load_work(void *arg)
{
	struct load *l = arg;

	l->rc = policy_load(l->name, l->path, l->config, l->log, &l->policy, &l->err);
}

static int load_policy(struct core *c, const char *name, const char *path, const char *config, struct policy **out,
		       struct hci_error *err)
{
	struct load *l = MEM_NEW(struct load);
	struct loaded_policy *lp = MEM_NEW(struct loaded_policy);
	int rc = HCI_E_NOMEM;

	if (l && lp) {
		l->name = name;
		l->path = path;
		l->config = config;
		l->log = env_log(c->o.env);
		fiber_work(c->o.env, load_work, l);
		rc = l->rc;
		if (rc)
			err_copy(err, &l->err, rc);
	} else {
		err_set(err, rc, "policy %s: out of memory", name);
	}
	if (!rc) {
		snprintf(lp->name, sizeof(lp->name), "%s", name);
		snprintf(lp->path, sizeof(lp->path), "%s", path);
		snprintf(lp->config, sizeof(lp->config), "%s", config);
		lp->policy = l->policy;
		list_push(&c->policies, &lp->link);
		*out = lp->policy;
		lp = NULL;
	}
	mem_free(l);
	mem_free(lp);
	return rc;
}

int core_policy_get(struct core *c, const char *name, struct policy **out, struct hci_error *err)
{
	const struct rec_policy *r;
	struct loaded_policy *lp;
	char path[REC_PATH_MAX], config[REC_TEXT_MAX] = "";
	int rc = 0;

	fiber_mutex_lock(c->o.env, &c->policy_lock);
	r = core_policy(c, name);
	if (r) {
		snprintf(path, sizeof(path), "%s", r->plugin);
		snprintf(config, sizeof(config), "%s", r->config);
	} else if (builtin_plugin(name)) {
		plugin_shipped_path(builtin_plugin(name), path, sizeof(path));
	} else {
		rc = err_set(err, HCI_E_NOTFOUND, "policy %s: not registered: add it with hcictl policy add", name);
	}
	*out = NULL;
	if (!rc)
		list_for_each(lp, &c->policies, link)
			if (!strcmp(lp->name, name) && !strcmp(lp->path, path) && !strcmp(lp->config, config))
				*out = lp->policy;
	if (!rc && !*out)
		rc = load_policy(c, name, path, config, out, err);
	fiber_mutex_unlock(c->o.env, &c->policy_lock);
	return rc;
}

void core_policies_free(struct core *c)
{
	struct list *l;

	while ((l = list_pop(&c->policies))) {
		struct loaded_policy *lp = list_entry(l, struct loaded_policy, link);

		policy_unref(lp->policy);
		mem_free(lp);
	}
}

/* ---- snapshots ---- */

static void why_unusable(struct core *c, struct snap *x, const struct rec_disk *r, struct hci_placement_disk *d)
{
	const struct rec_node *n = core_node(c, r->node);

	if (r->state != REC_DISK_ONLINE)
		snprintf(d->why_not, sizeof(d->why_not), "the disk is %s", rec_disk_state_name(r->state));
	else if (!core_alive(c, r->node))
		snprintf(d->why_not, sizeof(d->why_not), "node %s is down", r->node);
	else if (n && n->wanted == REC_NODE_MAINTENANCE)
		snprintf(d->why_not, sizeof(d->why_not), "node %s is in maintenance", r->node);
	else if (r->role == REC_DISK_SPARE && x->purpose == HCI_PLACE_NEW)
		snprintf(d->why_not, sizeof(d->why_not), "a spare: kept for rebuilds");
	else
		d->usable = 1;
}

static bool snap_disk(void *arg, const struct rec_disk *r)
{
	struct snap *x = arg;
	struct hci_placement_disk *d;
	const struct rec_diskstat *st;

	if (strcmp(r->pool, x->pool) || r->state == REC_DISK_REMOVED)
		return true;
	if (x->n == x->cap) {
		uint32_t cap = x->cap ? x->cap * 2 : 64;
		struct hci_placement_disk *disks = mem_realloc(x->disks, cap * sizeof(*disks));
		struct uuid *ids;

		if (disks)
			x->disks = disks;
		ids = disks ? mem_realloc(x->ids, cap * sizeof(*ids)) : NULL;
		if (!ids) {
			x->failed = true;
			return false;
		}
		x->ids = ids;
		x->cap = cap;
	}
	x->ids[x->n] = r->uuid;
	d = &x->disks[x->n++];
	memset(d, 0, sizeof(*d));
	uuid_print(&r->uuid, d->uuid);
	snprintf(d->node, sizeof(d->node), "%s", r->node);
	snprintf(d->domain, sizeof(d->domain), "%s", r->node);
	d->role = r->role == REC_DISK_SPARE ? HCI_DISK_SPARE : HCI_DISK_DATA;
	d->disk_class = (int32_t)r->class_;
	st = core_diskstat(x->c, &r->uuid);
	d->capacity = r->capacity;
	d->free = st ? st->free : r->capacity;
	d->segments = st ? st->segments : 0;
	why_unusable(x->c, x, r, d);
	return true;
}

int snap_make(struct core *c, const char *pool, uint32_t purpose, struct snap *x, struct hci_error *err)
{
	memset(x, 0, sizeof(*x));
	x->c = c;
	x->pool = pool;
	x->purpose = purpose;
	core_each_disk(c, snap_disk, x);
	if (x->failed)
		return err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	if (!x->n)
		return err_set(err, HCI_E_NOPLACE, "pool %s: it has no disks: add some with hcictl disk add", pool);
	x->s.size = sizeof(x->s);
	x->s.disk_stride = sizeof(*x->disks);
	x->s.ndisks = x->n;
	x->s.disks = x->disks;
	return 0;
}

void snap_free(struct snap *x)
{
	mem_free(x->disks);
	mem_free(x->ids);
}

/* A copy: loading the plugin lets other fibers run, and the pool's record may change under them. */
const char *place_policy_name(struct core *c, const char *pool, const char *policy, char out[HCI_NAME_MAX])
{
	const struct rec_pool *p = core_pool(c, pool);

	if (!policy || !*policy)
		policy = p && *p->policy ? p->policy : "spread";
	snprintf(out, HCI_NAME_MAX, "%s", policy);
	return out;
}

int place_ask(struct core *c, struct policy *p, struct snap *x, struct hci_placement_request *r, uint32_t *out,
	       struct hci_error *err)
{
	if (c->o.place) {
		int rc = c->o.place(c->o.place_arg, &x->s, r, out, r->want);

		return rc ? err_set(err, rc, "pool %s: no place", x->pool) : 0;
	}
	return policy_place(p, &x->s, r, out, r->want, NULL, NULL, err);
}

static uint64_t seed_of(const struct uuid *v, uint32_t segment)
{
	uint64_t s;

	memcpy(&s, v->b, sizeof(s));
	return (s ^ segment) * UINT64_C(0x9e3779b97f4a7c15);
}

void place_request_init(struct hci_placement_request *r, uint32_t purpose, const struct uuid *volume, uint32_t segment,
			 uint32_t replicas, uint64_t segment_bytes)
{
	memset(r, 0, sizeof(*r));
	r->size = sizeof(*r);
	r->purpose = purpose;
	r->want = replicas;
	r->replicas = replicas;
	r->segment = segment;
	r->segment_bytes = segment_bytes;
	r->seed = seed_of(volume, segment);
	uuid_print(volume, r->volume);
}

/* More than the pool could hold even if it were empty: an error at once, not when it is full. */
static int fits(const struct vol_create *v, const struct snap *x, struct hci_error *err)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < x->n; i++)
		if (x->disks[i].role == HCI_DISK_DATA)
			total += x->disks[i].capacity;
	if (v->size > total / v->replicas)
		return err_set(err, HCI_E_NOSPACE,
			       "volume %s: %llu bytes in %u replicas are more than pool %s holds (%llu bytes): add disks, or "
			       "make it smaller",
			       v->name, (unsigned long long)v->size, v->replicas, v->pool, (unsigned long long)total);
	return 0;
}

int core_place(void *arg, const struct vol_create *v, const struct uuid *volume, uint32_t first, uint32_t nseg,
	       struct uuid *out, struct hci_error *err)
{
	struct core *c = arg;
	struct policy *p = NULL;
	struct snap x;
	uint64_t ss = v->segment_size ? v->segment_size : 256 * MiB;
	char name[HCI_NAME_MAX];
	int rc = 0;

	if (!c->o.place)
		rc = core_policy_get(c, place_policy_name(c, v->pool, v->policy, name), &p, err);
	if (rc)
		return rc;
	if (!core_pool(c, v->pool))
		return err_set(err, HCI_E_NOTFOUND, "pool %s: there is none of this name", v->pool);
	rc = snap_make(c, v->pool, HCI_PLACE_NEW, &x, err);
	if (!rc)
		rc = fits(v, &x, err);
	for (uint32_t i = 0; !rc && i < nseg; i++) {
		struct hci_placement_request r;
		uint32_t chosen[REC_REPLICAS_MAX];

		place_request_init(&r, HCI_PLACE_NEW, volume, first + i, v->replicas, ss);
		rc = place_ask(c, p, &x, &r, chosen, err);
		for (uint32_t k = 0; !rc && k < v->replicas; k++) {
			struct hci_placement_disk *d = &x.disks[chosen[k]];

			out[i * v->replicas + k] = x.ids[chosen[k]];
			d->free -= MIN(d->free, ss);
			d->segments++;
			d->volume_segments++;
		}
	}
	snap_free(&x);
	return rc;
}

uint32_t snap_find(const struct snap *x, const struct uuid *id)
{
	for (uint32_t i = 0; i < x->n; i++)
		if (uuid_eq(&x->ids[i], id))
			return i;
	return UINT32_MAX;
}

#define SENT_COUNTS (15 * NS_PER_S)

static void count_sent(const struct core *c, struct snap *x)
{
	for (unsigned i = 0; i < CORE_SENT; i++) {
		uint32_t k = UINT32_MAX;

		if (c->sent[i].bytes && env_now(c->o.env) < c->sent[i].at + SENT_COUNTS)
			k = snap_find(x, &c->sent[i].disk);
		if (k == UINT32_MAX)
			continue;
		x->disks[k].segments++;
		x->disks[k].free -= MIN(x->disks[k].free, c->sent[i].bytes);
	}
}

static void note_sent(struct core *c, const struct uuid *disk, uint64_t bytes)
{
	unsigned i = c->sent_next++ % CORE_SENT;

	c->sent[i].disk = *disk;
	c->sent[i].bytes = bytes;
	c->sent[i].at = env_now(c->o.env);
}

int core_choose_spare(void *arg, const struct rec_volume *v, uint32_t segment, const struct uuid *keep, size_t nkeep,
		      const struct uuid *bad, struct uuid *out, struct hci_error *err)
{
	struct core *c = arg;
	struct hci_placement_request r;
	struct policy *p = NULL;
	struct snap x;
	const struct rec_disk *d = bad ? core_disk(c, bad) : NULL;
	/* A copy that is not lost goes to a spare only when there is no other place. */
	bool spare_last = !bad || (d && d->state == REC_DISK_EVACUATING);
	uint32_t at[REC_COPIES_MAX], n = 0, chosen, i;
	char name[HCI_NAME_MAX];
	int rc = 0;

	if (!c->o.place)
		rc = core_policy_get(c, place_policy_name(c, v->pool, v->policy, name), &p, err);
	if (rc)
		return rc;
	do {
		uint32_t purpose = spare_last ? HCI_PLACE_NEW : HCI_PLACE_REBUILD;

		rc = snap_make(c, v->pool, purpose, &x, err);
		count_sent(c, &x);
		n = 0;
		for (size_t k = 0; !rc && k < nkeep && n < ARRAY_SIZE(at); k++) {
			i = snap_find(&x, &keep[k]);
			if (i != UINT32_MAX)
				at[n++] = i;
		}
		i = rc || !bad ? UINT32_MAX : snap_find(&x, bad);
		if (i != UINT32_MAX) {
			x.disks[i].usable = 0;
			snprintf(x.disks[i].why_not, sizeof(x.disks[i].why_not), "it is the one to be replaced");
		}
		place_request_init(&r, purpose, &v->uuid, segment, v->replicas, v->segment_size);
		r.want = 1;
		r.keep = at;
		r.nkeep = n;
		if (!rc)
			rc = place_ask(c, p, &x, &r, &chosen, err);
		if (!rc) {
			*out = x.ids[chosen];
			note_sent(c, out, v->segment_size);
		}
		snap_free(&x);
		if (purpose == HCI_PLACE_REBUILD)
			break;
		spare_last = false;
	} while (rc == HCI_E_NOPLACE && bad);
	return rc;
}

int core_explain(struct core *c, const char *policy, const char *pool, uint32_t replicas, struct core_explained **out,
		 size_t *n, struct hci_error *err)
{
	struct hci_placement_request r;
	struct uuid any = { 0 };
	struct policy *p;
	struct snap x;
	uint32_t chosen[REC_REPLICAS_MAX];
	char(*reasons)[256] = NULL;
	double *scores = NULL;
	struct core_explained *e = NULL;
	char name[HCI_NAME_MAX];
	int rc;

	if (!replicas || replicas > REC_REPLICAS_MAX)
		return err_set(err, HCI_E_INVAL, "%u replicas: choose 1..%u", replicas, REC_REPLICAS_MAX);
	rc = core_policy_get(c, place_policy_name(c, pool, policy, name), &p, err);
	if (rc)
		return rc;
	rc = snap_make(c, pool, HCI_PLACE_NEW, &x, err);
	if (!rc) {
		reasons = mem_calloc(x.n, sizeof(*reasons));
		scores = mem_calloc(x.n, sizeof(*scores));
		e = mem_calloc(x.n, sizeof(*e));
		if (!reasons || !scores || !e)
			rc = err_set(err, HCI_E_NOMEM, "pool %s: out of memory", pool);
	}
	if (!rc) {
		place_request_init(&r, HCI_PLACE_NEW, &any, 0, replicas, 256 * MiB);
		rc = policy_place(p, &x.s, &r, chosen, replicas, reasons, scores, err);
		for (uint32_t i = 0; i < x.n; i++) {
			e[i].disk = x.ids[i];
			snprintf(e[i].node, sizeof(e[i].node), "%s", x.disks[i].node);
			e[i].score = scores[i];
			snprintf(e[i].reason, sizeof(e[i].reason), "%s",
				 x.disks[i].usable || reasons[i][0] ? reasons[i] : x.disks[i].why_not);
			for (uint32_t k = 0; !rc && k < replicas; k++)
				if (chosen[k] == i)
					e[i].rank = (int32_t)k + 1;
		}
		/* That there is no place is an answer too: the reasons say why. */
		if (rc == HCI_E_NOPLACE)
			rc = 0;
	}
	if (!rc) {
		*out = e;
		*n = x.n;
		e = NULL;
	}
	mem_free(reasons);
	mem_free(scores);
	mem_free(e);
	snap_free(&x);
	return rc;
}
