/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/policy.h
 * Policies: where segments and VMs go, decided by plugins (hci/plugin.h) that anybody can replace.
 */
#ifndef HCI_POLICY_H
#define HCI_POLICY_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_POLICY_PLACEMENT 1
#define HCI_POLICY_SCHEDULER 2

/**
 * Register a policy under a name. The plugin is loaded and tried before anything is written.
 *
 * @param c       the cluster
 * @param name    of the policy
 * @param plugin  path of the shared object, the same on every node
 * @param config  handed to the plugin, NULL: ""
 * @param err     NULL, or filled in on failure
 * @return 0, HCI_E_INVAL, HCI_E_EXISTS, HCI_E_PLUGIN (missing, not a plugin, another ABI, writable by others, required op missing).
 * Threads: any. Blocks. Since 0.1.
 */
HCI_API int hci_policy_add(hci_cluster *c, const char *name, const char *plugin, const char *config, struct hci_error *err);

/** Remove a policy that no pool or volume names. @return 0, HCI_E_NOTFOUND, HCI_E_STATE (it comes with libhci), HCI_E_BUSY.
 * Since 0.1. */
HCI_API int hci_policy_remove(hci_cluster *c, const char *name, struct hci_error *err);

struct hci_policy_info {
	char name[HCI_NAME_MAX];
	char plugin[256];
	char config[512];
	char plugin_name[HCI_NAME_MAX];    /**< as the plugin calls itself; "" when it cannot be loaded here */
	char plugin_version[HCI_NAME_MAX];
	char error[256];                   /**< why it cannot be loaded here */
	int32_t kind;                      /**< HCI_POLICY_* */
	uint32_t reserved;
};

/** All policies, by name, those that come with libhci among them. As hci_node_list(). Since 0.1. */
HCI_API int hci_policy_list(hci_cluster *c, struct hci_policy_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

struct hci_policy_candidate {
	char object[HCI_NAME_MAX]; /**< UUID of a disk, or name of a node */
	char node[HCI_NAME_MAX];
	int32_t rank;              /**< 1 is the best; 0: turned down */
	uint32_t reserved;
	double score;
	char reason[256];          /**< why it was turned down, or what speaks for it */
};

/** Ask what a placement policy would choose for one new segment of a volume with so many replicas, with a reason for each disk. Nothing
 * changes. That there is no place for so many is no error: then no disk has a rank. As hci_node_list(). Since 0.1. */
HCI_API int hci_policy_explain_placement(hci_cluster *c, const char *policy, const char *pool, uint32_t replicas,
					 struct hci_policy_candidate **out, uint64_t *n, uint64_t info_size,
					 struct hci_error *err);

/** Ask where a scheduler policy would put a VM. Nothing changes. As hci_node_list(). Since 0.1. */
HCI_API int hci_policy_explain_vm(hci_cluster *c, const char *policy, const char *vm, struct hci_policy_candidate **out,
				  uint64_t *n, uint64_t info_size, struct hci_error *err);

HCI_END_DECLS
#endif
