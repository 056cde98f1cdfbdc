/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli, RFC 3720 B.4), SSE4.2 where the CPU has it, tables elsewhere. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include "base/base.h"

/* Start with crc = 0; feed the result back in to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same without the CPU's help: for machines without it, and for the tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
