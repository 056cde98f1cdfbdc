/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large buffers that are used over and over, any thread's: what malloc() takes from the kernel for each of them anew has to be
 * cleared, page by page, which costs more than what is done with it. Keeps a few, of about the size that is asked for.
 */
#ifndef MEMSTREAM_SCRATCH_H
#define MEMSTREAM_SCRATCH_H

#include <pthread.h>

#include "base/base.h"

#define SCRATCH_KEPT 24u
#define SCRATCH_BYTES (16ull * MiB) /* kept, at most */

struct scratch {
	pthread_mutex_t lock;
	struct scratch_block *kept[SCRATCH_KEPT];
	unsigned n;
	uint64_t bytes;
};

void scratch_init(struct scratch *p);
/* All that was taken has come back. */
void scratch_free(struct scratch *p);
/* At least n bytes, NULL: no memory. */
void *scratch_take(struct scratch *p, size_t n);
/* NULL is fine. */
void scratch_give(struct scratch *p, void *data);

#endif
