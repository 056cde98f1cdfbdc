/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store of a simulated world: one object in memory, outside of all nodes, that never
 * fails by itself, and a client per node that reaches it over a network with latency, loss and cuts.
 * It stands for an etcd cluster that some nodes cannot reach at times.
 */
#ifndef STORE_STORE_SIM_H
#define STORE_STORE_SIM_H

#include "env/sim.h"
#include "store/store.h"

struct simstore;

struct simstore *simstore_new(struct sim *s);
/* Before sim_free(). Clients that are still open are cut loose. */
void simstore_free(struct simstore *ss);
/* A client on a node; from any code of that node. 0 or HCI_E_NOMEM. Closed by store_close(), or gone with a crash. */
int simstore_open(struct simstore *ss, struct env *e, struct store **out);

/* ---- faults ---- */

/* Nothing gets through between node (NULL: all nodes) and store. */
void simstore_cut(struct simstore *ss, struct sim_node *node, bool cut);
/* Of 1000 requests so many are lost on the way there, so many answers on the way back. */
void simstore_loss(struct simstore *ss, uint32_t before, uint32_t after);
/* One way, ns. */
void simstore_latency(struct simstore *ss, uint64_t min, uint64_t max);
/* Watches that have not been told everything lose their place. */
void simstore_compact(struct simstore *ss);

/* ---- for tests: at once, without a client ---- */

uint64_t simstore_revision(const struct simstore *ss);
/* Valid until the key is next changed; NULL when it is absent. */
const void *simstore_peek(const struct simstore *ss, const char *key, uint32_t *len);
void simstore_put(struct simstore *ss, const char *key, const void *value, uint32_t len);
/* Prints all keys, for a person looking for a bug. */
void simstore_dump(const struct simstore *ss);

#endif
