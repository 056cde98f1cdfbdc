/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of a disk to compare with: for every block the contents it may have, in the order in
 * which they were asked for, and which of them were acknowledged. Knows nothing of the disk's
 * inside.
 */
#ifndef TESTS_UNIT_REPLICA_MODEL_H
#define TESTS_UNIT_REPLICA_MODEL_H

#include "replica/replica.h"

#define VOLS 2u
#define SEGS 3u
#define SEG_SIZE (1 * MiB)
#define BLOCKS (SEG_SIZE / HCI_BLOCK)
#define REGIONS (SEG_SIZE / REPL_REGION)

enum change { CHANGE_OPEN, CHANGE_DONE, CHANGE_FAILED };

struct entry {
	uint64_t id; /* 0: zeroes */
	enum change state;
};

struct mblock {
	struct entry *e;
	uint32_t n, cap;
};

struct mregion {
	uint64_t acked, asked; /* highest seq */
};

struct model {
	struct mblock b[VOLS][SEGS][BLOCKS];
	struct mregion r[VOLS][SEGS][REGIONS];
	uint64_t acked_last[VOLS], asked_last[VOLS], gen[VOLS];
	uint64_t ids;
};

struct model *model_new(void);
void model_free(struct model *m);

void fill_block(uint8_t *p, uint64_t id, uint32_t block);
/* The id in a block; fails the test when it is torn. */
uint64_t block_id(const uint8_t *p, uint32_t block);

/* A change of [first, first + n) is asked for; returns its id. zero: its contents are zeroes. */
void model_ask(struct model *m, unsigned v, unsigned s, uint32_t first, uint32_t n, uint64_t id,
	       uint64_t seq);
/* The oldest open one with this id ended. */
void model_end(struct model *m, unsigned v, unsigned s, uint32_t first, uint32_t n, uint64_t id,
	       uint64_t seq, bool ok);
/* How many changes of a block were asked for so far: given back to model_check. */
uint32_t model_now(const struct model *m, unsigned v, unsigned s, uint32_t block);
/* A read that was submitted at `since` found id. */
void model_check(struct model *m, unsigned v, unsigned s, uint32_t block, uint64_t id,
		 uint32_t since);
/* After a crash: what was found is what stays. */
void model_settle(struct model *m, unsigned v, unsigned s, uint32_t block, uint64_t id);
/* The last number that the slot tells, opened with the generation m->gen[v]. */
void model_settle_last(struct model *m, unsigned v, uint64_t last);
/* Of a segment: its table has one page. */
void model_settle_regions(struct model *m, unsigned v, unsigned s, const uint64_t seq[REGIONS]);
void model_dropped(struct model *m, unsigned v, unsigned s);

#endif
