/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin that knows less than the host: of a disk only the first fields, of the request no more
 * than what is wanted. Walks with the host's stride, as plugin and host of different releases must.
 */
#include <hci/plugin_placement.h>

struct short_disk {
	char uuid[HCI_UUID_STR];
	char reserved[3];
	char node[HCI_NAME_MAX];
	char domain[HCI_NAME_MAX];
	int32_t role;
	int32_t disk_class;
	uint32_t usable;
};

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	uint32_t n = 0;

	(void)instance;
	/* The last usable disks: their place shows that the stride was used. */
	for (uint32_t i = s->ndisks; i-- && n < r->want;) {
		const struct short_disk *d =
			(const void *)((const char *)s->disks + (size_t)i * s->disk_stride);

		if (d->usable)
			a->chosen[n++] = i;
	}
	return n == r->want ? 0 : -1;
}

static const struct hci_placement_ops ops = { .size = sizeof(ops), .place = place };

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "short",
	.version = "1",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
