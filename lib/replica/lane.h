/* SPDX-License-Identifier: Apache-2.0 */
/* Who goes first on a disk: see lane.c. */
#ifndef REPLICA_LANE_H
#define REPLICA_LANE_H

#include "env/env.h"

#define LANE_BUSY 2u  /* of those that come second, at a time while users have requests */
#define LANE_IDLE 32u /* while they have none */

/* The class of a request, as on the wire. */
enum lane_class {
	LANE_USER,
	LANE_COPY,  /* rebuild and resync */
	LANE_CLASSES,
};

struct lane_item {
	struct list link;
	struct lane *lane; /* from lane_submit to lane_end */
	enum lane_class class_;
	void (*go)(struct lane_item *); /* to the disk; lane_end() when it is through */
	void (*refuse)(struct lane_item *); /* instead of go: the disk was taken out of service. Ended. */
};

/* One a disk. Lives until the last item ended, then lane_close() frees it. */
uint32_t lane_share(const struct lane *l); /* as given to lane_new, or its default */
struct lane *lane_new(struct env *e, uint32_t busy);
void lane_close(struct lane *l); /* refuses what waits */
/* go() at once, perhaps from inside, or later. */
void lane_submit(struct lane *l, struct lane_item *x);
void lane_end(struct lane_item *x);

#endif
