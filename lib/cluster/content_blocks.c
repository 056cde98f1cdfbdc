/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of a volume as this node has them, for a migration that comes here: the copies of its segments on its disks, in the
 * set or not, and what its read cache kept of other segments, all as old as they may be. The source is told which there are. The codec's threads ask for single blocks and wait; the loop reads them in chunks, as pages
 * that a guest has read from its disk mostly come in runs, and keeps the latest chunks.
 */
#include "cluster/content.h"

#include <pthread.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "cache/cache.h"
#include "env/fiber.h"
#include "store/records.h"

#define CHUNK (64u << 10)
#define SLOTS 256u /* chunks in memory */
#define READERS 8u /* disks of this node with copies of it */
#define FIBERS 8u  /* chunks that are read at a time */
#define PATIENCE 5 /* seconds that a thread waits for a disk: the page is sent instead */
#define NOWHERE 0xffu
#define CACHED_MAX (1u << 20) /* blocks of the cache that are told of: 16 GiB as a rule, 8 MiB here */

#define CHUNK_PAGES (CHUNK / MST_PAGE)
#define ALL_PAGES ((uint16_t)~0u)

_Static_assert(CHUNK % MST_PAGE == 0 && CHUNK_PAGES == 16, "pages do not straddle chunks, and have a bit each");
_Static_assert(CHUNK % CACHE_BLOCK_MAX == 0, "nor do blocks of the cache");

enum state { EMPTY, READING, READY, FAILED };

struct slot {
	uint64_t chunk;
	uint64_t used; /* larger is later */
	enum state state;
	unsigned pins; /* threads that look at it */
	uint16_t have; /* its pages that are there, when it is READY */
	uint8_t *data; /* CHUNK bytes, from its first use on */
};

/* Pages that are here. */
struct run {
	uint32_t first, n;
};

struct content_blocks {
	struct node *n;
	struct uuid volume;
	uint64_t segment_size, size;
	struct vol_reader *readers[READERS];
	unsigned nreaders;
	uint8_t *where; /* by segment: which reader, NOWHERE */
	uint32_t nsegs;
	struct cache *cache; /* NULL: nothing is kept there, or the node has none */
	struct run *runs;    /* ascending, as they were at the beginning */
	uint32_t nruns, cap_runs;
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
	uint32_t lo = 0;

