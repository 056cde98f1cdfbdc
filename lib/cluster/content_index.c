/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which block of an attached volume has which content, for the day when its VM moves: what is allocated is read once, slowly,
 * some time after the volume was attached, and fast when a migration begins before that is done; then the guest's writes are
 * followed. It forgets the oldest when full, and is never asked whether it is right: the destination is.
 */
#include "cluster/content.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "cluster/content_impl.h"
#include "env/fiber.h"

#define BEGIN_AFTER (10 * NS_PER_S) /* a VM that was just started has better things to do with its disk */
#define STEP (256u << 10)           /* bytes read at a time */
#define PACE (NS_PER_S / 128)       /* a step: 32 MiB/s */
#define AT_ONCE "HCI_MIGRATE_INDEX" /* "now": without a delay or pace, for measurements: docs/compute.md */
#define EXTENTS 64u
#define SPARE 4096u /* blocks, and an eighth of what is there: for what is written later */
#define ENTRY 16u   /* bytes that mst_index takes for a block */

struct content_index {
	struct content *c;
	struct vol *v; /* NULL: detached */
	struct uuid id;
	struct mst_index *x; /* NULL: not known yet how large it is to be */
	uint64_t memory;     /* taken from c->index_left */
	unsigned refs;
	bool stop, hurry, running;
	struct fiber_cond cond;
};

void content_index_ref(struct content_index *x)
{
	x->refs++;
}

void content_index_unref(struct content_index *x)
{
	if (--x->refs)
		return;
	x->c->index_left += x->memory;
	mst_index_free(x->x);
	mem_free(x);
}

static void note(struct content_index *x, uint64_t off, const void *data, uint64_t len)
{
	for (uint64_t i = 0; i + MST_PAGE <= len; i += MST_PAGE)
		mst_index_note(x->x, (off + i) / MST_PAGE, (const uint8_t *)data + i);
}

static void written(void *arg, uint64_t off, const void *data, uint64_t len)
{
	note(arg, off, data, len);
}

/* False: it is to end. */
static bool nap(struct content_index *x, uint64_t ns)
{
	uint64_t until = env_now(x->c->n->e) + ns;

	while (!x->stop && !x->hurry && fiber_cond_wait_until(x->c->n->e, &x->cond, until))
		;
	return !x->stop;
}

/* Calls fn for each run of data; its status if that is not 0, or that of the listing. */
static int each_run(struct content_index *x, int (*fn)(struct content_index *x, uint64_t off, uint64_t len, void *arg), void *arg)
{
	struct vol_extent *e = mem_calloc(EXTENTS, sizeof(*e));
	uint64_t off = 0, size = vol_size(x->v);
	struct hci_error err;
	int rc = e ? 0 : HCI_E_NOMEM;

	while (!rc && off < size) {
		int n = x->stop ? HCI_E_CLOSED : vol_extents(x->v, off, size - off, e, EXTENTS, &err);

		for (int i = 0; i < n && !rc; i++) {
			if (e[i].data)
				rc = fn(x, off, e[i].len, arg);
			off += e[i].len;
		}
		if (n <= 0)
			rc = n < 0 ? n : HCI_E_INTERNAL;
	}
	mem_free(e);
	return rc;
}

static int count_run(struct content_index *x, uint64_t off, uint64_t len, void *arg)
{
	(void)x;
	(void)off;
	*(uint64_t *)arg += len;
	return 0;
}

static int read_run(struct content_index *x, uint64_t off, uint64_t len, void *arg)
{
	int rc = 0;

	for (uint64_t end = off + len; off < end && !rc; off += STEP) {
		uint64_t n = MIN(end - off, (uint64_t)STEP);

		if (!nap(x, PACE))
			return HCI_E_CLOSED;
		rc = vol_rw(x->v, VOL_READ, arg, off, n);
		if (!rc)
			note(x, off, arg, n);
	}
	return rc;
}

static int size_it(struct content_index *x)
{
	struct content *c = x->c;
	uint64_t data = 0, blocks;
	int rc = each_run(x, count_run, &data);

	if (rc)
		return rc;
	blocks = data / MST_PAGE + data / MST_PAGE / 8 + SPARE;
	blocks = MIN(MIN(blocks, vol_size(x->v) / MST_PAGE), c->index_left / ENTRY);
	if (!blocks)
		return HCI_E_NOMEM;
	x->x = mst_index_new((const uint8_t *)&x->id, blocks);
	if (!x->x)
		return HCI_E_NOMEM;
	if (content_hash())
		mst_index_hash(x->x, content_hash());
	x->memory = blocks * ENTRY;
	c->index_left -= x->memory;
	vol_watch_writes(x->v, written, x);
	return 0;
}

static void scan_fiber(void *arg)
{
	struct content_index *x = arg;
	struct env *e = x->c->n->e;
	void *buf = mem_alloc_aligned(STEP);
	int rc = buf && nap(x, BEGIN_AFTER) ? size_it(x) : HCI_E_CLOSED;

	if (!rc)
		rc = each_run(x, read_run, buf);
	if (!rc)
		log_info(env_log(e), "volume %s: what its blocks contain is known for migrations", vol_record(x->v)->name);
	else if (rc != HCI_E_CLOSED)
		log_info(env_log(e), "volume %s: what its blocks contain is not known for migrations: %s", vol_record(x->v)->name,
			 hci_strerror(rc));
	mem_free_aligned(buf);
	x->running = false;
	fiber_cond_signal(e, &x->cond);
}

struct content_index *content_index_start(struct content *c, struct vol *v)
{
	struct content_index *x = c->index_left >= SPARE * ENTRY ? MEM_NEW(struct content_index) : NULL;
	const char *now;

	if (!x)
		return NULL;
	x->c = c;
	x->v = v;
	x->id = vol_record(v)->uuid;
	x->refs = 1;
	x->running = true;
	x->hurry = (now = secure_getenv(AT_ONCE)) && !strcmp(now, "now");
	fiber_cond_init(&x->cond);
	if (fiber_spawn(c->n->e, scan_fiber, x, "content-index")) {
		mem_free(x);
		return NULL;
	}
	return x;
}

void content_index_stop(struct content_index *x)
{
	if (!x)
		return;
	x->stop = true;
	fiber_cond_signal(x->c->n->e, &x->cond);
	while (x->running)
		fiber_cond_wait(x->c->n->e, &x->cond);
	vol_watch_writes(x->v, NULL, NULL);
	x->v = NULL;
	content_index_unref(x);
}

void content_index_hurry(struct content_index *x)
{
	x->hurry = true;
	fiber_cond_signal(x->c->n->e, &x->cond);
}

bool content_index_ready(const struct content_index *x)
{
	return x->x;
}

bool content_index_over(const struct content_index *x)
{
	return !x->running;
}

void content_index_provider(struct content_index *x, struct mst_provider *out)
{
	mst_index_source(x->x, out);
}
