/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator behind all of lib/. Owns the header of each block (size, and the arena's list when
 * there is one) and the two test hooks. Every block is a malloc of its own, so that ASan and
 * valgrind see use after free, also of what an arena dropped.
 */
#include "base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"

#define ALIGNED_MAGIC UINT64_C(0x6863692d616c6967)

/* In front of every block. arena is where the block was made: it may be freed while another is
 * current. */
struct head {
	struct list node; /* in arena->blocks; unused without an arena */
	struct mem_arena *arena;
	size_t size;
};
_Static_assert(sizeof(struct head) % 16 == 0, "blocks are aligned as malloc aligns them");

/*
 * Behind every aligned block: in front, it would cost a page. Found through malloc_usable_size(),
 * the one size that the block's address alone leads to. The magic comes first, next to the data,
 * so that whoever writes past the end hits it and is caught when the block is freed.
 */
struct tail {
	uint64_t magic;
	struct list node; /* in arena->aligned */
	struct mem_arena *arena;
	void *base;
	size_t size;
};

/* Belongs to one thread, as its blocks do. */
struct mem_arena {
	struct list blocks, aligned;
	size_t bytes;
};

static _Thread_local struct mem_arena *current;
static _Thread_local uint64_t made, fail_at;

/* Counts an allocation; true when this is the one to fail. */
static bool must_fail(void)
{
	made++;
	return fail_at && made == fail_at;
}

/* size + extra, unless no allocator could give so much. */
static bool total_of(size_t size, size_t extra, size_t *total)
{
	return !__builtin_add_overflow(size, extra, total) && *total <= PTRDIFF_MAX;
}

static void enter(struct head *h)
{
	if (!h->arena)
		return;
	list_push(&h->arena->blocks, &h->node);
	h->arena->bytes += h->size;
}

static void leave(struct head *h)
{
	if (!h->arena)
		return;
	list_del(&h->node);
	h->arena->bytes -= h->size;
}

static void *alloc(size_t size, bool zero)
{
	struct head *h;
	size_t total;

	if (must_fail() || !total_of(size, sizeof(*h), &total))
		return NULL;
	h = zero ? calloc(1, total) : malloc(total);
	if (!h)
		return NULL;
	h->arena = current;
	h->size = size;
	enter(h);
	return h + 1;
}

void *mem_alloc(size_t size)
{
	return alloc(size, false);
}

void *mem_zalloc(size_t size)
{
	return alloc(size, true);
}

void *mem_calloc(size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		return NULL;
	return alloc(total, true);
}

void *mem_realloc(void *p, size_t size)
{
	struct head *h, *moved;
	size_t total;

	if (!p)
		return alloc(size, false);
	h = (struct head *)p - 1;
	if (must_fail() || !total_of(size, sizeof(*h), &total))
		return NULL;
	/* Out of the list first: its neighbours point at where it is now. */
	leave(h);
	moved = realloc(h, total);
	if (!moved) {
		enter(h);
		return NULL;
	}
	moved->size = size;
	enter(moved);
	return moved + 1;
}

void mem_free(void *p)
{
	struct head *h;

	if (!p)
		return;
	h = (struct head *)p - 1;
	leave(h);
	free(h);
}

char *mem_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = alloc(n, false);

	return copy ? memcpy(copy, s, n) : NULL;
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap, again;
	char *s = NULL;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0)
		s = alloc((size_t)n + 1, false);
	if (s)
		vsnprintf(s, (size_t)n + 1, fmt, again);
	va_end(again);
	return s;
}

static struct tail *tail_of(void *p)
{
	uintptr_t end = (uintptr_t)p + malloc_usable_size(p);

	return (struct tail *)((end - sizeof(struct tail)) & ~(uintptr_t)7);
}

void *mem_alloc_aligned(size_t size)
{
	size_t rounded, total;
	struct tail *t;
	void *p;

	if (must_fail() || !total_of(size, HCI_BLOCK - 1, &rounded))
		return NULL;
	rounded = ROUND_DOWN(rounded, (size_t)HCI_BLOCK);
	if (!total_of(rounded, sizeof(*t), &total) || posix_memalign(&p, HCI_BLOCK, total))
		return NULL;
	t = tail_of(p);
	t->magic = ALIGNED_MAGIC;
	t->arena = current;
	t->base = p;
	t->size = rounded;
	if (t->arena) {
		list_push(&t->arena->aligned, &t->node);
		t->arena->bytes += rounded;
	}
	return p;
}

void mem_free_aligned(void *p)
{
	struct tail *t;

	if (!p)
		return;
	t = tail_of(p);
	/* As free() does when it finds its heap damaged: going on would spread it. */
	if (t->magic != ALIGNED_MAGIC || t->base != p)
		abort();
	if (t->arena) {
		list_del(&t->node);
		t->arena->bytes -= t->size;
	}
	t->magic = 0;
	free(p);
}

struct mem_arena *mem_arena_new(void)
{
	struct mem_arena *a = malloc(sizeof(*a));

	if (!a)
		return NULL;
	list_init(&a->blocks);
	list_init(&a->aligned);
	a->bytes = 0;
	return a;
}

struct mem_arena *mem_arena_set(struct mem_arena *a)
{
	struct mem_arena *previous = current;

	current = a;
	return previous;
}

size_t mem_arena_bytes(const struct mem_arena *a)
{
	return a->bytes;
}

void mem_arena_destroy(struct mem_arena *a)
{
	struct tail *t, *next_tail;
	struct head *h, *next;

	if (!a)
		return;
	if (current == a)
		current = NULL;
	list_for_each_safe(h, next, &a->blocks, node)
		free(h);
	list_for_each_safe(t, next_tail, &a->aligned, node)
		free(t->base);
	free(a);
}

uint64_t mem_fail_nth(uint64_t n)
{
	uint64_t before = made;

	made = 0;
	fail_at = n;
	return before;
}
