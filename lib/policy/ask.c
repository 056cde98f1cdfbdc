/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a policy, and not believing the answer before it is checked. */
#include "policy/policy_impl.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define REASON 256
#define WANT_MAX 16
#define UNTOUCHED UINT32_MAX

static const struct hci_placement_disk *disk_at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks +
						   (size_t)i * s->disk_stride);
}

static const struct hci_scheduler_node *node_at(const struct hci_scheduler_snapshot *s, uint32_t i)
{
	return (const struct hci_scheduler_node *)((const char *)s->nodes +
						   (size_t)i * s->node_stride);
}

static int nonsense(const struct policy *p, struct hci_error *err, const char *what, long long v)
{
	return err_set(err, HCI_E_PLUGIN,
		       "policy %s (plugin %s): it %s (%lld): report it to the plugin's author",
		       p->name, p->plugin_name, what, v);
}

/* ---- reasons and scores ---- */

struct room {
	uint32_t n;
	char (*reasons)[REASON];
	double *scores;
};

static int room_make(struct room *r, uint32_t n)
{
	r->n = n;
	r->reasons = mem_calloc(n ? n : 1, sizeof(*r->reasons));
	r->scores = mem_calloc(n ? n : 1, sizeof(*r->scores));
	return r->reasons && r->scores ? 0 : HCI_E_NOMEM;
}

static void room_free(struct room *r)
{
	mem_free(r->reasons);
	mem_free(r->scores);
}

/* What was turned down before the plugin saw it needs no words of the plugin. */
static void room_tidy(struct room *r, uint32_t i, uint32_t usable, const char *why_not)
{
	policy_clean_text(r->reasons[i], REASON);
	if (!r->reasons[i][0] && !usable)
		snprintf(r->reasons[i], REASON, "%s", why_not);
}

static void room_give(const struct room *r, char (*reasons)[REASON], double *scores)
{
	for (uint32_t i = 0; i < r->n; i++) {
		if (reasons)
			memcpy(reasons[i], r->reasons[i], REASON);
		if (scores)
			scores[i] = isfinite(r->scores[i]) ? r->scores[i] : 0;
	}
}

static int check_scores(const struct policy *p, const struct room *r, struct hci_error *err)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (!isfinite(r->scores[i]))
			return nonsense(p, err, "gave a score that is no number to candidate", i);
	return 0;
}

/* The most frequent reasons: " (4 x the disk is offline, 1 x it is full)". */
static void sum_up(const struct room *r, char *out, size_t cap)
{
	struct {
		const char *text;
		uint32_t count;
	} seen[8];
	size_t nseen = 0, len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < r->n; i++) {
		size_t k = 0;

		while (k < nseen && strcmp(seen[k].text, r->reasons[i]) != 0)
			k++;
		if (!r->reasons[i][0] || k == ARRAY_SIZE(seen))
			continue;
		if (k == nseen) {
			seen[nseen].text = r->reasons[i];
			seen[nseen++].count = 0;
		}
		seen[k].count++;
	}
	for (int line = 0; line < 3; line++) {
		size_t best = 0;

		for (size_t k = 1; k < nseen; k++)
			if (seen[k].count > seen[best].count)
				best = k;
		if (!nseen || !seen[best].count || len + 100 > cap)
			break;
		len += (size_t)snprintf(out + len, cap - len, "%s%u x %.80s", len ? ", " : " (",
					seen[best].count, seen[best].text);
		seen[best].count = 0;
	}
	if (len)
		snprintf(out + len, cap - len, ")");
}

/* ---- placement ---- */

static int check_request(const struct policy *p, const struct hci_placement_snapshot *s,
			 const struct hci_placement_request *r, uint32_t want,
			 struct hci_error *err)
{
	if (p->kind != HCI_PLUGIN_PLACEMENT)
		return err_set(
			err, HCI_E_PLUGIN,
			"policy %s: its plugin %s is no placement plugin: choose another policy",
			p->name, p->plugin_name);
	if (!want || want > WANT_MAX || want != r->want)
		return err_set(err, HCI_E_INVAL,
			       "policy %s: asked for %u copies, 1..%d can be placed", p->name, want,
			       WANT_MAX);
	for (uint32_t k = 0; k < r->nkeep; k++)
		if (r->keep[k] >= s->ndisks)
			return err_set(err, HCI_E_INVAL,
				       "policy %s: disk %u to be kept is not in the snapshot",
				       p->name, r->keep[k]);
	return 0;
}

static int check_chosen(const struct policy *p, const struct hci_placement_snapshot *s,
			const struct hci_placement_request *r, const uint32_t *chosen,
			struct hci_error *err)
{
	if (chosen[r->want] != UNTOUCHED)
		return nonsense(p, err, "chose more disks than asked for", chosen[r->want]);
	for (uint32_t i = 0; i < r->want; i++) {
		const struct hci_placement_disk *d;

		if (chosen[i] >= s->ndisks)
			return nonsense(p, err, "chose a disk that does not exist", chosen[i]);
		d = disk_at(s, chosen[i]);
		if (!d->usable)
			return nonsense(p, err, "chose a disk that is not usable", chosen[i]);
		for (uint32_t k = 0; k < i; k++)
			if (!strcmp(disk_at(s, chosen[k])->domain, d->domain))
				return nonsense(p, err, "chose two disks of one failure domain",
						chosen[i]);
		for (uint32_t k = 0; k < r->nkeep; k++)
			if (!strcmp(disk_at(s, r->keep[k])->domain, d->domain))
				return nonsense(p, err,
						"chose a failure domain that has a copy already",
						chosen[i]);
	}
	return 0;
}

