/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a disk takes to open after a crash: recover DIR [MIB [DEPTH]]. Makes a disk in an empty sub-folder of DIR, fills its
 * write log with MIB (1024) of batches of random 4 KiB writes, DEPTH (32) at a time, while nothing is moved to the segments, ends
 * as a killed process does, and opens it again, three times; beside it the log is read from end to end. Prints one JSON object,
 * removes the folder. Both read past the page cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "env/fiber.h"
#include "replica/replica.h"
#include "scratch.h"

#define SEGMENT (256 * MiB)
#define SEGMENTS 32u
#define DEPTH_MAX 256u
#define LEVEL 90u /* percent of the log from which on it is moved: it is made so large that this is never reached */
#define ROUNDS 3u
#define CHUNK (4 * MiB)

struct bench;

struct req {
	struct repl_op op;
	struct bench *b;
	uint8_t *buf;
};

struct bench {
	struct env *e;
	char dir[256];
	uint64_t mib;
	unsigned depth, open;
	struct repl_disk *d;
	struct repl_slot *slot;
	struct fiber *fiber;
	struct req req[DEPTH_MAX];
	uint64_t rnd, seq, failed;
	int status;
};

static uint64_t rnd(struct bench *b)
{
	b->rnd ^= b->rnd << 13;
	b->rnd ^= b->rnd >> 7;
	b->rnd ^= b->rnd << 17;
	return b->rnd;
}

static uint64_t log_used(const struct bench *b)
{
	struct repl_disk_info i;

	repl_disk_info(b->d, &i);
	return i.log_used;
}

static void submit(struct req *r);

static void done(struct repl_op *op)
{
	struct req *r = container_of(op, struct req, op);
	struct bench *b = r->b;

	b->failed += op->status != 0;
	if (!b->failed && log_used(b) < b->mib * MiB)
		submit(r);
	else if (--b->open == 0)
		fiber_wake(b->e, b->fiber);
}

static void submit(struct req *r)
{
	struct bench *b = r->b;
	uint64_t at = rnd(b) % (SEGMENTS * SEGMENT / HCI_BLOCK) * HCI_BLOCK;

	memcpy(r->buf, &at, sizeof(at));
	r->op = (struct repl_op){ .kind = REPL_WRITE, .slot = b->slot, .segment = (uint32_t)(at / SEGMENT), .off = at % SEGMENT,
				  .len = HCI_BLOCK, .buf = r->buf, .seq = ++b->seq, .done = done };
	repl_submit(&r->op);
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double seconds_since(const struct bench *b, uint64_t start)
{
	return (double)(env_now(b->e) - start) / 1e9;
}

static double read_raw(struct bench *b)
{
	char path[sizeof(b->dir) + 8];
	uint8_t *buf = mem_alloc_aligned(CHUNK);
	uint64_t start = env_now(b->e);
	struct env_file *f;

	snprintf(path, sizeof(path), "%s/log", b->dir);
	if (!buf || env_open(b->e, path, ENV_O_RDONLY | ENV_O_DIRECT, &f))
		return -1;
	for (uint64_t off = 0; off < b->mib * MiB; off += CHUNK)
		b->failed += fiber_read(b->e, f, buf, CHUNK, off) != CHUNK;
	env_close(b->e, f);
	mem_free_aligned(buf);
	return seconds_since(b, start);
}

static void fill(struct bench *b)
{
	b->open = b->depth;
	for (unsigned i = 0; i < b->depth; i++)
		submit(&b->req[i]);
	while (b->open)
		fiber_park(b->e);
}

static int run(struct bench *b, struct hci_error *err)
{
	struct repl_disk_opts o = { .uuid = { { 1 } }, .log_size = b->mib * MiB * 100 / (LEVEL - 2) / MiB * MiB, .log_level = LEVEL };
	struct uuid vol = { { 2 } };
	double fill_s, open_s = 0, best = 1e9, raw = 1e9, cpu = 0;
	uint64_t start, used;

	if (repl_disk_format(b->e, b->dir, &o, err) || repl_disk_open(b->e, b->dir, &o, &b->d, err) ||
	    repl_slot_open(b->d, &vol, 1, SEGMENT, &b->slot, NULL, err))
		return 1;
	start = env_now(b->e);
	fill(b);
	fill_s = seconds_since(b, start);
	for (unsigned i = 0; i < ROUNDS; i++) {
		repl_slot_put(b->slot);
		b->slot = NULL;
		repl_disk_close(b->d, true);
		raw = MIN(raw, read_raw(b));
		cpu = cpu_s();
		start = env_now(b->e);
		if (repl_disk_open(b->e, b->dir, &o, &b->d, err))
			return 1;
		open_s = seconds_since(b, start);
		cpu = cpu_s() - cpu;
		best = MIN(best, open_s);
		used = log_used(b);
	}
	printf("{\n  \"log_mib\": %.0f,\n  \"writes\": %llu,\n  \"fill_s\": %.2f,\n  \"open_s\": %.3f,\n  \"open_last_s\": %.3f,\n"
	       "  \"open_cpu_s\": %.3f,\n  \"raw_read_s\": %.3f,\n  \"ratio\": %.2f,\n  \"errors\": %llu\n}\n",
	       (double)used / MiB, (unsigned long long)b->seq, fill_s, best, open_s, cpu, raw, best / raw,
	       (unsigned long long)b->failed);
	repl_disk_close(b->d, true);
	return b->failed != 0;
}

static void fiber(void *arg)
{
	struct bench *b = arg;
	struct hci_error err = { 0 };

	b->fiber = fiber_self(b->e);
	b->status = run(b, &err);
	if (b->status)
		fprintf(stderr, "bench_recover: %s\n", err.message);
	env_stop(b->e);
}

static void print_log(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%d %s: %s\n", level, subsystem, line);
}

int main(int argc, char **argv)
{
	struct env_real_opts o = { .log = { .level = LOG_WARN, .emit = print_log }, .name = "bench" };
	static struct bench b = { .rnd = 88172645463325252u };
	struct hci_error err;
	char scratch[200];

	b.mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
	b.depth = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 32;
	if (argc < 2 || b.mib < 16 || b.mib > 32768 || !b.depth || b.depth > DEPTH_MAX) {
		fprintf(stderr, "usage: bench_recover DIR [MIB of log, 1024 [DEPTH of writes, 32]]\n");
		return 2;
	}
	if (scratch_make(argv[1], scratch, sizeof(scratch)))
		return 1;
	snprintf(b.dir, sizeof(b.dir), "%s/disk", scratch);
	mkdir(b.dir, 0700);
	b.e = env_real_new(&o, &err);
	if (!b.e) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	for (unsigned i = 0; i < b.depth; i++) {
		b.req[i].b = &b;
		b.req[i].buf = mem_alloc_aligned(HCI_BLOCK);
		memset(b.req[i].buf, (int)i + 1, HCI_BLOCK);
	}
	if (fiber_spawn(b.e, fiber, &b, "bench") == 0)
		env_run(b.e);
	env_free(b.e);
	for (unsigned i = 0; i < b.depth; i++)
		mem_free_aligned(b.req[i].buf);
	scratch_remove(scratch);
	return b.status;
}
