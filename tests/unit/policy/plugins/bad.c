/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin with one thing wrong, chosen by BAD_* at compile time. */
#include <hci/plugin_placement.h>
#include <hci/plugin_scheduler.h>

#ifdef BAD_UNRESOLVED
int nobody_defines_this(void);
#endif

static int32_t place(void *instance, const struct hci_placement_snapshot *snapshot,
		     const struct hci_placement_request *request,
		     struct hci_placement_answer *answer)
{
	(void)instance;
	(void)snapshot;
	(void)request;
	answer->chosen[0] = 0;
#ifdef BAD_UNRESOLVED
	return nobody_defines_this();
#else
	return 0;
#endif
}

static const struct hci_placement_ops ops = {
#ifdef BAD_OPS_SHORT
	.size = offsetof(struct hci_placement_ops, place),
#elif defined(BAD_OPS_HUGE)
	.size = 0xfffffff0u,
#else
	.size = sizeof(ops),
#endif
#ifdef BAD_OPS_RESERVED
	.reserved = 3,
#endif
#ifdef BAD_OP_MISSING
	.place = (1) ? NULL : place,
#else
	.place = place,
#endif
};

#ifdef BAD_SCHEDULE_MISSING
static const struct hci_scheduler_ops scheduler_ops = { .size = sizeof(scheduler_ops) };
#endif

__attribute__((unused)) static const struct hci_plugin plugin = {
#ifdef BAD_ABI
	.abi = HCI_PLUGIN_ABI + 1,
#else
	.abi = HCI_PLUGIN_ABI,
#endif
#ifdef BAD_DESCRIPTOR_SHORT
	.size = offsetof(struct hci_plugin, ops),
#elif defined(BAD_DESCRIPTOR_HUGE)
	.size = 0x7fffffffu,
#else
	.size = sizeof(plugin),
#endif
#ifdef BAD_KIND
	.kind = 9,
#elif defined(BAD_SCHEDULE_MISSING)
	.kind = HCI_PLUGIN_SCHEDULER,
#else
	.kind = HCI_PLUGIN_PLACEMENT,
#endif
#ifdef BAD_RESERVED
	.reserved = 1,
#endif
#ifdef BAD_NAME_LONG
	.name = "a-name-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on-63!",
#elif defined(BAD_NAME_ODD)
	.name = "white space",
#elif !defined(BAD_NAME_NULL)
	.name = "bad",
#endif
#ifndef BAD_VERSION_NULL
	.version = "1",
#endif
#ifdef BAD_SCHEDULE_MISSING
	.ops = &scheduler_ops,
#elif !defined(BAD_OPS_NULL)
	.ops = &ops,
#endif
};

const struct hci_plugin *hci_plugin_entry(void)
{
#ifdef BAD_DESCRIPTOR_NULL
	return NULL;
#else
	(void)ops;
	return &plugin;
#endif
}
