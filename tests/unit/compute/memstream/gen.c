/* SPDX-License-Identifier: Apache-2.0 */
/* Streams as QEMU writes them (migration/savevm.c, ram.c), small and with content of our choice. */
#include <string.h>

#include "pair.h"

#define RAM_ID 2u

uint64_t rnd(uint64_t *seed)
{
	uint64_t x = *seed ? *seed : 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *seed = x;
}

static void be(struct gen *g, uint64_t v, unsigned bytes)
{
	uint8_t b[8];

	for (unsigned i = 0; i < bytes; i++)
		b[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
	buf_append(&g->b, b, bytes);
}

static void name(struct gen *g, const char *s)
{
	be(g, strlen(s), 1);
	buf_append(&g->b, s, strlen(s));
}

static void footer(struct gen *g, uint32_t id)
{
	be(g, 0x7e, 1);
	be(g, id, 4);
}

void gen_head(struct gen *g)
{
	buf_append(&g->b, "QEVM", 4);
	be(g, 3, 4);
	be(g, 7, 1);
	be(g, 6, 4);
	buf_append(&g->b, "pc-7.2", 6);
	be(g, 1, 1);
	be(g, RAM_ID, 4);
	name(g, "ram");
	be(g, 0, 4);
	be(g, 4, 4);
	be(g, (256 << 20) | 4, 8);
	name(g, "pc.ram");
	be(g, 256 << 20, 8);
	be(g, 0x10, 8);
	footer(g, RAM_ID);
	g->block = NULL;
}

void gen_part(struct gen *g)
{
	be(g, 2, 1);
	be(g, RAM_ID, 4);
}

void gen_end(struct gen *g)
{
	be(g, 0x10, 8);
	footer(g, RAM_ID);
}

static void record(struct gen *g, const char *block, uint64_t addr, uint64_t flag)
{
	if (g->block && !strcmp(g->block, block)) {
		be(g, addr | flag | 0x20, 8);
		return;
	}
	be(g, addr | flag, 8);
	name(g, block);
	g->block = block;
}

void gen_page(struct gen *g, const char *block, uint64_t addr, const void *page)
{
	record(g, block, addr, 8);
	buf_append(&g->b, page, MST_PAGE);
}

void gen_zero(struct gen *g, const char *block, uint64_t addr)
{
	record(g, block, addr, 2);
	be(g, 0, 1);
}

void gen_device(struct gen *g, size_t len)
{
	be(g, 4, 1);
	be(g, 40, 4);
	name(g, "0000:00:02.0/virtio-blk");
	be(g, 0, 4);
	be(g, 2, 4);
	for (size_t i = 0; i < len; i++)
		be(g, i % 7 ? 0 : rnd(&g->seed), 1);
	footer(g, 40);
}

void gen_eof(struct gen *g)
{
	be(g, 0, 1);
}

void page_text(uint8_t *page, uint64_t seed)
{
	static const char words[] = "the guest writes lines of text about processes tables and files into memory ";

	for (unsigned i = 0; i < MST_PAGE; i += 8) {
		uint64_t v = rnd(&seed);

		memcpy(page + i, words + v % (sizeof(words) - 9), 8);
		if (v >> 60 == 0)
			memcpy(page + i, &v, 8);
	}
}

void page_random(uint8_t *page, uint64_t seed)
{
	for (unsigned i = 0; i < MST_PAGE; i += 8) {
		uint64_t v = rnd(&seed);

		memcpy(page + i, &v, 8);
	}
}
