/* SPDX-License-Identifier: Apache-2.0 */
/* A benchmark's folder: it goes with us, and so does what earlier runs left that were killed. */
#ifndef BENCH_SCRATCH_H
#define BENCH_SCRATCH_H

#include <stddef.h>

/* Makes DIR/hci-bench-volume-XXXXXX, in out, after removing those of runs that are dead. It has a file "lock" in it. */
int scratch_make(const char *dir, char *out, size_t cap);
void scratch_remove(const char *dir);

#endif
