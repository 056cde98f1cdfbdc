/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the codec's benchmark share. */
#ifndef BENCH_MEMSTREAM_H
#define BENCH_MEMSTREAM_H

#include "compute/memstream/memstream.h"

struct stream_run {
	const char *stream, *image, *second;
	struct mst_opts opts;
};

int bench_stages(void);
int bench_stream(struct stream_run *r);

void die(const char *what);
/* s: of the source; to: of the destination. */
void print_stats(const char *name, const struct mst_stats *s, const struct mst_stats *to, double seconds);
double now_s(void);

#endif
