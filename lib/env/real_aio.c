/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk I/O of a real env. O_DIRECT reads and writes, and their fdatasync, go through Linux AIO (the
 * kernel interface of linux/aio_abi.h itself), one io_submit for all that a turn of the loop
 * gathered; the rest, and what AIO will not take, runs on the worker threads.
 *
 * Completions are read from the ring that the kernel maps at the context's address: no system call.
 * The ring's layout has been the same since Linux 2.5 and is marked by a magic number; if it is not
 * what we know, io_getevents is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/real_impl.h"

#define LOG_SUB "env"
#define AIO_DEPTH 1024
#define AIO_BATCH 64
#define AIO_TURN 4 /* completions taken in one turn: the first of many go their way while the others wait */
#define RING_MAGIC 0xa10a10a1u
#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif

struct aio_ring {
	unsigned id, nr, head, tail;
	unsigned magic, compat, incompat, header_length;
	struct io_event events[];
};

/* What lies in env_io.priv. */
struct priv {
	union {
		struct iocb iocb;
		struct env_work work;
		struct env_task task; /* of one that is refused */
	};
	struct env_io *io;
};
_Static_assert(sizeof(struct priv) <= sizeof(((struct env_io *)0)->priv),
	       "env_io.priv is too small");

static struct priv *priv_of(struct env_io *io)
{
	return (struct priv *)io->priv;
}

