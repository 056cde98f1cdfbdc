/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one replica disk does, without network and writer: replica_disk DIR [SECONDS]. Makes a disk
 * in an empty sub-folder of DIR, prints one JSON object, removes the folder's contents. CPU is that
 * of the whole process, both ends of every request included.
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
#define SEGMENTS 4u
#define DEPTH_MAX 64u

struct bench;

struct req {
	struct repl_op op;
	struct bench *b;
	uint8_t *buf;
	uint64_t start;
};

struct bench {
	struct env *e;
	const char *dir;
	struct repl_slot *slot;
	struct fiber *fiber;
	struct req req[DEPTH_MAX];
	enum repl_op_kind kind;
	uint32_t depth, open, len;
	bool seq;
	uint64_t next, ops, deadline, seqno, rnd, failed;
	double seconds;
	bool first;
};

static uint64_t rnd(struct bench *b)
{
	b->rnd ^= b->rnd << 13;
	b->rnd ^= b->rnd >> 7;
	b->rnd ^= b->rnd << 17;
	return b->rnd;
}

static void submit(struct req *r);

static void done(struct repl_op *op)
{
	struct req *r = container_of(op, struct req, op);
	struct bench *b = r->b;

	b->failed += op->status != 0;
	b->ops++;
	if (env_now(b->e) < b->deadline) {
		submit(r);
		return;
	}
	if (--b->open == 0)
		fiber_wake(b->e, b->fiber);
}

static void submit(struct req *r)
{
	struct bench *b = r->b;
	uint64_t units = SEGMENTS * SEGMENT / b->len,
		 at = (b->seq ? b->next++ : rnd(b)) % units * b->len;

	r->op = (struct repl_op){ .kind = b->kind,
				  .slot = b->slot,
				  .segment = (uint32_t)(at / SEGMENT),
				  .off = at % SEGMENT,
				  .len = b->len,
				  .buf = r->buf,
				  .seq = ++b->seqno,
				  .done = done };
	repl_submit(&r->op);
}

static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void run(struct bench *b, const char *name, enum repl_op_kind kind, uint32_t len,
		uint32_t depth, bool seq)
{
	uint64_t start = env_now(b->e);
	double cpu = cpu_us(), s, iops;

	b->kind = kind;
	b->len = len;
	b->seq = seq;
	b->depth = b->open = depth;
	b->ops = b->failed = 0;
	b->deadline = start + (uint64_t)(b->seconds * 1e9);
	for (uint32_t i = 0; i < depth; i++)
		submit(&b->req[i]);
	while (b->open)
		fiber_park(b->e);
	s = (double)(env_now(b->e) - start) / 1e9;
	iops = (double)b->ops / s;
	printf("%s\n  \"%s\": {\"iops\": %.0f, \"mb_s\": %.1f, \"cpu_us\": %.2f, \"errors\": %llu}",
	       b->first ? "{" : ",", name, iops, iops * len / 1e6,
	       (cpu_us() - cpu) / (double)b->ops, (unsigned long long)b->failed);
	b->first = false;
	fflush(stdout);
}

static void body(struct bench *b)
{
	struct repl_disk_opts o = { .uuid = { { 1 } } };
	struct uuid vol = { { 2 } };
	struct repl_disk *d;
	struct hci_error err;

	if (repl_disk_format(b->e, b->dir, &o, &err) ||
	    repl_disk_open(b->e, b->dir, &o, &d, &err) ||
	    repl_slot_open(d, &vol, 1, SEGMENT, &b->slot, NULL, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return;
	}
	run(b, "write_1m_qd8", REPL_WRITE, MiB, 8, true);
	fiber_sleep(b->e, NS_PER_S);
	run(b, "randwrite_4k_qd1", REPL_WRITE, 4096, 1, false);
	run(b, "randwrite_4k_qd32", REPL_WRITE, 4096, 32, false);
	fiber_sleep(b->e, NS_PER_S);
	run(b, "randread_4k_qd1", REPL_READ, 4096, 1, false);
	run(b, "randread_4k_qd32", REPL_READ, 4096, 32, false);
	run(b, "read_1m_qd8", REPL_READ, MiB, 8, true);
	printf("\n}\n");
	repl_slot_put(b->slot);
	repl_disk_close(d, false);
}

static void fiber(void *arg)
{
	struct bench *b = arg;

	b->fiber = fiber_self(b->e);
	body(b);
	env_stop(b->e);
}

static void print_log(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%d %s: %s\n", level, subsystem, line);
}

int main(int argc, char **argv)
{
	struct env_real_opts o = { .log = { .level = LOG_WARN, .emit = print_log },
				   .name = "bench" };
	struct bench b = { .rnd = 88172645463325252u,
			   .seconds = argc > 2 ? atof(argv[2]) : 3,
			   .first = true };
	char scratch[200], dir[256];
	struct hci_error err;

	if (scratch_make(argc > 1 ? argv[1] : "/var/tmp", scratch, sizeof(scratch)))
		return 1;
	snprintf(dir, sizeof(dir), "%s/disk", scratch);
	mkdir(dir, 0700);
	b.dir = dir;
	b.e = env_real_new(&o, &err);
	if (!b.e) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	for (unsigned i = 0; i < DEPTH_MAX; i++) {
		b.req[i].b = &b;
		b.req[i].buf = mem_alloc_aligned(MiB);
		memset(b.req[i].buf, (int)i + 1, MiB);
	}
	if (fiber_spawn(b.e, fiber, &b, "bench") == 0)
		env_run(b.e);
	env_free(b.e);
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		mem_free_aligned(b.req[i].buf);
	scratch_remove(scratch);
	return 0;
}
