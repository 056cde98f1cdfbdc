/* SPDX-License-Identifier: Apache-2.0 */
/* What must be when a migration is over, however it went: the guest at one machine, by right, and nothing left of the other. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/move_impl.h"

int move_where(struct move *m)
{
	for (int i = 0; i < VMM_HOSTS; i++) {
		struct qemu *q = m->v.host[i].q;

		if (q && q->run && !q->arriving && !q->quitting)
			return i;
	}
	return -1;
}

bool move_job_ended(struct move *m, const char *id, struct rec_job *r)
{
	char key[REC_KEY];

	key_job(key, id);
	return MOVE_PEEK(m, job, key, r) && r->state != REC_JOB_PENDING && r->state != REC_JOB_RUNNING;
}

bool move_was_stopped(struct move *m)
{
	struct rec_job *r = calloc(1, sizeof(*r));
	bool stopped;

	if (!r)
		abort();
	stopped = m->stop_asked && move_job_ended(m, MOVE_STOP_JOB, r) && r->state == REC_JOB_DONE;
	free(r);
	return stopped;
}

/* Sockets: libvirtd's, the memory's meeting places, the exports, the USB device's, which is where the guest runs and nowhere else. */
static void look_at_sockets(struct move *m, unsigned i, bool runs, char *why, size_t cap)
{
	bool disk = false, usb = false, *known;
	const char *name;

	for (unsigned k = 0; (name = sim_unix_name(m->v.host[i].service, k)); k++) {
		if (!strcmp(name, VMM_LIBVIRT))
			continue;
		known = !runs ? NULL : !strcmp(name, "/run/" MOVE_VM "-" MOVE_VOLUME ".sock") ? &disk :
			!strcmp(name, "/run/" MOVE_VM "-usb:" MOVE_USB ".sock") ? &usb : NULL;
		if (known)
			*known = true;
		else
			snprintf(why, cap, "the socket %.100s is left at n%u", name, i);
	}
	if (runs && (!disk || !usb))
		snprintf(why, cap, "n%u has no socket for the guest's %s", i, disk ? "USB device" : "disk");
}

static void look_at_service(struct move *m, unsigned i, bool runs, char *why, size_t cap)
{
	struct nvm *x = m->node[i] && m->node[i]->vms ? nvm_find(m->node[i], MOVE_VM) : NULL;

	if (!m->node[i])
		snprintf(why, cap, "the service of n%u is not there again", i);
	else if (x && (x->in || x->out))
		snprintf(why, cap, "n%u still waits for one to %s", i, x->in ? "come" : "leave");
	else if (x && x->lock.held)
		snprintf(why, cap, "n%u is at work with the VM", i);
	else if (runs && (!x || !x->owned || !x->running))
		snprintf(why, cap, "n%u does not know that the VM runs there", i);
	else if (!runs && x && (x->owned || x->ndisks))
		snprintf(why, cap, "n%u has %s of a VM that is not there", i, x->owned ? "the key" : "disks");
}

static void look_at_records(struct move *m, int at, char *why, size_t cap)
{
	struct rec_vm *vm = calloc(1, sizeof(*vm));
	struct rec_volatt *att = calloc(1, sizeof(*att));
	struct rec_vmrun run;
	char key[REC_KEY];
	bool there;

	key_vmrun(key, MOVE_VM);
	there = MOVE_PEEK(m, vmrun, key, &run);
	if (there != (at >= 0))
		snprintf(why, cap, "the key is %s", there ? "there, and no guest" : "not there, and a guest is");
	else if (there && strcmp(run.node, m->v.host[at].name))
		snprintf(why, cap, "the guest runs at n%d without the key, which %.60s has", at, run.node);
	key_vm(key, MOVE_VM);
	if (!vm || !att || !MOVE_PEEK(m, vm, key, vm))
		snprintf(why, cap, "the VM's record is gone");
	else if (at >= 0 && (strcmp(vm->node, m->v.host[at].name) || vm->wanted != REC_VM_RUNNING))
		snprintf(why, cap, "the guest runs at n%d, its record says %s, and %s", at, vm->node,
			 vm->wanted == REC_VM_RUNNING ? "running" : "stopped");
	else if (at < 0 && vm->wanted == REC_VM_RUNNING)
		snprintf(why, cap, "no guest runs, and one is wanted");
	key_volatt(key, &m->volume);
	there = MOVE_PEEK(m, volatt, key, att);
	if (!*why && there && at < 0)
		snprintf(why, cap, "the volume is attached, and no guest runs");
	free(vm);
	free(att);
}

void move_whole(struct move *m, char *why, size_t cap)
{
	int at = move_where(m);

	*why = '\0';
	for (int i = 0; i < VMM_HOSTS; i++) {
		struct qemu *q = m->v.host[i].q;

		if (q && i != at)
			snprintf(why, cap, "there is a domain at n%d which %s", i,
				 q->arriving ? "waits for its memory" : q->io_error ? "is paused by its disk" : "does not run");
		if (m->v.host[i].half)
			snprintf(why, cap, "there is a domain at n%d whose libvirtd ended as it was made", i);
		look_at_sockets(m, (unsigned)i, i == at, why, cap);
		look_at_service(m, (unsigned)i, i == at, why, cap);
	}
	look_at_records(m, at, why, cap);
	if (at >= 0 && move_was_stopped(m))
		snprintf(why, cap, "the guest runs at n%d, though it was stopped", at);
	if (!*why && at < 0 && !m->host_lost && !m->stop_asked)
		snprintf(why, cap, "the guest does not run any more");
}
