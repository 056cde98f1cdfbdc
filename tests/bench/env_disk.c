/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disk I/O through the loop costs: one file, O_DIRECT, prepared in full. Prints one JSON
 *object a run: operations per second and CPU time of the process an operation.
 *
 *	env_disk [FILE [SECONDS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "env/env.h"
#include "env/fiber.h"

#define FILE_SIZE (512 * MiB)

struct load {
	const char *name;
	enum env_io_op op;
	uint32_t flags, size, depth;
};

struct run {
	struct env *env;
	struct env_file *f;
	const struct load *l;
	struct fiber *fiber;
	uint64_t until, done, seed;
	unsigned open;
};

struct slot {
	struct env_io io;
	struct run *r;
	void *buf;
};

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void next(struct slot *s);

static void done(struct env_io *io)
{
	struct slot *s = container_of(io, struct slot, io);

	if (io->result < 0) {
		fprintf(stderr, "env_disk: %s\n", strerror((int)-io->result));
		exit(1);
	}
	s->r->done++;
	if (env_now(s->r->env) < s->r->until)
		next(s);
	else if (!--s->r->open)
		fiber_wake(s->r->env, s->r->fiber);
}

static void next(struct slot *s)
{
	struct run *r = s->r;

	r->seed = r->seed * UINT64_C(6364136223846793005) + 1;
	env_io_prep(&s->io, r->l->op, r->f, s->buf, r->l->size,
		    (r->seed >> 20) % (FILE_SIZE / r->l->size) * r->l->size, done);
	s->io.flags = r->l->flags;
	env_submit(r->env, &s->io);
}

static void measure(struct env *e, struct env_file *f, const struct load *l, double seconds)
{
	struct run r = {
		.env = e, .f = f, .l = l, .fiber = fiber_self(e), .seed = 1, .open = l->depth
	};
	struct slot *slots = calloc(l->depth, sizeof(*slots));
	double before = cpu();
	uint64_t start;
	unsigned i;

	fiber_sleep(e, 1);
	start = env_now(e);
	r.until = start + (uint64_t)(seconds * 1e9);
	for (i = 0; i < l->depth; i++) {
		slots[i].r = &r;
		slots[i].buf = mem_alloc_aligned(l->size);
		memset(slots[i].buf, 'x', l->size);
		next(&slots[i]);
	}
	while (r.open)
		fiber_park(e);
	printf("{\"load\": \"%s\", \"size\": %u, \"depth\": %u, \"per_second\": %.0f, \"cpu_us\": "
	       "%.1f}\n",
	       l->name, l->size, l->depth, (double)r.done / ((double)(env_now(e) - start) / 1e9),
	       (cpu() - before) / (double)r.done);
	fflush(stdout);
	for (i = 0; i < l->depth; i++)
		mem_free_aligned(slots[i].buf);
	free(slots);
}

static const char *path = "/var/tmp/env_disk.tmp";
static double seconds = 2;

static void body(void *arg)
{
	static const struct load loads[] = {
		{ "read", ENV_READ, 0, 4096, 1 },
		{ "read", ENV_READ, 0, 4096, 32 },
		{ "write", ENV_WRITE, 0, 4096, 1 },
		{ "write", ENV_WRITE, 0, 4096, 32 },
		{ "write+dsync", ENV_WRITE, ENV_IO_DSYNC, 4096, 1 },
		{ "write+dsync", ENV_WRITE, ENV_IO_DSYNC, 4096, 32 },
		{ "write", ENV_WRITE, 0, 1 << 20, 8 },
		{ "read", ENV_READ, 0, 1 << 20, 8 },
		{ "sync", ENV_SYNC, 0, 4096, 1 },
	};
	struct env *e = arg;
	struct env_file *f;
	uint64_t off;
	uint8_t *buf = mem_alloc_aligned(1 << 20);
	size_t i;

	if (env_open(e, path, ENV_O_CREATE | ENV_O_DIRECT, &f)) {
		perror(path);
		exit(1);
	}
	memset(buf, 'y', 1 << 20);
	for (off = 0; off < FILE_SIZE; off += 1 << 20)
		fiber_write(e, f, buf, 1 << 20, off, 0);
	fiber_fsync(e, f);
	for (i = 0; i < ARRAY_SIZE(loads); i++)
		measure(e, f, &loads[i], seconds);
	env_close(e, f);
	env_unlink(e, path);
	mem_free_aligned(buf);
	env_stop(e);
}

int main(int argc, char **argv)
{
	struct env_real_opts o = { .name = "disk" };
	struct hci_error err;
	struct env *e = env_real_new(&o, &err);

	if (argc > 1)
		path = argv[1];
	if (argc > 2)
		seconds = atof(argv[2]);
	if (!e || fiber_spawn(e, body, e, "body"))
		return 1;
	env_run(e);
	env_free(e);
	return 0;
}
