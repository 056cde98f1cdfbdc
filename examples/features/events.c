/* SPDX-License-Identifier: Apache-2.0 */
/* What happens in the cluster, from one pollable queue: here a node that leaves and a volume that
 * feels it. */
#include "../common/lab.h"

#include <string.h>

static const char *type_name(int32_t type)
{
	switch (type) {
	case HCI_EVENT_NODE_UP: return "node up";
	case HCI_EVENT_NODE_DOWN: return "node down";
	case HCI_EVENT_DISK_STATE: return "disk state";
	case HCI_EVENT_DISK_FULL: return "disk full";
	case HCI_EVENT_VOLUME_DEGRADED: return "volume degraded";
	case HCI_EVENT_VOLUME_HEALTHY: return "volume healthy";
	case HCI_EVENT_VOLUME_ATTACHED: return "volume attached";
	case HCI_EVENT_VOLUME_DETACHED: return "volume detached";
	case HCI_EVENT_JOB: return "job";
	default: return "other"; /* a later library may have more */
	}
}

/* Prints events until one of this type came. */
static void until(hci_cluster *c, int32_t type)
{
	struct hci_event e = { 0 };
	struct hci_error err;

	while (e.type != type) {
		int rc = hci_event_next(c, &e, sizeof(e), 20000, &err);

		must(rc);
		if (!rc) {
			fprintf(stderr, "no such event within 20 s\n");
			exit(1);
		}
		printf("%-16s  %-36s  %-7s %s\n", type_name(e.type), e.object, e.node, e.text);
	}
}

int main(void)
{
	struct hci_error err;
	char block[4096] = "something new";
	struct lab lab;
	hci_volume *vol;

	lab_up(&lab);
	lab_volume(&lab, "v", 32 << 20);
	/* From now on. hci_event_fd() gives a descriptor for an event loop; we just wait. */
	must(hci_event_subscribe(lab.client, 0, &err));

	must(hci_volume_attach(&vol, lab.client, "v", NULL, &err));
	until(lab.client, HCI_EVENT_VOLUME_ATTACHED);

	lab_stop_node(&lab, 2);
	/* Every segment gets a write, so that one of them misses node 3. */
	for (uint64_t at = 0; at < hci_volume_size(vol); at += 4 << 20)
		must(hci_volume_pwrite(vol, block, sizeof(block), at, &err));
	until(lab.client, HCI_EVENT_VOLUME_DEGRADED);

	lab_start_node(&lab, 2);
	/* What it missed is copied to it, and it is in sync again. */
	until(lab.client, HCI_EVENT_VOLUME_HEALTHY);

	hci_volume_unref(vol);
	lab_down(&lab);
	return 0;
}
