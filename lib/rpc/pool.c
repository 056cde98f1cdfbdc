/* SPDX-License-Identifier: Apache-2.0 */
/* Free lists of payload buffers, bodies and objects. Owns only what lies in them. */
#include "rpc/pool.h"

#include "base/mem.h"

#define CLASS_MIN_SHIFT 12u /* 4 KiB */
#define CLASSES 9u          /* ... to 1 MiB; larger ones are not kept */

#define POOLING (!UNDER_ASAN)

#define PAYLOAD_KEPT_MAX (POOLING * 32 * MiB)
#define OBJS_KEPT_MAX 8192u

struct free_item {
	struct free_item *next;
};

struct free_list {
	struct free_item *top;
	uint32_t n;
};

struct rpc_pool {
	unsigned refs;
	size_t obj_size;
	uint64_t kept; /* bytes in payload lists */
	struct free_list payload[CLASSES];
	struct free_list bodies, objs;
};

struct rpc_pool *rpc_pool_new(size_t obj_size)
{
	struct rpc_pool *p = MEM_NEW(struct rpc_pool);

	if (!p)
		return NULL;
	p->refs = 1;
	p->obj_size = MAX(obj_size, sizeof(struct free_item));
	return p;
}

struct rpc_pool *rpc_pool_ref(struct rpc_pool *p)
{
	p->refs++;
	return p;
}

static void *pop(struct free_list *l)
{
	struct free_item *it = l->top;

	if (it) {
		l->top = it->next;
		l->n--;
	}
	return it;
}

static void push(struct free_list *l, void *p)
{
	struct free_item *it = p;

	it->next = l->top;
	l->top = it;
	l->n++;
}

void rpc_pool_unref(struct rpc_pool *p)
{
	void *it;

	if (!p || --p->refs)
		return;
	for (size_t i = 0; i < CLASSES; i++)
		while ((it = pop(&p->payload[i])))
			mem_free_aligned(it);
	while ((it = pop(&p->bodies)))
		mem_free(it);
	while ((it = pop(&p->objs)))
		mem_free(it);
	mem_free(p);
}

static unsigned class_of(uint32_t len)
{
	if (len <= HCI_BLOCK)
		return 0;
	return 32u - (unsigned)__builtin_clz(len - 1) - CLASS_MIN_SHIFT;
}

void *rpc_pool_payload(struct rpc_pool *p, uint32_t len)
{
	unsigned k = class_of(len);
	void *buf;

	if (k >= CLASSES)
		return mem_alloc_aligned(len);
	buf = pop(&p->payload[k]);
	if (!buf)
		return mem_alloc_aligned((size_t)1 << (k + CLASS_MIN_SHIFT));
	p->kept -= (uint64_t)1 << (k + CLASS_MIN_SHIFT);
	return buf;
}

void rpc_pool_payload_put(struct rpc_pool *p, void *buf, uint32_t len)
{
	unsigned k = class_of(len);
	uint64_t size = (uint64_t)1 << (k + CLASS_MIN_SHIFT);

	if (!buf)
		return;
	if (k >= CLASSES || p->kept + size > PAYLOAD_KEPT_MAX) {
		mem_free_aligned(buf);
		return;
	}
	p->kept += size;
	push(&p->payload[k], buf);
}

uint8_t *rpc_pool_body(struct rpc_pool *p, uint32_t len, uint32_t *cap)
{
	void *b;

	*cap = MAX(len, POOL_SMALL);
	if (len > POOL_SMALL)
		return mem_alloc(len);
	b = pop(&p->bodies);
	return b ? b : mem_alloc(POOL_SMALL);
}

void rpc_pool_body_put(struct rpc_pool *p, uint8_t *body, uint32_t cap)
{
	if (body && cap == POOL_SMALL && POOLING && p->bodies.n < OBJS_KEPT_MAX)
		push(&p->bodies, body);
	else
		mem_free(body);
}

void *rpc_pool_obj(struct rpc_pool *p)
{
	void *o = pop(&p->objs);

	return o ? o : mem_alloc(p->obj_size);
}

void rpc_pool_obj_put(struct rpc_pool *p, void *obj)
{
	if (POOLING && p->objs.n < OBJS_KEPT_MAX)
		push(&p->objs, obj);
	else
		mem_free(obj);
}
