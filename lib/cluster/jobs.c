/* SPDX-License-Identifier: Apache-2.0 */
/* Job records: made by whoever wants something long done, executed by the node they name. */
#include <stdarg.h>

#include "base/crc32c.h"
#include "cluster/core_impl.h"

#define PROGRESS_EVERY (300 * NS_PER_MS)
#define NO_PROGRESS_EVERY (5 * NS_PER_S)
#define END_TRIES 20u

int core_job_create(struct core *c, const char *type, const char *target, const char *node, const char *const *args,
		    char id[HCI_NAME_MAX], struct hci_error *err)
{
	struct rec_job *r = MEM_NEW(struct rec_job);
	char key[REC_KEY];
	uint64_t rnd, now = env_realtime(c->o.env);
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "job: out of memory");
	env_random(c->o.env, &rnd, sizeof(rnd));
	/* Sorts by time, and two at once do not meet. */
	snprintf(r->id, sizeof(r->id), "%011llx-%06llx", (unsigned long long)(now / NS_PER_MS),
		 (unsigned long long)(rnd & 0xffffff));
	snprintf(r->type, sizeof(r->type), "%s", type);
	snprintf(r->target, sizeof(r->target), "%s", target);
	snprintf(r->node, sizeof(r->node), "%s", node ? node : "");
	for (; args && args[0] && args[1] && r->nargs < REC_JOB_ARGS_MAX; args += 2) {
		struct rec_arg *a = &r->args[r->nargs++];

		snprintf(a->key, sizeof(a->key), "%s", args[0]);
		snprintf(a->value, sizeof(a->value), "%s", args[1]);
	}
	r->created = r->updated = now;
	key_job(key, r->id);
	rc = rec_job_put(c->o.store, key, r, 0, 0, NULL, err);
	if (!rc)
		memcpy(id, r->id, HCI_NAME_MAX);
	mem_free(r);
	return rc;
}

static int job_take(struct core *c, const char *id, bool over, struct core_job *j, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	memset(j, 0, sizeof(*j));
	j->core = c;
	j->rec = MEM_NEW(struct rec_job);
	if (!j->rec)
		return err_set(err, HCI_E_NOMEM, "job %s: out of memory", id);
	key_job(key, id);
	rc = rec_job_get(c->o.store, key, j->rec, &j->rev, err);
	if (!rc && j->rec->state != REC_JOB_PENDING && j->rec->state != REC_JOB_RUNNING)
		rc = err_set(err, HCI_E_STATE, "job %s: it has ended", id);
	if (!rc && over && *j->rec->node && strcmp(j->rec->node, c->self) && core_alive(c, j->rec->node))
		rc = err_set(err, HCI_E_BUSY, "job %s: node %s has it", id, j->rec->node);
	if (!rc) {
		if (over)
			snprintf(j->rec->node, sizeof(j->rec->node), "%s", c->self);
		j->rec->state = REC_JOB_RUNNING;
		j->rec->updated = env_realtime(c->o.env);
		rc = rec_job_put(c->o.store, key, j->rec, j->rev, 0, &j->rev, err);
	}
	if (rc) {
		mem_free(j->rec);
		j->rec = NULL;
	} else {
		list_push(&c->jobs, &j->link);
	}
	return rc;
}

void core_job_leave(struct core_job *j)
{
	list_del(&j->link);
	mem_free(j->rec);
	j->rec = NULL;
}

/* What others want of a job that has nothing to tell is not found by writing it. */
void core_job_changed(struct core *c, const char *id, const void *value, size_t len, uint64_t revision)
{
	struct rec_job *seen;
	struct core_job *j;

	list_for_each(j, &c->jobs, link) {
		if (strcmp(j->rec->id, id) || revision <= j->rev || !value)
			continue;
		seen = MEM_NEW(struct rec_job);
		/* Without memory it is found with the next write. */
		if (seen && !rec_job_decode(value, len, seen, NULL)) {
			j->rec->cancel_requested |= seen->cancel_requested;
			j->lost |= strcmp(seen->node, j->rec->node) != 0;
		}
		mem_free(seen);
	}
}

int core_job_begin(struct core *c, const char *id, struct core_job *j, struct hci_error *err)
{
	return job_take(c, id, false, j, err);
}

int core_job_take(struct core *c, const char *id, struct core_job *j, struct hci_error *err)
{
	return job_take(c, id, true, j, err);
}

static uint32_t progress_sum(const struct rec_job *r)
{
	uint32_t sum = crc32c(crc32c(0, &r->done, sizeof(r->done)), &r->total, sizeof(r->total));

	/* With their ends, so that nothing moves from one to the next unseen. */
	sum = crc32c(sum, r->unit, strlen(r->unit) + 1);
	sum = crc32c(sum, r->phase, strlen(r->phase) + 1);
	return crc32c(sum, r->message, strlen(r->message) + 1);
}

