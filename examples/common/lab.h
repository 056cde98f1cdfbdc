/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole cluster in one process, for the examples: a store and disks in a temporary directory,
 * three nodes on 127.0.0.1, a pool "p". Real programs open a cluster that is there; see hci-node
 * for the other half. No TLS here, which is for tests only.
 */
#ifndef EXAMPLES_LAB_H
#define EXAMPLES_LAB_H

#include <hci/hci.h>
#include <stdio.h>
#include <stdlib.h>

#define LAB_NODES 3

struct lab {
	char dir[64], store[128], address[LAB_NODES][64];
	hci_cluster *client; /* what an example uses */
	hci_cluster *cluster[LAB_NODES];
	hci_node *node[LAB_NODES];
};

void lab_up(struct lab *lab);
void lab_down(struct lab *lab);
/* Node i (from 0) leaves, or comes back. */
void lab_stop_node(struct lab *lab, int i);
void lab_start_node(struct lab *lab, int i);
/* A volume in pool "p" with a replica on each node. */
void lab_volume(struct lab *lab, const char *name, uint64_t bytes);

/* What examples do about errors: say it and end. err is the caller's struct hci_error. */
#define must(call)                                                                   \
	do {                                                                         \
		int rc_ = (call);                                                    \
		if (rc_ < 0) {                                                       \
			fprintf(stderr, "%s: %s\n", hci_strerror(rc_), err.message); \
			exit(1);                                                     \
		}                                                                    \
	} while (0)

#endif
