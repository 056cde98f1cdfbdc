/* SPDX-License-Identifier: Apache-2.0 */
/* Machines of the simulated world, beginning and end; calls from one program into another one's code. */
#include "sim/vmm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What the world keeps until its end, so that nobody has to know when the last of several programs is done with it. */
struct kept {
	struct list link;
	_Alignas(16) uint8_t data[];
};

void *vmm_keep(struct vmm *v, size_t size)
{
	struct kept *k = calloc(1, sizeof(*k) + size);

	if (!k)
		abort();
	list_push(&v->kept, &k->link);
	return k->data;
}

struct post {
	struct sim_node *n;
	void (*fn)(struct env *e, void *arg);
	void *arg;
};

static void deliver(void *arg)
{
	struct post *p = arg;

	sim_node_call(p->n, p->fn, p->arg);
}

void vmm_post(struct vmm *v, struct sim_node *n, void (*fn)(struct env *e, void *arg), void *arg)
{
	struct post *p = vmm_keep(v, sizeof(*p));

	*p = (struct post){ n, fn, arg };
	sim_at(v->sim, sim_now(v->sim) + 20000 + sim_rand_below(v->sim, NS_PER_MS), deliver, p);
}

void vmm_fail(struct vmm *v, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	if (v->failed)
		return;
	v->failed = true;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	v->on_fail(v->arg, why);
}

void vmm_init(struct vmm *v, struct sim *s)
{
	v->sim = s;
	list_init(&v->kept);
	for (unsigned i = 0; i < VMM_HOSTS; i++) {
		struct host *h = &v->host[i];
		char name[HCI_NAME_MAX];

		h->v = v;
		h->index = i;
		snprintf(h->name, sizeof(h->name), "n%u", i);
		h->service = sim_node_new(s, h->name);
		snprintf(name, sizeof(name), "libvirtd%u", i);
		h->libvirtd = sim_node_new(s, name);
		snprintf(name, sizeof(name), "qemu%u", i);
		h->qemu_node = sim_node_new(s, name);
		sim_node_join(h->libvirtd, h->service);
		sim_node_join(h->qemu_node, h->service);
		vmm_boot_libvirtd(h);
	}
}

void vmm_free(struct vmm *v)
{
	struct list *l;

	while ((l = list_pop(&v->kept)))
		free(list_entry(l, struct kept, link));
	for (unsigned i = 0; i < VMM_HOSTS; i++)
		free(v->host[i].q);
}
