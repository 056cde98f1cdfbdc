/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole cluster in one process: a store and certificates in a temporary directory, a cluster handle
 * for each node with its node service on 127.0.0.1, and one handle for the test as the client.
 */
#ifndef TESTS_API_WORLD_H
#define TESTS_API_WORLD_H

#include <check.h>
#include <hci/hci.h>

#define WORLD_NODES 3

struct world {
	char dir[64], store[128];
	hci_cluster *client;
	hci_cluster *cluster[WORLD_NODES];
	hci_node *node[WORLD_NODES];
	char addr[WORLD_NODES][64];
	char who[WORLD_NODES + 1][16]; /* for the log */
	uint32_t ram_disks; /* of the nodes: set it, then stop and start them */
	uint32_t copy_depth; /* of the nodes: kept by world_up() */
	const char *libvirt_uri; /* of the nodes: set it, then stop and start them */
	struct hci_error err;
};

/* tls: with certificates. Ends the test when anything fails. */
void world_up(struct world *w, int tls);
void world_node_start(struct world *w, int i);
void world_node_stop(struct world *w, int i);
/* Pool "p" with two disks and a spare on each node. */
void world_pool(struct world *w, uint32_t rebuild_delay_ms);
void world_down(struct world *w);

#define ok(call)                                                                            \
	do {                                                                                \
		int rc_ = (call);                                                           \
		ck_assert_msg(rc_ >= 0, #call ": %s: %s", hci_strerror(rc_), w.err.message); \
	} while (0)

#endif
