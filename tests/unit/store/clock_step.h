/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks of one process that step, while the machine's go on. A process reads its clocks from the vDSO, a piece of code
 * of the kernel's in its memory, also a Go program, which takes nothing from libc. That code is overwritten, in this process's
 * memory only, by a system call and an offset that others may change at any time.
 */
#ifndef TESTS_STORE_CLOCK_STEP_H
#define TESTS_STORE_CLOCK_STEP_H

#include <stdint.h>
#include <sys/types.h>

/* In the child, before exec: it stops there, for the parent to call clock_step_exec(). */
void clock_step_trace(void);
/* In the parent: waits until the child is at its exec, overwrites its clocks, lets it go. monotonic: by how many seconds its monotonic
 * clock is ahead of the machine's. */
void clock_step_exec(pid_t pid, int64_t monotonic);
/* Of this process, while it has one thread. */
void clock_step_self(void);
/* The wall clock of such a process is so many seconds ahead of the machine's from now on. */
void clock_step(pid_t pid, int64_t seconds);

#endif
