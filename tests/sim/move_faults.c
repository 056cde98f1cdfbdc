/* SPDX-License-Identifier: Apache-2.0 */
/* What can happen to a migration, and how it is mended. */
#include <stdlib.h>

#include "sim/move_impl.h"

static const char *const names[MOVE_FAULTS] = {
	[MOVE_CUT] = "cut",
	[MOVE_CUT_THERE] = "cut-there",
	[MOVE_CUT_BACK] = "cut-back",
	[MOVE_RESET] = "reset",
	[MOVE_KILL_SRC] = "kill-src",
	[MOVE_KILL_DST] = "kill-dst",
	[MOVE_HOST_SRC] = "host-src",
	[MOVE_HOST_DST] = "host-dst",
	[MOVE_LIBVIRTD_SRC] = "libvirtd-src",
	[MOVE_LIBVIRTD_DST] = "libvirtd-dst",
	[MOVE_QEMU_SRC] = "qemu-src",
	[MOVE_QEMU_DST] = "qemu-dst",
	[MOVE_STORE_SRC] = "store-src",
	[MOVE_STORE_DST] = "store-dst",
	[MOVE_STORE_ALL] = "store-all",
	[MOVE_SLOW_SRC] = "slow-src",
	[MOVE_SLOW_DST] = "slow-dst",
	[MOVE_CANCEL] = "cancel",
	[MOVE_GONE_SRC] = "gone-src",
	[MOVE_STOP] = "stop",
};

const char *move_fault_name(enum move_fault f)
{
	return names[f];
}

struct open_fault {
	struct move *m;
	enum move_fault f;
};

/* Which end it is about. */
static unsigned end_of(enum move_fault f)
{
	switch (f) {
	case MOVE_KILL_DST:
	case MOVE_HOST_DST:
	case MOVE_LIBVIRTD_DST:
	case MOVE_QEMU_DST:
	case MOVE_STORE_DST:
	case MOVE_SLOW_DST:
		return MOVE_TO;
	default:
		return MOVE_FROM;
	}
}

static void mend(void *arg)
{
	struct open_fault *x = arg;
	struct move *m = x->m;
	unsigned i = end_of(x->f);
	struct host *h = &m->v.host[i];

	switch (x->f) {
	case MOVE_CUT:
	case MOVE_CUT_THERE:
	case MOVE_CUT_BACK:
		sim_net_heal(m->sim);
		break;
	case MOVE_KILL_SRC:
	case MOVE_KILL_DST:
	case MOVE_GONE_SRC:
		move_boot(m, i);
		break;
	case MOVE_HOST_SRC:
	case MOVE_HOST_DST:
		vmm_boot_libvirtd(h);
		move_boot(m, i);
		break;
	case MOVE_LIBVIRTD_SRC:
	case MOVE_LIBVIRTD_DST:
		vmm_boot_libvirtd(h);
		break;
	case MOVE_STORE_SRC:
	case MOVE_STORE_DST:
		simstore_cut(m->store, h->service, false);
		break;
	case MOVE_STORE_ALL:
		simstore_cut(m->store, NULL, false);
		break;
	default:
		break;
	}
	m->open--;
}

static void ask_to_cancel(struct move *m)
{
	struct rec_job *r = calloc(1, sizeof(*r));
	char key[REC_KEY];

	key_job(key, MOVE_JOB);
	if (r && MOVE_PEEK(m, job, key, r)) {
		r->cancel_requested = true;
		MOVE_PUT(m, job, key, r);
	}
	free(r);
}

