/* SPDX-License-Identifier: Apache-2.0 */
/* CPU and latency of hits, fills and writes on the real env, with a cache file in a directory. */
#ifndef BENCH_CACHE_HITS_H
#define BENCH_CACHE_HITS_H

int hits_measure(const char *dir);

#endif
