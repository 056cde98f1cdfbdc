/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement policy "pack": the fullest disks that still have room for a whole segment, on distinct
 * failure domains: keeps others empty, so that they can be taken away or sleep. Takes no
 * configuration.
 */
#include "../common/place.h"

static double score(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	return preferred(d, r) + fill_percent(d) + segments_part(d);
}

static const struct policy pack = { .score = score, .must_fit = 1 };

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	return place_by_score(instance, &pack, s, r, a);
}

static const struct hci_placement_ops ops = {
	.size = sizeof(ops),
	.open = place_open,
	.close = place_close,
	.place = place,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "placement-pack",
	.version = "1.0",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
