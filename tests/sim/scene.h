/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One seed: a cluster, volumes, clients that load them in turn, random trouble for a while; then all is mended, the
 * volumes must become whole again, every block must read as its history says, and all copies must be equal.
 */
#ifndef TESTS_SIM_SCENE_H
#define TESTS_SIM_SCENE_H

#include "sim/engine.h"
#include "sim/trouble.h"

enum scene_fail { SCENE_FAIL_NONE, SCENE_FAIL_MEMORY, SCENE_FAIL_IO, SCENE_FAIL_SEND, SCENE_FAIL_STORE, SCENE_FAIL_ANSWER };

struct scene_opts {
	uint64_t seed;
	uint64_t seconds;      /* of trouble */
	bool verbose;
	uint64_t trace;        /* block to trace, + 1 */
	uint32_t trace_volume;
	uint32_t mask;         /* kinds of trouble */
	uint32_t mutate, mutate_replica, mutate_cache;
	struct points *points; /* counted here */
	/* Instead of random trouble: a node killed, power lost everywhere, the writer killed, a disk that dies, one after
	 * the other; and the nth allocation or operation after the volumes were made fails. */
	bool rehearsed;
	bool ssds; /* some disks have their write log on an SSD, whatever the seed says; rehearsed: one is out for a while, then lost */
	enum scene_fail fail;
	uint64_t fail_nth; /* 0: none */
};

struct scene_result {
	char why[640]; /* the rule that was broken, "" for none */
	uint64_t events, virtual_ns, digest;
	uint64_t could_fail;   /* how many allocations or operations there were to fail */
	uint64_t reads, writes, failed, attaches;
	uint64_t mended; /* blocks, at the end */
	struct history_counts history;
	uint64_t faults[TR_KINDS];
	struct cache_info cache;
	struct cl_log_counts logs;
};

/* Media that rot, drop writes, or put them elsewhere. */
static inline bool scene_lies(uint64_t seed)
{
	return seed % 8 == 7;
}

void scene_play(const struct scene_opts *o, struct scene_result *out);

#endif
