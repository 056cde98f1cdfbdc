/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement policy "pack": the fullest disks that still have room, on distinct nodes: keeps others empty.
 * Takes no configuration.
 */
#include <hci/disk.h>
#include <hci/plugin_placement.h>

#include "../common/place.h"

static double score(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	double fill = (double)(d->capacity - MIN(d->free, d->capacity)) / (double)d->capacity;

	return (double)prefer(d, r) * 1e6 + floor(fill * 100) * 1e3 + MIN((double)(d->segments + d->volume_segments), 999.0);
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s, const struct hci_placement_request *r,
		     struct hci_placement_answer *a)
{
	return place_by_score(instance, s, r, a, score);
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

HCI_PLUGIN_EXPORT const struct hci_plugin *hci_plugin_entry(void);
HCI_PLUGIN_EXPORT const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
