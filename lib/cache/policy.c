/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who stays: S3-FIFO (Yang, Zhang, Qiu, Yue, Vinayak: "FIFO Queues Are All You Need for Cache Eviction", SOSP 2023),
 * with its small queue in memory and its main queue on the SSD, so that what is read once costs the SSD no write:
 *
 *   memory   first in, first out; what was read meanwhile is spared once
 *   main     first in, first out; what was read is put back at the head as often as that (at most 3)
 *   ghost    addresses that left memory unread
 *
 * A block comes into memory. On its second read, or when it comes and the ghost knows it, or while the SSD has
 * free places, it gets one there. Reading the parts of a block one after the other is one read of it: only a part that
 * is read again counts. docs/performance.md has what this and ARC do with the same traces.
 */
#include "cache/tab.h"

#include "cache/hash.h"

#define FREQ_MAX 3
#define LOOKS 128 /* at candidates; then the next that can go, goes */

void policy_ram_in(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];

	x->ram_prev = TAB_NONE;
	x->ram_next = t->ram.head;
	if (t->ram.head != TAB_NONE)
		t->chunks[t->ram.head].ram_prev = k;
	else
		t->ram.tail = k;
	t->ram.head = k;
	t->ram.n++;
	x->flags |= CH_IN_RAM;
}

void policy_ram_out(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];

	if (x->ram_prev != TAB_NONE)
		t->chunks[x->ram_prev].ram_next = x->ram_next;
	else
		t->ram.head = x->ram_next;
	if (x->ram_next != TAB_NONE)
		t->chunks[x->ram_next].ram_prev = x->ram_prev;
	else
		t->ram.tail = x->ram_prev;
	t->ram.n--;
	x->flags &= (uint8_t) ~(CH_IN_RAM | CH_RAMREF);
}

void policy_main_in(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];

	x->main_prev = TAB_NONE;
	x->main_next = t->main.head;
	if (t->main.head != TAB_NONE)
		t->chunks[t->main.head].main_prev = k;
	else
		t->main.tail = k;
	t->main.head = k;
	t->main.n++;
	x->flags |= CH_IN_MAIN;
}

void policy_main_out(struct tab *t, uint32_t k)
{
	struct chunk *x = &t->chunks[k];

	if (x->main_prev != TAB_NONE)
		t->chunks[x->main_prev].main_next = x->main_next;
	else
		t->main.head = x->main_next;
	if (x->main_next != TAB_NONE)
		t->chunks[x->main_next].main_prev = x->main_prev;
	else
		t->main.tail = x->main_prev;
	t->main.n--;
	x->flags &= (uint8_t)~CH_IN_MAIN;
}

bool policy_hit(struct tab *t, uint32_t k, uint16_t parts)
{
	struct chunk *x = &t->chunks[k];
	bool again = x->touched & parts;

	x->touched |= parts;
	if (!again)
		return false;
	if (x->freq < FREQ_MAX)
		x->freq++;
	x->flags |= CH_RAMREF;
	return true;
}

uint32_t policy_ram_victim(struct tab *t)
{
	uint32_t n = MIN(t->ram.n * 2, 2u * LOOKS);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = t->ram.tail;
		struct chunk *x = &t->chunks[k];
		bool spared = x->flags & CH_RAMREF && i < LOOKS;

		if (!spared && !(x->flags & CH_WRITING) && !x->pins)
			return k;
		policy_ram_out(t, k);
		policy_ram_in(t, k);
	}
	return TAB_NONE;
}

uint32_t policy_main_victim(struct tab *t)
{
	uint32_t n = MIN(t->main.n * (FREQ_MAX + 1), 2u * LOOKS);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = t->main.tail;
		struct chunk *x = &t->chunks[k];
		bool spared = x->freq && i < LOOKS;

		if (!spared && !(x->flags & CH_WRITING) && !x->pins)
			return k;
		if (x->freq)
			x->freq--;
		policy_main_out(t, k);
		policy_main_in(t, k);
	}
	return TAB_NONE;
}

/* ---- the ghost: tags in buckets of four, the oldest is overwritten; as old as main is long, it is forgotten ---- */

static struct ghost *bucket(const struct tab *t, uint64_t h)
{
	return &t->ghosts[h & t->gmask & ~3u];
}

static uint64_t ghost_hash(uint16_t vol, uint64_t block)
{
	return mix64((block << 16 | vol) + 1);
}

void policy_ghost_add(struct tab *t, uint16_t vol, uint64_t block)
{
	uint64_t h = ghost_hash(vol, block);
	struct ghost *g = bucket(t, h), *old = g;

	for (int i = 0; i < 4; i++) {
		if (g[i].tag == (uint32_t)(h >> 32)) {
			old = &g[i];
			break;
		}
		if (t->ghost_now - g[i].when > t->ghost_now - old->when)
			old = &g[i];
	}
	*old = (struct ghost){ (uint32_t)(h >> 32), t->ghost_now++ };
}

bool policy_ghost_take(struct tab *t, uint16_t vol, uint64_t block)
{
	uint64_t h = ghost_hash(vol, block);
	struct ghost *g = bucket(t, h);

	for (int i = 0; i < 4; i++) {
		if (g[i].tag != (uint32_t)(h >> 32) || !g[i].when || t->ghost_now - g[i].when > t->nslots)
			continue;
		g[i] = (struct ghost){ 0 };
		return true;
	}
	return false;
}
