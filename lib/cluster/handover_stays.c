/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has the guest gone on at its source? When QEMU's stream of memory has ended here the other side may have all of it, as it was then. From
 * that moment on what the guest writes here is held in its exports until the job's record says that it stays (NOTE_STAYS): so whoever finds
 * the domain gone, this life of the service or the next, knows whether what is at the destination may be its memory of before a write that
 * was acknowledged. Owns that hold, and that note.
 */
#include "cluster/handover_impl.h"

#define AGAIN (100 * NS_PER_MS)

/* True also when there is no job any more that a next life would find. */
static bool noted(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	int rc = core_job_note(j, NOTE_STAYS, "1", err);

	if (rc && rc != HCI_E_NOTFOUND && !j->lost)
		return false;
	nvm_hold_writes(m, false);
	return true;
}

static void warn(const struct nvm *m, const struct hci_error *err, bool *told)
{
	if (!*told)
		log_warn(env_log(m->n->e), "VM %s: its writes wait, as it cannot be noted yet that it stays here: %s", m->name, err->message);
	*told = true;
}

int handover_note_stays(struct nvm *m, struct core_job *j, struct hci_error *err)
{
	bool told = false;

	m->unsettled = true;
	while (!noted(m, j, err)) {
		if (m->n->stopping) {
			j->lost = true;
			return err->code;
		}
		warn(m, err, &told);
		fiber_sleep(m->n->e, AGAIN);
	}
	return 0;
}

bool handover_try_stays(struct nvm *m, struct handover_out *o, struct hci_error *err)
{
	o->stays = o->stays || noted(m, o->job, err);
	return o->stays;
}

void handover_stays(struct nvm *m, struct handover_out *o)
{
	struct hci_error err;
	bool told = false;

	while (m->out == o && !m->n->stopping && !handover_try_stays(m, o, &err)) {
		warn(m, &err, &told);
		fiber_sleep(m->n->e, AGAIN);
	}
}

static void ran_on_fiber(void *arg)
{
	struct handover_out *o = arg;
	struct node *n = o->vm->n;

	handover_stays(o->vm, o);
	o->users--;
	vm_fiber_end(n);
}

void handover_ran_on(struct nvm *m)
{
	struct handover_out *o = m->out;

	if (!o || o->ran_on)
		return;
	log_info(env_log(m->n->e), "VM %s: it goes on here after its memory has left", m->name);
	o->ran_on = true;
	o->users++;
	/* Without it the migration's end notes the same. */
	if (vm_fiber(m->n, ran_on_fiber, o, "vm-stays"))
		o->users--;
}

void handover_memory_ended(struct handover_out *o)
{
	struct nvm *m = o->vm;

	if (m->out == o && !o->stays && !(m->n->o.mutate & HO_MUTATE_NO_GATE))
		nvm_hold_writes(m, true);
}

bool handover_has_left(const struct handover_out *o, int rc)
{
	return !rc || (!o->ran_on && (o->released || o->memory_left));
}
