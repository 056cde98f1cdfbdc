/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's volumes follow it: after its migration a copy of each of their segments is taken to the node where it runs now, by a
 * job "volume-move" for each. The VM is there already and goes on whatever comes of them.
 */
#include "cluster/node_vm_impl.h"
#include "cluster/reconf_jobs.h"

#define LOOK (500 * NS_PER_MS)

static int begin(struct node *n, const struct uuid *volume, const char *name, const char *to, char id[HCI_NAME_MAX],
		 struct hci_error *err)
{
	char uuid[HCI_UUID_STR];
	const char *const args[] = { "uuid", uuid, "from", "", "to", to, NULL };

	uuid_print(volume, uuid);
	return core_job_create(n->core, JOB_VOLUME_MOVE, name, NULL, args, id, err);
}

static void ask_to_end(struct node *n, const char *key, struct rec_job *r, uint64_t rev)
{
	struct hci_error err;

	r->cancel_requested = true;
	if (rec_job_put(core_store(n->core), key, r, rev, 0, NULL, &err) && err.code != HCI_E_CONFLICT)
		log_warn(env_log(n->e), "job %s: %s", r->id, err.message);
}

/* To the end of the other job. done, total: of ours, as the other's are added. */
static int wait_end(struct node *n, struct core_job *j, const char *id, struct rec_job *r, struct hci_error *err)
{
	uint64_t done = j->rec->done, total = j->rec->total, rev;
	bool cancel = false;
	char key[REC_KEY];

	key_job(key, id);
	for (;;) {
		int rc = rec_job_get(core_store(n->core), key, r, &rev, err);

		if (rc == HCI_E_NOTFOUND || n->stopping)
			return rc ? rc : err_set(err, HCI_E_CLOSED, "the service ends; job %s goes on", id);
		if (!rc && r->state != REC_JOB_PENDING && r->state != REC_JOB_RUNNING)
			return !r->error ? 0 : err_set(err, r->error, "%.300s", r->message);
		if (!rc && cancel && !r->cancel_requested)
			ask_to_end(n, key, r, rev);
		if (!rc)
			cancel |= core_job_progress(j, done + r->done, total + r->total, "taking its disks along");
		fiber_cond_wait_until(n->e, &n->wake, env_now(n->e) + LOOK);
		fiber_sleep(n->e, 50 * NS_PER_MS); /* wake is signalled for much else */
	}
}

int vm_storage_follow(struct node *n, struct core_job *j, const struct rec_vm *vm, const char *to, struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct rec_job *r = MEM_NEW(struct rec_job);
	int rc = v && r ? 0 : err_set(err, HCI_E_NOMEM, "out of memory");

	snprintf(j->rec->unit, sizeof(j->rec->unit), "copies");
	*j->rec->message = '\0'; /* the memory's figures are over */
	j->rec->done = j->rec->total = 0;
	for (uint32_t i = 0; i < vm->ndisks && !rc; i++) {
		char id[HCI_NAME_MAX];
		struct uuid uuid;

		rc = vol_lookup(core_vol_ctx(n->core), vm->disks[i].volume, &uuid, v, err);
		if (!rc)
			rc = begin(n, &uuid, v->name, to, id, err);
		if (!rc)
			rc = wait_end(n, j, id, r, err);
	}
	mem_free(v);
	mem_free(r);
	return rc ? err_prefix(err, "VM %s: it runs on node %s now, but not all its disks are there", vm->name, to) : 0;
}
