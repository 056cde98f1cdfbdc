/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for numbered pages, taken a MiB at a time when first written. Both halves of the mirrored cache stand on it. */
#ifndef MEMSTREAM_SLOTS_H
#define MEMSTREAM_SLOTS_H

#include "base/base.h"

#define SLOTS_CHUNK 256u

struct slots {
	uint32_t n;
	uint8_t **chunks;
	uint8_t *there; /* bit map: written once */
};

/* False: no memory. */
bool slots_init(struct slots *s, uint32_t n);
void slots_free(struct slots *s);
/* The page's content, NULL when it was never written or there is no such slot. */
uint8_t *slots_get(const struct slots *s, uint32_t slot);
/* The page to be written; NULL: no memory, or no such slot. */
uint8_t *slots_put(struct slots *s, uint32_t slot);

#endif
