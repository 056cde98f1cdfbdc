/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which block of a disk a page equals: sixteen bytes a block in groups of four. A block may lie in either of two groups, and goes
 * to the one with more room; if there is none, one that lies there moves to its other group. So nine tenths of the places
 * can be used before a block is forgotten, where with a single group every ninth would be lost by then (Pagh and Rodler, Cuckoo
 * Hashing, 2001). Then the oldest of the group gives way. An entry that is out of date does no harm: the destination finds that the block differs, and asks for the page.
 */
#include <errno.h>
#include <hci/error.h>
#include <pthread.h>
#include <unistd.h>

#include "base/mem.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/store.h"

#define WAYS 4u
#define SCAN_STEP (256u << 10)
#define TELL_STEP 65536u /* groups looked at in a call: 4 MiB, a millisecond */

struct entry {
	uint64_t quick; /* 0: free */
	uint64_t block;
};

struct mst_index {
	uint8_t id[16];
	const struct mst_hash *hash;
	pthread_mutex_t lock; /* over a few instructions at a time */
	uint64_t groups, used;
	struct entry *e;
	uint8_t *next;
};

struct mst_index *mst_index_new(const uint8_t id[16], uint64_t blocks)
{
	struct mst_index *x = MEM_NEW(struct mst_index);

	if (!x)
		return NULL;
	memcpy(x->id, id, sizeof(x->id));
	x->hash = &mst_hash_real;
	pthread_mutex_init(&x->lock, NULL);
	/* Some room to spare, as groups do not fill evenly. */
	x->groups = MAX(blocks / WAYS, (uint64_t)1);
	x->e = mem_calloc(x->groups * WAYS, sizeof(*x->e));
	x->next = mem_calloc(x->groups, 1);
	if (!x->e || !x->next) {
		mst_index_free(x);
		return NULL;
	}
	return x;
}

void mst_index_hash(struct mst_index *x, const struct mst_hash *hash)
{
	x->hash = hash;
}

void mst_index_free(struct mst_index *x)
{
	if (!x)
		return;
	pthread_mutex_destroy(&x->lock);
	mem_free(x->e);
	mem_free(x->next);
	mem_free(x);
}

/* The two groups in which it may be; now and then they are one. */
static void groups_of(const struct mst_index *x, uint64_t quick, uint64_t g[2])
{
	uint64_t other = (quick << 32 | quick >> 32) * 0x9e3779b97f4a7c15u;

	g[0] = (uint64_t)((unsigned __int128)quick * x->groups >> 64);
	g[1] = (uint64_t)((unsigned __int128)other * x->groups >> 64);
}

static struct entry *find(const struct mst_index *x, const uint64_t g[2], uint64_t quick)
{
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < WAYS; i++)
			if (x->e[g[k] * WAYS + i].quick == quick)
				return &x->e[g[k] * WAYS + i];
	return NULL;
}

/* How many of a group are free, and the first of them. */
static unsigned room(const struct mst_index *x, uint64_t g, struct entry **first)
{
	unsigned n = 0;

	for (unsigned i = WAYS; i-- > 0;) {
		if (x->e[g * WAYS + i].quick)
			continue;
		*first = &x->e[g * WAYS + i];
		n++;
	}
	return n;
}

static struct entry *place(struct mst_index *x, const uint64_t g[2])
{
	struct entry *a = NULL, *b = NULL;
	unsigned in_a = room(x, g[0], &a), in_b = room(x, g[1], &b);

	if (in_a || in_b)
		return in_a >= in_b ? a : b;
	for (unsigned i = 0; i < 2 * WAYS; i++) {
		struct entry *e = &x->e[g[i / WAYS] * WAYS + i % WAYS];
		uint64_t its[2];

		groups_of(x, e->quick, its);
		if (room(x, its[its[0] == g[i / WAYS]], &a)) {
			*a = *e;
			return e;
		}
	}
	a = &x->e[g[0] * WAYS + x->next[g[0]]];
	x->next[g[0]] = (uint8_t)((x->next[g[0]] + 1) % WAYS);
	x->used--;
	return a;
}

void mst_index_put(struct mst_index *x, uint64_t quick, uint64_t block)
{
	uint64_t g[2];
	struct entry *e;

	if (!quick)
		return;
	groups_of(x, quick, g);
	pthread_mutex_lock(&x->lock);
	e = find(x, g, quick);
	if (!e) {
		e = place(x, g);
		x->used++;
	}
	*e = (struct entry){ quick, block };
	pthread_mutex_unlock(&x->lock);
}

void mst_index_note(struct mst_index *x, uint64_t block, const void *page)
{
	if (!mst_is_zero(page))
		mst_index_put(x, x->hash->quick(page), block);
}

