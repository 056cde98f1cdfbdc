/* SPDX-License-Identifier: Apache-2.0 */
/* The hashes of a page, and what else is told from its bytes at a glance. */
#include "compute/memstream/hash.h"

#include <openssl/sha.h>

/* Odd constants with no pattern: the first 64-bit words of the fractional part of pi, made odd. */
static const uint64_t key[8] = { 0x243f6a8885a308d3u, 0x13198a2e03707345u, 0xa4093822299f31d1u, 0x082efa98ec4e6c89u,
				 0x452821e638d01377u, 0xbe5466cf34e90c6du, 0xc0ac29b7c97c50ddu, 0x3f84d5b5b5470917u };

static inline uint64_t word(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Two words at a time through a multiplication of 128 bits, folded: the step of wyhash and its relatives. */
static inline uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t mst_quick(const void *page)
{
	const uint8_t *p = page, *end = p + MST_PAGE;
	uint64_t h[4] = { key[4], key[5], key[6], key[7] };

	for (; p < end; p += 64)
		for (unsigned i = 0; i < 4; i++)
			h[i] = mix(word(p + (size_t)i * 16) ^ key[i], word(p + (size_t)i * 16 + 8) ^ h[i]);
	return mix(h[0] ^ h[1], key[0] ^ h[2]) ^ mix(h[3], key[1]) ^ h[2];
}

void mst_strong(const void *page, uint8_t out[MST_STRONG])
{
	uint8_t full[SHA256_DIGEST_LENGTH];

	SHA256(page, MST_PAGE, full);
	memcpy(out, full, MST_STRONG);
}

const struct mst_hash mst_hash_real = { mst_quick, mst_strong };

/* The high bits, which choose a place in a store; none is 0. */
static uint64_t quick_colliding(const void *page)
{
	return mst_quick(page) >> 56 << 56 | 1;
}

const struct mst_hash mst_hash_colliding = { quick_colliding, mst_strong };

bool mst_is_zero(const void *page)
{
	const uint8_t *p = page;

	/* Equal to itself moved by eight bytes, of which the first are zero. */
	return !word(p) && !memcmp(p, p + 8, MST_PAGE - 8);
}

/*
 * 512 bytes from all over the page. Of random ones 221 of 256 values are among them, give or take 5; of text, code, pointers
 * and tables far fewer.
 */
bool mst_looks_random(const void *page)
{
	const uint8_t *p = page;
	uint64_t seen[4] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < MST_PAGE; i += 256)
		for (unsigned k = 0; k < 32; k++)
			seen[p[i + k] >> 6] |= (uint64_t)1 << (p[i + k] & 63);
	for (unsigned i = 0; i < 4; i++)
		n += (unsigned)__builtin_popcountll(seen[i]);
	return n >= 200;
}