/* As hci_vm_stop() makes it; once, and not after the end. */
static void ask_to_stop(struct move *m)
{
	struct rec_job *r = calloc(1, sizeof(*r));
	struct rec_vm *vm = calloc(1, sizeof(*vm));
	struct rec_vmrun run;
	char key[REC_KEY];

	if (!r || !vm)
		abort();
	key_vm(key, MOVE_VM);
	if (!MOVE_PEEK(m, vm, key, vm))
		abort();
	key_vmrun(key, MOVE_VM);
	snprintf(r->node, sizeof(r->node), "%s", MOVE_PEEK(m, vmrun, key, &run) ? run.node : vm->node);
	snprintf(r->id, sizeof(r->id), MOVE_STOP_JOB);
	snprintf(r->type, sizeof(r->type), "vm-stop");
	snprintf(r->target, sizeof(r->target), MOVE_VM);
	snprintf(r->args[0].key, sizeof(r->args[0].key), "how");
	snprintf(r->args[0].value, sizeof(r->args[0].value), "destroy");
	r->nargs = 1;
	r->created = r->updated = env_realtime(sim_node_env(m->v.host[2].service));
	key_job(key, MOVE_STOP_JOB);
	if (m->counting && !m->stop_asked) {
		m->stop_asked = true;
		MOVE_PUT(m, job, key, r);
	}
	free(r);
	free(vm);
}

static void kill_service(struct move *m, unsigned i, bool power)
{
	m->core[i] = NULL;
	m->node[i] = NULL;
	if (power)
		sim_node_power_loss(m->v.host[i].service);
	else
		sim_node_crash(m->v.host[i].service);
}

void move_strike(struct move *m, enum move_fault f)
{
	unsigned i = end_of(f);
	struct host *h = &m->v.host[i];
	struct sim_node *a = m->v.host[MOVE_FROM].service, *b = m->v.host[MOVE_TO].service;
	/* A moment, longer than connections stay silent, longer than leases last, longer than the source asks for. */
	static const uint64_t times[] = { 300 * NS_PER_MS, 3 * NS_PER_S, 9 * NS_PER_S, 25 * NS_PER_S, 80 * NS_PER_S };
	uint64_t long_ns = times[sim_rand_below(m->sim, ARRAY_SIZE(times))];
	struct open_fault *x = vmm_keep(&m->v, sizeof(*x));

	x->m = m;
	x->f = f;
	switch (f) {
	case MOVE_CUT:
	case MOVE_CUT_THERE:
	case MOVE_CUT_BACK:
		if (f != MOVE_CUT_BACK)
			sim_net_cut(m->sim, a, b, true);
		if (f != MOVE_CUT_THERE)
			sim_net_cut(m->sim, b, a, true);
		break;
	case MOVE_RESET:
		sim_net_reset_conns(m->sim, a, b);
		break;
	case MOVE_KILL_SRC:
	case MOVE_KILL_DST:
		kill_service(m, i, false);
		break;
	case MOVE_HOST_SRC:
	case MOVE_HOST_DST:
		m->host_lost = true;
		h->boots++;
		kill_service(m, i, true);
		vmm_kill_libvirtd(h);
		vmm_kill_qemu(h);
		h->half = false; /* what libvirtd knows of running domains is gone with the machine */
		break;
	case MOVE_LIBVIRTD_SRC:
	case MOVE_LIBVIRTD_DST:
		vmm_kill_libvirtd(h);
		break;
	case MOVE_QEMU_SRC:
	case MOVE_QEMU_DST:
		m->host_lost |= h->q && !h->q->arriving;
		vmm_kill_qemu(h);
		break;
	case MOVE_GONE_SRC:
		m->host_lost |= h->q && !h->q->arriving;
		kill_service(m, i, false);
		vmm_kill_qemu(h);
		break;
	case MOVE_STORE_SRC:
	case MOVE_STORE_DST:
		simstore_cut(m->store, h->service, true);
		break;
	case MOVE_STORE_ALL:
		simstore_cut(m->store, NULL, true);
		break;
	case MOVE_SLOW_SRC:
	case MOVE_SLOW_DST:
		sim_node_pause(h->service, sim_now(m->sim) + long_ns);
		break;
	case MOVE_CANCEL:
		ask_to_cancel(m);
		break;
	case MOVE_STOP:
		ask_to_stop(m);
		break;
	case MOVE_FAULTS:
		abort();
	}
	m->open++;
	m->longest = MAX(m->longest, long_ns);
	sim_at(m->sim, sim_now(m->sim) + long_ns, mend, x);
}