	for (uint32_t hi = b->nruns; lo < hi;) { /* the first run that begins behind it */
		uint32_t mid = lo + (hi - lo) / 2;

		if (b->runs[mid].first > token)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo && token - b->runs[lo - 1].first < b->runs[lo - 1].n;
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

/* What a wait for a page of it has come to. */
static int outcome(const struct content_blocks *b, const struct slot *s, uint64_t token)
{
	switch (s->state) {
	case READY:
		return s->have >> token % CHUNK_PAGES & 1 ? 0 : HCI_E_NOTFOUND;
	case FAILED:
		return HCI_E_IO;
	default:
		return b->quit ? HCI_E_CLOSED : HCI_E_TIMEOUT;
	}
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
	rc = outcome(b, s, token);
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

/* What the read cache has of a chunk. */
static uint16_t from_cache(struct content_blocks *b, uint64_t off, uint8_t *data)
{
	uint32_t size = b->cache ? cache_block(b->cache) : CHUNK;
	uint16_t have = 0;

	for (uint32_t at = 0; b->cache && at < CHUNK; at += size)
		if (!cache_peek(b->cache, &b->volume, (off + at) / size, data + at))
			have |= (uint16_t)(((1u << size / MST_PAGE) - 1) << at / MST_PAGE);
	return have;
}

/* The pages of it that are there now. */
static uint16_t read_chunk(struct content_blocks *b, uint64_t off, uint8_t *data)
{
	uint32_t seg = (uint32_t)(off / b->segment_size);
	struct hci_error err;

	if (b->where[seg] != NOWHERE && !vol_reader_read(b->readers[b->where[seg]], seg, off % b->segment_size, data, CHUNK, &err))
		return ALL_PAGES;
	return from_cache(b, off, data);
}

static void read_fiber(void *arg)
{
	struct content_blocks *b = arg;
	struct slot *s;

	while ((s = next(b))) {
		uint16_t have = 0;

		if (!s->data)
			s->data = mem_alloc_aligned(CHUNK);
		if (s->data)
			have = read_chunk(b, s->chunk * CHUNK, s->data);
		pthread_mutex_lock(&b->lock);
		s->have = have;
		s->state = have ? READY : FAILED;
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
	for (unsigned i = 0; i < want && b->fibers < FIBERS; i++) {
		b->fibers++;
		if (fiber_spawn(b->n->e, read_fiber, b, "content")) {
			b->fibers--;
			break;
		}
	}
	/* Without a fiber nobody would ever answer. (Unless one that has ended took all on its way.) */
	if (want && !b->fibers)
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

static int add_run(struct content_blocks *b, uint64_t first, uint64_t n)
{
	struct run *last = b->nruns ? &b->runs[b->nruns - 1] : NULL;

	if (first + n > UINT32_MAX) /* 16 TiB: what is behind is not told */
		return 0;
	if (last && last->first + last->n == first) {
		last->n += (uint32_t)n;
		return 0;
	}
	if (b->nruns == CONTENT_RUNS_MAX) /* nor more than a source keeps */
		return 0;
	if (b->nruns == b->cap_runs) {
		uint32_t cap = b->cap_runs ? b->cap_runs * 2 : 16;
		struct run *more = mem_realloc(b->runs, cap * sizeof(*more));

		if (!more)
			return HCI_E_NOMEM;
		b->runs = more;
		b->cap_runs = cap;
	}
	b->runs[b->nruns++] = (struct run){ (uint32_t)first, (uint32_t)n };
	return 0;
}

/* What is here: segments as a whole, and of others what the cache has. */
static int list_runs(struct content_blocks *b, struct hci_error *err)
{
	uint64_t *cached = NULL, pages = b->size / MST_PAGE, per_seg = b->segment_size / MST_PAGE;
	uint64_t per_block = b->cache ? cache_block(b->cache) / MST_PAGE : 1;
	size_t n = 0, i = 0;
	int rc = b->cache ? cache_list(b->cache, &b->volume, CACHED_MAX, &cached, &n) : 0;

	for (uint64_t seg = 0; !rc && seg < b->nsegs; seg++) {
		uint64_t from = seg * per_seg, to = MIN(from + per_seg, pages);

		if (b->where[seg] != NOWHERE && from < to)
			rc = add_run(b, from, to - from);
		for (; !rc && i < n && cached[i] * per_block < to; i++)
			if (b->where[seg] == NOWHERE && (cached[i] + 1) * per_block <= to)
				rc = add_run(b, cached[i] * per_block, per_block);
	}
	mem_free(cached);
	return rc ? err_set(err, rc, "volume: out of memory") : 0;
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
		b->cache = core_vol_ctx(n->core)->cache;
		rc = find_copies(b, err);
		if (!rc)
			rc = list_runs(b, err);
	}
	if (rc || !b->nruns)
		content_blocks_close(b);
	else
		*out = b;
	return rc;
}

/* Runs: what they are does not change any more. */
static int blocks_tell(void *ctx, uint32_t *at, uint32_t *out, unsigned max)
{
	const struct content_blocks *b = ctx;
	uint32_t first = MIN(*at, b->nruns), n = MIN(b->nruns - first, max / 2);

	for (uint32_t i = 0; i < n; i++) {
		out[(size_t)i * 2] = b->runs[first + i].first;
		out[(size_t)i * 2 + 1] = b->runs[first + i].n;
	}
	*at = first + n < b->nruns ? first + n : 0;
	return (int)(n * 2);
}

void content_blocks_provider(struct content_blocks *b, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = b, .kind = MST_KIND_VOLUME, .read = blocks_read, .soon = blocks_soon, .tell = blocks_tell };
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
	mem_free(b->runs);
	mem_free(b);
}
