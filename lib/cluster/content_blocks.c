/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of a volume as this node's own disks have them, for a migration that comes here: the copies of its segments, in the
 * set or not, as old as they may be. The codec's threads ask for single blocks and wait; the loop reads them in chunks, as pages
 * that a guest has read from its disk mostly come in runs, and keeps the latest chunks.
 */
#include "cluster/content.h"

#include <pthread.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/fiber.h"
#include "store/records.h"

#define CHUNK (64u << 10)
#define SLOTS 256u /* chunks in memory */
#define READERS 8u /* disks of this node with copies of it */
#define FIBERS 8u  /* chunks that are read at a time */
#define PATIENCE 5 /* seconds that a thread waits for a disk: the page is sent instead */
#define NOWHERE 0xffu

_Static_assert(CHUNK % MST_PAGE == 0, "pages do not straddle chunks");

enum state { EMPTY, READING, READY, FAILED };

struct slot {
	uint64_t chunk;
	uint64_t used; /* larger is later */
	enum state state;
	unsigned pins; /* threads that look at it */
	uint8_t *data; /* CHUNK bytes, from its first use on */
};

struct content_blocks {
	struct node *n;
	struct uuid volume;
	uint64_t segment_size, size;
	struct vol_reader *readers[READERS];
	unsigned nreaders;
	uint8_t *where; /* by segment: which reader, NOWHERE */
	uint32_t nsegs;
	struct env_task task;
	unsigned fibers;
	struct fiber_cond idle;
	/* Guards all that follows: the codec's threads and the loop. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct slot slots[SLOTS];
	uint16_t queue[SLOTS]; /* slots to be read */
	unsigned qhead, qlen;
	uint64_t clock;
	bool posted, quit;
};

/* ---- the codec's threads ---- */

/* With the lock. NULL: all are in use. */
static struct slot *slot_for(struct content_blocks *b, uint64_t chunk)
{
	struct slot *old = NULL;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &b->slots[i];

		if (s->state != EMPTY && s->chunk == chunk)
			return s;
		if (s->state != READING && !s->pins && (!old || s->used < old->used))
			old = s;
	}
	if (!old)
		return NULL;
	old->chunk = chunk;
	old->state = READING;
	b->queue[(b->qhead + b->qlen++) % SLOTS] = (uint16_t)(old - b->slots);
	if (!b->posted) {
		b->posted = true;
		env_post(b->n->e, &b->task);
	}
	return old;
}

static bool is_here(const struct content_blocks *b, uint64_t token)
{
	return token < b->size / MST_PAGE && b->where[token * MST_PAGE / b->segment_size] != NOWHERE;
}

/* So that the chunks are read at the same time. Not so many that they drive each other out. */
static void blocks_soon(void *ctx, const uint64_t *tokens, unsigned n)
{
	struct content_blocks *b = ctx;

	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < n && i < SLOTS / 2 && !b->quit; i++) {
		struct slot *s = is_here(b, tokens[i]) ? slot_for(b, tokens[i] * MST_PAGE / CHUNK) : NULL;

		if (s)
			s->used = ++b->clock;
	}
	pthread_mutex_unlock(&b->lock);
}

static int blocks_read(void *ctx, uint64_t token, void *page)
{
	struct content_blocks *b = ctx;
	struct timespec until;
	struct slot *s;
	int rc = 0;

	if (!is_here(b, token))
		return HCI_E_NOTFOUND;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE;
	pthread_mutex_lock(&b->lock);
	s = b->quit ? NULL : slot_for(b, token * MST_PAGE / CHUNK);
	if (!s) {
		pthread_mutex_unlock(&b->lock);
		return HCI_E_BUSY;
	}
	s->pins++;
	s->used = ++b->clock;
	while (s->state == READING && !b->quit && !rc)
		rc = pthread_cond_timedwait(&b->changed, &b->lock, &until);
	rc = s->state == READY ? 0 : s->state == FAILED ? HCI_E_IO : b->quit ? HCI_E_CLOSED : HCI_E_TIMEOUT;
	if (!rc)
		memcpy(page, s->data + token * MST_PAGE % CHUNK, MST_PAGE);
	s->pins--;
	pthread_mutex_unlock(&b->lock);
	return rc;
}

/* ---- the loop ---- */

/* The next slot that is to be read, or NULL. */
static struct slot *next(struct content_blocks *b)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&b->lock);
	if (b->qlen && !b->quit) {
		s = &b->slots[b->queue[b->qhead]];
		b->qhead = (b->qhead + 1) % SLOTS;
		b->qlen--;
	}
	pthread_mutex_unlock(&b->lock);
	return s;
}

