/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aligned payload buffers, kept for reuse by powers of two. Owns nothing that is handed out. Large
 * ones are not kept: fresh memory costs only the pages that a client really fills.
 */
#include "base/mem.h"
#include "export/nbd_internal.h"

#define KEEP (16 * MiB)

/* The class of a size, or NBD_POOL_CLASSES for what is not kept. */
static unsigned class_of(size_t size)
{
	unsigned c = 0;

	while (c < NBD_POOL_CLASSES && ((size_t)HCI_BLOCK << c) < size)
		c++;
	return c;
}

void *nbd_pool_get(struct nbd_pool *p, size_t size)
{
	unsigned c = class_of(size);
	void *buf;

	if (c == NBD_POOL_CLASSES)
		return mem_alloc_aligned(size);
	buf = p->free[c];
	if (!buf)
		return mem_alloc_aligned((size_t)HCI_BLOCK << c);
	memcpy(&p->free[c], buf, sizeof(void *));
	p->cached -= (size_t)HCI_BLOCK << c;
	return buf;
}

void nbd_pool_put(struct nbd_pool *p, void *buf, size_t size)
{
	unsigned c = class_of(size);

	if (!buf)
		return;
	if (c == NBD_POOL_CLASSES || p->cached + ((size_t)HCI_BLOCK << c) > KEEP) {
		mem_free_aligned(buf);
		return;
	}
	memcpy(buf, &p->free[c], sizeof(void *));
	p->free[c] = buf;
	p->cached += (size_t)HCI_BLOCK << c;
}

void nbd_pool_drain(struct nbd_pool *p)
{
	for (unsigned c = 0; c < NBD_POOL_CLASSES; c++) {
		while (p->free[c]) {
			void *buf = p->free[c];

			memcpy(&p->free[c], buf, sizeof(void *));
			mem_free_aligned(buf);
		}
	}
	p->cached = 0;
}
