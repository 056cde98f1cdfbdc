/* SPDX-License-Identifier: Apache-2.0 */
/* See rot.h. */
#include "sim/rot.h"

#include <stdlib.h>

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

/* One of those that are there without a gap, from the tail to a few before the last. */
static const struct found *choose(const struct logimg *l, struct sim *sim, bool last)
{
	const struct found *chain[DEPTH], *x = l->n ? &l->all[l->newest] : NULL;
	uint64_t tail = x ? x->tail : 0;
	unsigned n = 0;

	for (; x && x->lsn >= tail && n < DEPTH; x = before(l, x))
		chain[n++] = x;
	if (last)
		return n ? chain[0] : NULL;
	return n > UNPROVEN + 1 ? chain[UNPROVEN + sim_rand_below(sim, n - UNPROVEN - 1)] : NULL;
}

void rot_log(struct env *e, struct sim *sim, const char *path, const struct uuid *disk, bool last)
{
	const struct found *x;
	struct logimg l;

	if (load(e, path, &l)) {
		find(&l, disk);
		x = choose(&l, sim, last);
		if (x) {
			/* Headers are few blocks beside the data: half of the time. */
			uint32_t block = x->pos + (sim_rand_below(sim, 2) ? 0 : (uint32_t)sim_rand_below(sim, x->blocks));
			uint8_t *p = l.bytes + (size_t)block * HCI_BLOCK;

			p[sim_rand_below(sim, sim_rand_below(sim, 2) ? 200 : HCI_BLOCK)] ^= (uint8_t)(1u << sim_rand_below(sim, 8));
			(void)fiber_write(e, l.f, p, HCI_BLOCK, (uint64_t)block * HCI_BLOCK, ENV_IO_DSYNC);
		}
	}
	mem_free(l.all);
	mem_free_aligned(l.bytes);
	if (l.f)
		env_close(e, l.f);
}

void rot_super(struct env *e, struct sim *sim, const char *path)
{
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	struct env_file *f = NULL;
	unsigned which = 0;
	bool bad;

	if (pair && !env_open(e, path, ENV_O_DIRECT, &f) && fiber_read(e, f, pair, PAGE_PAIR, 0) == PAGE_PAIR &&
	    page_pick(pair, SUPER_MAGIC, SUPER_VERSION, NULL, &which, &bad) == PAGE_VALID && !bad) {
		uint8_t *p = pair + which * HCI_BLOCK;

		p[sim_rand_below(sim, HCI_BLOCK)] ^= (uint8_t)(1u << sim_rand_below(sim, 8));
		(void)fiber_write(e, f, p, HCI_BLOCK, which * HCI_BLOCK, ENV_IO_DSYNC);
	}
	mem_free_aligned(pair);
	if (f)
		env_close(e, f);
}
