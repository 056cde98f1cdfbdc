/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the read cache share: an opened cache on a simulated SSD at /d1, and reads that a fiber waits for. */
#ifndef TESTS_UNIT_CACHE_WORLD_H
#define TESTS_UNIT_CACHE_WORLD_H

#include "cache/cache.h"
#include "unit/replica/world.h"

#define BS 16384u /* block of the tests' caches unless they say so */

struct cache_opts small_opts(void); /* /d1/cache, 2 MiB, 32 blocks of memory */
struct cache *must_open_cache(struct env *e, const struct cache_opts *o);
/* Attaches as generation gen: numbers begin at gen * 1000 and stay below the next. */
struct cache_vol *must_attach(struct cache *c, unsigned vol, uint64_t gen);

/* False: a miss. */
bool cached(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len, void *buf);
/* All of it is cached, and byte c. */
void expect(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len, int c);
void expect_miss(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len);
void fill(struct cache_vol *cv, uint64_t off, uint64_t len, int c);
void write_ok(struct cache_vol *cv, uint64_t off, uint64_t len, int c, uint64_t seq);
/* Until what was admitted is on the SSD. */
void settle(struct env *e);
/* Proves everything, with one number for all regions. */
void prove_all(struct cache_vol *cv, uint64_t seq);
struct cache_info info_of(const struct cache *c);

#endif
