/* SPDX-License-Identifier: Apache-2.0 */
/* What node_reconf_run.c and node_reconf_moves.c share. */
#ifndef CLUSTER_NODE_RECONF_IMPL_H
#define CLUSTER_NODE_RECONF_IMPL_H

#include "cluster/node_reconf.h"
#include "cluster/plan.h"

struct reconf_watch {
	uint64_t done, total;
	uint64_t moved_at; /* done was last larger */
};

/* Tells how far it is, and waits a moment. False: the job is to end now, and *rc says why. */
bool reconf_go_on(struct reconf_run *x, struct reconf_watch *w, uint64_t done, const char *phase, int *rc);
/* Or another was faster: to be tried again. */
bool reconf_store_is_away(int rc);
/* The whole plan, some volumes at a time. *done goes on from where it was. */
int reconf_carry_out(struct reconf_run *x, const struct plan *plan, struct reconf_watch *w, uint64_t *done, const char *phase,
		     struct hci_error *err);

#endif
