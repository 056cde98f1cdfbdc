/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jobs that change how many copies there are, or empty disks. Each writes down what is wanted (a disk's state, a volume's
 * record) and then looks how far the writers have come with it. All of that may be done twice, by two nodes even, so a job is
 * taken over by beginning it again. Those that are lists of moves: node_reconf_moves.c.
 */
#include "cluster/node_reconf_impl.h"

#include <stdlib.h>

#define LOOK (500 * NS_PER_MS)

/* ---- evacuating ---- */

#define EMPTY "empty: hcictl disk remove takes it out of the cluster, hcictl disk activate uses it again"

#define DISKS_MAX 256u

struct scope {
	struct reconf_run *x;
	struct uuid disks[DISKS_MAX];
	size_t n;
};

static bool scope_disk(void *arg, const struct rec_disk *d)
{
	struct scope *s = arg;
	const struct rec_job *j = s->x->j.rec;
	char id[HCI_UUID_STR];

	uuid_print(&d->uuid, id);
	if (d->state == REC_DISK_REMOVED || s->n == DISKS_MAX ||
	    strcmp(j->target, !strcmp(j->type, JOB_NODE_EVACUATE) ? d->node : id))
		return true;
	s->disks[s->n++] = d->uuid;
	return true;
}

/* From one state to another, when it is in that one. */
static int disk_state(struct node *n, const struct uuid *u, enum rec_disk_state from, enum rec_disk_state to, const char *why,
		      struct hci_error *err)
{
	struct rec_disk *r = MEM_NEW(struct rec_disk);
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "disk: out of memory");
	key_disk(key, u);
	rc = rec_disk_get(core_store(n->core), key, r, &rev, err);
	if (!rc && r->state == from) {
		r->state = to;
		r->state_since = env_realtime(n->e);
		snprintf(r->reason, sizeof(r->reason), "%s", why);
		rc = rec_disk_put(core_store(n->core), key, r, rev, 0, NULL, err);
	}
	mem_free(r);
	return rc;
}

static int node_wanted(struct node *n, const char *name, enum rec_node_wanted wanted, struct hci_error *err)
{
	struct rec_node *r = MEM_NEW(struct rec_node);
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", name);
	key_node(key, name);
	rc = rec_node_get(core_store(n->core), key, r, &rev, err);
	if (!rc && r->wanted != wanted) {
		r->wanted = wanted;
		rc = rec_node_put(core_store(n->core), key, r, rev, 0, NULL, err);
	}
	mem_free(r);
	return rc;
}

/* A disk that failed and returned meanwhile is online again: so it is said again each time. */
static int mark(struct scope *s, struct hci_error *err)
{
	struct node *n = s->x->n;
	int rc = 0;

	s->n = 0;
	core_each_disk(n->core, scope_disk, s);
	if (!s->n)
		return err_set(err, HCI_E_NOTFOUND, "%.63s: there is no such disk, or it has none", s->x->j.rec->target);
	if (!strcmp(s->x->j.rec->type, JOB_NODE_EVACUATE))
		rc = node_wanted(n, s->x->j.rec->target, REC_NODE_MAINTENANCE, err);
	for (size_t i = 0; !rc && i < s->n; i++)
		rc = disk_state(n, &s->disks[i], REC_DISK_ONLINE, REC_DISK_EVACUATING, "what it holds moves elsewhere", err);
	return rc;
}

/* What has moved stays where it is; the disks are for use again. */
static void unmark(struct scope *s)
{
	struct node *n = s->x->n;
	struct hci_error err;
	int rc = 0;

	if (!strcmp(s->x->j.rec->type, JOB_NODE_EVACUATE))
		rc = node_wanted(n, s->x->j.rec->target, REC_NODE_UP, &err);
	for (size_t i = 0; i < s->n; i++)
		rc = rc ? rc : disk_state(n, &s->disks[i], REC_DISK_EVACUATING, REC_DISK_ONLINE, "", &err);
	if (rc)
		log_warn(env_log(n->e), "job %s: not all disks are for use again: %s", s->x->j.rec->id, err.message);
}

