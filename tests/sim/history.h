/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written to a volume, by block, and whether what is read back may be. It knows nothing of
 * engines: it is told when writes and reads begin and end.
 *
 * The rules, for each 4 KiB block:
 *   - A read returns the last acknowledged write, or one that was in flight at some moment while the
 *     read ran.
 *   - A write that ended in an error, or with its writer's death, is uncertain: the block holds its old
 *     or its new content. Once a read that ran while nothing was in flight has returned one of them, it
 *     stays so.
 *   - Writes in flight together may take effect in either order.
 *   - What a read returned has taken effect: no later read returns what was over before that write began.
 *   - What is returned is one whole block of content that was written to this very block.
 *
 * A session is one attachment. When a new one begins, writes of older ones are over: one may still be
 * reported as acknowledged later (the answer was slow), and must then have been there all the time.
 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "base/base.h"

struct history;

struct history *history_new(uint64_t nblocks, uint64_t seed);
void history_free(struct history *h);
/* A new attachment; returns its number, from 1. */
uint32_t history_session(struct history *h);

/* The write's id, never 0. */
uint64_t history_write_begin(struct history *h, uint32_t session, uint64_t block, uint64_t n, bool zero);
/* The content: n blocks. */
void history_fill(const struct history *h, uint64_t id, uint64_t block, uint64_t n, void *buf);
/* ok: acknowledged. Otherwise it is uncertain from now on. */
void history_write_end(struct history *h, uint64_t id, bool ok);

uint64_t history_read_begin(struct history *h, uint32_t session, uint64_t block, uint64_t n);
/* Checks and ends it; buf NULL: it failed, nothing is learnt. */
void history_read_end(struct history *h, uint64_t read, const void *buf);
/* The writer died: its reads are forgotten, its writes uncertain. */
void history_crash(struct history *h, uint32_t session);

/* The first rule that was broken, with block and ids, for people; NULL while all is well. */
const char *history_violation(const struct history *h);

struct history_counts {
	uint64_t acked, uncertain, checked, resolved; /* resolved: uncertain blocks settled by a read */
};
void history_counts(const struct history *h, struct history_counts *out);
/* Prints to stderr what happens to this block: for a person looking for a bug. */
void history_trace(struct history *h, uint64_t block, uint64_t (*now)(void *arg), void *arg);
/* Folds into a number what every block may hold: to compare two runs. */
uint64_t history_digest(const struct history *h);

#endif
