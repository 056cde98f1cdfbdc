/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Region tables of which a copy is damaged, when the disk is opened. If a power loss tore the newest, or what was there before the
 * newest rotted, the other copy is right, but for what the log has. If the newest may have rotted, the other one says what was true
 * once. What helps is that checksums tell the same as the valid bits: a block is valid if it has a sum, whatever the older copy says
 * (but for what the log has).
 *
 * That takes checksums that are right. If the newest of their page may have rotted as well, both older copies may be of before the
 * block was written, zeroed, or moved to the other half of the file, and what is there may even fit the older sum. All that these
 * checksums cover counts as lost then: it is fetched from another replica, zeroes too.
 *
 * Who wrote a region last has no second witness. What the log has is told by the log. All else was moved by passes that are over,
 * each of which wrote the volume's record before: the last number that this told when the disk was opened is not smaller than any of
 * them. All regions of the page get that number: a resync copies too much then, never too little. If a copy of the record is damaged as
 * well, the other one may be of an earlier pass; then it is a number above all that were given out up to the generation that both
 * copies have.
 */
#include <errno.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/replica_impl.h"

static void from_sums(struct seg *s, struct mpage *p, uint32_t first, uint32_t page, const uint32_t *sums, uint64_t side)
{
	uint32_t end = MIN(first + MAP_REGIONS, seg_blocks(s) / REGION_BLOCKS);

	for (uint32_t k = 0; k < SUM_REGIONS; k++) {
		uint32_t region = page * SUM_REGIONS + k, i = region - first;

		if (region < first || region >= end)
			continue;
		p->valid[i] = 0;
		for (unsigned b = 0; b < REGION_BLOCKS; b++)
			p->valid[i] |= (uint16_t)((sums[k * REGION_BLOCKS + b] != SUM_NONE) << b);
		p->side[i / 8] = (uint8_t)((p->side[i / 8] & ~(1u << i % 8)) | (side >> k & 1u) << i % 8);
	}
}

/* Both witnesses are in doubt: nothing they say counts. */
static int all_lost(struct seg *s, struct mpage *p, uint32_t first, uint32_t page, uint64_t serial, bool both)
{
	uint32_t regions = seg_blocks(s) / REGION_BLOCKS;

	for (uint32_t k = 0; k < SUM_REGIONS; k++) {
		uint32_t region = page * SUM_REGIONS + k;

		if (region >= first && region < MIN(first + MAP_REGIONS, regions))
			p->valid[region - first] = UINT16_MAX;
	}
	log_warn(env_log(s->d->e),
		 "disk %s: of segment %u a page of the region table and its checksums are damaged: regions %u to %u are taken from other "
		 "replicas",
		 s->d->path, s->no, page * SUM_REGIONS, MIN((page + 1) * SUM_REGIONS, regions) - 1);
	return sums_lost(s, page, serial, both);
}

static int merge_page(struct seg *s, struct env_file *f, struct mpage *p, uint32_t first, uint32_t page, bool lost,
		      uint8_t *pair, uint32_t *sums)
{
	uint64_t serial, side;
	bool both, doubt;
	int64_t n = fiber_read(s->d->e, f, pair, PAGE_PAIR, sums_off(s, page));

	if (n < 0)
		return (int)n;
	memset(pair + n, 0, PAGE_PAIR - (size_t)n);
	doubt = sums_parse(s, page, pair, sums, &serial, &side, &both) == PAGE_ROTTEN;
	if (s->d->mutate & REPL_MUTATE_ROT_HIDES)
		doubt = both && lost;
	if (doubt)
		return all_lost(s, p, first, page, serial, both);
	from_sums(s, p, first, page, sums, side);
	return 0;
}

