/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of a pool for placement policies, and asking: what place.c and balance.c share. */
#ifndef CLUSTER_PLACE_H
#define CLUSTER_PLACE_H

#include "cluster/core_impl.h"

struct snap {
	struct core *c;
	const char *pool;
	uint32_t purpose;
	struct hci_placement_snapshot s;
	struct hci_placement_disk *disks;
	struct uuid *ids;
	uint32_t n, cap;
	bool failed;
};

/* The pool's disks as the mirror has them. snap_free() also after a failure. */
int snap_make(struct core *c, const char *pool, uint32_t purpose, struct snap *x, struct hci_error *err);
void snap_free(struct snap *x);
uint32_t snap_find(const struct snap *x, const struct uuid *id); /* UINT32_MAX: not in it */

/* The policy that places: the volume's, else the pool's, else "spread". */
const char *place_policy_name(struct core *c, const char *pool, const char *policy, char out[HCI_NAME_MAX]);
void place_request_init(struct hci_placement_request *r, uint32_t purpose, const struct uuid *volume, uint32_t segment,
			uint32_t replicas, uint64_t segment_bytes);
int place_ask(struct core *c, struct policy *p, struct snap *x, struct hci_placement_request *r, uint32_t *out,
	      struct hci_error *err);

#endif
