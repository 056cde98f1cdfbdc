/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of an encoder's large messages, used again: half a MiB that is new each time costs more in page faults than to fill it.
 * Messages outlive the encoder with the carrier, so the pool lives until the last one has come back.
 */
#ifndef MEMSTREAM_POOL_H
#define MEMSTREAM_POOL_H

#include "compute/memstream/memstream.h"

struct msg_pool;

/* Of messages with room for cap bytes. NULL: no memory. */
struct msg_pool *msg_pool_new(size_t cap);
/* The pool's maker is through with it. NULL is fine. */
void msg_pool_close(struct msg_pool *p);
/* len is 0. NULL: no memory. */
struct mst_msg *msg_pool_take(struct msg_pool *p);
/* What mst_msg_free() does. */
void msg_pool_give(struct mst_msg *m);

#endif
