/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin of a later release of the same ABI: longer descriptor, more operations than we know. */
#include <hci/plugin_placement.h>

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	(void)instance;
	(void)s;
	for (uint32_t i = 0; i < r->want; i++)
		a->chosen[i] = i;
	return 0;
}

static void never_called(void)
{
	__builtin_trap();
}

static const struct {
	struct hci_placement_ops first;
	void (*later[4])(void);
} ops = {
	.first = { .size = sizeof(ops), .place = place },
	.later = { never_called, never_called, never_called, never_called },
};

static const struct {
	struct hci_plugin first;
	uint64_t later[8];
} plugin = {
	.first = {
		.abi = HCI_PLUGIN_ABI,
		.size = sizeof(plugin),
		.kind = HCI_PLUGIN_PLACEMENT,
		.name = "newer",
		.version = "9.0",
		.ops = &ops,
	},
	.later = { 1, 2, 3, 4, 5, 6, 7, 8 },
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin.first;
}
