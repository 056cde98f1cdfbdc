/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May disks be emptied at all? Asked before a job for it begins: where the policy can never find another place, the job would
 * wait for ever. Only what does not pass by itself counts: disks and nodes that are away now may return, and room may be made.
 */
#include "cluster/plan_impl.h"

struct scope {
	struct core *c;
	const char *node;       /* all its disks; NULL: */
	const struct uuid *one; /* this one */
	struct rec_segment seg; /* the first with a copy in scope */
	uint32_t segment;
	bool found;
};

static bool in_scope(const struct scope *s, const struct uuid *id)
{
	const struct rec_disk *d = s->node ? core_disk(s->c, id) : NULL;

	return s->node ? d && !strcmp(d->node, s->node) : uuid_eq(s->one, id);
}

static int first_segment(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct scope *s = arg;

	(void)err;
	for (uint32_t i = 0; i < m->n && !s->found; i++)
		for (uint32_t k = 0; k < m->seg[i].n && !s->found; k++) {
			if (!in_scope(s, &m->seg[i].r[k].disk))
				continue;
			s->seg = m->seg[i];
			s->segment = first + i;
			s->found = true;
		}
	return 0;
}

/* The pool as it would be with everything there and room on it. */
static void at_best(struct scope *s, struct snap *x)
{
	for (uint32_t i = 0; i < x->n; i++) {
		struct hci_placement_disk *d = &x->disks[i];
		const struct rec_disk *r = core_disk(s->c, &x->ids[i]);
		const struct rec_node *n = r ? core_node(s->c, r->node) : NULL;

		d->free = d->capacity;
		d->usable = r && !in_scope(s, &r->uuid) && r->state != REC_DISK_FAILED && r->state != REC_DISK_EVACUATING &&
			    !(n && n->wanted == REC_NODE_MAINTENANCE) &&
			    (r->role != REC_DISK_SPARE || x->purpose == HCI_PLACE_REBUILD);
		if (!d->usable && !d->why_not[0])
			snprintf(d->why_not, sizeof(d->why_not), "it is to be emptied, or is no place for this copy");
	}
}

static int ask(struct scope *s, struct policy *p, const struct rec_volume *v, uint32_t purpose, struct hci_error *err)
{
	struct hci_placement_request r;
	uint32_t at[REC_COPIES_MAX], out[REC_REPLICAS_MAX], n = 0;
	struct snap x;
	int rc = snap_make(s->c, v->pool, purpose, &x, err);

	for (uint32_t k = 0; !rc && k < s->seg.n && n < ARRAY_SIZE(at); k++) {
		const struct rec_disk *d = core_disk(s->c, &s->seg.r[k].disk);
		uint32_t i = snap_find(&x, &s->seg.r[k].disk);

		/* One on a failed disk gets another place as well. */
		if (i != UINT32_MAX && d && d->state != REC_DISK_FAILED && !in_scope(s, &d->uuid))
			at[n++] = i;
	}
	if (!rc && n < v->replicas) {
		at_best(s, &x);
		place_request_init(&r, purpose, &v->uuid, s->segment, v->replicas, v->segment_size);
		r.want = v->replicas - n;
		r.keep = at;
		r.nkeep = n;
		rc = place_ask(s->c, p, &x, &r, out, err);
	}
	snap_free(&x);
	return rc;
}

struct nodes {
	uint32_t n;
};

static bool count_node(void *arg, const struct rec_node *r)
{
	(void)r;
	((struct nodes *)arg)->n++;
	return true;
}

static int check_volume(struct scope *s, const struct rec_volume *v, struct hci_error *err)
{
	char name[HCI_NAME_MAX];
	struct policy *p = NULL;
	struct nodes nodes = { 0 };
	int rc;

	s->found = false;
	rc = plan_each_chunk(s->c, v, first_segment, s, err);
	if (rc == HCI_E_NOTFOUND || !s->found)
		return rc == HCI_E_NOTFOUND ? 0 : rc; /* being made or deleted just now */
	if (!s->c->o.place)
		rc = core_policy_get(s->c, place_policy_name(s->c, v->pool, v->policy, name), &p, err);
	if (!rc)
		rc = ask(s, p, v, HCI_PLACE_NEW, NULL);
	if (rc == HCI_E_NOPLACE)
		rc = ask(s, p, v, HCI_PLACE_REBUILD, NULL);
	if (rc != HCI_E_NOPLACE)
		return 0; /* whatever else it is, the job says it when it meets with it */
	core_each_node(s->c, count_node, &nodes);
	if (v->replicas > 1)
		return err_set(err, rc,
			       "volume %s has %u replicas, and without what is to be emptied no place for them in pool %s (the cluster has "
			       "%u nodes): add a node or disks, or hcictl volume set %s --replicas %u",
			       v->name, v->replicas, v->pool, nodes.n, v->name, v->replicas - 1);
	return err_set(err, rc, "volume %s has its only replica there, and no other place in pool %s: add disks", v->name, v->pool);
}

int plan_can_empty(struct core *c, const char *node, const struct uuid *disk, struct hci_error *err)
{
	struct scope s = { .c = c, .node = node, .one = disk };
	struct rec_list vols;
	int rc = rec_volume_list(c->o.store, PREFIX_VOLUME, &vols, err);

	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < vols.n; i++)
		rc = check_volume(&s, REC_AT(&vols, i, struct rec_volume), err);
	rec_list_free(&vols);
	return rc;
}
