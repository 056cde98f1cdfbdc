/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who does the jobs that change where copies are: any node, one of those alive for each job, chosen by hash. What such a
 * job has done is in the store (the map, the state of disks, the volume's record), so when its node dies another takes the
 * record over and goes on. The copying itself is the writers' (lib/volume/reconf.c); see node_reconf_run.c.
 */
#include "cluster/node_reconf.h"

#define LOOK_EVERY (1 * NS_PER_S)
#define SCAN_EVERY (30 * NS_PER_S)

/* A job that has not ended, as far as we have heard. */
struct known {
	struct list link;
	char id[HCI_NAME_MAX], node[HCI_NAME_MAX];
	bool mine; /* a fiber of ours does it */
};

struct node_reconf {
	struct node *n;
	struct list jobs;
	struct core_watcher watcher;
	bool scan;
};

bool reconf_is_job(const char *type)
{
	return !strcmp(type, JOB_VOLUME_SET) || !strcmp(type, JOB_VOLUME_MOVE) || !strcmp(type, JOB_DISK_EVACUATE) || !strcmp(type, JOB_NODE_EVACUATE) ||
	       !strcmp(type, JOB_POOL_BALANCE);
}

static struct known *known_find(struct node_reconf *r, const char *id)
{
	struct known *k;

	list_for_each(k, &r->jobs, link)
		if (!strcmp(k->id, id))
			return k;
	return NULL;
}

static void heard(struct node_reconf *r, const struct rec_job *j)
{
	struct known *k = known_find(r, j->id);

	if (!reconf_is_job(j->type))
		return;
	if (j->state != REC_JOB_PENDING && j->state != REC_JOB_RUNNING) {
		if (k && !k->mine) {
			list_del(&k->link);
			mem_free(k);
		}
		return;
	}
	if (!k) {
		k = MEM_NEW(struct known);
		if (!k) {
			r->scan = true;
			return;
		}
		snprintf(k->id, sizeof(k->id), "%s", j->id);
		list_push(&r->jobs, &k->link);
	}
	snprintf(k->node, sizeof(k->node), "%s", j->node);
}

static void on_job(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	struct node_reconf *r = container_of(w, struct node_reconf, watcher);
	struct rec_job *j;

	(void)revision;
	if (!key)
		r->scan = true;
	if (!key || !value || !key_tail(key, PREFIX_JOB))
		return;
	j = MEM_NEW(struct rec_job);
	if (j && !rec_job_decode(value, len, j, NULL))
		heard(r, j);
	mem_free(j);
	fiber_cond_signal(r->n->e, &r->n->wake);
}

static int scan(struct node_reconf *r)
{
	struct rec_list l;
	int rc = rec_job_list(core_store(r->n->core), PREFIX_JOB, &l, NULL);

	if (rc)
		return rc;
	for (size_t i = 0; i < l.n; i++)
		heard(r, REC_AT(&l, i, struct rec_job));
	rec_list_free(&l);
	return 0;
}

/* ---- ours? ---- */

struct elect {
	struct node *n;
	const char *id;
	uint64_t best, mine;
};

static bool elect_one(void *arg, const struct rec_node *r)
{
	struct elect *x = arg;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *s = x->id; *s; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	for (const char *s = r->name; *s; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	if (!strcmp(r->name, x->n->name))
		x->mine = h;
	if (core_alive(x->n->core, r->name))
		x->best = MAX(x->best, h);
	return true;
}

/* Whoever began it goes on with it as long as he is there. */
static bool is_ours(struct node *n, const struct known *k)
{
	struct elect x = { .n = n, .id = k->id };

	if (*k->node && !strcmp(k->node, n->name))
		return true;
	if (*k->node && core_alive(n->core, k->node))
		return false;
	core_each_node(n->core, elect_one, &x);
	return x.mine && x.mine == x.best;
}

/* ---- doing it ---- */

struct work {
	struct node_reconf *r;
	char id[HCI_NAME_MAX];
};

static int run(struct reconf_run *x, struct hci_error *err)
{
	const char *type = x->j.rec->type;

	if (!strcmp(type, JOB_VOLUME_SET))
		return reconf_volume_set(x, err);
	if (!strcmp(type, JOB_VOLUME_MOVE))
		return reconf_volume_move(x, err);
	if (!strcmp(type, JOB_POOL_BALANCE))
		return reconf_balance(x, err);
	return reconf_evacuate(x, err);
}

static void work_fiber(void *arg)
{
	struct work *w = arg;
	struct node_reconf *r = w->r;
	struct node *n = r->n;
	struct reconf_run *x = MEM_NEW(struct reconf_run);
	struct hci_error err = { 0 };
	struct known *k;
	int rc = x ? core_job_take(n->core, w->id, &x->j, &err) : HCI_E_NOMEM;

	if (!rc) {
		x->n = n;
		x->j.stopping = &n->stopping;
		log_info(env_log(n->e), "node %s: job %s: %s %s", n->name, w->id, x->j.rec->type, x->j.rec->target);
		rc = run(x, &err);
		if (rc == HCI_E_CLOSED)
			core_job_leave(&x->j);
		else
			core_job_end(&x->j, rc, rc ? err.message : x->result);
	}
	mem_free(x);
	k = known_find(r, w->id);
	if (k)
		k->mine = false;
	/* Ended, or gone: or the store tells anew. */
	if (k && rc != HCI_E_CLOSED && rc != HCI_E_UNAVAILABLE && rc != HCI_E_CONFLICT && rc != HCI_E_BUSY && rc != HCI_E_NOMEM) {
		list_del(&k->link);
		mem_free(k);
	}
	mem_free(w);
	node_fiber_end(n);
}

static void work_start(struct node_reconf *r, struct known *k)
{
	struct work *w = MEM_NEW(struct work);

	if (!w)
		return;
	w->r = r;
	snprintf(w->id, sizeof(w->id), "%s", k->id);
	k->mine = true;
	r->n->fibers++;
	if (fiber_spawn(r->n->e, work_fiber, w, "node-reconf-job")) {
		r->n->fibers--;
		k->mine = false;
		mem_free(w);
	}
}

static void reconf_fiber(void *arg)
{
	struct node *n = arg;
	struct node_reconf r = { .n = n, .scan = true };
	uint64_t scan_at = 0;
	struct list *l;

	list_init(&r.jobs);
	r.watcher.fn = on_job;
	core_watch(n->core, &r.watcher);
	while (!n->stopping) {
		struct known *k, *tmp;

		if (r.scan || env_now(n->e) >= scan_at) {
			r.scan = scan(&r) != 0;
			scan_at = env_now(n->e) + SCAN_EVERY;
		}
		list_for_each_safe(k, tmp, &r.jobs, link)
			if (!k->mine && !n->stopping && is_ours(n, k))
				work_start(&r, k);
		if (!n->stopping)
			fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + LOOK_EVERY);
		/* wake is signalled for much else. */
		if (!n->stopping)
			fiber_sleep(n->e, 20 * NS_PER_MS);
	}
	core_unwatch(n->core, &r.watcher);
	for (;;) {
		struct known *k;
		bool busy = false;

		list_for_each(k, &r.jobs, link)
			busy |= k->mine;
		if (!busy)
			break;
		fiber_sleep(n->e, 10 * NS_PER_MS);
	}
	while ((l = list_pop(&r.jobs)))
		mem_free(list_entry(l, struct known, link));
	node_fiber_end(n);
}

int node_reconf_start(struct node *n)
{
	return node_fiber(n, reconf_fiber, "node-reconf");
}
