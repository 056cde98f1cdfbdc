/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: finding and making them in memory, and their two files. Files are opened when needed
 * and closed again, least recently used first. What is in the tables is index.c's, when they are
 * written writeback.c's.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

/* First segment that is not below no. */
static uint32_t lower(const struct vol *v, uint32_t no)
{
	uint32_t lo = 0, hi = v->nsegs;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (v->segs[mid]->no < no)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct seg *seg_find(const struct vol *v, uint32_t no)
{
	uint32_t i = lower(v, no);

	return i < v->nsegs && v->segs[i]->no == no ? v->segs[i] : NULL;
}

static uint32_t map_pages(uint64_t segsize)
{
	return (uint32_t)((segsize / REPL_REGION + MAP_REGIONS - 1) / MAP_REGIONS);
}

static uint32_t sum_pages(uint64_t segsize)
{
	return (uint32_t)((segsize / REPL_REGION + SUM_REGIONS - 1) / SUM_REGIONS);
}

/* Blocks that a segment's tables and its inodes take. */
uint32_t seg_files_blocks(uint64_t segsize)
{
	return (map_pages(segsize) + sum_pages(segsize)) * 2 + 2;
}

static struct seg *seg_new(struct vol *v, uint32_t no)
{
	struct seg *s = MEM_NEW(struct seg);

	if (!s)
		return NULL;
	s->d = v->d;
	s->vol = v;
	s->no = no;
	s->npages = map_pages(v->segsize);
	s->nsums = sum_pages(v->segsize);
	s->pages = mem_calloc(s->npages, sizeof(*s->pages));
	s->sums = mem_calloc(s->nsums, sizeof(*s->sums));
	s->sums_serial = mem_alloc(s->nsums * sizeof(*s->sums_serial));
	if (!s->pages || !s->sums || !s->sums_serial) {
		mem_free(s->pages);
		mem_free(s->sums);
		mem_free(s->sums_serial);
		mem_free(s);
		return NULL;
	}
	memset(s->sums_serial, 0xff, s->nsums * sizeof(*s->sums_serial)); /* SERIAL_UNKNOWN */
	list_init(&s->dirty_link);
	list_init(&s->touched_link);
	list_init(&s->lru);
	list_init(&s->waiting);
	list_init(&s->opening);
	list_init(&s->dying);
	list_init(&s->written);
	return s;
}

struct seg *seg_get(struct vol *v, uint32_t no)
{
	struct seg *s = seg_find(v, no);
	uint32_t i;

	if (s)
		return s;
	if (v->nsegs == v->cap) {
		uint32_t cap = MAX(v->cap * 2, 8u);
		struct seg **segs = mem_realloc(v->segs, cap * sizeof(struct seg *));

		if (!segs)
			return NULL;
		v->segs = segs;
		v->cap = cap;
	}
	s = seg_new(v, no);
	if (!s)
		return NULL;
	i = lower(v, no);
	memmove(v->segs + i + 1, v->segs + i, (v->nsegs - i) * sizeof(struct seg *));
	v->segs[i] = s;
	v->nsegs++;
	return s;
}

void seg_real(struct seg *s)
{
	if (s->real)
		return;
	s->real = true;
	s->d->nsegs++;
	if (!s->on_disk) {
		s->resv = seg_files_blocks(s->vol->segsize);
		s->d->resv += s->resv;
	}
}

void seg_dirty(struct seg *s)
{
	if (s->dirty || s->dead)
		return;
	s->dirty = true;
	list_push(&s->d->dirty_segs, &s->dirty_link);
}

void seg_unref(struct seg *s)
{
	if (--s->refs == 0 && s->dead)
		fiber_cond_signal(s->d->e, &s->d->readers_gone);
}

/* ---- files ---- */

char *seg_path(const struct seg *s, const char *suffix)
{
	char u[HCI_UUID_STR];

	uuid_print(&s->vol->uuid, u);
	return mem_printf("%s/vol/%s/%08x%s", s->d->path, u, s->no, suffix);
}

static int open_one(struct seg *s, const char *suffix, bool create, struct env_file **out)
{
	char *path = seg_path(s, suffix);
	int rc;

	if (!path)
		return -ENOMEM;
	rc = env_open(s->d->e, path, ENV_O_DIRECT | (create ? ENV_O_CREATE : 0), out);
	mem_free(path);
	return rc;
}

static void close_files(struct seg *s)
{
	struct env_file *data = s->data, *map = s->map;

	if (!list_empty(&s->lru)) {
		list_del(&s->lru);
		s->d->nopen--;
	}
	s->data = s->map = NULL;
	if (data)
		env_close(s->d->e, data);
	if (map)
		env_close(s->d->e, map);
}

void seg_close_some(struct repl_disk *d, uint32_t keep)
{
	struct seg *s, *oldest;

	while (d->nopen > keep) {
		oldest = NULL;
		list_for_each(s, &d->open_segs, lru) {
			if (s->refs == 0) {
				oldest = s;
				break;
			}
		}
		if (!oldest)
			return;
		close_files(oldest);
	}
}

/* The table's whole file is allocated at once, so that writing a page of it never lacks space. */
static int create_files(struct seg *s, struct env_file *data, struct env_file *map)
{
	struct env *e = s->d->e;
	char *dir = vol_path(s->vol, "");
	int rc = dir ? 0 : -ENOMEM;

	if (!rc)
		rc = env_truncate(e, data, 2 * s->vol->segsize);
	if (!rc)
		rc = fiber_falloc(e, map, 0, seg_map_bytes(s));
	if (!rc)
		rc = fiber_fsync(e, map);
	if (!rc)
		rc = fiber_fsync(e, data);
	if (!rc)
		rc = env_sync_dir(e, dir);
	mem_free(dir);
	if (rc)
		return rc;
	s->on_disk = true;
	memset(s->sums_serial, 0, s->nsums * sizeof(*s->sums_serial));
	s->d->fs_free -= MIN(s->d->fs_free, (uint64_t)s->resv * HCI_BLOCK);
	s->d->resv -= s->resv;
	s->resv = 0;
	return 0;
}

/*
 * Whoever was making the files may have died before the length of this one was durable, when the other one was there already. Where
 * nothing was written yet nobody reads but for damage: what a table counts as valid because nobody knows better must be found to
 * have no sum that fits, and not fail the disk as if it could not be read.
 */
static int full_length(struct seg *s, struct env_file *data)
{
	uint64_t size = 0;
	int rc = env_file_size(s->d->e, data, &size);

	if (rc || size >= 2 * s->vol->segsize)
		return rc;
	return env_truncate(s->d->e, data, 2 * s->vol->segsize);
}

static int open_locked(struct seg *s, bool create)
{
	struct repl_disk *d = s->d;
	struct env_file *data = NULL, *map = NULL;
	int rc;

	if (s->data)
		return 0;
	if (create && !s->on_disk && drop_blocks(s->vol, s->no))
		return -EAGAIN;
	seg_close_some(d, OPEN_SEGS_MAX - 1);
	rc = open_one(s, ".seg", create, &data);
	if (!rc)
		rc = open_one(s, ".map", create, &map);
	if (!rc && s->on_disk)
		rc = full_length(s, data);
	else if (!rc && create)
		rc = create_files(s, data, map);
	if (rc) {
		if (data)
			env_close(d->e, data);
		if (map)
			env_close(d->e, map);
		return rc;
	}
	s->data = data;
	s->map = map;
	list_push(&d->open_segs, &s->lru);
	d->nopen++;
	return 0;
}

int seg_open_files(struct seg *s, bool create)
{
	struct repl_disk *d = s->d;
	int rc;

	s->refs++;
	fiber_mutex_lock(d->e, &d->open_lock);
	rc = open_locked(s, create);
	fiber_mutex_unlock(d->e, &d->open_lock);
	seg_unref(s);
	return rc;
}

void seg_free(struct repl_disk *d, struct seg *s)
{
	close_files(s);
	list_del(&s->opening);
	if (s->dirty)
		list_del(&s->dirty_link);
	for (uint32_t i = 0; i < s->npages; i++) {
		if (s->pages[i])
			mem_free(s->pages[i]->nodes);
		mem_free(s->pages[i]);
	}
	d->resv -= s->resv;
	sums_free_seg(s);
	mem_free(s->pages);
	mem_free(s);
}

/* ---- opening for reads, which cannot park ---- */

void seg_want_file(struct seg *s, struct repl_op *op)
{
	struct repl_disk *d = s->d;

	s->refs++;
	op_priv(op)->seg = s;
	list_push(&s->waiting, &op->link);
	if (list_empty(&s->opening)) {
		list_push(&d->to_open, &s->opening);
		fiber_cond_signal(d->e, &d->opener);
	}
}

static void serve_waiting(struct seg *s)
{
	struct list ops, *l;

	list_init(&ops);
	list_splice(&ops, &s->waiting);
	while ((l = list_pop(&ops))) {
		struct repl_op *op = list_entry(l, struct repl_op, link);

		if (op->kind == REPL_WRITE) {
			direct_opened(op);
		} else {
			op_priv(op)->seg = NULL;
			read_go(op); /* which sees that the disk failed */
		}
		seg_unref(s);
	}
}

void seg_opener(void *disk)
{
	struct repl_disk *d = disk;

	while (!d->stop) {
		struct list *l = list_pop(&d->to_open);
		struct seg *s;
		bool made;
		int rc;

		if (!l) {
			fiber_cond_wait(d->e, &d->opener);
			continue;
		}
		s = list_entry(l, struct seg, opening);
		s->refs++;
		made = !s->on_disk;
		rc = d->failed ? -EIO : seg_open_files(s, made);
		/* Only a write waits for files that are still to be made: it takes the usual way then. */
		if (rc && !d->failed && !s->dead && !made)
			disk_fail(d, -rc, "cannot open a segment's file");
		serve_waiting(s);
		seg_unref(s);
	}
	d->fibers--;
	fiber_cond_signal(d->e, &d->fibers_end);
}
