/* SPDX-License-Identifier: Apache-2.0 */
/* What content.c and content_index.c share. */
#ifndef CLUSTER_CONTENT_IMPL_H
#define CLUSTER_CONTENT_IMPL_H

#include "cluster/content.h"
#include "cluster/handover_pages.h"
#include "compute/guest_pages.h"

struct content {
	struct node *n;
	uint64_t index_left;     /* bytes that indexes may still take */
	struct ho_pages *pages;  /* NULL: no migration for a long time */
	struct guest_pages *guests; /* NULL: guests that run here are not read */
	struct guest_pages_stat told; /* what the metrics have of them */
	struct metric *m_known, *m_guests, *m_read, *m_served;
	unsigned sets;           /* migrations under way */
	struct env_timer idle;   /* it was so long: the pages are given up */
};

#endif