/* Writes what j->rec says; somebody who asked for cancelling meanwhile is heard. */
static int job_write(struct core_job *j, struct hci_error *err)
{
	struct rec_job *seen;
	char key[REC_KEY];
	int rc;

	key_job(key, j->rec->id);
	j->rec->updated = env_realtime(j->core->o.env);
	j->last_write = env_now(j->core->o.env);
	j->told = progress_sum(j->rec);
	rc = rec_job_put(j->core->o.store, key, j->rec, j->rev, 0, &j->rev, err);
	if (rc != HCI_E_CONFLICT && rc != HCI_E_UNAVAILABLE)
		return rc;
	seen = MEM_NEW(struct rec_job);
	if (!seen)
		return HCI_E_NOMEM;
	rc = rec_job_get(j->core->o.store, key, seen, &j->rev, err);
	if (!rc && strcmp(seen->node, j->rec->node)) {
		j->lost = true; /* another has gone on with it */
		rc = HCI_E_FENCED;
	}
	if (!rc) {
		j->rec->cancel_requested |= seen->cancel_requested;
		rc = rec_job_put(j->core->o.store, key, j->rec, j->rev, 0, &j->rev, err);
	}
	mem_free(seen);
	return rc;
}

bool core_job_progress(struct core_job *j, uint64_t done, uint64_t total, const char *phase)
{
	struct hci_error err;
	uint64_t since;

	j->rec->done = done;
	j->rec->total = total;
	if (phase)
		snprintf(j->rec->phase, sizeof(j->rec->phase), "%s", phase);
	since = env_now(j->core->o.env) - j->last_write;
	if (since >= PROGRESS_EVERY && (since >= NO_PROGRESS_EVERY || progress_sum(j->rec) != j->told))
		(void)job_write(j, &err);
	return j->rec->cancel_requested;
}

int core_job_note(struct core_job *j, const char *key, const char *value, struct hci_error *err)
{
	struct rec_job *r = j->rec;
	uint32_t i = 0;

	while (i < r->nargs && strcmp(r->args[i].key, key))
		i++;
	if (i == REC_JOB_ARGS_MAX)
		return err_set(err, HCI_E_RANGE, "job %s: it has too many arguments", r->id);
	r->nargs = MAX(r->nargs, i + 1);
	snprintf(r->args[i].key, sizeof(r->args[i].key), "%s", key);
	snprintf(r->args[i].value, sizeof(r->args[i].value), "%s", value);
	return job_write(j, err);
}

/* Of a job whose record says "running" for ever nobody would know that it has ended. */
static bool end_later(struct core_job *j, unsigned tries, const struct hci_error *why)
{
	if (j->lost || why->code == HCI_E_NOTFOUND || (j->stopping ? *j->stopping && tries > 1 : tries >= END_TRIES))
		return false;
	if (tries == 1 || tries % END_TRIES == 0)
		log_warn(env_log(j->core->o.env), "job %s: its end cannot be written yet: %s", j->rec->id, why->message);
	fiber_sleep(j->core->o.env, 500 * NS_PER_MS);
	return true;
}

void core_job_end(struct core_job *j, int status, const char *message)
{
	struct hci_error err = { 0 };
	unsigned tries = 0;

	j->rec->state = !status ? REC_JOB_DONE : status == HCI_E_CANCELLED ? REC_JOB_CANCELLED : REC_JOB_FAILED;
	j->rec->error = status;
	if (!status && j->rec->total)
		j->rec->done = j->rec->total;
	if (!status)
		j->rec->phase[0] = '\0';
	snprintf(j->rec->message, sizeof(j->rec->message), "%s", message ? message : "");
	while (!j->lost && job_write(j, &err) && end_later(j, ++tries, &err))
		;
	core_job_leave(j);
}

/* 0 also when it was handed on before, without our hearing of it. */
static int hand_on(struct core_job *j, const char *node, struct hci_error *err)
{
	char key[REC_KEY];
	int rc;

	key_job(key, j->rec->id);
	rc = rec_job_get(j->core->o.store, key, j->rec, &j->rev, err);
	if (rc || strcmp(j->rec->node, j->core->self) || j->rec->state != REC_JOB_RUNNING)
		return rc;
	snprintf(j->rec->node, sizeof(j->rec->node), "%s", node);
	j->rec->state = REC_JOB_PENDING;
	j->rec->updated = env_realtime(j->core->o.env);
	return rec_job_put(j->core->o.store, key, j->rec, j->rev, 0, NULL, err);
}

void core_job_hand_on(struct core_job *j, const char *node)
{
	struct hci_error err = { 0 };
	unsigned tries = 0;

	while (!j->lost && hand_on(j, node, &err) && end_later(j, ++tries, &err))
		;
	core_job_leave(j);
}

const char *core_job_arg(const struct core_job *j, const char *key)
{
	for (uint32_t i = 0; i < j->rec->nargs; i++)
		if (!strcmp(j->rec->args[i].key, key))
			return j->rec->args[i].value;
	return NULL;
}
