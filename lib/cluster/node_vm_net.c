/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this node has for the interfaces of VMs is told in nodenet/<name>, so that the scheduler places none where a bridge is
 * missing. Written when it changed and under the lease of the node's VMs, with which it goes; looked at now and then, and by a start
 * and a migration itself.
 */
#include "cluster/node_vm_impl.h"

#define LOOK (5 * NS_PER_S)

struct look {
	struct node *node;
	struct bridge bridges[REC_BRIDGES_MAX];
	uint32_t n;
};

static void look_run(void *arg)
{
	struct look *l = arg;

	l->n = l->node->o.hypervisor->bridges(l->node->o.compute, l->bridges, REC_BRIDGES_MAX);
}

static bool look(struct node *n, struct look *l, struct rec_nodenet *out)
{
	struct hci_error err;
	struct vm_thread t;

	memset(out, 0, sizeof(*out)); /* compared as bytes */
	l->node = n;
	if (vm_thread_start(n, &t, look_run, l, &err))
		return false;
	vm_thread_join(&t);
	out->n = MIN(l->n, REC_BRIDGES_MAX);
	out->more = l->n > out->n;
	for (uint32_t i = 0; i < out->n; i++) {
		snprintf(out->bridges[i].name, sizeof(out->bridges[i].name), "%s", l->bridges[i].name);
		out->bridges[i].mtu = l->bridges[i].mtu;
	}
	return true;
}

static void watch(struct node *n, struct look *l, struct rec_nodenet *told, struct rec_nodenet *now)
{
	uint64_t under = 0, next;
	char key[REC_KEY];

	key_nodenet(key, n->name);
	while (!n->stopping) {
		uint64_t lease = n->vms->lease;

		/* What could not be told is tried again. */
		if (look(n, l, now) && (under != lease || memcmp(now, told, sizeof(*now)))) {
			bool ok = !rec_nodenet_put(core_store(n->core), key, now, REC_REV_ANY, lease, NULL, NULL);

			under = ok ? lease : 0;
			*told = *now;
		}
		next = env_now(n->e) + LOOK;
		while (!n->stopping && env_now(n->e) < next)
			fiber_cond_wait_until(n->e, &n->vms->wake, next);
	}
}

void vm_net_fiber(void *arg)
{
	struct node *n = arg;
	struct look *l = MEM_NEW(struct look);
	struct rec_nodenet *recs = mem_calloc(2, sizeof(*recs));

	if (l && recs)
		watch(n, l, &recs[0], &recs[1]);
	mem_free(l);
	mem_free(recs);
	vm_fiber_end(n);
}
