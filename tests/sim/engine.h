/* SPDX-License-Identifier: Apache-2.0 */
/* The volume engine behind struct wl_ops, and what is checked when all is over. */
#ifndef TESTS_SIM_ENGINE_H
#define TESTS_SIM_ENGINE_H

#include "sim/harness.h"
#include "sim/workload.h"

/* arg of wl_ops.attach */
struct engine {
	struct cl_node *client;
	struct uuid volume;
	uint64_t lease_ttl;
};

extern const struct wl_ops engine_ops;

/* From a fiber on a client. */
struct vol *engine_vol(void *handle);
/* Compares every block of all copies of every segment; fails the cluster when they differ. may_be_lost:
 * those that a disk refuses for their checksum do not count. */
void engine_compare(struct life *l, const struct uuid *volume, bool may_be_lost);

#endif
