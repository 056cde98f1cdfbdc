/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery, first half: slot records and region tables come from the disk's directory to memory.
 *
 * Of a slot's record with a damaged copy the other one counts. It has the same generation, as both get each (vol.c), or, if
 * power was lost between, the log has it. What else it says may be older: stable, which only makes settling look at more;
 * the last number, which the tables and the log know as well; up to where the log must be there.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/recover.h"

int rec_corrupt(struct rec *r, const char *path, const char *what)
{
	return err_set(r->err, HCI_E_CORRUPT,
		       "disk %s: %s: %s: take the disk out of its pool, its volumes are rebuilt "
		       "from the other replicas",
		       r->d->path, path, what);
}

int rec_page_error(struct rec *r, const char *path, enum page_state st)
{
	if (st == PAGE_VERSION)
		return err_set(r->err, HCI_E_VERSION,
			       "disk %s: %s is of a newer version: use the libhci that wrote it",
			       r->d->path, path);
	return rec_corrupt(r, path, "both copies of a page are damaged");
}

int rec_nomem(struct rec *r, const char *what)
{
	return err_set(r->err, HCI_E_NOMEM, "disk %s: out of memory%s", r->d->path, what);
}

/* ---- records and tables ---- */

/* Reads a small file whole: *len bytes, 0 when it is not there. */
static int read_whole(struct rec *r, const char *path, size_t cap, uint8_t **out, size_t *len)
{
	struct env *e = r->d->e;
	struct env_file *f;
	int64_t n;
	int rc = env_open(e, path, ENV_O_DIRECT, &f);

	*len = 0;
	*out = NULL;
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return disk_sys_error(r->d, rc, path, r->err);
	*out = mem_alloc_aligned(cap);
	n = *out ? fiber_read(e, f, *out, cap, 0) : -ENOMEM;
	env_close(e, f);
	if (n < 0)
		return disk_sys_error(r->d, (int)n, path, r->err);
	*len = (size_t)n;
	return 0;
}

static bool meta_valid(const struct rec *r, const struct meta_page *m, const struct uuid *u)
{
	return page_check(m, META_MAGIC, META_VERSION, &r->d->uuid) == PAGE_VALID && uuid_eq(&m->volume, u);
}

static void take_meta(struct vol *v, const struct rec *r, const uint8_t *pair, unsigned which)
{
	const struct meta_page *m = (const void *)(pair + which * HCI_BLOCK);

	for (unsigned k = 0; k < 2; k++) {
		const struct meta_page *c = (const void *)(pair + k * HCI_BLOCK);

		v->meta_gen[k] = meta_valid(r, c, &v->uuid) ? c->generation : 0;
	}
	v->gen = v->max_gen = MAX(v->meta_gen[0], v->meta_gen[1]);
	v->last = v->meta_last = m->last_seq;
	v->stable = m->stable_seq;
	v->meta_serial = m->h.serial;
	v->dir = true;
}

static int load_meta(struct rec *r, const struct uuid *u, const char *path, struct vol **out)
{
	uint8_t *b;
	size_t len;
	unsigned which = 0;
	bool damaged = false;
	enum page_state st = PAGE_EMPTY;
	int rc = read_whole(r, path, PAGE_PAIR, &b, &len);

	*out = NULL;
	/* Of a file that was being made when the process died, and power was lost later, only what was written to it since
	 * is sure to be there: the first page, perhaps. */
	if (!rc && len) {
		memset(b + len, 0, PAGE_PAIR - len);
		st = page_pick(b, META_MAGIC, META_VERSION, &r->d->uuid, &which, &damaged);
		if (st == PAGE_EMPTY && damaged && r->clean) /* nothing was being made */
			st = PAGE_BAD;
	}
	if (!rc && st != PAGE_VALID && st != PAGE_EMPTY)
		rc = rec_page_error(r, path, st);
	if (!rc && st == PAGE_VALID) {
		const struct meta_page *m = (const void *)(b + which * HCI_BLOCK);
		struct vol *v;

		if (!uuid_eq(&m->volume, u) || m->segsize < LOGF_SEGMENT_MIN ||
		    m->segsize > LOGF_SEGMENT_MAX || m->segsize % REPL_REGION ||
		    m->generation == 0) {
			rc = rec_corrupt(r, path, "the record makes no sense");
		} else if (!(v = *out = vol_new(r->d, u, m->segsize))) {
			rc = rec_nomem(r, "");
		} else {
			take_meta(v, r, b, which);
			v->meta_damaged = damaged;
			r->d->log.must_lsn = MAX(r->d->log.must_lsn, m->lsn);
		}
	}
	mem_free_aligned(b);
	return rc;
}

/* A record whose write the medium lost is whole, and of before: the tables know better which number was the last. */
static void take_last(struct vol *v, const struct mpage *p)
{
	for (uint32_t k = 0; k < MAP_REGIONS; k++)
		v->meta_last = MAX(v->meta_last, p->seq[k] & REPL_SEQ_MASK);
	v->last = MAX(v->last, v->meta_last);
}

