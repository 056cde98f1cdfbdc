/* SPDX-License-Identifier: Apache-2.0 */
/* What the files share that do the jobs which change where copies are. */
#ifndef CLUSTER_NODE_RECONF_H
#define CLUSTER_NODE_RECONF_H

#include "cluster/node_impl.h"
#include "cluster/reconf_jobs.h"

bool reconf_is_job(const char *type);

struct reconf_run {
	struct node *n;
	struct core_job j;
	char result[400];
};

/* To its end: 0 (result is set), HCI_E_CANCELLED, an error; HCI_E_CLOSED: the service stops or another node has the job. */
int reconf_volume_set(struct reconf_run *x, struct hci_error *err);
int reconf_evacuate(struct reconf_run *x, struct hci_error *err);
int reconf_volume_move(struct reconf_run *x, struct hci_error *err);
int reconf_balance(struct reconf_run *x, struct hci_error *err);

#endif
