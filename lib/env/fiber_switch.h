/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine-dependent part of fibers: saving one stack and going on with another, and telling the
 * sanitizers of it. Included by fiber.c only.
 */
#ifndef ENV_FIBER_SWITCH_H
#define ENV_FIBER_SWITCH_H

#include "env/env_impl.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(FIBER_ASAN) || defined(FIBER_TSAN)
#define FIBER_STACK (256u << 10)
#else
#define FIBER_STACK (64u << 10)
#endif

#ifndef __x86_64__
#error "fiber_switch.h: write hci_fiber_swap for this processor"
#endif

/*
 * System V AMD64 ABI, 3.2.1: rbx, rbp, r12-r15 belong to the caller. The control words of x87 and
 * SSE are the thread's and stay as they are.
 */
void hci_fiber_swap(void **save_sp, void *load_sp);
void hci_fiber_thunk(void);
__asm__(".text\n"
	".hidden hci_fiber_swap\n"
	".type hci_fiber_swap,@function\n"
	"hci_fiber_swap:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size hci_fiber_swap,.-hci_fiber_swap\n"
	/* First code of a fiber: main function in r12, its argument in rbx. rip is marked
	 * undefined, so that debuggers end the back trace here. */
	".hidden hci_fiber_thunk\n"
	".type hci_fiber_thunk,@function\n"
	"hci_fiber_thunk:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined rip\n"
	"	movq %rbx, %rdi\n"
	"	call *%r12\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size hci_fiber_thunk,.-hci_fiber_thunk\n");

/* Prepares a stack whose top is given so that the first swap to it calls main(arg). main must not
 * return. */
static inline void *fiber_stack_init(void *top, void (*main)(void *), void *arg)
{
	uintptr_t sp = ((uintptr_t)top & ~(uintptr_t)15) - 16;
	void **s = (void **)sp;

	*--s = (void *)(uintptr_t)hci_fiber_thunk;
	*--s = NULL;                    /* rbp */
	*--s = arg;                     /* rbx */
	*--s = (void *)(uintptr_t)main; /* r12 */
	*--s = NULL;
	*--s = NULL;
	*--s = NULL;
	return s;
}

/* from is left for good when from_ends. */
static inline void fiber_ctx_swap(struct fiber_ctx *from, struct fiber_ctx *to, bool from_ends)
{
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(from_ends ? NULL : &from->asan_fake, to->asan_bottom,
				       to->asan_size);
#endif
#ifdef FIBER_TSAN
	from->tsan = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
	(void)from_ends;
	hci_fiber_swap(&from->sp, to->sp);
#ifdef FIBER_ASAN
	/* We came back from there; the loop may be another thread's by now, on another stack. */
	__sanitizer_finish_switch_fiber(from->asan_fake, &to->asan_bottom, &to->asan_size);
#endif
}

/* First thing on a new fiber: learns where the stack of the loop is. */
static inline void fiber_ctx_entered(struct fiber_ctx *loop)
{
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &loop->asan_bottom, &loop->asan_size);
#endif
	(void)loop;
}

/* Frames of a fiber that was dropped left their red zones behind: before it is used anew, or unmapped, as whoever gets these
 * addresses next would stumble over them. */
static inline void fiber_stack_clean(void *bottom, size_t size)
{
#ifdef FIBER_ASAN
	__asan_unpoison_memory_region(bottom, size);
#endif
	(void)bottom;
	(void)size;
}

static inline void fiber_ctx_init(struct fiber_ctx *c, void *bottom, size_t size)
{
	memset(c, 0, sizeof(*c));
	c->asan_bottom = bottom;
	c->asan_size = size;
	fiber_stack_clean(bottom, size);
#ifdef FIBER_TSAN
	c->tsan = __tsan_create_fiber(0);
#endif
}

static inline void fiber_ctx_fini(struct fiber_ctx *c)
{
#ifdef FIBER_TSAN
	__tsan_destroy_fiber(c->tsan);
#endif
	(void)c;
}

#endif
