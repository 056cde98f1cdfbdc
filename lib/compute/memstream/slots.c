/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for numbered pages. */
#include "compute/memstream/slots.h"

#include "base/mem.h"

bool slots_init(struct slots *s, uint32_t n)
{
	*s = (struct slots){ .n = n };
	if (!n)
		return true;
	s->chunks = mem_calloc((n + SLOTS_CHUNK - 1) / SLOTS_CHUNK, sizeof(*s->chunks));
	s->there = mem_calloc((n + 7) / 8, 1);
	return s->chunks && s->there;
}

void slots_free(struct slots *s)
{
	for (uint32_t i = 0; s->chunks && i < (s->n + SLOTS_CHUNK - 1) / SLOTS_CHUNK; i++)
		mem_free(s->chunks[i]);
	mem_free(s->chunks);
	mem_free(s->there);
	*s = (struct slots){ 0 };
}

uint8_t *slots_get(const struct slots *s, uint32_t slot)
{
	if (slot >= s->n || !(s->there[slot / 8] & 1u << slot % 8))
		return NULL;
	return s->chunks[slot / SLOTS_CHUNK] + (size_t)(slot % SLOTS_CHUNK) * HCI_BLOCK;
}

uint8_t *slots_put(struct slots *s, uint32_t slot)
{
	uint8_t **chunk;

	if (slot >= s->n)
		return NULL;
	chunk = &s->chunks[slot / SLOTS_CHUNK];
	if (!*chunk) {
		*chunk = mem_alloc((size_t)MIN(SLOTS_CHUNK, s->n - slot / SLOTS_CHUNK * SLOTS_CHUNK) * HCI_BLOCK);
		if (!*chunk)
			return NULL;
	}
	s->there[slot / 8] |= (uint8_t)(1u << slot % 8);
	return *chunk + (size_t)(slot % SLOTS_CHUNK) * HCI_BLOCK;
}
