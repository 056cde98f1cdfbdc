/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that migrations need not send again: those that came to this node with other VMs, and what is known of those at the nodes
 * that VMs of this one went to. Shared by all migrations of the node; memory only, and lost with the service.
 */
#ifndef CLUSTER_HANDOVER_PAGES_H
#define CLUSTER_HANDOVER_PAGES_H

#include "cluster/node.h"
#include "compute/memstream/memstream.h"

struct ho_pages;

struct ho_pages *ho_pages_new(struct node *n); /* NULL: out of memory */
void ho_pages_free(struct ho_pages *p);        /* when no path is open any more; NULL is fine */
/* Providers for the codec; false: none (out of memory), and the migration does without. */
bool ho_pages_in(struct ho_pages *p, struct mst_provider *out);
bool ho_pages_out(struct ho_pages *p, const char *to, struct mst_provider *out);

#endif
