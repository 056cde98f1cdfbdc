/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies: loading plugins (include/hci/plugin*.h) and asking them, with every answer checked as
 * if it came from a stranger. A policy decides over a snapshot; it does no I/O and keeps no state.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <hci/plugin_placement.h>
#include <hci/plugin_scheduler.h>
#include <hci/plugin_store.h>

#include "env/env.h"

struct policy;

/*
 * Loads (dlopen, never unmapped again) and configures. HCI_E_PLUGIN with the cause: missing, not a
 * plugin, other ABI, other kind, file or folder writable by others, required op missing, refused
 * its config. May block: from a worker or at start. log is copied; what it points at outlives the
 * policy.
 */
int policy_load(const char *name, const char *path, const char *config, const struct log *log,
		struct policy **out, struct hci_error *err);
void policy_unref(struct policy *p);
struct policy *policy_ref(struct policy *p);
int policy_kind(const struct policy *p); /* HCI_POLICY_PLACEMENT, HCI_POLICY_SCHEDULER */
const char *policy_plugin_name(const struct policy *p);
const char *policy_plugin_version(const struct policy *p);

/*
 * Place one segment: out gets the indices of `want` (= req->want) disks in snap->disks, best first.
 * Checked: distinct, in range, on distinct failure domains, not those that the snapshot marks as
 * unusable; scores are finite numbers; else HCI_E_PLUGIN. HCI_E_NOPLACE: the message sums up the
 * plugin's reasons, out is not touched. reasons, scores: NULL, or an array of snap->ndisks, filled
 * in for HCI_E_NOPLACE too. One call at a time on a policy: never blocks.
 */
int policy_place(struct policy *p, const struct hci_placement_snapshot *snap,
		 const struct hci_placement_request *req, uint32_t *out, uint32_t want,
		 char (*reasons)[256], double *scores, struct hci_error *err);
/* The same for a VM: the index of one node. */
int policy_schedule(struct policy *p, const struct hci_scheduler_snapshot *snap,
		    const struct hci_scheduler_request *req, uint32_t *out_node,
		    char (*reasons)[256], double *scores, struct hci_error *err);

/* Where the plugins are that come with libhci: beside the library, or in HCI_PLUGIN_DIR (build trees). */
void plugin_shipped_path(const char *plugin, char *out, size_t cap);
/* Loads a store driver, with the checks of policy_load(); what it does not have is NULL. May block. */
int plugin_load_store(const char *path, struct hci_store_ops *ops, struct hci_error *err);

#endif
