/* SPDX-License-Identifier: Apache-2.0 */
/* hci/job.h */
#include "api/job.h"

#define DAY (86400 * NS_PER_S)

struct hci_job {
	hci_cluster *c;
	char id[HCI_NAME_MAX];
};

int api_job_new(hci_job **out, hci_cluster *c, const char *id, struct hci_error *err)
{
	hci_job *j = MEM_NEW(hci_job);

	*out = j;
	if (!j)
		return err_set(err, HCI_E_NOMEM, "job %s: out of memory", id);
	j->c = hci_cluster_ref(c);
	API_TEXT(j->id, id);
	return 0;
}

int api_job_start(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, const char *id,
		  hci_job **out, struct hci_error *err)
{
	hci_job *j;
	int rc;

	if (out)
		*out = NULL;
	rc = api_call_fresh(c, fn, arg, err);
	if (!rc)
		rc = api_job_new(&j, c, id, err);
	if (rc)
		return rc;
	if (out) {
		*out = j;
		return 0;
	}
	rc = hci_job_wait(j, -1, err);
	hci_job_unref(j);
	return rc;
}

void hci_job_unref(hci_job *j)
{
	if (!j)
		return;
	hci_cluster_unref(j->c);
	mem_free(j);
}

static void describe(const struct rec_job *r, struct hci_job_info *i)
{
	memset(i, 0, sizeof(*i));
	API_TEXT(i->id, r->id);
	API_TEXT(i->type, r->type);
	API_TEXT(i->target, r->target);
	API_TEXT(i->node, r->node);
	API_TEXT(i->phase, r->phase);
	API_TEXT(i->unit, r->unit);
	API_TEXT(i->message, r->message);
	i->state = (int32_t)r->state;
	i->error = r->error;
	i->done = r->done;
	i->total = r->total;
	i->created = r->created;
	i->updated = r->updated;
}

struct info_args {
	const char *id;
	struct hci_job_info i;
	uint64_t wait; /* ns; 0: look once; UINT64_MAX: for ever */
};

static bool ended(const struct rec_job *r)
{
	return r->state == REC_JOB_DONE || r->state == REC_JOB_FAILED || r->state == REC_JOB_CANCELLED;
}

/* The watch of the mirror wakes us; now and then we look without being woken, in case that is late. */
static int look_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct info_args *a = arg;
	struct rec_job *r = MEM_NEW(struct rec_job);
	uint64_t end = a->wait == UINT64_MAX ? a->wait : env_now(c->env) + a->wait;
	char key[REC_KEY];
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "job %s: out of memory", a->id);
	key_job(key, a->id);
	for (;;) {
		uint64_t now;

		rc = rec_job_get(c->store, key, r, NULL, err);
		if (rc == HCI_E_NOTFOUND)
			err_set(err, rc, "job %s: there is none of this id", a->id);
		now = env_now(c->env);
		if (rc || ended(r) || now >= end)
			break;
		fiber_cond_wait_until(c->env, core_changed(c->core), MIN(end, now + 500 * NS_PER_MS));
	}
	if (!rc)
		describe(r, &a->i);
	mem_free(r);
	return rc;
}

int hci_job_open(hci_job **out, hci_cluster *c, const char *id, struct hci_error *err)
{
	struct info_args a = { .id = id };
	int rc;

	if (!out || !c || !id)
		return api_null(!out ? "out" : !c ? "c" : "id", err);
	*out = NULL;
	rc = name_check(id, "job", err);
	if (!rc)
		rc = api_call(c, look_on_loop, &a, err);
	return rc ? rc : api_job_new(out, c, id, err);
}

int hci_job_info(hci_job *j, struct hci_job_info *out, uint64_t info_size, struct hci_error *err)
{
	struct info_args a = { 0 };
	int rc;

	if (!j)
		return api_null("job", err);
	a.id = j->id;
	rc = api_call(j->c, look_on_loop, &a, err);
	return rc ? rc : api_info_out(out, info_size, &a.i, sizeof(a.i), "job info", err);
}

int hci_job_wait(hci_job *j, int64_t timeout_ms, struct hci_error *err)
{
	struct info_args a = { 0 };
	int rc;

	if (!j)
		return api_null("job", err);
	a.id = j->id;
	a.wait = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * NS_PER_MS;
	rc = api_call(j->c, look_on_loop, &a, err);
	if (rc)
		return rc;
	switch (a.i.state) {
	case HCI_JOB_DONE:
		return 0;
	case HCI_JOB_CANCELLED:
		return err_set(err, HCI_E_CANCELLED, "job %s (%s %s): cancelled", a.i.id, a.i.type, a.i.target);
	case HCI_JOB_FAILED:
		return err_set(err, a.i.error ? a.i.error : HCI_E_INTERNAL, "%.480s", a.i.message);
	default:
		return err_set(err, HCI_E_TIMEOUT, "job %s (%s %s): still at \"%.100s\"", a.i.id, a.i.type, a.i.target,
			       a.i.phase);
	}
}

static int cancel_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const char *id = arg;
	struct rec_job *r = MEM_NEW(struct rec_job);
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "job %s: out of memory", id);
	key_job(key, id);
	do {
		rc = rec_job_get(c->store, key, r, &rev, err);
		if (!rc && ended(r))
			rc = err_set(err, HCI_E_STATE, "job %s: it has ended: %s", id, rec_job_state_name(r->state));
		if (rc)
			break;
		r->cancel_requested = true;
		if (r->state == REC_JOB_PENDING && !*r->node)
			r->state = REC_JOB_CANCELLED; /* nobody has taken it */
		rc = rec_job_put(c->store, key, r, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	mem_free(r);
	return rc;
}

int hci_job_cancel(hci_job *j, struct hci_error *err)
{
	return j ? api_call(j->c, cancel_on_loop, j->id, err) : api_null("job", err);
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct api_list *l = arg;
	struct hci_job_info i;
	struct rec_list jobs = { 0 };
	uint64_t now = env_realtime(c->env);
	int rc = rec_job_list(c->store, PREFIX_JOB, &jobs, err);

	for (size_t k = jobs.n; !rc && k--;) { /* ids grow with time */
		const struct rec_job *r = REC_AT(&jobs, k, struct rec_job);

		if (ended(r) && r->updated + DAY < now)
			continue;
		describe(r, &i);
		rc = api_list_add(l, &i, sizeof(i), err);
	}
	rec_list_free(&jobs);
	return rc;
}

int hci_job_list(hci_cluster *c, struct hci_job_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct api_list l;

	return api_list_call(c, list_on_loop, &l, &l, out, n, info_size, sizeof(struct hci_job_info), err);
}
