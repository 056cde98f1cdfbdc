/* SPDX-License-Identifier: Apache-2.0 */
/* A scheduler plugin that behaves as its configuration says, mostly badly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <hci/plugin_scheduler.h>

struct instance {
	const struct hci_plugin_host *host;
	char how[32];
};

static int32_t open_instance(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x = calloc(1, sizeof(*x));

	if (!x || strlen(config) >= sizeof(x->how))
		return -1;
	x->host = host;
	strcpy(x->how, config);
	*out = x;
	return 0;
}

static int32_t schedule(void *instance, const struct hci_scheduler_snapshot *s,
			const struct hci_scheduler_request *r, struct hci_scheduler_answer *a)
{
	const struct instance *x = instance;

	(void)r;
	a->chosen[0] = 0;
	if (!strcmp(x->how, "range"))
		a->chosen[0] = s->nnodes;
	if (!strcmp(x->how, "unusable"))
		a->chosen[0] = 1;
	if (!strcmp(x->how, "more"))
		a->chosen[1] = 0;
	if (!strcmp(x->how, "nan"))
		a->scores[0] = (double)NAN;
	if (!strcmp(x->how, "unterminated"))
		memset(a->reasons, 'x', (size_t)a->reason_stride * s->nnodes);
	if (!strcmp(x->how, "positive"))
		return 1;
	if (!strcmp(x->how, "silent"))
		return -1;
	return 0;
}

static const struct hci_scheduler_ops ops = {
	.size = sizeof(ops),
	.open = open_instance,
	.close = free,
	.schedule = schedule,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_SCHEDULER,
	.name = "answers-vm",
	.version = "1",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
