/* SPDX-License-Identifier: Apache-2.0 */
/* See rot.h. */
#include "sim/rot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "env/fiber.h"
#include "replica/log_format.h"
#include "replica/on_disk.h"

#define RING 2u      /* blocks before it in the file */
#define UNPROVEN 4u  /* batches in flight at a time */
#define DEPTH 64u

struct found {
	uint64_t lsn, epoch, tail;
	uint32_t pos, blocks, crc, prev_crc;
};

struct logimg {
	struct env_file *f;
	uint8_t *bytes;
	uint64_t size;
	struct found *all;
	unsigned n, newest;
};

static bool load(struct env *e, const char *path, struct logimg *l)
{
	memset(l, 0, sizeof(*l));
	if (env_open(e, path, ENV_O_DIRECT, &l->f))
		return false;
	if (env_file_size(e, l->f, &l->size) || l->size < 8 * HCI_BLOCK)
		return false;
	l->bytes = mem_alloc_aligned(l->size);
	return l->bytes && fiber_read(e, l->f, l->bytes, l->size, 0) == (int64_t)l->size;
}

static void find(struct logimg *l, const struct uuid *disk)
{
	uint32_t blocks = (uint32_t)(l->size / HCI_BLOCK);

	l->all = mem_calloc(blocks, sizeof(*l->all));
	for (uint32_t b = RING; l->all && b < blocks; b++) {
		struct logf_view v, prev;

		if (logf_parse(l->bytes + (size_t)b * HCI_BLOCK, (size_t)(blocks - b) * HCI_BLOCK, disk, &v))
			continue;
		l->all[l->n] = (struct found){ v.hdr->lsn, v.hdr->epoch, v.hdr->tail_lsn, b, v.blocks, v.hdr->crc,
					       logf_prev(&v, &prev) ? prev.hdr->crc : 0 };
		if (l->all[l->n].epoch > l->all[l->newest].epoch ||
		    (l->all[l->n].epoch == l->all[l->newest].epoch && l->all[l->n].lsn > l->all[l->newest].lsn))
			l->newest = l->n;
		l->n++;
	}
}

static const struct found *before(const struct logimg *l, const struct found *x)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->all[i].lsn + 1 == x->lsn && l->all[i].crc == x->prev_crc)
			return &l->all[i];
	return NULL;
}

/*
 * One of those that are there without a gap, from the tail to a few before the last. Behind a gap (what rotted at an opening before
 * and was not moved since) not the very next: it is the only one left that tells what the damaged one wrote.
 */
static const struct found *choose(const struct logimg *l, struct sim *sim, enum rot_where where, const struct found **next)
{
	const struct found *chain[DEPTH], *x = l->n ? &l->all[l->newest] : NULL;
	uint64_t tail = x ? x->tail : 0;
	unsigned n = 0;

	for (; x && x->lsn >= tail && n < DEPTH; x = before(l, x))
		chain[n++] = x;
	*next = NULL;
	if (where == ROT_TWO && n > UNPROVEN + 2) {
		unsigned k = UNPROVEN + 1 + (unsigned)sim_rand_below(sim, n - UNPROVEN - 2);

		*next = chain[k - 1];
		return chain[k];
	}
	if (where != ROT_ONE)
		return n ? chain[0] : NULL;
	if (n && !x && chain[n - 1]->lsn > tail)
		n--;
	return n > UNPROVEN + 1 ? chain[UNPROVEN + sim_rand_below(sim, n - UNPROVEN - 1)] : NULL;
}

static void flip(struct env *e, struct logimg *l, uint32_t block, uint64_t at, unsigned bit)
{
	uint8_t *p = l->bytes + (size_t)block * HCI_BLOCK;

	p[at] ^= (uint8_t)(1u << bit);
	(void)fiber_write(e, l->f, p, HCI_BLOCK, (uint64_t)block * HCI_BLOCK, ENV_IO_DSYNC);
}

/* Where it surely does harm. */
static void flip_head(struct env *e, struct sim *sim, struct logimg *l, const struct found *x)
{
	flip(e, l, x->pos, 8 + sim_rand_below(sim, 80), 0);
}

/* Headers are few blocks beside the data: half of the time. */
static void flip_any(struct env *e, struct sim *sim, struct logimg *l, const struct found *x)
{
	uint32_t block = x->pos + (sim_rand_below(sim, 2) ? 0 : (uint32_t)sim_rand_below(sim, x->blocks));
	uint64_t at = sim_rand_below(sim, sim_rand_below(sim, 2) ? 200 : HCI_BLOCK);

	flip(e, l, block, at, (unsigned)sim_rand_below(sim, 8));
}

