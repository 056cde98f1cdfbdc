/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fingerprints of blocks: to find equal ones (which are then compared) and to tell content that is not what was put
 * there. NH, the universal hash of UMAC with 64-bit words (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and
 * Secure Message Authentication", CRYPTO 1999; Krovetz, Dai: "VHASH Security", 2007), under a key that each cache draws
 * for itself, folded to 64 bits. For two blocks chosen without knowing the key NH collides with probability
 * 2^-64, so a guest cannot make up blocks that crowd one chain.
 */
#ifndef CACHE_HASH_H
#define CACHE_HASH_H

#include "base/base.h"

#define FP_SEED 32

struct fp_key;
struct fp_key *fp_key_new(const uint8_t seed[FP_SEED], uint32_t block); /* NULL: no memory */
void fp_key_free(struct fp_key *k);
uint64_t fp_of(const struct fp_key *k, const void *block); /* aligned to 8 */

/* For hash tables: mixes all bits (the finalizer of Stafford's Mix13, as in SplitMix64). */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

#endif