int reconf_evacuate(struct reconf_run *x, struct hci_error *err)
{
	struct scope *s = MEM_NEW(struct scope);
	struct reconf_watch w = { .done = x->j.rec->done };
	uint64_t left = 0, moved = x->j.rec->done;
	int rc;

	if (!s)
		return err_set(err, HCI_E_NOMEM, "out of memory");
	s->x = x;
	snprintf(x->j.rec->unit, sizeof(x->j.rec->unit), "copies");
	do {
		rc = mark(s, err);
		if (!rc)
			rc = plan_count_copies(x->n->core, s->disks, s->n, &left, err);
		if (rc && !reconf_store_is_away(rc))
			break;
		if (!rc && !left)
			break;
		if (!rc) {
			w.total = MAX(x->j.rec->total, moved + left);
			moved = w.total - left;
		}
	} while (reconf_go_on(x, &w, moved, "emptying", &rc));
	for (size_t i = 0; !rc && i < s->n; i++)
		(void)disk_state(x->n, &s->disks[i], REC_DISK_EVACUATING, REC_DISK_EVACUATING, EMPTY, NULL);
	if (!rc)
		snprintf(x->result, sizeof(x->result), "{\"copies_moved\":%llu,\"disks\":%zu}",
			 (unsigned long long)MAX(w.total, moved), s->n);
	if (rc == HCI_E_CANCELLED) {
		unmark(s);
		err_set(err, rc, "cancelled with %llu copies left; what has moved stays", (unsigned long long)left);
	}
	mem_free(s);
	return rc;
}

/* ---- a volume's replicas and policy ---- */

static uint32_t arg_u32(const struct core_job *j, const char *key)
{
	const char *s = core_job_arg(j, key);

	return s ? (uint32_t)strtoul(s, NULL, 10) : 0;
}

/* The record, and volmove so that it is seen, in one transaction. */
static int put_wanted(struct node *n, const struct uuid *id, uint32_t replicas, const char *policy, struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct rec_volmove *m = MEM_NEW(struct rec_volmove);
	struct buf vb = BUF_INIT, mb = BUF_INIT;
	char vkey[REC_KEY], mkey[REC_KEY];
	uint64_t vrev = 0, mrev = 0;
	int rc = v && m ? 0 : err_set(err, HCI_E_NOMEM, "volume: out of memory");

	key_volume(vkey, id);
	key_volmove(mkey, id);
	if (!rc)
		rc = rec_volume_get(core_store(n->core), vkey, v, &vrev, err);
	if (!rc) {
		rc = rec_volmove_get(core_store(n->core), mkey, m, &mrev, err);
		rc = rc == HCI_E_NOTFOUND ? 0 : rc;
	}
	if (!rc && (v->replicas != replicas || strcmp(v->policy, policy))) {
		v->replicas = replicas;
		snprintf(v->policy, sizeof(v->policy), "%s", policy);
		rc = rec_volume_encode(v, &vb);
		if (!rc)
			rc = rec_volmove_encode(m, &mb);
		if (!rc) {
			struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, vkey, vrev }, { STORE_CMP_MOD_REV, mkey, mrev } };
			struct store_op ops[] = { { STORE_PUT, vkey, vb.data, (uint32_t)vb.len, 0 },
						  { STORE_PUT, mkey, mb.data, (uint32_t)mb.len, 0 } };

			rc = store_txn(core_store(n->core), cmps, 2, ops, 2, NULL, err);
		}
	}
	buf_free(&vb);
	buf_free(&mb);
	mem_free(v);
	mem_free(m);
	return rc;
}