void rot_log(struct env *e, struct sim *sim, const char *path, const struct uuid *disk, enum rot_where where)
{
	const struct found *x, *next = NULL;
	struct logimg l;

	if (load(e, path, &l)) {
		find(&l, disk);
		x = choose(&l, sim, where, &next);
		if (x && where == ROT_ONE)
			flip_any(e, sim, &l, x);
		else if (x)
			flip_head(e, sim, &l, x);
		if (next)
			flip_head(e, sim, &l, next);
	}
	mem_free(l.all);
	mem_free_aligned(l.bytes);
	if (l.f)
		env_close(e, l.f);
}

static bool whole(struct env *e, const char *path, uint64_t off, uint64_t magic, uint16_t version)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	struct env_file *f = NULL;
	unsigned which = 0;
	bool bad = true;

	if (pair && !env_open(e, path, ENV_O_DIRECT, &f) && fiber_read(e, f, pair, PAGE_PAIR, off) == PAGE_PAIR)
		(void)page_pick(pair, magic, version, NULL, &which, &bad);
	mem_free_aligned(pair);
	if (f)
		env_close(e, f);
	return !bad;
}

/* One copy, of a pair of which both are whole: mostly the newer one. */
static void rot_pair(struct env *e, struct sim *sim, const char *path, uint64_t off, uint64_t magic, uint16_t version)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	struct env_file *f = NULL;
	unsigned which = 0;
	bool bad;

	if (pair && !env_open(e, path, ENV_O_DIRECT, &f) && fiber_read(e, f, pair, PAGE_PAIR, off) == PAGE_PAIR &&
	    page_pick(pair, magic, version, NULL, &which, &bad) == PAGE_VALID && !bad) {
		uint8_t *p;

		which ^= sim_rand_below(sim, 4) == 0;
		p = pair + which * HCI_BLOCK;
		p[sim_rand_below(sim, HCI_BLOCK)] ^= (uint8_t)(1u << sim_rand_below(sim, 8));
		(void)fiber_write(e, f, p, HCI_BLOCK, off + which * HCI_BLOCK, ENV_IO_DSYNC);
	}
	mem_free_aligned(pair);
	if (f)
		env_close(e, f);
}

void rot_super(struct env *e, struct sim *sim, const char *path)
{
	rot_pair(e, sim, path, 0, SUPER_MAGIC, SUPER_VERSION);
}

void rot_checkpoint(struct env *e, struct sim *sim, const char *log)
{
	rot_pair(e, sim, log, 0, CKPT_MAGIC, CKPT_VERSION);
}

/* Segments here have one page of each: 16 regions. */
static void rot_map(struct env *e, struct sim *sim, const char *path, bool lied)
{
	uint64_t which = sim_rand_below(sim, 3);

	if (!whole(e, path, 0, MAP_MAGIC, MAP_VERSION) || !whole(e, path, PAGE_PAIR, SUM_MAGIC, SUM_VERSION))
		return;
	if (which != 0 || lied)
		rot_pair(e, sim, path, 0, MAP_MAGIC, MAP_VERSION);
	if (which != 1 && !lied)
		rot_pair(e, sim, path, PAGE_PAIR, SUM_MAGIC, SUM_VERSION);
}

static void free_names(char **names)
{
	for (unsigned k = 0; names && names[k]; k++)
		mem_free(names[k]);
	mem_free(names);
}

void rot_slot(struct env *e, struct sim *sim, const char *disk, bool lied)
{
	char vol[256], path[600], **vols = NULL, **files = NULL;
	unsigned n = 0, m = 0;

	snprintf(vol, sizeof(vol), "%s/vol", disk);
	if (env_listdir(e, vol, &vols))
		return;
	while (vols[n])
		n++;
	snprintf(path, sizeof(path), "%s/%s", vol, n ? vols[sim_rand_below(sim, n)] : "");
	if (n && !env_listdir(e, path, &files)) {
		char file[sizeof(path) + 64];

		while (files[m])
			m++;
		for (unsigned k = 0; k < m; k++) {
			bool map = strstr(files[k], ".map"), meta = !strcmp(files[k], "meta");

			snprintf(file, sizeof(file), "%s/%s", path, files[k]);
			if (meta && sim_rand_below(sim, 2))
				rot_pair(e, sim, file, 0, META_MAGIC, META_VERSION);
			else if (map && sim_rand_below(sim, 3) == 0)
				rot_map(e, sim, file, lied);
		}
	}
	free_names(files);
	free_names(vols);
}