int rebuild_valid(struct seg *s, uint32_t i, bool lost)
{
	uint32_t first = i * MAP_REGIONS, end = MIN(first + MAP_REGIONS, seg_blocks(s) / REGION_BLOCKS), page;
	uint32_t *sums = mem_alloc(SUM_BLOCKS * sizeof(*sums));
	uint8_t *pair = mem_alloc_aligned(PAGE_PAIR);
	char *path = seg_path(s, ".map");
	struct env_file *f = NULL;
	int rc = sums && pair && path ? env_open(s->d->e, path, ENV_O_DIRECT, &f) : -ENOMEM;

	for (page = first / SUM_REGIONS; !rc && page * SUM_REGIONS < end; page++)
		rc = merge_page(s, f, s->pages[i], first, page, lost, pair, sums);
	if (f)
		env_close(s->d->e, f);
	mem_free(path);
	mem_free_aligned(pair);
	mem_free(sums);
	return rc;
}

/* The newest number that a region has; the record that tells it may be an older copy. */
static uint64_t newest(const struct vol *v)
{
	uint64_t seq = v->last;

	for (uint32_t n = 0; n < v->nsegs; n++) {
		const struct seg *s = v->segs[n];

		for (uint32_t r = 0; r < s->npages * MAP_REGIONS; r++)
			if (s->pages[r / MAP_REGIONS])
				seq = MAX(seq, s->pages[r / MAP_REGIONS]->seq[r % MAP_REGIONS] & REPL_SEQ_MASK);
	}
	return seq;
}

static uint64_t above_all(const struct vol *v)
{
	uint64_t after = newest(v) + (UINT64_C(1) << 32), end = repl_seq_floor(v->gen + 1);

	return MIN(MAX(after, end), REPL_SEQ_MASK);
}

static bool some_damaged(const struct vol *v)
{
	for (uint32_t n = 0; n < v->nsegs; n++)
		for (uint32_t i = 0; i < v->segs[n]->npages; i++)
			if (v->segs[n]->pages[i] && v->segs[n]->pages[i]->damage == PAGE_ROTTEN)
				return true;
	return false;
}

/* A number above the given one is of the log, and right. What is all zeroes may have been told by the older copy. */
static void overstate(struct seg *s, uint32_t i, uint64_t least)
{
	struct mpage *p = s->pages[i];
	uint32_t regions = MIN(MAP_REGIONS, seg_blocks(s) / REGION_BLOCKS - i * MAP_REGIONS);

	for (uint32_t k = 0; k < regions; k++) {
		bool zero = !p->valid[k] && !(p->nodes && p->nodes[k] && p->nodes[k]->live);
		uint64_t seq = p->seq[k] & ~REPL_SEQ_ZERO;

		if ((seq & REPL_SEQ_MASK) < least)
			seq = least;
		p->seq[k] = seq | (seq && zero ? REPL_SEQ_ZERO : 0);
	}
}

void rebuild_seqs(struct vol *v)
{
	uint64_t least = v->meta_last;

	if (v->meta_damaged) {
		log_warn(env_log(v->d->e), "disk %s: a copy of a volume's record is damaged: made anew from the other one", v->d->path);
		v->last = least = some_damaged(v) && !(v->d->mutate & REPL_MUTATE_NUMBERS_OLDER) ? above_all(v) : newest(v);
		v->meta_dirty = true;
		v->meta_damaged = false;
	}
	for (uint32_t n = 0; n < v->nsegs; n++) {
		struct seg *s = v->segs[n];

		for (uint32_t i = 0; i < s->npages; i++) {
			struct mpage *p = s->pages[i];

			if (!p || p->damage == PAGE_WHOLE)
				continue;
			if (p->damage == PAGE_ROTTEN) {
				log_warn(env_log(v->d->e),
					 "disk %s: a page of a region table of segment %u is damaged and was made anew from its "
					 "checksums",
					 v->d->path, s->no);
				if (p->lost || !p->dirty || !(v->d->mutate & REPL_MUTATE_NUMBERS_OLDER))
					overstate(s, i, least);
			}
			p->damage = PAGE_WHOLE;
			p->again = p->lost;
			index_page_dirty(s, p, 0);
		}
	}
}
