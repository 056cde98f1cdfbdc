/* SPDX-License-Identifier: Apache-2.0 */
/* Between the simulated store's data (store_sim_data.c) and its clients (store_sim.c). */
#ifndef STORE_STORE_SIM_IMPL_H
#define STORE_STORE_SIM_IMPL_H

#include "env/sim_impl.h"
#include "store/driver.h"
#include "store/store_sim.h"

struct simstore_lease {
	struct list link;
	struct simstore *ss;
	uint64_t id, ttl;
	struct sim_ev expire;
};

struct simstore {
	struct sim *sim;
	uint64_t rev, compacted;
	struct store_kv **kv; /* sorted by key */
	size_t nkv, kv_cap;
	struct store_event *hist; /* by revision, those after `compacted` */
	size_t nhist, hist_cap;
	struct list leases;
	uint64_t last_lease;
	struct list ops, watches;
	bool cut[SIM_NODES_MAX];
	uint32_t lose_before, lose_after;
	uint64_t lat_min, lat_max;
};

/* store_sim_data.c */
void simdata_init(struct simstore *ss);
void simdata_free(struct simstore *ss);
/* Does what the request asks and fills in the answer; memory of the answer from the current arena. */
void simdata_apply(struct simstore *ss, struct store_req *req);
/* Index of the first event after rev. */
size_t simdata_after(const struct simstore *ss, uint64_t rev);

/* store_sim.c */
void simstore_changed(struct simstore *ss); /* there is a new revision */

#endif