static void read_fiber(void *arg)
{
	struct content_blocks *b = arg;
	struct slot *s;

	while ((s = next(b))) {
		uint64_t off = s->chunk * CHUNK;
		struct hci_error err;
		int rc = HCI_E_NOMEM;

		if (!s->data)
			s->data = mem_alloc_aligned(CHUNK);
		if (s->data)
			rc = vol_reader_read(b->readers[b->where[off / b->segment_size]], (uint32_t)(off / b->segment_size),
					     off % b->segment_size, s->data, CHUNK, &err);
		pthread_mutex_lock(&b->lock);
		s->state = rc ? FAILED : READY;
		pthread_cond_broadcast(&b->changed);
		pthread_mutex_unlock(&b->lock);
	}
	b->fibers--;
	fiber_cond_signal(b->n->e, &b->idle);
}

static void asked(struct env_task *t)
{
	struct content_blocks *b = container_of(t, struct content_blocks, task);
	unsigned want;

	pthread_mutex_lock(&b->lock);
	b->posted = false;
	want = b->quit ? 0 : b->qlen;
	pthread_mutex_unlock(&b->lock);
	while (want-- && b->fibers < FIBERS) {
		b->fibers++;
		if (fiber_spawn(b->n->e, read_fiber, b, "content")) {
			b->fibers--;
			break;
		}
	}
	/* Without a fiber nobody would ever answer. */
	if (!b->fibers)
		content_blocks_quit(b);
}

/* ---- opening ---- */

static int find_copies(struct content_blocks *b, struct hci_error *err)
{
	struct uuid disks[READERS];
	struct node_disk *d;
	unsigned n = 0;
	int rc = 0;

	list_for_each(d, &b->n->disks, link) {
		uint32_t *segs;
		size_t cnt;

		if (!d->disk || n == READERS || repl_segments(d->disk, &b->volume, &segs, &cnt))
			continue;
		for (size_t i = 0; i < cnt; i++)
			if (segs[i] < b->nsegs)
				b->where[segs[i]] = (uint8_t)n;
		if (cnt)
			disks[n++] = d->uuid;
		mem_free(segs);
	}
	/* This parks: the list may change. */
	for (unsigned i = 0; i < n && !rc; i++) {
		rc = vol_reader_open(core_vol_ctx(b->n->core), &b->volume, &disks[i], &b->readers[i], err);
		b->nreaders += !rc;
	}
	return rc;
}

int content_blocks_open(struct node *n, const struct uuid *volume, struct content_blocks **out, struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct content_blocks *b = MEM_NEW(struct content_blocks);
	pthread_condattr_t attr;
	char key[REC_KEY];
	int rc = v && b ? 0 : err_set(err, HCI_E_NOMEM, "volume: out of memory");

	*out = NULL;
	key_volume(key, volume);
	if (!rc)
		rc = rec_volume_get(core_store(n->core), key, v, NULL, err);
	if (rc) {
		mem_free(v);
		mem_free(b);
		return rc;
	}
	b->n = n;
	b->volume = *volume;
	b->segment_size = v->segment_size;
	b->size = v->size / CHUNK * CHUNK; /* a chunk that is cut short at the end is left out */
	b->nsegs = (uint32_t)((v->size + v->segment_size - 1) / v->segment_size);
	mem_free(v);
	env_task_init(&b->task, asked);
	fiber_cond_init(&b->idle);
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->changed, &attr);
	pthread_condattr_destroy(&attr);
	b->where = mem_alloc(b->nsegs);
	if (!b->where) {
		rc = err_set(err, HCI_E_NOMEM, "volume: out of memory");
	} else {
		memset(b->where, NOWHERE, b->nsegs);
		rc = find_copies(b, err);
	}
	if (rc || !b->nreaders)
		content_blocks_close(b);
	else
		*out = b;
	return rc;
}

void content_blocks_provider(struct content_blocks *b, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = b, .read = blocks_read, .soon = blocks_soon };
	memcpy(out->id, &b->volume, sizeof(out->id));
}

void content_blocks_quit(struct content_blocks *b)
{
	pthread_mutex_lock(&b->lock);
	b->quit = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

void content_blocks_close(struct content_blocks *b)
{
	bool posted;

	content_blocks_quit(b);
	for (;;) {
		pthread_mutex_lock(&b->lock);
		posted = b->posted;
		pthread_mutex_unlock(&b->lock);
		if (!posted && !b->fibers)
			break;
		if (posted)
			fiber_sleep(b->n->e, NS_PER_MS); /* the task is on its way */
		else
			fiber_cond_wait(b->n->e, &b->idle);
	}
	for (unsigned i = 0; i < b->nreaders; i++)
		vol_reader_close(b->readers[i]);
	for (unsigned i = 0; i < SLOTS; i++)
		mem_free_aligned(b->slots[i].data);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	mem_free(b->where);
	mem_free(b);
}
