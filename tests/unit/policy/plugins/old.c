/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin built against the headers of release 0.1: usable disks with the most room, no instance.
 */
#include <string.h>

#include <hci/plugin_placement.h>

static const struct hci_placement_disk *at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks +
						   (size_t)i * s->disk_stride);
}

static int taken(const struct hci_placement_snapshot *s, const uint32_t *idx, uint32_t n,
		 const char *domain)
{
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(at(s, idx[i])->domain, domain))
			return 1;
	return 0;
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	(void)instance;
	for (uint32_t n = 0; n < r->want; n++) {
		uint32_t best = s->ndisks;

		for (uint32_t i = 0; i < s->ndisks; i++)
			if (at(s, i)->usable && !taken(s, r->keep, r->nkeep, at(s, i)->domain) &&
			    !taken(s, a->chosen, n, at(s, i)->domain) &&
			    (best == s->ndisks || at(s, i)->free > at(s, best)->free))
				best = i;
		if (best == s->ndisks)
			return -1;
		a->chosen[n] = best;
	}
	return 0;
}

static const struct hci_placement_ops ops = { .size = sizeof(ops), .place = place };

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "old",
	.version = "0.1",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
