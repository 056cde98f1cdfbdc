/* SPDX-License-Identifier: Apache-2.0 */
/* The encoder's half of the page cache: see mirror.h. */
#include "compute/memstream/mirror.h"

#include "base/mem.h"

#define WARM_MAX 3
#define GONE_BITS (UINT64_C(1) << 23) /* a MiB; of a guest of 8 GiB, all of which had to go, a fifth passes wrongly */
#define CHAIN_MAX 16 /* of equal content hashes; beyond that somebody makes them on purpose */

bool mirror_init(struct mirror *m, uint32_t n, uint32_t room)
{
	uint32_t size = 1;

	*m = (struct mirror){ .room = MIN(room, n) };
	if (!n)
		return true;
	while (size < n)
		size *= 2;
	m->mask = size - 1;
	m->s = mem_calloc(n, sizeof(*m->s));
	m->by_key = mem_alloc(size * sizeof(uint32_t));
	m->by_quick = mem_alloc(size * sizeof(uint32_t));
	if (!slots_init(&m->slots, n) || !m->s || !m->by_key || !m->by_quick)
		return false;
	memset(m->by_key, 0xff, size * sizeof(uint32_t));
	memset(m->by_quick, 0xff, size * sizeof(uint32_t));
	return true;
}

void mirror_free(struct mirror *m)
{
	slots_free(&m->slots);
	mem_free(m->s);
	mem_free(m->by_key);
	mem_free(m->by_quick);
	mem_free(m->gone);
}

static inline uint32_t *key_bucket(const struct mirror *m, uint64_t key)
{
	return &m->by_key[(key ^ key >> 32) & m->mask];
}

static inline uint32_t *quick_bucket(const struct mirror *m, uint64_t quick)
{
	return &m->by_quick[quick & m->mask];
}

uint32_t mirror_by_key(const struct mirror *m, uint64_t key)
{
	uint32_t i;

	if (!m->slots.n)
		return MIRROR_NONE;
	for (i = *key_bucket(m, key); i != MIRROR_NONE; i = m->s[i].next_key)
		if (m->s[i].key == key)
			break;
	return i;
}

uint32_t mirror_by_content(const struct mirror *m, uint64_t quick, const void *page)
{
	unsigned n = 0;

	if (!m->slots.n)
		return MIRROR_NONE;
	for (uint32_t i = *quick_bucket(m, quick); i != MIRROR_NONE && n < CHAIN_MAX; i = m->s[i].next_quick, n++)
		if (m->s[i].quick == quick && !memcmp(slots_get(&m->slots, i), page, HCI_BLOCK))
			return i;
	return MIRROR_NONE;
}

void mirror_warm(struct mirror *m, uint32_t slot)
{
	if (m->s[slot].warm < WARM_MAX)
		m->s[slot].warm++;
}

static void unlink_slot(struct mirror *m, uint32_t i)
{
	uint32_t *p;

	for (p = key_bucket(m, m->s[i].key); *p != i; p = &m->s[*p].next_key)
		;
	*p = m->s[i].next_key;
	for (p = quick_bucket(m, m->s[i].quick); *p != i; p = &m->s[*p].next_quick)
		;
	*p = m->s[i].next_quick;
	m->s[i].batch = 0;
}

static uint64_t gone_bit(uint64_t key)
{
	return (key ^ key >> 32) & (GONE_BITS - 1);
}

static bool is_gone(const struct mirror *m, uint64_t key)
{
	uint64_t bit = gone_bit(key);

	return m->gone && (m->gone[bit / 64] >> bit % 64 & 1);
}

/* Without memory for it, it does not grow. */
static void note_gone(struct mirror *m, uint64_t key)
{
	uint64_t bit = gone_bit(key);

	if (m->room == m->slots.n)
		return;
	if (!m->gone)
		m->gone = mem_calloc(GONE_BITS / 64, sizeof(*m->gone));
	if (m->gone)
		m->gone[bit / 64] |= UINT64_C(1) << bit % 64;
}

/* A slot to use for what has none: never used, or the first that the hand finds cold. */
static uint32_t choose(struct mirror *m, uint64_t key)
{
	uint32_t i;

	if (!m->room)
		return MIRROR_NONE;
	if (m->used == m->room && m->room < m->slots.n && is_gone(m, key))
		m->room++;
	if (m->used < m->room)
		return m->used++;
	for (;;) {
		i = m->hand;
		m->hand = (m->hand + 1) % m->used;
		if (!m->s[i].warm)
			return i;
		m->s[i].warm--;
	}
}

uint32_t mirror_put(struct mirror *m, uint32_t slot, uint64_t key, uint64_t quick, const void *page, uint32_t batch,
		    uint16_t local)
{
	struct mirror_slot *s;
	uint8_t *to;

	if (slot == MIRROR_NONE)
		slot = choose(m, key);
	to = slot == MIRROR_NONE ? NULL : slots_put(&m->slots, slot);
	if (!to)
		return MIRROR_NONE;
	s = &m->s[slot];
	if (s->batch && s->key != key)
		note_gone(m, s->key);
	if (s->batch)
		unlink_slot(m, slot);
	if (s->key != key)
		s->warm = 0;
	memcpy(to, page, HCI_BLOCK);
	s->key = key;
	s->quick = quick;
	s->batch = batch + 1;
	s->local = local;
	s->next_key = *key_bucket(m, key);
	*key_bucket(m, key) = slot;
	s->next_quick = *quick_bucket(m, quick);
	*quick_bucket(m, quick) = slot;
	return slot;
}
