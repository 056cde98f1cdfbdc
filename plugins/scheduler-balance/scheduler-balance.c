/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scheduler policy "balance": the node with the fewest virtual CPUs running, then with the most of
 * the VM's data on it, then with the fewest VMs. Nodes without enough free memory are turned down
 * where memory is known. Takes no configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/plugin_scheduler.h>

struct instance {
	const struct hci_plugin_host *host;
};

static const struct hci_scheduler_node *node_at(const struct hci_scheduler_snapshot *s, uint32_t i)
{
	return (const struct hci_scheduler_node *)((const char *)s->nodes + (size_t)i * s->node_stride);
}

static void say(struct hci_scheduler_answer *a, uint32_t i, const char *text)
{
	if (a->reasons && a->reason_stride)
		snprintf(a->reasons + (size_t)i * a->reason_stride, a->reason_stride, "%s", text);
}

static const char *turn_down(const struct hci_scheduler_node *n, const struct hci_scheduler_request *r)
{
	if (!n->usable)
		return *n->why_not ? n->why_not : "not usable";
	if (n->memory && n->memory_free < r->memory)
		return "not enough free memory";
	return NULL;
}

static double score(const struct hci_scheduler_node *n, const struct hci_scheduler_request *r)
{
	double local = r->volume_bytes ? (double)n->local_bytes / (double)r->volume_bytes : 0;
	double load = (double)n->vcpus / (n->cpus ? (double)n->cpus : 1.0);

	return -load * 1000 + (local > 1 ? 1 : local) * 10 - (double)n->vms * 0.01;
}

/* Equal scores: the same choice on every node, another for another VM. */
static uint64_t tie(const struct hci_scheduler_node *n, uint64_t seed)
{
	uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);

	for (const char *c = n->name; *c; c++)
		h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	return h;
}

static int32_t schedule(void *instance, const struct hci_scheduler_snapshot *s, const struct hci_scheduler_request *r,
			struct hci_scheduler_answer *a)
{
	const struct hci_plugin_host *host = ((struct instance *)instance)->host;
	double best = 0;
	uint64_t best_tie = 0;
	int64_t at = -1;
	char text[160];

	for (uint32_t i = 0; i < s->nnodes; i++) {
		const struct hci_scheduler_node *n = node_at(s, i);
		const char *no = turn_down(n, r);
		double sc;

		if (no) {
			say(a, i, no);
			continue;
		}
		sc = score(n, r);
		if (a->scores)
			a->scores[i] = sc;
		snprintf(text, sizeof(text), "%u vCPUs in %u VMs run there, %u%% of its data is local", n->vcpus, n->vms,
			 r->volume_bytes ? (unsigned)(100 * (n->local_bytes < r->volume_bytes ? n->local_bytes : r->volume_bytes) /
						      r->volume_bytes)
					 : 0);
		say(a, i, text);
		if (at < 0 || sc > best || (sc == best && tie(n, r->seed) > best_tie)) {
			at = i;
			best = sc;
			best_tie = tie(n, r->seed);
		}
	}
	if (at < 0) {
		host->fail(host->ctx, "no node is up and has room");
		return -1;
	}
	a->chosen[0] = (uint32_t)at;
	return 0;
}

static int32_t balance_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x;

	if (*config) {
		host->fail(host->ctx, "it takes none");
		return -1;
	}
	x = calloc(1, sizeof(*x));
	if (!x) {
		host->fail(host->ctx, "out of memory");
		return -1;
	}
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

HCI_PLUGIN_EXPORT const struct hci_plugin *hci_plugin_entry(void);
HCI_PLUGIN_EXPORT const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
