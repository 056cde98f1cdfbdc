/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free lists of one struct rpc: payload buffers, reply bodies and request objects, so that a
 * message costs no malloc. Reference counted, because calls and requests may be freed after the rpc
 * is. One thread. Under AddressSanitizer nothing is kept, so that it sees every use after free.
 */
#ifndef RPC_POOL_H
#define RPC_POOL_H

#include "base/base.h"

#define POOL_SMALL 256u /* bytes of a body that comes from a free list */

struct rpc_pool;

struct rpc_pool *rpc_pool_new(size_t obj_size);
struct rpc_pool *rpc_pool_ref(struct rpc_pool *p);
void rpc_pool_unref(struct rpc_pool *p);

/* Aligned to HCI_BLOCK; len > 0, the same when given back. */
void *rpc_pool_payload(struct rpc_pool *p, uint32_t len);
void rpc_pool_payload_put(struct rpc_pool *p, void *buf, uint32_t len);

/* *cap is set to the bytes that fit; give it back with that. */
uint8_t *rpc_pool_body(struct rpc_pool *p, uint32_t len, uint32_t *cap);
void rpc_pool_body_put(struct rpc_pool *p, uint8_t *body, uint32_t cap);

/* Objects of obj_size, not zeroed. */
void *rpc_pool_obj(struct rpc_pool *p);
void rpc_pool_obj_put(struct rpc_pool *p, void *obj);

#endif