bool mst_index_find(struct mst_index *x, uint64_t quick, uint64_t *block)
{
	const struct entry *e;
	uint64_t g[2];

	if (!quick)
		return false;
	groups_of(x, quick, g);
	pthread_mutex_lock(&x->lock);
	e = find(x, g, quick);
	*block = e ? e->block : 0;
	pthread_mutex_unlock(&x->lock);
	return e;
}

uint64_t mst_index_used(struct mst_index *x)
{
	uint64_t n;

	pthread_mutex_lock(&x->lock);
	n = x->used;
	pthread_mutex_unlock(&x->lock);
	return n;
}

int mst_index_tell(struct mst_index *x, uint32_t *at, uint32_t *out, unsigned max, mst_live *live, void *ctx)
{
	uint64_t g = *at, stop = MIN(g + TELL_STEP, MIN(x->groups, (uint64_t)UINT32_MAX));
	unsigned n = 0;

	pthread_mutex_lock(&x->lock);
	for (; g < stop && n + WAYS <= max; g++) {
		for (unsigned i = 0; i < WAYS; i++) {
			const struct entry *e = &x->e[g * WAYS + i];

			if (e->quick && live(ctx, e->block))
				out[n++] = (uint32_t)(e->quick >> 32);
		}
	}
	pthread_mutex_unlock(&x->lock);
	*at = g < x->groups && g < UINT32_MAX ? (uint32_t)g : 0;
	return n || !*at ? (int)n : HCI_E_AGAIN;
}

void mst_index_keep(struct mst_index *x, mst_live *live, void *ctx)
{
	for (uint64_t g = 0; g < x->groups; g++) {
		pthread_mutex_lock(&x->lock);
		for (unsigned i = 0; i < WAYS; i++) {
			struct entry *e = &x->e[g * WAYS + i];

			if (!e->quick || live(ctx, e->block))
				continue;
			e->quick = 0;
			x->used--;
		}
		pthread_mutex_unlock(&x->lock);
	}
}

void mst_index_copy(struct mst_index *x, struct mst_index *to, mst_live *live, void *ctx)
{
	for (uint64_t i = 0; i < x->groups * WAYS; i++)
		if (x->e[i].quick && live(ctx, x->e[i].block))
			mst_index_put(to, x->e[i].quick, x->e[i].block);
}

static int lookup(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	struct mst_index *x = ctx;
	(void)batch;
	return mst_index_find(x, quick, token) ? MST_HAS : MST_HAS_NOT;
}

void mst_index_source(struct mst_index *x, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = x, .lookup = lookup, .kind = MST_KIND_VOLUME };
	memcpy(out->id, x->id, sizeof(x->id));
}

int64_t mst_index_scan(struct mst_index *x, int fd, uint64_t offset, uint64_t n)
{
	uint8_t *buf = mem_alloc_aligned(SCAN_STEP);
	uint64_t done = 0;
	int64_t rc = 0;

	if (!buf)
		return HCI_E_NOMEM;
	while (done < n) {
		off_t data = lseek(fd, (off_t)(offset + done), SEEK_DATA);
		ssize_t got;

		if (data < 0 && errno == ENXIO) /* nothing but holes from here on */
			break;
		if (data > 0)
			done = (uint64_t)data / MST_PAGE * MST_PAGE - offset;
		if (done >= n)
			break;
		got = pread(fd, buf, MIN((uint64_t)SCAN_STEP, n - done), (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)MST_PAGE) {
			rc = got < 0 ? HCI_E_IO : 0;
			break;
		}
		for (ssize_t i = 0; i + (ssize_t)MST_PAGE <= got; i += MST_PAGE)
			mst_index_note(x, (offset + done + (uint64_t)i) / MST_PAGE, buf + i);
		done += (uint64_t)got / MST_PAGE * MST_PAGE;
	}
	mem_free_aligned(buf);
	return rc ? rc : (int64_t)MIN(done, n);
}

struct file {
	int fd;
};

static int file_read(void *ctx, uint64_t token, void *page)
{
	const struct file *f = ctx;
	ssize_t got;

	if (token > INT64_MAX / MST_PAGE)
		return HCI_E_RANGE;
	do
		got = pread(f->fd, page, MST_PAGE, (off_t)(token * MST_PAGE));
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)MST_PAGE ? 0 : HCI_E_IO;
}

void *mst_file_provider(const uint8_t id[16], int fd, struct mst_provider *out)
{
	struct file *f = MEM_NEW(struct file);

	if (!f)
		return NULL;
	f->fd = fd;
	*out = (struct mst_provider){ .ctx = f, .read = file_read };
	memcpy(out->id, id, sizeof(out->id));
	return f;
}
