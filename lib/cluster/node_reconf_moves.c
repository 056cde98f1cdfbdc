/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jobs that are lists of moves: evening out a pool, taking a volume to a node. Some moves at a time are put into
 * volmove/<uuid>, for the volumes' writers to do. And what all jobs that change where copies are have in common.
 */
#include "cluster/node_reconf_impl.h"

#define LOOK (500 * NS_PER_MS)
#define STUCK (60 * NS_PER_S)
#define MOVES_AT_ONCE 8u   /* of one volume */
#define VOLUMES_AT_ONCE 4u /* that have moves to do */
#define PLANS_MAX 5u

/* ---- what all have in common ---- */

bool reconf_go_on(struct reconf_run *x, struct reconf_watch *w, uint64_t done, const char *phase, int *rc)
{
	struct node *n = x->n;
	uint64_t now = env_now(n->e);
	char text[160];

	if (done != w->done || !w->moved_at)
		w->moved_at = now;
	w->done = done;
	snprintf(text, sizeof(text), "%s%s", phase,
		 now < w->moved_at + STUCK ? "" : ": nothing moved for a minute: it waits for room on disks of other nodes, or for copies to be in sync");
	if (core_job_progress(&x->j, w->done, w->total, text)) {
		*rc = HCI_E_CANCELLED;
		return false;
	}
	if (!n->stopping && !x->j.lost)
		fiber_cond_wait_until(n->e, &n->wake, now + LOOK);
	if (!n->stopping && !x->j.lost) /* wake is signalled for much else */
		fiber_sleep(n->e, 50 * NS_PER_MS);
	if (n->stopping || x->j.lost) {
		*rc = HCI_E_CLOSED;
		return false;
	}
	return true;
}

bool reconf_store_is_away(int rc)
{
	return rc == HCI_E_UNAVAILABLE || rc == HCI_E_TIMEOUT || rc == HCI_E_CONFLICT;
}

/* ---- moves ---- */

struct moving {
	struct reconf_run *x;
	const struct plan *plan;
	uint32_t next[VOLUMES_AT_ONCE], end[VOLUMES_AT_ONCE]; /* what is left of the volumes at work */
	bool asked[VOLUMES_AT_ONCE];                         /* moves of it are in the store */
	uint32_t taken;                                      /* moves before it are of volumes at work or done */
	uint64_t *done;
};

/* A deleted one has nobody who would do its moves. True also when the store does not answer. */
static bool volume_there(struct node *n, const struct uuid *id)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	char key[REC_KEY];
	int rc;

	key_volume(key, id);
	rc = v ? rec_volume_get(core_store(n->core), key, v, NULL, NULL) : HCI_E_NOMEM;
	mem_free(v);
	return rc != HCI_E_NOTFOUND;
}

/* How many of these moves came about: a disk may have failed meanwhile, or another copy have come to its node first. */
static uint32_t came_about(struct node *n, const struct uuid *id, const struct plan_move *moves, uint32_t cnt)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint32_t chunk = UINT32_MAX, found = 0;
	char key[REC_KEY];

	for (uint32_t i = 0; m && i < cnt; i++) {
		const struct rec_move *v = &moves[i].m;
		const struct rec_segment *s = &m->seg[v->segment % REC_VOLMAP_CHUNK];

		if (v->segment / REC_VOLMAP_CHUNK != chunk) {
			chunk = v->segment / REC_VOLMAP_CHUNK;
			key_volmap(key, id, chunk);
			if (rec_volmap_get(core_store(n->core), key, m, NULL, NULL))
				break;
		}
		for (uint32_t k = 0; k < s->n; k++)
			found += uuid_eq(&s->r[k].disk, &v->to);
	}
	mem_free(m);
	return found;
}

/* Puts the next moves of a volume into the store when those before are done. 0: it is through; 1: at work. */
static int feed(struct moving *m, unsigned k, struct hci_error *err)
{
	struct node *n = m->x->n;
	struct rec_volmove *r = MEM_NEW(struct rec_volmove);
	char key[REC_KEY];
	uint64_t rev = 0;
	uint32_t cnt;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "out of memory");
	key_volmove(key, &m->plan->vols[m->plan->moves[m->end[k] - 1].vol]);
	rc = rec_volmove_get(core_store(n->core), key, r, &rev, err);
	if (rc == HCI_E_NOTFOUND) {
		rev = 0;
		r->n = 0;
		rc = 0;
	}
	if (rc || r->n) {
		mem_free(r);
		return rc ? rc : 1;
	}
	if (m->asked[k]) {
		cnt = MIN(MOVES_AT_ONCE, m->end[k] - m->next[k]);
		*m->done += came_about(n, &m->plan->vols[m->plan->moves[m->next[k]].vol], &m->plan->moves[m->next[k]], cnt);
		m->next[k] += cnt;
		m->asked[k] = false;
	}
	cnt = MIN(MOVES_AT_ONCE, m->end[k] - m->next[k]);
	if (!volume_there(n, &m->plan->vols[m->plan->moves[m->end[k] - 1].vol]))
		cnt = 0;
	for (uint32_t i = 0; i < cnt; i++)
		r->m[r->n++] = m->plan->moves[m->next[k] + i].m;
	if (cnt)
		rc = rec_volmove_put(core_store(n->core), key, r, rev, 0, NULL, err);
	m->asked[k] = cnt && !rc;
	mem_free(r);
	return rc ? rc : cnt != 0;
}