static int call_place(struct policy *p, const struct hci_placement_snapshot *s,
		      const struct hci_placement_request *r, struct room *room, uint32_t *chosen)
{
	struct hci_placement_answer a = {
		.size = sizeof(a),
		.reason_stride = REASON,
		.chosen = chosen,
		.scores = room->scores,
		.reasons = room->reasons ? room->reasons[0] : NULL,
	};
	int rc;

	for (uint32_t i = 0; i <= r->want; i++)
		chosen[i] = UNTOUCHED;
	p->failed[0] = '\0';
	rc = p->ops.placement.place(p->instance, s, r, &a);
	for (uint32_t i = 0; i < room->n; i++)
		room_tidy(room, i, disk_at(s, i)->usable, disk_at(s, i)->why_not);
	return rc;
}

static int no_place(struct policy *p, const struct hci_placement_snapshot *s,
		    const struct hci_placement_request *r, struct room *room, struct hci_error *err)
{
	uint32_t chosen[WANT_MAX + 1];
	char summary[400] = "";

	/* A policy is a pure function: asked again with room for reasons, it fails again and says
	 * why. */
	if (!room->reasons && !room_make(room, s->ndisks))
		call_place(p, s, r, room, chosen);
	if (room->reasons && room->scores)
		sum_up(room, summary, sizeof(summary));
	return err_set(err, HCI_E_NOPLACE, "policy %s: no place for %u %s on %u disks: %s%s",
		       p->name, r->want, r->want == 1 ? "copy" : "copies", s->ndisks,
		       *p->failed ? p->failed : "no reason given", summary);
}

int policy_place(struct policy *p, const struct hci_placement_snapshot *snap,
		 const struct hci_placement_request *req, uint32_t *out, uint32_t want,
		 char (*reasons)[256], double *scores, struct hci_error *err)
{
	uint32_t chosen[WANT_MAX + 1];
	struct room room = { 0 };
	int rc = check_request(p, snap, req, want, err);

	if (rc)
		return rc;
	/* Both when either is wanted: the common case, placing, takes neither and no memory. */
	if ((reasons || scores) && room_make(&room, snap->ndisks)) {
		room_free(&room);
		return err_set(err, HCI_E_NOMEM, "policy %s: out of memory", p->name);
	}
	rc = call_place(p, snap, req, &room, chosen);
	if (rc > 0)
		rc = nonsense(p, err, "returned what is neither 0 nor negative", rc);
	else if (rc < 0)
		rc = no_place(p, snap, req, &room, err);
	else
		rc = check_chosen(p, snap, req, chosen, err);
	if (!rc && room.scores)
		rc = check_scores(p, &room, err);
	if (reasons || scores)
		room_give(&room, reasons, scores);
	room_free(&room);
	if (!rc)
		memcpy(out, chosen, want * sizeof(*out));
	return rc;
}

/* ---- scheduling ---- */

static int check_node(const struct policy *p, const struct hci_scheduler_snapshot *s,
		      const uint32_t chosen[2], struct hci_error *err)
{
	if (chosen[1] != UNTOUCHED)
		return nonsense(p, err, "chose more than one node", chosen[1]);
	if (chosen[0] >= s->nnodes)
		return nonsense(p, err, "chose a node that does not exist", chosen[0]);
	if (!node_at(s, chosen[0])->usable)
		return nonsense(p, err, "chose a node that is not usable", chosen[0]);
	return 0;
}

int policy_schedule(struct policy *p, const struct hci_scheduler_snapshot *snap,
		    const struct hci_scheduler_request *req, uint32_t *out_node,
		    char (*reasons)[256], double *scores, struct hci_error *err)
{
	uint32_t chosen[2] = { UNTOUCHED, UNTOUCHED };
	struct hci_scheduler_answer a = { .size = sizeof(a),
					  .reason_stride = REASON,
					  .chosen = chosen };
	char summary[400];
	struct room room;
	int rc;

	if (p->kind != HCI_PLUGIN_SCHEDULER)
		return err_set(
			err, HCI_E_PLUGIN,
			"policy %s: its plugin %s is no scheduler plugin: choose another policy",
			p->name, p->plugin_name);
	if (room_make(&room, snap->nnodes)) {
		room_free(&room);
		return err_set(err, HCI_E_NOMEM, "policy %s: out of memory", p->name);
	}
	a.reasons = room.reasons[0];
	a.scores = room.scores;
	p->failed[0] = '\0';
	rc = p->ops.scheduler.schedule(p->instance, snap, req, &a);
	for (uint32_t i = 0; i < room.n; i++)
		room_tidy(&room, i, node_at(snap, i)->usable, node_at(snap, i)->why_not);
	if (rc > 0) {
		rc = nonsense(p, err, "returned what is neither 0 nor negative", rc);
	} else if (rc < 0) {
		sum_up(&room, summary, sizeof(summary));
		rc = err_set(err, HCI_E_NOPLACE, "policy %s: no node for VM %s: %s%s", p->name,
			     req->vm, *p->failed ? p->failed : "no reason given", summary);
	} else {
		rc = check_node(p, snap, chosen, err);
		if (!rc)
			rc = check_scores(p, &room, err);
	}
	room_give(&room, reasons, scores);
	room_free(&room);
	if (!rc)
		*out_node = chosen[0];
	return rc;
}
