/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a policy, and not believing the answer before it is checked. */
#include "policy/policy_impl.h"

#include <math.h>
#include <stdio.h>

#include <hci/policy.h>

#include "base/err.h"
#include "base/mem.h"

static const struct hci_placement_disk *disk_at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks + (size_t)i * s->disk_stride);
}

static int nonsense(const struct policy *p, struct hci_error *err, const char *what, uint32_t v)
{
	return err_set(err, HCI_E_PLUGIN, "policy %s (plugin %s): it chose %s (%u): report it to the plugin's author",
		       p->name, p->plugin_name, what, v);
}

/* Room for reasons and scores also when the caller wants none: a plugin may fill them in all the same. */
struct room {
	char *reasons;
	double *scores;
};

static int room_make(struct room *r, uint32_t n)
{
	r->reasons = mem_calloc(n, 256);
	r->scores = mem_calloc(n, sizeof(double));
	return r->reasons && r->scores ? 0 : HCI_E_NOMEM;
}

static void room_free(struct room *r)
{
	mem_free(r->reasons);
	mem_free(r->scores);
}

static void room_give(const struct room *r, uint32_t n, char (*reasons)[256], double *scores)
{
	for (uint32_t i = 0; i < n; i++) {
		policy_clean_text(r->reasons + (size_t)i * 256, 256);
		if (reasons)
			memcpy(reasons[i], r->reasons + (size_t)i * 256, 256);
		if (scores)
			scores[i] = isfinite(r->scores[i]) ? r->scores[i] : 0;
	}
}

static int check_chosen(const struct policy *p, const struct hci_placement_snapshot *s,
			const struct hci_placement_request *r, const uint32_t *out, struct hci_error *err)
{
	for (uint32_t i = 0; i < r->want; i++) {
		const struct hci_placement_disk *d;

		if (out[i] >= s->ndisks)
			return nonsense(p, err, "a disk that does not exist", out[i]);
		d = disk_at(s, out[i]);
		if (!d->usable)
			return nonsense(p, err, "a disk that is not usable", out[i]);
		for (uint32_t k = 0; k < i; k++)
			if (!strcmp(disk_at(s, out[k])->domain, d->domain))
				return nonsense(p, err, "two disks of one failure domain", out[i]);
		for (uint32_t k = 0; k < r->nkeep; k++)
			if (!strcmp(disk_at(s, r->keep[k])->domain, d->domain))
				return nonsense(p, err, "a failure domain that has a copy already", out[i]);
	}
	return 0;
}

int policy_place(struct policy *p, const struct hci_placement_snapshot *snap, const struct hci_placement_request *req,
		 uint32_t *out, uint32_t want, char (*reasons)[256], double *scores, struct hci_error *err)
{
	struct hci_placement_answer a = { .size = sizeof(a), .reason_stride = 256, .chosen = out };
	struct room room;
	int rc;

	if (p->kind != HCI_PLUGIN_PLACEMENT)
		return err_set(err, HCI_E_PLUGIN, "policy %s: its plugin %s is no placement plugin", p->name, p->plugin_name);
	for (uint32_t i = 0; i < want; i++)
		out[i] = UINT32_MAX;
	if (!reasons && !scores) {
		room = (struct room){ 0 };
	} else if (room_make(&room, snap->ndisks)) {
		room_free(&room);
		return err_set(err, HCI_E_NOMEM, "policy %s: out of memory", p->name);
	}
	a.reasons = room.reasons;
	a.scores = room.scores;
	p->failed[0] = '\0';
	rc = p->ops.placement.place(p->instance, snap, req, &a);
	if (room.reasons)
		room_give(&room, snap->ndisks, reasons, scores);
	room_free(&room);
	if (rc)
		return err_set(err, HCI_E_NOPLACE, "policy %s: no place for %u copies on %u disks: %s", p->name, want,
			       snap->ndisks, *p->failed ? p->failed : "no reason given");
	return check_chosen(p, snap, req, out, err);
}

int policy_schedule(struct policy *p, const struct hci_scheduler_snapshot *snap, const struct hci_scheduler_request *req,
		    uint32_t *out_node, char (*reasons)[256], double *scores, struct hci_error *err)
{
	struct hci_scheduler_answer a = { .size = sizeof(a), .reason_stride = 256, .chosen = out_node };
	const struct hci_scheduler_node *n;
	struct room room;
	int rc;

	if (p->kind != HCI_PLUGIN_SCHEDULER)
		return err_set(err, HCI_E_PLUGIN, "policy %s: its plugin %s is no scheduler plugin", p->name, p->plugin_name);
	*out_node = UINT32_MAX;
	if (room_make(&room, snap->nnodes)) {
		room_free(&room);
		return err_set(err, HCI_E_NOMEM, "policy %s: out of memory", p->name);
	}
	a.reasons = room.reasons;
	a.scores = room.scores;
	p->failed[0] = '\0';
	rc = p->ops.scheduler.schedule(p->instance, snap, req, &a);
	room_give(&room, snap->nnodes, reasons, scores);
	room_free(&room);
	if (rc)
		return err_set(err, HCI_E_NOPLACE, "policy %s: no node for VM %s: %s", p->name, req->vm,
			       *p->failed ? p->failed : "no reason given");
	if (*out_node >= snap->nnodes)
		return nonsense(p, err, "a node that does not exist", *out_node);
	n = (const struct hci_scheduler_node *)((const char *)snap->nodes + (size_t)*out_node * snap->node_stride);
	if (!n->usable)
		return nonsense(p, err, "a node that is not usable", *out_node);
	return 0;
}
