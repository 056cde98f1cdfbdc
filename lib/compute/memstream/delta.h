/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page as changes of another: runs of varint (words that stay), varint (words that differ), these words as they are to
 * be; the last run of staying words ends the page. Words are eight bytes.
 */
#ifndef MEMSTREAM_DELTA_H
#define MEMSTREAM_DELTA_H

#include "base/base.h"

#define DELTA_MAX 3072u /* larger ones are not worth it: the page is sent as new */

/* Bytes written to out (room for DELTA_MAX), or 0: too different. */
unsigned delta_make(const void *base, const void *page, uint8_t *out);
/* Reads at *p, before end: page has the base's content, and is changed. False: malformed. */
bool delta_apply(void *page, const uint8_t **p, const uint8_t *end);

#endif
