/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick: a preallocated file, O_DIRECT, Linux AIO by its system calls, nothing in between.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct raw {
	struct target t;
	aio_context_t ctx;
	int fd;
	struct iocb cb[DEPTH_MAX];
	struct iocb *batch[DEPTH_MAX];
	unsigned n;
};

static struct raw *raw_of(struct target *t)
{
	return (struct raw *)(void *)t;
}

static int raw_submit(struct target *t, bool write, void *buf, uint64_t len, uint64_t off,
		      uint32_t tag)
{
	struct raw *r = raw_of(t);
	struct iocb *c = &r->cb[tag];

	memset(c, 0, sizeof(*c));
	c->aio_data = tag;
	c->aio_fildes = (uint32_t)r->fd;
	c->aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
	c->aio_buf = (uint64_t)(uintptr_t)buf;
	c->aio_nbytes = len;
	c->aio_offset = (int64_t)off;
	r->batch[r->n++] = c;
	return 0;
}

/* Submits what the caller gathered since the last time, in one call. */
static int raw_reap(struct target *t, uint32_t *tags, int max)
{
	struct raw *r = raw_of(t);
	struct io_event ev[DEPTH_MAX];
	unsigned at = 0;
	long n;

	while (at < r->n) {
		n = syscall(SYS_io_submit, r->ctx, (long)(r->n - at), r->batch + at);
		if (n < 0 && errno != EINTR)
			return -1;
		at += n > 0 ? (unsigned)n : 0;
	}
	r->n = 0;
	do {
		n = syscall(SYS_io_getevents, r->ctx, 1L, (long)max, ev, NULL);
	} while (n < 0 && errno == EINTR);
	for (long i = 0; i < n; i++) {
		tags[i] = (uint32_t)ev[i].data;
		if (ev[i].res != (int64_t)r->cb[tags[i]].aio_nbytes)
			return -1;
	}
	return (int)n;
}

struct target *raw_open(const char *path, uint64_t bytes, bool dsync)
{
	struct raw *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->t = (struct target){ .name = dsync ? "raw_dsync" : "raw",
				.bytes = bytes,
				.submit = raw_submit,
				.reap = raw_reap };
	r->t.procs[0] = getpid();
	r->t.who[0] = "client";
	r->t.nprocs = 1;
	r->fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC | (dsync ? O_DSYNC : 0), 0600);
	if (r->fd < 0 || posix_fallocate(r->fd, 0, (off_t)bytes) ||
	    syscall(SYS_io_setup, (long)DEPTH_MAX * 2, &r->ctx)) {
		perror(path);
		free(r);
		return NULL;
	}
	return &r->t;
}

void raw_close(struct target *t)
{
	if (!t)
		return;
	syscall(SYS_io_destroy, raw_of(t)->ctx);
	close(raw_of(t)->fd);
	free(t);
}
