/* SPDX-License-Identifier: Apache-2.0 */
/* See clock_step.h. What it puts in the place of __vdso_clock_gettime() is written out below; for x86-64, as all else here. */
#include "clock_step.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sqlite_world.h"

/* Of CLOCK_REALTIME (0) and CLOCK_MONOTONIC (1), added to the seconds. */
struct patch {
	uint8_t code[32];
	int64_t ahead[2];
};

static const uint8_t code[32] = {
	0xb8, 0xe4, 0x00, 0x00, 0x00,             /* mov $228, %eax: clock_gettime(%edi, %rsi) */
	0x0f, 0x05,                               /* syscall */
	0x83, 0xff, 0x01,                         /* cmp $1, %edi */
	0x77, 0x10,                               /* ja to the ret */
	0x89, 0xff,                               /* mov %edi, %edi */
	0x48, 0x8d, 0x15, 0x0b, 0x00, 0x00, 0x00, /* lea ahead(%rip), %rdx */
	0x48, 0x8b, 0x14, 0xfa,                   /* mov (%rdx, %rdi, 8), %rdx */
	0x48, 0x01, 0x16,                         /* add %rdx, (%rsi) */
	0xc3,                                     /* ret */
};

/* Where the function is in the vDSO, which is the same in all processes. */
static uint64_t function_at(void)
{
	void *so = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD), *fn;
	const ElfW(Sym) *sym = NULL;
	Dl_info info;

	REQUIRE(so, "no vDSO");
	fn = dlsym(so, "__vdso_clock_gettime");
	REQUIRE(fn && dladdr1(fn, &info, (void **)&sym, RTLD_DL_SYMENT) && sym && sym->st_size >= sizeof(struct patch),
		"no room for the patch in the vDSO");
	dlclose(so);
	return (uint64_t)(uintptr_t)fn - getauxval(AT_SYSINFO_EHDR);
}

static uint64_t vdso_of(pid_t pid)
{
	unsigned long long at = 0;
	char path[40], line[400];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	REQUIRE(f, "%s", path);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]"))
			sscanf(line, "%llx", &at);
	fclose(f);
	REQUIRE(at, "process %d has no vDSO", (int)pid);
	return at;
}

static void poke(pid_t pid, size_t off, const void *data, size_t len)
{
	uint64_t at = vdso_of(pid) + function_at() + off;
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && pwrite(fd, data, len, (off_t)at) == (ssize_t)len, "cannot write to process %d", (int)pid);
	close(fd);
}

static void install(pid_t pid, int64_t monotonic)
{
	struct patch p = { .ahead = { 0, monotonic } };

	memcpy(p.code, code, sizeof(code));
	poke(pid, 0, &p, sizeof(p));
}

void clock_step_trace(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

void clock_step_exec(pid_t pid, int64_t monotonic)
{
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "process %d did not start", (int)pid);
	install(pid, monotonic);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

void clock_step_self(void)
{
	install(getpid(), 0);
}

void clock_step(pid_t pid, int64_t seconds)
{
	poke(pid, offsetof(struct patch, ahead), &seconds, sizeof(seconds));
}
