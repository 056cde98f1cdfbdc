/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a node for a VM by a scheduler policy. */
#ifndef CLUSTER_SCHEDULE_H
#define CLUSTER_SCHEDULE_H

#include "cluster/core.h"

struct core_vm_candidate {
	char node[HCI_NAME_MAX];
	double score;
	char reason[256];
};

/*
 * From a fiber. policy NULL or "": "balance". node: the choice, "" when there is none and reasons are asked for.
 * out NULL: the choice only, HCI_E_NOPLACE when there is none. mem_free(*out).
 */
int core_schedule(struct core *c, const char *policy, const char *vm, char node[HCI_NAME_MAX],
		  struct core_vm_candidate **out, size_t *n, struct hci_error *err);

#endif
