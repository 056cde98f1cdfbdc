/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer. Once an append failed for memory, `failed` stays set and appends do
 * nothing, so that a writer checks once at the end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/base.h"

struct buf {
	uint8_t *data;
	size_t len, cap;
	bool failed;
};

#define BUF_INIT ((struct buf){ 0 })

void buf_append(struct buf *b, const void *data, size_t len);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_reset(struct buf *b); /* len = 0, keeps the memory, clears failed */
void buf_free(struct buf *b);  /* back to BUF_INIT */

#endif
