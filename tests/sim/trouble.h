/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random faults within the promise of docs/architecture.md: any number of crashes, power losses, cuts
 * and passing disk faults; disks that fail for good only when all copies are in order, and at most one
 * less than there are copies.
 */
#ifndef TESTS_SIM_TROUBLE_H
#define TESTS_SIM_TROUBLE_H

#include "sim/harness.h"

enum trouble_kind {
	TR_KILL,
	TR_POWER,
	TR_POWER_ALL,
	TR_CLIENT,
	TR_CUT,
	TR_ISOLATE,
	TR_RESET,
	TR_DISK,
	TR_STORE_CUT,
	TR_STORE_LOSS,
	TR_COMPACT,
	TR_CLOCK,
	TR_DISK_DEATH,
	TR_REPLICAS, /* not faults, but what an operator does: the volume is to have more or fewer replicas, */
	TR_EVACUATE, /* a disk is to be emptied, */
	TR_MOVE,     /* copies are to move */
	TR_KINDS,
};

struct trouble {
	struct cluster *c;
	struct uuid volume;
	uint32_t replicas;
	uint64_t mean_ns;   /* between two faults */
	uint32_t mask;      /* bit per kind */
	bool over, quiet;   /* quiet: a death waits for calm */
	bool healing;       /* as many disks died as the promise allows: no more until the volume is whole */
	uint64_t died_at;
	unsigned burst;     /* faults still to come within moments of each other */
	unsigned active;    /* faults that are not undone yet */
	uint64_t calm_since;
	unsigned deaths_left;
	uint64_t count[TR_KINDS];
	char why[400];
};

const char *trouble_name(enum trouble_kind k);
void trouble_start(struct trouble *t);
/* Ends all that can end: boots, heals, mends. Disks that failed for good stay so. */
void trouble_end(struct trouble *t);
/* Every copy of every segment is in the in-sync set and on a live disk, as the store has it. */
bool trouble_volume_whole(struct trouble *t);

#endif
