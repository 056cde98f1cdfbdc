/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random faults within the promise of docs/architecture.md: any number of crashes, power losses, cuts and passing
 * disk faults; disks that fail for good only while each segment keeps an in-sync copy on another.
 *
 * Half of them come at random moments, the others lie in ambush at marked points of the engine (env/mark.h). An
 * ambush stays where it is until the point is reached, so that rare points are nearly always watched.
 */
#ifndef TESTS_SIM_TROUBLE_H
#define TESTS_SIM_TROUBLE_H

#include "sim/harness.h"
#include "sim/points.h"

enum trouble_kind {
	TR_KILL,
	TR_POWER,
	TR_POWER_ALL,
	TR_CLIENT,
	TR_PAUSE,
	TR_CUT,
	TR_ISOLATE,
	TR_SPLIT,
	TR_RESET,
	TR_DISK,
	TR_FULL,
	TR_STORE_CUT,
	TR_STORE_LOSS,
	TR_COMPACT,
	TR_CLOCK,
	TR_AMBUSH,
	TR_DISK_DEATH,
	TR_ROT, /* bits of segment files, tables or logs flip, a write is lost or goes elsewhere: only in trouble.lies */
	TR_REPLICAS, /* not faults, but what an operator does: the volume is to have more or fewer replicas, */
	TR_EVACUATE, /* a disk is to be emptied, */
	TR_MOVE,     /* copies are to move */
	TR_LOG_END,  /* power is lost, and the last that a disk had acknowledged looks like a torn write: in place of deaths */
	TR_CACHE,    /* the SSD of a client's read cache fails for a while, or rots */
	TR_SSD,       /* ssd.h, of those with write logs: errors, stalls... in its place, */
	TR_SSD_AWAY,  /* out for a while, */
	TR_SSD_BLANK, /* and a blank one there meanwhile, */
	TR_SSD_SWAP,  /* or another node's, */
	TR_SSD_LOST,  /* lost for good: in place of deaths, as is the next, */
	TR_SSD_OLD,   /* back with what it held before */
	TR_STOP,      /* stops.h: a node's service ends as it should, */
	TR_UNMOUNT,   /* or comes back when its disks are not mounted */
	TR_KINDS,
};

#define TR_VOLUMES_MAX 4u
#define TR_AMBUSHES 12u

struct ambush {
	bool armed;
	uint32_t target, skip;
	enum trouble_kind kind;
};

struct trouble {
	struct cluster *c;
	struct points *points;
	struct {
		struct uuid uuid;
		uint32_t replicas;
	} volume[TR_VOLUMES_MAX];
	unsigned nvolumes;
	uint64_t mean_ns;   /* between two faults */
	uint32_t mask;      /* bit per kind */
	bool stops;         /* TR_STOP, TR_UNMOUNT */
	uint64_t stops_rand;
	bool lies;          /* media return what was not written: a block may be lost, but is never wrong */
	bool log_ends;      /* the ends of one node's logs may rot, when all else is well: the other replicas have it all */
	bool log_end_next;  /* instead of a death */
	enum trouble_kind ssd_next; /* likewise: TR_SSD_LOST, TR_SSD_OLD; 0: none */
	struct cl_ssd *old_ssd;     /* of which there is a copy, */
	struct sim_image *old_image;
	unsigned old_made;          /* from when these logs had been made on it */
	uint64_t hold_until; /* after that: until all is noticed */
	bool over, quiet;   /* quiet: a death waits for calm */
	bool healing;       /* as many disks died as the promise allows: no more until all is whole */
	bool second;        /* but one more disk is to die in the middle of the rebuild */
	uint64_t died_at;
	uint64_t hush_until; /* a long fault is left alone, to see where it leads */
	unsigned burst;     /* faults still to come within moments of each other */
	unsigned active;    /* faults that are not undone yet */
	uint64_t calm_since;
	unsigned deaths_left;
	struct list undos, strikes; /* still to come */
	struct ambush ambush[TR_AMBUSHES];
	uint64_t count[TR_KINDS];
	char why[400];
};

const char *trouble_name(enum trouble_kind k);
/* From the beginning of the run: counts points. Faults come from trouble_start() on. */
void trouble_init(struct trouble *t);
void trouble_start(struct trouble *t);
/* Ends all that can end: boots, heals, mends. Disks that failed for good stay so. */
void trouble_end(struct trouble *t);
void trouble_free(struct trouble *t);

/* faults.c */
struct undo {
	struct list link; /* trouble.undos */
	struct trouble *t;
	enum trouble_kind kind;
	struct cl_node *a, *b;
	struct cl_disk *disk;
};
void trouble_undo_at(struct trouble *t, uint64_t when, struct undo what); /* its end */
void fault_begin(struct trouble *t, enum trouble_kind kind, struct cl_node *at); /* NULL: anywhere */
void fault_disk_dies(struct cl_disk *d);
void faults_free(struct trouble *t);

/* death.c */
/* Every copy of every segment is in the in-sync set and on a live disk, as the store has it. */
bool trouble_volumes_whole(struct trouble *t);
/* Waits for calm, then takes up to replicas - 1 disks of distinct nodes away at once, or one and another soon after. */
void death_first(struct trouble *t);
void death_second(struct trouble *t);
/* Somebody takes the dead disks out of the cluster: no delay any more. */
void death_removed(struct trouble *t);

static inline uint64_t tr_pick(struct trouble *t, uint64_t n)
{
	return sim_rand_below(t->c->sim, n);
}

#endif
