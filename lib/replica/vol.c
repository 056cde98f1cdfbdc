/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of a disk: finding, making, their record on disk. Openings and the fence are in slot.c.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

static struct list *bucket(struct repl_disk *d, const struct uuid *u)
{
	return &d->vols[(u->b[0] ^ u->b[15]) % VOL_BUCKETS];
}

struct vol *vol_find(struct repl_disk *d, const struct uuid *u)
{
	struct vol *v;

	list_for_each(v, bucket(d, u), link) {
		if (uuid_eq(&v->uuid, u))
			return v;
	}
	return NULL;
}

struct vol *vol_new(struct repl_disk *d, const struct uuid *u, uint64_t segsize)
{
	struct vol *v = MEM_NEW(struct vol);

	if (!v)
		return NULL;
	v->d = d;
	v->uuid = *u;
	v->segsize = segsize;
	list_init(&v->pending);
	list_init(&v->dying);
	list_push(bucket(d, u), &v->link);
	return v;
}

void vol_free(struct vol *v)
{
	list_del(&v->link);
	mem_free(v->segs);
	mem_free(v);
}

void vol_put(struct vol *v)
{
	if (--v->refs == 0 && (v->gone || (!vol_real(v) && v->nsegs == 0)))
		vol_free(v);
}

char *vol_path(const struct vol *v, const char *name)
{
	char u[HCI_UUID_STR];

	uuid_print(&v->uuid, u);
	return mem_printf("%s/vol/%s%s%s", v->d->path, u, *name ? "/" : "", name);
}

static int make_dir(struct vol *v)
{
	char *path = vol_path(v, ""), *top = disk_path(v->d, "vol");
	int rc = path && top ? env_mkdir(v->d->e, path) : -ENOMEM;

	if (!rc)
		rc = env_sync_dir(v->d->e, top);
	mem_free(path);
	mem_free(top);
	return rc;
}

static int write_page(struct vol *v, const struct meta_page *m)
{
	struct env *e = v->d->e;
	char *path = vol_path(v, "meta"), *dir = vol_path(v, "");
	struct env_file *f = NULL;
	int64_t n;
	int rc = path && dir ? env_open(e, path, ENV_O_CREATE | ENV_O_DIRECT, &f) : -ENOMEM;

	if (!rc && !v->dir)
		rc = fiber_falloc(e, f, 0, PAGE_PAIR);
	if (!rc) {
		n = fiber_write(e, f, m, HCI_BLOCK, (m->h.serial & 1) * HCI_BLOCK, ENV_IO_DSYNC);
		rc = n < 0 ? (int)n : 0;
	}
	if (!rc && !v->dir)
		rc = fiber_fsync(e, f);
	if (f)
		env_close(e, f);
	if (!rc && !v->dir)
		rc = env_sync_dir(e, dir);
	mem_free(path);
	mem_free(dir);
	return rc;
}

static int write_copy(struct vol *v)
{
	struct meta_page *m = mem_alloc_aligned(HCI_BLOCK);
	uint64_t gen = v->gen;
	int rc;

	if (!m)
		return -ENOMEM;
	memset(m, 0, HCI_BLOCK);
	m->volume = v->uuid;
	m->generation = v->gen;
	m->segsize = v->segsize;
	m->last_seq = v->last;
	m->stable_seq = v->stable;
	m->lsn = v->d->log.applied + 1;
	v->meta_dirty = false; /* what changes from here on is for the next time */
	page_seal(m, META_MAGIC, META_VERSION, v->meta_serial + 1, &v->d->uuid);
	rc = write_page(v, m);
	mem_free_aligned(m);
	if (rc) {
		v->meta_dirty = true;
		return rc;
	}
	v->meta_serial++;
	v->meta_gen[v->meta_serial & 1] = gen;
	v->dir = true;
	return 0;
}

/* Both copies get a generation: if one rots the other one must not let an older writer in. */
int vol_write_meta(struct vol *v)
{
	uint64_t gen = v->gen;
	int rc = 0;

	if (!v->dir)
		rc = drop_blocks(v, LOGF_ALL) ? -EAGAIN : make_dir(v);
	if (!rc)
		rc = write_copy(v);
	if (!rc && v->meta_gen[!(v->meta_serial & 1)] < gen && !(v->d->mutate & REPL_MUTATE_RECORD_ONCE))
		rc = write_copy(v);
	return rc;
}
