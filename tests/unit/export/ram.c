/* SPDX-License-Identifier: Apache-2.0 */
/* The RAM disk of ram.h. */
#include "unit/export/ram.h"

#include <stdlib.h>
#include <sys/mman.h>

static int work(struct ram *r, struct nbd_io *io)
{
	if (io->off % HCI_BLOCK || io->len % HCI_BLOCK || (uintptr_t)io->buf % HCI_BLOCK)
		return HCI_E_ALIGN;
	if (io->off > r->size || io->len > r->size - io->off)
		return HCI_E_RANGE;
	switch (io->op) {
	case NBD_IO_READ:
		r->reads++;
		memcpy(io->buf, r->mem + io->off, io->len);
		break;
	case NBD_IO_WRITE:
		r->writes++;
		memcpy(r->mem + io->off, io->buf, io->len);
		for (uint64_t i = io->off / RAM_RUN; i * RAM_RUN < io->off + io->len; i++)
			r->data[i] = true;
		break;
	case NBD_IO_ZERO:
		r->zeroes++;
		memset(r->mem + io->off, 0, io->len);
		for (uint64_t i = io->off / RAM_RUN; i * RAM_RUN < io->off + io->len; i++) {
			bool whole =
				i * RAM_RUN >= io->off && (i + 1) * RAM_RUN <= io->off + io->len;

			if (io->flags & NBD_IO_NOHOLE)
				r->data[i] = true;
			else if (whole)
				r->data[i] = false;
		}
		break;
	case NBD_IO_FLUSH:
		r->flushes++;
		break;
	}
	return 0;
}

static int find(struct ram *r, struct nbd_query *q)
{
	uint64_t at = q->off, end = q->off + q->len;
	uint32_t n = 0;

	while (at < end) {
		bool d = r->data[at / RAM_RUN];
		uint64_t to = MIN((at / RAM_RUN + 1) * RAM_RUN, end);

		if (n && q->out[n - 1].data == d) {
			q->out[n - 1].len += to - at;
		} else {
			if (n == q->max)
				break;
			q->out[n++] = (struct nbd_extent){ to - at, d };
		}
		at = to;
	}
	return (int)n;
}

static void complete(struct ram *r)
{
	struct list ios, queries, *n;

	list_init(&ios);
	list_init(&queries);
	list_splice(&ios, &r->ios);
	list_splice(&queries, &r->queries);
	while ((n = list_pop(&ios))) {
		struct nbd_io *io = list_entry(n, struct nbd_io, link);

		r->in_flight--;
		if (r->fail && r->fail_n) {
			r->fail_n--;
			io->status = r->fail;
		} else {
			io->status = work(r, io);
		}
		io->done(io);
	}
	while ((n = list_pop(&queries))) {
		struct nbd_query *q = list_entry(n, struct nbd_query, link);

		q->result = find(r, q);
		q->done(q);
	}
}

static void on_task(struct env_task *t)
{
	complete(container_of(t, struct ram, task));
}

static void on_timer(struct env_timer *t)
{
	complete(container_of(t, struct ram, timer));
}

static void kick(struct ram *r)
{
	if (r->stall)
		return;
	if (!r->delay_ns)
		env_defer(r->env, &r->task);
	else if (!env_timer_armed(&r->timer))
		env_timer_arm(r->env, &r->timer, env_now(r->env) + r->delay_ns);
}

void ram_go(struct ram *r)
{
	r->stall = false;
	kick(r);
}

static void submit(void *arg, struct nbd_io *io)
{
	struct ram *r = arg;

	r->in_flight++;
	r->max_in_flight = MAX(r->max_in_flight, r->in_flight);
	list_push(&r->ios, &io->link);
	kick(r);
}

static void extents(void *arg, struct nbd_query *q)
{
	struct ram *r = arg;

	list_push(&r->queries, &q->link);
	kick(r);
}

static const struct nbd_backend_ops ops = { submit, extents };

bool ram_init(struct ram *r, struct env *e, uint64_t size)
{
	memset(r, 0, sizeof(*r));
	r->env = e;
	r->size = size;
	list_init(&r->ios);
	list_init(&r->queries);
	env_task_init(&r->task, on_task);
	env_timer_init(&r->timer, on_timer);
	r->mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r->data = calloc(size / RAM_RUN + 1, sizeof(bool));
	return r->mem != MAP_FAILED && r->data;
}

void ram_fini(struct ram *r)
{
	env_undefer(r->env, &r->task);
	env_timer_disarm(r->env, &r->timer);
	munmap(r->mem, r->size);
	free(r->data);
}

void ram_backend(struct ram *r, struct nbd_backend *out)
{
	*out = (struct nbd_backend){ &ops, r, r->size, RAM_RUN, true };
}
