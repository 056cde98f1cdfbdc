/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which copies are to move: to even out a pool, or to bring a volume to where its policy would place it today. Plans are
 * made from the store as it is and change nothing; who carries one out (node_reconf.c) may stop at any point and make a new
 * one, which has what is left to do.
 */
#ifndef CLUSTER_PLAN_H
#define CLUSTER_PLAN_H

#include "cluster/core.h"

struct plan_move {
	uint32_t vol; /* in plan.vols */
	struct rec_move m;
};

struct plan {
	struct uuid *vols;
	uint32_t nvols;
	struct plan_move *moves; /* by volume */
	uint32_t n, cap;
	uint64_t bytes; /* of the segments that move, as if they were full */
	/* Of a pool: the largest and smallest part of a data disk's capacity that segments are placed on, in percent. */
	double most, least, most_after, least_after;
	/*
	 * How much its data disks are used by those who read and write, as repl_load_of(): the most and the least used one. All 0
	 * when nothing is known. The last nload of the plan's moves, as they were made, are for its sake.
	 */
	double load_most, load_least, load_most_after, load_least_after;
	uint32_t nload;
};

/*
 * From a fiber. Evens out which part of each data disk is taken by segments, full or not, with as few moves as that takes: a copy
 * only leaves a disk that has more than its share, for one that has less and that the volume's policy agrees to.
 * load: after that much used copies leave disks that are used much more than the others, too, as far as that leaves the shares
 * as even as they are (balance_load.c).
 */
int plan_balance(struct core *c, const char *pool, bool load, struct plan *out, struct hci_error *err);
/* From a fiber. The volume's policy places it as if it were new; copies that are on one of the disks chosen stay. */
int plan_replace(struct core *c, const struct uuid *volume, struct plan *out, struct hci_error *err);
/*
 * From a fiber. One copy of each segment to that node, onto its disks with most room; of copies there already none moves. From:
 * only segments with a copy on that node, which is the one that goes; "": the first copy, or the one in the node's own domain.
 */
int plan_to_node(struct core *c, const struct uuid *volume, const char *from, const char *to, struct plan *out,
		 struct hci_error *err);
void plan_free(struct plan *p);

/*
 * From a fiber. 0, or HCI_E_NOPLACE: a volume's policy can never find another place for what is on the node's disks (node NULL:
 * on that disk), not even when all that is away has returned and there is room.
 */
int plan_can_empty(struct core *c, const char *node, const struct uuid *disk, struct hci_error *err);

/* From a fiber: how many copies the volumes have on these disks. */
int plan_count_copies(struct core *c, const struct uuid *disks, size_t n, uint64_t *copies, struct hci_error *err);

#endif