static int load_map_page(struct rec *r, struct seg *s, const char *path, uint8_t *pair, uint32_t i)
{
	struct map_page *m;
	struct mpage *p;
	unsigned which = 0;
	bool damaged;
	enum page_state st = page_pick(pair, MAP_MAGIC, MAP_VERSION, &r->d->uuid, &which, &damaged);

	if (st == PAGE_EMPTY && !damaged)
		return 0;
	if (st == PAGE_VERSION)
		return rec_page_error(r, path, st);
	m = (void *)(pair + which * HCI_BLOCK);
	if (st == PAGE_VALID && (!uuid_eq(&m->volume, &s->vol->uuid) || m->segment != s->no ||
				 m->first_region != i * MAP_REGIONS || m->regions != MAP_REGIONS))
		st = PAGE_BAD;
	p = s->pages[i] = MEM_NEW(struct mpage);
	if (!p)
		return rec_nomem(r, "");
	p->lost = st == PAGE_BAD;
	p->damage = p->lost ? PAGE_ROTTEN : page_damage(pair, st, which, damaged);
	if (st != PAGE_VALID)
		return 0;
	page_unstamp(m);
	memcpy(p->seq, m->seq, sizeof(p->seq));
	memcpy(p->valid, m->valid, sizeof(p->valid));
	memcpy(p->side, m->side, sizeof(p->side));
	p->serial = m->h.serial;
	take_last(s->vol, p);
	return 0;
}

/* See rebuild.c. */
static int rebuild_damaged(struct rec *r, struct seg *s)
{
	int rc = 0;

	for (uint32_t i = 0; i < s->npages && !rc; i++) {
		if (s->pages[i] && s->pages[i]->damage == PAGE_ROTTEN)
			rc = rebuild_valid(s, i, s->pages[i]->lost);
	}
	return rc ? disk_sys_error(r->d, rc, "cannot read checksums", r->err) : 0;
}

static int load_seg(struct rec *r, struct vol *v, uint32_t no, bool has_data)
{
	struct seg *s = seg_get(v, no);
	char *path = s ? seg_path(s, ".map") : NULL;
	uint8_t *b = NULL;
	size_t len = 0;
	int rc;

	if (!path)
		return rec_nomem(r, "");
	rc = read_whole(r, path, s->npages * (size_t)PAGE_PAIR, &b, &len);
	s->on_disk = has_data && len == s->npages * (size_t)PAGE_PAIR;
	s->unsure = !r->clean;
	for (uint32_t i = 0; !rc && (i + 1) * (size_t)PAGE_PAIR <= len; i++)
		rc = load_map_page(r, s, path, b + i * (size_t)PAGE_PAIR, i);
	/* Half of its files: it was being dropped, and the log says so; else they are damaged. */
	for (uint32_t i = 0; !s->on_disk && i < s->npages; i++)
		s->broken |= s->pages[i] != NULL;
	if (!rc && s->on_disk)
		rc = rebuild_damaged(r, s);
	seg_real(s);
	mem_free_aligned(b);
	mem_free(path);
	return rc;
}

static bool seg_name(const char *name, const char *suffix, uint32_t *no)
{
	char again[16];

	if (strlen(name) != 12 || sscanf(name, "%8x", no) != 1)
		return false;
	snprintf(again, sizeof(again), "%08x%s", *no, suffix);
	return strcmp(again, name) == 0;
}

static bool listed(char **names, const char *suffix, uint32_t no)
{
	uint32_t x;

	for (; *names; names++) {
		if (seg_name(*names, suffix, &x) && x == no)
			return true;
	}
	return false;
}

static void free_names(char **names)
{
	for (unsigned i = 0; names && names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

static int load_segs(struct rec *r, struct vol *v)
{
	char *dir = vol_path(v, ""), **names = NULL;
	int rc = dir ? env_listdir(r->d->e, dir, &names) : -ENOMEM;
	uint32_t no;

	/* A process that died may have made them and not yet synced: what is seen here must last. */
	if (!rc && !r->clean)
		rc = env_sync_dir(r->d->e, dir);
	if (rc)
		rc = disk_sys_error(r->d, rc, "cannot list a slot's directory", r->err);
	for (unsigned i = 0; !rc && names[i]; i++) {
		if (seg_name(names[i], ".map", &no))
			rc = load_seg(r, v, no, listed(names, ".seg", no));
	}
	free_names(names);
	mem_free(dir);
	return rc;
}

static int load_vol(struct rec *r, const struct uuid *u)
{
	char text[HCI_UUID_STR], *path;
	struct vol *v;
	int rc;

	uuid_print(u, text);
	path = mem_printf("%s/vol/%s/meta", r->d->path, text);
	if (!path)
		return rec_nomem(r, "");
	rc = load_meta(r, u, path, &v);
	mem_free(path);
	/* Without a record the directory was being made: the log has all there is. */
	return rc || !v ? rc : load_segs(r, v);
}

int rec_load_vols(struct rec *r)
{
	char *dir = disk_path(r->d, "vol"), **names = NULL;
	int rc = dir ? env_listdir(r->d->e, dir, &names) : -ENOMEM;
	struct uuid u;

	if (!rc && !r->clean)
		rc = env_sync_dir(r->d->e, dir); /* see load_segs */
	if (rc)
		rc = disk_sys_error(r->d, rc, "cannot list its slots", r->err);
	for (unsigned i = 0; !rc && names[i]; i++) {
		if (uuid_parse(names[i], &u))
			rc = load_vol(r, &u);
	}
	free_names(names);
	mem_free(dir);
	return rc;
}