static uint64_t iov_len(const struct iovec *iov, int n)
{
	uint64_t len = 0;
	int i;

	for (i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

/* ---- on a worker thread ---- */

/* The part of iov from skip on, at most n pieces; their number. */
static int iov_from(const struct iovec *iov, int niov, uint64_t skip, struct iovec *out, int n)
{
	int i, k = 0;

	for (i = 0; i < niov && k < n; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		out[k].iov_base = (char *)iov[i].iov_base + skip;
		out[k].iov_len = iov[i].iov_len - skip;
		skip = 0;
		k++;
	}
	return k;
}

static int64_t transfer(struct env_io *io)
{
	int flags = io->op == ENV_WRITE && (io->flags & ENV_IO_DSYNC) ? RWF_DSYNC : 0;
	uint64_t done = 0, len = iov_len(io->iov, io->niov);

	while (done < len) {
		struct iovec v[16];
		int k = iov_from(io->iov, io->niov, done, v, 16);
		off_t off = (off_t)(io->off + done);
		ssize_t n = io->op == ENV_READ ? preadv2(io->file->fd, v, k, off, 0)
					       : pwritev2(io->file->fd, v, k, off, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return io->op == ENV_READ ? (int64_t)done : -EIO;
		done += (uint64_t)n;
		/* An end of file within a block: O_DIRECT could not go on from here. */
		if (io->op == ENV_READ && io->file->direct && n % 512)
			break;
	}
	return (int64_t)done;
}

/* Where the file system cannot deallocate. */
static int64_t write_zeroes(struct env_io *io)
{
	size_t cap = 256 << 10;
	void *z = mem_alloc_aligned(cap);
	uint64_t done = 0;
	int64_t r = 0;

	if (!z)
		return -ENOMEM;
	memset(z, 0, cap);
	while (done < io->len && !r) {
		ssize_t n =
			pwrite(io->file->fd, z, MIN(cap, io->len - done), (off_t)(io->off + done));

		if (n > 0)
			done += (uint64_t)n;
		else if (n < 0 && errno != EINTR)
			r = -errno;
	}
	mem_free_aligned(z);
	return r;
}

static int64_t change_space(struct env_io *io)
{
	int mode = io->op == ENV_PUNCH ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
	int r;

	if (!io->len)
		return 0;
	do {
		r = fallocate(io->file->fd, mode, (off_t)io->off, (off_t)io->len);
	} while (r && errno == EINTR);
	if (!r)
		return 0;
	if (errno == EOPNOTSUPP && io->op == ENV_PUNCH)
		return write_zeroes(io);
	if (errno == EOPNOTSUPP && io->file->blockdev)
		return 0; /* all of a device is there */
	return -errno;
}

static void io_run(struct env_work *w)
{
	struct env_io *io = container_of(w, struct priv, work)->io;

	switch (io->op) {
	case ENV_READ:
	case ENV_WRITE:
		io->result = transfer(io);
		break;
	case ENV_SYNC:
		io->result = fdatasync(io->file->fd) ? -errno : 0;
		break;
	case ENV_PUNCH:
	case ENV_ALLOC:
		io->result = change_space(io);
		break;
	default:
		io->result = -EINVAL;
	}
}

static void io_run_done(struct env_work *w)
{
	struct env_io *io = container_of(w, struct priv, work)->io;

	io->done(io);
}

static void to_worker(struct real *r, struct env_io *io)
{
	struct priv *p = priv_of(io);

	p->io = io;
	p->work.run = io_run;
	p->work.done = io_run_done;
	real_work(&r->env, &p->work);
}

/* ---- Linux AIO ---- */

static void on_aio_event(struct source *s, uint32_t events)
{
	(void)events; /* edge-triggered; what is there is reaped in this turn */
	aio_reap(container_of(s, struct real, aio.src));
}

void aio_setup(struct real *r)
{
	struct aio *a = &r->aio;
	unsigned depth;
	long e = 0;

	if (a->tried)
		return;
	a->tried = true;
	a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->src.fn = on_aio_event;
	if (a->fd >= 0 && !real_watch(r, a->fd, EPOLLIN | EPOLLET, &a->src)) {
		for (depth = AIO_DEPTH; depth >= 32; depth /= 2) {
			e = syscall(SYS_io_setup, depth, &a->ctx);
			if (!e) {
				a->depth = depth;
				return;
			}
		}
	}
	a->ctx = 0;
	log_warn(&r->env.log,
		 "asynchronous disk I/O is not to be had (%s): using threads, which is slower; %s",
		 strerror(errno),
		 errno == EAGAIN ? "raise sysctl fs.aio-max-nr"
				 : "see limits of open files and memory");
}

static void prepare(struct aio *a, struct env_io *io)
{
	struct iocb *c = &priv_of(io)->iocb;

	memset(c, 0, sizeof(*c));
	c->aio_data = (uint64_t)(uintptr_t)io;
	c->aio_fildes = (uint32_t)io->file->fd;
	c->aio_flags = IOCB_FLAG_RESFD;
	c->aio_resfd = (uint32_t)a->fd;
	if (io->op == ENV_SYNC) {
		c->aio_lio_opcode = IOCB_CMD_FDSYNC; /* since Linux 4.18 */
		return;
	}
	c->aio_lio_opcode = io->op == ENV_READ ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV;
	c->aio_buf = (uint64_t)(uintptr_t)io->iov;
	c->aio_nbytes = (uint64_t)io->niov;
	c->aio_offset = (int64_t)io->off;
	if (io->op == ENV_WRITE && (io->flags & ENV_IO_DSYNC))
		c->aio_rw_flags = RWF_DSYNC;
}

/* False: the kernel takes no more for now. */
static bool submit_batch(struct real *r)
{
	struct aio *a = &r->aio;
	struct iocb *v[AIO_BATCH];
	struct list *l;
	long n = 0, k, i;

	for (l = a->queue.next; l != &a->queue && n < AIO_BATCH && a->inflight + n < a->depth;
	     l = l->next) {
		struct env_io *io = list_entry(l, struct env_io, link);

		prepare(a, io);
		v[n++] = &priv_of(io)->iocb;
	}
	if (!n)
		return false;
	do {
		k = syscall(SYS_io_submit, a->ctx, n, v);
	} while (k < 0 && errno == EINTR);
	for (i = 0; i < k; i++)
		list_pop(&a->queue);
	if (k > 0) {
		a->inflight += (unsigned)k;
		return true;
	}
	if (errno == EAGAIN && a->inflight)
		return false;
	/* The first one is refused: the worker finds the true error, or another way. */
	to_worker(r, list_entry(list_pop(&a->queue), struct env_io, link));
	return true;
}

void aio_flush(struct real *r)
{
	while (!list_empty(&r->aio.queue) && submit_batch(r))
		;
}

static void completed(struct real *r, const struct io_event *ev)
{
	struct env_io *io = (struct env_io *)(uintptr_t)ev->data;

	r->aio.inflight--;
	io->result = ev->res;
	if (ev->res == -EOPNOTSUPP || ev->res == -EAGAIN ||
	    (io->op != ENV_SYNC && ev->res >= 0 && (uint64_t)ev->res < iov_len(io->iov, io->niov) &&
	     (io->op == ENV_WRITE || ev->res % 512 == 0))) {
		/* Short: done again as a whole, to learn whether it is the end of the file or what
		 * else. */
		to_worker(r, io);
		return;
	}
	io->done(io);
}

bool aio_pending(const struct real *r)
{
	const struct aio_ring *ring = (const struct aio_ring *)(uintptr_t)r->aio.ctx;

	return r->aio.inflight && ring->head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
}

bool aio_reap(struct real *r)
{
	struct aio *a = &r->aio;
	struct aio_ring *ring = (struct aio_ring *)(uintptr_t)a->ctx;
	struct io_event ev[AIO_BATCH];
	unsigned head, n = 0, i;

	if (!a->inflight)
		return false;
	if (ring->magic != RING_MAGIC || ring->incompat) {
		struct timespec zero = { 0, 0 };
		long k = syscall(SYS_io_getevents, a->ctx, 0, AIO_BATCH, ev, &zero);

		n = k > 0 ? (unsigned)k : 0;
	} else {
		/* Taken out before any callback runs: one may well get here again. */
		head = ring->head;
		while (n < AIO_TURN && head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE)) {
			ev[n++] = ring->events[head];
			head = (head + 1) % ring->nr;
		}
		__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	}
	for (i = 0; i < n; i++)
		completed(r, &ev[i]);
	return n > 0;
}

void aio_fini(struct real *r)
{
	if (r->aio.ctx)
		syscall(SYS_io_destroy, r->aio.ctx);
	if (r->aio.fd >= 0)
		close(r->aio.fd);
}

/* ---- the way in ---- */

static void cancelled(struct env_task *t)
{
	struct env_io *io = container_of(t, struct priv, task)->io;

	io->done(io);
}

void real_submit(struct env *e, struct env_io *io)
{
	struct real *r = real_of(e);
	struct priv *p = priv_of(io);

	if (r->draining) {
		memset(p, 0, sizeof(*p));
		io->result = -ECANCELED;
		p->io = io;
		env_task_init(&p->task, cancelled);
		env_defer(e, &p->task);
	} else if (r->aio.ctx && io->file->direct && io->op <= ENV_SYNC) {
		list_push(&r->aio.queue, &io->link);
	} else {
		to_worker(r, io);
	}
}
