/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory. Everything in lib/ allocates through here (never malloc directly), for two reasons:
 * allocation failure can be injected (fail the Nth call), and the simulator can throw away all
 * memory of a crashed node at once (an arena). Failure returns NULL and is an error like others.
 *
 * Both hooks are thread-local pointers, NULL outside tests: the one exception to "no global state".
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/base.h"

void *mem_alloc(size_t size);              /* not zeroed */
void *mem_zalloc(size_t size);             /* zeroed */
void *mem_calloc(size_t n, size_t size);   /* zeroed; NULL on overflow */
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *s);
char *mem_printf(const char *fmt, ...) PRINTF(1, 2);
void mem_free(void *p);                    /* NULL is fine */

/* For O_DIRECT: aligned to HCI_BLOCK, size rounded up to it. Freed with mem_free_aligned. */
void *mem_alloc_aligned(size_t size);
void mem_free_aligned(void *p);

#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

/* Arena: all blocks allocated while it is current and not freed yet, so that they can be dropped
 * together. mem_free works on a block whichever arena is current. */
struct mem_arena;
struct mem_arena *mem_arena_new(void);
struct mem_arena *mem_arena_set(struct mem_arena *a); /* returns the previous one */
size_t mem_arena_bytes(const struct mem_arena *a);
void mem_arena_destroy(struct mem_arena *a);          /* frees every block still in it */

/* Fail the nth allocation from now on this thread (0 = never); returns how many were made since the last call. */
uint64_t mem_fail_nth(uint64_t n);

#endif
