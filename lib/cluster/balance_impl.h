/* SPDX-License-Identifier: Apache-2.0 */
/* A plan for a pool while it is made: what balance.c (fill), balance_load.c (load) and balance_read.c share. */
#ifndef CLUSTER_BALANCE_IMPL_H
#define CLUSTER_BALANCE_IMPL_H

#include "cluster/plan_impl.h"

struct copy { /* the copies of one segment that is at rest */
	uint32_t vol, segment, n;
	bool moved;                    /* by this plan */
	uint32_t disk[REC_COPIES_MAX]; /* in the snapshot */
	uint64_t load[REC_COPIES_MAX]; /* repl_load_of() */
};

struct balance {
	struct core *c;
	struct plan *p;
	struct snap snap;
	uint64_t *placed; /* bytes on each disk */
	uint64_t *load;   /* of each disk */
	bool *even;       /* nothing can leave the disk any more */
	bool *could;      /* the disk can be used at all */
	bool *may;        /* the policy may choose it: balance_ask() */
	struct rec_list vols;
	struct copy *segs; /* by volume and number */
	uint32_t nsegs, cap;
	uint32_t vol; /* being read */
	uint64_t smallest; /* segment in the pool */
	double share;
	unsigned asks;
	bool nomem;
};

static inline bool balance_counts(const struct balance *b, uint32_t i)
{
	return b->could[i] && b->snap.disks[i].capacity;
}

static inline uint64_t balance_bytes(const struct balance *b, const struct copy *s)
{
	return REC_AT(&b->vols, s->vol, struct rec_volume)->segment_size;
}

/* Which of the segment's copies is on the disk; -1: none. */
static inline int balance_position(const struct copy *s, uint32_t disk)
{
	for (uint32_t k = 0; k < s->n; k++)
		if (s->disk[k] == disk)
			return (int)k;
	return -1;
}

/* balance.c */
/* Asks the policy for a disk of those in b->may for the copy on `from`; the snapshot says what the plan has placed so far. 0, or
 * HCI_E_*. */
int balance_ask(struct balance *b, const struct copy *s, uint32_t from, uint32_t *to);
bool balance_move(struct balance *b, struct copy *s, uint32_t from, uint32_t to); /* false: b->nomem */

/* balance_read.c, from a fiber */
int balance_read_maps(struct balance *b, const char *pool, struct hci_error *err);
int balance_read_loads(struct balance *b, struct hci_error *err);

/* balance_load.c */
void balance_load(struct balance *b);
void balance_load_spread(const struct balance *b, double *most, double *least);

#endif