/* Nothing more is wanted of the volumes at work. */
static void moves_off(struct moving *m)
{
	struct rec_volmove *none = MEM_NEW(struct rec_volmove);
	struct hci_error err;
	char key[REC_KEY];

	for (unsigned k = 0; none && k < VOLUMES_AT_ONCE; k++) {
		if (!m->asked[k])
			continue;
		key_volmove(key, &m->plan->vols[m->plan->moves[m->end[k] - 1].vol]);
		if (rec_volmove_put(core_store(m->x->n->core), key, none, REC_REV_ANY, 0, NULL, &err))
			log_warn(env_log(m->x->n->e), "job %s: moves under way are not taken back: %s", m->x->j.rec->id,
				 err.message);
	}
	mem_free(none);
}

static void take_next(struct moving *m, unsigned k)
{
	uint32_t i = m->taken;

	if (i == m->plan->n)
		return;
	while (i < m->plan->n && m->plan->moves[i].vol == m->plan->moves[m->taken].vol)
		i++;
	m->next[k] = m->taken;
	m->end[k] = i;
	m->asked[k] = false;
	m->taken = i;
}

int reconf_carry_out(struct reconf_run *x, const struct plan *plan, struct reconf_watch *w, uint64_t *done, const char *phase,
		     struct hci_error *err)
{
	struct moving m = { .x = x, .plan = plan, .done = done };
	bool any = true;
	int rc = 0;

	while (!rc && any) {
		any = false;
		for (unsigned k = 0; !rc && k < VOLUMES_AT_ONCE; k++) {
			if (!m.end[k])
				take_next(&m, k);
			if (!m.end[k])
				continue;
			rc = feed(&m, k, err);
			if (!rc)
				m.end[k] = 0;
			any = true;
			if (rc > 0 || reconf_store_is_away(rc))
				rc = 0;
		}
		if (!rc && any)
			(void)reconf_go_on(x, w, *done, phase, &rc);
	}
	if (rc == HCI_E_CANCELLED)
		moves_off(&m);
	return rc;
}

/* ---- plans that are carried out ---- */

/* Makes the plan anew after each time, as something may not have come about (a disk failed meanwhile). */
struct goal {
	int (*plan)(struct reconf_run *x, bool again, struct plan *out, struct hci_error *err);
	struct plan first, last; /* the figures of these plans; without their moves */
	uint64_t done;
};

static int reach(struct reconf_run *x, struct goal *g, struct hci_error *err)
{
	struct reconf_watch w = { .done = x->j.rec->done };
	struct plan plan = { 0 };
	int rc = 0;

	g->done = x->j.rec->done;
	snprintf(x->j.rec->unit, sizeof(x->j.rec->unit), "copies");
	for (unsigned i = 0; i <= PLANS_MAX; i++) {
		char phase[160];

		plan_free(&plan);
		rc = g->plan(x, i > 0, &plan, err);
		if (rc)
			break;
		g->last = plan;
		if (!i)
			g->first = plan;
		if (!plan.n || i == PLANS_MAX)
			break;
		w.total = g->done + plan.n;
		snprintf(phase, sizeof(phase), "%u copies of up to %llu MiB are to move", plan.n,
			 (unsigned long long)(plan.bytes / MiB));
		rc = reconf_carry_out(x, &plan, &w, &g->done, phase, err);
		if (rc)
			break;
	}
	if (rc == HCI_E_CANCELLED)
		err_set(err, rc, "cancelled after %llu copies, which stay where they are", (unsigned long long)g->done);
	plan_free(&plan);
	return rc;
}

/* For the load once: figures are averages, and what moved for their sake shows in them later. */
static int plan_for_balance(struct reconf_run *x, bool again, struct plan *out, struct hci_error *err)
{
	return plan_balance(x->n->core, x->j.rec->target, !again && !core_job_arg(&x->j, JOB_FILL_ONLY), out, err);
}

int reconf_balance(struct reconf_run *x, struct hci_error *err)
{
	struct goal g = { .plan = plan_for_balance };
	int rc = reach(x, &g, err);

	if (!rc)
		snprintf(x->result, sizeof(x->result),
			 "{\"copies_moved\":%llu,\"bytes_planned\":%llu,\"share_before\":[%.1f,%.1f],\"share_after\":[%.1f,%.1f],"
			 "\"for_load\":%u,\"load_before\":[%.0f,%.0f],\"load_planned\":[%.0f,%.0f]}",
			 (unsigned long long)g.done, (unsigned long long)g.first.bytes, g.first.least, g.first.most, g.last.least,
			 g.last.most, g.first.nload, g.first.load_least, g.first.load_most, g.first.load_least_after,
			 g.first.load_most_after);
	return rc;
}

static int plan_for_move(struct reconf_run *x, bool again, struct plan *out, struct hci_error *err)
{
	const char *uuid = core_job_arg(&x->j, "uuid"), *from = core_job_arg(&x->j, "from"), *to = core_job_arg(&x->j, "to");
	struct uuid id;

	(void)again;
	memset(out, 0, sizeof(*out));
	if (!uuid || !uuid_parse(uuid, &id) || !to)
		return err_set(err, HCI_E_INVAL, "volume %.63s: the job does not say what is wanted", x->j.rec->target);
	return plan_to_node(x->n->core, &id, from ? from : "", to, out, err);
}

int reconf_volume_move(struct reconf_run *x, struct hci_error *err)
{
	struct goal g = { .plan = plan_for_move };
	int rc = reach(x, &g, err);

	if (!rc && g.last.n)
		rc = err_set(err, HCI_E_STATE, "volume %.63s: %u copies could not be moved: is there room on the node, and are all copies in sync?",
			     x->j.rec->target, g.last.n);
	if (!rc)
		snprintf(x->result, sizeof(x->result), "{\"copies_moved\":%llu}", (unsigned long long)g.done);
	return rc;
}
