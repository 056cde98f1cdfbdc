/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scheduler policy "balance": the node with the fewest virtual CPUs running, then with the most of
 * the VM's data on it, then with the fewest VMs. Nodes without enough free memory are turned down
 * where memory is known; the VM itself is not counted where it runs now. Takes no configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/plugin_scheduler.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

struct instance {
	const struct hci_plugin_host *host;
};

static int32_t refuse(const struct hci_plugin_host *host, const char *message)
{
	host->fail(host->ctx, message);
	return -1;
}

static const struct hci_scheduler_node *node_at(const struct hci_scheduler_snapshot *s, uint32_t i)
{
	return (const struct hci_scheduler_node *)((const char *)s->nodes +
						   (size_t)i * s->node_stride);
}

static void say(struct hci_scheduler_answer *a, uint32_t i, const char *text)
{
	if (a->reasons && a->reason_stride)
		snprintf(a->reasons + (size_t)i * a->reason_stride, a->reason_stride, "%s", text);
}

/* Where the VM runs now, it is no burden: counted, it would be sent away from every node it is on.
 */
static struct hci_scheduler_node without(const struct hci_scheduler_node *at,
					 const struct hci_scheduler_request *r)
{
	struct hci_scheduler_node n = *at;

	if (!*r->current || strcmp(n.name, r->current) != 0)
		return n;
	n.vms -= MIN(n.vms, 1u);
	n.vcpus -= MIN(n.vcpus, r->vcpus);
	n.memory_free += r->memory;
	return n;
}

static const char *turn_down(const struct hci_scheduler_node *n,
			     const struct hci_scheduler_request *r)
{
	if (!n->usable)
		return *n->why_not ? n->why_not : "not usable";
	if (n->memory && n->memory_free < r->memory)
		return "not enough free memory";
	return NULL;
}

static double local_share(const struct hci_scheduler_node *n, const struct hci_scheduler_request *r)
{
	return r->volume_bytes
		       ? (double)MIN(n->local_bytes, r->volume_bytes) / (double)r->volume_bytes
		       : 0;
}

static double score(const struct hci_scheduler_node *n, const struct hci_scheduler_request *r)
{
	double load = (double)n->vcpus / (n->cpus ? (double)n->cpus : 1.0);

	return -load * 1000 + local_share(n, r) * 10 - (double)MIN(n->vms, 999) * 0.01;
}

/* Equal scores: the same choice on every node, another for another VM. */
static uint64_t tie(const struct hci_scheduler_node *n, uint64_t seed)
{
	uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);

	for (const char *c = n->name; *c; c++)
		h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	return h;
}

static int better(const struct hci_scheduler_node *a, const struct hci_scheduler_node *b,
		  const struct hci_scheduler_request *r)
{
	double x = score(a, r), y = score(b, r);

	if (x != y)
		return x > y;
	if (tie(a, r->seed) != tie(b, r->seed))
		return tie(a, r->seed) > tie(b, r->seed);
	return strcmp(a->name, b->name) > 0;
}

static void explain(const struct hci_scheduler_node *n, const struct hci_scheduler_request *r,
		    struct hci_scheduler_answer *a, uint32_t i)
{
	char text[160];

	if (a->scores)
		a->scores[i] = score(n, r);
	snprintf(text, sizeof(text),
		 "%u vCPUs in %u other VMs run there, %u%% of its data is local", n->vcpus, n->vms,
		 (unsigned)(100 * local_share(n, r)));
	say(a, i, text);
}

static int32_t schedule(void *instance, const struct hci_scheduler_snapshot *s,
			const struct hci_scheduler_request *r, struct hci_scheduler_answer *a)
{
	const struct hci_plugin_host *host = ((struct instance *)instance)->host;
	struct hci_scheduler_node best;
	int64_t at = -1;

	/* A host that is older than these fields has not got them. */
	if (s->node_stride < END_OF(struct hci_scheduler_node, local_bytes) ||
	    r->size < END_OF(struct hci_scheduler_request, current) ||
	    a->size < END_OF(struct hci_scheduler_answer, reasons))
		return refuse(host, "this libhci is too old for the plugin");
	for (uint32_t i = 0; i < s->nnodes; i++) {
		struct hci_scheduler_node n = without(node_at(s, i), r);
		const char *no = turn_down(&n, r);

		if (no) {
			say(a, i, no);
			continue;
		}
		explain(&n, r, a, i);
		if (at < 0 || better(&n, &best, r)) {
			at = i;
			best = n;
		}
	}
	if (at < 0)
		return refuse(host, "no node is up and has room");
	a->chosen[0] = (uint32_t)at;
	return 0;
}

static int32_t balance_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x;

	if (*config)
		return refuse(host, "it takes none");
	x = calloc(1, sizeof(*x));
	if (!x)
		return refuse(host, "out of memory");
	x->host = host;
	*out = x;
	return 0;
}

static void balance_close(void *instance)
{
	free(instance);
}

static const struct hci_scheduler_ops ops = {
	.size = sizeof(ops),
	.open = balance_open,
	.close = balance_close,
	.schedule = schedule,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_SCHEDULER,
	.name = "scheduler-balance",
	.version = "1.0",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
