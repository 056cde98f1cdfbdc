/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much is done for a batch. The codec is worth its processor time where the link holds the stream up; where it does not, it
 * is what holds the stream up itself, and steps aside: first references and compression go, then everything but looking for
 * zeroes. Owns the decision for each next batch, and the measurements it is made of:
 *
 *     link       the rate of large messages from when they may go until the other side has received them, over some of them: a shaper
 *                lets the first ones through at once
 *     full_ns    what a batch takes from end to end when all is done for it and the link holds nothing up, whatever does:
 *                our workers, the other side's, its disks, the VMMs, whoever else wants the processors
 *
 * A batch of plain pages takes its bytes by the link's rate. If that is less than full_ns they go as they are; if it is a few
 * times as much they do while nothing is in line for the link, so that link and processors both have something to do.
 *
 * Small messages say little of what a link carries, and one that was never filled is taken for slower than it is. So at first and now and
 * then, with nothing in line, some batches of plain pages go to see: seldom, while it turns out that it was in vain.
 *
 * On a slow link (ASIDE_SLOWEST) it never steps aside, however busy the processors are: bytes are what others want there.
 *
 * What the two ends know of each other does not depend on any of it: pages that went plain are in no slot and claimed by nobody, and what
 * slots hold of their places is an older version at both ends alike.
 */
#ifndef MEMSTREAM_ASIDE_H
#define MEMSTREAM_ASIDE_H

#include "compute/memstream/credit.h"

enum aside_step {
	ASIDE_FULL,  /* all classes, compressed */
	ASIDE_LIGHT, /* zeroes, repeats and changes; the rest as it is */
	ASIDE_PLAIN, /* zeroes; the rest as it is, and nothing is hashed or kept */
};

/* What mst_opts.aside may be. */
enum aside_mode {
	ASIDE_FOLLOWS, /* link and processors */
	ASIDE_NEVER,
	/* For tests and measurements. */
	ASIDE_ALWAYS_LIGHT,
	ASIDE_ALWAYS_PLAIN,
	ASIDE_DANCES, /* up and down, by the batch's number */
	ASIDE_MODES
};

struct aside {
	enum aside_mode mode;
	enum aside_step last;
	struct credit link; /* what is in line, and its latency */
	struct {
		uint64_t bytes, ns, at; /* of large messages, the last ones count most; at: the last one */
	} carried;
	uint64_t received_at;
	uint64_t full_ns;  /* for ASIDE_UNIT bytes; 0: not known yet */
	struct {
		uint64_t from, bytes, wire; /* from 0: none begun */
		uint32_t n;
	} spell;               /* of batches that were done in full, one after the other */
	uint64_t plain_since;  /* 0: not plain */
	uint32_t again;        /* batches that are done in full all the same, so that full_ns is not of long ago */
	uint64_t probe_at, probe_wait;
	uint32_t probing; /* batches that are still to go for a look at the link */
};

#define ASIDE_UNIT (512u << 10)
#define ASIDE_SLOWEST (50u * 1000 * 1000) /* bytes a second */

void aside_init(struct aside *a, enum aside_mode mode, uint64_t now);
/*
 * For the next batch: its number, its bytes, how many more wait behind it; since when the oldest message that is not received
 * yet may go (0: there is none).
 */
enum aside_step aside_choose(struct aside *a, uint32_t seq, uint32_t bytes, uint32_t behind, uint64_t oldest, uint64_t now);
/* A message is ready to go. */
void aside_ready(struct aside *a, uint32_t wire, uint64_t now, struct credit_mark *mark);
/* It may not go yet, and not for the link's sake. */
void aside_held(struct aside *a, uint64_t now, struct credit_mark *mark);
void aside_received(struct aside *a, uint32_t wire, uint64_t now, const struct credit_mark *mark);
/* The other VMM has a batch's bytes. idle: nothing else is on its way or waits. */
void aside_taken(struct aside *a, enum aside_step step, uint32_t bytes, uint32_t wire, bool idle, uint64_t oldest, uint64_t now);

#endif
