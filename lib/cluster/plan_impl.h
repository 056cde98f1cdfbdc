/* SPDX-License-Identifier: Apache-2.0 */
/* What plan.c and balance.c share. */
#ifndef CLUSTER_PLAN_IMPL_H
#define CLUSTER_PLAN_IMPL_H

#include "cluster/plan.h"
#include "cluster/place.h"

bool plan_add(struct plan *p, uint32_t vol, uint32_t segment, const struct uuid *from, const struct uuid *to);

/* Chunks of a volume's map, one after the other, until fn fails. */
typedef int plan_chunk_fn(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err);
int plan_each_chunk(struct core *c, const struct rec_volume *v, plan_chunk_fn *fn, void *arg, struct hci_error *err);

#endif
