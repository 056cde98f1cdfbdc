/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The volume as a backend of NBD exports: hands requests over, and asks for allocation from a
 * fiber, one at a time: there is one such fiber, and only while somebody asks.
 */
#include "export/nbd_volume.h"

#include "base/mem.h"
#include "env/fiber.h"

#define GRANULE (64u << 10) /* volumes give space back in these */

struct nbd_volume {
	struct env *env;
	struct vol *vol;
	struct list queries; /* nbd_query.link */
	bool asking;
};

static void io_done(struct vol_io *v)
{
	struct nbd_io *io = container_of((void *)v, struct nbd_io, priv);

	io->status = v->status;
	io->done(io);
}

static void submit(void *arg, struct nbd_io *io)
{
	static const enum vol_io_op ops[] = {
		[NBD_IO_READ] = VOL_READ,
		[NBD_IO_WRITE] = VOL_WRITE,
		[NBD_IO_ZERO] = VOL_ZERO,
		[NBD_IO_FLUSH] = VOL_FLUSH,
	};
	struct nbd_volume *b = arg;
	struct vol_io *v = (struct vol_io *)io->priv;

	_Static_assert(sizeof(*v) <= sizeof(io->priv), "room for the volume's request");
	v->op = ops[io->op];
	v->flags = io->flags & NBD_IO_NOHOLE ? VOL_F_NOHOLE : 0;
	v->vol = b->vol;
	v->buf = io->buf;
	v->off = io->off;
	v->len = io->len;
	v->done = io_done;
	v->status = 0;
	vol_submit(v);
}

static int ask(struct nbd_volume *b, struct nbd_query *q)
{
	struct vol_extent *x;
	int n;

	x = mem_calloc(q->max, sizeof(*x));
	if (!x)
		return HCI_E_NOMEM;
	n = vol_extents(b->vol, q->off, q->len, x, q->max, NULL);
	for (int i = 0; i < n; i++)
		q->out[i] = (struct nbd_extent){ x[i].len, x[i].data != 0 };
	mem_free(x);
	return n;
}

static void asker(void *arg)
{
	struct nbd_volume *b = arg;
	struct list *n;

	while ((n = list_pop(&b->queries))) {
		struct nbd_query *q = list_entry(n, struct nbd_query, link);
		bool last;

		q->result = ask(b, q);
		/* After the last answer b may be gone. */
		last = list_empty(&b->queries);
		if (last)
			b->asking = false;
		q->done(q);
		if (last)
			return;
	}
}

static void refused(struct env_task *t)
{
	struct nbd_query *q = container_of(t, struct nbd_query, task);

	q->result = HCI_E_NOMEM;
	q->done(q);
}

static void extents(void *arg, struct nbd_query *q)
{
	struct nbd_volume *b = arg;

	list_push(&b->queries, &q->link);
	if (b->asking)
		return;
	b->asking = true;
	if (fiber_spawn(b->env, asker, b, "nbd-extents")) {
		/* No stack to be had: say so from a turn of its own, as the contract is. */
		b->asking = false;
		list_del(&q->link);
		env_task_init(&q->task, refused);
		env_defer(b->env, &q->task);
	}
}

static const struct nbd_backend_ops volume_ops = { submit, extents };

struct nbd_volume *nbd_volume_new(struct env *e, struct vol *v, struct nbd_backend *out)
{
	struct nbd_volume *b = MEM_NEW(struct nbd_volume);

	if (!b)
		return NULL;
	b->env = e;
	b->vol = v;
	list_init(&b->queries);
	*out = (struct nbd_backend){
		.ops = &volume_ops,
		.arg = b,
		.size = vol_size(v),
		.trim_granularity = GRANULE,
		.fast_zero = true,
	};
	return b;
}

void nbd_volume_free(struct nbd_volume *b)
{
	mem_free(b);
}
