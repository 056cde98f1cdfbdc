/* SPDX-License-Identifier: Apache-2.0 */
/* What content.c and content_index.c share. */
#ifndef CLUSTER_CONTENT_IMPL_H
#define CLUSTER_CONTENT_IMPL_H

#include "cluster/content.h"

struct content {
	struct node *n;
	uint64_t index_left;     /* bytes that indexes may still take */
	struct mst_store *store; /* pages that came with guests; NULL: none for a long time */
	struct list knowns;      /* struct known: what other nodes' stores have */
	unsigned sets;           /* migrations under way */
	struct env_timer idle;   /* nothing came or went for so long: pages and what is known are given up */
};

#endif