/* Segments that have the copies they should, none of them joining. */
static int count_settled(struct node *n, const struct uuid *id, uint64_t *settled, uint64_t *total, struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	char key[REC_KEY];
	int rc = v && m ? 0 : err_set(err, HCI_E_NOMEM, "volume: out of memory");

	*settled = *total = 0;
	key_volume(key, id);
	if (!rc)
		rc = rec_volume_get(core_store(n->core), key, v, NULL, err);
	if (!rc)
		*total = (v->size + v->segment_size - 1) / v->segment_size;
	for (uint32_t c = 0; !rc && (uint64_t)c * REC_VOLMAP_CHUNK < *total; c++) {
		key_volmap(key, id, c);
		rc = rec_volmap_get(core_store(n->core), key, m, NULL, err);
		for (uint32_t i = 0; !rc && i < m->n; i++) {
			bool joining = false;

			for (uint32_t k = 0; k < m->seg[i].n; k++)
				joining |= m->seg[i].r[k].joining;
			*settled += m->seg[i].n == v->replicas && !joining;
		}
	}
	mem_free(v);
	mem_free(m);
	return rc;
}

static int wait_settled(struct reconf_run *x, const struct uuid *id, struct reconf_watch *w, struct hci_error *err)
{
	uint64_t settled = 0, total = 1;
	int rc;

	do {
		rc = count_settled(x->n, id, &settled, &total, err);
		if (rc && !reconf_store_is_away(rc))
			return rc;
		if (!rc && settled == total)
			return 0;
		w->total = total;
	} while (reconf_go_on(x, w, settled, "making copies more or fewer", &rc));
	return rc;
}

static int move_by_policy(struct reconf_run *x, const struct uuid *id, uint64_t *moved, struct hci_error *err)
{
	struct reconf_watch w = { 0 };
	struct plan plan;
	int rc;

	snprintf(x->j.rec->unit, sizeof(x->j.rec->unit), "copies");
	rc = plan_replace(x->n->core, id, &plan, err);
	w.total = plan.n;
	if (!rc)
		rc = reconf_carry_out(x, &plan, &w, moved, "moving copies to where the policy wants them", err);
	plan_free(&plan);
	return rc;
}

int reconf_volume_set(struct reconf_run *x, struct hci_error *err)
{
	const char *uuid = core_job_arg(&x->j, "uuid"), *policy = core_job_arg(&x->j, "policy");
	const char *was_policy = core_job_arg(&x->j, "was_policy");
	uint32_t replicas = arg_u32(&x->j, "replicas"), was = arg_u32(&x->j, "was_replicas");
	struct reconf_watch w = { 0 };
	uint64_t moved = 0;
	struct uuid id;
	int rc;

	if (!uuid || !uuid_parse(uuid, &id) || !policy || !was_policy || !replicas || replicas > REC_REPLICAS_MAX || !was)
		return err_set(err, HCI_E_INVAL, "volume %.63s: the job does not say what is wanted", x->j.rec->target);
	snprintf(x->j.rec->unit, sizeof(x->j.rec->unit), "segments");
	do
		rc = put_wanted(x->n, &id, replicas, policy, err);
	while (reconf_store_is_away(rc) && reconf_go_on(x, &w, 0, "beginning", &rc));
	if (!rc)
		rc = wait_settled(x, &id, &w, err);
	if (!rc && strcmp(policy, was_policy))
		rc = move_by_policy(x, &id, &moved, err);
	if (rc == HCI_E_CANCELLED) {
		/* Back to what it was: the writer does that by itself, at once for copies that were too many. */
		unsigned tries = 0;
		int back;

		do
			back = put_wanted(x->n, &id, was, was_policy, err);
		while (reconf_store_is_away(back) && ++tries < 20 && (fiber_sleep(x->n->e, LOOK), true));
		err_set(err, rc, "cancelled: the volume is to have %u replicas again%s", was,
			back ? ", which could not be written: set it once more" : "");
	}
	if (!rc)
		snprintf(x->result, sizeof(x->result), "{\"replicas\":%u,\"policy\":\"%s\",\"copies_moved\":%llu}", replicas, policy,
			 (unsigned long long)moved);
	return rc;
}
