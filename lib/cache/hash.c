/* SPDX-License-Identifier: Apache-2.0 */
/* See hash.h. */
#include "cache/hash.h"

#include "base/mem.h"

struct fp_key {
	uint32_t words;
	uint64_t fold;
	uint64_t k[];
};

struct fp_key *fp_key_new(const uint8_t seed[FP_SEED], uint32_t block)
{
	uint32_t words = block / 8;
	struct fp_key *key = mem_alloc(sizeof(*key) + words * sizeof(key->k[0]));
	uint64_t s[FP_SEED / 8], x;

	if (!key)
		return NULL;
	memcpy(s, seed, sizeof(s));
	key->words = words;
	key->fold = mix64(s[0] ^ s[3]) | 1;
	/* A word of key for each of the message: SplitMix64 from each quarter of the seed. */
	for (uint32_t i = 0; i < words; i++) {
		x = s[i % 4] += UINT64_C(0x9e3779b97f4a7c15);
		key->k[i] = mix64(x) ^ mix64(s[(i + 1) % 4]);
	}
	return key;
}

void fp_key_free(struct fp_key *k)
{
	mem_free(k);
}

uint64_t fp_of(const struct fp_key *key, const void *block)
{
	const uint64_t *m = block, *k = key->k;
	unsigned __int128 a = 0, b = 0;
	uint64_t x;

	/* Two sums, so that one addition need not wait for the other. */
	for (uint32_t i = 0; i < key->words; i += 4) {
		a += (unsigned __int128)(m[i] + k[i]) * (m[i + 1] + k[i + 1]);
		b += (unsigned __int128)(m[i + 2] + k[i + 2]) * (m[i + 3] + k[i + 3]);
	}
	a += b;
	x = (uint64_t)a * key->fold ^ mix64((uint64_t)(a >> 64));
	return mix64(x);
}
