/* SPDX-License-Identifier: Apache-2.0 */
/* The few macros that every file uses. Includes nothing but libc. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROUND_UP(x, n) ((((x) + (n)-1) / (n)) * (n))
#define ROUND_DOWN(x, n) (((x) / (n)) * (n))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* 1: AddressSanitizer looks on. Buffers are then not kept for the next user, so that it sees every use after free. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

#define KiB ((uint64_t)1 << 10)
#define MiB ((uint64_t)1 << 20)
#define GiB ((uint64_t)1 << 30)

/* All times inside are nanoseconds in uint64_t. */
#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* The unit of checksums, of alignment and of the smallest write, everywhere. */
#define HCI_BLOCK 4096u

struct uuid {
	uint8_t b[16];
};

#endif
