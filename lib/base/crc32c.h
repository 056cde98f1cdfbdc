/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli, RFC 3720 B.4), SSE4.2 where the CPU has it, tables elsewhere. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include "base/base.h"

/* Start with crc = 0; feed the result back in to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same without the CPU's help: for machines without it, and for the tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

/*
 * The sum of a block, as it goes with it from the writer to the medium and back: the CRC32C of its HCI_BLOCK
 * bytes, but 0 and 1 stand for their complements. So these two fit no block: 0 is "there is none", 1 "it is lost".
 */
#define SUM_NONE 0u
#define SUM_LOST 1u
#define SUM_ZEROES 0x98f94189u /* of a block of zeroes */
uint32_t block_sum(const void *block);
void block_sums(const void *data, uint32_t blocks, uint32_t *sums);
/* How many of the blocks do not have the sum that they should. */
uint32_t block_sums_wrong(const void *data, uint32_t blocks, const uint32_t *sums);

#endif
